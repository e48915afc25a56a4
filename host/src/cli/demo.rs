//! `tollgate demo`: shows a pipeline at work, on servers that exist only for the demo.

mod show;

use std::path::PathBuf;

use indicatif::ProgressBar;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Success;
use crate::demo::{Options, Running, Stage};
use tollgate_config::error::{Exit, Failure};
use tollgate_config::limits;

/// The maximum number of events without --real. The embedded broker keeps 5 MB per partition, which this many events
/// never fill.
const EMBEDDED_EVENTS: u32 = 50_000;

/// Shows a pipeline at work: valid and invalid payment events pass a contract and transforms into PostgreSQL.
///
/// Without flags, it needs only PostgreSQL's server programs on this machine: the broker is embedded, and the database
/// is deleted at the end.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Use this Kafka (host:port) instead of the embedded broker, effectively once. The demo's topics are deleted at
    /// the end.
    #[arg(long, value_name = "BROKERS")]
    pub real: Option<String>,
    /// Use this PostgreSQL instead of a throw-away one. The demo's table is deleted at the end; the schema `tollgate`
    /// stays.
    #[arg(long, value_name = "URL", env = "TOLLGATE_DEMO_POSTGRES", hide_env_values = true)]
    pub postgres: Option<String>,
    /// Number of events; at most 50000 without --real.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub events: u32,
    /// Keep everything running until Ctrl-C, with a few new events per second.
    #[arg(long)]
    pub keep: bool,
    /// Folder with transforms/payment-rules/payment-rules.wasm and so on: a checkout of Tollgate after `tollgate
    /// build`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub assets: PathBuf,
}

/// # Errors
/// Fails with exit code 3 if a server is unavailable, 1 if the demo was interrupted or its engine stopped.
pub fn run(args: &Args, json: bool) -> Result<Success, Failure> {
    if args.real.is_none() && args.events > EMBEDDED_EVENTS {
        let message = format!(
            "--events: the embedded broker holds at most {EMBEDDED_EVENTS}; use a real Kafka with --real for more"
        );
        return Err(Failure::configuration("demo.events", message));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        let options = Options {
            real: args.real.clone(),
            postgres: args.postgres.clone(),
            events: args.events,
            assets: args.assets.clone(),
        };
        let bar = bar();
        let tell = |what: &str| bar.set_message(what.to_owned());
        let stage = tokio::select! {
            stage = Stage::set(&options, &tell) => stage?,
            () = stopped(&stop) => return Err(interrupted()),
        };
        let shown = show(args, json, &options, &stage, &bar, &stop).await;
        bar.finish_and_clear();
        // A server that was never reached has nothing to delete.
        let unreached = shown.as_ref().is_err_and(|failure| failure.code == "environment.unreachable");
        if !unreached {
            stage.tidy().await;
        }
        shown
    })
}

async fn show(
    args: &Args,
    json: bool,
    options: &Options,
    stage: &Stage,
    bar: &ProgressBar,
    stop: &watch::Receiver<bool>,
) -> Result<Success, Failure> {
    let (mut running, report) = tokio::select! {
        started = Running::start(stage, options, bar) => started?,
        () = stopped(stop) => return Err(interrupted()),
    };
    bar.finish_and_clear();
    let text = show::text(args, stage, &report);
    let listen = stage.pipeline.admin.listen.clone().unwrap_or_default();
    let result = json!({
        "brokers": stage.brokers(),
        "real": stage.real_broker(),
        "mode": if stage.real_broker() { "effectively_once" } else { "at_least_once" },
        "pipeline": stage.pipeline.file.display().to_string(),
        "metrics": format!("http://{listen}/metrics"),
        "report": report,
    });
    let dead: u64 = report.dead_letters.iter().map(|group| group.count).sum();
    let summary = format!(
        "{} events at {:.0} per second: {} rows, {} dead letters",
        report.events, report.events_per_second, report.rows, dead
    );
    if !args.keep {
        return Ok(Success::new(summary, result, text));
    }
    if !json {
        super::print(&text, Exit::Ok);
    }
    tokio::select! {
        failure = running.go_on() => Err(failure),
        () = stopped(stop) => Ok(Success::new(summary, result, "the demo has ended and cleaned up")),
    }
}

fn interrupted() -> Failure {
    Failure::failed("demo.interrupted", "interrupted before the demo was complete; the demo has cleaned up")
}

async fn stopped(stop: &watch::Receiver<bool>) {
    let mut stop = stop.clone();
    // The sender lives in a task that never ends before a signal.
    if stop.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns a value that becomes true at the first SIGINT or SIGTERM.
fn stop_signal() -> Result<watch::Receiver<bool>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::environment("environment.signals", error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Sending fails only if the demo has already ended.
        _ = sender.send(true);
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

/// Creates a progress display on stderr, hidden if stderr is not a terminal. It is a spinner until there is something
/// to count.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(limits::SPINNER);
    bar
}
