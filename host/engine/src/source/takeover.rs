//! Takes partitions over on a separate thread while the poll thread keeps polling.
//!
//! The order of the steps matters:
//!
//! 1. The rows are read. A row that belongs to another group, cluster or topic ends the takeover here.
//! 2. A dead member's transactions are ended, so that the group's offset is stable, and the offset is read.
//! 3. Row and offset are compared. A takeover that would halt ends here without changing anything: a second process
//!    with another configuration must not fence a healthy owner.
//! 4. The epoch is raised, after which no older owner can commit in PostgreSQL. The row is read and compared again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::rebalance::Callbacks;
use super::{advice, authorised, start};
use crate::brakes::Brakes;
use crate::brakes::breaker::Permit;
use crate::brakes::sink::{Observation, PerSink, Sink};
use crate::classes::{self, Meaning};
use crate::kafka::client;
use crate::lifecycle::Lifecycle;
use crate::position::{Epoch, NextOffset, Partition};
use crate::progress::halts::{self, Halt};
use crate::progress::store::{self, Delivery, Found, Owner, Slot};
use crate::progress::{self, Group, Halt as Disagreement, Place, Position, Row, Takeover, Writer};
use crate::sinks::kafka::{Producers, Sizes, side_by_side};
use crate::sinks::postgres::connect;
use crate::source::handoff::Taken;
use tollgate_config::error::Class;
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Pipeline, Start};

/// Partitions to take over, and the assignment they belong to.
#[derive(Debug)]
pub struct Request {
    pub partitions: Vec<Partition>,
    pub assignment: u64,
}

#[derive(Debug)]
pub enum Answer {
    Taken {
        partitions: Vec<Taken>,
        /// The requested partitions that are halted.
        halted: Vec<Partition>,
        assignment: u64,
    },
    /// The process cannot continue, for this reason.
    Fatal(String),
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("kafka: {0}")]
    Transaction(#[from] crate::sinks::kafka::Error),
    #[error("postgres: no answer within {} s", limits::TAKEOVER_PATIENCE.as_secs())]
    Timeout,
    /// Another member owned the partition between the two reads, so their results do not belong together.
    #[error("the group's offset of partition {0} moved while the partition was taken over")]
    Moved(Partition),
    /// Only an operator can decide how this partition continues.
    #[error("{}", .0.message)]
    Halt(Halt),
    /// The pipeline cannot run with this process's configuration. Another process may be healthy, so nothing is stored.
    #[error("{}", .0.message)]
    Pipeline(Halt),
}

impl Error {
    fn class(&self) -> Class {
        match self {
            Error::Postgres(error) => connect::class(error),
            Error::Transaction(error) => error.class(),
            Error::Kafka(error) => classes::kafka(error).class(),
            Error::Timeout | Error::Moved(_) => Class::Transient,
            Error::Halt(_) | Error::Pipeline(_) => Class::Fatal,
        }
    }

    /// Returns whether a row was locked for longer than a takeover waits. The connection is then usable, and the next
    /// attempt ends the session that holds the lock if that one is unresponsive.
    fn waited_for_lock(&self) -> bool {
        matches!(self, Error::Postgres(error) if connect::meaning(error) == Meaning::Conflict)
    }

    /// Returns the server and the meaning of its error, if a server caused this.
    fn server_error(&self) -> Option<(Sink, Meaning)> {
        Some(match self {
            Error::Postgres(error) => (Sink::Postgres, connect::meaning(error)),
            Error::Timeout => (Sink::Postgres, Meaning::Outage),
            Error::Kafka(error) => (Sink::Kafka, classes::kafka(error)),
            Error::Transaction(error) => (Sink::Kafka, error.meaning()),
            Error::Moved(_) | Error::Halt(_) | Error::Pipeline(_) => return None,
        })
    }

    /// Returns what this error shows about the servers.
    fn observed(&self) -> PerSink<Observation> {
        let at = |(sink, meaning): (Sink, Meaning)| PerSink::only(sink, meaning.observation());
        self.server_error().map_or(PerSink::NOTHING, at)
    }
}

/// Answers requests until the channel closes. Outages are retried with backoff for as long as they last.
pub fn run(mut worker: Worker, requests: &Receiver<Request>, answers: &Sender<Answer>) -> io::Result<()> {
    let (lifecycle, brakes) = (Arc::clone(&worker.lifecycle), Arc::clone(&worker.brakes));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    while let Ok(request) = requests.recv() {
        let mut backoff = brakes.backoff().at_most(limits::TAKEOVER_BACKOFF);
        let mut told = Retries::default();
        let answer = loop {
            if lifecycle.stopping() {
                return Ok(());
            }
            if lifecycle.assignment() != request.assignment {
                // The group has moved on: the new owner's epoch must not be raised.
                break None;
            }
            let tried = runtime.block_on(async {
                tokio::select! {
                    tried = tokio::time::timeout(limits::TAKEOVER_PATIENCE, worker.take(&request)) => Some(tried),
                    // A row may be locked for an unlimited time.
                    () = stopped(&lifecycle) => None,
                }
            });
            let Some(tried) = tried else { return Ok(()) };
            match tried.unwrap_or(Err(Error::Timeout)) {
                Ok((partitions, halted)) => {
                    brakes.observe(Permit::UNASKED, PerSink::ANSWERS);
                    break Some(Answer::Taken { partitions, halted, assignment: request.assignment });
                }
                Err(error) if error.class() == Class::Fatal => break Some(Answer::Fatal(error.to_string())),
                Err(error) => {
                    if !error.waited_for_lock() {
                        worker.connection = None;
                    }
                    brakes.observe(Permit::UNASKED, error.observed());
                    lifecycle.trouble("takeover", &error.to_string());
                    match error.server_error() {
                        Some((sink, Meaning::Outage | Meaning::Login)) => brakes.outage(sink, &error),
                        _ => told.failed(&error.to_string()),
                    }
                    brakes.breakers.sleep(backoff.next_wait(), || lifecycle.stopping());
                }
            }
        };
        lifecycle.no_trouble("takeover");
        let Some(answer) = answer else { continue };
        if answers.send(answer).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The failed attempts of a takeover, for the log.
#[derive(Default)]
struct Retries {
    count: u64,
    last: Option<(String, Instant)>,
}

impl Retries {
    /// Logs a failed attempt: a new error at once, a repeated one now and then.
    fn failed(&mut self, error: &str) {
        self.count += 1;
        let same = |(last, at): &(String, Instant)| last == error && at.elapsed() < limits::TAKEOVER_REMINDER;
        if !self.last.as_ref().is_some_and(same) {
            tracing::warn!(error, tries = self.count, "takeover failed, retrying");
            self.last = Some((error.to_owned(), Instant::now()));
        }
    }
}

/// Completes when the process is to end.
async fn stopped(lifecycle: &Lifecycle) {
    while !lifecycle.stopping() {
        tokio::time::sleep(limits::POLL_IDLE).await;
    }
}

/// Ends the transactions of a slot: a new producer of a name ends the old one's.
fn end_transactions(pipeline: &Pipeline, sizes: Sizes, slot: Slot) -> Result<(), Error> {
    side_by_side(0..slot.lanes, |lane| {
        Producers::connect(pipeline, slot.number, lane, sizes, limits::TAKEOVER_CALL).map(drop)
    })?;
    Ok(())
}

/// The resources of the takeover thread.
pub struct Worker {
    pub pipeline: Arc<Pipeline>,
    pub owner: Arc<Owner>,
    pub writer: Arc<Writer>,
    pub sizes: Sizes,
    pub lifecycle: Arc<Lifecycle>,
    pub brakes: Arc<Brakes>,
    pub consumer: Arc<BaseConsumer<Callbacks>>,
    pub connection: Option<sqlx::PgConnection>,
}

impl Worker {
    /// Takes over all partitions that are not halted. Returns those that are ours now, and those that are halted.
    async fn take(&mut self, request: &Request) -> Result<(Vec<Taken>, Vec<Partition>), Error> {
        let (mut partitions, mut halted) = self.without_halted(request).await?;
        if partitions.is_empty() {
            return Ok((Vec::new(), halted));
        }
        // All members use the same order, so that overlapping takeovers wait for each other instead of deadlocking.
        partitions.sort_unstable();
        let here = self.here();
        for (partition, found) in self.rows(&partitions).await? {
            progress::same_place(&found.place, &here).map_err(|halt| self.halt(partition, halt))?;
        }
        self.end_dead_transactions().await?;
        let groups = match self.group_offsets(&partitions, limits::STABLE_PATIENCE) {
            // If the group has moved on, their owner is healthy and in the middle of a batch, so nothing is ended.
            Err(Error::Kafka(error)) if unstable(&error) && self.lifecycle.assignment() == request.assignment => {
                self.end_stuck_transactions(&partitions).await?;
                self.group_offsets(&partitions, limits::TAKEOVER_CALL)?
            }
            groups => groups?,
        };
        // The rows may have moved while the offsets became stable.
        let rows = self.rows(&partitions).await?;
        let mut sound = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let row = rows.get(&partition).map(|found| found.row);
            let decision = self.decide(partition, groups.get(&partition), row).map(|_| ());
            if self.unless_halted(partition, decision, &mut halted)?.is_some() {
                sound.push(partition);
            }
        }
        self.end_stuck_sessions(&sound).await?;
        let mut taken = Vec::with_capacity(sound.len());
        for partition in sound {
            let one = self.take_one(partition, groups.get(&partition), &here).await;
            taken.extend(self.unless_halted(partition, one, &mut halted)?);
        }
        Ok((taken, halted))
    }

    /// Returns the result, unless it is a halt. A halt affects only its partition; the others continue.
    fn unless_halted<T>(
        &self,
        partition: Partition,
        done: Result<T, Error>,
        halted: &mut Vec<Partition>,
    ) -> Result<Option<T>, Error> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(Error::Halt(halt)) => {
                self.brakes.halt(halt);
                halted.push(partition);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the requested partitions that are not halted, and those that are. A halted partition is left untouched:
    /// its epoch stays as it is.
    async fn without_halted(&mut self, request: &Request) -> Result<(Vec<Partition>, Vec<Partition>), Error> {
        let owner = &self.owner;
        let connection = connected(&mut self.connection, &self.pipeline).await?;
        self.brakes.add_stored_halts(halts::halts(connection, &owner.pipeline, &owner.topic).await?);
        let (halted, partitions): (Vec<Partition>, _) =
            request.partitions.iter().partition(|partition| self.brakes.is_halted(**partition));
        if !halted.is_empty() {
            tracing::warn!(partitions = ?halted, "these partitions are halted and are skipped: `tollgate status` shows why");
        }
        Ok((partitions, halted))
    }

    async fn take_one(&mut self, partition: Partition, group: Option<&Group>, here: &Place) -> Result<Taken, Error> {
        let (pipeline, owner) = (&self.pipeline, &self.owner);
        let connection = connected(&mut self.connection, pipeline).await?;
        // I17: everything that could halt was read and decided before; only now the predecessor is fenced.
        let found = store::raise_epoch(connection, owner, partition, here).await?;
        let (position, establish) = match self.decide(partition, group, found.as_ref().map(|found| found.row))? {
            Takeover::Resume(position) => (position, false),
            Takeover::Establish(position) => (position, true),
            Takeover::Start => (Position::level(self.start(partition)?, progress::CommitNumber::FIRST), true),
        };
        let epoch = match found {
            Some(found) => found.epoch,
            None => {
                let start = position.resume.rows;
                let delivery = match pipeline.delivery.mode {
                    DeliveryMode::AtLeastOnce => Some(Delivery::AtLeastOnce),
                    DeliveryMode::EffectivelyOnce => group.is_none().then_some(Delivery::Token),
                };
                let connection = connected(&mut self.connection, pipeline).await?;
                let Found { epoch, row, .. } =
                    store::begin(connection, owner, partition, start, here, delivery).await?;
                if row.next != start {
                    // Another member was faster, and has committed since.
                    return Err(Error::Moved(partition));
                }
                epoch
            }
        };
        let (rows_from, outputs_from) = (position.resume.rows, position.resume.outputs);
        tracing::info!(%partition, %epoch, %rows_from, %outputs_from, "partition taken over");
        Ok(Taken { partition, epoch, position, establish })
    }

    /// Decides what the two sides mean. A halt counts only if the group's offset has not moved since it was read.
    fn decide(&self, partition: Partition, group: Option<&Group>, row: Option<Row>) -> Result<Takeover, Error> {
        let pipeline = &self.pipeline;
        if pipeline.delivery.mode == DeliveryMode::AtLeastOnce {
            return Ok(progress::takeover_at_least_once(group.map(|group| group.next), row));
        }
        let adopted = group.filter(|_| row.is_none() && pipeline.source.start == Start::Committed);
        let decision = match adopted {
            Some(group) => progress::adopt(group, &self.writer),
            None => progress::takeover(group, row, &self.writer),
        };
        match decision {
            Ok(decision) => Ok(decision),
            Err(_) if self.group_offsets(&[partition], limits::TAKEOVER_CALL)?.get(&partition) != group => {
                Err(Error::Moved(partition))
            }
            Err(halt) => Err(self.halt(partition, halt)),
        }
    }

    fn halt(&self, partition: Partition, halt: Disagreement) -> Error {
        let whole = halt.concerns_pipeline();
        let halt = advice::halt(&self.pipeline, partition, Epoch::NONE, &halt);
        if whole { Error::Pipeline(halt) } else { Error::Halt(halt) }
    }

    /// Returns this process's group, cluster and topic.
    fn here(&self) -> Place {
        let source = &self.pipeline.source;
        let topic = authorised::topic_id(self.consumer.client(), &source.topic, limits::TAKEOVER_TOPIC_ID);
        let cluster = self.writer.cluster().map(str::to_owned);
        Place { group: Some(source.group_id.clone()), cluster, topic }
    }

    async fn rows(&mut self, partitions: &[Partition]) -> Result<BTreeMap<Partition, Found>, Error> {
        let connection = connected(&mut self.connection, &self.pipeline).await?;
        Ok(store::rows(connection, &self.owner, partitions).await?)
    }

    /// Returns K of each partition. With `read_committed` the broker responds only once no transaction holds it open.
    fn group_offsets(&self, partitions: &[Partition], patience: Duration) -> Result<BTreeMap<Partition, Group>, Error> {
        let topic = &self.pipeline.source.topic;
        Ok(client::committed(&self.consumer, topic, partitions.iter().copied(), patience)?)
    }

    /// Returns where to begin a partition that has never been read.
    fn start(&self, partition: Partition) -> Result<NextOffset, Error> {
        let source = &self.pipeline.source;
        if source.start == Start::Committed {
            self.others_committed(partition)?;
        }
        Ok(start::bounds(&self.consumer, source, partition, limits::TAKEOVER_CALL)?.start)
    }

    /// With `start: committed` a partition without an offset is new, and nothing of it has been read. If no partition
    /// has an offset, the configured group is probably the wrong one.
    fn others_committed(&self, partition: Partition) -> Result<(), Error> {
        let topic = &self.pipeline.source.topic;
        let metadata = self.consumer.fetch_metadata(Some(topic), limits::TAKEOVER_CALL)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let partitions: Vec<Partition> = partitions.map(|partition| Partition::new(partition.id())).collect();
        match self.group_offsets(&partitions, limits::TAKEOVER_CALL)?.is_empty() {
            true => Err(self.halt(partition, Disagreement::NothingCommitted)),
            false => Ok(()),
        }
    }

    /// Ends sessions of the partitions' last owner that are unresponsive inside a transaction on their rows.
    async fn end_stuck_sessions(&mut self, partitions: &[Partition]) -> Result<(), Error> {
        let connection = connected(&mut self.connection, &self.pipeline).await?;
        let lane = connect::application_name(&self.pipeline, "lane");
        let ended = store::end_stuck(connection, &self.owner, partitions, &lane).await?;
        if ended > 0 {
            tracing::warn!(
                sessions = ended,
                "ended sessions of an unresponsive member: they held locks on the partitions' rows"
            );
        }
        Ok(())
    }

    /// Ends transactions of the partitions' last owner although it is alive. It is frozen or cut off, and would block
    /// the group's offsets for `transaction_timeout`. If it is healthy, it creates new producers and continues with its
    /// remaining partitions.
    async fn end_stuck_transactions(&mut self, partitions: &[Partition]) -> Result<(), Error> {
        let pipeline = &self.pipeline;
        let Some(own) = self.lifecycle.slot() else { return Ok(()) };
        let connection = connected(&mut self.connection, pipeline).await?;
        for slot in store::owners(connection, &self.owner, partitions, own).await? {
            end_transactions(pipeline, self.sizes, slot)?;
            tracing::warn!(slot = slot.number, "ended the transactions of an unresponsive member");
        }
        Ok(())
    }

    /// Ends the transactions that a killed member left open. They would block the group's offsets for
    /// `transaction_timeout`.
    async fn end_dead_transactions(&mut self) -> Result<(), Error> {
        let pipeline = &self.pipeline;
        let Some(own) = self.lifecycle.slot() else { return Ok(()) };
        let connection = connected(&mut self.connection, pipeline).await?;
        for slot in store::dead_slots(connection, &pipeline.name, own).await? {
            end_transactions(pipeline, self.sizes, slot)?;
            store::bury(connection, &pipeline.name, slot).await?;
            tracing::info!(slot = slot.number, "ended the transactions of a member that is gone");
        }
        Ok(())
    }
}

/// Returns whether a transaction may be blocking the group's offsets, for which the client retries until its timeout.
fn unstable(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{OperationTimedOut, RequestTimedOut, UnstableOffsetCommit};
    matches!(error.rdkafka_error_code(), Some(OperationTimedOut | RequestTimedOut | UnstableOffsetCommit))
}

async fn connected<'c>(
    connection: &'c mut Option<sqlx::PgConnection>,
    pipeline: &Pipeline,
) -> Result<&'c mut sqlx::PgConnection, Error> {
    if connection.is_none() {
        let mut opened = connect::hold(pipeline, "takeover").await?;
        connect::wait_for_locks(&mut opened, limits::TAKEOVER_LOCK).await?;
        *connection = Some(opened);
    }
    // The line above sets it if it was missing.
    connection.as_mut().ok_or_else(|| Error::Kafka(KafkaError::Canceled))
}
