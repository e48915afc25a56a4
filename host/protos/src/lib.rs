//! Compiles message types from `.proto` files, folders of them, descriptor sets, or a registry's schemas. No `protoc`
//! is needed.
//!
//! Programs use this crate. The engine does not: its program passes [`pools`] and [`compile_schema`] to it.

mod imports;
mod pipeline;
mod schema;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use tollgate_contract::{edition_source, lower_editions};

pub use imports::with_imports;
pub use pipeline::pools;
pub use schema::compile_schema;

/// The maximum depth at which a folder is searched. A proto tree is as deep as its packages, so anything deeper is a
/// cyclic link.
const FOLDER_DEPTH: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum ProtosError {
    #[error("no message types are named; give a folder, .proto files or a descriptor set")]
    Nothing,
    #[error("{} cannot be read: {source}; check the path, which is relative to the pipeline file's folder", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} has no .proto files; name the folder that imports start from", path.display())]
    EmptyFolder { path: PathBuf },
    /// The place has the form `file:line:column: what`, as far as the compiler knows it.
    #[error("{place}; {advice}")]
    Invalid { place: String, advice: &'static str, spot: Option<Spot> },
    #[error(
        "{} is not a complete descriptor set: {detail}; create it with `protoc --include_imports --descriptor_set_out` or \
         `buf build -o`",
        path.display()
    )]
    NotADescriptorSet { path: PathBuf, detail: String },
}

/// The position of a compile error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The import name of the file.
    pub file: String,
    /// The line, starting at 1.
    pub line: usize,
    pub column: usize,
}

impl Spot {
    /// Parses the position from the error's `Debug` output, `file:line:column: what`. No other form of the error contains it.
    fn of(error: &protox::Error) -> Option<Spot> {
        let file = error.file()?.to_owned();
        let shown = format!("{error:?}");
        let mut numbers = shown.strip_prefix(&file)?.strip_prefix(':')?.splitn(3, ':');
        let (line, column) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        Some(Spot { file, line, column })
    }
}

impl ProtosError {
    /// Returns the error with its path formatted by `show`.
    #[must_use]
    pub fn shown(mut self, show: impl Fn(&Path) -> PathBuf) -> ProtosError {
        match &mut self {
            Self::Unreadable { path, .. } | Self::EmptyFolder { path } | Self::NotADescriptorSet { path, .. } => {
                *path = show(path);
            }
            Self::Nothing | Self::Invalid { .. } => {}
        }
        self
    }
}

/// Loads everything that `paths` name into one pool. A folder is the root of its files' imports; for a single `.proto`
/// file, the root is the nearest folder above it from which all its imports are found. Any other file is read as a
/// descriptor set.
///
/// # Errors
/// Returns the error of the first file that cannot be read or compiled, with its position and advice.
pub fn load(paths: &[PathBuf]) -> Result<DescriptorPool, ProtosError> {
    load_as(paths, false)
}

/// Like [`load`], but keeps comments and the position of every element, for showing contracts to people.
///
/// # Errors
/// Fails as [`load`] does.
pub fn load_with_sources(paths: &[PathBuf]) -> Result<DescriptorPool, ProtosError> {
    load_as(paths, true)
}

fn load_as(paths: &[PathBuf], sources: bool) -> Result<DescriptorPool, ProtosError> {
    let mut pool = DescriptorPool::new();
    for path in paths {
        let set = if path.is_dir() {
            compile(&[path], &proto_files(path)?, sources)?
        } else if is_proto(path) {
            std::fs::metadata(path).map_err(|source| ProtosError::Unreadable { path: path.clone(), source })?;
            from_above(path, |root| compile(&[root], &[path], sources))?
        } else {
            let bytes = std::fs::read(path).map_err(|source| ProtosError::Unreadable { path: path.clone(), source })?;
            let not_a_set = |detail| ProtosError::NotADescriptorSet { path: path.clone(), detail };
            let set = lower_editions(&bytes).map_err(|error| not_a_set(error.to_string()))?;
            pool.decode_file_descriptor_set(&*set).map_err(|error| not_a_set(error.to_string()))?;
            continue;
        };
        // Files shared by two paths (Google's, or a common folder) are added once.
        pool.decode_file_descriptor_set(set.as_slice()).map_err(|error| ProtosError::Invalid {
            place: format!("{error:?}"),
            advice: "two of the named paths define this differently; remove one of them",
            spot: None,
        })?;
    }
    if pool.files().len() == 0 { Err(ProtosError::Nothing) } else { Ok(pool) }
}

/// Returns the import names of the files below folders; `None` if a path is not a folder, and so may import its
/// neighbours.
///
/// # Errors
/// Fails for a folder that cannot be read or has no `.proto` file.
pub fn names(paths: &[PathBuf]) -> Result<Option<BTreeSet<String>>, ProtosError> {
    let mut names = BTreeSet::new();
    for path in paths {
        if !path.is_dir() {
            return Ok(None);
        }
        for file in proto_files(path)? {
            let parts = file.strip_prefix(path).unwrap_or(&file).components();
            let parts: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
            names.insert(parts.join("/"));
        }
    }
    Ok(Some(names))
}

fn is_proto(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "proto")
}

/// Returns the `.proto` files below a folder, sorted, so that the result does not depend on the file system.
fn proto_files(folder: &Path) -> Result<Vec<PathBuf>, ProtosError> {
    let mut files = Vec::new();
    let mut queue = vec![(folder.to_path_buf(), 0)];
    while let Some((place, depth)) = queue.pop() {
        let unreadable = |source| ProtosError::Unreadable { path: place.clone(), source };
        for entry in std::fs::read_dir(&place).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_dir() && depth < FOLDER_DEPTH {
                queue.push((path, depth + 1));
            } else if is_proto(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() { Err(ProtosError::EmptyFolder { path: folder.to_path_buf() }) } else { Ok(files) }
}

/// Compiles a file with the nearest folder above it from which `compile` finds all its imports.
fn from_above<T>(file: &Path, compile: impl Fn(&Path) -> Result<T, ProtosError>) -> Result<T, ProtosError> {
    let mut first = None;
    for root in file.ancestors().skip(1) {
        match compile(if root.as_os_str().is_empty() { Path::new(".") } else { root }) {
            Ok(compiled) => return Ok(compiled),
            // The error for the file's own folder is the clearest.
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(ProtosError::Nothing))
}

/// Looks files up below the roots, then among the built-in ones: Google's own, and the rules' definition.
fn resolver(roots: &[impl AsRef<Path>]) -> ChainFileResolver {
    let mut resolver = ChainFileResolver::new();
    resolver.add(LanguageFeatures);
    for root in roots {
        resolver.add(Folder::new(root.as_ref()));
    }
    resolver.add(GoogleFileResolver::new());
    resolver.add(Shipped);
    resolver
}

/// A folder of `.proto` files, including files of editions.
struct Folder {
    root: PathBuf,
    files: IncludeFileResolver,
}

impl Folder {
    fn new(root: &Path) -> Folder {
        Folder { root: root.to_path_buf(), files: IncludeFileResolver::new(root.to_path_buf()) }
    }
}

impl FileResolver for Folder {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        self.files.resolve_path(path)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        // The compiler's own resolver has the best error for an unreadable file.
        match std::fs::read_to_string(self.root.join(name)) {
            Ok(source) => match from_edition(name, &source)? {
                Some(file) => Ok(file),
                None => self.files.open_file(name),
            },
            Err(_) => self.files.open_file(name),
        }
    }
}

/// Compiles a `.proto` file's text, whatever its syntax.
fn from_source(name: &str, source: &str) -> Result<File, protox::Error> {
    from_edition(name, source)?.map_or_else(|| File::from_source(name, source), Ok)
}

fn from_edition(name: &str, source: &str) -> Result<Option<File>, protox::Error> {
    let told = |error| protox::Error::new(InFile { name: name.to_owned(), error });
    edition_source(source).map_err(told)?.map(|source| File::from_source(name, &source)).transpose()
}

/// An unknown edition, and the file that uses it.
#[derive(thiserror::Error)]
#[error("{name}: {error}")]
struct InFile {
    name: String,
    error: tollgate_contract::UnknownEdition,
}

/// Uses the display text as the debug form, because that is how the compiler's errors are displayed ([`invalid`]).
impl std::fmt::Debug for InFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The language feature files that files of editions import. They replace copies in a folder: Protobuf's own files use
/// editions that the compiler does not know.
struct LanguageFeatures;

impl LanguageFeatures {
    const FILES: [(&str, &str); 2] = [
        ("google/protobuf/cpp_features.proto", include_str!("google/protobuf/cpp_features.proto")),
        ("google/protobuf/java_features.proto", include_str!("google/protobuf/java_features.proto")),
    ];
}

impl FileResolver for LanguageFeatures {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        open(&Self::FILES, name)
    }
}

fn open(files: &[(&str, &str)], name: &str) -> Result<File, protox::Error> {
    match files.iter().find(|(file, _)| *file == name) {
        Some((_, text)) => File::from_source(name, text),
        None => Err(protox::Error::file_not_found(name)),
    }
}

/// The files that contracts may import without providing them: the rules' definition, and the envelopes.
struct Shipped;

impl Shipped {
    const FILES: [(&str, &str); 3] = [
        ("buf/validate/validate.proto", include_str!("../../../proto/buf/validate/validate.proto")),
        (
            "tollgate/envelope/v1/event_envelope.proto",
            include_str!("../../../proto/tollgate/envelope/v1/event_envelope.proto"),
        ),
        (
            "tollgate/envelope/v1/domain_event.proto",
            include_str!("../../../proto/tollgate/envelope/v1/domain_event.proto"),
        ),
    ];
}

impl FileResolver for Shipped {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        open(&Self::FILES, name)
    }
}

/// Returns a pool with a shipped message type, or `None` if none has this name. It is a separate pool, because the
/// user's pool may have a different edition of its imports.
pub fn shipped(message: &str) -> Option<DescriptorPool> {
    let found = Shipped::FILES.iter().find_map(|(file, _)| {
        let mut compiler = protox::Compiler::with_file_resolver(resolver(&[] as &[&Path]));
        compiler.include_imports(true).open_file(file).ok()?;
        let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).ok()?;
        pool.get_message_by_name(message).map(|_| pool)
    });
    found.filter(|_| !message.starts_with("buf."))
}

const MEND: &str = "fix the file there";

/// Compiles to a descriptor set in bytes: prost-types' structs would lose options that are extensions, such as
/// buf.validate's.
fn compile(roots: &[impl AsRef<Path>], files: &[impl AsRef<Path>], sources: bool) -> Result<Vec<u8>, ProtosError> {
    let mut compiler = protox::Compiler::with_file_resolver(resolver(roots));
    compiler.include_imports(true).include_source_info(sources);
    compiler.open_files(files).map_err(|error| invalid(&error))?;
    let set = compiler.encode_file_descriptor_set();
    let lowered = lower_editions(&set);
    let lowered =
        lowered.map_err(|error| ProtosError::Invalid { place: error.to_string(), advice: MEND, spot: None })?;
    Ok(lowered.into_owned())
}

fn invalid(error: &protox::Error) -> ProtosError {
    let advice = if error.is_file_not_found() {
        "imports are looked up from the folder that protos names; name the folder above, or add the missing file"
    } else {
        MEND
    };
    // Only the compiler's debug form has file, line and column.
    ProtosError::Invalid { place: format!("{error:?}"), advice, spot: Spot::of(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    const MONEY: &str = r#"syntax = "proto3"; package shop.v1; message Money { int64 minor = 1; }"#;
    const ORDER: &str = r#"syntax = "proto3";
        package shop.v1;
        import "shop/v1/money.proto";
        import "google/protobuf/timestamp.proto";
        message Order { Money total = 1; google.protobuf.Timestamp at = 2; }"#;

    #[test]
    fn a_folder_a_file_and_a_descriptor_set_give_the_same_types() {
        let folder = folder(&[("shop/v1/money.proto", MONEY), ("shop/v1/order.proto", ORDER)]);
        let from_folder = load(&[folder.path().to_path_buf()]).unwrap();
        let from_file = load(&[folder.path().join("shop/v1/order.proto")]).unwrap();
        let set = folder.path().join("shop.binpb");
        std::fs::write(&set, from_folder.encode_to_vec()).unwrap();
        let from_set = load(&[set]).unwrap();
        for pool in [from_folder, from_file, from_set] {
            assert!(pool.get_message_by_name("shop.v1.Order").is_some());
        }
    }

    #[test]
    fn rules_need_no_copy_of_their_definition() {
        let text = r#"syntax = "proto3"; package shop.v1; import "buf/validate/validate.proto";
            message Order { string id = 1 [(buf.validate.field).string.min_len = 1]; }"#;
        let folder = folder(&[("shop/v1/order.proto", text)]);
        for path in [folder.path().to_path_buf(), folder.path().join("shop/v1/order.proto")] {
            let pool = load(&[path]).unwrap();
            let options = pool.get_message_by_name("shop.v1.Order").unwrap().get_field(1).unwrap().options();
            let rules = pool.get_extension_by_name("buf.validate.field").unwrap();
            assert!(options.has_extension(&rules), "{options:?}");
        }
    }

    #[test]
    fn paths_that_share_files_are_merged() {
        let folder = folder(&[("shop/v1/money.proto", MONEY), ("shop/v1/order.proto", ORDER)]);
        let pool = load(&[folder.path().to_path_buf(), folder.path().join("shop/v1/order.proto")]).unwrap();
        assert_eq!(pool.files().filter(|file| file.name() == "shop/v1/money.proto").count(), 1);
    }

    #[test]
    fn files_of_editions_are_read_as_what_they_say() {
        let text = r#"edition = "2023";
            package shop.v1;
            import "shop/v1/money.proto";
            option features.repeated_field_encoding = EXPANDED;
            message Order {
              string id = 1;
              int32 count = 2 [features.field_presence = LEGACY_REQUIRED];
              repeated int32 loose = 3;
              repeated int32 packed = 4 [features.repeated_field_encoding = PACKED];
              Money total = 5;
              State state = 6 [default = DONE];
              reserved gone;
            }
            enum State { option features.enum_type = CLOSED; OPEN = 1; DONE = 2; }"#;
        let implicit = r#"edition = "2024"; package shop.v1; option features.field_presence = IMPLICIT;
            message Item { string id = 1; string note = 2 [features.field_presence = EXPLICIT]; }"#;
        let files = [("shop/v1/money.proto", MONEY), ("shop/v1/order.proto", text), ("shop/v1/item.proto", implicit)];
        let folder = folder(&files);
        for path in [folder.path().to_path_buf(), folder.path().join("shop/v1/order.proto")] {
            let pool = load(&[path]).unwrap();
            let order = pool.get_message_by_name("shop.v1.Order").unwrap();
            let field = |name: &str| order.get_field_by_name(name).unwrap();
            assert!(field("id").supports_presence() && field("count").is_required());
            assert!(!field("loose").is_packed() && field("packed").is_packed());
            assert_eq!(field("state").default_value(), prost_reflect::Value::EnumNumber(2));
            assert_eq!(order.reserved_names().collect::<Vec<_>>(), ["gone"]);
        }
        let pool = load(&[folder.path().to_path_buf()]).unwrap();
        let item = pool.get_message_by_name("shop.v1.Item").unwrap();
        assert!(!item.get_field_by_name("id").unwrap().supports_presence());
        assert!(item.get_field_by_name("note").unwrap().supports_presence());
        let broken = "edition = \"2023\";\nmessage A {\n  string a = 1;\n  strin b = 2;\n}\n";
        let newer = "edition = \"2031\"; message A {}";
        for (text, expected) in
            [(broken, "a.proto:4:"), (newer, "a.proto: edition \"2031\" is unknown; editions 2023 and 2024")]
        {
            let folder = self::folder(&[("a.proto", text)]);
            let error = load(&[folder.path().to_path_buf()]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// This also holds if a folder has Protobuf's own copy, which the compiler rejects.
    #[test]
    fn features_of_languages_need_no_copy_of_their_definition() {
        let text = r#"edition = "2023"; package shop.v1;
            import "google/protobuf/java_features.proto";
            import "google/protobuf/cpp_features.proto";
            option features.(pb.java).utf8_validation = VERIFY;
            message Order { string id = 1 [features.(pb.cpp).string_type = VIEW]; }"#;
        let copy = r#"syntax = "proto2"; package pb; import "google/protobuf/descriptor.proto";
            extend google.protobuf.FeatureSet { optional JavaFeatures java = 1001; }
            message JavaFeatures { optional bool large_enum = 3 [edition_defaults = { edition: EDITION_9, value: "1" }]; }"#;
        let own = folder(&[("shop/v1/order.proto", text)]);
        let vendored = folder(&[("shop/v1/order.proto", text), ("google/protobuf/java_features.proto", copy)]);
        for folder in [&own, &vendored] {
            load(&[folder.path().to_path_buf()]).unwrap();
        }
        assert_eq!(names(&[own.path().join("shop/v1/order.proto")]).unwrap(), None);
        let names = names(&[vendored.path().to_path_buf()]).unwrap().unwrap();
        assert_eq!(Vec::from_iter(names), ["google/protobuf/java_features.proto", "shop/v1/order.proto"]);
    }

    #[test]
    fn errors_name_the_place_and_what_to_do() {
        let broken = "syntax = \"proto3\";\nmessage A {\n  strin name = 1;\n}\n";
        let garbled = "syntax = \"proto3\";\nmessage A {\n  string name 1;\n}\n";
        let unfound = "syntax = \"proto3\";\nimport \"far/away.proto\";\n";
        let cases: [(&str, &str, &[&str]); 4] = [
            ("a.proto", broken, &["a.proto:3:", "strin", "fix the file"]),
            ("a.proto", garbled, &["a.proto:3:", "fix the file"]),
            ("a.proto", unfound, &["a.proto:2:", "far/away.proto", "name the folder above"]),
            ("a.txt", "", &["has no .proto files", "imports start from"]),
        ];
        for (name, text, expected) in cases {
            let folder = folder(&[(name, text)]);
            let error = load(&[folder.path().to_path_buf()]).unwrap_err();
            if let ProtosError::Invalid { spot, .. } = &error {
                let spot = spot.as_ref().map(|spot| (spot.file.as_str(), spot.line));
                let line = if text == unfound { 2 } else { 3 };
                assert_eq!(spot, Some(("a.proto", line)), "{error}");
            }
            let error = error.to_string();
            for part in expected {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
        let missing = load(&[PathBuf::from("no/such.proto")]).unwrap_err().to_string();
        assert!(missing.contains("no/such.proto cannot be read"), "{missing}");
        let folder = folder(&[("set.bin", "this is no descriptor set")]);
        let set = load(&[folder.path().join("set.bin")]).unwrap_err().to_string();
        assert!(set.contains("not a complete descriptor set") && set.contains("--include_imports"), "{set}");
    }
}
