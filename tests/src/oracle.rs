//! Checks the guarantee by reading only Kafka and PostgreSQL.
//!
//! The verdict of each record of a load ([`crate::load`]) is known from its coordinates. Therefore:
//! - The table has each valid record once: one row for its coordinates, whose `add: 1` column is 1, and nothing else.
//! - A reader of committed records finds each source coordinate exactly once, valid ones in the output and others among
//!   the dead letters, and no transaction is left open.
//! - The same revision decided row and output: the payload's number, the header's number, and the digest agree.
//! - K = D = end: the group's committed offset, `tollgate.progress.next_off`, and the offset after the last record are
//!   equal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sqlx::Row as _;

use crate::case::Case;
use crate::load::{Kind, kind};

/// The number of examples that are shown for each violation.
const EXAMPLES: usize = 5;

/// The number of rows that are read at a time: a long load has millions.
const ROWS: usize = 100_000;

/// A record for which row and output disagree.
pub const DISAGREEING: &str = "row and output disagree";

/// The violations by name, each with its first examples and its total count.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Violations(BTreeMap<&'static str, (usize, Vec<String>)>);

impl Violations {
    fn add(&mut self, name: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(name).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of violations with another name.
    pub fn others(&self, name: &str) -> usize {
        self.0.iter().filter(|(found, _)| **found != name).map(|(_, (count, _))| count).sum()
    }

    /// Returns how often this violation was found.
    pub fn count(&self, name: &str) -> usize {
        self.0.get(name).map_or(0, |(count, _)| *count)
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (count, examples)) in &self.0 {
            writeln!(f, "{name}: {count}, for instance")?;
            examples.iter().try_for_each(|example| writeln!(f, "  {example}"))?;
        }
        Ok(())
    }
}

/// The results of one record in the table and in the topics.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// The sum of the `add: 1` column over its rows.
    pub rows: i64,
    pub outputs: u32,
    pub letters: u32,
    /// The revision number and the digest of row and output.
    pub row: Option<(u32, Arc<str>)>,
    pub output: Option<(u32, Arc<str>)>,
    /// The header `revision` of the output.
    pub header: Option<u32>,
}

/// Returns every source record's fate as `fates[partition][offset]`. Effects of coordinates that do not exist are
/// violations.
pub fn fates(case: &Case, ends: &[i64], found: &mut Violations) -> Vec<Vec<Fate>> {
    let count = |end: &i64| usize::try_from(*end).unwrap();
    let mut fates: Vec<Vec<Fate>> = ends.iter().map(|end| vec![Fate::default(); count(end)]).collect();
    let mut digests = Digests::default();
    let mut last = (-1, -1);
    loop {
        let (partition, offset) = last;
        let rows = case.database.rows(&format!(
            "SELECT p::int, o, n, revision::int, digest FROM seen WHERE (p, o) > ({partition}, {offset})
             ORDER BY p, o LIMIT {ROWS}"
        ));
        for row in &rows {
            let (partition, offset): (i32, i64) = (row.get(0), row.get(1));
            last = (partition, offset);
            match fate(&mut fates, partition, offset) {
                Some(fate) => {
                    fate.rows += row.get::<i64, _>(2);
                    let revision = row.get::<Option<i32>, _>(3).and_then(|number| number.try_into().ok());
                    fate.row = Some((revision.unwrap_or(0), digests.one(row.get(4))));
                }
                None => found.add("row of no record", || format!("{partition}/{offset}")),
            }
        }
        if rows.len() < ROWS {
            break;
        }
    }
    let mut unknown = Vec::new();
    case.kafka.scan(&case.output(), |letter| {
        let (partition, offset) = letter.source();
        let Some(fate) = fate(&mut fates, partition, offset) else { return unknown.push((partition, offset)) };
        fate.outputs += 1;
        fate.header = letter.header("revision").and_then(|text| text.parse().ok());
        let digest = digests.one(letter.header("tollgate.digest").unwrap_or_default());
        fate.output = Some((revision_of(letter.value.as_deref().unwrap_or_default()), digest));
    });
    case.kafka.scan(&case.dead(), |letter| {
        let (partition, offset) = letter.source();
        match fate(&mut fates, partition, offset) {
            Some(fate) => fate.letters += 1,
            None => unknown.push((partition, offset)),
        }
    });
    for (partition, offset) in unknown {
        found.add("record of no record", || format!("{partition}/{offset}"));
    }
    fates
}

/// Keeps each digest once: a load has millions of records and some tens of revisions.
#[derive(Default)]
struct Digests(BTreeSet<Arc<str>>);

impl Digests {
    fn one(&mut self, digest: &str) -> Arc<str> {
        if let Some(known) = self.0.get(digest) {
            return Arc::clone(known);
        }
        let new: Arc<str> = digest.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

fn fate(fates: &mut [Vec<Fate>], partition: i32, offset: i64) -> Option<&mut Fate> {
    fates.get_mut(usize::try_from(partition).ok()?)?.get_mut(usize::try_from(offset).ok()?)
}

/// Returns the revision of a payload. The guest appends field 5 as the last two bytes.
fn revision_of(payload: &[u8]) -> u32 {
    match payload {
        [.., 0x28, revision] => (*revision).into(),
        _ => 0,
    }
}

/// Checks the whole guarantee for a load that ended at `ends`. The engine must have ended.
pub fn check(case: &Case, ends: &[i64]) -> Violations {
    let mut found = Violations::default();
    let fates = fates(case, ends, &mut found);
    for (partition, fates) in fates.iter().enumerate() {
        for (offset, fate) in fates.iter().enumerate() {
            let valid = kind(i64::try_from(offset).unwrap()) == Kind::Valid;
            let at = || format!("{partition}/{offset}: {fate:?}");
            let named = match (fate.rows, i64::from(valid)) {
                (is, should) if is < should => Some("lost row"),
                (is, should) if is > should => Some("row counted again"),
                _ => None,
            };
            named.into_iter().for_each(|name| found.add(name, at));
            let named = match (fate.outputs + fate.letters, if valid { fate.outputs } else { fate.letters }) {
                (1, 1) => None,
                (1, _) => Some("wrong exit"),
                (0, _) => Some("lost record"),
                _ => Some("record produced again"),
            };
            named.into_iter().for_each(|name| found.add(name, at));
            if let (Some(row), Some(output)) = (&fate.row, &fate.output)
                && (row != output || fate.header != Some(row.0))
            {
                found.add(DISAGREEING, at);
            }
        }
    }
    positions(case, ends, &mut found);
    found
}

/// Checks that K = D = end, and that no transaction is open.
fn positions(case: &Case, ends: &[i64], found: &mut Violations) {
    let broker = case.kafka.ends(&case.source(), "read_uncommitted");
    if broker != ends {
        found.add("end of the topic", || format!("{broker:?} on the broker, {ends:?} produced"));
    }
    let wanted: Vec<Option<i64>> = ends.iter().copied().map(Some).collect();
    let partitions = i32::try_from(ends.len()).unwrap();
    let group = case.kafka.committed(&case.name, &case.source(), partitions).unwrap();
    if group != wanted {
        found.add("committed offset", || format!("{group:?} committed, the ends are {ends:?}"));
    }
    let rows = case.database.rows("SELECT next_off FROM tollgate.progress ORDER BY partition");
    let rows: Vec<Option<i64>> = rows.iter().map(|row| row.get(0)).collect();
    if rows != wanted {
        found.add("progress row", || format!("{rows:?} in tollgate.progress, the ends are {ends:?}"));
    }
    for topic in [case.output(), case.dead()] {
        let (stable, all) = (case.kafka.ends(&topic, "read_committed"), case.kafka.ends(&topic, "read_uncommitted"));
        if stable != all {
            found.add("open transaction", || format!("{topic}: readers are held at {stable:?} of {all:?}"));
        }
    }
}
