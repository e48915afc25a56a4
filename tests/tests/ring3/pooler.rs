//! Tests connections to PostgreSQL through a pooler, and to several hosts of which one is the primary.

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::database::Database;
use tollgate_tests::kafka::Record;
use tollgate_tests::{events, servers};
use xtask::Cache;
use xtask::servers::{PgBouncer, PoolMode, Postgres, PostgresOptions};

const REFUSAL: &str = "PostgreSQL is behind a pooler in transaction mode";

fn produce(case: &Case) {
    let record = Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": "a" }))) };
    case.kafka.produce(&case.source(), &vec![record; 10]);
}

/// Returns the port of a URL of the tests' servers.
fn port(url: &str) -> u16 {
    url.rsplit_once('/').unwrap().0.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_session_pooler_is_taken_and_a_transaction_pooler_refused() {
    let case = Case::new("pooler").setup();
    let server = port(case.database.url());
    let mut pooler = PgBouncer::start(&Cache::open().unwrap(), server, PoolMode::Session).unwrap();
    let url = case.database.url().replace(&format!(":{server}/"), &format!(":{}/", pooler.port()));
    let case = case.set("/postgres/url", json!(url));
    let validate = |code: i32| {
        let checked = case.tollgate(&["validate", "pipeline.yaml", "--connect"], &[]);
        assert_eq!(checked.wait().code(), Some(code), "{}", checked.log());
        checked.stdout() + &checked.log()
    };
    assert!(!validate(0).contains(REFUSAL));
    let engine = case.run();
    produce(&case);
    case.settled(&[10]);
    // The session has its own settings, although a pooler accepts none at its start.
    let idle = case.database.number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tollgate % lane' AND datname = current_database()",
    );
    assert!(idle > 0, "lanes are seen through the pooler");
    // From now on it pools transactions, which is detected at the reconnect.
    pooler.restart(PoolMode::Transaction).unwrap();
    produce(&case);
    assert_eq!(engine.wait().code(), Some(1), "{}", engine.log());
    assert!(engine.log().contains(REFUSAL), "{}", engine.log());
    assert!(validate(2).contains(REFUSAL));
    let start = case.run();
    assert_eq!(start.wait().code(), Some(2), "{}", start.log());
    assert!(start.log().contains(REFUSAL), "{}", start.log());
    // Records that were read while the pooler had the wrong mode are not lost.
    pooler.restart(PoolMode::Session).unwrap();
    case.drain();
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE n = 1"), 20);
}

#[test]
fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let case = Case::new("hosts").setup();
    let cache = Cache::open().unwrap();
    // This server behaves like a standby: it answers and accepts no writes.
    let reader = Postgres::start(&cache, &PostgresOptions::default()).unwrap();
    Database::create(&reader.url(), &case.name).run("ALTER SYSTEM SET default_transaction_read_only = on");
    Database::create(&reader.url(), &format!("{}-2", case.name)).run("SELECT pg_reload_conf()");
    let closed = xtask::servers::free_port().unwrap();
    let server = port(case.database.url());
    let hosts = format!("127.0.0.1:{closed},127.0.0.1:{},127.0.0.1:{server}/", reader.port());
    let url = case.database.url().replace(&format!("127.0.0.1:{server}/"), &hosts);
    assert_ne!(url, servers::shared().postgres);
    let case = case.set("/postgres/url", json!(url));
    produce(&case);
    case.drain();
    assert_eq!(case.database.number("SELECT count(*) FROM seen"), 10);
}
