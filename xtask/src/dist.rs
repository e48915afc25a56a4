//! `dist`: builds the program as it is published. CI does not do this, because the profile compiles every dependency
//! again.

use std::fs;

use xtask::Result;
use xtask::failure::Context as _;

use crate::args::Args;
use crate::project::{Project, succeed};
use crate::say;

/// Builds the profile `dist` and shows the path and the size of the program.
///
/// # Errors
/// Fails if the program does not compile.
pub(crate) fn run(project: &Project, _: &Args) -> Result<()> {
    let build =
        ["build", "--profile", "dist", "--workspace", "--features", "tollgate/vendored-openssl", "--bin", "tollgate"];
    succeed("the build of tollgate", &mut project.cargo(&build))?;
    let program = project.dist_program();
    let bytes = fs::metadata(&program).context(|| format!("{} cannot be read", program.display()))?.len();
    say::line(&format!("{}  {:.1} MB", program.display(), megabytes(bytes)));
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a size to be read by a person")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
