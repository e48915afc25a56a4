//! Runs the engines in turn, round by round, and the oracle after every run.

use std::thread;
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};

use crate::engine::{Engine, Job, Setting};
use crate::oracle::{Truth, keys_md5};
use crate::recipe::Recipe;
use crate::run::{self, Cost, run};
use crate::table::{Latency, Table};
use crate::wire::Wire;
use crate::{DEAD_LETTERS, PARTITIONS, RATE_TOPIC, TOPIC, broker, load};

/// The seed of every load. The known hash of the table depends on it.
pub const SEED: u64 = 42;
/// The load of the latency runs, in events per second.
pub const RATE: u64 = 5_000;
/// The first seconds of a latency run do not count, because connections and caches are still cold.
const SKIP_S: u64 = 5;

/// The programs to run, and the number of repetitions.
#[derive(Debug, Clone)]
pub struct Plan {
    pub events: u64,
    pub rounds: usize,
    pub pairs: usize,
    /// The counted seconds of a latency run.
    pub latency_s: u64,
    pub patience: Duration,
    pub engines: Vec<Engine>,
}

/// A drain of the filled topic.
#[derive(Debug, Clone)]
pub struct Drain {
    pub engine: Engine,
    pub round: usize,
    pub events: u64,
    /// The seconds from the first to the last commit.
    pub seconds: f64,
    pub events_per_s: f64,
    pub cost: Cost,
}

impl Drain {
    pub fn cpu_us_per_event(&self) -> f64 {
        self.cost.cpu.total() * 1e6 / self.events as f64
    }

    pub fn to_json(&self) -> Value {
        let mut run = self.cost.to_json();
        run["engine"] = json!(self.engine.name());
        run["round"] = json!(self.round);
        run["seconds"] = json!(self.seconds);
        run["events_per_s"] = json!(self.events_per_s);
        run
    }
}

/// A run at a fixed rate.
#[derive(Debug, Clone)]
pub struct Paced {
    pub engine: Engine,
    pub pair: usize,
    /// The rate in events per second.
    pub rate: u64,
    pub latency: Latency,
    /// The number of ticks at which the load itself was late.
    pub late_ticks: u64,
    pub cost: Cost,
}

impl Paced {
    pub fn to_json(&self) -> Value {
        let mut run = self.cost.to_json();
        let Latency { rows, p50, p90, p99, p999, max } = self.latency;
        run["engine"] = json!(self.engine.name());
        run["pair"] = json!(self.pair);
        run["rows"] = json!(rows);
        for (name, value) in [("p50_ms", p50), ("p90_ms", p90), ("p99_ms", p99), ("p999_ms", p999), ("max_ms", max)] {
            run[name] = json!(value);
        }
        run["rate"] = json!(self.rate);
        run["late_ticks"] = json!(self.late_ticks);
        run
    }
}

/// Fills the topic and returns the result that is expected of the engines.
pub async fn fill(setting: &Setting, events: u64) -> anyhow::Result<Truth> {
    broker::recreate(&setting.brokers, TOPIC, PARTITIONS).await?;
    let mut recipe = Recipe::new(SEED);
    let sender = load::fill_sender(&setting.brokers, TOPIC)?;
    load::fill(&mut recipe, events, Some(&sender))?;
    sender.finish()?;
    Ok(Truth::of(&recipe))
}

/// Drains the filled topic once and compares the result with `truth`. `stamp` distinguishes the groups of this bench
/// from those of earlier ones.
pub async fn drain(
    engine: Engine,
    setting: &Setting,
    plan: &Plan,
    truth: &Truth,
    stamp: &str,
    round: usize,
) -> anyhow::Result<Drain> {
    let job = Job::drain(engine, &format!("{stamp}-drain-{round}"), plan.events);
    let mut table = reset(engine, setting, &job).await?;
    let cost = run(engine, setting, &job, plan.patience, |_| Ok(None))?;
    compare(engine, setting, &job, &mut table, truth).await?;
    let span = table.span().await?;
    let events = plan.events as f64 * span.share_after_first;
    Ok(Drain { engine, round, events: plan.events, seconds: span.seconds, events_per_s: events / span.seconds, cost })
}

/// Runs an engine once at `rate` events a second and compares the result with the events that were sent.
pub async fn paced(
    engine: Engine,
    setting: &Setting,
    plan: &Plan,
    stamp: &str,
    pair: usize,
    rate: u64,
) -> anyhow::Result<Paced> {
    let seconds = SKIP_S + plan.latency_s;
    let job = Job::on(engine, &format!("{stamp}-{rate}-{pair}"), RATE_TOPIC, rate * seconds);
    broker::recreate(&setting.brokers, RATE_TOPIC, PARTITIONS).await?;
    let mut table = reset(engine, setting, &job).await?;
    let mut recipe = Recipe::new(SEED).fresh(true);
    let mut late_ticks = 0;
    let cost = run(engine, setting, &job, plan.patience, |metrics| {
        let mut wire = Wire::connect(&setting.brokers, RATE_TOPIC, PARTITIONS)?;
        let metrics = metrics.map(str::to_owned);
        let skipped = thread::spawn(move || {
            thread::sleep(Duration::from_secs(SKIP_S));
            metrics.as_deref().map(run::read).transpose()
        });
        late_ticks = load::rate(&mut recipe, rate, seconds, &mut wire)?.late_ticks;
        skipped.join().map_err(|_| anyhow::anyhow!("the thread that reads the metrics panicked"))?
    })?;
    compare(engine, setting, &job, &mut table, &Truth::of(&recipe)).await?;
    let latency = table.latency(SKIP_S as f64).await?;
    Ok(Paced { engine, pair, rate, latency, late_ticks, cost })
}

async fn reset(engine: Engine, setting: &Setting, job: &Job) -> anyhow::Result<Table> {
    let mut table = Table::connect(&setting.database).await?;
    table.reset().await?;
    broker::recreate(&setting.brokers, DEAD_LETTERS, 1).await?;
    if engine.outputs() {
        broker::recreate(&setting.brokers, &job.output, PARTITIONS).await?;
    }
    Ok(table)
}

/// Compares a run with the expected result: the table byte by byte, each dead letter once, and one output for each
/// valid event.
async fn compare(engine: Engine, setting: &Setting, job: &Job, table: &mut Table, truth: &Truth) -> anyhow::Result<()> {
    let mut found = table.content().await?;
    let keys = broker::committed_keys(&setting.brokers, DEAD_LETTERS)?;
    found.dead_letters = keys.len() as u64;
    found.dead_letters_md5 = keys_md5(keys);
    let mut differences = truth.differences(&found);
    if engine.outputs() {
        let outputs = broker::committed_keys(&setting.brokers, &job.output)?.len() as u64;
        let valid = job.events - truth.dead_letters;
        if outputs != valid {
            differences.push(format!("outputs: found {outputs}, expected {valid}"));
        }
    }
    if !differences.is_empty() {
        bail!("the oracle disagrees with {} ({}): {}", engine.name(), job.group, differences.join("; "));
    }
    Ok(())
}
