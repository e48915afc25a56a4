//! All limits of the sandbox, each with the reason for its number.
//!
//! A transform declares what it needs (its manifest), an operator declares what it may have (the pipeline's ceiling),
//! and the smaller of the two applies. A value that neither sets has a default. A value beyond the hard limits below is
//! rejected when the component is loaded, not clipped silently.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes of a component. Python's interpreter alone has 18 MB; nothing sensible has more than three times that.
pub const COMPONENT_BYTES: usize = 64 << 20;
/// Stack of the compiling thread. Cranelift recurses over its input, and running out of stack ends the process. It is
/// address space, of which only the used part is touched.
pub const COMPILER_STACK: usize = 64 << 20;
/// Nesting depth of components, inner components and modules. wit-component nests two levels; composed components a
/// few.
pub const COMPONENT_DEPTH: usize = 16;
/// Nesting depth of component and instance types: wasmparser's own limit, which it checks only after it has recursed.
pub const TYPE_DEPTH: usize = 100;
/// CPU time for compiling a component: a Rust guest of 100 kB takes 0.3 s.
pub const COMPILE_TIME: Duration = Duration::from_secs(10);
/// Added to [`COMPILE_TIME`] for each started MB of a component after the first.
pub const COMPILE_TIME_A_MB: Duration = Duration::from_secs(5);
/// Address space of the compiler process: its program, its stack and the heap of an ordinary component.
pub const COMPILE_MEMORY: u64 = 1 << 30;
/// Added to [`COMPILE_MEMORY`] per byte of a component: the intermediate and the machine code of all its functions.
pub const COMPILE_MEMORY_PER_BYTE: u64 = 64;
/// Bytes kept of the stderr of a compiler process that died: a sentence for the operator.
pub const COMPILER_WORDS: u64 = 4 << 10;
/// Bytes of the manifest: a page of JSON, with room for a large configuration. It is stored once per revision.
pub const MANIFEST_BYTES: usize = 256 << 10;
/// Bytes of the message types that a component names: some thousands of fields. They are stored once per revision.
pub const TYPES_BYTES: usize = 1 << 20;
/// Named routes of a transform. Each is a topic that somebody must create and monitor.
pub const ROUTES: usize = 16;

/// Fuel of one event: a second of work. With more, a batch of a few hundred events exceeds any poll interval.
pub const MAX_FUEL: u64 = 1_000_000_000;
/// Fuel of everything outside an event: start functions, `init`, receiving the batch, returning. About 10 ms, which
/// is a hundred times what parsing a page of configuration takes; it is consumed once per batch.
pub const START_FUEL: u64 = 20_000_000;
/// Fuel of growing a memory or a table, even by zero, and of taking a function's reference: the call into the runtime
/// with its locks and our limiter takes 50 to 100 ns.
pub const SLOW_LIBCALL_FUEL: u8 = 100;
/// Fuel of the other instructions that call into the runtime, plus one unit per byte or element that they touch: 5 to
/// 20 ns.
pub const LIBCALL_FUEL: u8 = 5;
/// Fuel of a call into the host, plus one unit per byte: the call's cost in wasm instructions, so that calling the
/// host in a loop is no cheaper than computing in one.
pub const CALL_FUEL: u64 = 100;

/// Memory of an instance. It is wiped after every batch, so its size also costs time.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Enough for a Rust guest with a window of 4,000 events of a kilobyte.
pub const DEFAULT_MEMORY: u64 = 16 << 20;
/// Stack of a guest. Calls run on the calling thread, which needs [`THREAD_STACK`]; the frames of checks and
/// enrichments are small, and a parser that recurses deeper than this is under attack.
pub const WASM_STACK: usize = 256 << 10;
/// The stack of a thread that runs a [`crate::Chain`]: the guest's stack, the host's frames above and below, and a
/// margin. Exceeding it ends the process.
pub const THREAD_STACK: usize = 2 << 20;
/// Table elements of an instance, in total: function pointers. Python's interpreter has 6,000.
pub const TABLE_ELEMENTS: usize = 20_000;
/// Tables, core instances and memories of an instance. wit-component creates three core instances for a simple guest; a
/// dynamically linked one (Python) has a dozen. Usually there is one memory, and each reserves 4 GiB of address space.
pub const TABLES: u32 = 16;
pub const CORE_INSTANCES: u32 = 24;
pub const MEMORIES: u32 = 4;
/// Bytes of the host's data about one instance: function pointers of imports and globals.
pub const INSTANCE_BYTES: usize = 1 << 20;

/// Outputs of an event. Turning one event into a thousand rows is a query, not a check.
pub const MAX_OUTPUTS: u32 = 1_000;
pub const DEFAULT_OUTPUTS: u32 = 16;
/// Bytes of an event's outputs including keys and headers. Kafka's default limit for a record is 1 MiB.
pub const MAX_OUTPUT_BYTES: u64 = 64 << 20;
pub const DEFAULT_OUTPUT_BYTES: u64 = 1 << 20;
/// Bytes that a transform emits for one batch. It limits the lane's memory, once for each transform of the chain.
pub const MAX_BATCH_OUTPUT_BYTES: u64 = 256 << 20;
pub const DEFAULT_BATCH_OUTPUT_BYTES: u64 = 64 << 20;
/// The prefixes of header names that only the host sets: readers of dead letters and outputs rely on them.
pub const HOST_HEADERS: [&str; 2] = ["tollgate.", "__connect.errors."];

/// Headers that a guest may set on one output.
pub const OUTPUT_HEADERS: usize = 64;
/// Bytes of an event's log lines.
pub const MAX_LOG_BYTES: u64 = 64 << 10;
pub const DEFAULT_LOG_BYTES: u64 = 4 << 10;
/// Log lines of an instance, and so of a batch: a guest that logs a line per event would fill the operator's disk.
pub const LOG_LINES: u32 = 64;
/// Bytes of a message of a guest (a panic, a reject's message): it becomes a header of a dead letter.
pub const MESSAGE_BYTES: usize = 4 << 10;
/// Bytes of a reject's code, as defined in WIT, and of its field path.
pub const CODE_BYTES: usize = 64;
pub const FIELD_BYTES: usize = 1 << 10;

/// Length of an epoch: the resolution of deadlines, which default to a second. One thread wakes up a hundred times a
/// second.
pub const TICK: Duration = Duration::from_millis(10);
/// The ratio of the deadline to the time that the fuel takes: fuel must run out first on a machine twenty times as
/// busy.
pub const DEADLINE_FACTOR: u32 = 20;
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(1);
/// Well below Kafka's poll interval (300 s) for [`DEADLINE_PATIENCE`] of them plus overhead.
pub const MAX_DEADLINE: Duration = Duration::from_secs(30);
/// The number of deadlines that an event that runs alone may wait for its CPU time: a thread that gets less than a
/// quarter of a processor is interrupted, so that its lane can handle a rebalance, and the event is run again.
pub const DEADLINE_PATIENCE: u32 = 4;

/// Maximum number of events per instance: a fresh one for each 4,000 costs a few ns per event, and the guest's arena
/// stays in the processor's cache.
pub const WINDOW: usize = 4_000;
/// The lists of a window may take this fraction of a guest's memory (one in …): the guest needs memory of its own, and
/// an allocator that grows by doubling may briefly hold a list twice.
pub const WINDOW_SHARE_OF_MEMORY: u64 = 4;
/// Memory of an event's lists besides its bytes: two bounds, a flag, offset and timestamp.
pub const WINDOW_BYTES_AN_EVENT: usize = 2 * 4 + 1 + 8 + 8;

/// The number of events that are tried together after a failure. It doubles with each success: a batch full of failures
/// is not copied whole into an instance for each of them.
pub const WINDOW_AFTER_FAILURE: usize = 32;

/// Returns the number of epochs that last at least this long.
pub(crate) fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX / 2) + 1
}

/// Returns the CPU time for compiling a component of this many bytes.
pub fn compile_time(bytes: usize) -> Duration {
    let above = bytes.saturating_sub(1_000_000).div_ceil(1_000_000);
    COMPILE_TIME + COMPILE_TIME_A_MB * u32::try_from(above).unwrap_or(u32::MAX)
}

/// Returns the address space of a process that compiles a component of this many bytes.
pub(crate) fn compile_memory(bytes: usize) -> u64 {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    COMPILE_MEMORY.saturating_add(bytes.saturating_mul(COMPILE_MEMORY_PER_BYTE))
}

/// Limits as written in a manifest, or in a pipeline's ceiling. Sizes are bytes or text such as `"16MiB"`; the deadline
/// is text such as `"500ms"` or `"1s"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Fuel units per event. Required in a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_outputs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub output_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub batch_output_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub log_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_duration", deserialize_with = "duration")]
    pub deadline: Option<Duration>,
}

/// The effective limits of a transform: `min(manifest, ceiling)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Fuel units per event, including host calls.
    pub fuel: u64,
    /// Bytes, summed over all memories of an instance.
    pub memory: u64,
    /// Outputs per event.
    pub max_outputs: u32,
    /// Bytes of an event's outputs, including keys and headers.
    pub output_bytes: u64,
    /// Bytes that one instance emits for its events.
    pub batch_output_bytes: u64,
    /// Bytes of log lines per event.
    pub log_bytes: u64,
    /// The time for which an event may run before it is interrupted and retried: the configured time, or
    /// [`DEADLINE_FACTOR`] times what its fuel takes here, whichever is longer. Not part of a revision, since it
    /// settles no event.
    #[serde(skip)]
    pub deadline: Duration,
}

/// The reason why a manifest and a ceiling do not result in limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    #[error("the manifest does not set limits.fuel, the fuel that an event may use")]
    NoFuel,
    #[error("{limit} is {value}; it must be between {least} and {most}")]
    OutOfBounds { limit: &'static str, value: u64, least: u64, most: u64 },
}

impl Limits {
    /// Returns the smaller of the manifest's value and the ceiling for each limit.
    ///
    /// # Errors
    /// Fails if the manifest sets no fuel, or if either exceeds the hard limits of this module.
    pub fn effective(manifest: &LimitsSpec, ceiling: &LimitsSpec) -> Result<Limits, LimitsError> {
        let fuel = manifest.fuel.ok_or(LimitsError::NoFuel)?;
        let pick = |limit, asked: u64, allowed: Option<u64>, most| -> Result<u64, LimitsError> {
            let allowed = allowed.unwrap_or(most);
            for value in [asked, allowed] {
                if value == 0 || value > most {
                    return Err(LimitsError::OutOfBounds { limit, value, least: 1, most });
                }
            }
            Ok(asked.min(allowed))
        };
        let outputs = pick(
            "limits.max_outputs",
            manifest.max_outputs.unwrap_or(DEFAULT_OUTPUTS).into(),
            ceiling.max_outputs.map(u64::from),
            MAX_OUTPUTS.into(),
        )?;
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let deadline = pick(
            "limits.deadline (ms)",
            milliseconds(manifest.deadline.unwrap_or(DEFAULT_DEADLINE)),
            ceiling.deadline.map(milliseconds),
            milliseconds(MAX_DEADLINE),
        )?;
        Ok(Limits {
            fuel: pick("limits.fuel", fuel, ceiling.fuel, MAX_FUEL)?,
            memory: pick("limits.memory", manifest.memory.unwrap_or(DEFAULT_MEMORY), ceiling.memory, MAX_MEMORY)?,
            max_outputs: u32::try_from(outputs).unwrap_or(MAX_OUTPUTS),
            output_bytes: pick(
                "limits.output_bytes",
                manifest.output_bytes.unwrap_or(DEFAULT_OUTPUT_BYTES),
                ceiling.output_bytes,
                MAX_OUTPUT_BYTES,
            )?,
            batch_output_bytes: pick(
                "limits.batch_output_bytes",
                manifest.batch_output_bytes.unwrap_or(DEFAULT_BATCH_OUTPUT_BYTES),
                ceiling.batch_output_bytes,
                MAX_BATCH_OUTPUT_BYTES,
            )?,
            log_bytes: pick(
                "limits.log_bytes",
                manifest.log_bytes.unwrap_or(DEFAULT_LOG_BYTES),
                ceiling.log_bytes,
                MAX_LOG_BYTES,
            )?,
            deadline: Duration::from_millis(deadline),
        }
        .consistent())
    }

    /// Ensures that a single event fits into a batch.
    fn consistent(mut self) -> Limits {
        self.output_bytes = self.output_bytes.min(self.batch_output_bytes);
        self
    }
}

/// Parses bytes, or a number with `B`, `kB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Size;
    impl de::Visitor<'_> for Size {
        type Value = Option<u64>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a size such as 65536 or \"16MiB\"")
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Option<u64>, E> {
            Ok(Some(value))
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<u64>, E> {
            const UNITS: [(&str, u64); 7] = [
                ("KiB", 1 << 10),
                ("MiB", 1 << 20),
                ("GiB", 1 << 30),
                ("kB", 1_000),
                ("MB", 1_000_000),
                ("GB", 1_000_000_000),
                ("B", 1),
            ];
            UNITS
                .iter()
                .find_map(|(unit, factor)| number(text, unit)?.checked_mul(*factor))
                .map(Some)
                .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Size)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = number(&text, "ms").map(Duration::from_millis).or_else(|| number(&text, "s").map(Duration::from_secs));
    parsed
        .map(Some)
        .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &"a duration such as \"500ms\" or \"1s\""))
}

fn write_duration<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| format!("{}ms", duration.as_millis())).serialize(serializer)
}

fn number(text: &str, unit: &str) -> Option<u64> {
    text.strip_suffix(unit)?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<LimitsSpec, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_smaller_of_manifest_and_ceiling_holds() {
        let manifest = spec(r#"{"fuel": 5000, "memory": "16MiB", "deadline": "2s", "max_outputs": 3}"#).unwrap();
        let ceiling = spec(r#"{"fuel": 9000, "memory": 1048576, "deadline": "500ms"}"#).unwrap();
        let limits = Limits::effective(&manifest, &ceiling).unwrap();
        assert_eq!((limits.fuel, limits.memory, limits.max_outputs), (5000, 1 << 20, 3));
        assert_eq!(limits.deadline, Duration::from_millis(500));
        assert_eq!(limits.output_bytes, DEFAULT_OUTPUT_BYTES);
    }

    #[test]
    fn fuel_is_required_and_bounds_are_hard() {
        let none = LimitsSpec::default();
        assert_eq!(Limits::effective(&none, &none), Err(LimitsError::NoFuel));
        for bad in [r#"{"fuel": 0}"#, r#"{"fuel": 1000000001}"#, r#"{"fuel": 1, "memory": "2GiB"}"#] {
            let refused = Limits::effective(&spec(bad).unwrap(), &none);
            assert!(matches!(refused, Err(LimitsError::OutOfBounds { .. })), "{bad}: {refused:?}");
        }
    }

    #[test]
    fn an_event_fits_into_its_batch() {
        let manifest = spec(r#"{"fuel": 1, "output_bytes": "2MiB", "batch_output_bytes": "1MiB"}"#).unwrap();
        assert_eq!(Limits::effective(&manifest, &LimitsSpec::default()).unwrap().output_bytes, 1 << 20);
    }

    #[test]
    fn what_is_written_is_read_again_and_typos_are_refused() {
        let written = spec(r#"{"fuel": 7, "memory": "64KiB", "deadline": "1s"}"#).unwrap();
        assert_eq!(spec(&serde_json::to_string(&written).unwrap()), Ok(written));
        for bad in [r#"{"feul": 1}"#, r#"{"memory": "16 potatoes"}"#, r#"{"deadline": 5}"#, r#"{"fuel": -1}"#] {
            assert!(spec(bad).is_err(), "{bad}");
        }
    }
}
