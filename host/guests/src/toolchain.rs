//! Runs cargo, rustc and git for the build of a transform.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The target of guests, which has no operating system.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// The size of a guest's own stack in bytes. It lies in linear memory, which is wiped after each batch, so Rust's
/// default of 1 MiB would cost time; no check or enrichment needs nearly as much as this.
const STACK: usize = 64 << 10;

/// The error of a tool.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    #[error("cannot run `{program}`: {source}; {advice}")]
    Start { program: String, source: io::Error, advice: &'static str },
    #[error(
        "the standard library for {TARGET} is not installed: run `rustup target add {TARGET}`; or, on Debian without \
         rustup, `apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src rust-web-llvm \
         libstd-rust-web-dev`, and the package lld-NN that /usr/bin/rust-lld points into"
    )]
    NoStd,
    #[error("{0}")]
    Package(String),
    #[error("cargo could not compile {package}: see its messages above")]
    Compile { package: String },
}

/// The package in a transform's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    workspace: PathBuf,
    target: PathBuf,
}

/// Reads the package in `folder`.
///
/// # Errors
/// Fails if cargo is missing, or if the folder has no package that can become a transform.
pub fn package(folder: &Path) -> Result<Package, ToolchainError> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest
        .canonicalize()
        .map_err(|error| ToolchainError::Package(format!("{} cannot be read: {error}", manifest.display())))?;
    let output = run(cargo(folder).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    if !output.status.success() {
        return Err(ToolchainError::Package(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| ToolchainError::Package(format!("cannot read the output of cargo metadata: {error}")))?;
    let path = |key: &str| PathBuf::from(metadata[key].as_str().unwrap_or_default());
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let package = packages.iter().find(|package| package["manifest_path"].as_str().map(Path::new) == Some(&manifest));
    let Some(package) = package else {
        return Err(ToolchainError::Package(format!("{} is a workspace, not a package", manifest.display())));
    };
    let kinds = package["targets"].as_array().into_iter().flatten().flat_map(|target| target["kind"].as_array());
    if !kinds.flatten().any(|kind| kind == "cdylib") {
        let message = format!(
            "{} does not build a module: add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`",
            manifest.display()
        );
        return Err(ToolchainError::Package(message));
    }
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    Ok(Package {
        name: text("name"),
        version: text("version"),
        workspace: path("workspace_root"),
        target: path("target_directory"),
    })
}

/// Compiles the package and returns the path of its module. Cargo's own messages go to stderr as they come.
///
/// # Errors
/// Fails if the standard library for the target is missing, or if the code does not compile.
pub fn compile(folder: &Path, package: &Package) -> Result<PathBuf, ToolchainError> {
    let mut command = if has_std(folder)? { cargo(folder) } else { debian(folder)? };
    command.args(["rustc", "--release", "--lib", "--crate-type", "cdylib", "--target", TARGET]);
    command.args(["--package", &package.name, "--message-format", "json-render-diagnostics"]);
    // These settings make a small module, so that authors need not know them. The optimization level stays the
    // author's.
    for setting in ["lto=\"fat\"", "codegen-units=1", "panic=\"abort\"", "debug=0", "strip=\"none\""] {
        command.args(["--config", &format!("profile.release.{setting}")]);
    }
    command.args(["--config", &format!("target.{TARGET}.rustflags={}", rustflags(package))]);
    // These variables would override the flags above, and CI sets them for other purposes.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = run(command.stderr(Stdio::inherit()))?;
    let failed = || ToolchainError::Compile { package: package.name.clone() };
    if !output.status.success() {
        return Err(failed());
    }
    let messages = output.stdout.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    messages.filter_map(|message: Value| module_of(&message, package)).next_back().ok_or_else(failed)
}

fn module_of(message: &Value, package: &Package) -> Option<PathBuf> {
    let ours = message["reason"] == "compiler-artifact"
        && message["target"]["name"].as_str().map(|name| name.replace('-', "_"))
            == Some(package.name.replace('-', "_"));
    let files = message["filenames"].as_array().filter(|_| ours)?;
    files.iter().filter_map(Value::as_str).map(PathBuf::from).find(|file| file.extension().is_some_and(|e| e == "wasm"))
}

/// Returns the flags as a TOML array. Panic messages contain file names; the machine's own paths are removed from them.
fn rustflags(package: &Package) -> String {
    let mut flags = vec![format!("-Clink-arg=-zstack-size={STACK}")];
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let top = top_of(&package.workspace).unwrap_or_else(|| package.workspace.clone());
    for (from, to) in [(Some(top), "."), (Some(package.target.clone()), "target"), (home, "cargo")] {
        if let Some(from) = from {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
    }
    // A JSON string is a TOML string.
    Value::from(flags).to_string()
}

fn has_std(folder: &Path) -> Result<bool, ToolchainError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    let output = run(command.current_dir(folder).args(["--print", "target-libdir", "--target", TARGET]))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
    Ok(entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("libstd-")))
}

/// Returns Debian's own cargo and rustc, which include the standard library's source and can build it for any target.
fn debian(folder: &Path) -> Result<Command, ToolchainError> {
    let (cargo, rustc) = (Path::new("/usr/bin/cargo"), Path::new("/usr/bin/rustc"));
    if !cargo.exists() || !rustc.exists() {
        return Err(ToolchainError::NoStd);
    }
    let output = run(Command::new(rustc).args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    const LINKER: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER";
    // Its location has changed between releases of the package; in later ones it is a link into the package lld-NN.
    let places = [
        std::env::var_os(LINKER).map(PathBuf::from).unwrap_or_default(),
        sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld"),
        PathBuf::from("/usr/bin/rust-lld"),
    ];
    let linker = places.into_iter().find(|linker| linker.exists());
    let source = sysroot.join("lib/rustlib/src/rust/library/std");
    let Some(linker) = linker.filter(|_| source.exists()) else {
        return Err(ToolchainError::NoStd);
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut first = OsString::from("/usr/bin:");
    first.push(path);
    let mut command = Command::new(cargo);
    command.current_dir(folder).stdin(Stdio::null());
    command.env("PATH", first).env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    command.env(LINKER, linker);
    command.args(["-Z", "build-std=std,panic_abort"]);
    Ok(command)
}

/// Returns the current commit of `folder`, with `-dirty` if something in the folder or in `also` differs from it;
/// `None` without git or outside a repository. Components are ignored, because they are the build's output.
pub fn commit(folder: &Path, also: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(folder).args(arguments).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "HEAD"])?;
    let changed = |folder: &Path| git(&["status", "--porcelain", "--", folder.to_str()?, ":!*.wasm"]);
    let also = also.canonicalize().ok();
    let dirty =
        [Some(Path::new(".")), also.as_deref()].into_iter().flatten().filter_map(changed).any(|c| !c.is_empty());
    Some(if dirty { format!("{head}-dirty") } else { head })
}

fn top_of(folder: &Path) -> Option<PathBuf> {
    let output = Command::new("git").current_dir(folder).args(["rev-parse", "--show-toplevel"]).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Returns the dependency chain from `folder`'s package to the first of `suspects`, as `direct → … → suspect`.
pub fn culprit(folder: &Path, suspects: &[&str]) -> Option<String> {
    suspects.iter().find_map(|suspect| {
        let mut command = cargo(folder);
        command.args([
            "tree", "--quiet", "--target", TARGET, "--edges", "normal", "--prefix", "none", "--invert", suspect,
        ]);
        let output = command.output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut chain: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().next()).take(6).collect();
        chain.reverse();
        (!chain.is_empty()).then(|| chain.join(" → "))
    })
}

fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<std::process::Output, ToolchainError> {
    // `output` would capture stderr when the caller wants it inherited, so the pipes are set manually.
    let spawned = command.stdout(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output);
    spawned.map_err(|source| ToolchainError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
        advice: "install Rust from https://rustup.rs",
    })
}
