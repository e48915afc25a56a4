//! Converts Protobuf editions to the older syntaxes.
//!
//! The descriptor pool supports proto2 and proto3, but not editions. In an edition every file, message and field
//! selects one of the old behaviours by *features*. There are few, and each can be expressed per field: delimited
//! encoding is a group, expanded lists are not packed, presence is a label. A file becomes proto2, which supports
//! everything except fields without presence; a file with such fields becomes proto3, with `proto3_optional` on the
//! others. In proto3 an enum must begin at zero, so the pool rejects a file with both an implicit field and an enum
//! that does not.
//!
//! The converted file behaves on the wire as its edition defines. The features stay in the options, and each enum has
//! an explicit `enum_type`, which [`is_closed`] reads. The conversion loses only what the gate does not check: whether
//! a string may be other than UTF-8 (the gate never allows it).

mod source;

use std::borrow::Cow;

use prost_reflect::prost::{DecodeError, Message as _};
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, FileDescriptor, Syntax, Value};

pub use source::{UnknownEdition, edition_source};

const EDITIONS: &str = "editions";
/// `FieldDescriptorProto.Label`.
const LABEL_REQUIRED: i32 = 2;
const LABEL_REPEATED: i32 = 3;
/// `FieldDescriptorProto.Type`.
const TYPE_STRING: i32 = 9;
const TYPE_GROUP: i32 = 10;
const TYPE_MESSAGE: i32 = 11;
const TYPE_BYTES: i32 = 12;

/// The features that affect the wire, numbered as in `google.protobuf.FeatureSet`; the defaults are those of edition
/// 2023 and later.
#[derive(Clone, Copy)]
struct Features {
    presence: i32,
    enum_type: i32,
    repeated: i32,
    encoding: i32,
}

const EXPLICIT: i32 = 1;
const IMPLICIT: i32 = 2;
const OPEN: i32 = 1;
const CLOSED: i32 = 2;
const LEGACY_REQUIRED: i32 = 3;
const PACKED: i32 = 1;
const LENGTH_PREFIXED: i32 = 1;
const DELIMITED: i32 = 2;

/// Converts a `FileDescriptorSet`, so that its files of editions become equivalent files of proto2 or proto3; other
/// files stay as they are. A file belongs to an edition if it says so or has features, with which [`edition_source`]
/// marks it.
///
/// # Errors
/// Fails if the bytes are not a `FileDescriptorSet`.
pub fn lower_editions(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let Some(descriptor) = DescriptorPool::global().get_message_by_name("google.protobuf.FileDescriptorSet") else {
        return Ok(Cow::Borrowed(bytes));
    };
    let mut set = DynamicMessage::decode(descriptor, bytes)?;
    let mut lowered = false;
    for_each(&mut set, "file", &mut |file| {
        if text(file, "syntax").as_deref() == Some(EDITIONS) || features_of(file).is_some() {
            lower_file(file);
            lowered = true;
        }
    });
    Ok(if lowered { Cow::Owned(set.encode_to_vec()) } else { Cow::Borrowed(bytes) })
}

/// Returns whether an enum accepts only the numbers that it names, according to its features or its file's syntax.
pub fn is_closed(descriptor: &EnumDescriptor) -> bool {
    match features_of_options(&descriptor.options()).and_then(|features| feature(&features, "enum_type")) {
        Some(kind) => kind == CLOSED,
        None => descriptor.parent_file().syntax() == Syntax::Proto2,
    }
}

/// Returns the syntax of a file as its author wrote it.
pub fn syntax(file: &FileDescriptor) -> &'static str {
    match file.syntax() {
        _ if features_of_options(&file.options()).is_some() => EDITIONS,
        Syntax::Proto2 => "proto2",
        Syntax::Proto3 => "proto3",
    }
}

/// The target syntax of a file of an edition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Proto2,
    Proto3,
}

fn lower_file(file: &mut DynamicMessage) {
    let defaults = Features { presence: EXPLICIT, enum_type: OPEN, repeated: PACKED, encoding: LENGTH_PREFIXED };
    let features = defaults.overlaid(file);
    let mut target = Target::Proto2;
    for_each(file, "message_type", &mut |message| {
        if has_implicit(message, features) {
            target = Target::Proto3;
        }
    });
    let name = if target == Target::Proto2 { "proto2" } else { "proto3" };
    file.set_field_by_name("syntax", Value::String(name.into()));
    file.clear_field_by_name("edition");
    // An explicit feature marks the file, also where it has none set.
    set_feature(file, "enum_type", features.enum_type);
    for_each(file, "message_type", &mut |message| lower_message(message, features, target));
    for_each(file, "enum_type", &mut |inner| lower_enum(inner, features));
    for_each(file, "extension", &mut |field| lower_field(field, features, false, target));
}

/// Returns whether a message, or one in it, has a field without presence.
fn has_implicit(message: &mut DynamicMessage, outer: Features) -> bool {
    let features = outer.overlaid(message);
    let mut found = false;
    for_each(message, "field", &mut |field| {
        let single = number(field, "label") != LABEL_REPEATED && !field.has_field_by_name("oneof_index");
        let scalar = !matches!(number(field, "type"), TYPE_MESSAGE | TYPE_GROUP);
        found |= single && scalar && features.overlaid(field).presence == IMPLICIT;
    });
    for_each(message, "nested_type", &mut |inner| {
        let options = inner.get_field_by_name("options").map(Cow::into_owned);
        let is_entry = options.as_ref().and_then(Value::as_message).and_then(|options| flag(options, "map_entry"));
        found |= is_entry != Some(true) && has_implicit(inner, features);
    });
    found
}

fn lower_enum(descriptor: &mut DynamicMessage, outer: Features) {
    let features = outer.overlaid(descriptor);
    set_feature(descriptor, "enum_type", features.enum_type);
}

fn lower_message(message: &mut DynamicMessage, outer: Features, target: Target) {
    let features = outer.overlaid(message);
    let options = message.get_field_by_name("options").map(Cow::into_owned);
    let is_entry = options.as_ref().and_then(Value::as_message).and_then(|options| flag(options, "map_entry"));
    // A map's entries are the same in every syntax.
    if is_entry != Some(true) {
        for_each(message, "field", &mut |field| lower_field(field, features, true, target));
    }
    for_each(message, "extension", &mut |field| lower_field(field, features, false, target));
    for_each(message, "nested_type", &mut |inner| lower_message(inner, features, target));
    for_each(message, "enum_type", &mut |inner| lower_enum(inner, features));
}

fn lower_field(field: &mut DynamicMessage, outer: Features, in_message: bool, target: Target) {
    let features = outer.overlaid(field);
    let (label, kind) = (number(field, "label"), number(field, "type"));
    if label == LABEL_REPEATED {
        if !matches!(kind, TYPE_STRING | TYPE_GROUP | TYPE_MESSAGE | TYPE_BYTES)
            && let Some(options) = field.get_field_by_name_mut("options").and_then(Value::as_message_mut)
        {
            options.set_field_by_name("packed", Value::Bool(features.repeated == PACKED));
        }
    } else if features.presence == LEGACY_REQUIRED && in_message {
        field.set_field_by_name("label", Value::EnumNumber(LABEL_REQUIRED));
        if target == Target::Proto3 {
            field.set_field_by_name("proto3_optional", Value::Bool(true));
        }
    } else if features.presence == EXPLICIT
        && target == Target::Proto3
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
    /// Returns these features, overridden by those that the descriptor sets.
    fn overlaid(mut self, descriptor: &DynamicMessage) -> Self {
        let Some(features) = features_of(descriptor) else { return self };
        for (name, place) in [
            ("field_presence", &mut self.presence),
            ("enum_type", &mut self.enum_type),
            ("repeated_field_encoding", &mut self.repeated),
            ("message_encoding", &mut self.encoding),
        ] {
            if let Some(number) = feature(&features, name) {
                *place = number;
            }
        }
        self
    }
}

/// Returns the features that a descriptor sets itself.
fn features_of(descriptor: &DynamicMessage) -> Option<DynamicMessage> {
    features_of_options(descriptor.get_field_by_name("options")?.as_message()?)
}

/// Returns the features that a descriptor's options set.
pub fn features_of_options(options: &DynamicMessage) -> Option<DynamicMessage> {
    let set = options.has_field_by_name("features").then(|| options.get_field_by_name("features")).flatten()?;
    set.as_message().cloned()
}

fn feature(features: &DynamicMessage, name: &str) -> Option<i32> {
    features.has_field_by_name(name).then(|| features.get_field_by_name(name)?.as_enum_number()).flatten()
}

fn set_feature(descriptor: &mut DynamicMessage, name: &str, value: i32) {
    let options = descriptor.get_field_by_name_mut("options").and_then(Value::as_message_mut);
    let features = options.and_then(|options| options.get_field_by_name_mut("features")?.as_message_mut());
    if let Some(features) = features {
        features.set_field_by_name(name, Value::EnumNumber(value));
    }
}

fn number(field: &DynamicMessage, name: &str) -> i32 {
    field.get_field_by_name(name).and_then(|value| value.as_enum_number()).unwrap_or_default()
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

/// Returns a boolean field's value: false if it is not set, `None` if there is no such field.
pub fn flag(message: &DynamicMessage, name: &str) -> Option<bool> {
    message.get_field_by_name(name)?.as_bool()
}
