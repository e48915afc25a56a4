//! Runs transform components on batches of events under fuel, memory, stack, output and log limits.
//!
//! This is the only crate that uses wasmtime. A [`Sandbox`] is one engine with its pool and its epoch ticker;
//! a [`Transform`] is a checked, compiled and linked component; a [`Chain`] is what a lane runs.
//!
//! A guest is assumed to be hostile. It can use only what the WIT world offers; everything it does costs fuel,
//! including its calls into the host; and whatever it does, it costs at most one event (a [`Failed`] with a reason) and
//! never the process. The host's calls run on the caller's thread, which needs a stack of [`limits::THREAD_STACK`].

mod batch;
mod chain;
mod compile;
mod engine;
mod error;
mod guest;
mod imports;
mod inspect;
pub mod limits;
mod load;
mod manifest;
mod run;
mod terms;
mod transform;
mod watch;

pub use batch::*;
pub use chain::Chain;
pub use compile::compiler_process;
pub use engine::{Sandbox, Settings};
pub use error::{Class, LoadError, RunError, SandboxError};
pub use limits::{Limits, LimitsError, LimitsSpec};
pub use load::Overrides;
pub use manifest::{CAPABILITIES, Digest, Manifest, ManifestError, SECTION, TYPES_SECTION};
pub use transform::Transform;
