//! Compares the plan with prost-reflect's dynamic message: they must accept the same payloads and read the same values.
//!
//! Payloads are generated along the schema, so that deep and merged messages occur, and are then damaged byte by byte.
//! `reference` defines the expected results, including where the gate is deliberately stricter. `fuzz/` runs the same
//! comparison for longer.

use std::sync::LazyLock;

use super::common::{bytes, contract, group, pool, tag, varint};
use super::reference::judge;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use tollgate_contract::{Contract, Policies, UnknownEnums, UnknownFields};

/// The wanted paths: every kind of field, some of them below messages, in lists, in maps, in oneofs.
const RICH: &[&str] = &[
    "flag",
    "i32",
    "i64",
    "u32",
    "u64",
    "s32",
    "s64",
    "f32",
    "f64",
    "sf32",
    "sf64",
    "float",
    "double",
    "text",
    "blob",
    "color",
    "payer",
    "maybe",
    "packed",
    "unpacked",
    "tags",
    "colors",
    "payers",
    "counts",
    "by_id",
    "shades",
    "choice_text",
    "choice_payer",
    "choice_number",
    "at",
    "took",
    "child",
    "doubles",
    "far",
    "payer.name",
    "payer.address",
    "payer.past",
    "payer.address.city",
    "payer.address.zip",
    "payer.address.lines",
    "choice_payer.name",
    "choice_payer.address.lines",
    "choice_payer.past",
    "child.i64",
    "child.choice_text",
    "child.choice_number",
    "child.child.tags",
    "child.payer.name",
];
const LEGACY: &[&str] = &[
    "name",
    "mode",
    "numbers",
    "inner",
    "inners",
    "inner.id",
    "inner.note",
    "named",
    "pick_inner",
    "pick_inner.id",
    "pick_text",
];

struct Pair {
    plain: Contract,
    /// A contract with both policies reversed: unknown fields are refused, unknown enums kept.
    flipped: Contract,
}

impl Pair {
    fn new(message: &str, paths: &'static [&'static str]) -> Self {
        let flipped = Policies {
            unknown_fields: UnknownFields::Reject,
            unknown_enums: UnknownEnums::Keep,
            ..Policies::default()
        };
        Self { plain: contract(message, Policies::default(), paths), flipped: contract(message, flipped, paths) }
    }
}

static RICH_PAIR: LazyLock<Pair> = LazyLock::new(|| Pair::new("rich.v1.Rich", RICH));
static LEGACY_PAIR: LazyLock<Pair> = LazyLock::new(|| Pair::new("legacy.v1.Legacy", LEGACY));

fn any_varint() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        4 => (0_u64..4).prop_map(varint),
        2 => any::<u64>().prop_map(varint),
        1 => any::<i32>().prop_map(|n| varint(i64::from(n).cast_unsigned())),
        1 => select(vec![vec![0x80, 0x00], vec![0xff, 0xff, 0xff, 0xff, 0x0f], [vec![0xff; 9], vec![0x01]].concat()]),
    ]
    .boxed()
}

/// Generates a value of that kind with its wire type.
fn any_value(kind: &Kind, depth: u32) -> BoxedStrategy<(u64, Vec<u8>)> {
    let prefixed = |inner: Vec<u8>| (2, [varint(inner.len() as u64), inner].concat());
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => any::<[u8; 8]>().prop_map(|raw| (1, raw.to_vec())).boxed(),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => any::<[u8; 4]>().prop_map(|raw| (5, raw.to_vec())).boxed(),
        Kind::String => "[a-zß€]{0,12}".prop_map(move |text| prefixed(text.into_bytes())).boxed(),
        Kind::Bytes => vec(any::<u8>(), 0..12).prop_map(prefixed).boxed(),
        Kind::Message(inner) => any_message(inner, depth + 1).prop_map(prefixed).boxed(),
        Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Sint64 => {
            any_varint().prop_map(|raw| (0, raw)).boxed()
        }
        Kind::Enum(names) => {
            let numbers: Vec<u64> = names.values().map(|value| i64::from(value.number()).cast_unsigned()).collect();
            prop_oneof![30 => select(numbers), 1 => 0_u64..2000].prop_map(|number| (0, varint(number))).boxed()
        }
    }
}

fn any_field(field: &FieldDescriptor, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let number = u64::from(field.number());
    let kind = field.kind();
    if let (true, Kind::Message(inner)) = (field.is_group(), &kind) {
        return any_message(inner, depth + 1).prop_map(move |inner| group(number, &inner)).boxed();
    }
    let single = any_value(&kind, depth);
    let plain = single.clone().prop_map(move |(wire, raw)| [tag(number, wire), raw].concat());
    if field.is_list() && !matches!(kind, Kind::Message(_) | Kind::String | Kind::Bytes) {
        let packed = vec(single, 0..4)
            .prop_map(move |items| bytes(number, &items.into_iter().flat_map(|(_, raw)| raw).collect::<Vec<_>>()));
        return prop_oneof![plain, packed].boxed();
    }
    plain.boxed()
}

/// Generates fields in any order, some of them twice, some unknown.
fn any_message(message: &MessageDescriptor, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let fields: Vec<_> = message
        .fields()
        .filter(|field| depth < 3 || !matches!(field.kind(), Kind::Message(_)))
        // Groups are left out, because most payloads would contain one and be refused.
        .filter(|field| !field.is_group())
        .map(|field| any_field(&field, depth))
        .collect();
    let groups: Vec<_> =
        message.fields().filter(|field| field.is_group() && depth < 3).map(|field| any_field(&field, depth)).collect();
    let unknown = prop_oneof![
        any_varint().prop_map(|raw| [tag(777, 0), raw].concat()),
        vec(any::<u8>(), 0..6).prop_map(|raw| bytes(15_000, &raw)),
        Just(group(778, &group(5, &bytes(1, b"x")))),
    ];
    let mut choices = vec![(30, proptest::strategy::Union::new(fields).boxed()), (1, unknown.boxed())];
    if !groups.is_empty() {
        choices.push((1, proptest::strategy::Union::new(groups).boxed()));
    }
    vec(proptest::strategy::Union::new_weighted(choices), 0..8).prop_map(|parts| parts.concat()).boxed()
}

/// Generates a payload of the message type; half of the payloads are damaged.
fn payload(message: &str) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<Index>(), any::<u8>(), 0_u8..5);
    let whole = any_message(&pool().get_message_by_name(message).unwrap(), 0);
    (whole, prop_oneof![Just(vec![]), vec(edit, 1..4)]).prop_map(|(mut payload, edits)| {
        for (at, byte, how) in edits {
            let at = at.index(payload.len() + 1);
            match how {
                0 => payload.truncate(at),
                1 => payload.insert(at, byte),
                2 if at < payload.len() => drop(payload.remove(at)),
                3 if at < payload.len() => payload[at] ^= 1 << (byte & 7),
                _ if at < payload.len() => payload[at] = byte,
                _ => payload.push(byte),
            }
        }
        payload
    })
}

/// Compares both contracts' verdicts and values of a payload with the reference.
fn check_one(pair: &Pair, payload: &[u8]) -> Result<(), TestCaseError> {
    judge(&pair.plain, payload).and_then(|()| judge(&pair.flipped, payload)).map_err(TestCaseError::fail)
}

fn config() -> ProptestConfig {
    // This takes seconds in CI; PROPTEST_CASES raises the number for a long run.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn proto3_agrees_with_the_reference(payload in payload("rich.v1.Rich")) {
        check_one(&RICH_PAIR, &payload)?;
    }

    #[test]
    fn proto2_agrees_with_the_reference(payload in payload("legacy.v1.Legacy"), name in any::<bool>()) {
        let payload = if name { [payload, bytes(1, b"n")].concat() } else { payload };
        check_one(&LEGACY_PAIR, &payload)?;
    }

    #[test]
    fn random_bytes_never_panic_and_get_one_verdict(payload in vec(any::<u8>(), 0..200)) {
        check_one(&RICH_PAIR, &payload)?;
        check_one(&LEGACY_PAIR, &payload)?;
    }

    #[test]
    fn what_json_says_is_what_the_bytes_say(payload in payload("rich.v1.Rich")) {
        let contract = &RICH_PAIR.flipped;
        let Ok(json) = contract.to_json(&payload) else { return Ok(()) };
        let mut wire = vec![];
        contract.transcode_json(json.as_bytes(), &mut wire)
            .map_err(|rejection| TestCaseError::fail(format!("{rejection} for {json}")))?;
        prop_assert_eq!(contract.to_json(&wire).ok(), Some(json));
    }

    #[test]
    fn random_json_never_panics(json in "[\\[\\]{}\":,a-z0-9 .-]{0,60}") {
        let mut wire = vec![];
        let first = RICH_PAIR.plain.transcode_json(json.as_bytes(), &mut wire);
        prop_assert_eq!(first, RICH_PAIR.plain.transcode_json(json.as_bytes(), &mut wire));
    }
}
