//! Tollgate: Kafka in, contract, WASM transforms, PostgreSQL and Kafka out, effectively once.
//!
//! The way of an event: [`source`] → [`decide`] (contract, transforms) → [`sinks`] → [`progress`].

pub mod admin;
pub mod brakes;
pub mod classes;
pub mod cli;
pub mod decide;
pub mod demo;
pub mod engine;
pub mod gate;
pub mod guests;
pub mod hazards;
pub mod kafka;
pub mod lane;
pub mod lifecycle;
pub mod metrics;
pub mod progress;
pub mod sinks;
pub mod source;

pub use tollgate_protocol::position;
