//! Protobuf editions, brought to the syntaxes that came before them.
//!
//! The descriptor pool knows proto2 and proto3. An edition is neither: every file, message and field says by *features* which of the old
//! behaviours it has. They are few, and each can be spelled per field in a proto3 descriptor: presence is `proto3_optional` or
//! `required`, delimited encoding is a group, expanded lists are not packed. What enters the pool so behaves on the wire as the
//! edition says. Lost is what the gate does not look at: whether an enum is closed (the policy for unknown numbers decides) and whether
//! a string may be no UTF-8 (it may not).

use std::borrow::Cow;

use prost_reflect::prost::{DecodeError, Message as _};
use prost_reflect::{DescriptorPool, DynamicMessage, Value};

const EDITIONS: &str = "editions";
/// `FieldDescriptorProto.Label`.
const LABEL_REQUIRED: i32 = 2;
const LABEL_REPEATED: i32 = 3;
/// `FieldDescriptorProto.Type`.
const TYPE_STRING: i32 = 9;
const TYPE_GROUP: i32 = 10;
const TYPE_MESSAGE: i32 = 11;
const TYPE_BYTES: i32 = 12;

/// The features that decide about the wire, as `google.protobuf.FeatureSet` numbers them; the defaults are those of edition 2023 and later.
#[derive(Clone, Copy)]
struct Features {
    presence: i32,
    repeated: i32,
    encoding: i32,
}

const EXPLICIT: i32 = 1;
const LEGACY_REQUIRED: i32 = 3;
const PACKED: i32 = 1;
const LENGTH_PREFIXED: i32 = 1;
const DELIMITED: i32 = 2;

/// A `FileDescriptorSet` whose files of editions read as proto3 files that mean the same; other files are left alone.
///
/// # Errors
/// Bytes that are no `FileDescriptorSet`.
pub fn lower_editions(set: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    // Most sets have no editions; looking for the word is cheaper than reading them.
    if !set.windows(EDITIONS.len()).any(|window| window == EDITIONS.as_bytes()) {
        return Ok(Cow::Borrowed(set));
    }
    let Some(descriptor) = DescriptorPool::global().get_message_by_name("google.protobuf.FileDescriptorSet") else {
        return Ok(Cow::Borrowed(set));
    };
    let mut set = DynamicMessage::decode(descriptor, set)?;
    for_each(&mut set, "file", &mut |file| {
        if text(file, "syntax").as_deref() == Some(EDITIONS) {
            lower_file(file);
        }
    });
    Ok(Cow::Owned(set.encode_to_vec()))
}

fn lower_file(file: &mut DynamicMessage) {
    let defaults = Features { presence: EXPLICIT, repeated: PACKED, encoding: LENGTH_PREFIXED };
    let features = defaults.overlaid(file);
    file.set_field_by_name("syntax", Value::String("proto3".into()));
    file.clear_field_by_name("edition");
    for_each(file, "message_type", &mut |message| lower_message(message, features));
    for_each(file, "extension", &mut |field| lower_field(field, features, false));
}

fn lower_message(message: &mut DynamicMessage, outer: Features) {
    let features = outer.overlaid(message);
    let options = message.get_field_by_name("options").map(Cow::into_owned);
    let is_entry = options.as_ref().and_then(Value::as_message).and_then(|options| flag(options, "map_entry"));
    // A map's entries are the same in every syntax.
    if is_entry != Some(true) {
        for_each(message, "field", &mut |field| lower_field(field, features, true));
    }
    for_each(message, "extension", &mut |field| lower_field(field, features, false));
    for_each(message, "nested_type", &mut |inner| lower_message(inner, features));
}

fn lower_field(field: &mut DynamicMessage, outer: Features, in_message: bool) {
    let features = outer.overlaid(field);
    let number = |field: &DynamicMessage, name: &str| {
        field.get_field_by_name(name).and_then(|value| value.as_enum_number()).unwrap_or_default()
    };
    let (label, kind) = (number(field, "label"), number(field, "type"));
    if label == LABEL_REPEATED {
        if !matches!(kind, TYPE_STRING | TYPE_GROUP | TYPE_MESSAGE | TYPE_BYTES)
            && let Some(options) = field.get_field_by_name_mut("options").and_then(Value::as_message_mut)
        {
            options.set_field_by_name("packed", Value::Bool(features.repeated == PACKED));
        }
    } else if features.presence == LEGACY_REQUIRED && in_message {
        field.set_field_by_name("label", Value::EnumNumber(LABEL_REQUIRED));
        field.set_field_by_name("proto3_optional", Value::Bool(true));
    } else if features.presence == EXPLICIT
        && in_message
        && !field.has_field_by_name("oneof_index")
        && kind != TYPE_MESSAGE
    {
        field.set_field_by_name("proto3_optional", Value::Bool(true));
    }
    if kind == TYPE_MESSAGE && features.encoding == DELIMITED {
        field.set_field_by_name("type", Value::EnumNumber(TYPE_GROUP));
    }
}

impl Features {
    /// These, and over them what the descriptor says itself.
    fn overlaid(mut self, descriptor: &DynamicMessage) -> Self {
        let options = descriptor.get_field_by_name("options");
        let features = options.as_deref().and_then(Value::as_message).and_then(|options| {
            options.has_field_by_name("features").then(|| options.get_field_by_name("features")).flatten()
        });
        let Some(features) = features.as_deref().and_then(Value::as_message) else { return self };
        for (name, place) in [
            ("field_presence", &mut self.presence),
            ("repeated_field_encoding", &mut self.repeated),
            ("message_encoding", &mut self.encoding),
        ] {
            if features.has_field_by_name(name)
                && let Some(number) = features.get_field_by_name(name).and_then(|value| value.as_enum_number())
            {
                *place = number;
            }
        }
        self
    }
}

fn for_each(message: &mut DynamicMessage, list: &str, change: &mut dyn FnMut(&mut DynamicMessage)) {
    if !message.has_field_by_name(list) {
        return;
    }
    let items = message.get_field_by_name_mut(list).and_then(Value::as_list_mut);
    items.into_iter().flatten().filter_map(Value::as_message_mut).for_each(change);
}

fn text(message: &DynamicMessage, name: &str) -> Option<String> {
    message.get_field_by_name(name)?.as_str().map(str::to_owned)
}

fn flag(message: &DynamicMessage, name: &str) -> Option<bool> {
    message.get_field_by_name(name)?.as_bool()
}
