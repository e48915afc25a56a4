//! Tests a real schema registry: registration from the command line, schemas of frames, and an outage of the registry.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tollgate_config::error::Class;
use tollgate_config::registry::{Config, Url};
use tollgate_contract::frame::{Frame, Indexing, SchemaId, indexes_of};
use tollgate_registry::api::Version;
use tollgate_registry::{Client, Compatibility, SchemaError, SchemaStore, subject_pool};
use tollgate_tests::engine::Engine;
use xtask::Cache;
use xtask::servers::Registry;

const MONEY: &str = "syntax = \"proto3\";\npackage shop.v1;\nmessage Money { int64 minor = 1; }\n";
const ORDER: &str = r#"syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "shop/v1/money.proto";
message Heartbeat {}
message Order {
  string id = 1;
  Money total = 2;
  google.protobuf.Timestamp at = 3;
  message Line { string sku = 1; message Discount { double percent = 1; } }
}
"#;

fn protos() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("shop/v1")).unwrap();
    fs::write(folder.path().join("shop/v1/money.proto"), MONEY).unwrap();
    fs::write(folder.path().join("shop/v1/order.proto"), ORDER).unwrap();
    folder
}

/// Runs a verb of `tollgate contract`. Returns the exit code, the printed JSON, and the log.
fn tollgate(folder: &Path, registry: &str, arguments: &[&str]) -> (i32, Value, String) {
    verb(folder, registry, &[&["contract"], arguments].concat())
}

fn verb(folder: &Path, registry: &str, arguments: &[&str]) -> (i32, Value, String) {
    let arguments = [arguments, &["--output", "json"]].concat();
    let engine = Engine::start(folder, &arguments, &[("TOLLGATE_REGISTRY", registry)]);
    let code = engine.wait().code().unwrap();
    (code, serde_json::from_str(&engine.stdout()).unwrap_or_default(), engine.log())
}

fn config(url: &str, cache: Option<&Path>) -> Config {
    Config {
        cache_dir: cache.map(Path::to_owned),
        retries: 1,
        confirm_missing: Duration::from_millis(10),
        request_timeout: Duration::from_secs(20),
        ..Config::new(vec![Url::parse(url).unwrap()])
    }
}

fn framed(store: &SchemaStore, id: u32, message: &str) -> String {
    let schema = store.schema(SchemaId::Id(id)).unwrap();
    let tollgate_registry::SchemaBody::Protobuf(file) = &schema.body else { panic!("{schema:?}") };
    let mut bytes = Vec::new();
    let named = file.parent_pool().get_message_by_name(message).unwrap();
    Frame::write_protobuf(&mut bytes, id, &indexes_of(&named));
    let frame = Frame::parse(&bytes).unwrap();
    let (indexes, _) = frame.protobuf(Indexing::Required).unwrap();
    schema.message(indexes, None).unwrap().unwrap().full_name().to_owned()
}

#[test]
fn registered_schemas_outlive_the_registry() {
    let mut registry = Registry::start(&Cache::open().unwrap()).unwrap();
    let url = registry.url();
    let folder = protos();
    let run = |arguments: &[&str]| tollgate(folder.path(), &url, arguments);
    let register = ["register", "shop/v1/order.proto", "--subject", "orders-value"];

    let (code, printed, log) = run(&[&register[..], &["--dry-run"]].concat());
    assert_eq!(code, 0, "{printed} {log}");
    let outcomes = |printed: &Value| {
        let steps = printed["result"]["steps"].as_array().unwrap();
        steps.iter().map(|step| step["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&printed), ["acceptable", "unchecked"]);
    assert_eq!(run(&["versions"]).1["result"]["subjects"], serde_json::json!([]), "a dry run registers nothing");

    let (code, printed, log) = run(&register);
    assert_eq!(code, 0, "{printed} {log}");
    assert_eq!(outcomes(&printed), ["registered", "registered"]);
    let steps = &printed["result"]["steps"];
    assert_eq!((&steps[0]["subject"], &steps[1]["subject"]), (&"shop/v1/money.proto".into(), &"orders-value".into()));
    let id = u32::try_from(steps[1]["id"].as_u64().unwrap()).unwrap();
    assert_eq!(outcomes(&run(&register).1), ["unchanged", "unchanged"]);

    let (code, printed, _) = run(&["versions", "orders-value"]);
    assert_eq!(code, 0);
    let version = &printed["result"]["versions"][0];
    assert_eq!(version["messages"], serde_json::json!(["shop.v1.Heartbeat", "shop.v1.Order"]));
    assert_eq!(version["references"][0]["name"], "shop/v1/money.proto");
    let (code, printed, _) = run(&["versions", "no-such-subject"]);
    assert_eq!((code, printed["error"]["code"].as_str().unwrap()), (1, "registry.not_found"));

    let client = Client::new(config(&url, None)).unwrap();
    let pool = subject_pool(
        &client,
        "orders-value",
        Version::Latest,
        Some("shop/v1/order.proto"),
        tollgate_protos::compile_schema,
    )
    .unwrap();
    assert_eq!((pool.version, pool.file.name()), (1, "shop/v1/order.proto"));
    assert!(pool.pool.get_message_by_name("shop.v1.Money").is_some());

    let cache = tempfile::tempdir().unwrap();
    let store = SchemaStore::new(config(&url, Some(cache.path())), tollgate_protos::compile_schema).unwrap();
    for name in ["shop.v1.Heartbeat", "shop.v1.Order", "shop.v1.Order.Line", "shop.v1.Order.Line.Discount"] {
        assert_eq!(framed(&store, id, name), name);
    }
    assert_eq!(store.schema(SchemaId::Id(9_999)).unwrap_err(), SchemaError::NotFound(SchemaId::Id(9_999)));
    assert_eq!((store.stats().fetched, store.stats().missing), (1, 1));

    registry.kill();
    assert_eq!(framed(&store, id, "shop.v1.Order"), "shop.v1.Order", "a running process");
    let restarted = SchemaStore::new(config(&url, Some(cache.path())), tollgate_protos::compile_schema).unwrap();
    assert_eq!(framed(&restarted, id, "shop.v1.Order.Line"), "shop.v1.Order.Line", "a restarted process");
    assert_eq!((restarted.stats().read, restarted.stats().fetched), (1, 0));
    let error = restarted.schema(SchemaId::Id(id + 1)).unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
    let (code, printed, _) = run(&["versions"]);
    assert_eq!((code, printed["error"]["code"].as_str().unwrap()), (3, "registry.unreachable"));

    // The registry returns empty: cached schemas remain valid, and newly registered ones are found.
    registry.restart().unwrap();
    assert_eq!(framed(&restarted, id, "shop.v1.Heartbeat"), "shop.v1.Heartbeat");
    let money = ["register", "shop/v1/money.proto", "--subject", "money-value"];
    let mut last = 0;
    for (number, name) in ["a", "b", "c", "d"].iter().enumerate() {
        let text = MONEY.replace("Money {", &format!("Money {{ string {name} = {};", number + 2));
        fs::write(folder.path().join("shop/v1/money.proto"), text).unwrap();
        let printed = run(&money).1;
        last = u32::try_from(printed["result"]["steps"][0]["id"].as_u64().unwrap()).unwrap();
    }
    assert!(last > id, "ids begin anew: {last}");
    assert_eq!(framed(&restarted, last, "shop.v1.Money"), "shop.v1.Money");
}

#[test]
fn an_incompatible_change_is_refused_with_reasons() {
    let registry = Registry::start(&Cache::open().unwrap()).unwrap();
    let url = registry.url();
    let folder = protos();
    let money = folder.path().join("shop/v1/money.proto");
    let register = ["register", "shop/v1/money.proto", "--subject", "money-value"];
    let run = |more: &[&str]| tollgate(folder.path(), &url, &[&register[..], more].concat());
    assert_eq!(run(&[]).0, 0);
    let client = Client::new(config(&url, None)).unwrap();
    client.set_compatibility(Some("money-value"), "BACKWARD").unwrap();
    assert_eq!(client.compatibility(Some("money-value")).unwrap().as_deref(), Some("BACKWARD"));

    fs::write(&money, MONEY.replace("int64 minor", "string minor")).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let (code, printed, _) = run(more);
        let message = printed["error"]["message"].as_str().unwrap();
        assert_eq!((code, printed["error"]["code"].as_str().unwrap()), (1, "registry.incompatible"));
        for part in
            ["money-value", "level BACKWARD", "the file was not registered", "not backward compatible", "fix it"]
        {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
    assert_eq!(client.versions("money-value").unwrap(), [1]);
    // If another team registers between the check and the registration, the registry itself answers 409.
    let schema = tollgate_registry::api::Registered {
        schema_type: "PROTOBUF".into(),
        schema: fs::read_to_string(&money).unwrap(),
        references: Vec::new(),
    };
    assert!(matches!(client.check("money-value", &schema).unwrap(), Compatibility::Incompatible(_)));
    let error = client.register("money-value", &schema).unwrap_err();
    assert!(matches!(error, tollgate_registry::ClientError::Refused { status: 409, .. }), "{error}");

    fs::write(&money, MONEY.replace("minor = 1;", "minor = 1; string currency = 2;")).unwrap();
    assert_eq!(run(&[]).1["result"]["steps"][0]["version"], 2);
    let (code, printed, _) = tollgate(folder.path(), &url, &["register", "shop/v1/none.proto", "--subject", "x"]);
    assert_eq!((code, printed["error"]["code"].as_str().unwrap()), (2, "contract.protos"));
}

#[test]
fn a_contract_is_checked_against_what_is_registered() {
    let mut registry = Registry::start(&Cache::open().unwrap()).unwrap();
    let url = registry.url();
    let folder = protos();
    let register = || tollgate(folder.path(), &url, &["register", "shop/v1/order.proto", "--subject", "orders-value"]);
    assert_eq!(register().0, 0);
    let check = |more: &[&str]| verb(folder.path(), &url, &[&["check", ".", "--against"], more].concat());
    let rules = |printed: &Value| -> Vec<String> {
        let findings = printed["result"]["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
    };
    let (code, printed, log) = check(&["registry:orders-value"]);
    assert_eq!((code, rules(&printed)), (0, vec![]), "{printed} {log}");

    let order = folder.path().join("shop/v1/order.proto");
    fs::write(
        &order,
        ORDER.replace("google.protobuf.Timestamp at = 3;", "google.protobuf.Timestamp at = 3; string note = 4;"),
    )
    .unwrap();
    assert_eq!(register().0, 0);
    // Compared with the last version a type has changed; compared with the first the field is new.
    fs::write(
        &order,
        ORDER.replace("google.protobuf.Timestamp at = 3;", "google.protobuf.Timestamp at = 3; int64 note = 4;"),
    )
    .unwrap();
    let (code, printed, _) = check(&["registry:orders-value"]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.to_string().contains("shop/v1/order.proto"), "{printed}");
    assert_eq!(check(&["registry:orders-value:1"]).0, 0);
    assert_eq!(check(&["registry:orders-value:1", "--mode", "full_transitive"]).0, 0);
    assert_eq!(check(&["registry:orders-value", "--mode", "full_transitive"]).0, 1);
    // If the check cannot run, there is no verdict.
    assert_eq!(check(&["registry:no-such-subject"]).0, 2);
    registry.kill();
    let (code, printed, _) = check(&["registry:orders-value"]);
    assert_eq!((code, printed["error"]["code"].as_str().unwrap()), (2, "check.registry"), "{printed}");
}
