//! The configuration of a pipeline, typed and strict. All errors are reported at once, with their line and the nearest
//! valid key.

mod backoff;
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

pub use backoff::Backoff;
pub use model::*;
pub use pools::Pools;
pub use reader::{ConfigError, ConfigErrors};
