//! What the menu (`cargo xtask`) and the end-to-end tests share: processes that never outlive their owner, the cache folder,
//! and real servers (Apache Kafka, PostgreSQL) that start on free ports in seconds and leave nothing behind.

pub mod cache;
pub mod failure;
pub mod process;
pub mod servers;

pub use cache::Cache;
pub use failure::{Failure, Result};
