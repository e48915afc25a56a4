//! What makes a running engine reload: SIGHUP, and with `--watch` a changed file.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tollgate_config::{Pipeline, limits};

pub(super) fn watch_hangup(mut hangup: Signal, reloads: mpsc::Sender<()>) {
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // If the channel is full, a reload that is already requested covers this one.
            _ = reloads.try_send(());
        }
    });
}

/// Polls the modification times of the files. This needs no dependency, and it notices renamed files as well as written
/// ones.
pub(super) async fn watch_files(pipeline: Arc<Pipeline>, reloads: mpsc::Sender<()>) {
    let mut seen = stamps(&pipeline);
    loop {
        tokio::time::sleep(limits::WATCH_LOOK).await;
        let now = stamps(&pipeline);
        if now != seen {
            seen = now;
            _ = reloads.try_send(());
        }
    }
}

fn stamps(pipeline: &Pipeline) -> Vec<Option<(SystemTime, u64)>> {
    let components = pipeline.transforms().map(|transform| pipeline.resolve(&transform.component));
    let files = components.chain([pipeline.file.clone()]);
    files
        .map(|file| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
        .collect()
}
