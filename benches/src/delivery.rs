//! Measures the cost of the delivery guarantee: drains with and without it in turn, the time of a commit, and latencies
//! at a steady and at a high rate.

use std::fmt::{self, Formatter};

use serde_json::{Value, json};

use crate::engine::{Engine, SMALL, Setting, TARGET};
use crate::report::{drain_ratio, median, p99_vs_node};
use crate::rounds::{Drain, Paced, Plan, RATE, drain, fill, paced};
use crate::run::Cost;

/// The high rate, as a share of a drain's throughput.
const HIGH: f64 = 0.6;

/// The rate, in events per second, at which commits of [`SMALL`] events are measured: twenty commits a second with idle
/// cores between them.
const SMALL_RATE: u64 = 20_000;

/// The engines of a round.
const ROUND: [Engine; 5] =
    [Engine::Tollgate, Engine::AtLeastOnce, Engine::TollgateOutput, Engine::OutputAtLeastOnce, Engine::SmallBatches];

/// The results of all measurements.
#[derive(Debug)]
pub struct Delivery {
    pub machine: Value,
    pub drains: Vec<Drain>,
    /// Runs at [`RATE`], with Node if it is available.
    pub steady: Vec<Paced>,
    /// Runs at [`HIGH`], with batches of the default and with batches limited by [`TARGET`].
    pub high: Vec<Paced>,
    /// Runs at [`SMALL_RATE`].
    pub small: Vec<Paced>,
}

/// Runs all measurements, and compares the result of each run with the expected one.
///
/// # Errors
/// Fails if an engine fails or the oracle disagrees.
pub async fn measure(
    setting: &Setting,
    plan: &Plan,
    stamp: &str,
    machine: &Value,
    note: &dyn Fn(&str),
) -> anyhow::Result<Delivery> {
    let mut told = Delivery {
        machine: machine.clone(),
        drains: Vec::new(),
        steady: Vec::new(),
        high: Vec::new(),
        small: Vec::new(),
    };
    note(&format!("filling the topic with {} events", plan.events));
    let truth = fill(setting, plan.events).await?;
    for round in 1..=plan.rounds {
        // The order alternates between rounds, because a later engine finds a warmer machine.
        let mut engines = ROUND;
        if round % 2 == 0 {
            engines.reverse();
        }
        for engine in engines {
            note(&format!("drain, round {round} of {}: {}", plan.rounds, engine.name()));
            told.drains.push(drain(engine, setting, plan, &truth, stamp, round).await?);
        }
    }
    let node = setting.node.is_some().then_some(Engine::Node);
    let high = told.high_rate();
    for pair in 1..=plan.pairs {
        for engine in node.into_iter().chain([Engine::Tollgate]) {
            note(&format!("{RATE} events/s, pair {pair} of {}: {}", plan.pairs, engine.name()));
            told.steady.push(paced(engine, setting, plan, stamp, pair, RATE).await?);
        }
        let small = Engine::SmallBatches;
        note(&format!("{SMALL_RATE} events/s, {pair} of {}: {}", plan.pairs, small.name()));
        told.small.push(paced(small, setting, plan, stamp, pair, SMALL_RATE).await?);
        for engine in [Engine::Tollgate, Engine::LatencyTarget] {
            note(&format!("{high} events/s, {pair} of {}: {}", plan.pairs, engine.name()));
            told.high.push(paced(engine, setting, plan, stamp, pair, high).await?);
        }
    }
    Ok(told)
}

impl Delivery {
    fn rate(&self, engine: Engine) -> Option<f64> {
        median(self.drains.iter().filter(|drain| drain.engine == engine).map(|drain| drain.events_per_s))
    }

    /// Returns [`HIGH`] of the drains' throughput, in whole thousands.
    fn high_rate(&self) -> u64 {
        let thousands = self.rate(Engine::Tollgate).map_or(0.0, |rate| rate * HIGH / 1_000.0);
        format!("{thousands:.0}").parse::<u64>().unwrap_or_default().max(1) * 1_000
    }

    /// Returns by how many per cent the throughput of `engine` is below that of `plain` in the same round; the median
    /// of the rounds.
    fn cost_pct(&self, engine: Engine, plain: Engine) -> Option<f64> {
        drain_ratio(&self.drains, engine, plain, |drain| drain.events_per_s).map(|ratio| (1.0 - ratio) * 100.0)
    }

    /// Returns the 99th percentile of a commit of [`SMALL`] events during a drain.
    fn commit_drain_p99_ms(&self) -> Option<f64> {
        let small = self.drains.iter().filter(|drain| drain.engine == Engine::SmallBatches);
        median(small.filter_map(|drain| drain.cost.commit_p99_ms))
    }

    fn paced(&self) -> impl Iterator<Item = &Paced> {
        self.steady.iter().chain(&self.small).chain(&self.high)
    }

    fn p99(runs: &[Paced], engine: Engine) -> Option<f64> {
        median(runs.iter().filter(|run| run.engine == engine).map(|run| run.latency.p99))
    }

    /// Returns the figures by name, with their bounds.
    fn figures(&self) -> Vec<(&'static str, Option<f64>, Option<f64>)> {
        vec![
            ("guarantee_cost_pct", self.cost_pct(Engine::Tollgate, Engine::AtLeastOnce), Some(15.0)),
            ("guarantee_cost_with_output_pct", self.cost_pct(Engine::TollgateOutput, Engine::OutputAtLeastOnce), None),
            ("commit_p99_ms", median(self.small.iter().filter_map(|run| run.cost.commit_p99_ms)), Some(40.0)),
            ("commit_drain_p99_ms", self.commit_drain_p99_ms(), None),
            ("latency_5k_p99_ms", Delivery::p99(&self.steady, Engine::Tollgate), Some(60.0)),
            ("latency_5k_vs_node_p99", p99_vs_node(&self.steady), Some(1.0)),
            ("latency_60pct_p99_ms", Delivery::p99(&self.high, Engine::LatencyTarget), Some(145.0)),
            ("latency_60pct_default_p99_ms", Delivery::p99(&self.high, Engine::Tollgate), None),
        ]
    }

    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "command": "bench delivery", "ok": true, "machine": self.machine, "rate_60pct": self.high_rate(),
            "small_batch_events": SMALL, "latency_target": TARGET,
            "drains": self.drains.iter().map(Drain::to_json).collect::<Vec<_>>(),
            "latencies": self.paced().map(Paced::to_json).collect::<Vec<_>>(),
        });
        for (name, value, _) in self.figures() {
            out[name] = json!(value);
        }
        let judged = self.figures().into_iter().filter_map(|(name, value, bound)| Some((name, value?, bound?)));
        out["targets"] = judged
            .map(|(name, value, bound)| json!({"name": name, "value": value, "bound": bound, "met": value <= bound}))
            .collect();
        out
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "machine: {}", self.machine)?;
        writeln!(
            out,
            "\n{:>5} {:<22} {:>9} {:>7} {:>8} {:>13}",
            "round", "engine", "events/s", "CPU s", "PG CPU", "commit p99 ms"
        )?;
        for drain in &self.drains {
            let (cost, name) = (&drain.cost, drain.engine.name());
            let commit = commit(cost);
            let (rate, cpu, disturbed) = (drain.events_per_s, cost.cpu.total(), note(cost.disturbed()));
            writeln!(
                out,
                "{:>5} {name:<22} {rate:>9.0} {cpu:>7.2} {:>8.2} {commit:>13}{disturbed}",
                drain.round, cost.postgres_cpu
            )?;
        }
        writeln!(
            out,
            "\n{:>5} {:<14} {:>9} {:>8} {:>8} {:>8} {:>10} {:>13}",
            "pair", "engine", "events/s", "p50 ms", "p99", "p99.9", "late ticks", "commit p99 ms"
        )?;
        for run in self.paced() {
            let (latency, disturbed) = (&run.latency, note(run.cost.disturbed()));
            let commit = commit(&run.cost);
            writeln!(
                out,
                "{:>5} {:<14} {:>9} {:>8.1} {:>8.1} {:>8.1} {:>10} {commit:>13}{disturbed}",
                run.pair,
                run.engine.name(),
                run.rate,
                latency.p50,
                latency.p99,
                latency.p999,
                run.late_ticks
            )?;
        }
        writeln!(out)?;
        for (name, value, bound) in self.figures() {
            let Some(value) = value else {
                writeln!(out, "       {name:<34}          –")?;
                continue;
            };
            let (word, bound) = match bound {
                Some(bound) => (if value <= bound { "kept  " } else { "MISSED" }, format!("  (at most {bound})")),
                None => ("      ", String::new()),
            };
            writeln!(out, "{word} {name:<34} {value:>10.2}{bound}")?;
        }
        Ok(())
    }
}

fn commit(cost: &Cost) -> String {
    cost.commit_p99_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"))
}

fn note(disturbed: bool) -> &'static str {
    if disturbed { " disturbed" } else { "" }
}
