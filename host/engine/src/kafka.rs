//! What everything that talks to Kafka shares: the client's settings, its log lines, reading without a group, and headers.

pub mod client;
pub mod headers;
pub mod look;
pub mod words;
