#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn compiled(text: &str) -> Result<Envelope, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let proto = "syntax = \"proto3\"; package s.v1; import \"google/protobuf/any.proto\";
        message Made { string id = 1; double price = 2; }
        message Outer { string kind = 1; google.protobuf.Any any = 2; bytes raw = 3; double half = 4; Made made = 5; string key = 6; }";
    std::fs::write(folder.path().join("s.proto"), proto).unwrap();
    let yaml = format!(
        "pipeline: s\nsource: {{ brokers: 'h:1', topic: s, group_id: g, start: earliest }}\ndead_letter: {{ topic: d }}\n\
         contract: {{ protos: '{}', envelope: {text} }}\n\
         postgres: {{ url: 'postgres://u@h/d', table: t, key: [id], columns: {{ id: }} }}\n\
         types: {{ made: {{ message: s.v1.Made }} }}\n",
        folder.path().display()
    );
    let pipeline = Pipeline::parse(&folder.path().join("p.yaml"), &yaml, &|_| None).unwrap();
    let spec = pipeline.contract.envelope.clone().unwrap();
    let own = || tollgate_protos::load(&[folder.path().to_owned()]).unwrap();
    let pool = tollgate_protos::shipped(&spec.message).unwrap_or_else(own);
    Envelope::compile(&pipeline, &spec, &pool).map_err(|problems| {
        problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
    })
}

#[test]
fn envelopes_compile_or_say_all_that_does_not_fit() {
    assert!(compiled("{ message: tollgate.envelope.v1.DomainEvent }").is_ok());
    assert!(compiled("{ message: tollgate.envelope.v1.EventEnvelope, idempotency_key: { of: [record.key] } }").is_ok());
    assert!(compiled("{ message: s.v1.Outer, payload: any }").is_ok());
    let told = compiled(
        "{ message: s.v1.Outer, payload: made, type: half, headers: { h: half }, version: nowhere,
           idempotency_key: { field: key, of: [made.price] } }",
    );
    let told = told.err().unwrap();
    let keys: Vec<&str> = told.iter().filter_map(|told| told.split(':').next()).collect();
    let at = |key: &str| format!("contract.envelope.{key}");
    assert_eq!(
        keys,
        [at("payload"), at("type"), at("version"), at("headers.h"), at("idempotency_key.of")],
        "{told:#?}"
    );
    let told = compiled("{ message: s.v1.Outer, payload: raw }").err().unwrap();
    assert!(told[0].contains("contract.envelope.type: required key is missing"), "{told:?}");
}

#[test]
fn an_event_is_cut_out_of_json_as_it_stands() {
    let envelope = compiled("{ message: tollgate.envelope.v1.DomainEvent }").unwrap();
    let cut = |json: &str| {
        let mut outer = Vec::new();
        let inner = envelope.cut(json.as_bytes(), &mut outer).map_err(|_| "refused")?;
        Ok::<_, &str>((inner.map(|inner| String::from_utf8(inner.into_owned()).unwrap()), outer))
    };
    let (inner, outer) = cut(r#"{"eventId":"e","data":{"id": 1.50},"eventType":"made"}"#).unwrap();
    assert_eq!(inner.unwrap(), r#"{"id": 1.50}"#);
    assert_eq!(outer, b"\x0a\x01e\x12\x04made\x3a\x0c{\"id\": 1.50}", "the event's text stands for it in the envelope");
    assert_eq!(cut(r#"{"data":"{\"id\":\"é\"}"}"#).unwrap().0.unwrap(), "{\"id\":\"é\"}");
    // Protobuf's own JSON mapping of bytes.
    assert_eq!(cut(r#"{"data":"CgFh"}"#).unwrap(), (None, b"\x3a\x03\x0a\x01a".to_vec()));
    assert_eq!(cut(r#"{"data":null}"#).unwrap().0, None);
    for refused in [r#"{"data":[1]}"#, r#"{"data":1}"#, r#"{"data":{}"#, "[]", r#"{"data":{},"data":{}}"#] {
        assert!(cut(refused).is_err(), "{refused}");
    }
}
