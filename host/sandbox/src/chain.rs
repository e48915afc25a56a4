//! Several transforms in sequence, with one verdict for each source event.
//!
//! Between two transforms the outputs of the first become the events of the second, each with its current key and
//! headers. Their bytes stay in place: all transforms write into one arena, and an output that the last transform
//! passes on is still a range of what the first emitted, or of the source's own bytes.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::batch::{
    BatchMeta, Bytes, Events, Failed, FailureCode, Leaf, Outcome, Output, Results, Scratch, bound, index,
};
use crate::error::{RunError, panic_message};
use crate::run::Run;
use crate::transform::Transform;

/// A lane's transforms, in order. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    transforms: Arc<[Transform]>,
}

impl Chain {
    /// Creates a chain. An empty chain passes everything.
    pub fn new(transforms: Vec<Transform>) -> Chain {
        Chain { transforms: transforms.into() }
    }

    pub fn transforms(&self) -> &[Transform] {
        &self.transforms
    }

    /// Runs the chain on a batch, on the calling thread, which needs a stack of [`crate::limits::THREAD_STACK`].
    /// `results` is cleared first, and is meaningless after an error.
    ///
    /// # Errors
    /// Fails if no verdict could be reached through no fault of an event; see [`RunError`].
    pub fn run(&self, meta: &BatchMeta, events: &Arc<Events>, results: &mut Results) -> Result<(), RunError> {
        results.clear();
        let ran = match &*self.transforms {
            [] => {
                pass_all(events, results);
                Ok(())
            }
            [only] => stage(only, 0, meta, events, results),
            several => run_several(several, meta, events, results),
        };
        if ran.is_err() {
            results.clear();
        }
        ran
    }
}

/// Runs one transform. Any panic is a fault of the host; it must cost only a revision, not the process.
fn stage(
    transform: &Transform,
    place: usize,
    meta: &BatchMeta,
    events: &Arc<Events>,
    results: &mut Results,
) -> Result<(), RunError> {
    let run = Run { transform, place, meta, events };
    catch_unwind(AssertUnwindSafe(|| run.run(results))).unwrap_or_else(|panic| {
        let message = format!("the host panicked: {}", panic_message(&*panic));
        Err(RunError::Revision { transform: transform.manifest().name.clone(), message })
    })
}

fn pass_all(events: &Events, results: &mut Results) {
    for event in 0..events.len() {
        let output = Output { route: 0, transform: 0, payload: Bytes::Input, key: Bytes::Input, headers: Vec::new() };
        results.outputs.push(output);
        results.outcomes.push(Outcome::Outputs(bound(event)..bound(event + 1)));
        results.fuel.push(0);
    }
}

fn run_several(
    transforms: &[Transform],
    meta: &BatchMeta,
    source: &Arc<Events>,
    results: &mut Results,
) -> Result<(), RunError> {
    let mut scratch = mem::take(&mut results.scratch);
    let mut work = scratch.stage.take().unwrap_or_default();
    scratch.leaves.clear();
    scratch.leaves.extend((0..source.len()).map(|source| Leaf {
        source,
        output: Output { route: 0, transform: 0, payload: Bytes::Input, key: Bytes::Input, headers: Vec::new() },
        live: true,
    }));
    // Until a transform decides otherwise, each event's only output is the event itself.
    results.outcomes.resize(source.len(), Outcome::Outputs(0..0));
    results.fuel.resize(source.len(), 0);
    for (place, transform) in transforms.iter().enumerate() {
        let events = scratch.events_for_next(source, results);
        work.clear();
        mem::swap(&mut work.arena, &mut results.arena);
        let ran = stage(transform, place, meta, &events, &mut work);
        mem::swap(&mut work.arena, &mut results.arena);
        match ran {
            Ok(()) => {}
            // The event is alone and still too large, so it is itself at fault for what an earlier transform made of
            // it.
            Err(RunError::BatchOutput { limit, .. }) if source.len() == 1 => {
                fail_alone(place, limit, results);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        drop(events);
        scratch.take_over(&mut work, results, place, place + 1 == transforms.len());
    }
    scratch.conclude(results);
    scratch.stage = Some(work);
    results.scratch = scratch;
    Ok(())
}

fn fail_alone(place: usize, limit: u64, results: &mut Results) {
    let message =
        format!("more than {limit} bytes emitted for the records of a single event (limits.batch_output_bytes)");
    let fuel_used = results.fuel[0];
    let failed = Failed { transform: place, code: FailureCode::OutputLimit, message, fuel_used };
    results.outputs.clear();
    results.outcomes[0] = Outcome::Failed(Box::new(failed));
}

/// Returns whether a source event's verdict is final, whatever the result of its other outputs.
fn is_final(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Rejected(_) | Outcome::Failed(_) => true,
        Outcome::Outputs(_) | Outcome::Dropped { .. } => false,
    }
}

impl Scratch {
    /// Returns the events for the next transform: the source itself while nothing has changed, otherwise the outputs.
    fn events_for_next(&mut self, source: &Arc<Events>, results: &Results) -> Arc<Events> {
        let untouched = |(event, leaf): (usize, &Leaf)| {
            let output = &leaf.output;
            let own = output.payload == Bytes::Input && output.key == Bytes::Input && output.headers.is_empty();
            own && leaf.live && leaf.source == event
        };
        if self.leaves.len() == source.len() && self.leaves.iter().enumerate().all(untouched) {
            return Arc::clone(source);
        }
        let events = Arc::make_mut(&mut self.events);
        events.clear();
        for Leaf { source: origin, output, .. } in self.leaves.iter().filter(|leaf| leaf.live) {
            let (key, payload) = (results.key(output, source, *origin), results.payload(output, source, *origin));
            events.push(key, payload, source.record_offsets[*origin], source.timestamps[*origin]);
            for (name, value) in source.headers.iter(*origin) {
                if !output.headers.iter().any(|(set, _)| set.as_bytes() == name) {
                    events.headers.push(name, value);
                }
            }
            for (name, value) in &output.headers {
                events.headers.push(name, Some(value));
            }
            events.headers.end_record();
        }
        Arc::clone(&self.events)
    }

    /// Replaces each live leaf by the transform's results for it, in order.
    fn take_over(&mut self, stage: &mut Results, results: &mut Results, place: usize, last: bool) {
        let mut outcomes = stage.outcomes.drain(..).zip(stage.fuel.drain(..));
        let mut outputs = stage.outputs.drain(..);
        for leaf in self.leaves.drain(..) {
            if !leaf.live {
                self.next_leaves.push(leaf);
                continue;
            }
            let Some((outcome, fuel)) = outcomes.next() else { break };
            results.fuel[leaf.source] += fuel;
            let verdict = &mut results.outcomes[leaf.source];
            match outcome {
                Outcome::Outputs(range) => {
                    let emitted = outputs.by_ref().take(index(range.end - range.start));
                    self.next_leaves.extend(emitted.map(|output| Leaf {
                        source: leaf.source,
                        live: !last && output.route == 0,
                        output: resolve(output, &leaf.output),
                    }));
                }
                Outcome::Dropped { .. } if !is_final(verdict) => *verdict = Outcome::Dropped { transform: place },
                Outcome::Rejected(_) | Outcome::Failed(_) if !is_final(verdict) => *verdict = outcome,
                Outcome::Dropped { .. } | Outcome::Rejected(_) | Outcome::Failed(_) => {}
            }
        }
        self.next_leaves.retain(|leaf| !is_final(&results.outcomes[leaf.source]));
        mem::swap(&mut self.leaves, &mut self.next_leaves);
    }

    /// Turns the remaining leaves at the end of the chain into the source events' outputs.
    fn conclude(&mut self, results: &mut Results) {
        let mut leaves = self.leaves.drain(..).peekable();
        for (event, outcome) in results.outcomes.iter_mut().enumerate() {
            let start = results.outputs.len();
            while let Some(leaf) = leaves.next_if(|leaf| leaf.source == event) {
                results.outputs.push(leaf.output);
            }
            if results.outputs.len() > start {
                *outcome = Outcome::Outputs(bound(start)..bound(results.outputs.len()));
            }
        }
    }
}

/// Resolves a transform's output against its input: an unchanged payload or key refers to the input's bytes, and the
/// input's headers are kept unless the output sets them.
fn resolve(output: Output, input: &Output) -> Output {
    let own = |bytes: Bytes, input: &Bytes| if bytes == Bytes::Input { input.clone() } else { bytes };
    let mut headers = input.headers.clone();
    headers.retain(|(name, _)| !output.headers.iter().any(|(set, _)| set == name));
    headers.extend(output.headers);
    let (payload, key) = (own(output.payload, &input.payload), own(output.key, &input.key));
    Output { route: output.route, transform: output.transform, payload, key, headers }
}
