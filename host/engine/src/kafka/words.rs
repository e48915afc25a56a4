//! Writes librdkafka's log lines to our log.
//!
//! librdkafka repeats each lost connection and each failed connection attempt, for every client. A lane has two clients
//! and creates new ones after each failure. `brakes::outage` logs once what an outage means for the pipeline.

use rdkafka::config::RDKafkaLogLevel;

/// Facilities of lines about failures during an outage: FAIL and ERROR of a broker, REQTMOUT of a request, TXNERR of a
/// transaction, GETPID of a new producer. The caller also gets the error.
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
