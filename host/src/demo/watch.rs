//! Feeds the events, runs the engine on them, and collects the results.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Row as _};

use super::feed::Feed;
use super::stage::now;
use super::{Options, Stage};
use crate::cli::dlq::groups::{Group, groups};
use crate::cli::setup;
use crate::compiler;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_engine::admin::{self, Admin};
use tollgate_engine::runtime::{self, Engine, ThreadEnded, Waiting, build};
use tollgate_engine::sinks::postgres::connect;
use tollgate_engine::source::poll::Ended;

/// The number of rows shown.
const ROWS: usize = 6;

/// The results to show.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub events: u64,
    /// The number of corrupted events.
    pub spoilt: u64,
    pub seconds: f64,
    pub events_per_second: f64,
    pub rows: u64,
    pub columns: Vec<String>,
    /// The latest rows of the table.
    pub sample: Vec<Vec<String>>,
    pub dead_letters: Vec<Group>,
    pub transforms: Vec<(String, String)>,
    pub postgres_version: String,
}

/// The running engine. Dropping it drains and ends it.
pub struct Running {
    engine: Option<Engine>,
    feed: Feed,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close(limits::DEMO_CLOSE);
        }
    }
}

impl Running {
    /// Sets the pipeline up, feeds it, starts the engine and waits until every event is processed.
    ///
    /// # Errors
    /// Fails as `setup` and `run` do, and with exit code 1 if the engine stops or makes no progress.
    pub async fn start(stage: &Stage, options: &Options, bar: &ProgressBar) -> Result<(Running, Report), Failure> {
        let pipeline = &stage.pipeline;
        bar.set_message("creating topics and tables");
        let contracts = compiler::contracts(pipeline)?;
        let asked = setup::Args {
            pipeline: pipeline.file.clone(),
            dry_run: false,
            alter: false,
            sql: false,
            partitions: 4,
            replication: -1,
        };
        setup::setup(&asked, pipeline, &contracts).await?;
        bar.set_message(format!("producing {} events", options.events));
        let mut feed = tokio::task::block_in_place(|| Feed::new(pipeline, options.events, now()))?;
        tokio::task::block_in_place(|| feed.send(options.events))?;
        bar.set_message("joining the consumer group");
        let waiting = Waiting::new(pipeline.start_deadline);
        let parts = build::build(Arc::clone(pipeline), compiler::COMPILER, &waiting).await?;
        let engine = runtime::start(parts, &waiting).await?;
        let admin = Admin::of(&engine);
        let mut running = Running { engine: Some(engine), feed };
        if let Some(listen) = &pipeline.admin.listen {
            let failed = |error| Failure::environment("admin.listen", error);
            admin::serve(listen, admin).await.map_err(failed)?;
        }
        let took = running.wait(u64::from(options.events), bar).await?;
        bar.set_message("reading the results");
        let report = running.look(stage, options, took).await?;
        Ok((running, report))
    }

    /// Waits until all events are processed. Returns the time from the group's assignment to the last commit.
    async fn wait(&mut self, total: u64, bar: &ProgressBar) -> Result<Duration, Failure> {
        let until = Instant::now() + limits::DEMO_PATIENCE;
        let mut began = None;
        let Some(engine) = &mut self.engine else { return Ok(Duration::ZERO) };
        loop {
            let Engine { brakes, lifecycle, metrics, .. } = &*engine;
            let unready = || lifecycle.unready(&brakes.halts_of(&lifecycle.partitions()));
            let done: i64 = metrics.positions().values().map(|next| next.get()).sum();
            if began.is_none() && unready().is_empty() {
                began = Some(Instant::now());
                count(bar, total);
            }
            let done = u64::try_from(done).unwrap_or_default();
            bar.set_position(done);
            if done >= total {
                return Ok(began.map_or(Duration::ZERO, |began| began.elapsed()));
            }
            if let Some(reason) = brakes.paused() {
                return Err(Failure::failed("demo.paused", format!("the pipeline is paused: {reason}")));
            }
            if Instant::now() > until {
                let troubles = unready().join("; ");
                let message = format!(
                    "only {done} of {total} events were processed within {} s; {troubles}",
                    limits::DEMO_PATIENCE.as_secs()
                );
                return Err(Failure::failed("demo.slow", message));
            }
            tokio::select! {
                ended = engine.ended.recv() => return Err(Failure::failed("engine.halted", why(ended))),
                () = tokio::time::sleep(limits::DEMO_LOOK) => {}
            }
        }
    }

    async fn look(&self, stage: &Stage, options: &Options, took: Duration) -> Result<Report, Failure> {
        let failed = |error: sqlx::Error| {
            Failure::environment("environment.postgres", format!("PostgreSQL: {}", connect::describe(&error)))
        };
        let mut connection = connect::open(&stage.pipeline, "demo").await.map_err(failed)?;
        let version: String =
            sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await.map_err(failed)?;
        let table = &stage.names.table;
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.map_err(failed)?;
        let mut columns = vec!["transaction_id", "amount", "currency", "status", "created_at", "tenant_id"];
        if stage.components.risk.is_some() {
            columns.extend(["risk_tier", "amount_minor"]);
        }
        let list = columns.iter().map(|column| shown(column)).collect::<Vec<_>>().join(", ");
        let select =
            format!("SELECT {list} FROM {table} ORDER BY created_at DESC NULLS LAST, transaction_id LIMIT {ROWS}");
        let found = sqlx::query(AssertSqlSafe(select)).fetch_all(&mut connection).await.map_err(failed)?;
        let sample: Result<Vec<Vec<String>>, sqlx::Error> =
            found.iter().map(|row| (0..columns.len()).map(|column| row.try_get(column)).collect()).collect();
        let dead_letters = tokio::task::block_in_place(|| groups(&stage.pipeline, None, None, &ProgressBar::hidden()))?;
        let transforms = self.engine.as_ref().map(|engine| {
            let revision = engine.revision.load();
            revision.transforms().map(|info| (info.name.clone(), info.version.clone())).collect()
        });
        Ok(Report {
            events: u64::from(options.events),
            spoilt: self.feed.spoilt,
            seconds: took.as_secs_f64(),
            events_per_second: f64::from(options.events) / took.as_secs_f64().max(1e-3),
            rows: u64::try_from(rows).unwrap_or_default(),
            columns: columns.into_iter().map(str::to_owned).collect(),
            sample: sample.map_err(failed)?,
            dead_letters,
            transforms: transforms.unwrap_or_default(),
            postgres_version: version,
        })
    }

    /// Continues until it is dropped, with a few new events per second. It returns only if the engine stopped.
    pub async fn go_on(&mut self) -> Failure {
        loop {
            let Some(engine) = &mut self.engine else {
                return Failure::failed("engine.halted", "the engine has ended");
            };
            tokio::select! {
                ended = engine.ended.recv() => return Failure::failed("engine.halted", why(ended)),
                () = tokio::time::sleep(limits::SECOND) => {}
            }
            let feed = &mut self.feed;
            if let Err(failure) = tokio::task::block_in_place(|| feed.send(3)) {
                tracing::warn!(%failure, "cannot produce new events");
            }
        }
    }
}

/// Counts events on the bar from now on.
fn count(bar: &ProgressBar, total: u64) {
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {human_pos}/{human_len} events {msg}") {
        bar.set_style(style);
    }
    bar.set_length(total);
    bar.set_message("");
}

/// Returns the SQL for a column as human-readable text.
fn shown(column: &str) -> String {
    match column {
        "created_at" => "coalesce(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '')".to_owned(),
        _ => format!("coalesce({column}::text, '')"),
    }
}

fn why(ended: Option<ThreadEnded>) -> String {
    match ended {
        Some(ThreadEnded::Lane(Err(error))) => format!("a lane cannot continue: {error}"),
        Some(ThreadEnded::Poll(Ended::Halted(message))) => message,
        Some(ThreadEnded::Helper(Err(error))) => error.to_string(),
        Some(ThreadEnded::Lane(Ok(())) | ThreadEnded::Poll(Ended::Drained) | ThreadEnded::Helper(Ok(()))) | None => {
            "the engine has ended".to_owned()
        }
    }
}
