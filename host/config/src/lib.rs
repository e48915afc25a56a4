//! A pipeline's configuration: typed, rude to typos, every error at once with its line and the nearest right key.

pub mod error;
pub mod keys;
pub mod limits;
mod model;
mod parse;
mod pools;
pub mod reader;
mod redact;
pub mod registry;
pub mod schema;
pub mod secret;

pub use model::*;
pub use pools::Pools;
pub use reader::{ConfigError, ConfigErrors};
