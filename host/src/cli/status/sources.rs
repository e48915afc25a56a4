//! The sources of a status: the process, PostgreSQL and Kafka.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use sqlx::{PgConnection, Row as _};
use tollgate_config::error::Failure;
use tollgate_config::{Pipeline, limits};
use tollgate_engine::kafka::look::{self, Quiet, ReadOnlyConsumer};
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::postgres::connect;
use tollgate_engine::status::{self, Status};

use super::{Halted, Pause, Progress, Stored, StoredHalt};

/// Completes what the user typed to `http://host:port`.
pub(super) fn base_url(typed: &str) -> Result<String, Failure> {
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
pub(super) fn admin_url(listen: Option<&str>) -> Result<String, String> {
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
pub(super) fn ask(url: &str, pipeline: &str) -> Result<Status, String> {
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

pub(super) fn read(url: &str, answer: &str, pipeline: &str) -> Result<Status, String> {
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

pub(super) async fn stored(pipeline: &Pipeline) -> Result<Stored, String> {
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
pub(super) fn ends(pipeline: &Pipeline) -> Result<BTreeMap<i32, i64>, String> {
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
