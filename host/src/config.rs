//! A pipeline's configuration: typed, rude to typos, every error at once with its line and the nearest right key.

pub mod keys;
mod model;
mod parse;
pub mod reader;
mod redact;
pub mod schema;

pub use model::*;
pub use reader::{ConfigError, ConfigErrors};
