//! Wire cases with their verdicts: one line for each rule of Protobuf's encoding, or of the gate's.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

use super::common::{bytes, contract, group, int, tag, text, varint};
use tollgate_contract::{Contract, Fields, Policies, Presence, Rejection, Slot, UnknownEnums, UnknownFields, Value};

fn check(contract: &Contract, payload: &[u8]) -> Result<(), Rejection> {
    contract.check(payload, &mut Fields::new())
}

/// Returns `Ok`, or `code field`.
fn verdict(contract: &Contract, payload: &[u8]) -> String {
    match check(contract, payload) {
        Ok(()) => "ok".into(),
        Err(rejection) => format!("{} {}", rejection.code, rejection.field).trim_end().into(),
    }
}

#[track_caller]
fn expect(contract: &Contract, cases: &[(&str, Vec<u8>, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(name, payload, expected)| (name, verdict(contract, payload), expected))
        .filter(|(_, found, expected)| found != *expected)
        .map(|(name, found, expected)| format!("{name}: expected {expected:?}, found {found:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn rich() -> Contract {
    contract("rich.v1.Rich", Policies::default(), &[])
}

fn nested(levels: usize, inner: Vec<u8>) -> Vec<u8> {
    (0..levels).fold(inner, |inner, _| bytes(300, &inner))
}

#[test]
fn varints_tags_and_lengths() {
    let ten = |last: u8| [vec![0x80; 9], vec![last]].concat();
    expect(
        &rich(),
        &[
            ("empty payload", vec![], "ok"),
            ("one-byte varint", int(3, 1), "ok"),
            ("largest varint", int(5, u64::MAX), "ok"),
            ("overlong zero in ten bytes", [tag(3, 0), ten(0)].concat(), "ok"),
            ("ten bytes with bit 63", [tag(3, 0), ten(1)].concat(), "ok"),
            ("ten bytes beyond 64 bits", [tag(3, 0), ten(2)].concat(), "undecodable i64"),
            ("eleven bytes", [tag(3, 0), vec![0x80; 10], vec![0]].concat(), "undecodable i64"),
            ("varint cut off", [tag(3, 0), vec![0x80, 0x80]].concat(), "undecodable i64"),
            ("varint missing", tag(3, 0), "undecodable i64"),
            ("overlong tag", vec![0x98, 0x00, 0x01], "ok"),
            ("tag cut off", vec![0x98], "undecodable"),
            ("tag beyond 32 bits", [varint(1 << 32), vec![0]].concat(), "undecodable"),
            ("field number 0", int(0, 1), "undecodable"),
            ("field number 0, one byte", vec![0x00], "undecodable"),
            ("largest field number, known", text(536_870_911, "x"), "ok"),
            ("largest field number minus one, unknown", int(536_870_910, 1), "ok"),
            ("field number 2^29", int(1 << 29, 1), "undecodable"),
            ("wire type 6", [tag(3, 6), vec![0]].concat(), "undecodable"),
            ("wire type 7", [tag(3, 7), vec![0]].concat(), "undecodable"),
            ("wire type 6 on an unknown field", [tag(200, 6), vec![0]].concat(), "undecodable"),
            ("fixed32 cut off", [tag(8, 5), vec![1, 2, 3]].concat(), "undecodable f32"),
            ("fixed64 cut off", [tag(9, 1), vec![1; 7]].concat(), "undecodable f64"),
            ("double cut off", [tag(13, 1), vec![1; 7]].concat(), "undecodable double"),
            ("length beyond the end", [tag(14, 2), varint(4), b"abc".to_vec()].concat(), "undecodable text"),
            ("length of 2^64-1", [tag(14, 2), varint(u64::MAX)].concat(), "undecodable text"),
            ("length of 2^63", [tag(14, 2), varint(1 << 63), vec![0; 9]].concat(), "undecodable text"),
            ("length missing", tag(14, 2), "undecodable text"),
            ("empty string", text(14, ""), "ok"),
            ("bool of two", int(1, 2), "ok"),
            ("bool in ten bytes", [tag(1, 0), ten(1)].concat(), "ok"),
            ("int32 wider than 32 bits", int(2, u64::MAX >> 8), "ok"),
        ],
    );
}

#[test]
fn wire_types_of_known_fields() {
    expect(
        &rich(),
        &[
            ("varint for a string", int(14, 1), "wrong-wire-type text"),
            ("varint for a double", int(13, 1), "wrong-wire-type double"),
            ("fixed32 for a double", [tag(13, 5), vec![0; 4]].concat(), "wrong-wire-type double"),
            ("fixed64 for a fixed32", [tag(8, 1), vec![0; 8]].concat(), "wrong-wire-type f32"),
            ("string for an int64", text(3, "1"), "wrong-wire-type i64"),
            ("packed for a singular int32", bytes(2, &[1, 2]), "wrong-wire-type i32"),
            ("varint for a message", int(17, 1), "wrong-wire-type payer"),
            ("varint for a map", int(24, 1), "wrong-wire-type counts"),
            ("group for a message", group(17, &[]), "wrong-wire-type payer"),
            ("end tag for a message", tag(17, 4), "undecodable payer"),
            ("wrong even where the bytes are cut off", tag(14, 0), "wrong-wire-type text"),
            ("below a message", bytes(17, &bytes(1, &int(1, 5))), "wrong-wire-type payer.address.city"),
            (
                "in the third payer",
                [bytes(23, &[]), bytes(23, &[]), bytes(23, &int(2, 5))].concat(),
                "wrong-wire-type payers[2].name",
            ),
            ("in a map's key", bytes(24, &int(1, 5)), "wrong-wire-type counts.key"),
            ("in a map's value", bytes(24, &[text(1, "k"), text(2, "v")].concat()), "wrong-wire-type counts[\"k\"]"),
            ("beyond the dense numbers", int(5000, 1), "wrong-wire-type doubles"),
        ],
    );
}

#[test]
fn repeated_fields_packed_and_not() {
    expect(
        &rich(),
        &[
            ("packed", bytes(19, &[1, 2, 3]), "ok"),
            ("unpacked where packed is declared", [int(19, 1), int(19, 2)].concat(), "ok"),
            ("packed where unpacked is declared", bytes(20, &[1, 2]), "ok"),
            ("mixed", [int(19, 1), bytes(19, &[2, 3]), int(19, 4)].concat(), "ok"),
            ("empty packed", bytes(19, &[]), "ok"),
            ("packed, last varint cut off", bytes(19, &[1, 0x80]), "undecodable packed"),
            ("packed doubles, not a multiple of eight", bytes(5000, &[0; 12]), "undecodable doubles"),
            ("packed enum with an unknown number", bytes(22, &[1, 9]), "unknown-enum colors"),
            ("fixed32 for a packed int32", [tag(19, 5), vec![0; 4]].concat(), "wrong-wire-type packed"),
        ],
    );
}

#[test]
fn groups() {
    let deep = |levels| (0..levels).fold(vec![], |inner, _| group(200, &inner));
    expect(
        &rich(),
        &[
            ("unknown group", group(200, &int(1, 5)), "ok"),
            ("unknown groups nested", group(200, &group(201, &text(1, "x"))), "ok"),
            ("end tag of another group", [tag(200, 3), tag(201, 4)].concat(), "undecodable 200"),
            ("group not closed", [tag(200, 3), int(1, 1)].concat(), "undecodable 200"),
            ("end without start", tag(200, 4), "undecodable 200"),
            ("a length inside cut off", [tag(200, 3), tag(1, 2), varint(9)].concat(), "undecodable 200"),
            ("100 groups", deep(100), "ok"),
            ("101 groups", deep(101), "recursion-limit 200"),
            ("10,000 groups, none closed", tag(200, 3).repeat(10_000), "recursion-limit 200"),
        ],
    );
    let legacy = contract("legacy.v1.Legacy", Policies::default(), &[]);
    let name = text(1, "n");
    expect(
        &legacy,
        &[
            ("known group", [name.clone(), group(6, &int(7, 1))].concat(), "group-field old"),
            ("bytes for a known group", [name, bytes(6, &[])].concat(), "wrong-wire-type old"),
        ],
    );
}

#[test]
fn strings_are_utf8_everywhere() {
    let bad = [0xc3, 0x28];
    expect(
        &rich(),
        &[
            ("utf-8", text(14, "größe €"), "ok"),
            ("not utf-8", bytes(14, &bad), "invalid-utf8 text"),
            ("surrogate", bytes(14, &[0xed, 0xa0, 0x80]), "invalid-utf8 text"),
            ("overlong NUL", bytes(14, &[0xc0, 0x80]), "invalid-utf8 text"),
            ("cut inside a character", bytes(14, &"€".as_bytes()[..2]), "invalid-utf8 text"),
            ("in bytes it does not matter", bytes(15, &bad), "ok"),
            ("repeated", [text(21, "a"), bytes(21, &bad)].concat(), "invalid-utf8 tags[1]"),
            ("map key", bytes(24, &bytes(1, &bad)), "invalid-utf8 counts.key"),
            (
                "in a map's message",
                bytes(25, &[int(1, 7), bytes(2, &bytes(2, &bad))].concat()),
                "invalid-utf8 by_id[7].name",
            ),
            ("in a oneof", bytes(27, &bad), "invalid-utf8 choice_text"),
            ("overwritten later", [bytes(14, &bad), text(14, "fine")].concat(), "invalid-utf8 text"),
            ("in an unknown field nobody knows", bytes(200, &bad), "ok"),
        ],
    );
}

#[test]
fn unknown_fields_follow_the_policy() {
    let strict = Policies { unknown_fields: UnknownFields::Reject, ..Policies::default() };
    expect(
        &contract("rich.v1.Rich", strict.clone(), &[]),
        &[
            ("known", int(3, 1), "ok"),
            ("varint", int(200, 1), "unknown-field 200"),
            ("small number", int(301, 1), "unknown-field 301"),
            ("group", group(200, &[]), "unknown-field 200"),
            ("nested", bytes(17, &int(9, 1)), "unknown-field payer.9"),
            ("in a map entry", bytes(24, &int(3, 1)), "unknown-field counts.3"),
            ("malformed before unknown", [tag(200, 2), varint(9)].concat(), "undecodable 200"),
        ],
    );
    let name = text(1, "n");
    expect(
        &contract("legacy.v1.Legacy", strict, &[]),
        &[
            ("a declared extension is known", [name.clone(), int(100, 5)].concat(), "ok"),
            ("its wire type is checked", [name.clone(), text(100, "x")].concat(), "wrong-wire-type [legacy.v1.extra]"),
            ("another one is not", [name, int(101, 5)].concat(), "unknown-field 101"),
        ],
    );
}

#[test]
fn unknown_enum_numbers_follow_the_policy() {
    let negative = |number: i64| number.cast_unsigned();
    expect(
        &rich(),
        &[
            ("named", int(16, 2), "ok"),
            ("zero", int(16, 0), "ok"),
            ("large", int(16, 1000), "ok"),
            ("negative, ten bytes", int(16, negative(-1)), "ok"),
            ("truncated to a named one", int(16, (1 << 32) | 2), "ok"),
            ("unnamed", int(16, 3), "unknown-enum color"),
            ("unnamed beyond 64", int(16, 999), "unknown-enum color"),
            ("unnamed negative", int(16, negative(-2)), "unknown-enum color"),
            ("unnamed, then a named one", [int(16, 3), int(16, 1)].concat(), "unknown-enum color"),
            ("map value", bytes(26, &[int(1, 1), int(2, 7)].concat()), "unknown-enum shades[true]"),
        ],
    );
    let keep = Policies { unknown_enums: UnknownEnums::Keep, ..Policies::default() };
    let open = contract("rich.v1.Rich", keep.clone(), &["color"]);
    let closed = contract("legacy.v1.Legacy", keep, &["mode"]);
    let (payload, legacy) = (int(16, 3), [text(1, "n"), int(2, 9)].concat());
    let mut fields = Fields::new();
    open.check(&payload, &mut fields).unwrap();
    assert_eq!(fields.get(Slot(0)), Value::Enum(3));
    closed.check(&legacy, &mut fields).unwrap();
    assert_eq!(fields.get(Slot(0)), Value::Enum(9));
    expect(&contract("legacy.v1.Legacy", Policies::default(), &[]), &[("closed enum", legacy, "unknown-enum mode")]);
}

#[test]
fn nesting_and_size_are_bounded() {
    let short = Policies { recursion_limit: 2, max_bytes: 12, ..Policies::default() };
    expect(
        &rich(),
        &[("100 levels", nested(100, vec![]), "ok"), ("100 levels with a value", nested(100, int(3, 1)), "ok")],
    );
    let deep = check(&rich(), &nested(101, vec![])).unwrap_err();
    assert_eq!(deep.code.as_str(), "recursion-limit");
    assert_eq!(deep.field.matches("child").count(), 101);
    expect(
        &contract("rich.v1.Rich", short, &[]),
        &[
            ("two levels", nested(2, vec![]), "ok"),
            ("three levels", nested(3, vec![]), "recursion-limit child.child.child"),
            ("a map's message is two levels", bytes(25, &bytes(2, &[])), "ok"),
            ("and a message in it the third", bytes(25, &bytes(2, &bytes(1, &[]))), "recursion-limit by_id.address"),
            ("twelve bytes", text(14, "0123456789"), "ok"),
            ("thirteen bytes", text(14, "0123456789a"), "too-large"),
        ],
    );
}

#[test]
fn required_fields() {
    let name = text(1, "n");
    let id = int(1, 5);
    let with = |part: Vec<u8>| [name.clone(), part].concat();
    let pick_inner = |inner: &[u8]| bytes(9, inner);
    expect(
        &contract("legacy.v1.Legacy", Policies::default(), &[]),
        &[
            ("set", name.clone(), "ok"),
            ("empty payload", vec![], "missing-required name"),
            ("set to the default", text(1, ""), "ok"),
            ("nested, set", with(bytes(4, &id)), "ok"),
            ("nested, missing", with(bytes(4, &[])), "missing-required inner.id"),
            ("repeated, missing", with([bytes(5, &id), bytes(5, &[])].concat()), "missing-required inners[1].id"),
            ("merged from two parts", with([bytes(4, &[]), bytes(4, &id)].concat()), "ok"),
            ("merged the other way", with([bytes(4, &id), bytes(4, &text(2, "x"))].concat()), "ok"),
            (
                "merged, and still missing",
                with([bytes(4, &[]), bytes(4, &text(2, "x"))].concat()),
                "missing-required inner.id",
            ),
            ("displaced in a oneof", with([pick_inner(&[]), text(10, "x")].concat()), "ok"),
            ("last in a oneof", with([text(10, "x"), pick_inner(&[])].concat()), "missing-required pick_inner.id"),
            ("map value, set", with(bytes(8, &[text(1, "k"), bytes(2, &id)].concat())), "ok"),
            ("map value, missing", with(bytes(8, &text(1, "k"))), "missing-required named[\"k\"].id"),
            (
                "map value, empty",
                with(bytes(8, &[text(1, "k"), bytes(2, &[])].concat())),
                "missing-required named[\"k\"].id",
            ),
            ("other faults come first", [bytes(4, &[]), int(0, 1)].concat(), "undecodable"),
            ("other faults first, nested", [bytes(4, &[]), bytes(2, &[])].concat(), "wrong-wire-type mode"),
        ],
    );
}

/// Returns the values of the wanted fields in the form of `Debug`.
fn values(contract: &Contract, payload: &[u8]) -> Vec<String> {
    let mut fields = Fields::new();
    contract.check(payload, &mut fields).unwrap();
    (0..contract.fields().len()).map(|slot| format!("{:?}", fields.get(Slot(slot)))).collect()
}

#[test]
fn scalars_read_as_protobuf_says() {
    let names = [
        "flag", "i32", "i64", "u32", "u64", "s32", "s64", "f32", "f64", "sf32", "sf64", "float", "double", "text",
        "blob", "color",
    ];
    let contract = contract("rich.v1.Rich", Policies::default(), &names);
    assert_eq!(values(&contract, &[]), vec!["Default"; 16]);
    let payload = [
        int(1, 1 << 40),
        int(2, u64::MAX - 1),
        int(3, u64::MAX),
        int(4, (7 << 32) | 9),
        int(5, u64::MAX),
        int(6, 3),
        int(7, u64::MAX),
        [tag(8, 5), 7_u32.to_le_bytes().to_vec()].concat(),
        [tag(9, 1), 8_u64.to_le_bytes().to_vec()].concat(),
        [tag(10, 5), (-7_i32).to_le_bytes().to_vec()].concat(),
        [tag(11, 1), (-8_i64).to_le_bytes().to_vec()].concat(),
        [tag(12, 5), 0.5_f32.to_le_bytes().to_vec()].concat(),
        [tag(13, 1), (-0.0_f64).to_le_bytes().to_vec()].concat(),
        text(14, "a"),
        text(14, "b"),
        bytes(15, &[0, 255]),
        int(16, 1000),
    ];
    assert_eq!(
        values(&contract, &payload.concat()),
        [
            "Bool(true)",
            "I32(-2)",
            "I64(-1)",
            "U32(9)",
            "U64(18446744073709551615)",
            "I32(-2)",
            "I64(-9223372036854775808)",
            "U32(7)",
            "U64(8)",
            "I32(-7)",
            "I64(-8)",
            "F32(0.5)",
            "F64(-0.0)",
            "Str(\"b\")",
            "Bytes([0, 255])",
            "Enum(1000)",
        ]
    );
}

#[test]
fn presence_merging_and_oneofs() {
    let names = [
        "payer.address.city",
        "payer.address.zip",
        "payer.name",
        "maybe",
        "choice_text",
        "choice_payer.name",
        "choice_number",
    ];
    let contract = contract("rich.v1.Rich", Policies::default(), &names);
    let shown = |payload: &[Vec<u8>]| values(&contract, &payload.concat()).join(" ");
    assert_eq!(shown(&[]), "Absent Absent Absent Absent Absent Absent Absent");
    // Below a present message, a field without presence reads as its default. Below an absent one, it is absent too.
    assert_eq!(shown(&[bytes(17, &[])]), "Absent Absent Default Absent Absent Absent Absent");
    assert_eq!(shown(&[bytes(17, &bytes(1, &[]))]), "Default Absent Default Absent Absent Absent Absent");
    assert_eq!(shown(&[int(18, 0)]), "Absent Absent Absent I32(0) Absent Absent Absent");
    // The parts of a message are merged, and the last value wins.
    let first = bytes(17, &[bytes(1, &text(1, "Ulm")), text(2, "Ann")].concat());
    let second = bytes(17, &bytes(1, &text(2, "89073")));
    let third = bytes(17, &bytes(1, &text(1, "Bonn")));
    assert_eq!(shown(&[first, second, third]), "Str(\"Bonn\") Str(\"89073\") Str(\"Ann\") Absent Absent Absent Absent");
    // The last member of a oneof clears the others and all fields below them.
    let (a, b, c) = (text(27, "t"), bytes(28, &text(2, "p")), int(29, 0));
    let tail = |payload: &[Vec<u8>]| values(&contract, &payload.concat())[4..].join(" ");
    assert_eq!(tail(&[b.clone(), a.clone()]), "Str(\"t\") Absent Absent");
    assert_eq!(tail(&[a.clone(), b.clone()]), "Absent Str(\"p\") Absent");
    assert_eq!(tail(&[a, b.clone(), c.clone()]), "Absent Absent I64(0)");
    assert_eq!(tail(&[b.clone(), c, bytes(28, &[])]), "Absent Default Absent");
    assert_eq!(tail(&[b, bytes(28, &[])]), "Absent Str(\"p\") Absent");
}

#[test]
fn lists_maps_and_split_messages() {
    let names = ["packed", "tags", "counts", "payer", "payer.past", "choice_payer.past"];
    let contract = contract("rich.v1.Rich", Policies::default(), &names);
    let address = bytes(3, &text(1, "Ulm"));
    let payload = [
        int(19, 1),
        text(21, "x"),
        bytes(19, &[2, 3]),
        bytes(24, &[text(1, "k"), int(2, 5)].concat()),
        bytes(24, &[]),
        bytes(17, &address),
        bytes(17, &text(2, "Ann")),
        bytes(28, &address),
        int(29, 1),
        text(21, ""),
    ]
    .concat();
    let mut fields = Fields::new();
    contract.check(&payload, &mut fields).unwrap();
    let list = |slot| match fields.get(Slot(slot)) {
        Value::List(list) => fields.items(list).collect::<Vec<_>>(),
        other => panic!("slot {slot} is {other:?}"),
    };
    assert_eq!(list(0), [Value::I32(1), Value::I32(2), Value::I32(3)]);
    assert_eq!(list(1), [Value::Str("x".into()), Value::Str("".into())]);
    let Value::Map(map) = fields.get(Slot(2)) else { panic!("counts is no map") };
    assert_eq!(map.len(), 2);
    assert_eq!(
        fields.entries(map).collect::<Vec<_>>(),
        [(Value::Str("k".into()), Value::I64(5)), (Value::Str("".into()), Value::I64(0))]
    );
    assert!(matches!(fields.get(Slot(3)), Value::Split(_)));
    assert_eq!(fields.message(Slot(3)).as_deref(), Some([address, text(2, "Ann")].concat().as_slice()));
    assert_eq!(list(4).len(), 1);
    assert_eq!(fields.get(Slot(5)), Value::Absent, "the oneof has another member now");
    let json = |slot| contract.field_json(Slot(slot), &fields).unwrap();
    assert_eq!(json(0).as_deref(), Some("[1,2,3]"));
    assert_eq!(json(2).as_deref(), Some(r#"{"":"0","k":"5"}"#));
    assert_eq!(json(3).as_deref(), Some(r#"{"name":"Ann","past":[{"city":"Ulm"}]}"#));
    assert_eq!(json(5), None);
    // The next payload uses the same memory, in which no value of the last one is left.
    let mut fields = fields.recycle();
    contract.check(&[], &mut fields).unwrap();
    assert!(matches!(fields.get(Slot(0)), Value::List(list) if list.is_empty()));
    assert_eq!(fields.get(Slot(4)), Value::Absent);
}

#[test]
fn parts_stay_apart_when_a_oneof_changes() {
    let contract = contract("rich.v1.Rich", Policies::default(), &["choice_payer", "payer", "by_id"]);
    let (a, b) = (text(2, "a"), text(2, "b"));
    let entry = bytes(25, &[bytes(2, &b), bytes(2, &a)].concat());
    let payload = [bytes(28, &a), bytes(28, &b), bytes(17, &a), bytes(17, &b), int(29, 1), entry].concat();
    let mut fields = Fields::new();
    contract.check(&payload, &mut fields).unwrap();
    assert_eq!(fields.get(Slot(0)), Value::Absent);
    assert_eq!(fields.message(Slot(1)).as_deref(), Some([a.clone(), b.clone()].concat().as_slice()));
    let Value::Map(map) = fields.get(Slot(2)) else { panic!("no map") };
    let (_, value) = fields.entries(map).next().unwrap();
    assert_eq!(fields.joined(value).as_deref(), Some([b, a].concat().as_slice()));
}

#[test]
fn one_field_may_be_wanted_twice() {
    let contract = contract("rich.v1.Rich", Policies::default(), &["text", "tags", "text", "tags"]);
    let payload = [text(14, "a"), text(21, "b")].concat();
    let mut fields = Fields::new();
    contract.check(&payload, &mut fields).unwrap();
    assert_eq!(fields.get(Slot(2)), Value::Str("a".into()));
    let Value::List(list) = fields.get(Slot(3)) else { panic!("no list") };
    assert_eq!(fields.items(list).collect::<Vec<_>>(), [Value::Str("b".into())]);
}

#[test]
fn a_payment_event_is_a_rated_payments_prefix() {
    let contract = contract(
        "payments.v1.RatedPayment",
        Policies::default(),
        &["transaction_id", "status", "risk_tier", "amount_minor"],
    );
    let event = [text(1, "t-1"), int(4, 3)].concat();
    assert_eq!(values(&contract, &event), ["Str(\"t-1\")", "Enum(3)", "Default", "Default"]);
    let rated = [event, text(8, "low"), int(9, 1234)].concat();
    assert_eq!(values(&contract, &rated)[2..], ["Str(\"low\")", "I64(1234)"]);
    assert_eq!(contract.enum_name(Slot(1), 3), Some("CAPTURED"));
    assert_eq!(contract.enum_name(Slot(1), 9), None);
}

#[test]
fn a_wrapper_is_the_value_in_it_absent_or_there() {
    let contract =
        contract("every.v1.Every", Policies::default(), &["int64_value", "string_value", "float_value.value"]);
    let kinds: Vec<String> = contract.fields().iter().map(|info| info.kind.name()).collect();
    assert_eq!(kinds, ["int64", "string", "float"]);
    assert_eq!(contract.fields()[0].presence, Presence::Explicit);
    let found = |payload: &[u8]| {
        let mut fields = Fields::new();
        contract.check(payload, &mut fields).unwrap();
        let json = |slot| contract.field_json(Slot(slot), &fields).unwrap();
        (format!("{:?} {:?}", fields.get(Slot(0)), fields.get(Slot(1))), json(0), json(1))
    };
    assert_eq!(found(&[]), ("Absent Absent".into(), None, None));
    let empty = [bytes(203, &[]), bytes(208, &[])].concat();
    assert_eq!(found(&empty), ("Default Default".into(), Some("\"0\"".into()), Some("\"\"".into())));
    let full = [bytes(203, &int(1, 7)), bytes(208, &text(1, "x"))].concat();
    assert_eq!(found(&full), ("I64(7) Str(\"x\")".into(), Some("\"7\"".into()), Some("\"x\"".into())));
}
