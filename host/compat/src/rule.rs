//! The rules. Each has a stable id, the kind of thing it affects, a severity for each side, and advice.

use serde::Serialize;

/// The kind of thing that a change affects. The first four are in order, from the one that affects most people to the
/// one that affects fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Events in Protobuf's binary format, and what a contract accepts.
    Wire,
    /// Events in JSON too.
    WireJson,
    /// Code generated from a package.
    Package,
    /// Code generated from a file.
    File,
    /// The table, the outputs and the transforms behind a pipeline.
    Sink,
    /// The check itself: its lock file and its suppressions.
    Check,
}

impl Category {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::WireJson => "wire-json",
            Self::Package => "package",
            Self::File => "file",
            Self::Sink => "sink",
            Self::Check => "check",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A kind of change.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The id is stable, because suppressions and dashboards refer to it.
    pub id: &'static str,
    pub category: Category,
    /// The severity for consumers with the new contract that read old events; `None` if they are unaffected.
    pub backward: Option<Severity>,
    /// The severity for consumers with the old contract that read new events; `None` if they are unaffected.
    pub forward: Option<Severity>,
    pub summary: &'static str,
    pub advice: &'static str,
}

/// Returns the rule with that id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.id == id)
}

macro_rules! rules {
    (@side -) => { None };
    (@side $severity:ident) => { Some(Severity::$severity) };
    ($($name:ident $id:literal $category:ident $backward:tt $forward:tt $summary:literal $advice:literal)*) => {
        /// The rules by name, for code that reports them.
        pub mod rules {
            use super::{Category, Rule, Severity};
            $(pub static $name: Rule = Rule {
                id: $id,
                category: Category::$category,
                backward: rules!(@side $backward),
                forward: rules!(@side $forward),
                summary: $summary,
                advice: $advice,
            };)*
        }

        /// All rules.
        pub static RULES: &[&Rule] = &[$(&rules::$name),*];
    };
}

// name, id, category, backward and forward severity (- for none), summary, advice
rules! {
    FIELD_DELETED_NUMBER "field-deleted-number-not-reserved" Wire Error Error
        "a field is gone and its number is free to be used again"
        "reserve the number: a later field that takes it would read old events wrongly"
    FIELD_DELETED_NAME "field-deleted-name-not-reserved" WireJson Error Error
        "a field is gone and its name is free to be used again"
        "reserve the name: a later field of that name would read old JSON wrongly"
    FIELD_DELETED "field-deleted" Package Error Error
        "a field is gone"
        "keep it and mark it [deprecated = true] until no code uses it"
    FIELD_RENUMBERED "field-renumbered" Wire Error Error
        "a field has another number"
        "give it its old number back; encoded events contain the number"
    FIELD_TYPE "field-type-changed" Wire Error Error
        "a field's type is now one with another encoding"
        "add a field with the new type and a number of its own, and fill both until all have moved"
    FIELD_TYPE_NARROWED "field-type-narrowed" Wire Warning Warning
        "a field's new type can read old events, but some values change"
        "make sure that no event holds such a value, or add a field with the new type"
    FIELD_TYPE_JSON "field-type-changed-json" WireJson Error Error
        "a field's type reads the same bytes, but is written differently in JSON"
        "add a field with the new type, unless no event of this contract is JSON"
    FIELD_TYPE_SOURCE "field-type-changed-source" Package Error Error
        "a field has another type in generated code"
        "add a field with the new type, or change the code that uses it together with the contract"
    FIELD_CARDINALITY "field-cardinality-changed" Wire Error Error
        "a field that was single is now repeated, or the other way round"
        "add a repeated field with a number of its own, and fill both until all have moved"
    FIELD_CARDINALITY_JSON "field-cardinality-changed-json" WireJson Error Error
        "a map is now a repeated message or the other way round: the same bytes, other JSON"
        "keep the map; an object cannot be read as a list"
    FIELD_PRESENCE "field-presence-changed" Package Error Error
        "whether an unset field can be distinguished from an empty one has changed"
        "keep `optional` as it was; with a mapped column it decides between NULL and the empty value"
    FIELD_REQUIRED_ADDED "field-required-added" Wire Error -
        "a field is now required: events without it are rejected"
        "leave it optional; consumers that need it can check it, and old events stay readable"
    FIELD_REQUIRED_REMOVED "field-required-removed" Wire - Error
        "a required field is now optional or gone: consumers with the old contract reject events without it"
        "upgrade every consumer before a producer leaves it out"
    FIELD_DEFAULT "field-default-changed" Wire Error Error
        "the default of a field has changed: events without it now read as another value"
        "keep the default; add a field if a new one is needed"
    FIELD_RENAMED "field-renamed" WireJson Error Error
        "a field has another name"
        "keep the name: JSON producers write it, mappings and transforms name it"
    FIELD_JSON_NAME "field-json-name-changed" WireJson Error Error
        "a field's name in JSON has changed"
        "keep json_name; events in JSON hold it"
    FIELD_INTO_ONEOF "field-moved-into-oneof" Wire Error -
        "a field is now in a oneof with fields that could be set beside it"
        "leave it outside: an old event that has both loses one"
    FIELD_INTO_NEW_ONEOF "field-moved-into-new-oneof" Package Error Error
        "a field is now alone, or with new fields only, in a new oneof"
        "events stay readable; change the code that uses the field together with the contract"
    FIELD_OUT_OF_ONEOF "field-moved-out-of-oneof" Wire - Error
        "a field has left its oneof: consumers with the old contract lose the others when it is set too"
        "leave it inside, or upgrade every consumer before a producer sets both"
    FIELD_BETWEEN_ONEOFS "field-moved-between-oneofs" Wire Error Error
        "a field is in another oneof"
        "leave it where it was; the fields that exclude it have changed for events on both sides"
    FIELD_PACKING "field-packing-changed" Wire Info Info
        "a repeated field is packed now, or no longer"
        "nothing, if all consumers use a current Protobuf library: they read both"
    FIELD_JSTYPE "field-jstype-changed" Package Error Error
        "a field's type in JavaScript has changed"
        "keep jstype, or change the code that uses the field together with the contract"
    FIELD_CPP_STRING "field-cpp-string-type-changed" Package Error Error
        "a field's string type in C++ has changed (`ctype` or `(pb.cpp).string_type`)"
        "keep the type, or change the code that uses the field together with the contract"
    FIELD_UTF8 "field-utf8-validation-changed" Package Error Error
        "whether code checks that a string is UTF-8 has changed: one side rejects what the other accepts"
        "keep features.utf8_validation; where the syntax changes, set it to what the old syntax meant"
    FIELD_JAVA_UTF8 "field-java-utf8-validation-changed" Package Error Error
        "whether Java code checks that a string is UTF-8 has changed"
        "keep java_string_check_utf8 and (pb.java).utf8_validation as they were"
    ONEOF_DELETED "oneof-deleted" Package Error Error
        "a oneof is gone"
        "keep it; code asks it which field is set"
    ONEOF_RENAMED "oneof-renamed" Package Error Error
        "a oneof has another name"
        "keep the name; code uses it"
    ONEOF_VARIANT "oneof-variant-added" Wire - Warning
        "a oneof has a new variant: consumers with the old contract see none set"
        "make sure that consumers treat an unset oneof as unknown, before a producer sends it"
    ENUM_VALUE_NUMBER "enum-value-deleted-number-not-reserved" Wire Error Error
        "an enum value is gone and its number is free to be used again"
        "reserve the number: a later value that takes it would read old events wrongly"
    ENUM_VALUE_NAME "enum-value-deleted-name-not-reserved" WireJson Error Error
        "an enum value is gone and its name is free to be used again"
        "reserve the name: a later value of that name would read old JSON wrongly"
    ENUM_VALUE_IN_EVENTS "enum-value-still-in-events" Wire Warning -
        "old events may hold an enum value that is gone: with unknown_enums: reject they become dead letters"
        "keep the value and mark it [deprecated = true] as long as events with it are kept"
    ENUM_VALUE_DELETED "enum-value-deleted" Package Error Error
        "an enum value is gone"
        "keep it and mark it [deprecated = true] until no code uses it"
    ENUM_VALUE_RENUMBERED "enum-value-renumbered" Wire Error Error
        "an enum value has another number"
        "give it its old number back; encoded events contain the number"
    ENUM_VALUE_RENAMED "enum-value-renamed" WireJson Error Error
        "an enum value has another name"
        "keep the name, or add the new one as an alias (allow_alias): JSON and columns hold names"
    ENUM_VALUE_ADDED "enum-value-added" Wire - Warning
        "an enum has a new value: consumers with the old contract may reject it"
        "upgrade the consumers first, or make sure that they can handle an unknown number"
    ENUM_DEFAULT "enum-default-changed" Wire Error Error
        "the value that an unset enum field reads as has changed"
        "keep the first value and its number"
    ENUM_CLOSEDNESS "enum-closedness-changed" Wire Warning Warning
        "an enum was open and is closed, or the other way round: consumers treat unknown numbers differently"
        "make sure that no event holds a number that the enum does not name, or keep the enum as it was"
    ENUM_CLOSEDNESS_SOURCE "enum-closedness-changed-source" Package Error Error
        "an enum was open and is closed, or the other way round: generated code has another type"
        "keep the file's syntax, or set features.enum_type to what the old syntax meant"
    ENUM_DELETED "enum-deleted" Package Error Error
        "an enum is gone"
        "keep it until no code uses it"
    RESERVED_NUMBER "reserved-number-removed" Wire Error Error
        "a reserved number is free to be used again"
        "keep the reservation for as long as there may be events that hold the number"
    RESERVED_NAME "reserved-name-removed" WireJson Error Error
        "a reserved name is free to be used again"
        "keep the reservation for as long as there may be JSON that holds the name"
    MESSAGE_DELETED "message-deleted" Wire Error Error
        "a message type is gone: nothing can read its events any more"
        "keep it until its last event is gone; a new shape is a new message type"
    JSON_FORMAT "json-format-changed" WireJson Error Error
        "JSON was fully supported and is best effort now: names in JSON are no longer checked for conflicts"
        "keep the syntax and features.json_format as they were"
    MESSAGE_ACCESSOR "message-descriptor-accessor-removed" Package Error Error
        "generated code no longer has the standard accessor of a message's descriptor"
        "leave no_standard_descriptor_accessor unset"
    MESSAGE_SET "message-set-changed" Wire Error Error
        "message_set_wire_format has changed: another encoding"
        "keep the option as it was"
    EXTENSION_DELETED "extension-deleted" Package Error Error
        "an extension is gone"
        "keep it until no code uses it"
    EXTENSION_CHANGED "extension-changed" Wire Error Error
        "an extension has another number or extends another message"
        "add an extension with a name of its own"
    EXTENSION_RENAMED "extension-renamed" WireJson Error Error
        "an extension has another name"
        "keep the name: JSON holds it, and code uses it"
    EXTENSION_RANGE "extension-range-removed" Package Error Error
        "numbers are no longer open to extensions"
        "keep the range; extensions elsewhere use it"
    ELEMENT_MOVED "element-moved" File Error Error
        "a type is in another file of the same package"
        "move it back, or change all imports of it together with the contract"
    FILE_DELETED "file-deleted" File Error Error
        "a file is gone"
        "keep the file, even if it only imports the files that now have its content"
    PACKAGE_DELETED "package-deleted" Package Error Error
        "a package is gone"
        "keep it until no code and no event uses it"
    PACKAGE_CHANGED "file-package-changed" Wire Error Error
        "a file belongs to another package: all its types have other names"
        "add a file with the new package beside it; a new major version is a new package"
    SYNTAX "file-syntax-changed" Package Error Error
        "a file's syntax has changed, and with it presence, defaults and unknown enum numbers"
        "keep the syntax"
    FILE_OPTION "file-option-changed" Package Error Error
        "an option that affects generated code has changed"
        "keep the option as it was"
    SERVICE_DELETED "service-deleted" Package Error Error
        "a service is gone"
        "keep it until no client uses it"
    METHOD_DELETED "method-deleted" Package Error Error
        "a method is gone"
        "keep it until no client uses it"
    METHOD_TYPES "method-type-changed" Wire Error Error
        "a method has another request or response type"
        "add a method of its own"
    METHOD_STREAMING "method-streaming-changed" Wire Error Error
        "a method now streams, or no longer streams"
        "add a method of its own"
    METHOD_IDEMPOTENCY "method-idempotency-changed" Wire Error Error
        "a method's idempotency level has changed"
        "keep it; clients use it to decide what they may retry"
    RULE_REQUIRED_ADDED "rule-required-added" Wire Error -
        "a rule now requires a field: events without it become dead letters"
        "make producers fill it first, and start the rule in observe mode"
    RULE_REQUIRED_REMOVED "rule-required-removed" Wire Info Error
        "a rule no longer requires a field: consumers with the old contract reject events without it"
        "upgrade every consumer before a producer leaves it out"
    RULE_TIGHTENED "rule-tightened" Wire Error -
        "a rule rejects values that it accepted before: old events become dead letters"
        "make producers comply with it first, and start the rule in observe mode"
    RULE_MAY_BE_TIGHTENED "rule-may-be-tightened" Wire Warning Warning
        "a rule has changed in a way whose effect cannot be determined: pattern or CEL"
        "try it on recorded events, and start it in observe mode"
    RULE_LOOSENED "rule-loosened" Sink Info Error
        "a rule accepts values that it rejected before: the table and consumers with the old contract receive new values"
        "make sure that columns and consumers accept them before a producer sends them"
    SINK_MESSAGE "sink-message-deleted" Sink Error Error
        "a message type that the pipeline names is gone"
        "keep it, or change contract.message or output.contract with it"
    SINK_FIELD "sink-field-deleted" Sink Error Error
        "a field that a column, the key or the output is made of is gone"
        "keep the field, or change the mapping with it: a column without a source stays as it is"
    SINK_CONVERSION "sink-conversion-changed" Sink Error Error
        "a column's conversion or type no longer fits its field"
        "migrate the column first, or map the new field to a new column"
    SINK_KEY_NULL "sink-key-may-be-null" Sink Error Error
        "a key column can now be NULL, which a primary key rejects"
        "keep the field without `optional`, or require it by a rule"
    SINK_COLUMN_NULL "sink-column-may-be-null" Sink Warning Warning
        "a column that held the empty value can now be NULL"
        "make sure that the column allows NULL, and that queries expect it"
    SINK_ENUM_TEXT "sink-enum-text-changed" Sink Error Error
        "an enum value is stored by its name, which has changed: existing rows keep the old name"
        "keep the name, or update the rows together with the contract"
    TRANSFORM_MESSAGE "transform-message-deleted" Sink Error Error
        "a message type that a component reads or emits is gone"
        "build the component against the new contract, or keep the type"
    TRANSFORM_CONTRACT "transform-contract-changed" Sink Warning Warning
        "a component was built for a message type that has changed since"
        "run `tollgate test` on it, and build it again if it emits messages of that type"
    FIELD_REMOVED_WITHOUT_NOTICE "field-removed-without-notice" Wire Error Error
        "a field or enum value is gone that was not deprecated long enough before (`deprecate_for`)"
        "put it back, deprecate it, and release that as often as `deprecate_for` says: `tollgate contract lock`"
    RELEASED_CHANGED "released-version-changed" Check Error Error
        "a contract is not what was released under its version"
        "undo the change, or release it as a new version: `tollgate contract lock`"
    RELEASED_REMOVED "released-version-removed" Check Error Error
        "the lock file has lost a released version"
        "put the line back: released versions stay listed"
    SUPPRESSION_EXPIRED "suppression-expired" Check Error Error
        "a suppression has expired"
        "fix what it suppresses, or give it a new date and a reason for it"
    SUPPRESSION_UNUSED "suppression-unused" Check Warning Warning
        "a suppression does not match any finding"
        "remove it"
}
