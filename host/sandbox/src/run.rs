//! Runs one transform on one batch: decides which events an instance receives, and settles events at which an instance
//! ends.
//!
//! Every batch gets a fresh instance, so that no event depends on another batch's. A batch that would fill too much of
//! a guest's memory gets several, one for each *window* of it. Within a window the host learns of each event as it is
//! settled, so an instance always ends *at an event*, and the events before it keep their verdicts. That event is run
//! again alone on a fresh instance, because state that an earlier event left in the guest's memory may have affected
//! it; the result of that run is its verdict. So a verdict depends only on the event, and the same batch gives the same
//! verdicts however it is divided.
//!
//! The alternatives were one instance per event (three times the cost of the work itself) and one call per event on a
//! shared instance (twice the cost); neither is needed to locate a trap.
//!
//! An end before the first event is caused by the batch's size or by the transform itself. The events are then tried
//! one by one; if one of them fails in that way too, a run with an empty batch decides whether the event or the
//! revision is at fault.
//!
//! An interruption is caused by the machine or by the event. The event runs again alone. If it is interrupted again,
//! the run fails with an error that contains the thread's CPU time. The lane counts these errors and runs the batch
//! again, until the event fails.

use std::ops::Range;
use std::sync::Arc;

use wasmtime::component::{ComponentType, Instance, Lower};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use crate::batch::{BatchMeta, Events, Failed, FailureCode, Outcome, Overdue, Results, index};
use crate::error::{LoadError, RunError};
use crate::guest::{Fault, Guest, Phase, Work, clean};
use crate::limits;
use crate::transform::Transform;

/// `guest.batch-meta` of the WIT world.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
struct Meta {
    topic: String,
    partition: i32,
    #[component(name = "schema-id")]
    schema_id: u32,
    #[component(name = "batch-time")]
    batch_time: i64,
    seed: u64,
}

type InitParams<'a> = (&'a [u8],);
type InitResult = (Result<(), String>,);
type ProcessParams<'a> = (Meta, &'a [u8], &'a [u32], &'a [u8], &'a [i64], &'a [i64]);

/// The way in which an instance ended.
enum End {
    Settled,
    /// It ended at this event, or before the first one.
    Stopped {
        at: Option<usize>,
        why: Why,
        fuel: u64,
    },
}

enum Why {
    Fault(FailureCode, String),
    /// Instantiation or `init` failed.
    Start(String),
    /// An event was interrupted. If `cpu_spent`, it ran alone, and its thread had used the whole deadline.
    Interrupted {
        cpu_spent: bool,
    },
    PoolExhausted,
    /// The pool has a free slot, but the system does not provide the memory.
    NoInstance(String),
    BatchOutput,
}

/// One transform, with its index in the chain and its batch.
pub(crate) struct Run<'a> {
    pub transform: &'a Transform,
    pub place: usize,
    pub meta: &'a BatchMeta,
    pub events: &'a Arc<Events>,
}

/// Starts a throw-away instance: checks that the component's start functions and `init` succeed.
pub(crate) fn try_start(transform: &Transform) -> Result<(), LoadError> {
    let meta =
        BatchMeta { topic: String::new(), partition: -1, schema_id: 0, batch_time: 0, seed: 0, overdue: Vec::new() };
    let events = Arc::default();
    let run = Run { transform, place: 0, meta: &meta, events: &events };
    let mut store = run.store(0..0, Work::default()).map_err(|error| LoadError::Start(format!("{error:#}")))?;
    let instance = match run.start(&mut store) {
        Ok(instance) => instance,
        Err(Why::PoolExhausted) => return Err(LoadError::PoolExhausted),
        Err(Why::Fault(_, message) | Why::Start(message) | Why::NoInstance(message)) => {
            return Err(LoadError::Start(message));
        }
        Err(Why::Interrupted { .. }) => return Err(LoadError::Start("interrupted after its deadline".into())),
        Err(Why::BatchOutput) => return Err(LoadError::Start("it emits in init".into())),
    };
    instance
        .get_typed_func::<ProcessParams, ()>(&mut store, transform.0.process)
        .map_err(|error| LoadError::World(format!("process: {error:#}")))?;
    Ok(())
}

impl Run<'_> {
    /// Settles all events of the batch, in order, into `results`.
    pub(crate) fn run(&self, results: &mut Results) -> Result<(), RunError> {
        let mut work = Work { results: std::mem::take(results), emitted: 0 };
        let mut settled = 0;
        let mut window = limits::WINDOW;
        while settled < self.events.len() {
            if let Some(overdue) = self.overdue(settled) {
                if overdue.fails {
                    self.fail_overdue(&mut work);
                } else {
                    self.alone(settled, &mut work)?;
                }
                settled += 1;
                continue;
            }
            let end = self.until_overdue(settled, self.fitting(settled, window));
            let stopped = match self.attempt(settled..end, &mut work) {
                End::Settled => {
                    settled = end;
                    window = (window * 2).min(limits::WINDOW);
                    continue;
                }
                End::Stopped { at, why, .. } => self.blame(why).map(|()| at)?,
            };
            let suspect = stopped.or((end - settled == 1).then_some(settled));
            match suspect {
                Some(event) => {
                    self.alone(event, &mut work)?;
                    settled = event + 1;
                    window = limits::WINDOW_AFTER_FAILURE;
                }
                None => window = 1,
            }
        }
        *results = work.results;
        Ok(())
    }

    /// Returns the end of a window of at most `most` events whose lists stay within their share of the guest's memory;
    /// it has at least one event.
    fn fitting(&self, start: usize, most: usize) -> usize {
        let events = self.events;
        let budget = self.transform.0.terms.limits.memory / limits::WINDOW_SHARE_OF_MEMORY;
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let bytes = |end: usize| {
            let arena = index(events.offsets[2 * end]) - index(events.offsets[2 * start]);
            arena + (end - start) * limits::WINDOW_BYTES_AN_EVENT
        };
        let most = most.min(events.len() - start);
        let (mut fits, mut too_many) = (1, most + 1);
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if bytes(start + middle) <= budget { fits = middle } else { too_many = middle }
        }
        start + fits
    }

    /// Returns what earlier interrupted runs showed about an event.
    fn overdue(&self, event: usize) -> Option<Overdue> {
        let mut known = self.meta.overdue.iter();
        known.find(|one| one.transform == self.place && one.offset == self.events.record_offsets[event]).copied()
    }

    /// Ends a window before the next event that is known to reach its deadline.
    fn until_overdue(&self, start: usize, end: usize) -> usize {
        if self.meta.overdue.is_empty() {
            return end;
        }
        (start + 1..end).find(|event| self.overdue(*event).is_some()).unwrap_or(end)
    }

    fn fail_overdue(&self, work: &mut Work) {
        let deadline = self.transform.0.terms.limits.deadline;
        let message = format!(
            "interrupted after {deadline:.1?} of CPU time each time, before it had used its fuel (limits.deadline)"
        );
        let code = FailureCode::DeadlineExceeded;
        work.results.outcomes.push(Outcome::Failed(Box::new(Failed {
            transform: self.place,
            code,
            message,
            fuel_used: 0,
        })));
        work.results.fuel.push(0);
    }

    /// Runs an event alone on a fresh instance: the result is its verdict.
    // I6: no other event shares the instance.
    fn alone(&self, event: usize, work: &mut Work) -> Result<(), RunError> {
        let (at, why, fuel_used) = match self.attempt(event..event + 1, work) {
            End::Settled => return Ok(()),
            End::Stopped { at, why, fuel } => (at, why, fuel),
        };
        let (code, message) = match why {
            Why::Fault(code, message) => (code, message),
            Why::Interrupted { cpu_spent } => {
                let (transform, offset) = (self.name(), self.events.record_offsets[event]);
                let (place, partition) = (self.place, self.meta.partition);
                return Err(RunError::Interrupted { transform, place, partition, offset, cpu_spent });
            }
            why @ (Why::Start(_) | Why::PoolExhausted | Why::NoInstance(_) | Why::BatchOutput) => {
                return self.blame(why);
            }
        };
        if at.is_none() {
            self.acquit_revision(&message)?;
        }
        let failed = Failed { transform: self.place, code, message, fuel_used };
        work.results.outcomes.push(Outcome::Failed(Box::new(failed)));
        work.results.fuel.push(fuel_used);
        Ok(())
    }

    /// Runs the transform on an empty batch. If this fails, the transform is broken and no event is at fault.
    fn acquit_revision(&self, message: &str) -> Result<(), RunError> {
        match self.attempt(0..0, &mut Work::default()) {
            End::Settled => Ok(()),
            End::Stopped { why: Why::Fault(..), .. } => {
                Err(self.revision(format!("it stops before its first event, also on an empty batch: {message}")))
            }
            End::Stopped { why, .. } => self.blame(why),
        }
    }

    /// Returns whether an event may be at fault; otherwise the cause is the run's error.
    fn blame(&self, why: Why) -> Result<(), RunError> {
        match why {
            Why::Fault(..) | Why::Interrupted { .. } => Ok(()),
            Why::Start(message) => Err(self.revision(message)),
            Why::PoolExhausted => Err(RunError::PoolExhausted { transform: self.name() }),
            Why::NoInstance(message) => Err(RunError::NoInstance { transform: self.name(), message }),
            Why::BatchOutput => {
                let limit = self.transform.0.terms.limits.batch_output_bytes;
                Err(RunError::BatchOutput { transform: self.name(), limit })
            }
        }
    }

    fn revision(&self, message: String) -> RunError {
        RunError::Revision { transform: self.name(), message }
    }

    fn name(&self) -> String {
        self.transform.0.terms.manifest.name.clone()
    }

    /// Runs a window of the batch on a fresh instance. The settled events are in `work`, whatever happens next.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    fn attempt(&self, window: Range<usize>, work: &mut Work) -> End {
        let mut store = match self.store(window.clone(), std::mem::take(work)) {
            Ok(store) => store,
            Err(error) => return End::Stopped { at: None, why: Why::Start(format!("{error:#}")), fuel: 0 },
        };
        let ended = self.start(&mut store).and_then(|instance| self.process(&mut store, instance, window));
        let left = store.get_fuel().unwrap_or(0);
        let mut guest = store.into_data();
        let ended = ended.map_err(|why| match why {
            Why::Interrupted { .. } => Why::Interrupted { cpu_spent: guest.cpu_spent() },
            why => why,
        });
        guest.end();
        *work = guest.work;
        let (at, budget) = match guest.phase {
            Phase::Event(event) => (Some(event), self.transform.0.terms.limits.fuel),
            Phase::Starting | Phase::Ready | Phase::Ended => (None, limits::START_FUEL),
        };
        match ended {
            Ok(()) => End::Settled,
            // Every event has its verdict, and another run would give the same ones, so the end of the instance has no
            // consequence.
            Err(why) if guest.phase == Phase::Ended => {
                let message = match why {
                    Why::Fault(_, message) | Why::Start(message) | Why::NoInstance(message) => message,
                    Why::Interrupted { .. } | Why::PoolExhausted | Why::BatchOutput => "interrupted".to_owned(),
                };
                tracing::warn!(transform = self.name(), "stopped after its last event: {message}");
                End::Settled
            }
            // A fault in start or init is not an event's.
            Err(Why::Fault(_, message)) if guest.phase == Phase::Starting => {
                End::Stopped { at: None, why: Why::Start(message), fuel: 0 }
            }
            Err(why @ Why::Fault(FailureCode::FuelExhausted, _)) => End::Stopped { at, why, fuel: budget },
            Err(why) => End::Stopped { at, why, fuel: budget.saturating_sub(left) },
        }
    }

    fn store(&self, window: Range<usize>, work: Work) -> wasmtime::Result<Store<Guest>> {
        let loaded = &self.transform.0;
        let events = Arc::clone(self.events);
        let guest = Guest::new(Arc::clone(&loaded.terms), self.place, self.meta.partition, events, window, work);
        let mut store = Store::try_new(loaded.pre.engine(), guest)?;
        // I8: memory, handles, time and fuel are bounded before guest code runs.
        store.limiter(|guest| &mut guest.memory);
        // No list or string is larger than the memory that contains it; fuel pays for its cost.
        store.set_hostcall_fuel(usize::try_from(loaded.terms.limits.memory).unwrap_or(usize::MAX));
        store.set_max_component_handles(64);
        if store.data().alone() {
            store.epoch_deadline_callback(|mut store| Ok(store.data_mut().at_deadline()));
        } else {
            store.epoch_deadline_trap();
        }
        store.set_epoch_deadline(loaded.terms.start_ticks);
        // This comes before instantiation, which also runs guest code.
        store.set_fuel(limits::START_FUEL)?;
        Ok(store)
    }

    /// Instantiates and calls `init`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    fn start(&self, store: &mut Store<Guest>) -> Result<Instance, Why> {
        let loaded = &self.transform.0;
        let instance = loaded.pre.instantiate(&mut *store).map_err(|error| match why(error) {
            // This is neither a trap nor a limit. The component was tested when it was loaded, so the machine is the
            // cause.
            Why::Fault(FailureCode::Protocol, message) => Why::NoInstance(message),
            why => why,
        })?;
        let init = instance
            .get_typed_func::<InitParams, InitResult>(&mut *store, loaded.init)
            .map_err(|error| Why::Start(format!("the wrong world: init: {error:#}")))?;
        let (done,) = init.call(&mut *store, (&loaded.terms.config,)).map_err(why)?;
        done.map_err(|message| Why::Start(format!("init failed: {}", clean(&message, limits::MESSAGE_BYTES))))?;
        Ok(instance)
    }

    fn process(&self, store: &mut Store<Guest>, instance: Instance, window: Range<usize>) -> Result<(), Why> {
        let loaded = &self.transform.0;
        let process = instance
            .get_typed_func::<ProcessParams, ()>(&mut *store, loaded.process)
            .map_err(|error| Why::Start(format!("the wrong world: process: {error:#}")))?;
        store.set_fuel(limits::START_FUEL).map_err(why)?;
        store.set_epoch_deadline(loaded.terms.start_ticks);
        store.data_mut().phase = Phase::Ready;
        let cut = Cut::of(self.events, &window);
        let (records, times) = (&self.events.record_offsets[window.clone()], &self.events.timestamps[window.clone()]);
        let flags = &self.events.flags[window.clone()];
        process.call(&mut *store, (self.meta(), cut.arena, cut.offsets(), flags, records, times)).map_err(why)?;
        match store.data().phase {
            Phase::Ended => Ok(()),
            Phase::Ready if window.is_empty() => Ok(()),
            Phase::Starting | Phase::Ready => {
                store.data_mut().phase = Phase::Event(window.start);
                Err(Why::Fault(FailureCode::Protocol, "process returned without calling next".into()))
            }
            Phase::Event(_) => Err(Why::Fault(FailureCode::Protocol, "process returned before the end mark".into())),
        }
    }

    fn meta(&self) -> Meta {
        let BatchMeta { topic, partition, schema_id, batch_time, seed, .. } = self.meta.clone();
        Meta { topic, partition, schema_id, batch_time, seed }
    }
}

/// The keys and values of a window. A whole batch is passed unchanged; a part of it needs separate bounds.
struct Cut<'a> {
    arena: &'a [u8],
    whole: &'a [u32],
    moved: Option<Vec<u32>>,
}

impl<'a> Cut<'a> {
    fn of(events: &'a Events, window: &Range<usize>) -> Cut<'a> {
        if window.is_empty() {
            return Cut { arena: &[], whole: &[0], moved: None };
        }
        let bounds = &events.offsets[2 * window.start..=2 * window.end];
        let first = bounds[0];
        let arena = &events.arena[index(first)..index(bounds[bounds.len() - 1])];
        let moved = (first != 0).then(|| bounds.iter().map(|bound| bound - first).collect());
        Cut { arena, whole: bounds, moved }
    }

    fn offsets(&self) -> &[u32] {
        self.moved.as_deref().unwrap_or(self.whole)
    }
}

/// Returns why the guest's code ended. An error that is neither a trap nor the host's own fault is a value that the
/// canonical ABI rejects: a list outside of memory, text that is not UTF-8, an unknown enum case.
fn why(error: wasmtime::Error) -> Why {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return match fault {
            Fault::Event { code, message } => Why::Fault(*code, message.clone()),
            Fault::BatchOutput => Why::BatchOutput,
        };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Why::PoolExhausted;
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return Why::Fault(FailureCode::Protocol, clean(&error.root_cause().to_string(), limits::MESSAGE_BYTES));
    };
    let code = if *trap == Trap::Interrupt {
        return Why::Interrupted { cpu_spent: false };
    } else if *trap == Trap::OutOfFuel {
        FailureCode::FuelExhausted
    } else if *trap == Trap::StackOverflow {
        FailureCode::StackOverflow
    } else {
        FailureCode::Trap
    };
    let mut message = trap.to_string();
    let names = error.downcast_ref::<WasmBacktrace>().into_iter().flat_map(|trace| trace.frames());
    for (depth, name) in names.filter_map(|frame| frame.func_name()).take(3).enumerate() {
        message.push_str(if depth == 0 { ", in " } else { " < " });
        message.push_str(name);
    }
    Why::Fault(code, clean(&message, limits::MESSAGE_BYTES))
}

#[cfg(test)]
mod tests;
