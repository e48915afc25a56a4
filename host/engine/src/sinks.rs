//! The destinations of events: rows in PostgreSQL, outputs and dead letters in Kafka.

pub mod kafka;
pub mod postgres;
