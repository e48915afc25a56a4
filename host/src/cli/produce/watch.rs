//! Shows a run's progress to a person, and handles the signals that stop it.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tollgate_config::error::Failure;
use tollgate_producer::input::Source;
use tollgate_producer::run::{Stop, Watch};

use crate::cli::table::thousands;

/// The progress bar on stderr. It removes itself when it is dropped.
pub(super) struct Bar {
    bar: ProgressBar,
    dry: bool,
}

impl Bar {
    /// Creates a bar that shows a share of the bytes if all lengths are known, and a spinner otherwise.
    pub(super) fn new(sources: &[Source], dry: bool) -> Bar {
        let length = sources.iter().map(|source| source.length).sum::<Option<u64>>();
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), "{bar:30} {percent:>3}% {msg}"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        // Without the template the bar has its default form.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar { bar, dry }
    }
}

impl Watch for Bar {
    fn position(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    fn progress(&mut self, acknowledged: u64, rejected: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(message(acknowledged, rejected, self.bar.elapsed(), self.dry));
        }
    }

    fn rejected(&mut self, text: &str) {
        // If stderr is closed, the summary still has the counts.
        self.bar.suspend(|| _ = io::stderr().lock().write_all(text.as_bytes()));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn message(acknowledged: u64, rejected: u64, elapsed: Duration, dry: bool) -> String {
    let what = if dry { "valid" } else { "acknowledged" };
    let rate = thousands(rate(acknowledged + rejected, elapsed));
    let rejected = if rejected == 0 { String::new() } else { format!(", {} rejected", thousands(rejected)) };
    format!("{} {what}{rejected}, {rate}/s", thousands(acknowledged))
}

/// Returns events per second, rounded.
pub(super) fn rate(events: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(events) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// Handles SIGINT and SIGTERM.
pub(super) struct Signals {
    stop: Arc<Stop>,
    /// Whether events may be in flight, so that a signal has to wait for them.
    running: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Makes the first signal wait for events in flight from now on.
    pub(super) fn started(&self) {
        self.running.store(true, Ordering::Release);
    }
}

/// Listens for signals. The first one asks the run to stop, or ends the process if the run has not begun. The second
/// one always ends the process.
pub(super) fn signals() -> Result<Signals, Failure> {
    let signals = Signals { stop: Arc::default(), running: Arc::default() };
    let (stop, running) = (Arc::clone(&signals.stop), Arc::clone(&signals.running));
    let failed = |error: io::Error| Failure::environment("environment.signals", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    let watching = move || {
        runtime.block_on(async {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if stop.ask() || !running.load(Ordering::Acquire) {
                    std::process::exit(130);
                }
                tracing::warn!("stopping: waiting for events in flight; a second signal stops at once");
            }
        });
    };
    std::thread::Builder::new().name("produce-signals".to_owned()).spawn(watching).map_err(failed)?;
    Ok(signals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_rounded_and_never_divides_by_nothing() {
        assert_eq!(rate(1_000, Duration::from_millis(500)), 2_000);
        assert_eq!(rate(3, Duration::ZERO), 3_000_000);
    }
}
