//! The engines that are measured. Each has the same job: one topic, one table, one dead letter topic.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of the engines, and treats all others alike"
)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, bail};
use sqlx::postgres::PgConnectOptions;

use crate::{DEAD_LETTERS, TOPIC};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// A tuned consumer with kafkajs, protobufjs, zod and pg: the one to beat.
    Node,
    /// `tollgate run` with the rules component, all limits on, and effectively-once delivery.
    Tollgate,
    /// [`Engine::Tollgate`] of another build, which `--against` names.
    Earlier,
    /// [`Engine::Tollgate`], which also produces every valid event to an output topic in the same transaction.
    TollgateOutput,
    /// [`Engine::Tollgate`] with a plain producer, to measure the cost of effectively-once delivery.
    AtLeastOnce,
    /// [`Engine::AtLeastOnce`] with an output topic.
    OutputAtLeastOnce,
    /// [`Engine::TollgateOutput`] in batches of [`SMALL`] events, to measure a commit.
    SmallBatches,
    /// [`Engine::Tollgate`] with [`TARGET`] as the latency target of its batches.
    LatencyTarget,
    /// The floor program, which shows the limit of the machine.
    Floor,
}

/// The number of events in a batch of [`Engine::SmallBatches`].
pub const SMALL: u32 = 1_000;

/// `delivery.batch.latency_target` of [`Engine::LatencyTarget`]: two thirds of the bound for its measured latency.
pub const TARGET: &str = "100ms";

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Engine::Node => "node",
            Engine::Tollgate => "tollgate",
            Engine::Earlier => "earlier",
            Engine::TollgateOutput => "tollgate-output",
            Engine::AtLeastOnce => "at-least-once",
            Engine::OutputAtLeastOnce => "output-at-least-once",
            Engine::SmallBatches => "small-batches",
            Engine::LatencyTarget => "latency-target",
            Engine::Floor => "floor",
        }
    }

    /// Returns whether the engine is `tollgate run`, in any configuration.
    pub fn is_tollgate(self) -> bool {
        !matches!(self, Engine::Node | Engine::Floor)
    }

    /// Returns whether valid events also go to [`Job::output`].
    pub fn outputs(self) -> bool {
        matches!(self, Engine::TollgateOutput | Engine::OutputAtLeastOnce | Engine::SmallBatches)
    }
}

/// The addresses of the servers and the paths of the engines' programs.
#[derive(Debug, Clone)]
pub struct Setting {
    pub brokers: String,
    pub database: String,
    /// Process ids, to measure the servers' share of the CPU.
    pub postmaster: u32,
    pub broker: u32,
    /// The built Node consumer; `None` leaves it out.
    pub node: Option<PathBuf>,
    pub tollgate: Option<Tollgate>,
    /// The program of [`Engine::Earlier`].
    pub earlier: Option<PathBuf>,
    pub floor: PathBuf,
    /// An existing folder for pipelines, logs and expectations.
    pub work: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Tollgate {
    pub program: PathBuf,
    pub component: PathBuf,
    /// The folder with the file of `payments.v1.PaymentEvent`.
    pub protos: PathBuf,
}

/// One start of an engine. Its names are new, so that it begins at the start of the topic.
#[derive(Debug, Clone)]
pub struct Job {
    pub group: String,
    pub topic: String,
    /// The topic to which an engine with an output produces the valid events.
    pub output: String,
    /// The number of events after which the engine is done.
    pub events: u64,
}

impl Job {
    /// Returns a job on the filled topic. `label` distinguishes the runs of one bench.
    pub fn drain(engine: Engine, label: &str, events: u64) -> Job {
        Job { topic: TOPIC.to_owned(), ..Job::named(engine, label, events) }
    }

    /// Returns a job on another topic than the filled one.
    pub fn on(engine: Engine, label: &str, topic: &str, events: u64) -> Job {
        Job { topic: topic.to_owned(), ..Job::named(engine, label, events) }
    }

    fn named(engine: Engine, label: &str, events: u64) -> Job {
        let group = format!("bench-{}-{label}", engine.name());
        Job { output: format!("{group}-output"), group, topic: String::new(), events }
    }
}

/// The command that runs the job, and the address of its metrics, if the engine has one.
pub struct Start {
    pub command: Command,
    /// `host:port` of /metrics, if the engine serves it.
    pub metrics: Option<String>,
}

/// Returns whether the engine ends by itself after the job's events. The others are stopped.
pub fn ends_by_itself(engine: Engine) -> bool {
    !engine.is_tollgate()
}

/// Prepares everything that is not part of the run itself, and returns the command.
pub fn prepare(engine: Engine, setting: &Setting, job: &Job) -> anyhow::Result<Start> {
    match engine {
        Engine::Node => node(setting, job),
        Engine::Floor => Ok(floor(setting, job)),
        _ => tollgate(engine, setting, job),
    }
}

fn node(setting: &Setting, job: &Job) -> anyhow::Result<Start> {
    let folder = setting.node.as_ref().context("there is no Node consumer to run")?;
    let database = PgConnectOptions::from_str(&setting.database)?;
    let mut command = Command::new("node");
    command.arg(folder.join("dist/consumer.js")).current_dir(folder);
    command.env("KAFKA_BROKERS", &setting.brokers).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
    command.env("PGHOST", database.get_host()).env("PGPORT", database.get_port().to_string());
    command.env("PG_USER", database.get_username()).env("PG_DB", database.get_database().unwrap_or("postgres"));
    command.env("TOPIC", &job.topic).env("DLQ", DEAD_LETTERS).env("GROUP", &job.group);
    command.env("EXPECT", job.events.to_string());
    Ok(Start { command, metrics: None })
}

fn floor(setting: &Setting, job: &Job) -> Start {
    let mut command = Command::new(&setting.floor);
    command.args(["--events", &job.events.to_string(), "--topic", &job.topic, "--group", &job.group]);
    command.args(["--brokers", &setting.brokers, "--database", &setting.database]);
    Start { command, metrics: None }
}

fn tollgate(engine: Engine, setting: &Setting, job: &Job) -> anyhow::Result<Start> {
    let tollgate = setting.tollgate.as_ref().context("there is no Tollgate to run")?;
    let program = match engine {
        Engine::Earlier => setting.earlier.as_ref().context("--against names no other build")?,
        _ => &tollgate.program,
    };
    let metrics = free_address()?;
    let file = setting.work.join(format!("{}.yaml", job.group));
    fs::write(&file, pipeline(engine, &tollgate.protos, &tollgate.component, job, &metrics))
        .with_context(|| format!("{} cannot be written", file.display()))?;
    let command = |verb: &str| {
        let mut command = Command::new(program);
        command.arg(verb).arg(&file).stdin(Stdio::null());
        command.env("KAFKA_BROKERS", &setting.brokers).env("DATABASE_URL", &setting.database);
        command
    };
    let made = command("setup").output().context("tollgate cannot be started")?;
    if !made.status.success() {
        bail!("`tollgate setup` failed: {}", String::from_utf8_lossy(&made.stderr).trim());
    }
    Ok(Start { command: command("run"), metrics: Some(metrics) })
}

/// Returns the pipeline of the bench. All keys that it does not set have their defaults, for example batches and
/// limits. The load has amounts in yen with decimals, so the rule against them is off for every engine.
pub fn pipeline(engine: Engine, protos: &Path, component: &Path, job: &Job, metrics: &str) -> String {
    let Job { group, topic, output: output_topic, .. } = job;
    let (protos, component) = (quoted(protos), quoted(component));
    let output = if engine.outputs() { format!("output: {{ topic: {output_topic} }}\n") } else { String::new() };
    let mode = match engine {
        Engine::AtLeastOnce | Engine::OutputAtLeastOnce => "at_least_once",
        _ => "effectively_once",
    };
    let batch = match engine {
        // At a fixed rate a batch waits until it is full.
        Engine::SmallBatches => format!(", batch: {{ max_events: {SMALL}, max_wait: 500ms }}"),
        Engine::LatencyTarget => format!(", batch: {{ latency_target: {TARGET} }}"),
        _ => String::new(),
    };
    format!(
        "pipeline: {group}
source: {{ brokers: \"${{KAFKA_BROKERS}}\", topic: {topic}, group_id: {group}, start: earliest }}
contract: {{ protos: {protos}, message: payments.v1.PaymentEvent }}
transforms:
  - {{ component: {component}, config: {{ check_minor_units: false }} }}
{output}dead_letter: {{ topic: {DEAD_LETTERS} }}
postgres:
  url: \"${{DATABASE_URL}}\"
  table: payment_events
  key: [transaction_id]
  columns:
    transaction_id: {{ field: transaction_id }}
    amount: {{ field: amount, as: \"numeric(18,2)\" }}
    currency: {{ field: currency }}
    status: {{ field: status, as: enum_name }}
    created_at: {{ field: created_at, as: unix_ms }}
    schema_version: {{ header: schema-version, as: int }}
delivery: {{ mode: {mode}{batch} }}
admin: {{ listen: \"{metrics}\" }}
"
    )
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(listener.local_addr()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_differs_by_its_output_alone() {
        let job = Job::drain(Engine::Tollgate, "1", 5);
        let [plain, with] = [Engine::Tollgate, Engine::TollgateOutput]
            .map(|engine| pipeline(engine, Path::new("proto"), Path::new("a b/c.wasm"), &job, "127.0.0.1:1"));
        assert!(plain.contains("group_id: bench-tollgate-1,") && plain.contains("component: \"a b/c.wasm\""));
        assert!(plain.contains("brokers: \"${KAFKA_BROKERS}\""));
        assert_eq!(with.replace("output: { topic: bench-tollgate-1-output }\n", ""), plain);
    }
}
