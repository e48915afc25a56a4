//! The contracts from which the targets select.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use tollgate_contract::{
    Contract, FieldPath, Policies, UnknownEnums, UnknownFields, UnknownVariants, UnsetOneofs, lower_editions,
};

use crate::arrival;
use crate::choices::Choices;

/// The depth of wanted fields; the next constant is their number. More would only slow the comparison down.
const WANTED_DEPTH: usize = 3;
const WANTED: usize = 48;

/// Message types without rules, and the payments with theirs.
const PLAIN: &[&str] = &[
    "rich.v1.Rich",
    "legacy.v1.Legacy",
    "maps.v1.Maps",
    "closed.v1.Closed",
    "edition.v1.Edition",
    "payments.v1.PaymentEvent",
];
const RULED: &[&str] = &[
    "ruled.v1.Fast",
    "ruled.v1.Inner",
    "ruled.v1.Slow",
    "ruled.v1.Clock",
    "ruled.v1.Many",
    "payments.v1.PaymentEvent",
];

/// A message type under several policies.
pub struct Schema {
    pub message: MessageDescriptor,
    pub contracts: Vec<Contract>,
}

impl Schema {
    fn new(pool: &DescriptorPool, name: &str, policies: &dyn Fn(&MessageDescriptor) -> Vec<Policies>) -> Schema {
        let message = pool.get_message_by_name(name).unwrap_or_else(|| panic!("there is no {name}"));
        let mut paths = Vec::new();
        wanted(&message, "", 1, &mut paths);
        // The deep fields come last, but some of them are kept.
        paths.sort_by_key(|path| path.as_str().matches('.').count());
        let kept = paths.len().div_ceil(WANTED);
        let paths: Vec<FieldPath> = paths.into_iter().step_by(kept).collect();
        let compile = |policies: &Policies| {
            Contract::compile(pool, name, policies.clone(), &paths).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let contracts = policies(&message).iter().map(compile).collect();
        Schema { message, contracts }
    }
}

/// Collects the paths of fields through singular messages.
fn wanted(message: &MessageDescriptor, head: &str, depth: usize, paths: &mut Vec<FieldPath>) {
    for field in message.fields().filter(|field| !field.is_group()) {
        let path = format!("{head}{}", field.name());
        paths.push(FieldPath::new(path.clone()));
        if let Kind::Message(inner) = field.kind()
            && depth < WANTED_DEPTH
            && !field.is_list()
            && !field.is_map()
        {
            wanted(&inner, &format!("{path}."), depth + 1, paths);
        }
    }
}

/// Returns the policies that the walk applies, a low nesting limit, and the policies for arrival.
fn policies(message: &MessageDescriptor) -> Vec<Policies> {
    let usual = Policies::default();
    let flipped =
        Policies { unknown_fields: UnknownFields::Reject, unknown_enums: UnknownEnums::Keep, ..Policies::default() };
    let strict = Policies { unknown_fields: UnknownFields::Reject, recursion_limit: 4, ..Policies::default() };
    let open = Policies { unknown_enums: UnknownEnums::Keep, recursion_limit: 1, ..Policies::default() };
    let oneofs = Policies {
        unknown_fields: UnknownFields::Warn,
        unset_oneofs: UnsetOneofs::Reject,
        unknown_variants: UnknownVariants::Reject,
        ..Policies::default()
    };
    let mut fallbacks = BTreeMap::new();
    enums(message, &mut BTreeSet::new(), &mut fallbacks);
    let mending = Policies { unknown_enums: UnknownEnums::Fallback(fallbacks), ..Policies::default() };
    vec![usual, flipped, strict, open, oneofs, mending]
}

/// Collects every enum that the message reaches, with its fallback.
fn enums(message: &MessageDescriptor, seen: &mut BTreeSet<String>, fallbacks: &mut BTreeMap<String, String>) {
    if !seen.insert(message.full_name().to_owned()) {
        return;
    }
    let fields = message.fields().map(|field| field.kind());
    for kind in fields.chain(message.extensions().map(|extension| extension.kind())) {
        match kind {
            Kind::Message(inner) => enums(&inner, seen, fallbacks),
            Kind::Enum(names) => {
                let fallback = arrival::fallback(&names).map(|(name, _)| name);
                fallbacks.extend(fallback.map(|name| (names.full_name().to_owned(), name)));
            }
            _ => {}
        }
    }
}

pub fn plain() -> Vec<Schema> {
    let (pool, edition) = (pool(), edition());
    let pool_of = |name: &str| if name.starts_with("edition.") { &edition } else { &pool };
    PLAIN.iter().map(|name| Schema::new(pool_of(name), name, &policies)).collect()
}

pub fn ruled() -> Vec<Schema> {
    // The rules decide about unknown enum numbers here.
    let policies = [Policies { unknown_enums: UnknownEnums::Keep, ..Policies::default() }];
    let pool = pool();
    RULED.iter().map(|name| Schema::new(&pool, name, &|_| policies.to_vec())).collect()
}

/// Returns the schema that the first byte selects.
pub fn choose<'s>(schemas: &'s [Schema], choices: &mut Choices<'_>) -> &'s Schema {
    choices.of(schemas)
}

fn compile(files: &[&str]) -> Vec<u8> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let roots = ["schemas", "../host/contract/tests/schemas", "../proto"].map(|folder| here.join(folder));
    let set = protox::Compiler::new(roots).and_then(|mut compiler| {
        compiler.include_imports(true).open_files(files)?;
        Ok(compiler.encode_file_descriptor_set())
    });
    set.unwrap_or_else(|error| panic!("{error:?}"))
}

/// Returns all schemas. A pool keeps options that are extensions (rules) only if it is decoded from bytes.
pub fn pool() -> DescriptorPool {
    let files =
        ["rich.proto", "legacy.proto", "maps.proto", "closed.proto", "ruled.proto", "payments/v1/payment.proto"];
    DescriptorPool::decode(&*compile(&files)).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns `edition.proto` as a file of edition 2023, in which each field has the features that its name or number
/// indicates.
fn edition() -> DescriptorPool {
    let global = DescriptorPool::global();
    let descriptor = global.get_message_by_name("google.protobuf.FileDescriptorSet");
    let descriptor = descriptor.unwrap_or_else(|| panic!("descriptor.proto is not built in"));
    let mut set =
        DynamicMessage::decode(descriptor, &*compile(&["edition.proto"])).unwrap_or_else(|error| panic!("{error}"));
    let file = first(&mut set, "file");
    file.set_field_by_name("syntax", Value::String("editions".into()));
    file.set_field_by_name("edition", Value::EnumNumber(1000));
    let fields = first(file, "message_type").get_field_by_name_mut("field").and_then(Value::as_list_mut);
    for field in fields.into_iter().flatten().filter_map(Value::as_message_mut) {
        let number = field.get_field_by_name("number").and_then(|number| number.as_i32());
        let (feature, value) = match number {
            Some(2) => ("field_presence", 2),
            Some(3) => ("field_presence", 3),
            Some(4 | 11) => ("message_encoding", 2),
            Some(5) => ("repeated_field_encoding", 2),
            _ => continue,
        };
        let Some(Value::Message(options)) = field.get_field_by_name_mut("options") else { continue };
        let Some(Value::Message(features)) = options.get_field_by_name_mut("features") else { continue };
        features.set_field_by_name(feature, Value::EnumNumber(value));
    }
    let set = set.encode_to_vec();
    let lowered = lower_editions(&set).unwrap_or_else(|error| panic!("{error}"));
    DescriptorPool::decode(&*lowered).unwrap_or_else(|error| panic!("{error}"))
}

fn first<'m>(message: &'m mut DynamicMessage, list: &str) -> &'m mut DynamicMessage {
    let items = message.get_field_by_name_mut(list).and_then(Value::as_list_mut);
    items.and_then(|items| items.first_mut()).and_then(Value::as_message_mut).unwrap_or_else(|| panic!("no {list}"))
}
