//! `tollgate run pipeline.yaml`: runs a pipeline.

mod drain;
mod reloads;
mod signals;

use std::path::PathBuf;
use std::sync::Arc;

use crate::compiler::COMPILER;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc;
use tollgate_config::limits;

use super::Success;
use drain::{find_ends, finished};
use reloads::{watch_files, watch_hangup};
use signals::{abort_after, listen, watch_second_signal};
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_engine::admin;
use tollgate_engine::hazards;
use tollgate_engine::metrics::Metrics;
use tollgate_engine::runtime::{self, Engine, ThreadEnded, Waiting, build, summary};
use tollgate_engine::source::poll::Ended;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Reload whenever pipeline.yaml or a component changes.
    #[arg(long)]
    pub watch: bool,
    /// Stop after processing every record that was in the topic at the start.
    #[arg(long)]
    pub drain: bool,
}

/// An event that the main thread of a running engine handles.
enum Event {
    Ended(Option<ThreadEnded>),
    Reload,
    Terminate,
    /// Whether the end offsets of the topic could be read, which `--drain` needs.
    Ends(Result<(), String>),
}

/// # Errors
/// Fails with exit code 2 if the configuration or something that it names is invalid, 3 if a server is unavailable
/// until the start deadline, 1 if a running engine had to stop.
pub fn run(args: &Args) -> Result<Success, Failure> {
    if let Some(name) = hazards::refused() {
        let message = format!("{name} is for Tollgate's own tests, and this program has no failpoints: unset it");
        return Err(Failure::configuration("environment.hazards", message));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    let result = runtime.block_on(async {
        // A stop during the start needs no cleanup, because no event is in work yet. The handlers come first, because a
        // signal without a handler ends the process. That includes SIGHUP.
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let hangup = listen(SignalKind::hangup())?;
        let pipeline =
            Pipeline::load(&args.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))?;
        // This is a separate task, because the Kafka client blocks while it waits for a broker, and signals must be
        // handled meanwhile.
        let waiting = Waiting::new(pipeline.start_deadline);
        let starting = tokio::spawn({
            let waiting = waiting.clone();
            async move {
                let parts = build::build(Arc::new(pipeline), COMPILER, &waiting).await?;
                runtime::start(parts, &waiting).await
            }
        });
        let engine = tokio::select! {
            engine = starting => engine.map_err(|error| Failure::failed("engine.start", error))??,
            _ = terminate.recv() => return Ok(stopped()),
            _ = interrupt.recv() => return Ok(stopped()),
            // The deadline applies to whichever call the start is in.
            () = tokio::time::sleep(waiting.left() + limits::START_GRACE) => return Err(waiting.over(None)),
        };
        attend(args, engine, hangup).await
    });
    // Tasks that still wait for a server can be ended without loss.
    runtime.shutdown_background();
    result
}

fn stopped() -> Success {
    Success::new("stopped before the pipeline started", json!({}), "")
}

/// Runs the main thread's loop: one select, one handler.
async fn attend(args: &Args, mut engine: Engine, hangup: Signal) -> Result<Success, Failure> {
    let (pipeline, lifecycle, metrics) =
        (Arc::clone(&engine.pipeline), Arc::clone(&engine.lifecycle), Arc::clone(&engine.metrics));
    let (reload_sender, mut reloads) = mpsc::channel(1);
    if let Some(listen) = &pipeline.admin.listen {
        let served = admin::serve(listen, admin::Admin::of(&engine)).await;
        served.map_err(|error| Failure::environment("admin.listen", error))?;
    }
    watch_hangup(hangup, reload_sender.clone());
    if args.watch {
        tokio::spawn(watch_files(Arc::clone(&pipeline), reload_sender));
    }
    let mut ends = args.drain.then(|| find_ends(Arc::clone(&pipeline), Arc::clone(&lifecycle)));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tracing::info!(pipeline = pipeline.name, digest = engine.revision.load().digest, "running");
    tokio::spawn(summary::each_minute(Arc::clone(&metrics)));
    let result = loop {
        let event = tokio::select! {
            ended = engine.ended.recv() => Event::Ended(ended),
            Some(()) = reloads.recv() => Event::Reload,
            _ = terminate.recv() => Event::Terminate,
            _ = interrupt.recv() => Event::Terminate,
            found = finished(&mut ends) => Event::Ends(found),
        };
        match event {
            Event::Ended(ended) => {
                if let Some(result) = verdict(ended, lifecycle.draining()) {
                    break result;
                }
            }
            Event::Reload => {
                // The reloader logs and counts the result. If it fails, the old revision continues. Signals are handled
                // meanwhile.
                let reloader = Arc::clone(&engine.reloader);
                tokio::spawn(async move { drop(reloader.reload().await) });
            }
            Event::Ends(found) => {
                ends = None;
                if let Err(error) = found {
                    break Err(format!(
                        "cannot read the end of the topic, so --drain does not know when to stop: {error}"
                    ));
                }
            }
            Event::Terminate if lifecycle.draining() => {
                tracing::warn!("stopping at once; uncommitted events will be processed again");
                std::process::exit(130);
            }
            Event::Terminate => {
                tracing::info!("draining; a second signal stops at once");
                lifecycle.drain();
                abort_after(pipeline.shutdown);
            }
        }
    };
    let deadline = pipeline.shutdown;
    watch_second_signal(terminate, interrupt);
    tokio::task::block_in_place(|| engine.close(deadline));
    summary::at_end(&metrics);
    result.map_err(|message| Failure::failed("engine.halted", message))?;
    Ok(Success::new("stopped", json!({ "positions": positions(&metrics) }), ""))
}

/// Returns the result of the process if it ends because this thread ended.
fn verdict(ended: Option<ThreadEnded>, draining: bool) -> Option<Result<(), String>> {
    match ended {
        Some(ThreadEnded::Poll(Ended::Drained)) | None => Some(Ok(())),
        Some(ThreadEnded::Poll(Ended::Halted(message))) => Some(Err(message)),
        Some(ThreadEnded::Helper(Err(error))) => Some(Err(error.to_string())),
        Some(ThreadEnded::Lane(Err(error))) => Some(Err(format!("a lane cannot continue: {error}"))),
        Some(ThreadEnded::Lane(Ok(())) | ThreadEnded::Helper(Ok(()))) if draining => None,
        Some(ThreadEnded::Lane(Ok(())) | ThreadEnded::Helper(Ok(()))) => {
            Some(Err("a thread ended unexpectedly; please report the log lines above".to_owned()))
        }
    }
}

fn positions(metrics: &Metrics) -> serde_json::Value {
    metrics.positions().iter().map(|(partition, next)| (partition.to_string(), json!(next.get()))).collect()
}
