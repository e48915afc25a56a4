//! `tollgate build`: builds a component from a folder with a crate and a transform.yaml.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::Success;
use tollgate_config::error::{Exit, Failure};
use tollgate_guests::build::BuildError;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of transforms, each with a Cargo.toml and a transform.yaml.
    #[arg(required = true, value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// File to write the component to. Default: FOLDER/NAME.wasm.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Keep function names, so that the stack trace of a trap shows them.
    #[arg(long)]
    pub names: bool,
}

/// # Errors
/// Fails with exit code 2 for transform.yaml or the package, 3 if the toolchain or the disk fails, 1 if the code does
/// not compile or is not a transform.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let folders = tollgate_guests::folders(&args.folders);
    if args.out.is_some() && folders.len() != 1 {
        return Err(Failure::configuration(
            "build.out",
            "--out names one file, but there are several transforms; name one folder",
        ));
    }
    let (mut text, mut results) = (String::new(), Vec::new());
    for folder in &folders {
        let built = tollgate_guests::build(folder, args.out.as_deref(), args.names).map_err(|error| failure(&error))?;
        let state = if built.changed { "" } else { ", unchanged" };
        let _ = writeln!(text, "{}  {} bytes{state}", built.file.display(), built.bytes);
        let commit = built.manifest.commit.as_deref().unwrap_or("no commit");
        let _ = writeln!(text, "  {} {} ({commit})", built.manifest.name, built.manifest.version);
        let _ = writeln!(text, "  sha256 {}", built.digest);
        let _ = writeln!(text, "  types  {}", built.types);
        results.push(json!({
            "name": built.manifest.name, "version": built.manifest.version, "commit": built.manifest.commit,
            "file": built.file, "bytes": built.bytes, "digest": built.digest.to_string(), "types": built.types, "changed": built.changed,
        }));
    }
    let summary = format!("{} built", count(results.len(), "component"));
    Ok(Success::new(summary, json!({ "components": results }), text))
}

/// Converts a build error into the failure of a verb.
pub(super) fn failure(error: &BuildError) -> Failure {
    let code = match error {
        BuildError::Spec(_) => "build.spec",
        BuildError::Protos(_) | BuildError::Message { .. } => "build.protos",
        BuildError::Toolchain(_) => "build.toolchain",
        BuildError::Component { .. } => "build.component",
        BuildError::Write { .. } | BuildError::Read { .. } => "build.file",
    };
    of(error.exit(), code, error)
}

/// Returns a failure with the given exit code.
pub(super) fn of(exit: Exit, code: &'static str, error: &impl std::fmt::Display) -> Failure {
    Failure { exit, code, message: error.to_string(), result: serde_json::Value::Null, text: String::new() }
}

/// Formats a count, such as `1 case` or `2 cases`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
