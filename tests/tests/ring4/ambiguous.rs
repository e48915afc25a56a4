//! Tests unknown outcomes: the COMMIT of a batch or the EndTxn of its transaction is lost before or after the server,
//! and proxies between the engine and its servers reset, hold back and delay.

use std::time::Duration;

use serde_json::json;
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::engine::Engine;
use tollgate_tests::guests::Guest;
use tollgate_tests::load::Load;
use tollgate_tests::proxy::{Lost, Proxy, Server};
use tollgate_tests::servers::{self, Servers};
use tollgate_tests::{oracle, wait_for};
use xtask::servers::{Kafka, KafkaOptions};

use super::one_at_a_time;

/// Half of the other rings' rate: this test starts its own broker, and every byte passes the proxies.
const RATE: u32 = 10_000;

/// A pipeline with a proxy in front of each server. Load and oracle connect directly.
struct Behind {
    case: Case,
    kafka: Proxy,
    postgres: Proxy,
    load: Load,
    // The broker must live as long as this value.
    _broker: Kafka,
}

fn behind(name: &str) -> Behind {
    let (kafka, postgres) = (Proxy::listen(Server::Kafka), Proxy::listen(Server::Postgres));
    let options = KafkaOptions { proxied: Some(kafka.port()), ..KafkaOptions::default() };
    let broker = Kafka::start(&xtask::Cache::open().unwrap(), &options).unwrap();
    kafka.leads_to(broker.proxied_port().unwrap());
    let servers = Servers { brokers: broker.brokers(), postgres: servers::shared().postgres.clone() };
    let case = Case::on(&servers, name).guest(&Guest::revision(1)).setup();
    let direct = case.database.url().to_owned();
    let (rest, database) = direct.rsplit_once('/').unwrap();
    let (host, port) = rest.rsplit_once(':').unwrap();
    postgres.leads_to(port.parse().unwrap());
    let case = case
        .set("/source/brokers", json!(format!("127.0.0.1:{}", kafka.port())))
        .set("/postgres/url", json!(format!("{host}:{}/{database}", postgres.port())))
        .set("/delivery", json!({ "batch": { "max_events": 1000 }, "transaction_timeout": "4s" }));
    let load = Load::start(&servers.brokers, &case.source(), PARTITIONS, RATE);
    Behind { case, kafka, postgres, load, _broker: broker }
}

impl Behind {
    /// Asserts that every record that was sent is processed once.
    fn conclude(self, engine: Engine, what: &str) {
        let (ends, rate) = self.load.stop();
        self.case.settled(&ends);
        engine.stop();
        let found = oracle::check(&self.case, &ends);
        println!("{what}: {} events at {rate:.0}/s", ends.iter().sum::<i64>());
        assert!(found.is_empty(), "{what}: {found:#?}");
    }
}

fn goes_on(engine: &Engine, what: &str) {
    let before = engine.metric("tollgate_events_total", "");
    wait_for(&format!("events to get through after {what}"), || {
        assert!(engine.running(), "the engine ended after {what}:\n{}", engine.log());
        (engine.metric("tollgate_events_total", "") > before + 2_000.0).then_some(())
    });
}

#[test]
fn an_outcome_that_nobody_tells_is_asked_for() {
    let _alone = one_at_a_time();
    let behind = behind("ambiguous");
    let engine = behind.case.run();
    goes_on(&engine, "its start");
    for round in 0..5 {
        for (server, proxy) in [("COMMIT", &behind.postgres), ("EndTxn", &behind.kafka)] {
            for lost in [Lost::Request, Lost::Reply] {
                let what = format!("the {lost:?} of {server} was lost (round {round})");
                let (before, given_up) = (proxy.lose_next(lost), engine.metric("tollgate_retries_total", ""));
                wait_for(&format!("an ambush: {what}"), || (proxy.met() > before).then_some(()));
                goes_on(&engine, &what);
                // It may also have lost a reply to a request that librdkafka then repeated by itself.
                if server == "COMMIT" {
                    assert!(engine.metric("tollgate_retries_total", "") > given_up, "nobody noticed that {what}");
                }
            }
        }
    }
    assert_eq!(engine.log().matches("partition taken over").count(), 4, "it kept its partitions throughout");
    behind.conclude(engine, "twenty lost outcomes");
}

/// librdkafka asks three times for the coordinator of a group's offsets, and then waits until any broker is added or
/// removed, which may never happen.
#[test]
fn a_coordinator_that_cannot_be_found_holds_a_lane_for_some_seconds_only() {
    let _alone = one_at_a_time();
    let behind = behind("coordinator");
    let engine = behind.case.run();
    goes_on(&engine, "its start");
    // The next producers do not know a coordinator yet.
    behind.kafka.hide_coordinators(true);
    behind.postgres.lose_next(Lost::Request);
    wait_for("producers to give up looking", || (behind.kafka.turned_away() >= 3).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    behind.kafka.hide_coordinators(false);
    wait_for("the lane to hear that nobody answers", || engine.log().contains("has no answer").then_some(()));
    goes_on(&engine, "the search for a coordinator");
    assert!(engine.running(), "{}", engine.log());
    behind.conclude(engine, "a coordinator that could not be found");
}

#[test]
fn a_bad_line_costs_nothing_but_time() {
    let _alone = one_at_a_time();
    let behind = behind("bad-line");
    let engine = behind.case.run();
    goes_on(&engine, "its start");
    for (name, proxy) in [("PostgreSQL", &behind.postgres), ("Kafka", &behind.kafka)] {
        for _ in 0..3 {
            proxy.reset();
            goes_on(&engine, &format!("a reset of all connections to {name}"));
        }
        proxy.delay(Duration::from_millis(50));
        goes_on(&engine, &format!("50 ms of delay to {name}"));
        proxy.delay(Duration::ZERO);
        // This exceeds the session timeout: the member is removed from the group, or the server has ended its session.
        let before = engine.metric("tollgate_events_total", "");
        proxy.hold(true);
        std::thread::sleep(Duration::from_secs(3));
        proxy.hold(false);
        wait_for(&format!("events after a black hole before {name}"), || {
            assert!(engine.running(), "{}", engine.log());
            (engine.metric("tollgate_events_total", "") > before + 20_000.0).then_some(())
        });
    }
    behind.conclude(engine, "a bad line");
}
