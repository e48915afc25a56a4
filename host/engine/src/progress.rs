//! The progress rows. [`tollgate_protocol`] decides what they mean; [`store`] executes the statements.

pub mod halts;
pub mod plan;
pub mod processed;
pub mod schema;
pub mod store;

pub use tollgate_protocol::position::CommitNumber;
pub use tollgate_protocol::token::{Group, Mark, Token, Writer};
pub use tollgate_protocol::{
    Halt, Last, Numbers, Place, Position, Resume, Row, Standing, Takeover, adopt, concluded, same_place, standing,
    takeover, takeover_at_least_once,
};
