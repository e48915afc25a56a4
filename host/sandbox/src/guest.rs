//! The host's state of a running guest: its position in the batch, what it has reported about the current event, and
//! its remaining limits. All of it is data and checks; [`crate::imports`] connects it to wasmtime.
//!
//! [`Guest::settle`] implements the verdict table of the WIT world; every violation by a guest is a [`Fault`].

use std::ops::Range;
use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::batch::{Bytes, Events, FailureCode, Outcome, Output, Rejected, Results, bound, index};
use crate::limits;
use crate::terms::Terms;
use crate::watch::Watch;

/// The value that `next` returns when no event is left.
pub(crate) const END: u32 = u32::MAX;

/// `host.verdict` of the WIT world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "lifting makes the variants")]
pub(crate) enum Verdict {
    #[component(name = "start")]
    Start,
    #[component(name = "pass")]
    Pass,
    #[component(name = "replace")]
    Replace,
    #[component(name = "drop")]
    Drop,
    #[component(name = "reject")]
    Reject,
}

/// `log.level` of the WIT world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "lifting makes the variants")]
pub(crate) enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// The guest's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is instantiated or in `init`.
    Starting,
    /// It is in `process` and has not called `next`.
    Ready,
    /// It processes this event; the index is in the whole batch.
    Event(usize),
    /// It has received the end mark.
    Ended,
}

/// The reason why the host ends an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{message}")]
    Event { code: FailureCode, message: String },
    /// The batch is too large, which is not the fault of a single event.
    #[error("too many bytes emitted for one batch")]
    BatchOutput,
}

fn protocol(message: impl Into<String>) -> Fault {
    Fault::Event { code: FailureCode::Protocol, message: message.into() }
}

fn output_limit(message: String) -> Fault {
    Fault::Event { code: FailureCode::OutputLimit, message }
}

/// The state carried from instance to instance of one run.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub results: Results,
    /// Bytes emitted for the settled events and the current one.
    pub emitted: u64,
}

/// The guest's reports about the current event.
#[derive(Debug, Default)]
struct Current {
    /// The start of its outputs in the results.
    outputs: usize,
    arena: usize,
    /// Bytes emitted, and the amount counted for them in [`Work::emitted`].
    bytes: u64,
    counted: u64,
    /// The key that was set since the last output.
    key: Option<Range<u32>>,
    headers: Vec<(String, Vec<u8>)>,
    explained: Option<Explained>,
}

#[derive(Debug)]
struct Explained {
    code: String,
    field: String,
    message: String,
}

/// The data of a store.
pub(crate) struct Guest {
    pub terms: Arc<Terms>,
    /// Index of the transform in its chain.
    pub place: usize,
    pub partition: i32,
    pub events: Arc<Events>,
    /// The events of the batch that this instance receives.
    pub window: Range<usize>,
    pub phase: Phase,
    pub work: Work,
    pub memory: Memory,
    current: Current,
    /// Measures the time of an event that runs alone.
    watch: Option<Watch>,
    /// The remaining bytes of log lines for the current event.
    log_bytes_left: usize,
    /// The remaining log lines for the instance.
    lines_left: u32,
    cut: u32,
}

impl Guest {
    pub(crate) fn new(
        terms: Arc<Terms>,
        place: usize,
        partition: i32,
        events: Arc<Events>,
        window: Range<usize>,
        work: Work,
    ) -> Guest {
        let memory = Memory { limit: terms.limits.memory, used: 0, elements: 0 };
        let mut guest = Guest {
            terms,
            place,
            partition,
            events,
            window,
            phase: Phase::Starting,
            work,
            memory,
            current: Current::default(),
            watch: None,
            log_bytes_left: 0,
            lines_left: limits::LOG_LINES,
            cut: 0,
        };
        guest.begin_event();
        guest
    }

    /// Returns whether this instance has only one event: only then is the measured time known to be the event's.
    pub(crate) fn alone(&self) -> bool {
        self.window.len() == 1
    }

    /// Begins to measure the time of an event that runs alone.
    pub(crate) fn watch(&mut self) {
        self.watch = (self.alone() && matches!(self.phase, Phase::Event(_))).then(Watch::start);
    }

    /// Handles the deadline of an event that runs alone: it continues as long as its thread has not used that time.
    pub(crate) fn at_deadline(&mut self) -> UpdateDeadline {
        let deadline = self.terms.limits.deadline;
        match &mut self.watch {
            Some(watch) => watch.at_deadline(deadline),
            None => UpdateDeadline::Interrupt,
        }
    }

    /// Returns whether the current event was interrupted after its thread had used the whole deadline.
    pub(crate) fn cpu_spent(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.spent)
    }

    /// Settles the current event with the guest's verdict and the fuel that the event used. Fails if the verdict is not
    /// allowed here; see `enum verdict` in transform.wit.
    pub(crate) fn settle(&mut self, verdict: Verdict, fuel: u64) -> Result<(), Fault> {
        match (self.phase, verdict) {
            (Phase::Ready, Verdict::Start) => return Ok(()),
            (Phase::Ready, verdict) => {
                return Err(protocol(format!("the first call of next passed {verdict:?}, not start")));
            }
            (Phase::Event(_), Verdict::Start) => {
                return Err(protocol("next(start) before the current event is settled"));
            }
            (Phase::Event(_), _) => {}
            (Phase::Starting, _) => return Err(protocol("next was called outside of process")),
            (Phase::Ended, _) => return Err(protocol("next was called after the end mark")),
        }
        let emitted = self.work.results.outputs.len() - self.current.outputs;
        let outcome = match verdict {
            Verdict::Pass if emitted > 0 => return Err(protocol(format!("pass after {emitted} outputs: use replace"))),
            Verdict::Pass => {
                self.push_output(0, Bytes::Input);
                self.outputs()
            }
            Verdict::Replace if emitted == 0 => return Err(protocol("replace without an output: use drop")),
            Verdict::Replace => self.outputs(),
            Verdict::Drop => {
                self.discard();
                Outcome::Dropped { transform: self.place }
            }
            Verdict::Reject => {
                self.discard();
                Outcome::Rejected(Box::new(self.rejection(fuel)))
            }
            Verdict::Start => return Err(protocol("start does not settle an event")),
        };
        self.work.results.outcomes.push(outcome);
        self.work.results.fuel.push(fuel);
        Ok(())
    }

    /// Advances to the next event: returns its index in the window and its fuel, or the end mark and the fuel left for
    /// returning.
    pub(crate) fn advance(&mut self) -> (u32, u64) {
        let next = match self.phase {
            Phase::Event(event) => event + 1,
            Phase::Starting | Phase::Ready | Phase::Ended => self.window.start,
        };
        self.begin_event();
        if next < self.window.end {
            self.phase = Phase::Event(next);
            (bound(next - self.window.start), self.terms.limits.fuel)
        } else {
            self.phase = Phase::Ended;
            (END, limits::START_FUEL)
        }
    }

    /// Counts an output of `bytes`, or returns why it is not allowed.
    pub(crate) fn admit_output(&mut self, route: u32, bytes: usize) -> Result<(), Fault> {
        self.event("emit and delete")?;
        if index(route) > self.terms.manifest.routes.len() {
            let routes = self.terms.manifest.routes.len();
            return Err(protocol(format!("route {route} is not one of the {routes} that transform.yaml declares")));
        }
        let most = self.terms.limits.max_outputs;
        if self.work.results.outputs.len() - self.current.outputs >= index(most) {
            return Err(output_limit(format!("more than {most} outputs for one event (limits.max_outputs)")));
        }
        self.admit_bytes(bytes, size_of::<Output>())
    }

    /// Counts the key of the next output.
    pub(crate) fn admit_key(&mut self, bytes: usize) -> Result<(), Fault> {
        self.event("set-key")?;
        self.admit_bytes(bytes, 0)
    }

    pub(crate) fn set_key(&mut self, key: Range<u32>) {
        self.current.key = Some(key);
    }

    /// Sets a header of the next output, replacing any with that name.
    pub(crate) fn admit_header(&mut self, name: &str, bytes: usize) -> Result<(), Fault> {
        self.event("set-header")?;
        if let Some(prefix) = limits::HOST_HEADERS.iter().find(|prefix| name.starts_with(**prefix)) {
            return Err(protocol(format!(
                "set-header of `{}`: names with `{prefix}` are reserved for the host",
                clean(name, 64)
            )));
        }
        let known = self.current.headers.iter().any(|(known, _)| known == name);
        if !known && self.current.headers.len() >= limits::OUTPUT_HEADERS {
            return Err(output_limit(format!("more than {} headers on one output", limits::OUTPUT_HEADERS)));
        }
        self.admit_bytes(name.len() + bytes, size_of::<(String, Vec<u8>)>())
    }

    pub(crate) fn set_header(&mut self, name: String, value: Vec<u8>) {
        match self.current.headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.current.headers.push((name, value)),
        }
    }

    /// Adds an output with the key and headers set since the last one. It was admitted, or is a pass.
    pub(crate) fn push_output(&mut self, route: u32, payload: Bytes) {
        let key = self.current.key.take().map_or(Bytes::Input, Bytes::Arena);
        let headers = std::mem::take(&mut self.current.headers);
        self.work.results.outputs.push(Output { route, transform: self.place, payload, key, headers });
    }

    /// Stores why the event is about to be rejected.
    pub(crate) fn explain(&mut self, code: &str, field: &str, message: &str) -> Result<(), Fault> {
        self.event("explain")?;
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
        if code.is_empty() || code.len() > limits::CODE_BYTES || !code.bytes().all(legal) {
            return Err(protocol(format!(
                "explain with the code `{}`: 1 to 64 of a to z, 0 to 9, `_`, `-` and `.`",
                clean(code, limits::CODE_BYTES)
            )));
        }
        self.current.explained = Some(Explained {
            code: code.to_owned(),
            field: clean(field, limits::FIELD_BYTES),
            message: clean(message, limits::MESSAGE_BYTES),
        });
        Ok(())
    }

    /// Returns the current event, or the fault of calling `what` without one.
    pub(crate) fn event(&self, what: &str) -> Result<usize, Fault> {
        match self.phase {
            Phase::Event(event) => Ok(event),
            Phase::Starting | Phase::Ready | Phase::Ended => Err(protocol(format!("{what} without a current event"))),
        }
    }

    /// Discards what was reported about an event that could not be settled, and logs how many lines were suppressed.
    pub(crate) fn end(&mut self) {
        if let Phase::Event(_) = self.phase {
            self.discard();
        }
        if self.cut > 0 {
            let (transform, partition, cut) = (self.terms.manifest.name.as_str(), self.partition, self.cut);
            tracing::warn!(target: "tollgate::guest", transform, partition, cut, "log lines over the limits were cut");
        }
    }

    /// Writes a line to the operator's log, within the limits of the event's bytes and the instance's lines.
    pub(crate) fn log(&mut self, level: Level, message: &str) {
        if self.lines_left == 0 || (self.log_bytes_left == 0 && !message.is_empty()) {
            self.cut += 1;
            return;
        }
        let line = clean(message, self.log_bytes_left);
        if message.len() > self.log_bytes_left {
            self.cut += 1;
        }
        self.log_bytes_left -= message.len().min(self.log_bytes_left);
        self.lines_left -= 1;
        let (transform, partition) = (self.terms.manifest.name.as_str(), self.partition);
        // -1 stands for a line outside of an event.
        let offset = match self.phase {
            Phase::Event(event) => self.events.record_offsets[event],
            Phase::Starting | Phase::Ready | Phase::Ended => -1,
        };
        match level {
            Level::Debug => tracing::debug!(target: "tollgate::guest", transform, partition, offset, "{line}"),
            Level::Info => tracing::info!(target: "tollgate::guest", transform, partition, offset, "{line}"),
            Level::Warn => tracing::warn!(target: "tollgate::guest", transform, partition, offset, "{line}"),
            Level::Error => tracing::error!(target: "tollgate::guest", transform, partition, offset, "{line}"),
        }
    }

    fn admit_bytes(&mut self, bytes: usize, overhead: usize) -> Result<(), Fault> {
        let (bytes, overhead) = (bytes as u64, overhead as u64);
        let limits = &self.terms.limits;
        if self.current.bytes + bytes > limits.output_bytes {
            let most = limits.output_bytes;
            return Err(output_limit(format!("more than {most} bytes of outputs for one event (limits.output_bytes)")));
        }
        // An event alone always fits, since a batch may emit as much as an event; max_outputs limits its overhead.
        let alone = self.work.emitted == self.current.counted;
        let past_arena = self.work.results.arena.len() as u64 + bytes > u64::from(u32::MAX);
        if past_arena || (!alone && self.work.emitted + bytes + overhead > limits.batch_output_bytes) {
            return Err(Fault::BatchOutput);
        }
        self.current.bytes += bytes;
        self.current.counted += bytes + overhead;
        self.work.emitted += bytes + overhead;
        Ok(())
    }

    fn begin_event(&mut self) {
        self.current.outputs = self.work.results.outputs.len();
        self.current.arena = self.work.results.arena.len();
        self.current.bytes = 0;
        self.current.counted = 0;
        self.current.key = None;
        self.current.headers.clear();
        self.current.explained = None;
        self.log_bytes_left = usize::try_from(self.terms.limits.log_bytes).unwrap_or(usize::MAX);
    }

    fn outputs(&self) -> Outcome {
        Outcome::Outputs(bound(self.current.outputs)..bound(self.work.results.outputs.len()))
    }

    fn discard(&mut self) {
        self.work.results.outputs.truncate(self.current.outputs);
        self.work.results.arena.truncate(self.current.arena);
        self.work.emitted -= self.current.counted;
        self.current.counted = 0;
    }

    fn rejection(&mut self, fuel_used: u64) -> Rejected {
        let explained = self.current.explained.take();
        let Explained { code, field, message } = explained.unwrap_or_else(|| Explained {
            code: "rejected".into(),
            field: String::new(),
            message: String::new(),
        });
        Rejected { transform: self.place, code, field, message, fuel_used }
    }
}

/// Limits the memory of an instance, summed over its memories. Growing beyond the limit ends the instance with a clear
/// error; a guest whose allocation merely failed would abort with an obscure one.
pub(crate) struct Memory {
    limit: u64,
    used: u64,
    elements: usize,
}

impl Memory {
    fn over(&self, what: &str) -> wasmtime::Error {
        let message = format!("{what} beyond {} bytes (limits.memory)", self.limit);
        Fault::Event { code: FailureCode::MemoryLimit, message }.into()
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_add((desired - current) as u64);
        if wanted > self.limit {
            return Err(self.over("memory would grow"));
        }
        self.used = wanted;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(self.over("memory would grow past its own maximum or"))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.elements = self.elements.saturating_add(desired - current);
        if self.elements > limits::TABLE_ELEMENTS {
            let message = format!("tables would grow beyond {} elements", limits::TABLE_ELEMENTS);
            return Err(Fault::Event { code: FailureCode::MemoryLimit, message }.into());
        }
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let message = "tables would grow past their own maximum".to_owned();
        Err(Fault::Event { code: FailureCode::MemoryLimit, message }.into())
    }

    fn instances(&self) -> usize {
        index(limits::CORE_INSTANCES)
    }

    fn tables(&self) -> usize {
        index(limits::TABLES)
    }

    fn memories(&self) -> usize {
        index(limits::MEMORIES)
    }
}

/// Cleans a guest's text for display: at most `most` bytes, on one line, without terminal controls or bidirectional
/// marks.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    let plain = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        // Line separators and bidirectional marks, as in `tollgate_contract::visible`, which this crate does not depend
        // on.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
        c if c.is_control() => '?',
        c => c,
    };
    text[..end].chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn text_is_cut_between_characters_and_cannot_drive_a_terminal() {
        assert_eq!(clean("a\u{1b}[31mred\nline\u{9b}", 100), "a?[31mred line?");
        assert_eq!(clean("a\u{202e}b\u{2028}c\u{85}", 100), "a?b?c?");
        assert_eq!(clean("grün", 3), "gr");
        assert_eq!(clean("grün", 4), "grü");
    }
}
