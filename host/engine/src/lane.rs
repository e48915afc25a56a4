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
//! The lane never assumes an outcome. After any failure it drops both transactions and reads the position of each side
//! before the next attempt (`resync`): D from the progress row, K from the group. A record is then sent only to the
//! side that lacks it. An ambiguous COMMIT or EndTxn is a case of this. If the row moved, only Kafka's half is missing,
//! and it is in the redo plan that was committed with the row. What neither side has may be decided again, since it is
//! not visible anywhere.
//!
//! If a server rejects a batch permanently, one event is at fault: the lane finds it (`bisect`, `refused`) and decides
//! the batch again with that event as a dead letter.
//!
//! An error that this process cannot resolve (another owner's epoch, an offset that went back) ends the partition or
//! the process.

mod account;
mod attempt;
mod bisect;
pub mod commit;
mod commit_plan;
mod current;
mod error;
mod establish;
mod overdue;
mod pausing;
mod produce;
mod redo;
mod refused;
mod schemas;
mod session;
mod stuck;
mod tokens;
mod transaction;
pub mod trial;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use crossbeam_channel::{RecvTimeoutError, select_biased};
use rdkafka::consumer::BaseConsumer;
use sqlx::postgres::PgConnection;

use crate::brakes::Brakes;
use crate::brakes::sink::PerSink;
use crate::hazards::{Place, hazards};
use crate::lane::attempt::Pace;
use crate::lane::overdue::Overdues;
use crate::lane::stuck::StuckOutage;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::position::Partition;
use crate::progress::plan::Writer;
use crate::progress::store::Owner;
use crate::progress::{Position, Writer as TokenWriter};
use crate::sinks::kafka::{Producers, Sizes};
use crate::source::handoff::{Control, LaneEvent, LaneReceiver, Taken};
use crate::source::rebalance::Callbacks;
use tollgate_config::Pipeline;
use tollgate_config::limits;
use tollgate_decide::Decided;
use tollgate_decide::batch::RecordBatch;
use tollgate_decide::gate::Gate;
use tollgate_decide::gate::Revision;
use tollgate_registry::SchemaStore;

pub use error::Error;

use current::{Current, Owned};

/// Returns the time in Unix milliseconds.
fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// The resources that every lane of the process uses.
#[derive(Clone)]
pub struct Parts {
    pub pipeline: Arc<Pipeline>,
    pub gate: Arc<Gate>,
    /// The schemas of a framed topic.
    pub schemas: Option<Arc<SchemaStore>>,
    /// A lane switches to a new revision at its next batch.
    pub revision: Arc<ArcSwap<Revision>>,
    pub owner: Arc<Owner>,
    /// Writes the tokens of the group's offsets.
    pub writer: Arc<TokenWriter>,
    pub sizes: Sizes,
    pub lifecycle: Arc<Lifecycle>,
    pub brakes: Arc<Brakes>,
    pub metrics: Arc<Metrics>,
    pub consumer: Arc<BaseConsumer<Callbacks>>,
}

pub struct Lane {
    number: usize,
    pipeline: Arc<Pipeline>,
    gate: Arc<Gate>,
    schemas: Option<Arc<SchemaStore>>,
    revision: Arc<ArcSwap<Revision>>,
    owner: Arc<Owner>,
    writer: Arc<TokenWriter>,
    lifecycle: Arc<Lifecycle>,
    brakes: Arc<Brakes>,
    metrics: Arc<Metrics>,
    consumer: Arc<BaseConsumer<Callbacks>>,
    intake: LaneReceiver,
    runtime: tokio::runtime::Runtime,
    connection: Option<PgConnection>,
    producers: Option<Producers>,
    /// The sizes at startup, or smaller ones since a topic has lowered its limit.
    sizes: Sizes,
    /// Whether the current batch is sent record by record, because a set of its records was rejected and no record was
    /// named.
    alone: bool,
    partitions: BTreeMap<Partition, Owned>,
    decided: Decided,
    /// The redo plans of the current batch, by partition.
    plans: BTreeMap<Partition, Writer>,
    /// Whether the connection is new, so that the rows' positions have not been read on it yet.
    rows_in_doubt: bool,
    /// When the session's temporary table was last checked.
    stage_seen: Instant,
}

impl Lane {
    pub fn new(number: usize, parts: Parts, intake: LaneReceiver, producers: Producers) -> std::io::Result<Lane> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Parts { pipeline, gate, schemas, revision, owner, writer, sizes, lifecycle, brakes, metrics, consumer } =
            parts;
        Ok(Lane {
            number,
            pipeline,
            gate,
            schemas,
            revision,
            owner,
            writer,
            lifecycle,
            brakes,
            metrics,
            consumer,
            intake,
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

    /// Warns when a batch takes more than half of `max_poll_interval`, before the group excludes this member.
    fn warn_if_slow(&self, took: Duration) {
        let share = took.as_secs_f64() / self.pipeline.source.max_poll_interval.as_secs_f64();
        self.metrics.poll_interval_used(share);
        if share > 0.5 {
            tracing::warn!(
                seconds = took.as_secs(),
                "a batch took more than half of max_poll_interval; take smaller batches or allow more time"
            );
        }
    }

    /// Runs until the poll thread has ended. An error stops the process, so that no other thread continues.
    pub fn run(mut self) -> Result<(), Error> {
        loop {
            let batch = select_biased! {
                recv(self.intake.control) -> control => match control {
                    Ok(control) => {
                        self.control(control);
                        continue;
                    }
                    Err(_) => return Ok(()),
                },
                recv(self.intake.batches) -> batch => match batch {
                    Ok(batch) => batch,
                    Err(_) => return Ok(()),
                },
                // A lane without events may hold a temporary table too.
                default(limits::STAGE_LOOK) => {
                    self.renew_stage();
                    continue;
                }
            };
            hazards().pass(Place::Received);
            let began = Instant::now();
            self.carry(&batch)?;
            let took = began.elapsed();
            self.metrics.batch(self.number, batch.records.len(), took);
            self.warn_if_slow(took);
            self.intake.load.through(&batch, took);
            self.intake.recycle(batch);
            self.renew_stage();
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Assign { taken, assignment } => {
                for Taken { partition, epoch, position, establish } in taken {
                    let Position { resume, numbers } = position;
                    self.metrics.committed(&[(partition, resume.rows)]);
                    let owned = Owned { epoch, resume, numbers, assignment, establish, plan: None };
                    self.partitions.insert(partition, owned);
                }
            }
            Control::Revoke { partitions, lost, token } => {
                // Their batch is either complete (past steps 3 and 4) or dropped, because the loop is between two
                // attempts here.
                if self.producers.is_none() && !lost && !self.partitions.is_empty() {
                    // The next owner reads the group's offset, which a dropped transaction may block until its timeout.
                    if let Err(error) = self.read_outputs() {
                        tracing::warn!(%error, "a Kafka transaction of this lane may still be open");
                    }
                }
                self.partitions.retain(|partition, _| !partitions.contains(partition));
                self.metrics.released(&partitions);
                tracing::info!(lane = self.number, ?partitions, lost, "partitions released");
                if self.intake.events.send(LaneEvent::Released(token)).is_err() {
                    tracing::debug!("the poll thread ended before a lane released its partitions");
                }
            }
        }
    }

    /// Completes a batch, however long a server is unavailable; partitions that are revoked meanwhile are left out.
    fn carry(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let mut current = Current {
            batch,
            // I9: read once per batch.
            revision: self.revision.load_full(),
            time: now(),
            tried: 0,
            overdue: Overdues::default(),
            stuck: StuckOutage::default(),
        };
        let mut pace = Pace::new(self.brakes.backoff());
        loop {
            while let Ok(control) = self.intake.control.try_recv() {
                self.control(control);
            }
            if self.select(batch).is_empty() {
                return Ok(());
            }
            let permit = match self.brakes.admit() {
                Ok(permit) => permit,
                Err(wait) => {
                    self.wait(wait);
                    continue;
                }
            };
            let mut size = 0;
            let attempt = self.resync().and_then(|()| self.establish()).and_then(|()| {
                // `resync` may have changed what is left to do.
                let mut work = self.select(batch);
                work.truncate(pace.most);
                size = work.len();
                self.settle(&current, &work)
            });
            let observed = if size > 0 { PerSink::ANSWERS } else { PerSink::NOTHING };
            self.brakes.observe(permit, attempt.as_ref().map_or_else(Error::observed, |()| observed));
            match attempt {
                Ok(()) => {
                    self.lifecycle.no_trouble("lane");
                    current.tried = 0;
                    current.stuck.through();
                    pace.through(self.brakes.backoff());
                }
                Err(error) => self.failed(error, size, &mut current, &mut pace)?,
            }
        }
    }

    /// Waits, but handles the poll thread's requests meanwhile: a revocation must not wait for an outage to end.
    fn wait(&mut self, duration: Duration) {
        let until = Instant::now() + duration;
        loop {
            match self.intake.control.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(control) => self.control(control),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    // The process is ending: release all partitions.
                    self.partitions.clear();
                    return;
                }
            }
        }
    }

    /// Returns whether both sides have the same position in every partition.
    fn level(&self) -> bool {
        self.partitions.values().all(|owned| owned.resume.rows == owned.resume.outputs)
    }

    /// Returns the records that some side still needs, in batch order. If the sides differ, returns only those up to
    /// the position where they become equal.
    fn select(&self, batch: &RecordBatch) -> Vec<usize> {
        let mut work = Vec::with_capacity(batch.records.len());
        let mut closed: BTreeSet<Partition> = BTreeSet::new();
        for (index, record) in batch.records.iter().enumerate() {
            let Some(owned) = self.partitions.get(&record.partition) else { continue };
            let below = closed.contains(&record.partition);
            if owned.assignment != record.assignment || !owned.resume.takes(record.offset, below) {
                // Records beyond that position are for the next attempt. If none was left below it, the offsets in
                // between hold no records, and both sides continue from their own positions.
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
