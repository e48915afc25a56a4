//! What librdkafka says by itself, in our log.
//!
//! It repeats each lost connection and each failed attempt to connect, for every client; a lane has two, and makes new ones
//! after each failure. What an outage means for the pipeline is logged once, by `brakes::outage`.

use rdkafka::config::RDKafkaLogLevel;

/// Facilities of lines about what fails in an outage: FAIL and ERROR of a broker, REQTMOUT of a request, TXNERR of a transaction,
/// GETPID of a new producer. Whoever made the call gets the error as well.
const OUTAGE: [&str; 5] = ["FAIL", "ERROR", "REQTMOUT", "TXNERR", "GETPID"];

pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    match level {
        _ if OUTAGE.contains(&facility) => tracing::debug!(target: "librdkafka", facility, message),
        Emerg | Alert | Critical | Error => tracing::error!(target: "librdkafka", facility, message),
        Warning => tracing::warn!(target: "librdkafka", facility, message),
        Notice | Info => tracing::info!(target: "librdkafka", facility, message),
        Debug => tracing::debug!(target: "librdkafka", facility, message),
    }
}
