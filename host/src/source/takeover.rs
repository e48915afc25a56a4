//! Takes partitions over, on a thread of its own while the poll thread goes on polling.
//!
//! The order is the protocol: a dead member's transactions are ended, so that the group's offset is stable; the offset
//! is read; the epoch is raised, after which no older owner can commit in PostgreSQL; the progress row is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::rebalance::Callbacks;
use crate::config::{DeliveryMode, Pipeline, Start};
use crate::engine::Shared;
use crate::engine::breaker::{self, Heard, Leave, Sink};
use crate::error::Class;
use crate::limits;
use crate::position::{NextOffset, Partition};
use crate::progress::halts::{self, Halt};
use crate::progress::store::{self, Slot};
use crate::progress::{self, Halt as Disagreement, Resume, Takeover};
use crate::sinks::classes::{self, Meaning};
use crate::sinks::kafka::{Producers, side_by_side};
use crate::sinks::postgres::connect;

const CALL: Duration = Duration::from_secs(5);

/// A partition that is ours now.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub partition: Partition,
    pub epoch: i64,
    pub resume: Resume,
    /// The group's offset must be committed before the first batch.
    pub establish: bool,
}

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
        /// Those that were asked for and are halted.
        halted: Vec<Partition>,
        assignment: u64,
    },
    /// The process cannot go on.
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
    Silent,
    /// Another member had the partition between the two reads: what was read does not belong together.
    #[error("the group's offset of partition {0} moved while the partition was taken over")]
    Moved(Partition),
    /// Only a person can say how this partition goes on.
    #[error("{}", .0.message)]
    Halt(Halt),
}

impl Error {
    fn class(&self) -> Class {
        match self {
            Error::Postgres(error) => connect::class(error),
            Error::Transaction(error) => error.class(),
            Error::Kafka(error) => classes::kafka(error).class(),
            Error::Silent | Error::Moved(_) => Class::Transient,
            Error::Halt(_) => Class::Fatal,
        }
    }

    /// What this says of the servers.
    fn heard(&self) -> [Heard; 2] {
        let (sink, meaning) = match self {
            Error::Postgres(error) => (Sink::Postgres, connect::meaning(error)),
            Error::Silent => (Sink::Postgres, Meaning::Outage),
            Error::Kafka(error) => (Sink::Kafka, classes::kafka(error)),
            Error::Transaction(error) => (Sink::Kafka, error.meaning()),
            Error::Moved(_) | Error::Halt(_) => return [Heard::Nothing; 2],
        };
        breaker::only(sink, meaning.heard())
    }
}

/// Answers requests until the channel closes. Outages are retried with backoff, for as long as they last.
pub fn run(
    shared: &Arc<Shared>,
    consumer: &Arc<BaseConsumer<Callbacks>>,
    requests: &Receiver<Request>,
    answers: &Sender<Answer>,
) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let mut worker = Worker { shared, consumer, connection: None };
    while let Ok(request) = requests.recv() {
        let mut backoff = shared.backoff();
        let answer = loop {
            if shared.stopping() {
                return Ok(());
            }
            if shared.assignment() != request.assignment {
                // The group has moved on: somebody else's epoch must not be raised.
                break None;
            }
            let tried = runtime.block_on(async {
                tokio::select! {
                    tried = tokio::time::timeout(limits::TAKEOVER_PATIENCE, worker.take(&request)) => Some(tried),
                    // A row may be locked for as long as its owner likes.
                    () = stopped(shared) => None,
                }
            });
            let Some(tried) = tried else { return Ok(()) };
            match tried.unwrap_or(Err(Error::Silent)) {
                Ok((partitions, halted)) => {
                    shared.heard(Leave::UNASKED, [Heard::Answer; 2]);
                    break Some(Answer::Taken { partitions, halted, assignment: request.assignment });
                }
                Err(error) if error.class() == Class::Fatal => break Some(Answer::Fatal(error.to_string())),
                Err(error) => {
                    worker.connection = None;
                    shared.heard(Leave::UNASKED, error.heard());
                    shared.trouble("takeover", &error.to_string());
                    shared.breakers.sleep(backoff.next_wait(), || shared.stopping());
                }
            }
        };
        shared.no_trouble("takeover");
        let Some(answer) = answer else { continue };
        if answers.send(answer).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Ends when the process is to end.
async fn stopped(shared: &Shared) {
    while !shared.stopping() {
        tokio::time::sleep(limits::POLL_IDLE).await;
    }
}

struct Worker<'a> {
    shared: &'a Arc<Shared>,
    consumer: &'a Arc<BaseConsumer<Callbacks>>,
    connection: Option<sqlx::PgConnection>,
}

impl Worker<'_> {
    /// Takes over what is not halted. Returns the partitions that are ours now, and those that are halted.
    async fn take(&mut self, request: &Request) -> Result<(Vec<Taken>, Vec<Partition>), Error> {
        let (wanted, mut halted) = self.without_halted(request).await?;
        if wanted.partitions.is_empty() {
            return Ok((Vec::new(), halted));
        }
        let request = &wanted;
        self.end_dead_transactions().await?;
        let groups = match self.group_offsets(&request.partitions, limits::STABLE_PATIENCE) {
            // Unless the group has moved on: then their owner is well, and in the middle of a batch.
            Err(Error::Kafka(error)) if unstable(&error) && self.shared.assignment() == request.assignment => {
                self.end_stuck_transactions(&request.partitions).await?;
                self.group_offsets(&request.partitions, CALL)?
            }
            groups => groups?,
        };
        let connection = connected(&mut self.connection, &self.shared.pipeline).await?;
        let lane = connect::application_name(&self.shared.pipeline, "lane");
        let ended = store::end_stuck(connection, &self.shared.owner, &request.partitions, &lane).await?;
        if ended > 0 {
            tracing::warn!(
                sessions = ended,
                "ended sessions of a member that stands still: they held the partitions' rows"
            );
        }
        let mut taken = Vec::with_capacity(request.partitions.len());
        let mut partitions = request.partitions.clone();
        // One order for all members: two takeovers that overlap wait for each other instead of deadlocking.
        partitions.sort_unstable();
        for partition in partitions {
            match self.take_one(partition, groups.get(&partition).copied()).await {
                Ok(one) => taken.push(one),
                Err(Error::Halt(halt)) => {
                    self.shared.halt(halt);
                    halted.push(partition);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((taken, halted))
    }

    /// The request without the partitions that are halted, and those. Nothing of a halted partition is touched: its epoch
    /// stays as it is.
    async fn without_halted(&mut self, request: &Request) -> Result<(Request, Vec<Partition>), Error> {
        let owner = &self.shared.owner;
        let connection = connected(&mut self.connection, &self.shared.pipeline).await?;
        self.shared.found_halts(halts::halts(connection, &owner.pipeline, &owner.topic).await?);
        let (halted, partitions): (Vec<Partition>, _) =
            request.partitions.iter().partition(|partition| self.shared.is_halted(**partition));
        if !halted.is_empty() {
            tracing::warn!(partitions = ?halted, "these partitions are halted, and are skipped: `tollgate status` shows why");
        }
        Ok((Request { partitions, assignment: request.assignment }, halted))
    }

    async fn take_one(&mut self, partition: Partition, group: Option<NextOffset>) -> Result<Taken, Error> {
        let pipeline = &self.shared.pipeline;
        let owner = &self.shared.owner;
        let connection = connected(&mut self.connection, pipeline).await?;
        let row = store::raise_epoch(connection, owner, partition).await?;
        let decision = match pipeline.delivery.mode {
            DeliveryMode::EffectivelyOnce => match progress::takeover(group, row.map(|(_, row)| row)) {
                Ok(decision) => decision,
                Err(_) if self.group_offsets(&[partition], CALL)?.get(&partition).copied() != group => {
                    return Err(Error::Moved(partition));
                }
                Err(halt) => {
                    let epoch = row.map(|(epoch, _)| epoch).unwrap_or_default();
                    return Err(Error::Halt(halted(pipeline, partition, epoch, halt)));
                }
            },
            DeliveryMode::AtLeastOnce => progress::takeover_at_least_once(group, row.map(|(_, row)| row)),
        };
        let (resume, establish) = match decision {
            Takeover::Resume(resume) => (resume, false),
            Takeover::Establish(resume) => (resume, true),
            Takeover::Start => (Resume::at(self.start(partition)?), true),
        };
        let epoch = match row {
            Some((epoch, _)) => epoch,
            None => {
                let connection = connected(&mut self.connection, pipeline).await?;
                let (epoch, row) = store::begin(connection, owner, partition, resume.rows).await?;
                if row.next != resume.rows {
                    // Another member was quicker, and has committed since.
                    return Err(Error::Moved(partition));
                }
                epoch
            }
        };
        let (rows_from, outputs_from) = (resume.rows, resume.outputs);
        tracing::info!(%partition, epoch, %rows_from, %outputs_from, "partition taken over");
        Ok(Taken { partition, epoch, resume, establish })
    }

    /// K of each partition. With `read_committed` the broker answers only once no transaction holds it open.
    fn group_offsets(
        &self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<BTreeMap<Partition, NextOffset>, Error> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.shared.pipeline.source.topic, partition.0);
        }
        let committed = self.consumer.committed_offsets(list, patience)?;
        let mut offsets = BTreeMap::new();
        for element in committed.elements() {
            element.error()?;
            if let KafkaOffset::Offset(offset) = element.offset() {
                offsets.insert(Partition(element.partition()), NextOffset(offset));
            }
        }
        Ok(offsets)
    }

    /// What `start:` means for a partition that nobody has read.
    fn start(&self, partition: Partition) -> Result<NextOffset, Error> {
        let topic = &self.shared.pipeline.source.topic;
        let (low, high) = self.consumer.fetch_watermarks(topic, partition.0, CALL)?;
        Ok(NextOffset(match self.shared.pipeline.source.start {
            Start::Earliest => low,
            Start::Latest => high,
            Start::Timestamp(millis) => {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(topic, partition.0, KafkaOffset::Offset(millis))?;
                let found = self.consumer.offsets_for_times(list, CALL)?;
                match found.elements().first().map(|element| element.offset()) {
                    Some(KafkaOffset::Offset(offset)) => offset,
                    // Nothing that young: begin with what comes.
                    _ => high,
                }
            }
        }))
    }

    /// Ends what the partitions' last owner has under way, though it lives: it stands still, or is cut off, and would hold the
    /// group's offsets for `transaction_timeout`. One that is well makes new producers, and goes on with what it still has.
    async fn end_stuck_transactions(&mut self, partitions: &[Partition]) -> Result<(), Error> {
        let pipeline = &self.shared.pipeline;
        let Some(own) = self.shared.slot() else { return Ok(()) };
        let connection = connected(&mut self.connection, pipeline).await?;
        for slot in store::owners(connection, &self.shared.owner, partitions, own).await? {
            Worker::end_transactions(self.shared, slot)?;
            tracing::warn!(slot = slot.number, "ended the transactions of a member that stands still");
        }
        Ok(())
    }

    /// Whoever has the producers' names last has their transactions ended.
    fn end_transactions(shared: &Shared, slot: Slot) -> Result<(), Error> {
        side_by_side(0..slot.lanes, |lane| {
            Producers::connect(&shared.pipeline, slot.number, lane, shared.sizes, CALL).map(drop)
        })?;
        Ok(())
    }

    /// Ends what a killed member left open: its transactions would hold the group's offsets for `transaction_timeout`.
    async fn end_dead_transactions(&mut self) -> Result<(), Error> {
        let pipeline = &self.shared.pipeline;
        let Some(own) = self.shared.slot() else { return Ok(()) };
        let connection = connected(&mut self.connection, pipeline).await?;
        for slot in store::dead_slots(connection, &pipeline.name, own).await? {
            Worker::end_transactions(self.shared, slot)?;
            store::bury(connection, &pipeline.name, slot).await?;
            tracing::info!(slot = slot.number, "ended the transactions of a member that is gone");
        }
        Ok(())
    }
}

/// Whether this may mean that a transaction holds the group's offsets open: the client asks again until its time is up.
fn unstable(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{OperationTimedOut, RequestTimedOut, UnstableOffsetCommit};
    matches!(error.rdkafka_error_code(), Some(OperationTimedOut | RequestTimedOut | UnstableOffsetCommit))
}

async fn connected<'c>(
    connection: &'c mut Option<sqlx::PgConnection>,
    pipeline: &Pipeline,
) -> Result<&'c mut sqlx::PgConnection, Error> {
    if connection.is_none() {
        *connection = Some(connect::open(pipeline, "takeover").await?);
    }
    // Set in the line above where it was missing.
    connection.as_mut().ok_or_else(|| Error::Kafka(KafkaError::Canceled))
}

/// The halt of a partition whose two sides disagree, with the command that lets it go on.
fn halted(pipeline: &Pipeline, partition: Partition, epoch: i64, halt: Disagreement) -> Halt {
    let (group, topic) = (&pipeline.source.group_id, &pipeline.source.topic);
    let reset = |offset: NextOffset| {
        format!(
            "to go on at {offset}: kafka-consumer-groups.sh --bootstrap-server {} --group {group} \
             --topic {topic}:{partition} --reset-offsets --to-offset {offset} --execute",
            pipeline.source.brokers
        )
    };
    let (code, offset, advice) = match halt {
        Disagreement::NoProgress { group } => (
            "progress-missing",
            group,
            format!("use a group_id of its own, or delete the group's offsets of {topic} to begin by the start policy"),
        ),
        Disagreement::NoGroupOffset { row } => ("group-offset-missing", row, reset(row)),
        Disagreement::GroupMoved { next, .. } => ("group-offset-moved", next, reset(next)),
    };
    let message = format!("partition {partition} of {topic} cannot be taken over: {halt}; {advice}");
    Halt { partition, code: code.to_owned(), offset, epoch, message }
}
