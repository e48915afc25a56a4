//! Counts the results of a completed batch.

use std::collections::BTreeMap;

use tollgate_contract::{Note, Policy};

use super::Lane;
use tollgate_config::Routing;
use tollgate_decide::verdict::Verdict;

impl Lane {
    /// Counts the results of a batch's events.
    pub(super) fn account(&self) {
        let metrics = &self.metrics;
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
        self.account_notices();
        for ((kind, place), events) in &self.decided.deprecated {
            let kind = &self.pipeline.types[*kind];
            let Some((version, note)) = kind.versions.as_ref().and_then(|known| known.deprecated.iter().nth(*place))
            else {
                continue;
            };
            if metrics.deprecated(&kind.name, version, *events) {
                let event_type = Some(kind.name.as_str()).filter(|name| !name.is_empty());
                tracing::warn!(event_type, version, note, "received events of a deprecated version");
            }
        }
        metrics.fuel(fuel);
        metrics.committed(&self.partitions.iter().map(|(p, o)| (*p, o.resume.rows)).collect::<Vec<_>>());
        self.brakes.limit.count(self.decided.decisions.len(), dead);
    }

    /// Counts events that were accepted with a warning; each warning is logged the first time.
    fn account_notices(&self) {
        let metrics = &self.metrics;
        let mut observed: BTreeMap<&str, u64> = BTreeMap::new();
        for decision in &self.decided.decisions {
            let Some(code) = decision.notice.as_ref().and_then(|notice| notice.code()) else { continue };
            if !matches!(decision.verdict, Verdict::Dead(_)) {
                *observed.entry(code).or_default() += 1;
            }
        }
        for (code, events) in observed {
            if metrics.observed(code, events) {
                tracing::warn!(code, "accepted an event that violates the contract (contract.mode: observe)");
            }
        }
        for Note { policy, type_name, member, count } in self.decided.notes.iter() {
            let member = member.to_string();
            if *policy == Policy::Coerce {
                metrics.coerced(type_name, &member, *count);
                continue;
            }
            let policy = policy.as_str();
            if metrics.noticed(policy, type_name, &member, *count) {
                tracing::warn!(
                    policy,
                    r#type = type_name,
                    member,
                    "received events with members or values that the contract does not have"
                );
            }
        }
    }

    /// Counts the verdicts of each type if the topic holds several.
    fn account_types(&self) {
        let types = &self.pipeline.types;
        if self.pipeline.contract.routing == Routing::Single {
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
                self.metrics.typed(name, verdict, events);
            }
        }
    }
}
