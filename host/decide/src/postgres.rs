//! Turns an event into its row: the available conversions, the statements of a mapping, and the folded rows of a batch.
//! This module contacts no server.

pub mod binary;
pub mod cell;
mod column;
pub mod ddl;
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
