//! The figures of a bench, as JSON and as text: medians, ratios within a round, and their targets.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::rounds::{Drain, Paced};

/// The floor program's figure counts only if it is at least this multiple of Node's. Below that it is no measure of the
/// machine.
const FLOOR_COUNTS_FROM: f64 = 2.0;

/// The results of all measurements of a bench.
#[derive(Debug, Default)]
pub struct Report {
    pub machine: Value,
    pub drains: Vec<Drain>,
    pub paced: Vec<Paced>,
    /// The objects `contract`, `transform` and `sink`.
    pub micro: BTreeMap<String, Value>,
    /// Parts that were left out, with the reason.
    pub left_out: Vec<String>,
}

/// Returns the middle value, or the mean of the middle two for an even number of values, or `None` if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// Returns the median over the rounds of the value `of` a run of `engine`, divided by that of `other` in the same
/// round.
pub fn drain_ratio(drains: &[Drain], engine: Engine, other: Engine, of: impl Fn(&Drain) -> f64) -> Option<f64> {
    median(drains.iter().filter(|drain| drain.engine == engine).filter_map(|drain| {
        let beside = drains.iter().find(|beside| beside.engine == other && beside.round == drain.round)?;
        Some(of(drain) / of(beside))
    }))
}

/// Returns the median over the pairs of Tollgate's p99 ÷ Node's.
pub fn p99_vs_node(runs: &[Paced]) -> Option<f64> {
    median(runs.iter().filter(|run| run.engine == Engine::Tollgate).filter_map(|run| {
        let node = runs.iter().find(|node| node.engine == Engine::Node && node.pair == run.pair)?;
        Some(run.latency.p99 / node.latency.p99)
    }))
}

impl Report {
    fn drains_of(&self, engine: Engine) -> impl Iterator<Item = &Drain> {
        self.drains.iter().filter(move |d| d.engine == engine)
    }

    fn drain_median(&self, engine: Engine, of: impl Fn(&Drain) -> f64) -> Option<f64> {
        median(self.drains_of(engine).map(of))
    }

    /// Returns the median over the rounds of `engine` ÷ Node for the value `of` a run.
    fn drain_vs_node(&self, engine: Engine, of: impl Fn(&Drain) -> f64) -> Option<f64> {
        drain_ratio(&self.drains, engine, Engine::Node, of)
    }

    fn drain_vs_earlier(&self, of: impl Fn(&Drain) -> f64) -> Option<f64> {
        drain_ratio(&self.drains, Engine::Tollgate, Engine::Earlier, of)
    }

    fn paced_of(&self, engine: Engine) -> impl Iterator<Item = &Paced> {
        self.paced.iter().filter(move |p| p.engine == engine)
    }

    fn p99_vs_node(&self) -> Option<f64> {
        p99_vs_node(&self.paced)
    }

    fn drain_json(&self, engine: Engine) -> Value {
        json!({
            "vs_node_events_per_s": self.drain_vs_node(engine, |d| d.events_per_s),
            "vs_node_cpu": self.drain_vs_node(engine, |d| d.cost.cpu.total()),
            "events_per_s": self.drain_median(engine, |d| d.events_per_s),
            "cpu_us_per_event": self.drain_median(engine, Drain::cpu_us_per_event),
            "peak_rss_mb": self.drains_of(engine).map(|d| d.cost.peak_rss_mb).reduce(f64::max),
            "postgres_cpu_s": self.drain_median(engine, |d| d.cost.postgres_cpu),
            "pauses": self.drains_of(engine).filter_map(|d| d.cost.pauses).reduce(u64::saturating_add),
        })
    }

    fn limit_json(&self) -> Value {
        let vs_node = self.drain_vs_node(Engine::Floor, |d| d.events_per_s);
        let counts = vs_node.is_none_or(|v| v >= FLOOR_COUNTS_FROM);
        let measured = self.drain_median(Engine::Floor, |d| d.events_per_s);
        json!({
            "events_per_s": measured.filter(|_| counts),
            "measured_events_per_s": measured,
            "vs_node_events_per_s": vs_node,
            "cpu_us_per_event": self.drain_median(Engine::Floor, Drain::cpu_us_per_event),
        })
    }

    fn latency_json(&self, engine: Engine) -> Value {
        json!({
            "p50_ms": median(self.paced_of(engine).map(|p| p.latency.p50)),
            "p99_ms": median(self.paced_of(engine).map(|p| p.latency.p99)),
            "p999_ms": median(self.paced_of(engine).map(|p| p.latency.p999)),
            "cpu_s": median(self.paced_of(engine).map(|p| p.cost.cpu.total())),
        })
    }

    /// Returns each figure that has a bound: name, value, bound, and whether the bound is kept.
    pub fn targets(&self) -> Vec<(&'static str, f64, &'static str, bool)> {
        let tollgate = self.drain_json(Engine::Tollgate);
        let floor = self.limit_json();
        let figures = [
            ("drain.vs_node_events_per_s", tollgate["vs_node_events_per_s"].as_f64(), 1.5, true),
            ("drain.vs_node_cpu", tollgate["vs_node_cpu"].as_f64(), 1.0 / 3.0, false),
            ("drain.peak_rss_mb", tollgate["peak_rss_mb"].as_f64(), 300.0, false),
            ("drain.pauses", tollgate["pauses"].as_f64(), 0.0, false),
            ("latency_5k.vs_node_p99", self.p99_vs_node(), 1.0, false),
            ("limit.vs_node_events_per_s", floor["vs_node_events_per_s"].as_f64(), FLOOR_COUNTS_FROM, true),
        ];
        let bound = |name| match name {
            "drain.vs_node_events_per_s" => "at least 1.5",
            "drain.vs_node_cpu" => "at most 1/3",
            "drain.peak_rss_mb" => "at most 300",
            "drain.pauses" => "0",
            "latency_5k.vs_node_p99" => "at most 1",
            _ => "at least 2, or the floor does not count",
        };
        let judged = figures.into_iter().filter_map(|(name, value, limit, at_least)| {
            let value = value?;
            Some((name, value, bound(name), if at_least { value >= limit } else { value <= limit }))
        });
        judged.collect()
    }

    pub fn to_json(&self) -> Value {
        let mut out = json!({"command": "bench", "ok": true, "machine": self.machine, "left_out": self.left_out});
        if !self.drains.is_empty() {
            out["drain"] = self.drain_json(Engine::Tollgate);
            out["drain_with_output"] = self.drain_json(Engine::TollgateOutput);
            out["node"] = self.drain_json(Engine::Node);
            out["limit"] = self.limit_json();
            out["drain"]["vs_earlier_events_per_s"] = json!(self.drain_vs_earlier(|d| d.events_per_s));
            out["drain"]["vs_earlier_cpu"] = json!(self.drain_vs_earlier(|d| d.cost.cpu.total()));
            out["drain"]["runs"] = self.drains.iter().map(Drain::to_json).collect();
        }
        if !self.paced.is_empty() {
            let mut latency = self.latency_json(Engine::Tollgate);
            latency["vs_node_p99"] = json!(self.p99_vs_node());
            latency["node"] = self.latency_json(Engine::Node);
            latency["runs"] = self.paced.iter().map(Paced::to_json).collect();
            out["latency_5k"] = latency;
        }
        for (name, figures) in &self.micro {
            out[name.as_str()] = figures.clone();
        }
        let targets = self.targets().into_iter();
        out["targets"] = targets
            .map(|(name, value, bound, met)| json!({"name": name, "value": value, "bound": bound, "met": met}))
            .collect();
        out
    }

    fn write_drains(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let events = self.drains.first().map_or(0, |d| d.events);
        writeln!(
            out,
            "\ndrain of {events} payment events; first to last commit by PostgreSQL's clock, CPU of the whole process"
        )?;
        writeln!(
            out,
            "{:>5} {:<16} {:>9} {:>8} {:>7} {:>8} {:>8} {:>7} {:>7} {:>7} {:>6} {:>13}",
            "round",
            "engine",
            "events/s",
            "seconds",
            "CPU s",
            "us/event",
            "peak MB",
            "PG CPU",
            "broker",
            "other",
            "steal",
            "calibration"
        )?;
        for d in &self.drains {
            let c = &d.cost;
            writeln!(
                out,
                "{:>5} {:<16} {:>9.0} {:>8.2} {:>7.2} {:>8.2} {:>8.0} {:>7.2} {:>7.2} {:>7.2} {:>6.2} {:>6.0}/{:<6.0}{}",
                d.round,
                d.engine.name(),
                d.events_per_s,
                d.seconds,
                c.cpu.total(),
                d.cpu_us_per_event(),
                c.peak_rss_mb,
                c.postgres_cpu,
                c.broker_cpu,
                c.other_cpu,
                c.steal,
                c.calibration[0],
                c.calibration[1],
                if c.disturbed() { " disturbed" } else { "" }
            )?;
        }
        writeln!(
            out,
            "\n{:<22} {:>9} {:>8} {:>14} {:>9}",
            "median of the rounds", "events/s", "us/event", "÷ Node: speed", "CPU"
        )?;
        for engine in [Engine::Node, Engine::Earlier, Engine::Tollgate, Engine::TollgateOutput, Engine::Floor] {
            let Some(rate) = self.drain_median(engine, |d| d.events_per_s) else { continue };
            let cpu = self.drain_median(engine, Drain::cpu_us_per_event).unwrap_or(f64::NAN);
            let speed = self.drain_vs_node(engine, |d| d.events_per_s);
            let cost = self.drain_vs_node(engine, |d| d.cost.cpu.total());
            writeln!(out, "{:<22} {rate:>9.0} {cpu:>8.2} {:>14} {:>9}", engine.name(), ratio(speed), ratio(cost))?;
        }
        if let Some(speed) = self.drain_vs_earlier(|d| d.events_per_s) {
            let cost = self.drain_vs_earlier(|d| d.cost.cpu.total());
            writeln!(out, "tollgate ÷ earlier, median of the rounds: speed {speed:.3}, CPU {}", ratio(cost))?;
        }
        Ok(())
    }

    fn write_paced(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "\nlatency at 5,000 events/s: commit minus event time by PostgreSQL's clock, ms")?;
        writeln!(
            out,
            "{:>5} {:<16} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>6}",
            "pair", "engine", "p50", "p90", "p99", "p99.9", "max", "CPU s", "PG CPU", "steal"
        )?;
        for p in &self.paced {
            let (l, c) = (&p.latency, &p.cost);
            writeln!(
                out,
                "{:>5} {:<16} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>7.2} {:>7.2} {:>6.2}{}",
                p.pair,
                p.engine.name(),
                l.p50,
                l.p90,
                l.p99,
                l.p999,
                l.max,
                c.cpu.total(),
                c.postgres_cpu,
                c.steal,
                if c.disturbed() { " disturbed" } else { "" }
            )?;
        }
        writeln!(out, "p99 ÷ Node, median of the pairs: {}", ratio(self.p99_vs_node()))
    }
}

/// The report as text.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "machine: {}", self.machine)?;
        if !self.drains.is_empty() {
            self.write_drains(out)?;
        }
        if !self.paced.is_empty() {
            self.write_paced(out)?;
        }
        for (name, figures) in &self.micro {
            for (figure, value) in figures.as_object().into_iter().flatten() {
                writeln!(out, "{:<40} {value}", format!("{name}.{figure}"))?;
            }
        }
        for reason in &self.left_out {
            writeln!(out, "left out: {reason}")?;
        }
        for (name, value, bound, met) in self.targets() {
            writeln!(out, "{} {name:<34} {value:>10.3}  ({bound})", if met { "kept " } else { "MISSED" })?;
        }
        Ok(())
    }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
