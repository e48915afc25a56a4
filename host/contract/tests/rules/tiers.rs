//! Compares the walk over the wire bytes with the reference evaluator: both must reach the same verdict on the same
//! bytes, however these are split.
//!
//! Values come from small pools, so that most of them satisfy their rules and some payloads pass. Messages are written
//! in parts, fields twice, oneofs changed, lists packed and not, map keys repeated, and zeros sent, since these are the
//! difficult cases of the walk.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use prost_reflect::prost::encoding::encode_varint;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use tollgate_contract::{Contract, Fields, ReasonCode};

use super::agreement::agree;
use super::{contract, pool};

/// The maximum nesting depth of generated messages.
const DEPTH: u32 = 3;

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(value, &mut out);
    out
}

fn delimited(inner: Vec<u8>) -> Vec<u8> {
    [varint(inner.len() as u64), inner].concat()
}

/// Generates a value with its wire type.
fn any_value(kind: &Kind, depth: u32) -> BoxedStrategy<(u64, Vec<u8>)> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(|value| (0, varint(u64::from(value)))).boxed(),
        Kind::Sint32 | Kind::Sint64 => select(vec![0_u64, 3, 4, 6, 10]).prop_map(|value| (0, varint(value))).boxed(),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Enum(_) => {
            prop_oneof![9 => 0_u64..4, 1 => Just((-1_i64).cast_unsigned())].prop_map(|value| (0, varint(value))).boxed()
        }
        Kind::Fixed32 | Kind::Sfixed32 => (0_u32..3).prop_map(|value| (5, value.to_le_bytes().to_vec())).boxed(),
        Kind::Fixed64 | Kind::Sfixed64 => (0_u64..3).prop_map(|value| (1, value.to_le_bytes().to_vec())).boxed(),
        Kind::Float => {
            select(vec![0.0_f32, -0.0, 1.5, 2.0, f32::NAN]).prop_map(|value| (5, value.to_le_bytes().to_vec())).boxed()
        }
        Kind::Double => select(vec![0.0_f64, -0.0, 1.5, 3.0, f64::NAN, f64::NEG_INFINITY])
            .prop_map(|value| (1, value.to_le_bytes().to_vec()))
            .boxed(),
        Kind::String => select(vec!["", "a", "b", "ab", "abc", "aäöü", "abcde", "B"])
            .prop_map(|text| (2, delimited(text.as_bytes().to_vec())))
            .boxed(),
        Kind::Bytes => vec(any::<u8>(), 0..4).prop_map(|bytes| (2, delimited(bytes))).boxed(),
        Kind::Message(inner) => any_message(inner, depth + 1).prop_map(|bytes| (2, delimited(bytes))).boxed(),
    }
}

fn any_field(field: &FieldDescriptor, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let number = u64::from(field.number());
    let single = any_value(&field.kind(), depth);
    let plain = single.clone().prop_map(move |(wire, raw)| [varint(number << 3 | wire), raw].concat());
    if field.is_list() && !matches!(field.kind(), Kind::Message(_) | Kind::String | Kind::Bytes) {
        let packed = vec(single, 0..3).prop_map(move |items| {
            let inner: Vec<u8> = items.into_iter().flat_map(|(_, raw)| raw).collect();
            [varint(number << 3 | 2), delimited(inner)].concat()
        });
        return prop_oneof![plain, packed].boxed();
    }
    plain.boxed()
}

/// Generates fields in any order and number, with messages in one or more parts.
fn any_message(message: &MessageDescriptor, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let fields: Vec<_> = message
        .fields()
        .filter(|field| depth < DEPTH || !matches!(field.kind(), Kind::Message(_)))
        .map(|field| any_field(&field, depth))
        .collect();
    let some = vec(proptest::strategy::Union::new(fields.clone()), 0..6).prop_map(|fields| fields.concat());
    if depth > 0 {
        return some.boxed();
    }
    // At the top level most fields occur once, because otherwise hardly any payload would have all required fields.
    let each: Vec<_> = fields.into_iter().map(|field| prop_oneof![4 => field, 1 => Just(Vec::new())]).collect();
    (each, some).prop_map(|(each, some)| [each.concat(), some].concat()).boxed()
}

struct Ruled {
    contract: Contract,
    message: MessageDescriptor,
}

impl Ruled {
    fn new(name: &str) -> Self {
        Self { contract: contract(name), message: pool().get_message_by_name(name).unwrap() }
    }

    /// The payloads here are valid bytes, so a payload is refused only for a rule.
    fn agree(&self, payload: &[u8]) {
        agree(&self.contract, payload, now()).unwrap();
        if let Err(rejection) = self.contract.check_at(payload, &mut Fields::new(), now()) {
            assert_eq!(rejection.code, ReasonCode::RuleViolated, "{rejection}");
        }
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(2)
}

static FAST: LazyLock<Ruled> = LazyLock::new(|| Ruled::new("ruled.v1.Fast"));
static INNER: LazyLock<Ruled> = LazyLock::new(|| Ruled::new("ruled.v1.Inner"));
static SLOW: LazyLock<Ruled> = LazyLock::new(|| Ruled::new("ruled.v1.Slow"));
static CLOCK: LazyLock<Ruled> = LazyLock::new(|| Ruled::new("ruled.v1.Clock"));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn both_tiers_agree_on_what_the_walk_decides(payload in any_message(&FAST.message, 0)) {
        FAST.agree(&payload);
    }

    #[test]
    fn both_tiers_agree_on_recursive_messages(payload in any_message(&INNER.message, 0)) {
        INNER.agree(&payload);
    }

    #[test]
    fn both_tiers_agree_on_what_the_walk_leaves_alone(payload in any_message(&SLOW.message, 0)) {
        SLOW.agree(&payload);
    }

    #[test]
    fn both_tiers_agree_on_the_present(payload in any_message(&CLOCK.message, 0)) {
        CLOCK.agree(&payload);
    }
}

/// Returns a valid payload in pieces, so that a case can change one of them.
fn good() -> Vec<u8> {
    let fields: [&[u8]; 6] =
        [b"\x0a\x01t", b"\x3a\x01a", b"\x4a\x05\x1d\x01\x00\x00\x00", b"\x5a\x01a", b"\xa0\x01\x01", b"\xa8\x01\x0e"];
    fields.concat()
}

#[test]
fn merging_is_seen() {
    let passes = |extra: &[u8]| {
        let payload = [good(), extra.to_vec()].concat();
        FAST.agree(&payload);
        FAST.contract.check(&payload, &mut Fields::new()).is_ok()
    };
    assert!(passes(b""));
    // `small` occurs twice: the last one counts.
    assert!(passes(b"\x10\x09\x10\x01") && !passes(b"\x10\x01\x10\x09"));
    // `agreed` is taken back: a zero without presence is not set.
    assert!(!passes(b"\xa0\x01\x00") && passes(b"\xa0\x01\x00\xa0\x01\x01"));
    // `inner` has two parts that contain too many `few` only together.
    assert!(passes(b"\x4a\x04\x12\x02\x01\x02") && !passes(b"\x4a\x04\x12\x02\x01\x02\x4a\x03\x12\x01\x03"));
    // `counts` has three entries with two keys; in the third case another key is added.
    let entries = b"\x42\x05\x0a\x01a\x10\x01\x42\x05\x0a\x01b\x10\x01";
    assert!(passes(&[&entries[..], b"\x42\x05\x0a\x01a\x10\x02"].concat()));
    assert!(!passes(&[&entries[..], b"\x42\x05\x0a\x01c\x10\x02"].concat()));
    // A later entry replaces the bad value of an earlier one.
    assert!(passes(b"\x42\x05\x0a\x01a\x10\x00\x42\x05\x0a\x01a\x10\x01") && !passes(b"\x42\x05\x0a\x01a\x10\x00"));
    // The rule of a replaced oneof member does not count, that of the replacing one does.
    assert!(passes(b"\x5a\x01b\x68\x01") && !passes(b"\x68\x01\x5a\x01b"));
    // A Timestamp in two parts is valid only when they are merged.
    assert!(passes(b"\x7a\x02\x08\x01\x7a\x02\x10\x05") && !passes(b"\x7a\x02\x08\x01"));
    // Packed and unpacked elements count as one list.
    assert!(passes(b"\x32\x02\x01\x02\x30\x01") && !passes(b"\x32\x02\x01\x02\x30\x01\x30\x01"));
}
