//! Kafka in: one thread polls, lanes get batches, takeovers run beside.
//!
//! # Why one plain thread
//!
//! A `BaseConsumer` on a thread of its own is five times as fast as the stream wrapper, has no wake-ups to lose, and
//! the rebalance callback runs on it, so that it needs no locks. The callback only records; [`poll`] completes what it
//! recorded, still polling, so a slow PostgreSQL never costs the group membership.
//!
//! # Position
//!
//! `pause` throws away what librdkafka had fetched, and `resume` may deliver again. So the position is never
//! librdkafka's business: [`poll`] keeps the next offset of every partition, ignores what is below it, and seeks
//! there after each resume.

pub mod advice;
pub mod authorised;
pub mod ends;
pub mod handoff;
pub mod poll;
pub mod probe;
pub mod rebalance;
pub mod start;
pub mod takeover;
