//! What `tollgate demo` shows: the engine as it is, on servers that exist for the demo alone.
//!
//! The broker is librdkafka's mock cluster, in this process, or a real one that the user names; PostgreSQL is a throw-away
//! server or one that the user names. What the demo makes on the user's servers bears a name of its own and is deleted.

mod broker;
pub mod events;
mod feed;
pub mod files;
pub mod postgres;
mod scratch;
mod stage;
mod watch;

pub use stage::Stage;
pub use watch::{Report, Running};

use std::path::PathBuf;

/// What is asked for on the command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// host:port of a Kafka to use instead of the embedded broker.
    pub real: Option<String>,
    /// URL of a PostgreSQL to use instead of a throw-away one.
    pub postgres: Option<String>,
    pub events: u32,
    /// A folder with `transforms/<name>/<name>.wasm`.
    pub assets: PathBuf,
}
