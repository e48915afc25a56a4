//! The running process: its threads, and how they end.
//!
//! | thread | does |
//! |---|---|
//! | main | signals, the admin server, reloads |
//! | poll | Kafka's consumer; batches to lanes |
//! | takeover | takes partitions over while poll goes on polling |
//! | keeper | holds the slot, reads the stored pause, probes the servers |
//! | lane 0 … | contract, transforms, sinks, progress |

pub mod build;
pub mod keeper;
pub mod reload;
pub mod revision;
pub mod routes;
pub mod summary;
pub mod waiting;
pub mod watch;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::bounded;
use rdkafka::consumer::BaseConsumer;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;
use tollgate_sandbox::Sandbox;

pub use waiting::Waiting;

use self::build::ProtoCompiler;
use self::keeper::Keeper;
use self::reload::Reloader;

use crate::brakes::Brakes;
use crate::kafka::client;
use crate::lane::{self, Lane};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::progress::Writer;
use crate::progress::halts::{self, Resumed};
use crate::progress::store::{Owner, Slot};
use crate::sinks::kafka::{Producers, Sizes};
use crate::sinks::postgres::connect;
use crate::source::poll::{Ended, Poll, State};
use crate::source::rebalance::Callbacks;
use crate::source::{handoff, takeover};
use tollgate_config::error::{Class, Failure};
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Pipeline};
use tollgate_decide::gate::{Gate, Revision};
use tollgate_registry::SchemaStore;

/// Returns this process as an owner in the progress rows.
pub fn owner(pipeline: &Pipeline) -> Owner {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    Owner {
        pipeline: pipeline.name.clone(),
        topic: pipeline.source.topic.clone(),
        name: format!("{host}/{}", std::process::id()),
    }
}

/// The reason why the process must end although the poll thread and the lanes could continue.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    #[error("another process took this one's slot while PostgreSQL was unavailable; restart")]
    SlotLost,
    /// A bug.
    #[error("a thread panicked; please report the lines above")]
    Panicked,
    #[error("cannot create a thread's runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// The reason why a thread ended by itself.
#[derive(Debug)]
pub enum ThreadEnded {
    Poll(Ended),
    Lane(Result<(), lane::Error>),
    /// The keeper or the takeover thread.
    Helper(Result<(), HelperError>),
}

/// Runs a thread's body, and returns an error if it panics. A panic is a bug in Tollgate and not a bad event, so the
/// process ends; otherwise the dead thread would look idle.
fn guarded(run: impl FnOnce() -> ThreadEnded) -> ThreadEnded {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| ThreadEnded::Helper(Err(HelperError::Panicked)))
}

/// Everything built before the first thread starts.
pub struct Parts {
    pub gate: Arc<Gate>,
    /// The schemas of a framed topic.
    pub schemas: Option<Arc<SchemaStore>>,
    pub revision: Arc<ArcSwap<Revision>>,
    pub sandbox: Sandbox,
    /// The compiler that reloads use.
    pub compiler: ProtoCompiler,
    pub owner: Arc<Owner>,
    /// Writes the tokens of the group's offsets.
    pub writer: Arc<Writer>,
    pub sizes: Sizes,
    pub lifecycle: Arc<Lifecycle>,
    pub brakes: Arc<Brakes>,
    pub metrics: Arc<Metrics>,
}

impl Parts {
    pub fn new(
        gate: Gate,
        schemas: Option<Arc<SchemaStore>>,
        revision: Revision,
        sandbox: Sandbox,
        compiler: ProtoCompiler,
        writer: Writer,
        sizes: Sizes,
    ) -> Parts {
        let metrics = Arc::new(Metrics::default());
        metrics.describe(&gate.pipeline.name, &revision.digest);
        let Pipeline { retry, dead_letter, .. } = &*gate.pipeline;
        Parts {
            owner: Arc::new(owner(&gate.pipeline)),
            brakes: Arc::new(Brakes::new(retry, dead_letter.limit, Arc::clone(&metrics))),
            gate: Arc::new(gate),
            schemas,
            revision: Arc::new(ArcSwap::from_pointee(revision)),
            sandbox,
            compiler,
            writer: Arc::new(writer),
            sizes,
            lifecycle: Arc::default(),
            metrics,
        }
    }

    fn lane(&self, consumer: &Arc<BaseConsumer<Callbacks>>) -> lane::Parts {
        lane::Parts {
            pipeline: Arc::clone(&self.gate.pipeline),
            gate: Arc::clone(&self.gate),
            schemas: self.schemas.clone(),
            revision: Arc::clone(&self.revision),
            owner: Arc::clone(&self.owner),
            writer: Arc::clone(&self.writer),
            sizes: self.sizes,
            lifecycle: Arc::clone(&self.lifecycle),
            brakes: Arc::clone(&self.brakes),
            metrics: Arc::clone(&self.metrics),
            consumer: Arc::clone(consumer),
        }
    }

    fn takeover(&self, consumer: &Arc<BaseConsumer<Callbacks>>) -> takeover::Worker {
        takeover::Worker {
            pipeline: Arc::clone(&self.gate.pipeline),
            owner: Arc::clone(&self.owner),
            writer: Arc::clone(&self.writer),
            sizes: self.sizes,
            lifecycle: Arc::clone(&self.lifecycle),
            brakes: Arc::clone(&self.brakes),
            consumer: Arc::clone(consumer),
            connection: None,
        }
    }

    fn keeper(&self) -> Keeper {
        Keeper {
            pipeline: Arc::clone(&self.gate.pipeline),
            schemas: self.schemas.clone(),
            owner: Arc::clone(&self.owner),
            lifecycle: Arc::clone(&self.lifecycle),
            brakes: Arc::clone(&self.brakes),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn reloader(&self) -> Reloader {
        let (gate, revision, brakes) = (Arc::clone(&self.gate), Arc::clone(&self.revision), Arc::clone(&self.brakes));
        Reloader::new(gate, revision, self.sandbox.clone(), self.compiler, brakes, Arc::clone(&self.metrics))
    }
}

/// The threads of a running engine, and what the main thread and the admin server need from them.
pub struct Engine {
    pub pipeline: Arc<Pipeline>,
    pub revision: Arc<ArcSwap<Revision>>,
    pub owner: Arc<Owner>,
    pub lifecycle: Arc<Lifecycle>,
    pub brakes: Arc<Brakes>,
    pub metrics: Arc<Metrics>,
    pub reloader: Arc<Reloader>,
    pub ended: mpsc::Receiver<ThreadEnded>,
    threads: Vec<JoinHandle<()>>,
    consumer: Option<Arc<BaseConsumer<Callbacks>>>,
}

/// Takes the slot, creates the producers (which ends transactions that a predecessor left open), and starts the
/// threads.
pub async fn start(parts: Parts, waiting: &Waiting) -> Result<Engine, Failure> {
    let pipeline = Arc::clone(&parts.gate.pipeline);
    let session = session(&parts, waiting).await?;
    let (rebalance_sender, rebalances) = bounded(limits::EVENTS);
    let failed = |error: &dyn std::fmt::Display| Failure::environment("environment.start", error);
    let consumer: BaseConsumer<Callbacks> =
        client::consumer(&pipeline).create_with_context(Callbacks::new(rebalance_sender)).map_err(|error| {
            Failure::configuration(
                "source.client",
                format!("cannot create the Kafka consumer: {}", client::explain(&error)),
            )
        })?;
    let consumer = Arc::new(consumer);
    let (event_sender, lane_events) = bounded(limits::EVENTS);
    let (request_sender, requests) = bounded(limits::EVENTS);
    let (answer_sender, answers) = bounded(limits::EVENTS);
    let (ended_sender, ended) = mpsc::channel(limits::EVENTS);
    let mut threads = Vec::new();
    let mut senders = Vec::new();
    for number in 0..pipeline.lanes {
        let (sender, receiver) = handoff::channels(limits::LANE_QUEUE, limits::EVENTS, event_sender.clone());
        senders.push(sender);
        let producers = tokio::task::block_in_place(|| producers(&parts, number, waiting))?;
        let lane = Lane::new(number, parts.lane(&consumer), receiver, producers).map_err(|error| failed(&error))?;
        let ended = ended_sender.clone();
        threads.push(spawn(&format!("lane-{number}"), move || {
            report(&ended, guarded(|| ThreadEnded::Lane(lane.run())));
        })?);
    }
    {
        let (worker, ended) = (parts.takeover(&consumer), ended_sender.clone());
        threads.push(spawn("takeover", move || {
            let run =
                || ThreadEnded::Helper(takeover::run(worker, &requests, &answer_sender).map_err(HelperError::from));
            report(&ended, guarded(run));
        })?);
    }
    {
        let (keeper, consumer, ended) = (parts.keeper(), Arc::clone(&consumer), ended_sender.clone());
        threads.push(spawn("keeper", move || {
            let run = || ThreadEnded::Helper(keeper::run(&keeper, session, &consumer));
            report(&ended, guarded(run));
        })?);
    }
    let mut poll = Poll {
        pipeline: Arc::clone(&pipeline),
        lifecycle: Arc::clone(&parts.lifecycle),
        brakes: Arc::clone(&parts.brakes),
        metrics: Arc::clone(&parts.metrics),
        consumer: Arc::clone(&consumer),
        rebalances,
        takeovers: request_sender,
        taken: answers,
        lanes: senders,
        lane_events,
        state: State::default(),
    };
    threads.push(spawn("poll", move || {
        report(&ended_sender, guarded(|| ThreadEnded::Poll(poll.run())));
        // The poll thread is dropped only now: without its channels the other threads end too, and must not be mistaken
        // for the cause.
        drop(poll);
    })?);
    let reloader = Arc::new(parts.reloader());
    let Parts { revision, owner, lifecycle, brakes, metrics, .. } = parts;
    let consumer = Some(consumer);
    Ok(Engine { pipeline, revision, owner, lifecycle, brakes, metrics, reloader, ended, threads, consumer })
}

/// Opens the keeper's session: takes the slot, if the mode has one, and reads the stored pause. Transient errors are
/// retried until the startup deadline.
async fn session(parts: &Parts, waiting: &Waiting) -> Result<PgConnection, Failure> {
    waiting.waits_for("a slot in PostgreSQL (tollgate.slot) and the stored pause");
    let mut backoff = parts.brakes.backoff();
    let (session, slot, stored, resumed) = loop {
        let error = match slot_and_pause(&parts.gate.pipeline, &parts.owner).await {
            Ok(Some(found)) => break found,
            Ok(None) => {
                let message = format!("all {} slots of pipeline {} are taken", limits::SLOTS, parts.gate.pipeline.name);
                return Err(Failure::environment("environment.start", message));
            }
            Err(error) => error,
        };
        let described = connect::describe(&error);
        if connect::refuses(&error) || connect::class(&error) != Class::Transient {
            return Err(Failure::environment("environment.start", described));
        }
        if waiting.left().is_zero() {
            return Err(waiting.over(Some(&described)));
        }
        tracing::warn!(error = described, "no slot from PostgreSQL yet, retrying");
        tokio::time::sleep(backoff.next_wait().min(waiting.left())).await;
    };
    if let Some(slot) = slot {
        parts.lifecycle.take_slot(slot.number);
        // Ends transactions of a predecessor in this slot that had more lanes than this process.
        for lane in parts.gate.pipeline.lanes..usize::try_from(slot.lanes).unwrap_or_default() {
            drop(tokio::task::block_in_place(|| producers(parts, lane, waiting))?);
        }
    }
    // This comes before the first record is fetched: a pause survives a restart, and so do the allowances of a resume.
    parts.brakes.allow(&resumed);
    if let Some(pause) = stored {
        parts.brakes.pause(pause);
    }
    Ok(session)
}

/// The results of startup's first session.
type Begun = (PgConnection, Option<Slot>, Option<halts::Pause>, Resumed);

/// Opens a session with its slot, the stored pause, and the allowances of resumes; `None` if all slots are taken.
async fn slot_and_pause(pipeline: &Pipeline, owner: &Owner) -> Result<Option<Begun>, sqlx::Error> {
    let (mut session, slot) = match pipeline.delivery.mode {
        DeliveryMode::EffectivelyOnce => match keeper::take(pipeline, owner, None).await? {
            Some((session, slot)) => (session, Some(slot)),
            None => return Ok(None),
        },
        DeliveryMode::AtLeastOnce => (connect::hold(pipeline, "keeper").await?, None),
    };
    let stored = halts::paused(&mut session, &pipeline.name).await?;
    let resumed = halts::resumed(&mut session, owner).await?;
    Ok(Some((session, slot, stored, resumed)))
}

/// Creates a lane's producers, which ends the transactions left open under their names. Blocks at most until the
/// startup deadline plus one call.
fn producers(parts: &Parts, lane: usize, waiting: &Waiting) -> Result<Producers, Failure> {
    waiting.waits_for(format!("Kafka's transaction coordinator to accept the producers of lane {lane}"));
    let slot = parts.lifecycle.slot().unwrap_or_default();
    let number = i32::try_from(lane).unwrap_or_default();
    let mut backoff = parts.brakes.backoff();
    loop {
        let patience = waiting.left().max(limits::START_LEAST);
        match Producers::connect(&parts.gate.pipeline, slot, number, parts.sizes, patience) {
            Ok(producers) => return Ok(producers),
            Err(error) if error.class() == Class::Fatal => {
                return Err(Failure::environment("environment.start", error));
            }
            Err(error) if waiting.left().is_zero() => return Err(waiting.over(Some(&error))),
            Err(error) => tracing::warn!(lane, %error, "cannot create the Kafka producers yet, retrying"),
        }
        std::thread::sleep(backoff.next_wait().min(waiting.left()));
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(limits::LANE_STACK)
        .spawn(body)
        .map_err(|error| Failure::environment("environment.thread", format!("cannot start thread {name}: {error}")))
}

fn report(ended: &mpsc::Sender<ThreadEnded>, how: ThreadEnded) {
    if ended.blocking_send(how).is_err() {
        tracing::debug!("a thread ended after the process had stopped listening");
    }
}

impl Engine {
    /// Ends the threads and leaves the group. After the deadline the process simply exits, which loses nothing.
    pub fn close(mut self, deadline: Duration) {
        self.lifecycle.stop();
        let until = Instant::now() + deadline;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= until {
                tracing::warn!(
                    "the shutdown deadline has passed; events that were not committed will be processed again"
                );
                return;
            }
            std::thread::sleep(limits::CLOSE_LOOK);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread panicked");
            }
        }
        if let Some(consumer) = self.consumer.take().and_then(Arc::into_inner) {
            use rdkafka::consumer::Consumer as _;
            consumer.context().close();
            let closer = std::thread::spawn(move || drop(consumer));
            while !closer.is_finished() && Instant::now() < until {
                std::thread::sleep(limits::CLOSE_LOOK);
            }
        }
    }
}
