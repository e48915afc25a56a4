//! Compiles a schema's text or descriptor, with its imports, to types.

use std::borrow::Cow;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DescriptorPool, FileDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use tollgate_contract::{InvalidSchema, Source, lower_editions};

use crate::{Folder, LanguageFeatures, Shipped};

/// Compiles `main` with its imports: its references, Google's well-known types, files below `roots`, and the
/// definition of protovalidate's rules. Returns the main file, whose pool holds all of them.
///
/// # Errors
/// Returns the first error, with its position.
pub fn compile_schema(main: Source, references: &[Source], roots: &[PathBuf]) -> Result<FileDescriptor, InvalidSchema> {
    let name = main.name.clone();
    let mut chain = ChainFileResolver::new();
    chain.add(Kept(std::iter::once(main).chain(references.iter().cloned()).collect()));
    chain.add(LanguageFeatures);
    chain.add(GoogleFileResolver::new());
    for root in roots {
        chain.add(Folder::new(root));
    }
    chain.add(Shipped);
    let mut compiler = protox::Compiler::with_file_resolver(chain);
    compiler.include_imports(true).include_source_info(true);
    // Only the debug form includes file, line and column.
    let invalid = |error: &protox::Error| InvalidSchema { place: format!("{error:?}") };
    compiler.open_file(&name).map_err(|error| invalid(&error))?;
    let unlowered = compiler.encode_file_descriptor_set();
    let broken = |error: String| InvalidSchema { place: format!("{name}: {error}") };
    let set = lower_editions(&unlowered).map_err(|error| broken(error.to_string()))?;
    let pool = match set {
        Cow::Borrowed(_) => compiler.descriptor_pool(),
        Cow::Owned(set) => DescriptorPool::decode(set.as_slice()).map_err(|error| broken(error.to_string()))?,
    };
    pool.get_file_by_name(&name).ok_or_else(|| InvalidSchema { place: format!("{name} is not in its own pool") })
}

/// Files in memory.
struct Kept(Vec<Source>);

impl FileResolver for Kept {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let Some(source) = self.0.iter().find(|source| source.name == name) else {
            return Err(protox::Error::file_not_found(name));
        };
        match descriptor(&source.text, name) {
            Some(bytes) => File::decode_file_descriptor_proto(bytes.as_slice()).map_err(protox::Error::new),
            None => crate::from_source(name, &source.text),
        }
    }
}

/// Decodes a FileDescriptorProto in base64, as Python's client registers it and `format=serialized` returns it, and
/// gives it the import name. No `.proto` text is valid base64: each has a blank, a brace or a semicolon.
fn descriptor(text: &str, name: &str) -> Option<Vec<u8>> {
    /// The tag of field 1, length-delimited.
    const NAME: u8 = 0x0a;
    let mut bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
    // The last value of a field wins, so appending one renames the file and leaves all options unchanged.
    bytes.push(NAME);
    let mut length = name.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).ok()? | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).ok()?);
    bytes.extend(name.as_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.to_owned(), text: text.to_owned() }
    }

    const MONEY: &str = r#"syntax = "proto3"; package shop.v1; message Money { int64 minor = 1; }"#;
    const ORDER: &str = r#"syntax = "proto3"; package shop.v1;
        import "shop/v1/money.proto"; import "google/protobuf/timestamp.proto";
        message Order { Money total = 1; google.protobuf.Timestamp at = 2; }"#;

    #[test]
    fn text_and_descriptor_give_the_same_types() {
        let money = source("shop/v1/money.proto", MONEY);
        let text = compile_schema(source("order.proto", ORDER), std::slice::from_ref(&money), &[]).unwrap();
        let encoded = |file: &FileDescriptor| BASE64_STANDARD.encode(file.encode_to_vec());
        // The name inside differs from the import name.
        let bytes = source("registered.proto", &encoded(&text));
        let money = source(
            "shop/v1/money.proto",
            &encoded(&text.parent_pool().get_file_by_name("shop/v1/money.proto").unwrap()),
        );
        let descriptor = compile_schema(bytes, &[money], &[]).unwrap();
        assert_eq!(descriptor.name(), "registered.proto");
        for file in [text, descriptor] {
            assert_eq!(file.messages().next().unwrap().full_name(), "shop.v1.Order");
        }
    }

    #[test]
    fn imports_come_from_folders_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("shop/v1")).unwrap();
        std::fs::write(folder.path().join("shop/v1/money.proto"), MONEY).unwrap();
        let order = || source("order.proto", ORDER);
        assert!(compile_schema(order(), &[], &[]).unwrap_err().to_string().contains("shop/v1/money.proto"));
        compile_schema(order(), &[], &[folder.path().to_owned()]).unwrap();
    }

    #[test]
    fn rules_are_there_without_a_reference() {
        let text = r#"syntax = "proto3"; import "buf/validate/validate.proto";
            message A { string id = 1 [(buf.validate.field).string.min_len = 3]; }"#;
        let file = compile_schema(source("a.proto", text), &[], &[]).unwrap();
        let field = file.messages().next().unwrap().get_field(1).unwrap();
        assert_eq!(field.options().extensions().count(), 1, "options that are extensions stay");
    }

    #[test]
    fn faults_have_a_place() {
        let fault = compile_schema(source("a.proto", "syntax = \"proto3\";\nmessage A { strin b = 1; }"), &[], &[])
            .unwrap_err();
        assert!(fault.to_string().contains("a.proto:2:"), "{fault}");
        let circle = [
            source("b.proto", "syntax = \"proto3\"; import \"c.proto\";"),
            source("c.proto", "syntax = \"proto3\"; import \"b.proto\";"),
        ];
        let fault =
            compile_schema(source("a.proto", "syntax = \"proto3\"; import \"b.proto\";"), &circle, &[]).unwrap_err();
        assert!(fault.to_string().contains("cycle"), "{fault}");
        let fault = compile_schema(source("a.proto", "aGVsbG8="), &[], &[]).unwrap_err();
        assert!(!fault.to_string().is_empty());
    }
}
