use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use super::super::stub::Stub;
use super::*;
use crate::{SchemaBody, SchemaKind};
use tollgate_config::error::Class;

const SCHEMA: &str = r#"{"schemaType":"PROTOBUF","schema":"syntax = \"proto3\"; import \"b.proto\"; message A { B b = 1; }","references":[{"name":"b.proto","subject":"b","version":3}]}"#;
const REFERENCE: &str =
    r#"{"subject":"b","version":3,"id":8,"schemaType":"PROTOBUF","schema":"syntax = \"proto3\"; message B {}"}"#;
const NOT_FOUND: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

fn id(number: u32) -> SchemaId {
    SchemaId::Id(number)
}

fn stub() -> Stub {
    let stub = Stub::start();
    stub.reply("/schemas/ids/1", 200, SCHEMA);
    stub.reply("/subjects/b/versions/3", 200, REFERENCE);
    stub.reply("/schemas/ids/404", 404, NOT_FOUND);
    stub
}

fn first_message(schema: &Schema) -> String {
    let SchemaBody::Protobuf(file) = &schema.body else { panic!("{schema:?}") };
    file.messages().next().unwrap().full_name().to_owned()
}

#[test]
fn many_who_ask_at_once_cost_one_fetch_and_share_its_outcome() {
    let stub = stub();
    stub.slow(Duration::from_millis(100));
    let store = SchemaStore::new(Config { retries: 0, ..stub.config() }, tollgate_protos::compile_schema).unwrap();
    let outcomes = |number: u32| {
        let barrier = Barrier::new(16);
        thread::scope(|scope| {
            let askers: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        store.schema(id(number))
                    })
                })
                .collect();
            askers.into_iter().map(|asker| asker.join().unwrap()).collect::<Vec<_>>()
        })
    };
    let found = outcomes(1);
    let first = found[0].as_ref().unwrap();
    assert!(found.iter().all(|outcome| Arc::ptr_eq(outcome.as_ref().unwrap(), first)));
    assert_eq!(first_message(first), "A");
    assert_eq!((stub.count("/schemas/ids/1"), stub.count("/subjects/b/versions/3")), (1, 1));
    stub.reply("/schemas/ids/5", 503, "");
    assert!(outcomes(5).iter().all(|outcome| matches!(outcome, Err(SchemaError::Unavailable { .. }))));
    assert!(stub.count("/schemas/ids/5") < 16, "an outage costs one round, not one for each who waits");
    // The id is known now, so no request is made.
    store.schema(id(1)).unwrap();
    assert_eq!(stub.count("/schemas/ids/1"), 1);
}

#[test]
fn an_unknown_id_is_confirmed_once_and_then_not_asked_for() {
    let stub = stub();
    let store = SchemaStore::new(
        Config { negative_for: Duration::from_secs(3600), ..stub.config() },
        tollgate_protos::compile_schema,
    )
    .unwrap();
    for _ in 0..10 {
        let error = store.schema(id(404)).unwrap_err();
        assert_eq!((error.class(), error), (Class::Poison, SchemaError::NotFound(id(404))));
    }
    assert_eq!(stub.count("/schemas/ids/404"), 2);
    let store =
        SchemaStore::new(Config { negative_for: Duration::ZERO, ..stub.config() }, tollgate_protos::compile_schema)
            .unwrap();
    store.schema(id(404)).unwrap_err();
    // The id was registered in the meantime.
    stub.forget("/schemas/ids/404");
    stub.reply("/schemas/ids/404", 200, r#"{"schema":"{}"}"#);
    assert_eq!(store.schema(id(404)).unwrap().kind, SchemaKind::Avro);
    // A replica lags: the id is missing at first and found by the second request.
    stub.reply("/schemas/ids/6", 404, NOT_FOUND);
    stub.reply("/schemas/ids/6", 200, r#"{"schema":"{}"}"#);
    store.schema(id(6)).unwrap();
}

#[test]
fn what_does_not_compile_is_unusable_and_remembered() {
    let stub = stub();
    stub.reply("/schemas/ids/2", 200, r#"{"schemaType":"PROTOBUF","schema":"syntax = \"proto3\"; message { }"}"#);
    let lost = r#"{"schemaType":"PROTOBUF","schema":"","references":[{"name":"x","subject":"x","version":1}]}"#;
    stub.reply("/schemas/ids/3", 200, lost);
    stub.reply("/subjects/x/versions/1", 404, r#"{"error_code":40401,"message":"Subject x not found"}"#);
    let store = SchemaStore::new(stub.config(), tollgate_protos::compile_schema).unwrap();
    for (number, part) in [(2, "registered.proto:1:"), (3, "Subject x not found")] {
        for _ in 0..2 {
            let error = store.schema(id(number)).unwrap_err();
            assert!(matches!(&error, SchemaError::Unusable { detail, .. } if detail.contains(part)), "{error}");
            assert_eq!(error.class(), Class::Poison);
        }
        assert_eq!(stub.count(&format!("/schemas/ids/{number}")), 1);
    }
}

fn cached(stub: &Stub, folder: &Path) -> SchemaStore {
    SchemaStore::new(
        Config { cache_dir: Some(folder.to_owned()), retries: 0, ..stub.config() },
        tollgate_protos::compile_schema,
    )
    .unwrap()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let registry = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<_> = fs::read_dir(registry).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn an_outage_stops_no_restart_for_what_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub();
    let digest = cached(&stub, folder.path()).schema(id(1)).unwrap().digest;
    for path in ["/schemas/ids/1", "/subjects/b/versions/3", "/schemas/ids/7"] {
        stub.forget(path);
        stub.reply(path, 503, "");
    }
    let again = cached(&stub, folder.path());
    let schema = again.schema(id(1)).unwrap();
    assert_eq!((first_message(&schema), schema.digest), ("A".to_owned(), digest));
    assert_eq!((again.stats().read, again.stats().fetched), (1, 0));
    let error = again.schema(id(7)).unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(error.to_string().contains("schema 7 is not known yet"), "{error}");
}

#[test]
fn a_damaged_file_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub();
    cached(&stub, folder.path()).schema(id(1)).unwrap();
    let path = files(folder.path()).remove(0);
    let whole = fs::read_to_string(&path).unwrap();
    let damages = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        whole.replace("message B", "message C"),
        whole.replace(r#""id":"1""#, r#""id":"2""#),
        whole.replace(r#""registry":"http"#, r#""registry":"https"#),
    ];
    for (round, damaged) in damages.iter().enumerate() {
        assert_ne!(*damaged, whole);
        fs::write(&path, damaged).unwrap();
        let store = cached(&stub, folder.path());
        store.schema(id(1)).unwrap();
        assert_eq!((store.stats().read, store.stats().fetched), (0, 1), "damage {round}");
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    }
    assert_eq!(files(folder.path()).len(), 1, "no temporary file is left");
}

#[test]
fn registries_share_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (stub(), stub());
    other.forget("/schemas/ids/1");
    other.reply("/schemas/ids/1", 200, r#"{"schema":"{}"}"#);
    assert_eq!(cached(&one, folder.path()).schema(id(1)).unwrap().kind, SchemaKind::Protobuf);
    assert_eq!(cached(&other, folder.path()).schema(id(1)).unwrap().kind, SchemaKind::Avro);
    assert_eq!(cached(&one, folder.path()).schema(id(1)).unwrap().kind, SchemaKind::Protobuf);
}

#[test]
fn memory_is_bounded_and_keeps_what_is_used() {
    let stub = stub();
    for number in 10..20 {
        stub.reply(&format!("/schemas/ids/{number}"), 200, r#"{"schema":"{}"}"#);
    }
    let store = SchemaStore::new(Config { schemas: 3, ..stub.config() }, tollgate_protos::compile_schema).unwrap();
    for number in 10..20 {
        store.schema(id(number)).unwrap();
        store.schema(id(10)).unwrap();
        assert!(store.stats().kept <= 3);
    }
    assert_eq!((stub.count("/schemas/ids/10"), stub.count("/schemas/ids/19")), (1, 1));
    store.schema(id(11)).unwrap();
    assert_eq!(stub.count("/schemas/ids/11"), 2, "it had to go");
}

#[test]
fn those_who_wait_for_a_fetch_that_panics_are_let_go() {
    let stub = stub();
    let store = SchemaStore::new(stub.config(), tollgate_protos::compile_schema).unwrap();
    let flight = Arc::new(Flight::default());
    locked(&store.entries).insert(id(9), Entry::Flying(Arc::clone(&flight)));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| store.schema(id(9)));
        drop(FetchGuard { store: &store, id: id(9), flight });
        let error = waiter.join().unwrap().unwrap_err();
        // The thread either waited, or came too late and made its own request.
        assert_ne!(error.class(), Class::Poison, "{error}");
    });
}
