//! `tollgate resume pipeline.yaml`: ends a stored pause, or halts of partitions. Works with and without a running
//! process.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use sqlx::PgConnection;

use super::Success;
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_engine::position::Partition;
use tollgate_engine::progress::halts::{self, Halt};
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::postgres::connect;
use tollgate_engine::status::Halted;

/// Ends the pause of a pipeline, or the halt of partitions.
///
/// Pauses (dead_letter.limit, contract.mode: halt) and halts are stored in PostgreSQL, so this needs no running
/// process. A running process continues within a second; otherwise the next start continues.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// End the halt of these partitions instead, such as 3 or 0,3.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub partition: Vec<i32>,
}

/// # Errors
/// Fails with exit code 2 for the configuration and missing tables, 3 if PostgreSQL cannot be reached.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let pipeline = Pipeline::load(&args.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    runtime.block_on(async {
        let mut connection = connection(&pipeline).await?;
        if args.partition.is_empty() {
            resume(&pipeline, &mut connection).await
        } else {
            let partitions: Vec<Partition> = args.partition.iter().copied().map(Partition::new).collect();
            end_halts(&pipeline, &mut connection, &partitions).await
        }
    })
}

fn failed(error: sqlx::Error) -> Failure {
    Failure::environment("environment.postgres", format!("PostgreSQL: {}", connect::describe(&error)))
}

async fn connection(pipeline: &Pipeline) -> Result<PgConnection, Failure> {
    let mut connection = build::postgres(pipeline, Instant::now() + limits::VERB_PATIENCE).await?;
    let missing = build::missing_schema(&mut connection).await.map_err(failed)?;
    if !missing.is_empty() {
        return Err(Failure::configuration("environment.incomplete", missing.join("\n")));
    }
    Ok(connection)
}

async fn resume(pipeline: &Pipeline, connection: &mut PgConnection) -> Result<Success, Failure> {
    let (name, topic) = (&pipeline.name, &pipeline.source.topic);
    let pause = halts::paused(connection, name).await.map_err(failed)?;
    // Somebody else may end the pause between the two calls, so the result of the deletion decides.
    let was_paused = halts::resume(connection, name, topic).await.map_err(failed)?;
    let halted = halts::halts(connection, name, topic).await.map_err(failed)?;
    let reason = pause.map(|pause| pause.reason);
    let left: Vec<Halted> = halted.iter().map(Halted::from).collect();
    let result = json!({ "was_paused": was_paused, "reason": reason, "halted": left });
    let still = halted.iter().map(|halt| {
        let Halt { partition, code, .. } = halt;
        format!("\n  partition {partition} is halted ({code}): `tollgate resume --partition {partition}` ends the halt")
    });
    let still: String = still.collect();
    if !was_paused {
        let summary = format!("{name} was not paused");
        return Ok(Success::new(summary.clone(), result, format!("{summary}{still}")));
    }
    let reason = reason.map(|reason| format!("\n  reason of the pause: {reason}")).unwrap_or_default();
    let summary =
        format!("{name} is resumed; a running process continues within a second, otherwise the next start does");
    Ok(Success::new(summary.clone(), result, format!("{summary}{reason}{still}")))
}

async fn end_halts(
    pipeline: &Pipeline,
    connection: &mut PgConnection,
    partitions: &[Partition],
) -> Result<Success, Failure> {
    let (name, topic) = (&pipeline.name, &pipeline.source.topic);
    let ended = halts::end_halts(connection, name, topic, partitions).await.map_err(failed)?;
    let result = json!({ "resumed": ended.iter().map(Halted::from).collect::<Vec<_>>() });
    let lines = partitions.iter().map(|partition| match ended.iter().find(|halt| halt.partition == *partition) {
        Some(Halt { code, message, .. }) => format!("\n  partition {partition} was halted ({code}): {message}"),
        None => format!("\n  partition {partition} was not halted"),
    });
    let lines: String = lines.collect();
    let summary = match ended.len() {
        0 => format!("{name}: no partition was halted"),
        _ => format!("{name}: halts ended; a running process continues within a second, otherwise the next start does"),
    };
    Ok(Success::new(summary.clone(), result, format!("{summary}{lines}")))
}
