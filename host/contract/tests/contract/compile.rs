//! Tests the compilation of contracts: kinds, errors with similar names, digests, and a page for every reason.

use super::common::{contract, pool};
use prost_reflect::DescriptorPool;
use tollgate_contract::{
    Contract, FieldPath, Kind, Policies, Presence, ReasonCode, Slot, UnknownFields, duration_parts, timestamp_micros,
    timestamp_parts,
};

fn error(message: &str, field: &str) -> String {
    let fields = if field.is_empty() { vec![] } else { vec![FieldPath::from(field)] };
    Contract::compile(&pool(), message, Policies::default(), &fields).unwrap_err().to_string()
}

#[test]
fn errors_name_what_was_meant() {
    assert!(error("payments.v1.PaymentEvnt", "").contains("did you mean payments.v1.PaymentEvent"));
    assert!(error("PaymentEvent", "").contains("did you mean payments.v1.PaymentEvent"));
    assert!(!error("zzz", "").contains("did you mean"));
    assert!(error("payments.v1.PaymentEvent", "transaction_idd").contains("did you mean transaction_id?"));
    assert!(
        error("rich.v1.Rich", "payer.adress.city").contains("rich.v1.Payer has no field adress; did you mean address?")
    );
    let empty = Contract::compile(&pool(), "rich.v1.Rich", Policies::default(), &[FieldPath::from("")]).unwrap_err();
    assert!(empty.to_string().contains("rich.v1.Rich has no field"), "{empty}");
    assert!(error("rich.v1.Rich", "payers.name").contains("payers is repeated"));
    assert!(error("rich.v1.Rich", "by_id.key").contains("by_id is a map"));
    assert!(error("rich.v1.Rich", "text.length").contains("text is not a message"));
    assert!(error("legacy.v1.Legacy", "old").contains("old is a group"));
    for recursion_limit in [0, 101] {
        let policies = Policies { recursion_limit, ..Policies::default() };
        let error = Contract::compile(&pool(), "rich.v1.Rich", policies, &[]).unwrap_err().to_string();
        assert!(error.contains("outside 1 to 100"), "{error}");
    }
}

#[test]
fn fields_tell_kind_and_presence() {
    let names = ["i32", "s64", "color", "at", "took", "payer", "tags", "by_id", "maybe", "choice_text"];
    let contract = contract("rich.v1.Rich", Policies::default(), &names);
    let shown: Vec<String> =
        contract.fields().iter().map(|field| format!("{} {:?}", field.kind.name(), field.presence)).collect();
    assert_eq!(
        shown,
        [
            "int32 Implicit",
            "int64 Implicit",
            "enum rich.v1.Color Implicit",
            "google.protobuf.Timestamp Explicit",
            "google.protobuf.Duration Explicit",
            "message rich.v1.Payer Explicit",
            "repeated string Implicit",
            "map<int32, message rich.v1.Payer> Implicit",
            "int32 Explicit",
            "string Explicit",
        ]
    );
    let Kind::Enum(table) = &contract.field(Slot(2)).kind else { panic!("no enum") };
    let values: Vec<_> = table.values().collect();
    assert_eq!(values, [(-1, "BELOW"), (0, "COLOR_UNSPECIFIED"), (1, "RED"), (2, "GREEN"), (1000, "FAR")]);
    let legacy = super::common::contract("legacy.v1.Legacy", Policies::default(), &["name"]);
    assert_eq!(legacy.field(Slot(0)).presence, Presence::Required);
}

#[test]
fn digests_follow_the_contract_and_nothing_else() {
    let compile = |text: &str, policies: Policies| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.proto"), format!("syntax = \"proto3\"; package a; {text}")).unwrap();
        let set = protox::compile(["a.proto"], [folder.path()]).unwrap();
        let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
        Contract::compile(&pool, "a.M", policies, &[]).unwrap().digest()
    };
    let base = "message M { string a = 1; N n = 2; } message N { E e = 1; } enum E { ZERO = 0; ONE = 1; }";
    let plain = Policies::default();
    let digest = compile(base, plain.clone());
    let same = "// a comment\n enum E { ZERO = 0; ONE = 1; } message Other { int32 x = 1; } message N { E e = 1; } message M { N n = 2; string a = 1; }";
    assert_eq!(compile(same, plain.clone()), digest, "order, comments and unrelated types do not enter");
    for (what, changed) in [
        ("a name", base.replace("string a", "string b")),
        ("a number", base.replace("a = 1", "a = 3")),
        ("a type", base.replace("string a", "bytes a")),
        ("presence", base.replace("string a", "optional string a")),
        ("an enum below", base.replace("ONE = 1", "ONE = 2")),
        ("a field below", base.replace("E e = 1;", "E e = 1; int32 f = 2;")),
    ] {
        assert_ne!(compile(&changed, plain.clone()), digest, "{what} enters");
    }
    assert_ne!(compile(base, Policies { unknown_fields: UnknownFields::Reject, ..plain.clone() }), digest);
    assert_ne!(compile(base, Policies { max_bytes: 5, ..plain }), digest);
    // Dead letters contain the digest, so it must be the same in every build.
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "a12ae1b8dfe7e0c65bc93070446c667d3aa492c56c7977c2f880eab8db00ee95");
}

#[test]
fn every_reason_has_a_page() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reasons");
    for code in ReasonCode::ALL {
        let page = std::fs::read_to_string(format!("{folder}/{code}.md")).unwrap_or_default();
        assert!(page.starts_with(&format!("# {code}\n")), "docs/reasons/{code}.md is missing or has another title");
        for part in ["## Find the cause", "## Fix it"] {
            assert!(page.contains(part), "docs/reasons/{code}.md lacks {part:?}");
        }
    }
}

#[test]
fn well_known_types_are_read_and_bounded() {
    let message = |seconds: i64, nanos: i32| {
        [super::common::int(1, seconds.cast_unsigned()), super::common::int(2, i64::from(nanos).cast_unsigned())]
            .concat()
    };
    assert_eq!(timestamp_parts(&[]), Some((0, 0)));
    assert_eq!(timestamp_micros(&message(-1, 999_999_999)), Some(-1));
    assert_eq!(timestamp_micros(&message(1_767_225_600, 1_500)), Some(1_767_225_600_000_001));
    assert_eq!(timestamp_parts(&message(253_402_300_800, 0)), None);
    assert_eq!(timestamp_parts(&message(0, -1)), None);
    assert_eq!(timestamp_parts(&message(0, 1_000_000_000)), None);
    assert_eq!(timestamp_parts(&[0x08]), None);
    assert_eq!(duration_parts(&message(-1, -5)), Some((-1, -5)));
    assert_eq!(duration_parts(&message(1, -5)), None);
    assert_eq!(duration_parts(&message(315_576_000_001, 0)), None);
}
