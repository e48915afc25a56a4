//! The benchmark of the payments pipeline: a seeded load with its oracle, the floor program, and the rounds that
//! measure Node, Tollgate and the floor in turn.
//!
//! `cargo xtask bench` starts the servers and runs the binaries of this package. docs/performance.md describes the
//! measurements.

pub mod args;
pub mod broker;
pub mod contract;
pub mod copy;
pub mod delivery;
pub mod engine;
pub mod load;
pub mod machine;
pub mod oracle;
pub mod output;
pub mod payment;
pub mod recipe;
pub mod report;
pub mod rounds;
pub mod run;
pub mod table;
pub mod wire;

/// The topic that is drained.
pub const TOPIC: &str = "payment-events";
/// The topic of the load at a rate.
pub const RATE_TOPIC: &str = "payment-events-rate";
/// The topic of the invalid events.
pub const DEAD_LETTERS: &str = "dlq.payment-events.invalid";
/// The number of partitions of each source topic.
pub const PARTITIONS: i32 = 4;
