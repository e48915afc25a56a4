//! `run --drain`: finds the ends of the partitions beside the engine.

use std::sync::Arc;
use tollgate_config::Pipeline;
use tollgate_engine::lifecycle::Lifecycle;
use tollgate_engine::source::ends::Ends;

/// Waits for the result of the search for the ends. Waits for ever if no search is running.
pub(super) async fn finished(task: &mut Option<tokio::task::JoinHandle<Result<(), String>>>) -> Result<(), String> {
    match task {
        Some(task) => task.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

/// Reads the end offsets of the topic. The poll thread drains up to them.
pub(super) fn find_ends(
    pipeline: Arc<Pipeline>,
    lifecycle: Arc<Lifecycle>,
) -> tokio::task::JoinHandle<Result<(), String>> {
    tokio::task::spawn_blocking(move || {
        let ends = Ends::settle(&pipeline, || lifecycle.draining()).map_err(|error| error.to_string())?;
        lifecycle.drain_at(ends);
        Ok(())
    })
}
