//! In-memory `.proto` sources: the input of a schema compiler, independent of where the sources were loaded from.
//!
//! The compiler itself is not in this crate. A program passes it, as a [`CompileSchema`], to the crates that need it,
//! so that those crates do not depend on the compiler.

use std::path::PathBuf;

use prost_reflect::FileDescriptor;

/// A file under its import name: `.proto` text, or a FileDescriptorProto in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// A file and the names of the files that it imports, without Google's well-known types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtoFile {
    pub source: Source,
    pub imports: Vec<String>,
}

/// A schema that cannot be compiled to message types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}")]
pub struct InvalidSchema {
    /// `file:line:column: what`, as far as the compiler knows it.
    pub place: String,
}

/// Compiles a file with its imports: the given references, Google's well-known types, the files below the given
/// folders, and the definition of protovalidate's rules. Returns the file, whose pool holds all of them.
pub type CompileSchema = fn(Source, &[Source], &[PathBuf]) -> Result<FileDescriptor, InvalidSchema>;
