//! `tollgate resume pipeline.yaml`: ends a stored pause. Works beside a running process and without one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Success;
use crate::config::Pipeline;
use crate::engine::build;
use crate::error::Failure;
use crate::progress::store;
use crate::sinks::postgres::connect;

/// How long PostgreSQL may take to come; the caller waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a pause that the dead letter limit began (dead_letter.limit).
///
/// The pause is stored in PostgreSQL, so this needs no running process; one that runs goes on within a second.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline's file.
    pub pipeline: PathBuf,
}

/// # Errors
/// Exit code 2 for the configuration and missing tables, 3 where PostgreSQL cannot be reached.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let pipeline = Pipeline::load(&args.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    runtime.block_on(resume(&pipeline))
}

async fn resume(pipeline: &Pipeline) -> Result<Success, Failure> {
    let failed = |error: sqlx::Error| {
        Failure::environment("environment.postgres", format!("PostgreSQL: {}", connect::describe(&error)))
    };
    let mut connection = build::postgres(pipeline, Instant::now() + PATIENCE).await?;
    let missing = build::missing_schema(&mut connection).await.map_err(failed)?;
    if !missing.is_empty() {
        return Err(Failure::configuration("environment.incomplete", missing.join("\n")));
    }
    let name = &pipeline.name;
    let reason = store::paused(&mut connection, name).await.map_err(failed)?;
    // Between the two somebody else may have ended it: the deletion says how it was.
    let was_paused = store::resume(&mut connection, name).await.map_err(failed)?;
    let result = json!({ "was_paused": was_paused, "reason": reason });
    if !was_paused {
        return Ok(Success::new(format!("{name} was not paused"), result, ""));
    }
    let reason = reason.map(|reason| format!("\n  it stood still because {reason}")).unwrap_or_default();
    let summary = format!("{name} is resumed; a running process goes on within a second");
    let text = format!("{summary}{reason}");
    Ok(Success::new(summary, result, text))
}
