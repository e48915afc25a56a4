//! The waits of the producer, each with the reason for its number.

use std::time::Duration;

/// The default of librdkafka and of Java.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Java's default. An election or a broker's restart takes seconds.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// Long enough to fill a request at a few thousand events a second, and short compared with an acknowledgement.
pub(crate) const LINGER: Duration = Duration::from_millis(5);

/// The duration of one round of taking reports, and so the maximum delay of a close.
pub(crate) const REPORTS_POLL: Duration = Duration::from_millis(20);

/// The timeout of one metadata request; librdkafka keeps connecting in between.
pub(crate) const METADATA_CALL: Duration = Duration::from_secs(2);

/// librdkafka reports a rejection separately from the failed call: when the call returns, or shortly after.
pub(crate) const REJECTION_EVENT: Duration = Duration::from_millis(300);

/// The interval at which a record that librdkafka could not queue is retried.
pub(crate) const QUEUE_WAIT: Duration = Duration::from_millis(1);

/// The timeout of one blocking transactional call; it is repeated while librdkafka allows it.
pub(crate) const TRANSACTION_CALL: Duration = Duration::from_secs(5);

/// The least timeout of such a call: librdkafka treats zero as "no timeout".
pub(crate) const TRANSACTION_CALL_LEAST: Duration = Duration::from_millis(1);

/// How long an abort may wait for the broker.
pub(crate) const ABORT: Duration = Duration::from_secs(10);

/// The interval at which a commit checks whether all reports have been processed.
pub(crate) const FLIGHT_LOOK: Duration = Duration::from_micros(200);

/// The interval at which a wait for room, for input or for the rate checks for a stop.
pub(crate) const STOP_LOOK: Duration = Duration::from_millis(100);

/// How long a stop waits for events in flight.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A transaction that waits for a slow input is committed after this time, before the broker aborts it.
pub(crate) const IDLE_TRANSACTION: Duration = Duration::from_secs(10);

/// A pause in the input of this length is not made up for by a burst above the rate.
pub(crate) const RATE_GAP: Duration = Duration::from_secs(1);
