//! Holds the slot in a separate session with an advisory lock, and checks every second that the session is alive.
//!
//! The lock only assigns names; the fence is the epoch. While the session is lost, the lanes make no new decisions, and
//! the slot is taken again as soon as PostgreSQL is back. If another process was faster, this one must end: two
//! processes with the same transactional ids would fence each other forever.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::postgres::PgConnection;

use super::HelperError;
use super::watch::Watch;
use crate::brakes::Brakes;
use crate::brakes::breaker::Permit;
use crate::brakes::sink::{PerSink, Sink};
use crate::classes;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::position::NextOffset;
use crate::progress::halts::{self, Halt, Resumed};
use crate::progress::processed;
use crate::progress::store::{self, Owner};
use crate::sinks::postgres::{connect, partitions};
use crate::source::rebalance::Callbacks;
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Pipeline, TableName};
use tollgate_registry::SchemaStore;

/// The resources of the keeper thread.
pub struct Keeper {
    pub pipeline: Arc<Pipeline>,
    /// The schemas of a framed topic.
    pub schemas: Option<Arc<SchemaStore>>,
    pub owner: Arc<Owner>,
    pub lifecycle: Arc<Lifecycle>,
    pub brakes: Arc<Brakes>,
    pub metrics: Arc<Metrics>,
}

impl Keeper {
    /// Returns the halts of the partitions that the group has assigned to this member.
    fn own_halts(&self) -> Vec<Halt> {
        self.brakes.halts_of(&self.lifecycle.partitions())
    }
}

/// Takes the lowest free slot on a new session.
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

/// Opens a new session to replace a lost one, with the same slot if the mode has one.
async fn again(keeper: &Keeper) -> Result<Option<PgConnection>, sqlx::Error> {
    let Some(slot) = keeper.lifecycle.slot() else { return connect::hold(&keeper.pipeline, "keeper").await.map(Some) };
    let taken = take(&keeper.pipeline, &keeper.owner, Some(slot)).await?;
    Ok(taken.map(|(session, _)| session))
}

/// Runs until the process stops. An error is the reason why the process must end.
pub fn run(keeper: &Keeper, session: PgConnection, consumer: &BaseConsumer<Callbacks>) -> Result<(), HelperError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime?.block_on(keep(keeper, session, consumer))
}

async fn keep(keeper: &Keeper, session: PgConnection, consumer: &BaseConsumer<Callbacks>) -> Result<(), HelperError> {
    let (mut ticks, mut tries): (u32, u32) = (0, 0);
    let mut forgetting = false;
    let mut watch = Watch::default();
    // A session that did not respond in time is closed at once: at the server it may live on and hold our slot.
    let mut session = Some(session);
    while !keeper.lifecycle.stopping() {
        if !rested(keeper).await {
            break;
        }
        let Some(held) = session.as_mut() else {
            let silent = || Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
            match tokio::time::timeout(limits::STATEMENT_PATIENCE, again(keeper)).await.unwrap_or_else(|_| silent()) {
                Ok(Some(new)) => {
                    session = Some(new);
                    tries = 0;
                    keeper.lifecycle.hold_slot(true);
                    keeper.lifecycle.no_trouble("postgres");
                    keeper.brakes.breakers.retry_now(Sink::Postgres);
                }
                Ok(None) if keeper.lifecycle.slot().is_some() && tries >= limits::SLOT_TRIES => {
                    return Err(HelperError::SlotLost);
                }
                Ok(None) => tries += 1,
                Err(error) => {
                    keeper.lifecycle.trouble("postgres", &error.to_string());
                    keeper.brakes.outage(Sink::Postgres, &connect::describe(&error));
                    let observed = PerSink::only(Sink::Postgres, connect::meaning(&error).observation());
                    keeper.brakes.observe(Permit::UNASKED, observed);
                }
            }
            continue;
        };
        let followed = tokio::time::timeout(limits::CONNECT_PATIENCE, follow(keeper, held)).await;
        match followed.unwrap_or(Err(sqlx::Error::WorkerCrashed)) {
            Ok(()) => {
                keeper.brakes.answers(Sink::Postgres);
                keeper.brakes.close_idle(Sink::Postgres);
            }
            Err(error) => {
                session = None;
                keeper.lifecycle.hold_slot(keeper.pipeline.delivery.mode == DeliveryMode::AtLeastOnce);
                keeper.lifecycle.trouble("postgres", &error.to_string());
                tracing::debug!(%error, "lost the session that holds this process's slot");
                keeper.brakes.outage(Sink::Postgres, &connect::describe(&error));
            }
        }
        if forgetting || ticks.is_multiple_of(60) {
            forgetting = forget(keeper, session.as_mut()).await;
        }
        if ticks.is_multiple_of(limits::PARTITION_ROUNDS) {
            partitions(keeper, session.as_mut()).await;
        }
        kafka(keeper, consumer, &mut watch, ticks);
        ticks = ticks.wrapping_add(1);
        keeper.metrics.ready(keeper.lifecycle.unready(&keeper.own_halts()).is_empty());
        if let Some(schemas) = &keeper.schemas {
            keeper.metrics.schemas(schemas.stats());
        }
    }
    if let (Some(number), Some(session)) = (keeper.lifecycle.slot(), session.as_mut()) {
        // After a clean shutdown no other process has to look for open transactions of ours.
        let slot = store::Slot { number, lanes: 0 };
        if let Err(error) = store::bury(session, &keeper.pipeline.name, slot).await {
            tracing::debug!(%error, "cannot clear the slot's row; a successor will");
        }
    }
    Ok(())
}

/// Applies the stored pause and halts, and stores the halts of this process.
async fn follow(keeper: &Keeper, session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mark = keeper.brakes.pause_mark();
    let stored = halts::paused(session, &keeper.pipeline.name).await?;
    let ends = keeper.brakes.pause_ends(stored.as_ref());
    let resumed = if ends { halts::resumed(session, &keeper.owner).await? } else { Resumed::default() };
    keeper.brakes.sync_pause(mark, stored, &resumed);
    let mark = keeper.brakes.halts_mark();
    for halt in keeper.brakes.unstored_halts() {
        halts::halt(session, &keeper.owner, &halt).await?;
        keeper.brakes.stored_halt(halt.partition);
    }
    let stored = halts::halts(session, &keeper.owner.pipeline, &keeper.owner.topic).await?;
    keeper.brakes.sync_halts(mark, stored);
    keeper.metrics.halted(&keeper.own_halts());
    Ok(())
}

/// Deletes expired ids. Returns whether there may be more.
async fn forget(keeper: &Keeper, session: Option<&mut PgConnection>) -> bool {
    let (Some(session), Some(ids)) = (session, &keeper.pipeline.delivery.processed) else { return false };
    let forgot = processed::forget(session, &keeper.pipeline.name, ids.ttl);
    // A failure here also fails the query for the pause, which is logged.
    matches!(tokio::time::timeout(limits::STATEMENT_PATIENCE, forgot).await, Ok(Ok(true)))
}

/// Creates partitions ahead of time if the mapping asks for it. A failure is only a warning: the current partition
/// exists.
async fn partitions(keeper: &Keeper, session: Option<&mut PgConnection>) {
    let Some(session) = session else { return };
    let mut done: Vec<&TableName> = Vec::new();
    for mapping in keeper.pipeline.destinations().filter_map(|to| to.mapping()) {
        let Some(by) = mapping.partitions.as_ref().filter(|_| !done.contains(&&mapping.table)) else { continue };
        done.push(&mapping.table);
        let today = partitions::day_of(SystemTime::now());
        let wanted = partitions::wanted(&mapping.table, by, today);
        let ahead = partitions::ahead(session, wanted);
        let silent = || vec![(mapping.table.to_string(), Err(sqlx::Error::WorkerCrashed))];
        for (name, made) in tokio::time::timeout(limits::STATEMENT_PATIENCE, ahead).await.unwrap_or_else(|_| silent()) {
            match made {
                Ok(()) => tracing::info!(table = %mapping.table, partition = name, "created a partition"),
                Err(error) => {
                    keeper.metrics.partition_failed();
                    let error = connect::describe(&error);
                    tracing::warn!(table = %mapping.table, partition = name, error, "cannot create a partition ahead");
                }
            }
        }
    }
}

/// Waits for the next round; returns false if the process stops meanwhile.
async fn rested(keeper: &Keeper) -> bool {
    let until = Instant::now() + limits::KEEPER_INTERVAL;
    while Instant::now() < until {
        if keeper.lifecycle.stopping() {
            return false;
        }
        tokio::time::sleep(limits::KEEPER_STEP).await;
    }
    true
}

/// Checks Kafka's half of readiness, and the lag.
fn kafka(keeper: &Keeper, consumer: &BaseConsumer<Callbacks>, watch: &mut Watch, ticks: u32) {
    if consumer.context().connected() {
        keeper.lifecycle.no_trouble("kafka");
        keeper.brakes.answers(Sink::Kafka);
        keeper.brakes.close_idle(Sink::Kafka);
    } else {
        // librdkafka reports the loss of all brokers, but not their return, so query one.
        match consumer.fetch_metadata(Some(&keeper.pipeline.source.topic), limits::KEEPER_CALL) {
            Ok(_) => {
                consumer.context().answered();
                keeper.brakes.breakers.retry_now(Sink::Kafka);
            }
            Err(error) => {
                keeper.lifecycle.trouble("kafka", &error.to_string());
                keeper.brakes.outage(Sink::Kafka, &error);
                keeper
                    .brakes
                    .observe(Permit::UNASKED, PerSink::only(Sink::Kafka, classes::kafka(&error).observation()));
            }
        }
    }
    if keeper.lifecycle.wants() && consumer.context().connected() && is_spare(keeper, consumer) {
        keeper.lifecycle.spare();
    }
    if ticks.is_multiple_of(5) && consumer.context().connected() {
        lags(keeper, consumer, watch);
        dead_letters(keeper, consumer);
    }
}

/// Returns whether a member has no partition because the group has enough other members. Right after a cooperative
/// member has joined it has none either: the others release its share in a second round.
fn is_spare(keeper: &Keeper, consumer: &BaseConsumer<Callbacks>) -> bool {
    let (source, timeout) = (&keeper.pipeline.source, limits::KEEPER_CALL);
    let Ok(metadata) = consumer.fetch_metadata(Some(&source.topic), timeout) else { return false };
    let Ok(groups) = consumer.fetch_group_list(Some(&source.group_id), timeout) else { return false };
    let partitions: usize = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
    groups.groups().iter().any(|group| group.state() == "Stable" && group.members().len() > partitions)
}

/// Measures the lag of each partition, and finds stalled ones.
fn lags(keeper: &Keeper, consumer: &BaseConsumer<Callbacks>, watch: &mut Watch) {
    let mut stalled = Vec::new();
    let (positions, now) = (keeper.metrics.positions(), Instant::now());
    watch.keep(&positions.keys().copied().collect());
    for (partition, next) in positions {
        // The end for readers of committed records.
        let Ok((_, high)) =
            consumer.fetch_watermarks(&keeper.pipeline.source.topic, partition.get(), limits::KEEPER_CALL)
        else {
            continue;
        };
        let lag = keeper.metrics.lag(partition, next, NextOffset::new(high));
        // An intentional stop is already reported.
        let waits = keeper.brakes.paused().is_some() || keeper.brakes.is_halted(partition);
        let still = watch.look(partition, next, if waits { 0 } else { lag }, now);
        keeper.metrics.stalled(partition, still);
        if still >= keeper.pipeline.source.stall_after {
            let seconds = still.as_secs();
            stalled.push(format!(
                "partition {partition} has {lag} records of lag and has committed nothing for {seconds} s"
            ));
        }
    }
    if stalled.is_empty() {
        keeper.lifecycle.no_trouble("watchdog");
    } else {
        keeper.lifecycle.trouble("watchdog", &stalled.join("; "));
    }
}

/// Returns an upper bound of the records in the dead letter topic. Transaction markers count too.
fn dead_letters(keeper: &Keeper, consumer: &BaseConsumer<Callbacks>) {
    let (topic, timeout) = (&keeper.pipeline.dead_letter.topic, limits::KEEPER_CALL);
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), timeout) else { return };
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let depth: i64 = partitions
        .filter_map(|partition| consumer.fetch_watermarks(topic, partition.id(), timeout).ok())
        .map(|(low, high)| high - low)
        .sum();
    let alert =
        keeper.pipeline.dead_letter.alert_depth.is_some_and(|most| depth >= i64::try_from(most).unwrap_or(i64::MAX));
    if keeper.metrics.dead_letter_depth(depth, alert) {
        tracing::warn!(
            depth,
            topic,
            "the depth of the dead letter topic has reached dlq_threshold: `tollgate dlq list` shows why"
        );
    }
}
