//! Compiles a transform's `.proto` files in its build script; no `protoc` is needed.
//!
//! ```no_run
//! fn main() -> Result<(), tollgate_build::Error> {
//!     tollgate_build::protos("../../proto")
//! }
//! ```
//!
//! `tollgate::include_protos!()` then includes the modules: package `payments.v1` is `payments::v1`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost_build::Config;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// The reason why no code could be generated from the `.proto` files. `Debug` shows the same text, because it is what a
/// build script that returns an error prints.
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

/// Compiles every `.proto` file below `root`, where imports are looked up too. Google's types are those of
/// `tollgate::prost_types`. `buf/validate/validate.proto` and Tollgate's envelopes need not be there, and no code is
/// generated for them: the host checks the rules, and removes the envelope.
///
/// # Errors
/// Fails if the folder cannot be read or has no `.proto` files, a file does not compile, or `OUT_DIR` cannot be
/// written.
#[allow(clippy::print_stdout, reason = "how a build script talks to cargo")]
pub fn protos(root: impl AsRef<Path>) -> Result<(), Error> {
    let out = env::var_os("OUT_DIR").ok_or_else(|| Error("OUT_DIR is not set: call this from build.rs".into()))?;
    println!("cargo::rerun-if-changed={}", root.as_ref().display());
    generate(root.as_ref(), Path::new(&out))
}

fn generate(root: &Path, out: &Path) -> Result<(), Error> {
    let mut files = Vec::new();
    find(root, &mut files).map_err(|error| Error(format!("cannot read {}: {error}", root.display())))?;
    if files.is_empty() {
        return Err(Error(format!("no .proto files in {}", root.display())));
    }
    // The order of directory entries depends on the file system; the order of the generated code must not.
    files.sort();

    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(root.to_path_buf()));
    resolver.add(GoogleFileResolver::new());
    resolver.add(Shipped);
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files).map_err(|error| Error(format!("{error:?}")))?;
    let mut descriptors = compiler.file_descriptor_set();
    // A module of Tollgate's package would also shadow the SDK's own name.
    descriptors.file.retain(|file| !Shipped::FILES.iter().any(|(name, _)| *name == file.name()));

    let mut config = Config::new();
    config.out_dir(out).include_file("protos.rs").prost_path("::tollgate::prost");
    config.compile_well_known_types().extern_path(".google.protobuf", "::tollgate::prost_types");
    config.compile_fds(descriptors).map_err(|error| Error(format!("cannot generate code: {error}")))
}

/// The definitions of buf.validate's rules and of the envelopes, for contracts that import them without having the
/// files.
struct Shipped;

impl Shipped {
    const FILES: [(&str, &str); 3] = [
        ("buf/validate/validate.proto", include_str!("../proto/buf/validate/validate.proto")),
        ("tollgate/envelope/v1/domain_event.proto", include_str!("../proto/tollgate/envelope/v1/domain_event.proto")),
        (
            "tollgate/envelope/v1/event_envelope.proto",
            include_str!("../proto/tollgate/envelope/v1/event_envelope.proto"),
        ),
    ];
}

impl FileResolver for Shipped {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match Self::FILES.iter().find(|(file, _)| *file == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_types_rules_and_envelopes_need_no_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, out) = (folder.path().join("proto"), folder.path().join("out"));
        for folder in [&root, &out] {
            fs::create_dir(folder).expect("a folder");
        }
        let text = r#"syntax = "proto3"; package shop.v1;
            import "buf/validate/validate.proto"; import "google/protobuf/timestamp.proto";
            import "tollgate/envelope/v1/domain_event.proto";
            message Order {
                string id = 1 [(buf.validate.field).string.min_len = 1];
                google.protobuf.Timestamp placed = 2;
            }"#;
        fs::write(root.join("order.proto"), text).expect("a file");
        generate(&root, &out).expect("code");
        let code = fs::read_to_string(out.join("shop.v1.rs")).expect("the package's code");
        assert!(code.contains("::tollgate::prost_types::Timestamp"), "{code}");
        let mut packages: Vec<_> =
            fs::read_dir(&out).expect("files").map(|entry| entry.expect("a file").file_name()).collect();
        packages.sort();
        assert_eq!(packages, ["protos.rs", "shop.v1.rs"]);
    }
}
