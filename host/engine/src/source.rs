//! The Kafka source: one thread polls, lanes get batches, takeovers run on another thread.
//!
//! # Why one plain thread
//!
//! A `BaseConsumer` on its own thread is five times as fast as the stream wrapper, has no wake-ups to lose, and the
//! rebalance callback runs on it, so that it needs no locks. The callback only records; [`poll`] completes what it
//! recorded while it keeps polling, so a slow PostgreSQL never costs the group membership.
//!
//! # Position
//!
//! `pause` discards what librdkafka had fetched, and `resume` may deliver records again. So the position is not left to
//! librdkafka: [`poll`] tracks the next offset of every partition, ignores records below it, and seeks there after each
//! resume.

pub mod advice;
pub mod authorised;
pub mod ends;
pub mod handoff;
pub mod poll;
pub mod probe;
pub mod rebalance;
pub mod start;
pub mod takeover;
