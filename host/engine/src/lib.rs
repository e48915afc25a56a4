//! The engine: Kafka in, contract, WASM transforms, PostgreSQL and Kafka out, effectively once.
//!
//! The path of an event: [`source`] → [`tollgate_decide`] (contract, transforms) → [`lane`] → [`sinks`] → [`progress`].

pub mod admin;
pub mod brakes;
pub mod classes;
pub mod hazards;
pub mod kafka;
pub mod lane;
pub mod lifecycle;
pub mod metrics;
pub mod progress;
pub mod runtime;
pub mod sinks;
pub mod source;
pub mod status;

pub use tollgate_protocol::position;
