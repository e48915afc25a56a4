//! The figures of the contract bench, as JSON and as text: medians, ratios within a round, and their bounds.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};

use serde_json::{Value, json};

use super::{EVENTS, Way};
use crate::report::median;

/// The number of columns of the longest bar.
const BAR: f64 = 40.0;

/// CPU nanoseconds per event for each way, measured one after the other.
#[derive(Debug, Clone, Default)]
pub struct Round(BTreeMap<&'static str, f64>);

impl Round {
    pub fn set(&mut self, way: Way, nanos: f64) {
        self.0.insert(way.name(), nanos);
    }

    fn get(&self, way: Way) -> Option<f64> {
        self.0.get(way.name()).copied()
    }
}

/// Everything that the contract bench measured.
#[derive(Debug)]
pub struct Figures {
    pub machine: Value,
    pub event_bytes: usize,
    pub rounds: Vec<Round>,
    /// Instructions per event by the name of the [`Way`]; empty if they were not counted.
    pub instructions: BTreeMap<&'static str, f64>,
}

/// A ratio with its bound.
struct Target {
    name: &'static str,
    value: Option<f64>,
    bound: f64,
    /// Whether the ratio must be at least the bound. Otherwise it must be at most the bound.
    at_least: bool,
}

impl Target {
    fn met(&self) -> Option<bool> {
        self.value.map(|value| if self.at_least { value >= self.bound } else { value <= self.bound })
    }

    fn words(&self) -> &'static str {
        if self.at_least { "at least" } else { "at most" }
    }
}

impl Figures {
    fn nanos(&self, way: Way) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.get(way)))
    }

    /// Returns the median over the rounds of one way's time divided by another's.
    fn ratio(&self, of: Way, by: Way) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| Some(round.get(of)? / round.get(by)?)))
    }

    fn targets(&self) -> [Target; 3] {
        let target = |name, value, bound, at_least| Target { name, value, bound, at_least };
        [
            target("vs_prost_decode", self.ratio(Way::Tollgate, Way::Prost), 1.5, false),
            target("vs_prost_reflect", self.ratio(Way::ProstReflect, Way::Tollgate), 3.0, true),
            target("vs_zod", self.ratio(Way::Zod, Way::Tollgate), 8.0, true),
        ]
    }

    fn left_out(&self) -> impl Iterator<Item = &'static str> {
        let node = self.nanos(Way::Zod).is_none().then_some("Node: the baseline is missing, so there is no vs_zod");
        let counts = self.instructions.is_empty();
        let counts = counts.then_some("instructions: valgrind is not there; `apt-get install valgrind` brings it");
        node.into_iter().chain(counts)
    }

    pub fn to_json(&self) -> Value {
        let each = |of: &dyn Fn(Way) -> Option<f64>| -> Value {
            Way::ALL.into_iter().map(|way| (way.name().to_owned(), json!(of(way)))).collect()
        };
        let mut out = json!({
            "command": "bench contract",
            "ok": true,
            "machine": self.machine,
            "events": EVENTS,
            "event_bytes": self.event_bytes,
            "ns_per_event": each(&|way| self.nanos(way)),
            "events_per_cpu_s": each(&|way| self.nanos(way).map(|nanos| (1e9 / nanos).round())),
            "rounds": self.rounds.iter().map(|round| json!(round.0)).collect::<Value>(),
            "instructions_per_event": each(&|way| self.instructions.get(way.name()).map(|count| count.round())),
            "left_out": self.left_out().collect::<Value>(),
        });
        let mut judged = Vec::new();
        for target in self.targets() {
            out[target.name] = json!(target.value);
            let bound = format!("{} {}", target.words(), target.bound);
            judged.extend(
                target.met().map(|met| json!({"name": target.name, "value": target.value, "bound": bound, "met": met})),
            );
        }
        out["targets"] = Value::Array(judged);
        out
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let (bytes, rounds) = (self.event_bytes, self.rounds.len());
        writeln!(out, "machine: {}", self.machine)?;
        writeln!(out, "payment event of {bytes} bytes, {EVENTS} distinct ones; CPU, median of {rounds} rounds\n")?;
        writeln!(out, "{:<34} {:>8} {:>13} {:>12}", "", "ns/event", "events/CPU s", "instructions")?;
        let longest = Way::ALL.into_iter().filter_map(|way| self.nanos(way)).fold(0.0, f64::max);
        for way in Way::ALL {
            let Some(nanos) = self.nanos(way) else { continue };
            let bar = bar(nanos / longest);
            let count = self.instructions.get(way.name()).map_or("–".to_owned(), |count| format!("{count:.0}"));
            writeln!(out, "{:<34} {nanos:>8.1} {:>13.0} {count:>12}  {bar}", way.title(), 1e9 / nanos)?;
        }
        writeln!(out)?;
        for target in self.targets() {
            let (Some(value), Some(met)) = (target.value, target.met()) else { continue };
            let verdict = if met { "kept " } else { "MISSED" };
            writeln!(out, "{verdict:<6} {:<18} {value:>7.2}  ({} {})", target.name, target.words(), target.bound)?;
        }
        self.left_out().try_for_each(|reason| writeln!(out, "left out: {reason}"))
    }
}

/// Returns a bar of blocks for a share of the longest bar; the last block has a resolution of one eighth.
fn bar(share: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let mut bar = String::new();
    let mut rest = share * BAR;
    while rest >= 1.0 {
        bar.push('█');
        rest -= 1.0;
    }
    let part = PARTS.iter().zip(1..).take_while(|(_, upper)| rest * 8.0 >= f64::from(*upper - 1)).last();
    bar.push_str(part.map_or("", |(part, _)| part));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rounds: &[&[(Way, f64)]]) -> Figures {
        let rounds = rounds.iter().map(|ways| {
            let mut round = Round::default();
            ways.iter().for_each(|(way, nanos)| round.set(*way, *nanos));
            round
        });
        let instructions = BTreeMap::from([("prost", 1_900.4)]);
        Figures { machine: Value::Null, event_bytes: 108, rounds: rounds.collect(), instructions }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine became half as fast after the first round.
        let slow = [(Way::Tollgate, 300.0), (Way::Prost, 200.0), (Way::ProstReflect, 1_200.0)];
        let figures = figures(&[&slow.map(|(way, nanos)| (way, nanos / 2.0)), &slow, &slow]);
        let json = figures.to_json();
        assert_eq!((json["vs_prost_decode"].as_f64(), json["vs_prost_reflect"].as_f64()), (Some(1.5), Some(4.0)));
        assert_eq!(json["ns_per_event"]["tollgate"], 300.0);
        assert_eq!(json["events_per_cpu_s"]["prost"], 5_000_000.0);
        assert!(json["targets"].as_array().unwrap().iter().all(|target| target["met"] == true), "{json}");
    }

    #[test]
    fn without_node_its_ratio_is_null_and_said_so() {
        let alone = figures(&[&[(Way::Tollgate, 300.0), (Way::Prost, 100.0)]]);
        let json = alone.to_json();
        assert!(json["vs_zod"].is_null() && json["left_out"][0].as_str().unwrap().starts_with("Node"));
        let text = alone.to_string();
        assert!(text.contains("MISSED vs_prost_decode") && text.contains("left out: Node"), "{text}");
        assert!(text.contains("10000000         1900"), "{text}");
        let uncounted = Figures { instructions: BTreeMap::new(), ..figures(&[&[(Way::Prost, 100.0)]]) };
        assert!(uncounted.to_string().contains("left out: instructions"), "{uncounted}");
        let with = figures(&[&[(Way::Tollgate, 100.0), (Way::Zod, 900.0)]]);
        assert_eq!(with.to_json()["vs_zod"], 9.0);
        assert!(with.to_json()["left_out"].as_array().unwrap().is_empty());
    }

    #[test]
    fn bars_are_in_proportion() {
        assert_eq!(bar(1.0), "█".repeat(40));
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1.5 / 40.0), "█▌");
    }
}
