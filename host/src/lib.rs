//! Tollgate: Kafka in, contract, WASM transforms, PostgreSQL and Kafka out, effectively once.

pub mod config;
pub mod limits;
