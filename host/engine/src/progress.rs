//! The progress rows. [`tollgate_protocol`] decides what they mean; [`store`] executes the statements.

pub mod halts;
pub mod plan;
pub mod processed;
pub mod schema;
pub mod store;

pub use tollgate_protocol::position::CommitNumber;
pub use tollgate_protocol::token::{Group, Mark, Token, Writer};
pub use tollgate_protocol::{
    CommitNumbers, Halt, Last, Place, Position, Resume, Row, RowStatus, Takeover, adopt, concluded, row_status,
    same_place, takeover, takeover_at_least_once,
};
