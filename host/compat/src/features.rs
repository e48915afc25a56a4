//! Compares the effects of features and their older options on JSON and generated code.
//!
//! A feature applies to the element that sets it and to everything within; if nothing sets it, the file's syntax
//! decides.

use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, EnumDescriptor, FileDescriptor, Kind, MessageDescriptor};
use prost_types::field_options::CType;

use super::differ::{About, Differ};
use super::element::Element;
use super::rule::rules;
use super::slot::Slot;
use tollgate_contract::{features_of_options, flag, syntax};

// google.protobuf.FeatureSet.Utf8Validation and JsonFormat; pb.JavaFeatures.Utf8Validation; pb.CppFeatures.StringType.
const UTF8_VERIFY: i32 = 2;
const UTF8_NONE: i32 = 3;
const JSON_ALLOW: i32 = 1;
const JSON_LEGACY_BEST_EFFORT: i32 = 2;
const JAVA_UTF8_VERIFY: i32 = 2;
const CPP_VIEW: i32 = 1;
const CPP_CORD: i32 = 2;

/// The compared part of `google.protobuf.FeatureSet`. It is read from bytes, because a pool may lack the definition of
/// one language's features.
#[derive(Clone, PartialEq, prost::Message)]
struct FeatureSet {
    #[prost(int32, optional, tag = "4")]
    utf8_validation: Option<i32>,
    #[prost(int32, optional, tag = "6")]
    json_format: Option<i32>,
    #[prost(message, optional, tag = "1000")]
    cpp: Option<CppFeatures>,
    #[prost(message, optional, tag = "1001")]
    java: Option<JavaFeatures>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CppFeatures {
    #[prost(int32, optional, tag = "2")]
    string_type: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct JavaFeatures {
    #[prost(int32, optional, tag = "2")]
    utf8_validation: Option<i32>,
}

/// The type of a string in generated C++.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CppString {
    String,
    View,
    Cord,
    StringPiece,
}

impl CppString {
    fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::View => "VIEW",
            Self::Cord => "CORD",
            Self::StringPiece => "STRING_PIECE",
        }
    }
}

impl FeatureSet {
    fn of_file(file: &FileDescriptor) -> Self {
        let (utf8, json) = match syntax(file) {
            "proto2" => (UTF8_NONE, JSON_LEGACY_BEST_EFFORT),
            _ => (UTF8_VERIFY, JSON_ALLOW),
        };
        let set = Self { utf8_validation: Some(utf8), json_format: Some(json), cpp: None, java: None };
        if file.file_descriptor_proto().options.is_none() { set } else { set.overlaid(&file.options()) }
    }

    fn of_message(message: &MessageDescriptor) -> Self {
        let outer = Self::of_scope(message.parent_message(), &message.parent_file());
        if message.descriptor_proto().options.is_none() { outer } else { outer.overlaid(&message.options()) }
    }

    fn of_enum(descriptor: &EnumDescriptor) -> Self {
        let outer = Self::of_scope(descriptor.parent_message(), &descriptor.parent_file());
        outer.overlaid(&descriptor.options())
    }

    fn of_slot(slot: &impl Slot) -> Self {
        let outer = Self::of_scope(slot.scope(), &slot.file());
        if slot.proto().options.is_none() { outer } else { outer.overlaid(&slot.options()) }
    }

    fn of_scope(message: Option<MessageDescriptor>, file: &FileDescriptor) -> Self {
        message.map_or_else(|| Self::of_file(file), |message| Self::of_message(&message))
    }

    /// Returns these features, overridden by those in the options.
    fn overlaid(self, options: &DynamicMessage) -> Self {
        let Some(features) = features_of_options(options) else { return self };
        let mut set = self.clone();
        // If a field occurs twice, the later one wins.
        match set.merge(features.encode_to_vec().as_slice()) {
            Ok(()) => set,
            // The pool defines FeatureSet differently from Protobuf.
            Err(_) => self,
        }
    }

    /// Returns whether JSON is fully supported; before editions, the option had the feature's role.
    fn allows_json(&self, options: &DynamicMessage) -> bool {
        self.json_format == Some(JSON_ALLOW) && flag(options, "deprecated_legacy_json_field_conflicts") != Some(true)
    }

    fn verifies_utf8(&self) -> bool {
        self.utf8_validation == Some(UTF8_VERIFY)
    }

    fn java_verifies_utf8(&self, file: &FileDescriptor) -> bool {
        let option = file.file_descriptor_proto().options.as_ref().and_then(|options| options.java_string_check_utf8);
        let feature = || self.java.as_ref().and_then(|java| java.utf8_validation) == Some(JAVA_UTF8_VERIFY);
        self.verifies_utf8() || option.unwrap_or_else(feature)
    }

    fn cpp_string(&self, slot: &impl Slot) -> CppString {
        let declared = slot.proto().options.as_ref().filter(|options| options.ctype.is_some());
        match declared.map(|options| options.ctype()) {
            Some(CType::Cord) => return CppString::Cord,
            Some(CType::StringPiece) => return CppString::StringPiece,
            Some(CType::String) => return CppString::String,
            None => {}
        }
        match self.cpp.as_ref().and_then(|cpp| cpp.string_type) {
            Some(CPP_VIEW) => CppString::View,
            Some(CPP_CORD) => CppString::Cord,
            _ => CppString::String,
        }
    }
}

impl Differ<'_> {
    pub(super) fn json_format_of_message(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) {
        let allows = |message: &MessageDescriptor| FeatureSet::of_message(message).allows_json(&message.options());
        self.json_format(new, "message", allows(old), allows(new));
    }

    pub(super) fn json_format_of_enum(&mut self, old: &EnumDescriptor, new: &EnumDescriptor) {
        let allows = |descriptor: &EnumDescriptor| FeatureSet::of_enum(descriptor).allows_json(&descriptor.options());
        self.json_format(new, "enum", allows(old), allows(new));
    }

    fn json_format(&mut self, new: &impl Element, what: &str, was: bool, is: bool) {
        if was && !is {
            let message = format!("{what} {}: JSON was fully supported, now it is best effort", new.name());
            self.add(&rules::JSON_FORMAT, About::new(new), message);
        }
    }

    /// Compares how generated code represents texts, and whether it validates them.
    pub(super) fn texts(&mut self, old: &impl Slot, new: &impl Slot) {
        if !is_text(&old.kind()) || !is_text(&new.kind()) {
            return;
        }
        let (was, is) = (FeatureSet::of_slot(old), FeatureSet::of_slot(new));
        let name = new.name();
        if !old.is_map() && !new.is_map() {
            let (was, is) = (was.cpp_string(old), is.cpp_string(new));
            // Generated code has the same type for STRING_PIECE as for STRING.
            if was != is && (was, is) != (CppString::StringPiece, CppString::String) {
                let message = format!("{name}: C++ had {}, now it has {}", was.name(), is.name());
                self.add(&rules::FIELD_CPP_STRING, About::new(new), message);
            }
        }
        if !is_string(&old.kind()) || !is_string(&new.kind()) {
            return;
        }
        let shown = |checks: bool| if checks { "checked" } else { "not checked" };
        if was.verifies_utf8() != is.verifies_utf8() {
            let (was, is) = (shown(was.verifies_utf8()), shown(is.verifies_utf8()));
            let message = format!("{name}: UTF-8 was {was}, now it is {is}");
            self.add(&rules::FIELD_UTF8, About::new(new), message);
        }
        let (was, is) = (was.java_verifies_utf8(&old.file()), is.java_verifies_utf8(&new.file()));
        if was != is {
            let message = format!("{name}: UTF-8 was {} in Java, now it is {}", shown(was), shown(is));
            self.add(&rules::FIELD_JAVA_UTF8, About::new(new), message);
        }
    }
}

/// Returns whether it is a string or bytes, or a map with one of them.
fn is_text(kind: &Kind) -> bool {
    matches!(kind, Kind::Bytes) || is_string(kind)
}

/// Returns whether it is a string, or a map with one.
fn is_string(kind: &Kind) -> bool {
    match kind {
        Kind::String => true,
        Kind::Message(entry) if entry.is_map_entry() => [entry.map_entry_key_field(), entry.map_entry_value_field()]
            .iter()
            .any(|field| field.kind() == Kind::String),
        _ => false,
    }
}
