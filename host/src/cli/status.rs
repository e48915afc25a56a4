//! `tollgate status pipeline.yaml`: shows what runs, its progress, and what blocks it.
//!
//! The status comes from three sources, and each may fail to answer: the process (its revision, its troubles),
//! PostgreSQL (progress of all members, the stored pause) and Kafka (the ends of the partitions, for the lag).

mod peek;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _};

use super::Success;
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_engine::kafka::look::{self, Looker, Quiet};
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::postgres::connect;

/// The time limit of each source, because the caller waits.
const CALL: Duration = Duration::from_secs(4);

/// Shows the state of a pipeline: revision, transforms, positions, lag, troubles, pause.
///
/// Asks the running process on its admin address. If no process answers, shows what PostgreSQL and Kafka report.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Admin address of the process, http://host:port. Default: admin.listen of the pipeline file.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Exit with code 1 unless a process is running and ready, nothing is paused, and no partition is halted.
    #[arg(long)]
    pub check: bool,
}

/// The answers of the sources. An `Err` holds the reason why a source did not answer.
struct Known {
    process: Result<Value, String>,
    stored: Result<Stored, String>,
    ends: Result<BTreeMap<i32, i64>, String>,
    /// The partitions without a record at or after their next offset, although their end is higher.
    exhausted: BTreeSet<i32>,
}

/// The state that PostgreSQL holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Stored {
    partitions: Vec<Progress>,
    pause: Option<Pause>,
    halts: Vec<Halted>,
}

/// A halted partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Halted {
    partition: i32,
    code: String,
    offset: i64,
    epoch: i64,
    message: String,
    /// Host and process id of the member that halted the partition.
    owner: String,
    since: String,
}

/// The progress row of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Progress {
    partition: i32,
    next_offset: i64,
    epoch: i64,
    /// Host and process id of the member that took the partition over last.
    owner: String,
    updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Pause {
    reason: String,
    digest: String,
    since: String,
}

/// # Errors
/// Fails with exit code 2 for the configuration, 3 if neither the process nor PostgreSQL answers. With `--check` 1 if
/// the pipeline needs attention.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let pipeline = Pipeline::load(&args.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))?;
    let url = match &args.url {
        Some(url) => Ok(base_url(url)?),
        None => admin_url(pipeline.admin.listen.as_deref()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    let mut known = Known {
        process: url.and_then(|url| ask(&url, &pipeline.name)),
        stored: runtime.block_on(stored(&pipeline)),
        ends: ends(&pipeline),
        exhausted: BTreeSet::new(),
    };
    known.exhausted = peek::exhausted(&pipeline, &known.behind());
    if let (Err(process), Err(database)) = (&known.process, &known.stored) {
        let message =
            format!("neither a process nor PostgreSQL reports the state of {}\n{process}\n{database}", pipeline.name);
        return Err(Failure::environment("status.unknown", message));
    }
    let (object, text) = (show::object(&pipeline, &known), show::text(&pipeline, &known));
    match show::ill(&known) {
        Some(ill) if args.check => {
            Err(Failure::failed("status.check", format!("{}: {ill}", pipeline.name)).with(object, text))
        }
        _ => Ok(Success::new(show::summary(&pipeline, &known), object, text)),
    }
}

/// Completes what the user typed to `http://host:port`.
fn base_url(typed: &str) -> Result<String, Failure> {
    let url = typed.trim_end_matches('/');
    let url = url.strip_suffix("/status").unwrap_or(url);
    if url.starts_with("http://") {
        return Ok(url.to_owned());
    }
    if url.contains("://") {
        let message = format!("--url: {typed} is not an http:// address; the admin server speaks plain HTTP");
        return Err(Failure::configuration("status.url", message));
    }
    Ok(format!("http://{url}"))
}

/// Returns the address of a process of this pipeline, as seen from this machine.
fn admin_url(listen: Option<&str>) -> Result<String, String> {
    let Some(listen) = listen else {
        return Err("admin.listen is off, so the process has no admin address to ask".to_owned());
    };
    match listen.rsplit_once(':') {
        Some((_, "0")) => {
            Err("admin.listen uses any free port: pass the address from the process's log with --url".to_owned())
        }
        Some((host @ ("0.0.0.0" | "[::]" | "::" | ""), port)) => {
            let loopback = if host.contains(':') { "[::1]" } else { "127.0.0.1" };
            Ok(format!("http://{loopback}:{port}"))
        }
        _ => Ok(format!("http://{listen}")),
    }
}

/// Asks the process for its status. The server at this address may be another pipeline, or an unrelated program.
fn ask(url: &str, pipeline: &str) -> Result<Value, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(CALL)).build().into();
    let mut response =
        agent.get(format!("{url}/status")).call().map_err(|error| format!("no process answers at {url}: {error}"))?;
    let text = response.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))?;
    let answer: Value =
        serde_json::from_str(&text).map_err(|_| format!("the server at {url} is not a tollgate process"))?;
    match answer["pipeline"].as_str() {
        Some(name) if name == pipeline => Ok(answer),
        Some(name) => Err(format!("the process at {url} runs pipeline {name}; pass another address with --url")),
        None => Err(format!("the server at {url} is not a tollgate process")),
    }
}

async fn stored(pipeline: &Pipeline) -> Result<Stored, String> {
    let at = pipeline.postgres.url.masked_url();
    let asked = async {
        let mut connection = connect::open(pipeline, "status").await?;
        if !build::missing_schema(&mut connection).await?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Stored {
            partitions: progress(&mut connection, pipeline).await?,
            pause: pause(&mut connection, pipeline).await?,
            halts: halts(&mut connection, pipeline).await?,
        }))
    };
    match tokio::time::timeout(CALL, asked).await {
        Ok(Ok(Some(stored))) => Ok(stored),
        Ok(Ok(None)) => Err("PostgreSQL lacks Tollgate's own tables: `tollgate setup` creates them".to_owned()),
        Ok(Err::<_, sqlx::Error>(error)) => Err(format!("PostgreSQL at {at}: {}", connect::describe(&error))),
        Err(_) => Err(format!("PostgreSQL at {at} did not answer within {} s", CALL.as_secs())),
    }
}

async fn progress(connection: &mut PgConnection, pipeline: &Pipeline) -> Result<Vec<Progress>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition, next_off, epoch, owner, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS\"Z\"')
         FROM tollgate.progress WHERE pipeline = $1 AND topic = $2 ORDER BY partition",
    )
    .bind(&pipeline.name)
    .bind(&pipeline.source.topic)
    .fetch_all(connection)
    .await?;
    let progress = rows.into_iter().map(|row| {
        Ok(Progress {
            partition: row.try_get(0)?,
            next_offset: row.try_get(1)?,
            epoch: row.try_get(2)?,
            owner: row.try_get(3)?,
            updated_at: row.try_get(4)?,
        })
    });
    progress.collect()
}

async fn pause(connection: &mut PgConnection, pipeline: &Pipeline) -> Result<Option<Pause>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT reason, digest, to_char(paused_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS\"Z\"')
         FROM tollgate.pause WHERE pipeline = $1",
    )
    .bind(&pipeline.name)
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok(Pause { reason: row.try_get(0)?, digest: row.try_get(1)?, since: row.try_get(2)? })).transpose()
}

async fn halts(connection: &mut PgConnection, pipeline: &Pipeline) -> Result<Vec<Halted>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition, code, next_off, epoch, message, owner,
                to_char(halted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS\"Z\"')
         FROM tollgate.halt WHERE pipeline = $1 AND topic = $2 ORDER BY partition",
    )
    .bind(&pipeline.name)
    .bind(&pipeline.source.topic)
    .fetch_all(connection)
    .await?;
    let halts = rows.into_iter().map(|row| {
        Ok(Halted {
            partition: row.try_get(0)?,
            code: row.try_get(1)?,
            offset: row.try_get(2)?,
            epoch: row.try_get(3)?,
            message: row.try_get(4)?,
            owner: row.try_get(5)?,
            since: row.try_get(6)?,
        })
    });
    halts.collect()
}

/// Returns the end offset of each partition of the source topic.
fn ends(pipeline: &Pipeline) -> Result<BTreeMap<i32, i64>, String> {
    let topic = &pipeline.source.topic;
    let at = &pipeline.source.brokers;
    let consumer: Looker = look::config(pipeline)
        .create_with_context(Quiet::default())
        .map_err(|error| format!("Kafka at {at}: {error}"))?;
    let failed = |error: KafkaError| format!("Kafka at {at}: {}", look::trouble(&consumer, &error).why);
    let metadata = consumer.fetch_metadata(Some(topic), CALL).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    let Some(found) = found else { return Err(format!("topic {topic} does not exist")) };
    let end = |partition: i32| {
        let (_, end) = consumer.fetch_watermarks(topic, partition, CALL).map_err(failed)?;
        Ok((partition, end))
    };
    found.partitions().iter().map(|partition| end(partition.id())).collect()
}

impl Known {
    /// Returns an entry for each partition that any source knows, with the lag if end and position are known.
    fn partitions(&self) -> Vec<Value> {
        let mut all: BTreeMap<i32, Value> = BTreeMap::new();
        if let Ok(ends) = &self.ends {
            for (partition, end) in ends {
                all.insert(*partition, json!({ "partition": partition, "end": end }));
            }
        }
        let ours = self.process.as_ref().ok().and_then(|process| process["positions"].as_object());
        for (partition, next) in ours.into_iter().flatten() {
            let Ok(partition) = partition.parse::<i32>() else { continue };
            all.entry(partition).or_insert_with(|| json!({ "partition": partition }))["next_offset"] = next.clone();
        }
        for row in self.stored.iter().flat_map(|stored| &stored.partitions) {
            let entry = all.entry(row.partition).or_insert_with(|| json!({ "partition": row.partition }));
            entry["next_offset"] = json!(row.next_offset);
            entry["epoch"] = json!(row.epoch);
            entry["owner"] = json!(row.owner);
            entry["updated_at"] = json!(row.updated_at);
        }
        let with_lag = all.into_values().map(|mut entry| {
            let lag = entry["end"].as_i64().zip(entry["next_offset"].as_i64()).map(|(end, next)| (end - next).max(0));
            let exhausted = entry["partition"].as_i64().and_then(|partition| i32::try_from(partition).ok());
            let lag = if exhausted.is_some_and(|at| self.exhausted.contains(&at)) { Some(0) } else { lag };
            entry["lag"] = json!(lag);
            entry
        });
        with_lag.collect()
    }

    /// Returns the next offset of each partition that has a lag.
    fn behind(&self) -> BTreeMap<i32, i64> {
        let partitions = self.partitions().into_iter().filter(|entry| entry["lag"].as_i64().is_some_and(|lag| lag > 0));
        let next = partitions.filter_map(|entry| {
            let partition = i32::try_from(entry["partition"].as_i64()?).ok()?;
            Some((partition, entry["next_offset"].as_i64()?))
        });
        next.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_from_what_is_typed_or_configured() {
        for typed in
            ["127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/status"]
        {
            assert_eq!(base_url(typed).unwrap(), "http://127.0.0.1:8080");
        }
        assert!(base_url("https://gate:443").is_err());
        assert_eq!(admin_url(Some("0.0.0.0:9000")).unwrap(), "http://127.0.0.1:9000");
        assert_eq!(admin_url(Some("[::]:9000")).unwrap(), "http://[::1]:9000");
        assert_eq!(admin_url(Some("gate.internal:9000")).unwrap(), "http://gate.internal:9000");
        assert!(admin_url(Some("127.0.0.1:0")).unwrap_err().contains("--url"));
        assert!(admin_url(None).unwrap_err().contains("off"));
    }

    #[test]
    fn a_partition_is_what_all_sources_say_of_it() {
        let row = Progress { partition: 1, next_offset: 90, epoch: 3, owner: "h/1".into(), updated_at: String::new() };
        let known = Known {
            process: Ok(json!({ "positions": { "0": 50, "1": 80 } })),
            stored: Ok(Stored { partitions: vec![row], ..Stored::default() }),
            ends: Ok([(0, 60), (1, 100), (2, 7)].into()),
            exhausted: BTreeSet::new(),
        };
        assert_eq!(known.behind(), [(0, 50), (1, 90)].into());
        let seen: Vec<_> = known.partitions().iter().map(|p| (p["next_offset"].as_i64(), p["lag"].as_i64())).collect();
        assert_eq!(seen, [(Some(50), Some(10)), (Some(90), Some(10)), (None, None)]);
        let known = Known { exhausted: [1].into(), ..known };
        assert_eq!(known.partitions()[1]["lag"], json!(0), "only markers follow");
    }
}
