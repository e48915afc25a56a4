//! A pipeline's configuration: typed, rude to typos, every error at once with its line and the nearest right key.

mod model;
pub mod reader;

pub use model::*;
pub use reader::{ConfigError, ConfigErrors};
