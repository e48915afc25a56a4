//! The parts that the end-to-end rings share: real servers, the product's binary as a child process, a load, and an
//! oracle. The oracle reads Kafka and PostgreSQL itself and does not rely on the engine.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's own failure ends the test, and prints what it saw"
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

/// The deadline of every wait: far above the needs of a busy machine, far below a person's patience.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` returns a value. Panics with `what` after the deadline.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, condition)
}

/// Does the same with another deadline.
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
