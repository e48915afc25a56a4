//! Code shared by all uses of Kafka: client settings, librdkafka's log lines, reading without a group, and headers.

pub mod client;
pub mod headers;
pub mod look;
pub mod words;
