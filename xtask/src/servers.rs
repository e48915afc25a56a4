//! Real servers for tests, the bench and manual experiments. They start within seconds on free loopback ports, and stop
//! in `Drop` and on every other way out (see [`crate::process`]). Their data is deleted; their logs are kept in the
//! cache.

mod kafka;
mod maven;
mod pgbouncer;
mod ports;
mod postgres;
mod registry;
mod tools;
pub mod versions;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

pub use kafka::{Kafka, KafkaOptions, SecureListener, User, fetch_kafka};
pub use pgbouncer::{PgBouncer, PoolMode, pgbouncer_program};
pub use ports::free_port;
pub use postgres::{Postgres, PostgresOptions, fetch_postgres, postgres_programs};
pub use registry::{Registry, fetch_registry};
pub use tools::kafka_tools;

use crate::failure::{Failure, Result};
use crate::process::{Group, last_lines};

/// A server's certificate: files in PEM form, the key in PKCS#8 without a password.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The server's certificate, then those up to the authority.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Calls `ready` every 20 ms until it returns true. Fails with the last log lines if the server ends first or
/// `patience` is over.
fn wait_until_ready(
    server: &str,
    group: &Group,
    log: &Path,
    patience: Duration,
    ready: impl Fn() -> bool,
) -> Result<()> {
    let until = Instant::now() + patience;
    loop {
        if ready() {
            return Ok(());
        }
        let fault = match group.status() {
            Some(status) => format!("{server} ended at its start ({status})"),
            None if Instant::now() > until => format!("{server} is not ready after {} s", patience.as_secs()),
            None => {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        return Err(explain(&fault, log));
    }
}

/// Returns the failure for a server that was running and has ended by itself.
fn died(server: &str, status: ExitStatus, log: &Path) -> Failure {
    explain(&format!("{server} has ended ({status})"), log)
}

/// Returns a failure that shows the log's path and last lines.
fn explain(fault: &str, log: &Path) -> Failure {
    Failure::environment(format!("{fault}; the end of its log {}:\n{}", log.display(), last_lines(log, 15)))
}
