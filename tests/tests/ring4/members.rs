//! Tests a second member that joins and leaves, in order and by crashes, while the load continues.

use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::engine::Engine;
use tollgate_tests::kafka::Client;
use tollgate_tests::{servers, wait_for};
use xtask::process::Signal;

use super::crashes::{conclude, loaded};
use super::one_at_a_time;

/// Far below `shutdown` (30 s).
const LEAVES: Duration = Duration::from_secs(10);

fn partitions(engine: &Engine) -> f64 {
    engine.metric("tollgate_partitions_assigned", "")
}

pub(super) fn share(case: &Case, one: &Engine, other: &Engine) {
    wait_for(&format!("two members of {} to share its partitions", case.name), || {
        (partitions(one) == 2.0 && partitions(other) == 2.0).then_some(())
    });
    for engine in [one, other] {
        let before = engine.metric("tollgate_events_total", "");
        wait_for("both to carry events", || (engine.metric("tollgate_events_total", "") > before).then_some(()));
    }
}

pub(super) fn alone(engine: &Engine) {
    wait_for("one member to have every partition", || (partitions(engine) == f64::from(PARTITIONS)).then_some(()));
}

#[test]
fn a_second_member_joins_leaves_dies_and_stands_still() {
    let _alone = one_at_a_time();
    let (case, load) = loaded("members");
    let first = case.run();
    alone(&first);
    // This member leaves in order.
    let second = case.run();
    share(&case, &first, &second);
    second.stop();
    alone(&first);
    // This member is killed. The survivor aborts its open transaction and does not wait for the timeout.
    let third = case.run();
    share(&case, &first, &third);
    third.kill();
    alone(&first);
    // This member is paused until another member owns its partitions, and continues with old batches.
    let fourth = case.run();
    share(&case, &first, &fourth);
    fourth.signal(Signal::STOP);
    alone(&first);
    fourth.signal(Signal::CONT);
    share(&case, &first, &fourth);
    // The first member leaves, and its successor gets all partitions.
    first.stop();
    alone(&fourth);
    fourth.stop();
    conclude(&case, load, "a second member");
}

/// One failpoint for each kind of wait: the channel, the sandbox, PostgreSQL between two statements, COPY, Kafka.
const WAITS: [&str; 5] = ["at-channel:5", "at-sandbox:5", "at-begin:5", "at-copy:1", "after-step-3:5"];
/// The other failpoints at which a lane waits.
const OTHER_WAITS: [&str; 4] = ["after-step-1:5", "after-step-2:5", "after-step-4:5", "at-search:1"];

/// PostgreSQL rejects the rows of the second member, so that it searches for the row.
const REFUSE_SECOND: &str = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('tests.member', true) = 'second' THEN RAISE EXCEPTION 'not by this one'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON seen FOR EACH STATEMENT EXECUTE FUNCTION refuse()";

fn stands_still(engine: &Engine) {
    wait_for("a member to stand still", || {
        assert!(engine.running(), "{}", engine.log());
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", engine.id())).unwrap();
        stat.contains(") T ").then_some(())
    });
}

/// The member's transactions in Kafka and PostgreSQL would stay open for a minute, and its COPY for ever. It is paused
/// once in each kind of wait, and with `TOLLGATE_FULL=1` wherever a lane waits.
#[test]
fn a_member_that_stands_still_holds_nobody_up() {
    let _alone = one_at_a_time();
    let (case, load) = loaded("still");
    // These batches are written by COPY.
    let batch = json!({ "max_events": 8000, "max_wait": "1s" });
    let case = case.set("/delivery/transaction_timeout", json!("60s")).set("/delivery/batch", batch);
    let full = std::env::var("TOLLGATE_FULL").is_ok_and(|set| set == "1");
    let mut places = WAITS.to_vec();
    let first = if full {
        places.extend(OTHER_WAITS);
        let earlier = case.run_with(&[("TOLLGATE_FAILPOINT", "still-at-first-offset")]);
        stands_still(&earlier);
        let first = case.run();
        alone(&first);
        earlier.kill();
        first
    } else {
        case.run()
    };
    alone(&first);
    let url = format!("{}?options[tests.member]=second", case.database.url());
    let other = case.again().set("/postgres/url", json!(url));
    for place in places {
        let searches = place.starts_with("at-search");
        if searches {
            case.database.run(REFUSE_SECOND);
        }
        let second = other.run_with(&[("TOLLGATE_FAILPOINT", &format!("still-{place}"))]);
        stands_still(&second);
        let (began, carried) = (Instant::now(), first.metric("tollgate_events_total", ""));
        alone(&first);
        wait_for("the first to carry events", || {
            (first.metric("tollgate_events_total", "") > carried + 20_000.0).then_some(())
        });
        println!("still {place}: taken over after {:.1} s", began.elapsed().as_secs_f64());
        assert!(began.elapsed() < Duration::from_secs(15), "{place}, {:?}:\n{}", began.elapsed(), first.log());
        if searches {
            case.database.run("DROP TRIGGER refuse ON seen");
        }
        second.signal(Signal::CONT);
        share(&case, &first, &second);
        second.stop();
        alone(&first);
    }
    first.stop();
    conclude(&case, load, "members that stand still");
}

/// The member is stopped at the moment when it continues: with old batches, out of the group, and perhaps fenced.
#[test]
fn a_member_that_is_told_to_leave_as_it_wakes_leaves() {
    let _alone = one_at_a_time();
    let (case, load) = loaded("waking");
    let first = case.run();
    alone(&first);
    let repeat = std::env::var("TOLLGATE_REPEAT").map_or(2, |times| times.parse().unwrap());
    for round in 0..repeat {
        let second = case.run();
        share(&case, &first, &second);
        second.signal(Signal::STOP);
        alone(&first);
        // Sometimes the pause exceeds the timeout of the member's open transaction.
        std::thread::sleep(Duration::from_millis(1_500 * (round % 3)));
        second.signal(Signal::CONT);
        second.signal(Signal::TERM);
        let began = Instant::now();
        let status = second.wait();
        println!("round {round}: {status} after {:.1} s", began.elapsed().as_secs_f64());
        assert!(status.success() && began.elapsed() < LEAVES, "{}", second.log());
    }
    first.stop();
    conclude(&case, load, "members that leave as they wake");
}

/// Fences the producers as a takeover does. Some are fenced while they queue records, where librdkafka only reports a
/// fatal error.
#[test]
fn a_member_whose_producers_are_fenced_goes_on_with_new_ones() {
    let _alone = one_at_a_time();
    let (case, load) = loaded("fenced");
    let engine = case.run();
    alone(&engine);
    let kafka = Client::new(&servers::shared().brokers);
    let given_up = || engine.log().matches("batch failed, retrying").count();
    let before = given_up();
    for round in 0..20 {
        for name in ["0-0-a", "0-0-b", "0-1-a", "0-1-b"] {
            kafka.fence(&format!("{}-{name}", case.name));
        }
        let passed = engine.metric("tollgate_events_total", "");
        wait_for(&format!("events after round {round}"), || {
            assert!(engine.running(), "it ended after round {round}:\n{}", engine.log());
            (engine.metric("tollgate_events_total", "") > passed + 1_000.0).then_some(())
        });
    }
    println!("{} batches given up", given_up() - before);
    assert!(given_up() >= before + 20, "it was not fenced");
    engine.stop();
    conclude(&case, load, "a member that was fenced");
}
