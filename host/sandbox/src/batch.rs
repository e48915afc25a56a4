//! The input and output of a transform: flat arenas, no heap object per event.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The origin of a batch. It stays the same when the batch is run again, since verdicts are a function of the event,
/// the revision and this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMeta {
    pub topic: String,
    pub partition: i32,
    /// The registry's id of the schema, or 0 without a registry.
    pub schema_id: u32,
    /// Unix milliseconds.
    pub batch_time: i64,
    pub seed: u64,
    /// Events that were interrupted in earlier runs of the batch; see [`Overdue`].
    pub overdue: Vec<Overdue>,
}

/// An event whose run was interrupted although its thread had used all the CPU time that the deadline allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// Index of the transform in its chain.
    pub transform: usize,
    pub offset: i64,
    /// Whether it was interrupted often enough. It is then not run again, and fails with
    /// [`FailureCode::DeadlineExceeded`].
    pub fails: bool,
}

/// A sequence of events of one partition, in offset order.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Keys and values, one after the other.
    pub arena: Vec<u8>,
    /// 2n+1 positions in `arena`: the key of event i is `offsets[2i]..offsets[2i+1]`, its value
    /// `offsets[2i+1]..offsets[2i+2]`.
    pub offsets: Vec<u32>,
    /// One byte per event: [`NULL_KEY`], [`NULL_VALUE`].
    pub flags: Vec<u8>,
    pub record_offsets: Vec<i64>,
    /// Unix milliseconds, -1 for none.
    pub timestamps: Vec<i64>,
    pub headers: Headers,
}

pub const NULL_KEY: u8 = 1;
pub const NULL_VALUE: u8 = 2;

/// The headers of all records of a batch in one arena, in record order, duplicates kept.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    arena: Vec<u8>,
    /// One per header: the ranges of name and value; a `None` value is a null header.
    entries: Vec<HeaderEntry>,
    /// n+1 positions in `entries`.
    bounds: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct HeaderEntry {
    name: (u32, u32),
    value: Option<(u32, u32)>,
}

impl Events {
    /// Appends an event; `None` is a null key or a tombstone. Its headers are pushed to [`Events::headers`] separately,
    /// with one [`Headers::end_record`] per event.
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, offset: i64, timestamp: i64) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let mut flags = 0;
        for (part, null) in [(key, NULL_KEY), (value, NULL_VALUE)] {
            match part {
                Some(bytes) => self.arena.extend_from_slice(bytes),
                None => flags |= null,
            }
            self.offsets.push(bound(self.arena.len()));
        }
        self.flags.push(flags);
        self.record_offsets.push(offset);
        self.timestamps.push(timestamp);
    }

    pub fn len(&self) -> usize {
        self.flags.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    pub fn key(&self, event: usize) -> Option<&[u8]> {
        self.part(event, 0, NULL_KEY)
    }

    pub fn value(&self, event: usize) -> Option<&[u8]> {
        self.part(event, 1, NULL_VALUE)
    }

    /// Clears the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.offsets.clear();
        self.flags.clear();
        self.record_offsets.clear();
        self.timestamps.clear();
        self.headers.clear();
    }

    fn part(&self, event: usize, part: usize, null: u8) -> Option<&[u8]> {
        let range = index(self.offsets[2 * event + part])..index(self.offsets[2 * event + part + 1]);
        (self.flags[event] & null == 0).then(|| &self.arena[range])
    }
}

impl Headers {
    /// Appends a header to the record that the next [`Headers::end_record`] ends. A name need not be UTF-8: a guest
    /// cannot request such a header, and the next transform of the chain gets it unchanged.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: Option<&[u8]>) {
        let name = self.append(name.as_ref());
        let value = value.map(|value| self.append(value));
        self.entries.push(HeaderEntry { name, value });
    }

    /// Ends the current record, with or without headers.
    pub fn end_record(&mut self) {
        if self.bounds.is_empty() {
            self.bounds.push(0);
        }
        self.bounds.push(bound(self.entries.len()));
    }

    /// Returns the last header of this name that has a value.
    pub fn get(&self, record: usize, name: &str) -> Option<&[u8]> {
        let wanted = |entry: &&HeaderEntry| self.slice(entry.name) == name.as_bytes();
        self.record(record).iter().rev().filter(wanted).find_map(|entry| entry.value).map(|value| self.slice(value))
    }

    /// Iterates over all headers of a record, in the record's order; `None` is a null value.
    pub fn iter(&self, record: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.record(record).iter().map(|entry| (self.slice(entry.name), entry.value.map(|value| self.slice(value))))
    }

    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.bounds.clear();
    }

    fn record(&self, record: usize) -> &[HeaderEntry] {
        match (self.bounds.get(record), self.bounds.get(record + 1)) {
            (Some(start), Some(end)) => &self.entries[index(*start)..index(*end)],
            // A batch whose records have no headers need not store this per record.
            _ => &[],
        }
    }

    fn append(&mut self, bytes: &[u8]) -> (u32, u32) {
        let start = bound(self.arena.len());
        self.arena.extend_from_slice(bytes);
        (start, bound(self.arena.len()))
    }

    fn slice(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.arena[index(start)..index(end)]
    }
}

/// Converts a length to a position in an arena or table of a batch.
///
/// # Panics
/// Beyond 4 GiB. The filler of a batch limits it far below: the source by its batch size, a guest by its output limits.
pub(crate) fn bound(length: usize) -> u32 {
    u32::try_from(length).expect("a batch is bounded far below 4 GiB")
}

/// The inverse of [`bound`].
pub(crate) fn index(bound: u32) -> usize {
    bound as usize
}

/// The chain's result for one source event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// One or more outputs: a range of [`Results::outputs`]. A `pass` without edits is one output too.
    Outputs(Range<u32>),
    Dropped {
        transform: usize,
    },
    Rejected(Box<Rejected>),
    /// The sandbox ended the event: a trap, no fuel, or a limit. This is decided by a separate run on a new instance.
    Failed(Box<Failed>),
}

/// A guest's `reject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Index of the transform in the chain.
    pub transform: usize,
    pub code: String,
    pub field: String,
    pub message: String,
    pub fuel_used: u64,
}

/// The reason why an event failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub transform: usize,
    pub code: FailureCode,
    pub message: String,
    pub fuel_used: u64,
}

/// Reason codes of the sandbox; each has a page in docs/reasons/.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureCode {
    /// `wasm-trap`: unreachable, out of bounds, division by zero and the like.
    Trap,
    /// `wasm-panic`: the guest reported the reason with `fail`.
    Panic,
    /// `fuel-exhausted`
    FuelExhausted,
    /// `deadline-exceeded`: more CPU time than `limits.deadline`, although fuel was left.
    DeadlineExceeded,
    /// `memory-limit`
    MemoryLimit,
    /// `stack-overflow`
    StackOverflow,
    /// `output-limit`: too many outputs or too many bytes for one event.
    OutputLimit,
    /// `protocol-violation`: the guest violated the verdict table.
    Protocol,
}

impl FailureCode {
    /// Returns the stable name: in dead letters, metrics and the name of its page.
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureCode::Trap => "wasm-trap",
            FailureCode::Panic => "wasm-panic",
            FailureCode::FuelExhausted => "fuel-exhausted",
            FailureCode::DeadlineExceeded => "deadline-exceeded",
            FailureCode::MemoryLimit => "memory-limit",
            FailureCode::StackOverflow => "stack-overflow",
            FailureCode::OutputLimit => "output-limit",
            FailureCode::Protocol => "protocol-violation",
        }
    }

    /// All codes, for listing and documentation.
    pub const ALL: [FailureCode; 8] = [
        FailureCode::Trap,
        FailureCode::Panic,
        FailureCode::FuelExhausted,
        FailureCode::DeadlineExceeded,
        FailureCode::MemoryLimit,
        FailureCode::StackOverflow,
        FailureCode::OutputLimit,
        FailureCode::Protocol,
    ];
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One output of a source event, in chain order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 0 is the pipeline's output; n the n-th of the transform's routes.
    pub route: u32,
    /// The transform that last settled this output, as an index in the chain. Each transform numbers its own routes.
    pub transform: usize,
    pub payload: Bytes,
    pub key: Bytes,
    /// Headers set by guests; the last one per name wins. The event's own headers are not repeated here.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// The location of an output's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// The event's own bytes, unchanged.
    Input,
    /// A range of [`Results::arena`].
    Arena(Range<u32>),
    /// A tombstone, or no key.
    Null,
}

/// A chain's results for a sequence of events. It is reused from batch to batch, so that nothing is allocated once it
/// is warm.
#[derive(Debug, Default)]
pub struct Results {
    /// One per event, in event order.
    pub outcomes: Vec<Outcome>,
    pub outputs: Vec<Output>,
    pub arena: Vec<u8>,
    /// Fuel used by each event, summed over the chain, without the fuel of runs that had to be repeated.
    pub fuel: Vec<u64>,
    /// The working memory of a chain between its transforms.
    pub(crate) scratch: Scratch,
}

/// Memory that a chain keeps from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub stage: Option<Box<Results>>,
    pub events: Arc<Events>,
    pub leaves: Vec<Leaf>,
    pub next_leaves: Vec<Leaf>,
}

/// An output inside the chain, and its source event.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub source: usize,
    pub output: Output,
    /// Whether the next transform receives it; an output on a route has left the chain.
    pub live: bool,
}

impl Results {
    pub fn clear(&mut self) {
        self.outcomes.clear();
        self.outputs.clear();
        self.arena.clear();
        self.fuel.clear();
    }

    /// Returns the outputs of a source event; empty if it was dropped, rejected or failed.
    pub fn outputs_of(&self, event: usize) -> &[Output] {
        match &self.outcomes[event] {
            Outcome::Outputs(range) => &self.outputs[index(range.start)..index(range.end)],
            Outcome::Dropped { .. } | Outcome::Rejected(_) | Outcome::Failed(_) => &[],
        }
    }

    /// Returns the key of an output of `event`; `None` is a null key.
    pub fn key<'a>(&'a self, output: &'a Output, events: &'a Events, event: usize) -> Option<&'a [u8]> {
        self.bytes(&output.key, || events.key(event))
    }

    /// Returns the payload of an output of `event`; `None` is a tombstone.
    pub fn payload<'a>(&'a self, output: &'a Output, events: &'a Events, event: usize) -> Option<&'a [u8]> {
        self.bytes(&output.payload, || events.value(event))
    }

    fn bytes<'a>(&'a self, bytes: &Bytes, input: impl FnOnce() -> Option<&'a [u8]>) -> Option<&'a [u8]> {
        match bytes {
            Bytes::Input => input(),
            Bytes::Arena(range) => Some(&self.arena[index(range.start)..index(range.end)]),
            Bytes::Null => None,
        }
    }
}
