//! `guests`: builds every transform of the project into its component.

use xtask::Result;

use crate::args::Args;
use crate::check::{self, Uses};
use crate::project::{Project, succeed};
use crate::say;

/// Builds `tollgate`, then all transforms with it.
///
/// # Errors
/// Fails if a program is missing (exit code 3) or a build fails (1).
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    check::check(project, Uses::Build, args.has("--install"))?;
    check::foretell(project, "build the transforms, about a minute the first time");
    project.build_tollgate()?;
    build_all(project)
}

/// Builds all transforms, one after the other, because they share a target folder. `tollgate` must have been built.
///
/// # Errors
/// Fails at the first transform that does not build.
pub(crate) fn build_all(project: &Project) -> Result<()> {
    for transform in project.transforms() {
        let name = project.relative(&transform).into_owned();
        say::line(&format!("-- tollgate build {name}"));
        succeed(&format!("tollgate build {name}"), &mut project.tollgate(&["build", &name]))?;
    }
    Ok(())
}
