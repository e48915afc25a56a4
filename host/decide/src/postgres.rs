//! From an event to its row: which conversions exist, the statements that a mapping becomes, and the rows of a batch, folded.
//! No server is asked.

pub mod binary;
pub mod cell;
mod column;
pub mod decimal;
pub mod declared;
pub mod delete;
pub mod input;
pub mod kinds;
mod names;
pub mod quote;
mod row;
pub mod rows;
pub mod stage;
pub mod table;
pub mod times;
pub mod unfit;

pub use rows::{Folded, Mark, Rows, Staged};
pub use table::Table;
