//! `tollgate status pipeline.yaml`: shows what runs, its progress, and what blocks it.
//!
//! The status comes from three sources, and each may fail to answer: the process (its revision, its troubles),
//! PostgreSQL (progress of all members, the stored pause) and Kafka (the ends of the partitions, for the lag).

mod peek;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use serde::Serialize;
use sqlx::{PgConnection, Row as _};

use super::Success;
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_engine::kafka::look::{self, Quiet, ReadOnlyConsumer};
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::postgres::connect;
use tollgate_engine::status::{self, Status};

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
    process: Result<Status, String>,
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
    #[serde(flatten)]
    halt: status::Halted,
    #[serde(flatten)]
    stored: Option<StoredHalt>,
}

/// What PostgreSQL knows of a halt besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct StoredHalt {
    /// Host and process id of the member that halted the partition.
    owner: String,
    since: String,
}

/// What is known of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Partition {
    partition: i32,
    /// The offset after the last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    lag: Option<u64>,
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
fn ask(url: &str, pipeline: &str) -> Result<Status, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(limits::STATUS_CALL)).build().into();
    let mut response =
        agent.get(format!("{url}/status")).call().map_err(|error| format!("no process answers at {url}: {error}"))?;
    let text = response.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))?;
    read(url, &text, pipeline)
}

/// The fields that a status has in every format.
#[derive(serde::Deserialize)]
struct Header {
    #[serde(default)]
    format: u32,
    pipeline: String,
    version: String,
}

fn read(url: &str, answer: &str, pipeline: &str) -> Result<Status, String> {
    let header: Header =
        serde_json::from_str(answer).map_err(|_| format!("the server at {url} is not a tollgate process"))?;
    let Header { format, pipeline: name, version } = header;
    if name != pipeline {
        return Err(format!("the process at {url} runs pipeline {name}; pass another address with --url"));
    }
    if format > status::FORMAT {
        return Err(format!(
            "the process at {url} is tollgate {version}, which this release cannot read; use that release"
        ));
    }
    serde_json::from_str(answer).map_err(|error| format!("the status of the process at {url} cannot be read: {error}"))
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
    match tokio::time::timeout(limits::STATUS_CALL, asked).await {
        Ok(Ok(Some(stored))) => Ok(stored),
        Ok(Ok(None)) => Err("PostgreSQL lacks Tollgate's own tables: `tollgate setup` creates them".to_owned()),
        Ok(Err::<_, sqlx::Error>(error)) => Err(format!("PostgreSQL at {at}: {}", connect::describe(&error))),
        Err(_) => Err(format!("PostgreSQL at {at} did not answer within {} s", limits::STATUS_CALL.as_secs())),
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
        let halt = status::Halted {
            partition: row.try_get(0)?,
            code: row.try_get(1)?,
            offset: row.try_get(2)?,
            epoch: row.try_get(3)?,
            message: row.try_get(4)?,
        };
        Ok(Halted { halt, stored: Some(StoredHalt { owner: row.try_get(5)?, since: row.try_get(6)? }) })
    });
    halts.collect()
}

/// Returns the end offset of each partition of the source topic.
fn ends(pipeline: &Pipeline) -> Result<BTreeMap<i32, i64>, String> {
    let topic = &pipeline.source.topic;
    let at = &pipeline.source.brokers;
    let consumer: ReadOnlyConsumer = look::config(pipeline)
        .create_with_context(Quiet::default())
        .map_err(|error| format!("Kafka at {at}: {error}"))?;
    let failed = |error: KafkaError| format!("Kafka at {at}: {}", look::call_error(&consumer, &error).why);
    let metadata = consumer.fetch_metadata(Some(topic), limits::STATUS_CALL).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    let Some(found) = found else { return Err(format!("topic {topic} does not exist")) };
    let end = |partition: i32| {
        let (_, end) = consumer.fetch_watermarks(topic, partition, limits::STATUS_CALL).map_err(failed)?;
        Ok((partition, end))
    };
    found.partitions().iter().map(|partition| end(partition.id())).collect()
}

impl Known {
    /// Returns an entry for each partition that any source knows, with the lag if end and position are known.
    fn partitions(&self) -> Vec<Partition> {
        let mut all: BTreeMap<i32, Partition> = BTreeMap::new();
        let entry = |all: &mut BTreeMap<i32, Partition>, partition: i32, change: &dyn Fn(&mut Partition)| {
            change(all.entry(partition).or_insert_with(|| Partition { partition, ..Partition::default() }));
        };
        for (partition, end) in self.ends.iter().flatten() {
            entry(&mut all, *partition, &|known| known.end = Some(*end));
        }
        for (partition, next) in self.process.iter().flat_map(|process| &process.positions) {
            entry(&mut all, *partition, &|known| known.next_offset = Some(*next));
        }
        for row in self.stored.iter().flat_map(|stored| &stored.partitions) {
            entry(&mut all, row.partition, &|known| {
                (known.next_offset, known.epoch) = (Some(row.next_offset), Some(row.epoch));
                (known.owner, known.updated_at) = (Some(row.owner.clone()), Some(row.updated_at.clone()));
            });
        }
        for known in all.values_mut() {
            let behind = known.end.zip(known.next_offset).map(|(end, next)| u64::try_from(end - next).unwrap_or(0));
            known.lag = if self.exhausted.contains(&known.partition) { Some(0) } else { behind };
        }
        all.into_values().collect()
    }

    /// Returns the next offset of each partition that has a lag.
    fn behind(&self) -> BTreeMap<i32, i64> {
        let behind = self.partitions().into_iter().filter(|known| known.lag.is_some_and(|lag| lag > 0));
        behind.filter_map(|known| Some((known.partition, known.next_offset?))).collect()
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

    fn process() -> Status {
        read("u", ANSWER, "p").unwrap()
    }

    const ANSWER: &str = r#"{"format":1,"pipeline":"p","version":"0.2.0","delivery":"effectively_once","slot":0,"owner":"h/7",
        "revision":{"number":0,"digest":"aa","transforms":[]},"ready":true,"troubles":[],"paused":null,
        "refused_reload":null,"halted":[],"breakers":{},"positions":{}}"#;

    #[test]
    fn an_answer_of_something_else_is_named() {
        assert_eq!(process().owner, "h/7");
        for (answer, why) in [
            ("<html>".to_owned(), "the server at u is not a tollgate process"),
            (ANSWER.replace(r#""p""#, r#""q""#), "the process at u runs pipeline q; pass another address with --url"),
            (
                ANSWER.replace(r#""format":1"#, r#""format":2"#).replace("true", "7"),
                "the process at u is tollgate 0.2.0, which this release cannot read; use that release",
            ),
            (ANSWER.replace("true", "7"), "the status of the process at u cannot be read: invalid type: integer `7`"),
        ] {
            let found = read("u", &answer, "p").unwrap_err();
            assert!(found.starts_with(why), "{found}");
        }
    }

    #[test]
    fn a_partition_is_what_all_sources_say_of_it() {
        let row = Progress { partition: 1, next_offset: 90, epoch: 3, owner: "h/1".into(), updated_at: String::new() };
        let known = Known {
            process: Ok(Status { positions: [(0, 50), (1, 80)].into(), ..process() }),
            stored: Ok(Stored { partitions: vec![row], ..Stored::default() }),
            ends: Ok([(0, 60), (1, 100), (2, 7)].into()),
            exhausted: BTreeSet::new(),
        };
        assert_eq!(known.behind(), [(0, 50), (1, 90)].into());
        let seen: Vec<_> = known.partitions().iter().map(|p| (p.next_offset, p.lag)).collect();
        assert_eq!(seen, [(Some(50), Some(10)), (Some(90), Some(10)), (None, None)]);
        let known = Known { exhausted: [1].into(), ..known };
        assert_eq!(known.partitions()[1].lag, Some(0), "only markers follow");
    }
}
