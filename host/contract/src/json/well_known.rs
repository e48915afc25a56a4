//! The types with their own JSON form, and what both directions need to know about them.

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// A message type with its own JSON form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WellKnown {
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    Value,
    ListValue,
    /// `DoubleValue` and the like: the value itself.
    Wrapper,
    Empty,
}

impl WellKnown {
    pub(super) fn of(message: &MessageDescriptor) -> Option<Self> {
        Some(match message.full_name().strip_prefix("google.protobuf.")? {
            "Any" => Self::Any,
            "Timestamp" => Self::Timestamp,
            "Duration" => Self::Duration,
            "FieldMask" => Self::FieldMask,
            "Struct" => Self::Struct,
            "Value" => Self::Value,
            "ListValue" => Self::ListValue,
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue" => Self::Wrapper,
            "Empty" => Self::Empty,
            _ => return None,
        })
    }
}

/// Returns whether an Any shows the type under `value` instead of member by member.
pub(super) fn has_own_form(message: &MessageDescriptor) -> bool {
    WellKnown::of(message).is_some()
}

/// Returns the message type that a type URL names after its last slash, which is mandatory.
pub(super) fn of_url(pool: &DescriptorPool, url: &str) -> Option<MessageDescriptor> {
    let (_, name) = url.rsplit_once('/')?;
    pool.get_message_by_name(name)
}

/// Converts a path of a field mask in JSON to Protobuf's names. `None` for a path that no JSON writer produces.
pub(super) fn snake(path: &str) -> Option<String> {
    let mut snake = String::with_capacity(path.len() + 4);
    for character in path.chars() {
        match character {
            '_' => return None,
            'A'..='Z' => snake.extend(['_', character.to_ascii_lowercase()]),
            character => snake.push(character),
        }
    }
    Some(snake)
}

/// Converts a path of a field mask to JSON's names. `None` for a path that would not convert back to the same one.
pub(super) fn camel(path: &str) -> Option<String> {
    let mut camel = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            'A'..='Z' => return None,
            '_' => camel.push(characters.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase()),
            character => camel.push(character),
        }
    }
    Some(camel)
}
