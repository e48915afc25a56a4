//! Counts dead letters by reason.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use indicatif::ProgressBar;
use rdkafka::message::{BorrowedMessage, Message as _};
use serde::Serialize;

use super::read::{header, read};
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_decide::dead_letter;

/// The maximum number of distinct reasons of transforms. A transform may invent any number of codes, which must not
/// fill the memory.
const REASONS: usize = 1_000;

/// The reason shown for records that Tollgate did not write.
pub const FOREIGN: &str = "(not written by tollgate)";
/// The reason shown for all reasons beyond the limit.
const OTHERS: &str = "(others)";

/// Dead letters with the same reason and transform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    pub reason: String,
    /// The transform that rejected the events, or `None` if it was the contract, the output or the table.
    pub transform: Option<String>,
    pub stage: String,
    pub count: u64,
    /// The time at which the first of them failed, in Unix milliseconds; the next field is that of the last one.
    pub first: i64,
    pub last: i64,
    /// The source coordinates of the first one: topic/partition/offset.
    pub example: String,
    pub field: Option<String>,
    pub message: String,
}

/// The facts in the headers of one dead letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    reason: String,
    transform: Option<String>,
    stage: String,
    at: i64,
    source: String,
    field: Option<String>,
    message: String,
}

impl Facts {
    fn of(letter: &BorrowedMessage<'_>) -> Facts {
        let text = |name: &str| header(letter, name).map(std::borrow::Cow::into_owned);
        let own = || format!("{}/{}/{}", letter.topic(), letter.partition(), letter.offset());
        let stamp = letter.timestamp().to_millis().unwrap_or_default();
        Facts {
            reason: text("tollgate.reason").unwrap_or_else(|| FOREIGN.to_owned()),
            transform: text("tollgate.transform"),
            stage: text("tollgate.stage").unwrap_or_default(),
            at: text("tollgate.first-failed-at").and_then(|at| at.parse().ok()).unwrap_or(stamp),
            source: text("tollgate.source").unwrap_or_else(own),
            field: text("tollgate.field"),
            message: text("tollgate.message").unwrap_or_default(),
        }
    }
}

/// The groups while the dead letters are counted.
#[derive(Debug, Default)]
struct Groups {
    groups: BTreeMap<(String, Option<String>), Group>,
    /// The number of groups with a transform's own code.
    invented: usize,
}

impl Groups {
    fn add(&mut self, facts: Facts) {
        let mut key = (facts.reason, facts.transform);
        // Tollgate's own codes are a fixed list, so only codes of transforms are limited.
        let invented = !dead_letter::is_builtin(&key.0);
        if invented && self.invented >= REASONS && !self.groups.contains_key(&key) {
            key = (OTHERS.to_owned(), None);
        } else if invented && !self.groups.contains_key(&key) {
            self.invented += 1;
        }
        let at = facts.at;
        let group = self.groups.entry(key).or_insert_with_key(|(reason, transform)| Group {
            reason: reason.clone(),
            transform: transform.clone(),
            stage: facts.stage,
            count: 0,
            first: at,
            last: at,
            example: facts.source,
            field: facts.field,
            message: facts.message,
        });
        group.count += 1;
        group.first = group.first.min(at);
        group.last = group.last.max(at);
    }

    /// Returns the groups, most frequent first.
    fn sorted(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        groups
    }
}

/// Counts all dead letters by reason, or only those with `reason`. Returns the most frequent first.
///
/// # Errors
/// Fails as [`read`] does.
pub fn groups(
    pipeline: &Pipeline,
    reason: Option<&str>,
    since: Option<i64>,
    bar: &ProgressBar,
) -> Result<Vec<Group>, Failure> {
    let mut groups = Groups::default();
    read(pipeline, since, bar, |letter| {
        let facts = Facts::of(letter);
        if reason.is_none_or(|reason| reason == facts.reason) {
            groups.add(facts);
        }
        ControlFlow::Continue(())
    })?;
    Ok(groups.sorted())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(reason: &str, transform: Option<&str>, at: i64) -> Facts {
        let source = format!("payments/0/{at}");
        Facts { reason: reason.into(), transform: transform.map(Into::into), at, source, ..Facts::default() }
    }

    #[test]
    fn letters_are_counted_by_reason_and_transform() {
        let mut groups = Groups::default();
        for facts in [
            facts("undecodable", None, 20),
            facts("amount", Some("rules"), 7),
            facts("undecodable", None, 10),
            facts("undecodable", None, 30),
            facts("amount", Some("risk"), 8),
        ] {
            groups.add(facts);
        }
        let groups = groups.sorted();
        let seen: Vec<_> = groups.iter().map(|g| (g.reason.as_str(), g.transform.as_deref(), g.count)).collect();
        assert_eq!(seen, [("undecodable", None, 3), ("amount", Some("risk"), 1), ("amount", Some("rules"), 1)]);
        assert_eq!((groups[0].first, groups[0].last, groups[0].example.as_str()), (10, 30, "payments/0/20"));
    }

    #[test]
    fn invented_codes_do_not_fill_the_memory() {
        let mut groups = Groups::default();
        for code in 0..5_000 {
            groups.add(facts(&format!("code-{code}"), Some("odd"), code));
        }
        groups.add(facts("fuel-exhausted", Some("odd"), 9));
        let groups = groups.sorted();
        assert!(
            groups.iter().any(|group| group.reason == "fuel-exhausted"),
            "a reason of Tollgate's own is never merged into the others"
        );
        assert_eq!(groups.len(), REASONS + 2);
        assert_eq!((groups[0].reason.as_str(), groups[0].count), (OTHERS, 4_000));
        assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 5_001);
    }
}
