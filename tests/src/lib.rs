//! What the end-to-end rings share: real servers, the product's binary as a child process, a load, and an oracle that
//! reads Kafka and PostgreSQL by itself and knows nothing of the engine.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's own trouble ends the test, and it tells what it saw"
)]

pub mod case;
pub mod chaos;
pub mod database;
pub mod engine;
pub mod events;
pub mod guests;
pub mod http;
pub mod kafka;
pub mod load;
pub mod oracle;
pub mod proxy;
pub mod scenario;
pub mod seed;
pub mod servers;
pub mod takeovers;

use std::thread;
use std::time::{Duration, Instant};

/// The patience of every wait: far above what a busy machine needs, far below what a person waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something; fails with what was waited for.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, condition)
}

/// The same with a deadline of its own.
pub fn wait_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "waited {} s in vain for {what}", patience.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}
