//! Tests which column accepts which value, by default and with `as:`.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn column(type_name: &str) -> PgColumn {
    PgColumn {
        name: "c".into(),
        type_name: type_name.into(),
        sql_type: type_name.into(),
        typmod: -1,
        labels: vec!["admin".into()],
        ..PgColumn::default()
    }
}

fn array(element: &str) -> PgColumn {
    let name = format!("_{element}");
    PgColumn { element: Some(Box::new(column(element))), ..column(&name) }
}

fn written(encoder: &Encoder, input: Input<'_>) -> Result<Vec<u8>, Unfit> {
    let mut out = Vec::new();
    encoder.encode(input, |_| None, &mut out).map(|()| out)
}

#[test]
fn what_loses_nothing_converts_without_being_asked() {
    use InputKind::{Bytes, Enum, Float, Header, Int, Known as Message, List, Micros, Oneof, Text};
    for (kind, type_name, fits) in [
        (Text, "citext", true),
        (Text, "enum", true),
        (Text, "inet", true),
        (Text, "cidr", true),
        (Text, "uuid", true),
        (Bytes, "uuid", true),
        (Header, "uuid", true),
        (Text, "numeric", false),
        (Text, "timestamptz", false),
        (Text, "jsonb", false),
        (Float, "numeric", false),
        (Int, "date", false),
        (Enum, "enum", false),
        (Oneof, "text", true),
        (Oneof, "enum", true),
        (Oneof, "int4", false),
        (Message(Known::Date), "date", true),
        (Message(Known::Date), "jsonb", true),
        (Message(Known::Date), "timestamptz", false),
        (Message(Known::TimeOfDay), "time", true),
        (Message(Known::DateTime), "timestamp", true),
        (Message(Known::Duration), "interval", true),
        (Message(Known::Decimal), "numeric", true),
        (Message(Known::Money), "numeric", false),
        (List(&Text), "jsonb", true),
        (List(&Text), "text", false),
    ] {
        let found = encoder(kind, &As::Natural, &column(type_name));
        assert_eq!(found.is_ok(), fits, "{kind:?} into {type_name}: {found:?}");
    }
    for (kind, element, fits) in [
        (List(&Text), "text", true),
        (List(&Text), "uuid", true),
        (List(&Int), "int8", true),
        (List(&Enum), "int4", true),
        (List(&Micros), "timestamptz", true),
        (List(&Float), "int4", false),
        (List(&Text), "inet", false),
        (Text, "text", false),
    ] {
        let found = encoder(kind, &As::Natural, &array(element));
        assert_eq!(found.is_ok(), fits, "{kind:?} into {element}[]: {found:?}");
    }
}

#[test]
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn a_number_of_any_declared_precision_is_written() {
    let wide = As::Numeric { precision: 1_000, scale: 500 };
    for kind in [InputKind::Int, InputKind::Text, InputKind::Float] {
        let encoder = encoder(kind, &wide, &column("numeric")).unwrap();
        let input = match kind {
            InputKind::Int => Input::Int(1),
            InputKind::Text => Input::Text("1".into()),
            _ => Input::Float(1.0),
        };
        assert_eq!(written(&encoder, input).map(|bytes| super::super::decimal::show(&bytes)).as_deref(), Ok("1"));
    }
    // The column's own type is numeric(1000,500), and there is no `as:`.
    let declared = PgColumn { typmod: (1_000 << 16 | 500) + 4, ..column("numeric") };
    let natural = encoder(InputKind::Int, &As::Natural, &declared).unwrap();
    assert_eq!(written(&natural, Input::Int(1)).map(|bytes| super::super::decimal::show(&bytes)).as_deref(), Ok("1"));
    let exact =
        encoder(InputKind::Text, &As::Decimal, &PgColumn { typmod: (6 << 16 | 2) + 4, ..column("numeric") }).unwrap();
    assert!(written(&exact, Input::Text("1.50".into())).is_ok());
    assert!(matches!(written(&exact, Input::Text("1.505".into())), Err(Unfit::Digits { .. })));
}

#[test]
fn a_uuid_is_text_or_sixteen_bytes() {
    let uuid = encoder(InputKind::Header, &As::Uuid, &column("uuid")).unwrap();
    let bytes: Vec<u8> = (0..16).collect();
    assert_eq!(written(&uuid, Input::Bytes(&bytes)), Ok(bytes.clone()));
    let text = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    assert_eq!(written(&uuid, Input::Bytes(text.as_bytes())), Ok(bytes.clone()));
    assert_eq!(written(&uuid, Input::Text(text.into())), Ok(bytes));
    assert!(written(&uuid, Input::Bytes(&[0; 15])).is_err());
}

#[test]
fn a_list_is_an_array_literal() {
    use tollgate_contract::Value;
    let literal = |element: &str, kind: &'static InputKind, conversion: &As, items: &[Value<'static>]| {
        let Encoder::List(list) = encoder(InputKind::List(kind), conversion, &array(element)).unwrap() else {
            panic!()
        };
        let mut out = Vec::new();
        list.encode(items.iter().copied(), |_| Some("MOOD_OK"), &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let texts =
        [Value::Str("a\"b\\c".into()), Value::Str("".into()), Value::Str("NULL".into()), Value::Str("{,}".into())];
    assert_eq!(
        literal("text", &InputKind::Text, &As::Natural, &texts).as_deref(),
        Ok(r#"{"a\"b\\c","","NULL","{,}"}"#)
    );
    assert_eq!(literal("text", &InputKind::Text, &As::Natural, &[]).as_deref(), Ok("{}"));
    assert_eq!(literal("text", &InputKind::Text, &As::Natural, &[Value::Str("\0".into())]), Err(Unfit::Nul));
    let numbers = [Value::I64(-2), Value::I64(i64::MAX)];
    assert_eq!(literal("int8", &InputKind::Int, &As::Natural, &numbers).as_deref(), Ok("{-2,9223372036854775807}"));
    assert!(matches!(literal("int4", &InputKind::Int, &As::Natural, &numbers), Err(Unfit::Range { .. })));
    let bytes = [Value::Bytes(&[0, 255]), Value::Bytes(&[])];
    assert_eq!(literal("bytea", &InputKind::Bytes, &As::Natural, &bytes).as_deref(), Ok(r#"{"\\x00ff","\\x"}"#));
    let floats = [Value::F64(0.1), Value::F64(f64::NAN), Value::F64(f64::NEG_INFINITY)];
    assert_eq!(literal("float8", &InputKind::Float, &As::Natural, &floats).as_deref(), Ok("{0.1,NaN,-inf}"));
    assert_eq!(
        literal("numeric", &InputKind::Float, &As::Numeric { precision: 9, scale: 2 }, &[Value::F64(2.675)]).as_deref(),
        Ok("{2.68}")
    );
    let strip = As::EnumName { strip_prefix: Some("MOOD_".into()) };
    assert_eq!(literal("text", &InputKind::Enum, &strip, &[Value::Enum(1)]).as_deref(), Ok(r#"{"OK"}"#));
    assert!(matches!(literal("enum", &InputKind::Enum, &strip, &[Value::Enum(1)]), Err(Unfit::NoLabel { .. })));
}

#[test]
fn a_key_refuses_types_whose_equal_values_may_differ_in_bytes() {
    let iso = As::Time(TimeSpec { forms: vec![TimeForm::Iso], between: None });
    for (kind, conversion, target) in [
        (InputKind::Text, As::Natural, column("citext")),
        (InputKind::Text, iso.clone(), column("interval")),
        (InputKind::Known(Known::Duration), As::Natural, column("interval")),
        (InputKind::Text, As::JsonText, column("jsonb")),
        (InputKind::List(&InputKind::Text), As::Natural, array("text")),
    ] {
        let problem = for_key(encoder(kind, &conversion, &target).unwrap(), &target).unwrap_err().to_string();
        assert!(problem.starts_with("column c: ") && problem.contains("cannot be in a key"), "{problem}");
    }
    let number =
        for_key(encoder(InputKind::Text, &As::Decimal, &column("numeric")).unwrap(), &column("numeric")).unwrap();
    assert_eq!(written(&number, Input::Text("1.0".into())), written(&number, Input::Text("1.00".into())));
    let float = for_key(Encoder::Float8, &column("float8")).unwrap();
    assert_eq!(written(&float, Input::Float(0.0)), written(&float, Input::Float(-0.0)));
    let time =
        for_key(encoder(InputKind::Text, &iso, &column("timestamptz")).unwrap(), &column("timestamptz")).unwrap();
    let at = |text: &str| written(&time, Input::Text(text.into()));
    assert_eq!(at("2026-01-31T13:00:00+01:00"), at("2026-01-31T12:00:00Z"));
}

#[test]
fn a_default_is_written_as_its_column_has_it() {
    let of = |type_name: &str, text: &str| {
        let column = column(type_name);
        default(text, &encoder(InputKind::Text, &As::Natural, &column).unwrap_or(Encoder::Bool), &column)
    };
    assert_eq!(of("bool", "true").unwrap(), [1].into());
    assert_eq!(of("int4", "7").unwrap(), [0, 0, 0, 7].into());
    assert_eq!(of("text", "EUR").unwrap(), (*b"EUR").into());
    assert_eq!(of("float8", "1.5").unwrap(), 1.5_f64.to_be_bytes().into());
    assert_eq!(of("jsonb", "{}").unwrap(), (*b"\x01{}").into());
    assert_eq!(of("date", "2000-01-02").unwrap(), [0, 0, 0, 1].into());
    assert_eq!(of("enum", "admin").unwrap(), (*b"admin").into());
    for (type_name, text) in
        [("bool", "yes"), ("int4", "x"), ("int2", "40000"), ("enum", "nobody"), ("date", "today"), ("bytea", "x")]
    {
        assert!(of(type_name, text).unwrap_err().to_string().starts_with("column c: default: "), "{type_name} {text}");
    }
}

#[test]
fn a_hint_is_given_only_where_it_leads_somewhere() {
    use InputKind::{Bool, Enum, Float, Header, Int, Known as Message, Micros, Text};
    for (kind, type_name, hint) in [
        (Text, "bool", ""),
        (Text, "bytea", ""),
        (Bool, "int4", ""),
        (Enum, "bool", ""),
        (Micros, "int8", ""),
        (Text, "int4", " (or `as: int`)"),
        (Header, "int8", " (or `as: int`)"),
        (Bool, "text", " (or `as: text`)"),
        (Enum, "text", " (or `as: enum_name`)"),
        (Float, "numeric", " (or `as: numeric(p,s)`)"),
        (Message(Known::Money), "numeric", " (or `as: numeric(p,s)`)"),
        (Text, "date", " (or `as: iso`)"),
        (Text, "jsonb", " (or `as: json_text`, `as: jsonb`)"),
    ] {
        let said = encoder(kind, &As::Natural, &column(type_name)).unwrap_err().to_string();
        let found = said.find(" (or ").map_or("", |at| &said[at..]);
        assert_eq!(found, hint, "{kind:?} into {type_name}: {said}");
    }
    let said = encoder(Int, &As::Natural, &column("timestamptz")).unwrap_err().to_string();
    assert!(said.contains("`as: unix_s`") && !said.contains("uuid"), "{said}");
}
