//! Shared by all code that uses Kafka: client settings, librdkafka's log lines, reading without a group, and headers.

pub mod client;
pub mod headers;
pub mod look;
pub mod words;
