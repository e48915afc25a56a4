//! The errors of an engine, a component or a run, and what is at fault.

use std::any::Any;
use std::time::Duration;

use crate::limits::LimitsError;
use crate::manifest::{ManifestError, SECTION};

/// The kind of an error's cause, which determines the reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The event is at fault: make it a dead letter and continue.
    Poison,
    /// The environment is at fault: back off and do not advance.
    Transient,
    /// Tollgate or the operator is at fault: stop with a message.
    Fatal,
}

/// The engine could not be created.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot set up the WASM engine: {0}")]
    Engine(String),
    #[error("cannot start the thread that counts epochs: {0}")]
    Ticker(std::io::Error),
    #[error("the sandbox's memory ceiling is {bytes} bytes; it must be between 65536 and {most}")]
    Memory { bytes: u64, most: u64 },
}

impl SandboxError {
    pub fn class(&self) -> Class {
        match self {
            SandboxError::Engine(_) | SandboxError::Ticker(_) | SandboxError::Memory { .. } => Class::Fatal,
        }
    }
}

/// A component was rejected.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("not WASM: the file does not begin with WASM's magic number")]
    NotWasm,
    #[error("a core module, not a component: run `tollgate build`, a plain cargo build builds only the module")]
    CoreModule,
    #[error("a precompiled artefact: only components are accepted, and are compiled here")]
    Precompiled,
    #[error("the component has {bytes} bytes; the limit is {most}")]
    TooLarge { bytes: usize, most: usize },
    #[error("malformed WASM: {0}")]
    Malformed(String),
    #[error("built without `tollgate build`: the component has no section `{SECTION}`")]
    NoManifest,
    #[error("the manifest in section `{SECTION}` is not valid: {0}")]
    Manifest(ManifestError),
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error("the pipeline's config must be an object, but is {0}")]
    Config(String),
    #[error("imports `{import}`, which is not allowed in a transform; allowed are {allowed}")]
    Import { import: String, allowed: String },
    #[error("imports `{import}` without the capability: add `{capability}` to `capabilities` in transform.yaml")]
    Capability { import: String, capability: String },
    #[error("exports the wrong world: {0}")]
    World(String),
    #[error("its {what} are nested deeper than {most} levels, which no toolchain generates")]
    Nested { what: &'static str, most: usize },
    #[error("cannot compile the component: {0}")]
    Compile(String),
    #[error(
        "compiling the component takes more than {} s of CPU time: make it smaller and simpler, or raise \
         `ceiling.compile_time` of this transform",
        limit.as_secs()
    )]
    CompileTime { limit: Duration },
    #[error(
        "the process that compiled the component died ({ended}); it may use {} s of CPU time, {} MiB of memory and {} MiB of \
         stack: make the component smaller and simpler",
        cpu.as_secs(),
        memory >> 20,
        stack >> 20
    )]
    CompilerDied { ended: String, cpu: Duration, memory: u64, stack: usize },
    #[error("cannot start a process that compiles the component: {0}")]
    CompilerStart(#[source] std::io::Error),
    #[error(
        "its inner components pass strings to each other, which takes time that fuel does not limit: pass list<u8>, or \
         combine them into one component"
    )]
    Transcodes,
    #[error("a new instance does not start: {0}")]
    Start(String),
    #[error("all pooled instances are in use: try again")]
    PoolExhausted,
}

impl LoadError {
    pub fn class(&self) -> Class {
        match self {
            LoadError::NotWasm
            | LoadError::CoreModule
            | LoadError::Precompiled
            | LoadError::TooLarge { .. }
            | LoadError::Malformed(_)
            | LoadError::NoManifest
            | LoadError::Manifest(_)
            | LoadError::Limits(_)
            | LoadError::Config(_)
            | LoadError::Import { .. }
            | LoadError::Capability { .. }
            | LoadError::World(_)
            | LoadError::Nested { .. }
            | LoadError::Compile(_)
            | LoadError::CompileTime { .. }
            | LoadError::CompilerDied { .. }
            | LoadError::Transcodes
            | LoadError::Start(_) => Class::Fatal,
            LoadError::PoolExhausted | LoadError::CompilerStart(_) => Class::Transient,
        }
    }
}

/// A batch could not be run. It settles no event: the results must be discarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// An event that ran alone was interrupted at its deadline. If `cpu_spent`, its thread had used all of that time,
    /// so the event may be at fault. Otherwise the machine was busy, and the event is simply run again.
    #[error(
        "transform {transform} was interrupted at offset {offset} of partition {partition}, {}",
        if *.cpu_spent {
            "after it had used its whole deadline in CPU time"
        } else {
            "before it had used its deadline in CPU time: is the machine overloaded?"
        }
    )]
    Interrupted { transform: String, place: usize, partition: i32, offset: i64, cpu_spent: bool },
    #[error("no free instance for transform {transform}: more lanes run than the sandbox was created for")]
    PoolExhausted { transform: String },
    /// The system has no memory for the instance, although the same component started when it was loaded.
    #[error("cannot create an instance of transform {transform}: {message}")]
    NoInstance { transform: String, message: String },
    /// The batch emits too much. Run it in halves, because smaller batches succeed.
    #[error(
        "transform {transform} emits more than {limit} bytes for one batch: use smaller batches, or raise \
         limits.batch_output_bytes"
    )]
    BatchOutput { transform: String, limit: u64 },
    /// The transform or the host is broken, and no event is at fault.
    #[error("transform {transform} cannot run: {message}")]
    Revision { transform: String, message: String },
}

impl RunError {
    pub fn class(&self) -> Class {
        match self {
            RunError::Interrupted { .. }
            | RunError::PoolExhausted { .. }
            | RunError::NoInstance { .. }
            | RunError::BatchOutput { .. } => Class::Transient,
            RunError::Revision { .. } => Class::Fatal,
        }
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
