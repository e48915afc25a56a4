//! Holds the slot: a session of its own with an advisory lock, asked every second whether it lives.
//!
//! The lock only hands out names; the fence is the epoch. While the session is lost the lanes make no new decision, and
//! the slot is taken again as soon as PostgreSQL is back. If another process was quicker, this one must end: two
//! processes with the same transactional ids would fence each other for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::postgres::PgConnection;

use super::Shared;
use super::breaker::{self, Leave, Sink};
use super::watch::Watch;
use crate::config::{DeliveryMode, Pipeline};
use crate::limits;
use crate::position::NextOffset;
use crate::progress::halts::{self, Resumed};
use crate::progress::processed;
use crate::progress::store::{self, Owner};
use crate::sinks::classes;
use crate::sinks::postgres::connect;
use crate::source::rebalance::Callbacks;

/// Takes the lowest free slot on a session of its own.
pub async fn take(
    pipeline: &Pipeline,
    owner: &Owner,
    only: Option<i32>,
) -> Result<Option<(PgConnection, store::Slot)>, sqlx::Error> {
    let mut session = connect::hold(pipeline, "slot").await?;
    let lanes = i32::try_from(pipeline.lanes).unwrap_or(i32::MAX);
    let slot = store::take_slot(&mut session, owner, lanes, limits::SLOTS, only).await?;
    Ok(slot.map(|slot| (session, slot)))
}

/// A new session in place of one that was lost: with the same slot, where the mode has one.
async fn again(shared: &Shared) -> Result<Option<PgConnection>, sqlx::Error> {
    let Some(slot) = shared.slot() else { return connect::hold(&shared.pipeline, "keeper").await.map(Some) };
    let taken = take(&shared.pipeline, &shared.owner, Some(slot)).await?;
    Ok(taken.map(|(session, _)| session))
}

/// Runs until the process stops. `Err` says why the process must end.
pub fn run(shared: &Arc<Shared>, session: PgConnection, consumer: &Arc<BaseConsumer<Callbacks>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(keep(shared, session, consumer))
}

async fn keep(
    shared: &Arc<Shared>,
    session: PgConnection,
    consumer: &Arc<BaseConsumer<Callbacks>>,
) -> Result<(), String> {
    let (mut ticks, mut tries): (u32, u32) = (0, 0);
    let mut forgetting = false;
    let mut watch = Watch::default();
    // A session that did not answer in time is closed at once: it may live on at the server, and hold the slot against us.
    let mut session = Some(session);
    while !shared.stopping() {
        if !rested(shared).await {
            break;
        }
        let Some(held) = session.as_mut() else {
            let silent = || Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
            match tokio::time::timeout(limits::STATEMENT_PATIENCE, again(shared)).await.unwrap_or_else(|_| silent()) {
                Ok(Some(new)) => {
                    session = Some(new);
                    tries = 0;
                    shared.hold_slot(true);
                    shared.no_trouble("postgres");
                    shared.breakers.nudge(Sink::Postgres);
                }
                Ok(None) if shared.slot().is_some() && tries >= limits::SLOT_TRIES => {
                    return Err("another process took this one's slot while PostgreSQL was away; start again".into());
                }
                Ok(None) => tries += 1,
                Err(error) => {
                    shared.trouble("postgres", &error.to_string());
                    shared.outage(Sink::Postgres, &connect::describe(&error));
                    shared.heard(Leave::UNASKED, breaker::only(Sink::Postgres, connect::meaning(&error).heard()));
                }
            }
            continue;
        };
        let followed = tokio::time::timeout(limits::CONNECT_PATIENCE, follow(shared, held)).await;
        match followed.unwrap_or(Err(sqlx::Error::WorkerCrashed)) {
            Ok(()) => {
                shared.answers(Sink::Postgres);
                shared.breakers.forget(&shared.metrics, Sink::Postgres);
            }
            Err(error) => {
                session = None;
                shared.hold_slot(shared.pipeline.delivery.mode == DeliveryMode::AtLeastOnce);
                shared.trouble("postgres", &error.to_string());
                tracing::debug!(%error, "the session that holds this process's slot is lost");
                shared.outage(Sink::Postgres, &connect::describe(&error));
            }
        }
        if forgetting || ticks.is_multiple_of(60) {
            forgetting = forget(shared, session.as_mut()).await;
        }
        kafka(shared, consumer, &mut watch, ticks);
        ticks = ticks.wrapping_add(1);
        shared.metrics.ready(shared.unready().is_empty());
        if let Some(registry) = &shared.gate.registry {
            shared.metrics.schemas(registry.schemas.stats());
        }
    }
    if let (Some(number), Some(session)) = (shared.slot(), session.as_mut()) {
        // Left in order: nobody has to look for transactions of ours.
        let slot = store::Slot { number, lanes: 0 };
        if let Err(error) = store::bury(session, &shared.pipeline.name, slot).await {
            tracing::debug!(%error, "the slot's row stays until a successor clears it");
        }
    }
    Ok(())
}

/// Follows the stored pause and the stored halts, and stores the halts of this process.
async fn follow(shared: &Shared, session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mark = shared.pause_mark();
    let stored = halts::paused(session, &shared.pipeline.name).await?;
    let ends = shared.pause_ends(stored.as_ref());
    let resumed = if ends { halts::resumed(session, &shared.owner).await? } else { Resumed::default() };
    shared.follow_pause(mark, stored, &resumed);
    let mark = shared.halts_mark();
    for halt in shared.unstored_halts() {
        halts::halt(session, &shared.owner, &halt).await?;
        shared.stored_halt(halt.partition);
    }
    let stored = halts::halts(session, &shared.owner.pipeline, &shared.owner.topic).await?;
    shared.follow_halts(mark, stored);
    Ok(())
}

/// Deletes ids that are old enough. Returns whether there may be more.
async fn forget(shared: &Shared, session: Option<&mut PgConnection>) -> bool {
    let (Some(session), Some(ids)) = (session, &shared.pipeline.delivery.processed) else { return false };
    let forgot = processed::forget(session, &shared.pipeline.name, ids.ttl);
    // What fails here fails beside the question for the pause too, where it is told.
    matches!(tokio::time::timeout(limits::STATEMENT_PATIENCE, forgot).await, Ok(Ok(true)))
}

/// Waits for the next round; false when the process stops meanwhile.
async fn rested(shared: &Shared) -> bool {
    let until = Instant::now() + limits::KEEPER_INTERVAL;
    while Instant::now() < until {
        if shared.stopping() {
            return false;
        }
        tokio::time::sleep(limits::KEEPER_STEP).await;
    }
    true
}

/// Kafka's half of readiness, and the lag.
fn kafka(shared: &Shared, consumer: &BaseConsumer<Callbacks>, watch: &mut Watch, ticks: u32) {
    if consumer.context().connected() {
        shared.no_trouble("kafka");
        shared.answers(Sink::Kafka);
        shared.breakers.forget(&shared.metrics, Sink::Kafka);
    } else {
        // librdkafka says when it lost all brokers, but not when one is back: ask.
        match consumer.fetch_metadata(Some(&shared.pipeline.source.topic), Duration::from_millis(500)) {
            Ok(_) => {
                consumer.context().heard();
                shared.breakers.nudge(Sink::Kafka);
            }
            Err(error) => {
                shared.trouble("kafka", &error.to_string());
                shared.outage(Sink::Kafka, &error);
                shared.heard(Leave::UNASKED, breaker::only(Sink::Kafka, classes::kafka(&error).heard()));
            }
        }
    }
    if shared.wants() && consumer.context().connected() && is_spare(shared, consumer) {
        shared.spare();
    }
    if ticks.is_multiple_of(5) && consumer.context().connected() {
        lags(shared, consumer, watch);
        dead_letters(shared, consumer);
    }
}

/// Whether a member without a partition has none because the group has enough others. Right after a cooperative member has
/// joined it has none either: the others let go of its share in a second round.
fn is_spare(shared: &Shared, consumer: &BaseConsumer<Callbacks>) -> bool {
    let (source, timeout) = (&shared.pipeline.source, Duration::from_millis(500));
    let Ok(metadata) = consumer.fetch_metadata(Some(&source.topic), timeout) else { return false };
    let Ok(groups) = consumer.fetch_group_list(Some(&source.group_id), timeout) else { return false };
    let partitions: usize = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
    groups.groups().iter().any(|group| group.state() == "Stable" && group.members().len() > partitions)
}

/// The lag of each partition, and which of them stand still.
fn lags(shared: &Shared, consumer: &BaseConsumer<Callbacks>, watch: &mut Watch) {
    let mut stalled = Vec::new();
    let (positions, now) = (shared.metrics.positions(), Instant::now());
    watch.keep(&positions.keys().copied().collect());
    for (partition, next) in positions {
        // The end for readers of committed records.
        let Ok((_, high)) =
            consumer.fetch_watermarks(&shared.pipeline.source.topic, partition.0, Duration::from_millis(500))
        else {
            continue;
        };
        let lag = shared.metrics.lag(partition, next, NextOffset(high));
        // Where it stands still on purpose, that is reported already.
        let waits = shared.paused().is_some() || shared.is_halted(partition);
        let still = watch.look(partition, next, if waits { 0 } else { lag }, now);
        shared.metrics.stalled(partition, still);
        if still >= shared.pipeline.source.stall_after {
            let seconds = still.as_secs();
            stalled
                .push(format!("partition {partition} has {lag} records of lag and has committed none for {seconds} s"));
        }
    }
    if stalled.is_empty() {
        shared.no_trouble("watchdog");
    } else {
        shared.trouble("watchdog", &stalled.join("; "));
    }
}

/// How many records the dead letter topic holds, at most: transaction markers count too.
fn dead_letters(shared: &Shared, consumer: &BaseConsumer<Callbacks>) {
    let (topic, timeout) = (&shared.pipeline.dead_letter.topic, Duration::from_millis(500));
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), timeout) else { return };
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let depth: i64 = partitions
        .filter_map(|partition| consumer.fetch_watermarks(topic, partition.id(), timeout).ok())
        .map(|(low, high)| high - low)
        .sum();
    let alert =
        shared.pipeline.dead_letter.alert_depth.is_some_and(|most| depth >= i64::try_from(most).unwrap_or(i64::MAX));
    if shared.metrics.dead_letter_depth(depth, alert) {
        tracing::warn!(
            depth,
            topic,
            "the dead letter topic has reached the depth of dlq_threshold: `tollgate dlq list` shows why"
        );
    }
}
