//! A common interface for all descriptors with a name and a position.

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, ExtensionDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor,
    MethodDescriptor, OneofDescriptor, ServiceDescriptor,
};
use prost_types::source_code_info::Location;

use super::{Place, Side};

/// Field 12 of a FileDescriptorProto is its syntax: findings about the whole file point to that line.
const SYNTAX_PATH: [i32; 1] = [12];

/// Anything in a `.proto` file that a finding can be about.
pub trait Element {
    /// Returns the full name; for an enum value below its enum, for a file its import name.
    fn name(&self) -> String;
    fn file(&self) -> FileDescriptor;
    /// Returns its path in the FileDescriptorProto, as used by SourceCodeInfo.
    fn path(&self) -> Vec<i32>;
}

macro_rules! element {
    ($($kind:ident $file:expr;)*) => {
        $(impl Element for $kind {
            fn name(&self) -> String {
                self.full_name().to_owned()
            }
            fn file(&self) -> FileDescriptor {
                let file: fn(&$kind) -> FileDescriptor = $file;
                file(self)
            }
            fn path(&self) -> Vec<i32> {
                $kind::path(self).to_vec()
            }
        })*
    };
}

element! {
    MessageDescriptor |it| it.parent_file();
    FieldDescriptor |it| it.parent_file();
    OneofDescriptor |it| it.parent_file();
    EnumDescriptor |it| it.parent_file();
    ExtensionDescriptor |it| it.parent_file();
    ServiceDescriptor |it| it.parent_file();
    MethodDescriptor |it| it.parent_file();
}

impl Element for EnumValueDescriptor {
    fn name(&self) -> String {
        format!("{}.{}", self.parent_enum().full_name(), EnumValueDescriptor::name(self))
    }
    fn file(&self) -> FileDescriptor {
        self.parent_file()
    }
    fn path(&self) -> Vec<i32> {
        EnumValueDescriptor::path(self).to_vec()
    }
}

impl Element for FileDescriptor {
    fn name(&self) -> String {
        FileDescriptor::name(self).to_owned()
    }
    fn file(&self) -> FileDescriptor {
        self.clone()
    }
    fn path(&self) -> Vec<i32> {
        SYNTAX_PATH.to_vec()
    }
}

fn location<'f>(file: &'f FileDescriptor, path: &[i32]) -> Option<&'f Location> {
    file.file_descriptor_proto().source_code_info.as_ref()?.location.iter().find(|location| location.path == path)
}

/// Returns the position of an element.
#[must_use]
pub fn place(side: Side, element: &impl Element) -> Place {
    let file = element.file();
    // [line, column, …], both from 0.
    let span = location(&file, &element.path()).map(|location| location.span.clone()).unwrap_or_default();
    let count = |index: usize| {
        span.get(index).and_then(|from_zero| usize::try_from(*from_zero).ok()).map_or(0, |from_zero| from_zero + 1)
    };
    Place { side, file: FileDescriptor::name(&file).to_owned(), line: count(0), column: count(1) }
}

/// Returns the comment above an element, or else the one after it; without indentation, empty if there is none.
#[must_use]
pub fn comment(element: &impl Element) -> String {
    let file = element.file();
    let Some(location) = location(&file, &element.path()) else { return String::new() };
    let text = location.leading_comments.as_deref().or(location.trailing_comments.as_deref()).unwrap_or_default();
    text.lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect::<Vec<_>>()
        .join("\n")
        .trim()
        .to_owned()
}
