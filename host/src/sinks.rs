//! Where events leave: rows in PostgreSQL, outputs and dead letters in Kafka.

pub mod dead_letter;
pub mod kafka;
pub mod postgres;
pub mod reserved;
