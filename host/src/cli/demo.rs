//! `tollgate demo`: shows a pipeline at work, on servers that exist only for the demo.

use std::fmt::Write as _;
use std::path::PathBuf;

use indicatif::ProgressBar;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Success;
use super::table::{Align, render, thousands};
use crate::demo::{Options, Report, Running, Stage};
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
    let text = text(args, stage, &report);
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

fn text(args: &Args, stage: &Stage, report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    _ = write_text(&mut out, args, stage, report);
    out
}

fn message_types(pipeline: &tollgate_config::Pipeline) -> String {
    let names: Vec<&str> = pipeline.types.iter().map(|kind| kind.message.as_str()).collect();
    names.join(", ")
}

fn write_text(out: &mut String, args: &Args, stage: &Stage, report: &Report) -> std::fmt::Result {
    let pipeline = &stage.pipeline;
    let dead: u64 = report.dead_letters.iter().map(|group| group.count).sum();
    let kafka = if stage.real_broker() {
        format!("{}, effectively once", stage.brokers())
    } else {
        format!("embedded ({}), at least once, because it has no transactions", stage.brokers())
    };
    let database = if stage.own_postgres { ", deleted at the end" } else { "" };
    let transforms: Vec<String> = report.transforms.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let chain = if transforms.is_empty() {
        "none, only the contract is checked (--assets names a folder with components)".to_owned()
    } else {
        transforms.join(" → ")
    };
    writeln!(out, "Kafka       {kafka}")?;
    writeln!(out, "PostgreSQL  {}{database}", report.postgres_version)?;
    writeln!(out, "contract    {}", message_types(pipeline))?;
    writeln!(out, "transforms  {chain}\n")?;
    writeln!(
        out,
        "{} events in {:.2} s, {} per second",
        thousands(report.events),
        report.seconds,
        thousands(rounded(report.events_per_second))
    )?;
    let carried = report.events.saturating_sub(dead);
    writeln!(
        out,
        "  {:>9} rows in table {}, from {} valid events",
        thousands(report.rows),
        stage.names.table,
        thousands(carried)
    )?;
    writeln!(out, "  {:>9} dead letters in topic {}\n", thousands(dead), pipeline.dead_letter.topic)?;
    writeln!(out, "Latest rows:")?;
    let header: Vec<(&str, Align)> = report.columns.iter().map(|column| (column.as_str(), align(column))).collect();
    writeln!(out, "{}", render(&header, &report.sample, 36))?;
    writeln!(out, "Dead letters by reason:")?;
    writeln!(out, "{}", super::dlq::table(&report.dead_letters))?;
    next_steps(out, args, stage)
}

fn align(column: &str) -> Align {
    if column.starts_with("amount") { Align::Right } else { Align::Left }
}

fn rounded(number: f64) -> u64 {
    format!("{number:.0}").parse().unwrap_or_default()
}

fn next_steps(out: &mut String, args: &Args, stage: &Stage) -> std::fmt::Result {
    let pipeline = &stage.pipeline;
    let listen = pipeline.admin.listen.as_deref().unwrap_or_default();
    if args.keep {
        let file = pipeline.file.display();
        writeln!(out, "The demo continues until Ctrl-C. Meanwhile, in another terminal:")?;
        writeln!(out, "  curl http://{listen}/metrics")?;
        writeln!(out, "  tollgate status {file}")?;
        writeln!(out, "  tollgate dlq list {file}")?;
        if stage.own_postgres {
            writeln!(
                out,
                "  psql {} -c 'select * from {} limit 5'",
                pipeline.postgres.url.expose(),
                stage.names.table
            )?;
        }
    } else {
        writeln!(out, "Metrics were at http://{listen}/metrics; `tollgate demo --keep` keeps everything running.")?;
    }
    if stage.real_broker() {
        writeln!(out, "Next, with a pipeline of your own: tollgate validate pipeline.yaml --connect")
    } else {
        writeln!(out, "Next, with your own Kafka:         tollgate demo --real localhost:9092")?;
        writeln!(out, "and with a pipeline of your own:   tollgate validate pipeline.yaml --connect")
    }
}
