//! The signals that stop a process.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tollgate_config::error::Failure;

pub(super) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::environment("environment.signals", error))
}

pub(super) fn watch_second_signal(mut terminate: Signal, mut interrupt: Signal) {
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
}

/// Ends the process when the deadline of a drain passes: a lane would otherwise wait for the end of an outage for ever.
pub(super) fn abort_after(deadline: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(deadline).await;
        tracing::warn!("the shutdown deadline has passed; uncommitted events will be processed again");
        std::process::exit(1);
    });
}
