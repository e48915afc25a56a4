//! The parts that the menu (`cargo xtask`) and the end-to-end tests share: child processes that never outlive their
//! owner, the cache folder, and real servers (Apache Kafka, PostgreSQL). The servers start on free ports within seconds
//! and leave nothing behind.

pub mod cache;
pub mod failure;
pub mod process;
pub mod servers;

pub use cache::Cache;
pub use failure::{Failure, Result};
