//! What is counted of a batch that is through.

use std::collections::BTreeMap;

use super::Lane;
use super::decide::Verdict;
use crate::config::Routing;

impl Lane {
    /// Counts what became of a batch's events.
    pub(super) fn account(&self) {
        let metrics = &self.shared.metrics;
        let (mut fuel, mut dead) = (0, 0);
        let (mut pass, mut delete, mut drop) = (0, 0, 0);
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for decision in &self.decided.decisions {
            fuel += decision.fuel;
            match &decision.verdict {
                Verdict::Outputs(_) => pass += 1,
                Verdict::Delete => delete += 1,
                Verdict::Dropped => drop += 1,
                Verdict::Dead(reason) => {
                    dead += 1;
                    *counts.entry(("reject", &*reason.code)).or_default() += 1;
                }
            }
        }
        counts.extend([(("pass", ""), pass), (("delete", ""), delete), (("drop", ""), drop)]);
        metrics.verdicts(&counts);
        self.account_types();
        if let Some(versions) = &self.shared.pipeline.contract.versions {
            let counted = versions.deprecated.iter().zip(&self.decided.deprecated).filter(|(_, events)| **events > 0);
            for ((version, note), events) in counted {
                if metrics.deprecated(version, *events) {
                    tracing::warn!(version, note, "events of a deprecated version come in");
                }
            }
        }
        metrics.fuel(fuel);
        metrics.committed(&self.partitions.iter().map(|(p, o)| (*p, o.resume.rows)).collect::<Vec<_>>());
        self.shared.limit.count(self.decided.decisions.len(), dead);
    }

    /// The verdicts of each type, where the topic holds several.
    fn account_types(&self) {
        let types = &self.shared.pipeline.types;
        if self.shared.pipeline.contract.routing == Routing::Single {
            return;
        }
        let mut counts = vec![[0; 4]; types.len() + 1];
        for decision in &self.decided.decisions {
            let verdict = match decision.verdict {
                Verdict::Outputs(_) => 0,
                Verdict::Delete => 1,
                Verdict::Dropped => 2,
                Verdict::Dead(_) => 3,
            };
            counts[decision.kind.unwrap_or(types.len())][verdict] += 1;
        }
        let names = types.iter().map(|kind| kind.name.as_str()).chain([""]);
        for (name, counts) in names.zip(counts) {
            for (verdict, events) in ["pass", "delete", "drop", "reject"].into_iter().zip(counts) {
                self.shared.metrics.typed(name, verdict, events);
            }
        }
    }
}
