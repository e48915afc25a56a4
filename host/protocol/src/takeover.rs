//! Interprets the group's offset and the progress row for a takeover.

use crate::halt::Halt;
use crate::position::{CommitNumber, NextOffset};
use crate::resume::{CommitNumbers, Position, Resume};
use crate::token::{Group, Mark, Token, Writer};

/// The progress row of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub next: NextOffset,
    pub prev: NextOffset,
    pub number: CommitNumber,
    pub last: Last,
}

/// The form of the group's corresponding offset, according to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Last {
    /// It carries a token.
    Token,
    /// It is a hint for other tools: the last delivery was `at_least_once`, and the row alone counts.
    AtLeastOnce,
    /// The form is unknown: the row, or its last owner, is of a release without tokens.
    Unknown,
}

/// The group, cluster and topic that a partition's offsets belong to, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub group: Option<String>,
    pub cluster: Option<String>,
    pub topic: Option<String>,
}

/// The action that a takeover must take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Neither side has seen the partition: the start policy decides where to begin.
    Start,
    /// The group's offset must be committed, with a token, before the first batch: from then on a missing offset was
    /// lost, and an offset without a token was written by another client.
    Establish(Position),
    Resume(Position),
}

/// Compares the place stored in the progress row with this process's. Parts that one of them does not know are not
/// compared.
///
/// # Errors
/// Fails if the row belongs elsewhere, because its offsets are then meaningless here.
pub fn same_place(row: &Place, here: &Place) -> Result<(), Halt> {
    let differ = |was: &Option<String>, now: &Option<String>| match (was, now) {
        (Some(was), Some(now)) if was != now => Some((was.clone(), now.clone())),
        _ => None,
    };
    if let Some((was, now)) = differ(&row.cluster, &here.cluster) {
        return Err(Halt::OtherCluster { was, now });
    }
    if let Some((was, now)) = differ(&row.group, &here.group) {
        return Err(Halt::OtherGroup { was, now });
    }
    if let Some((was, now)) = differ(&row.topic, &here.topic) {
        return Err(Halt::TopicRecreated { was, now });
    }
    Ok(())
}

/// Implements the table of the crate's documentation, for a pipeline that delivers effectively once.
///
/// # Errors
/// Returns a state that no run of the protocol produces.
pub fn takeover(group: Option<&Group>, row: Option<Row>, here: &Writer) -> Result<Takeover, Halt> {
    match (group, row) {
        (None, None) => Ok(Takeover::Start),
        (_, Some(row)) if row.last == Last::AtLeastOnce => {
            Ok(Takeover::Establish(Position::level(row.next, row.number)))
        }
        (None, Some(row)) if row.prev == row.next => Ok(Takeover::Establish(Position::level(row.next, row.number))),
        (None, Some(row)) => Err(Halt::NoGroupOffset { row: row.next }),
        (Some(group), None) => {
            others(group, here)?;
            Err(Halt::NoProgress { group: group.next })
        }
        (Some(group), Some(row)) => {
            let token = others(group, here)?;
            match (row.last, token) {
                (Last::Unknown, _) => by_offsets(group.next, row),
                (_, Some(token)) => by_numbers(group.next, token.number, row),
                (_, None) => {
                    let metadata = group.mark.shown().to_owned();
                    Err(Halt::ForeignOffset { group: group.next, row: row.next, metadata })
                }
            }
        }
    }
}

/// Adopts, for `start: committed`, the offset of a group that another program has used so far, if there is no row yet.
///
/// # Errors
/// Fails if a Tollgate pipeline committed the offset, because its rows must then be checked.
pub fn adopt(group: &Group, here: &Writer) -> Result<Takeover, Halt> {
    match others(group, here)? {
        Some(_) => Err(Halt::NoProgress { group: group.next }),
        None => Ok(Takeover::Establish(Position::level(group.next, CommitNumber::FIRST))),
    }
}

/// Returns the token if it is ours, or `None` if there is none.
fn others<'g>(group: &'g Group, here: &Writer) -> Result<Option<&'g Token>, Halt> {
    let token = match &group.mark {
        Mark::Token(token) => token,
        Mark::Newer { format } => return Err(Halt::NewerToken { group: group.next, format: format.clone() }),
        Mark::Foreign { .. } => return Ok(None),
    };
    if token.writer.pipeline() != here.pipeline() {
        return Err(Halt::OtherPipeline { group: group.next, pipeline: token.writer.pipeline().to_owned() });
    }
    if let (Some(was), Some(now)) = (token.writer.cluster(), here.cluster())
        && was != now
    {
        return Err(Halt::OtherCluster { was: was.to_owned(), now: now.to_owned() });
    }
    if token.hi != group.next {
        return Err(Halt::CopiedToken { group: group.next, token: token.hi });
    }
    Ok(Some(token))
}

/// Decides by the commit numbers, which show the side with the later commit. The offsets must agree with them.
fn by_numbers(group: NextOffset, number: CommitNumber, row: Row) -> Result<Takeover, Halt> {
    let fits = if number == row.number {
        group == row.next
    } else if number == row.number.before() {
        (row.prev..=row.next).contains(&group)
    } else {
        number > row.number && group >= row.next
    };
    if !fits {
        return Err(Halt::GroupMoved { group, prev: row.prev, next: row.next });
    }
    let resume = Resume { rows: row.next, outputs: group };
    Ok(Takeover::Resume(Position { resume, numbers: CommitNumbers { rows: row.number, outputs: number } }))
}

/// Decides by the offsets, because there is no number to compare. The group's offset gets its token before the first
/// batch.
fn by_offsets(group: NextOffset, row: Row) -> Result<Takeover, Halt> {
    if group < row.prev {
        return Err(Halt::GroupMoved { group, prev: row.prev, next: row.next });
    }
    let outputs = match group.cmp(&row.next) {
        std::cmp::Ordering::Less => row.number.before(),
        std::cmp::Ordering::Equal => row.number,
        std::cmp::Ordering::Greater => row.number.next(),
    };
    let resume = Resume { rows: row.next, outputs: group };
    Ok(Takeover::Establish(Position { resume, numbers: CommitNumbers { rows: row.number, outputs } }))
}

/// Decides for `at_least_once`. The progress row still guards the rows, outputs were flushed before it moved, and the
/// group's offset is only a hint for other tools.
pub fn takeover_at_least_once(group: Option<NextOffset>, row: Option<Row>) -> Takeover {
    match (group, row) {
        (None, None) => Takeover::Start,
        (Some(group), None) => Takeover::Resume(Position::level(group, CommitNumber::FIRST)),
        (_, Some(row)) => Takeover::Resume(Position::level(row.next, row.number)),
    }
}

/// Interprets the group's offset for a lane that does not know the outcome of its own transaction: returns how far the
/// outputs reach, and the commit's number. `at` is its last known position, with the rows as they are now.
///
/// # Errors
/// Fails if neither the open commit nor the one before it wrote this offset. Unless another member has taken the
/// partition over meanwhile, a foreign client wrote it.
pub fn concluded(group: Option<&Group>, at: Position, here: &Writer) -> Result<(NextOffset, CommitNumber), Halt> {
    let Position { resume, numbers } = at;
    let Some(group) = group else { return Err(Halt::NoGroupOffset { row: resume.rows }) };
    let moved = || Halt::GroupMoved { group: group.next, prev: resume.begin(), next: resume.level() };
    let Some(token) = others(group, here)? else {
        let metadata = group.mark.shown().to_owned();
        return Err(Halt::ForeignOffset { group: group.next, row: resume.rows, metadata });
    };
    let found = (group.next, token.number);
    let before = (resume.outputs, numbers.outputs);
    let after = (resume.rows, numbers.rows);
    let cut_short = token.number == numbers.outputs && (resume.outputs..resume.rows).contains(&group.next);
    if found == before || found == after || cut_short { Ok(found) } else { Err(moved()) }
}

#[cfg(test)]
mod tests;
