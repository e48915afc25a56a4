//! A lane: one thread with its fixed set of partitions, and the delivery protocol.
//!
//! # The protocol
//!
//! ```text
//! 0  take a batch; pin the revision, the batch time and the group's generation
//! 1  in a Kafka transaction produce outputs and dead letters, and put hi into it  ∥  BEGIN; progress lo → hi at our epoch; rows
//! 2  wait until the broker has acknowledged both                                 (Kafka is prepared)
//! 3  COMMIT in PostgreSQL                                                        (the decision)
//! 4  end the Kafka transaction                                                   (Kafka concludes)
//! ```
//!
//! # When something fails
//!
//! Nothing is guessed. Whatever failed, and wherever: both sides are given up, and before the next attempt each side is
//! asked where it stands (`resync`): D from the progress row, K from the group. A record is then sent to the side that
//! has not had it. An ambiguous COMMIT or EndTxn is only a case of this: if the row moved, what is left is Kafka's
//! half, and that is in the redo plan which moved with the row. What neither side has may be decided anew: nobody has seen it.
//!
//! What a server refuses for good is one event's fault: it is found (`bisect`, `refused`), and the batch decided anew with it
//! as a dead letter.
//!
//! What cannot be mended from here (another owner's epoch, an offset that went back) ends the partition or the process.

mod account;
mod admit;
mod attempt;
mod bisect;
pub mod commit;
pub mod content;
pub mod decide;
mod doubt;
pub mod envelope;
mod establish;
pub mod gate;
mod hold;
mod inbox;
pub mod notice;
mod overdue;
mod passed;
mod produce;
mod redo;
mod refused;
mod repeated;
mod session;
mod settle;
pub mod trial;
mod weigh;
mod wrapped;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, select_biased};
use rdkafka::consumer::BaseConsumer;
use sqlx::postgres::PgConnection;
use tollgate_sandbox::RunError;

use crate::engine::Shared;
use crate::engine::breaker::Heard;
use crate::error::Class;
use crate::hazards::{Place, hazards};
use crate::lane::attempt::Pace;
use crate::lane::decide::Decided;
use crate::lane::doubt::Doubt;
use crate::lane::gate::Revision;
use crate::lane::overdue::Overdues;
use crate::limits;
use crate::position::Partition;
use crate::progress::halts::Halt;
use crate::progress::plan::{Plan, Writer};
use crate::progress::{Numbers, Position, Resume, Sides};
use crate::registry::ResolveError;
use crate::sinks::kafka::{self, Producers, Sizes};
use crate::sinks::postgres::connect;
use crate::source::batch::{Record, RecordBatch};
use crate::source::rebalance::Callbacks;
use crate::source::takeover::Taken;

pub use inbox::{Control, Ends, Inbox, Said, channels};

/// A partition in a lane's hands.
#[derive(Debug)]
struct Owned {
    epoch: i64,
    resume: Resume,
    /// The last commit of each side.
    numbers: Numbers,
    assignment: u64,
    /// The group's offset is not committed yet.
    establish: bool,
    /// Where the rows are ahead: what was decided about the offsets up to there.
    plan: Option<Plan>,
}

impl Owned {
    fn position(&self) -> Position {
        Position { resume: self.resume, numbers: self.numbers }
    }
}

/// Which sides a record still has to reach; neither, where its partition is not held.
fn needs(partitions: &BTreeMap<Partition, Owned>, record: &Record) -> Sides {
    let owned = partitions.get(&record.partition);
    owned.map_or(Sides { rows: false, outputs: false }, |owned| owned.resume.needs(record.offset))
}

/// Why a batch did not get through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("postgres: {}", connect::describe(.0))]
    Postgres(#[source] sqlx::Error),
    /// The server did not answer in time; the connection is given up, and what became of the statement is open.
    #[error("postgres: no answer within {} s", limits::STATEMENT_PATIENCE.as_secs())]
    Silent,
    #[error("kafka: {0}")]
    Kafka(#[from] kafka::Error),
    #[error("kafka: {0}")]
    Client(#[from] rdkafka::error::KafkaError),
    #[error(transparent)]
    Sandbox(#[from] RunError),
    #[error("registry: {0}")]
    Registry(ResolveError),
    /// PostgreSQL refuses a batch, and takes its rows one by one.
    #[error("postgres refuses a batch whose rows it takes one by one: {0}")]
    Together(String),
    /// A progress row did not match: another owner, or a commit of ours whose reply was lost.
    #[error("a progress row was not where this lane left it")]
    Guard,
    /// Two lanes were given the same id: the slower one decides anew, and finds it processed.
    #[error("an id of this batch was processed elsewhere meanwhile")]
    Repeated,
    #[error("this process is not a member of the consumer group at the moment")]
    NotAMember,
    /// The Kafka transaction is about to end by its timeout: PostgreSQL must not commit its half.
    #[error("the Kafka transaction has been open for {:.1} s, close to `delivery.transaction_timeout`", .0.as_secs_f64())]
    Late(Duration),
    #[error("this process has lost its slot to another one")]
    SlotLost,
    #[error("paused: {0}")]
    Paused(String),
    /// Only a person can say how this partition goes on; the others go on.
    #[error("{}", .0.message)]
    Halt(Box<Halt>),
    #[error("{0}")]
    Fatal(String),
}

impl Error {
    pub fn class(&self) -> Class {
        if let Some((_, meaning)) = self.said() {
            return meaning.class();
        }
        match self {
            Error::Together(_) => Class::Poison,
            Error::Sandbox(error) => match error.class() {
                tollgate_sandbox::Class::Poison => Class::Poison,
                tollgate_sandbox::Class::Transient => Class::Transient,
                tollgate_sandbox::Class::Fatal => Class::Fatal,
            },
            Error::Registry(error) => error.class(),
            Error::Fatal(_) => Class::Fatal,
            Error::Postgres(_)
            | Error::Silent
            | Error::Kafka(_)
            | Error::Client(_)
            | Error::Guard
            | Error::Repeated
            | Error::NotAMember
            | Error::Late(_)
            | Error::SlotLost
            | Error::Paused(_)
            // The batch goes on without the partition.
            | Error::Halt(_) => Class::Transient,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        Error::Postgres(error)
    }
}

pub struct Lane {
    number: usize,
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Callbacks>>,
    ends: Ends,
    runtime: tokio::runtime::Runtime,
    connection: Option<PgConnection>,
    producers: Option<Producers>,
    /// As at the start, or smaller since a topic takes less by now.
    sizes: Sizes,
    /// The batch in work goes out record by record: a set of it was refused, and nobody said for which record.
    alone: bool,
    partitions: BTreeMap<Partition, Owned>,
    decided: Decided,
    /// The redo plans of the batch in work, by partition.
    plans: BTreeMap<Partition, Writer>,
    /// A connection that was opened anew has not been asked yet where the rows stand.
    rows_in_doubt: bool,
    /// When the session's temporary table was last looked at.
    stage_seen: Instant,
}

/// A batch that is under way: what must stay the same from attempt to attempt.
struct Carried<'a> {
    batch: &'a RecordBatch,
    revision: Arc<Revision>,
    /// Unix milliseconds.
    time: i64,
    /// How often it was refused by what may be its events' fault or the server's.
    tried: u32,
    /// Its events that were interrupted at their deadline.
    overdue: Overdues,
    /// Since when Kafka fails all attempts.
    doubt: Doubt,
}

impl Lane {
    pub fn new(
        number: usize,
        shared: Arc<Shared>,
        consumer: Arc<BaseConsumer<Callbacks>>,
        ends: Ends,
        producers: Producers,
    ) -> std::io::Result<Lane> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sizes = shared.sizes;
        Ok(Lane {
            number,
            shared,
            consumer,
            ends,
            runtime,
            connection: None,
            producers: Some(producers),
            sizes,
            alone: false,
            partitions: BTreeMap::new(),
            decided: Decided::default(),
            plans: BTreeMap::new(),
            rows_in_doubt: false,
            stage_seen: Instant::now(),
        })
    }

    /// Runs until the poll thread is gone. An error stops the process: nobody else may go on as if nothing were wrong.
    pub fn run(mut self) -> Result<(), Error> {
        loop {
            let batch = select_biased! {
                recv(self.ends.control) -> control => match control {
                    Ok(control) => {
                        self.control(control);
                        continue;
                    }
                    Err(_) => return Ok(()),
                },
                recv(self.ends.batches) -> batch => match batch {
                    Ok(batch) => batch,
                    Err(_) => return Ok(()),
                },
                // A lane without events holds a temporary table too.
                default(limits::STAGE_LOOK) => {
                    self.renew_stage();
                    continue;
                }
            };
            hazards().pass(Place::Received);
            let began = Instant::now();
            self.carry(&batch)?;
            let took = began.elapsed();
            self.shared.metrics.batch(self.number, batch.records.len(), took);
            self.shared.warn_if_slow(took);
            self.ends.load.through(&batch, took);
            self.ends.recycle(batch);
            self.renew_stage();
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Assign { taken, assignment } => {
                for Taken { partition, epoch, position, establish } in taken {
                    let Position { resume, numbers } = position;
                    self.shared.metrics.committed(&[(partition, resume.rows)]);
                    let owned = Owned { epoch, resume, numbers, assignment, establish, plan: None };
                    self.partitions.insert(partition, owned);
                }
            }
            Control::Revoke { partitions, lost, token } => {
                // A batch of theirs is either through (past step 3 and 4) or given up: the loop is between two attempts here.
                if self.producers.is_none() && !lost && !self.partitions.is_empty() {
                    // The heir reads the group's offset, which what was given up may hold until its timeout.
                    if let Err(error) = self.ask_outputs() {
                        tracing::warn!(%error, "a Kafka transaction of this lane may be open still");
                    }
                }
                self.partitions.retain(|partition, _| !partitions.contains(partition));
                self.shared.metrics.released(&partitions);
                tracing::info!(lane = self.number, ?partitions, lost, "partitions let go");
                if self.ends.said.send(Said::Released(token)).is_err() {
                    tracing::debug!("the poll thread has ended before a lane let go");
                }
            }
        }
    }

    /// Brings a batch through, however long the world is away; what is revoked meanwhile is left out.
    fn carry(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let mut carried = Carried {
            batch,
            revision: self.shared.revision.load_full(),
            time: self.shared.now(),
            tried: 0,
            overdue: Overdues::default(),
            doubt: Doubt::default(),
        };
        let mut pace = Pace::new(self.shared.backoff());
        loop {
            while let Ok(control) = self.ends.control.try_recv() {
                self.control(control);
            }
            if self.select(batch).is_empty() {
                return Ok(());
            }
            let leave = match self.shared.admit() {
                Ok(leave) => leave,
                Err(wait) => {
                    self.wait(wait);
                    continue;
                }
            };
            let mut size = 0;
            let attempt = self.resync().and_then(|()| self.establish()).and_then(|()| {
                // Asking may have changed what is left to do.
                let mut work = self.select(batch);
                work.truncate(pace.most);
                size = work.len();
                self.settle(&carried, &work)
            });
            let answered = if size > 0 { Heard::Answer } else { Heard::Nothing };
            self.shared.heard(leave, attempt.as_ref().map_or_else(Error::heard, |()| [answered; 2]));
            match attempt {
                Ok(()) => {
                    self.shared.no_trouble("lane");
                    carried.tried = 0;
                    carried.doubt.through();
                    pace.through(self.shared.backoff());
                }
                Err(error) => self.failed(error, size, &mut carried, &mut pace)?,
            }
        }
    }

    /// Waits, but answers the poll thread meanwhile: a revocation must not wait for an outage to end.
    fn wait(&mut self, duration: Duration) {
        let until = Instant::now() + duration;
        loop {
            match self.ends.control.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(control) => self.control(control),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    // The process is ending: let everything go.
                    self.partitions.clear();
                    return;
                }
            }
        }
    }

    /// Neither side is ahead of the other anywhere.
    fn level(&self) -> bool {
        self.partitions.values().all(|owned| owned.resume.rows == owned.resume.outputs)
    }

    /// The records that some side still needs, in batch order; where the two sides are not level, only up to there.
    fn select(&self, batch: &RecordBatch) -> Vec<usize> {
        let mut work = Vec::with_capacity(batch.records.len());
        let mut closed: BTreeSet<Partition> = BTreeSet::new();
        for (index, record) in batch.records.iter().enumerate() {
            let Some(owned) = self.partitions.get(&record.partition) else { continue };
            let below = closed.contains(&record.partition);
            if owned.assignment != record.assignment || !owned.resume.takes(record.offset, below) {
                // What lies beyond the level is for the next attempt. Where nothing was left below it, the offsets in
                // between hold no records, and both sides go on from where they are.
                continue;
            }
            if owned.resume.level().is_past(record.offset) {
                closed.insert(record.partition);
            }
            work.push(index);
        }
        work
    }
}
