//! Compiles a transform's `.proto` files in its build script; no `protoc` is needed.
//!
//! ```no_run
//! fn main() -> Result<(), tollgate_build::Error> {
//!     tollgate_build::protos("../../proto")
//! }
//! ```
//!
//! `tollgate::include_protos!()` then brings the modules in: package `payments.v1` is `payments::v1`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Why the `.proto` files could not be made into code. `Debug` shows the same text, since a build script that
/// returns an error prints that.
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Compiles every `.proto` below `root`, which is also where their imports are looked up.
///
/// # Errors
/// Where the folder cannot be read or holds none, a file does not compile, or `OUT_DIR` cannot be written.
#[allow(clippy::print_stdout, reason = "how a build script talks to cargo")]
pub fn protos(root: impl AsRef<Path>) -> Result<(), Error> {
    let root = root.as_ref();
    let mut files = Vec::new();
    find(root, &mut files).map_err(|error| Error(format!("cannot read {}: {error}", root.display())))?;
    if files.is_empty() {
        return Err(Error(format!("no .proto file below {}", root.display())));
    }
    // The order of directory entries is the file system's; the generated code must not be.
    files.sort();
    println!("cargo::rerun-if-changed={}", root.display());

    let descriptors = protox::compile(&files, [root]).map_err(|error| Error(format!("{error:?}")))?;
    let out = env::var_os("OUT_DIR").ok_or_else(|| Error("OUT_DIR is not set: call this from build.rs".into()))?;
    let mut config = prost_build::Config::new();
    config.out_dir(out).include_file("protos.rs").prost_path("::tollgate::prost");
    config.compile_fds(descriptors).map_err(|error| Error(format!("cannot generate code: {error}")))
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
