//! The progress rows. What they mean is decided in [`tollgate_protocol`]; [`store`] does what it says.

pub mod halts;
pub mod plan;
pub mod processed;
pub mod schema;
pub mod store;

pub use tollgate_protocol::{Halt, Resume, Row, Sides, Standing, Takeover, standing, takeover, takeover_at_least_once};
