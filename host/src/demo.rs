//! The engine of `tollgate demo`: runs an unmodified pipeline on servers that exist only for the demo.
//!
//! The broker is librdkafka's mock cluster in this process, or a real one that the user names. PostgreSQL is a
//! throw-away server, or one that the user names. Everything that the demo creates on the user's servers has a unique
//! name and is deleted at the end.

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

/// The options from the command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `host:port` of a Kafka broker to use instead of the embedded one.
    pub real: Option<String>,
    /// The URL of a PostgreSQL server to use instead of a throw-away one.
    pub postgres: Option<String>,
    pub events: u32,
    /// The folder that contains `transforms/<name>/<name>.wasm`.
    pub assets: PathBuf,
}
