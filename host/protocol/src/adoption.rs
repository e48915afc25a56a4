//! Decides what `tollgate offsets adopt` writes for a partition that cannot be taken over, and what that costs.

use std::ops::Range;

use crate::halt::Halt;
use crate::position::{CommitNumber, NextOffset};
use crate::resume::{CommitNumbers, Position, Resume};
use crate::takeover::{Row, Takeover};
use crate::token::{Group, Mark};

/// The offset at which a partition is to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The consumer group's committed offset.
    Group,
    /// The position of the rows.
    Progress,
    /// The offset that `source.start` selects.
    Start,
}

/// The known facts about a partition.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    pub group: Option<&'f Group>,
    pub row: Option<Row>,
    /// The first offset still in the topic.
    pub first: NextOffset,
    /// The offset after its last record.
    pub end: NextOffset,
    /// The offset that `source.start` selects.
    pub start: NextOffset,
}

/// An offset and the number of its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    pub next: NextOffset,
    pub number: CommitNumber,
}

/// The values to write. A side that is `None` stays unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    pub row: Option<Side>,
    pub token: Option<Side>,
    pub effects: Effects,
}

/// The cost of an adoption, as ranges of offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Offsets that will have no rows.
    pub rows_skipped: Option<Range<i64>>,
    /// Offsets whose rows are written again.
    pub rows_repeated: Option<Range<i64>>,
    /// Offsets that will have no outputs.
    pub outputs_skipped: Option<Range<i64>>,
    /// Offsets whose outputs are produced again.
    pub outputs_repeated: Option<Range<i64>>,
    /// Offsets whose outputs may or may not exist; they will not be produced.
    pub outputs_unsure: Option<Range<i64>>,
}

/// The reason why nothing can be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the consumer group has no committed offset to continue from; choose another position with --from")]
    NoGroupOffset,
    #[error("there is no progress row to continue from; choose another position with --from")]
    NoProgress,
    #[error("offset {at} is not in the topic, which has {first} to {end}; --from start begins at source.start")]
    NotInTopic { at: NextOffset, first: NextOffset, end: NextOffset },
}

/// Decides about a partition whose takeover would end in `verdict`. Returns `None` if it can continue unchanged.
///
/// # Errors
/// Fails if the requested offset does not exist.
pub fn adoption(facts: Facts<'_>, verdict: &Result<Takeover, Halt>, from: From) -> Result<Option<Adoption>, Refused> {
    let known = match verdict {
        Ok(Takeover::Start) => return Ok(None),
        Ok(Takeover::Resume(position) | Takeover::Establish(position)) => Some(*position),
        Err(_) => None,
    };
    match (known, from) {
        (Some(position), _) if in_topic(position.resume.begin(), facts) => Ok(None),
        (Some(position), From::Group | From::Progress) if position.resume.begin() < facts.first => {
            Ok(Some(past_the_gap(position, facts.first)))
        }
        _ => go_on(facts, known, from).map(Some),
    }
}

fn in_topic(at: NextOffset, facts: Facts<'_>) -> bool {
    (facts.first..=facts.end).contains(&at)
}

/// Handles records that were deleted before they were read. Each side moves forward to the first remaining offset, and
/// never back. If one side is already past it, the other side still gets what it lacks.
fn past_the_gap(position: Position, first: NextOffset) -> Adoption {
    let Position { resume, numbers } = position;
    let (rows, outputs) = (resume.rows.max(first), resume.outputs.max(first));
    let common = numbers.rows.max(numbers.outputs).next();
    let side = |from: NextOffset, to: NextOffset, own: CommitNumber| {
        let number = if rows == outputs { common } else { own };
        (to > from || rows == outputs).then_some(Side { next: to, number })
    };
    Adoption {
        row: side(resume.rows, rows, numbers.rows),
        token: side(resume.outputs, outputs, numbers.outputs),
        effects: Effects {
            rows_skipped: range(resume.rows, rows),
            outputs_skipped: range(resume.outputs, outputs),
            ..Effects::default()
        },
    }
}

/// Lets both sides continue at one offset.
fn go_on(facts: Facts<'_>, known: Option<Position>, from: From) -> Result<Adoption, Refused> {
    let Facts { group, row, first, end, start } = facts;
    let at = match from {
        From::Group => group.ok_or(Refused::NoGroupOffset)?.next,
        From::Progress => row.ok_or(Refused::NoProgress)?.next,
        From::Start => start,
    };
    if !in_topic(at, facts) {
        return Err(Refused::NotInTopic { at, first, end });
    }
    let numbers = [row.map(|row| row.number), number_of(group)];
    // The number is higher than every number in use, so that no other offset can be mistaken for the preceding
    // commit's.
    let number = numbers.into_iter().flatten().max().map_or(CommitNumber::FIRST, CommitNumber::next);
    let side = Side { next: at, number };
    Ok(Adoption { row: Some(side), token: Some(side), effects: effects(at, known, row) })
}

fn number_of(group: Option<&Group>) -> Option<CommitNumber> {
    match &group?.mark {
        Mark::Token(token) => Some(token.number),
        Mark::Newer { .. } | Mark::Foreign { .. } => None,
    }
}

fn effects(at: NextOffset, known: Option<Position>, row: Option<Row>) -> Effects {
    // Without a token it is unknown whether the last batch has its outputs.
    let outputs = match (known, row) {
        (Some(Position { resume: Resume { outputs, .. }, .. }), _) => Some((outputs, outputs)),
        (None, Some(row)) => Some((row.prev, row.next)),
        (None, None) => None,
    };
    let rows = known.map(|known| known.resume.rows).or(row.map(|row| row.next));
    let most = outputs.map(|(_, most)| most);
    Effects {
        rows_skipped: rows.and_then(|rows| range(rows, at)),
        rows_repeated: rows.and_then(|rows| range(at, rows)),
        outputs_skipped: most.and_then(|most| range(most, at)),
        outputs_repeated: most.and_then(|most| range(at, most)),
        outputs_unsure: outputs.and_then(|(least, most)| range(least, most.min(at))),
    }
}

fn range(from: NextOffset, to: NextOffset) -> Option<Range<i64>> {
    (from < to).then_some(from.get()..to.get())
}

impl Adoption {
    /// Returns where the partition continues, given the positions of the unchanged sides.
    pub fn position(&self, kept: Option<Position>) -> Option<Position> {
        let rows = self.row.or(kept.map(|kept| Side { next: kept.resume.rows, number: kept.numbers.rows }))?;
        let outputs =
            self.token.or(kept.map(|kept| Side { next: kept.resume.outputs, number: kept.numbers.outputs }))?;
        Some(Position {
            resume: Resume { rows: rows.next, outputs: outputs.next },
            numbers: CommitNumbers { rows: rows.number, outputs: outputs.number },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;
    use crate::takeover::{Last, takeover};
    use crate::token::{Token, Writer};

    fn writer() -> Writer {
        Writer::new("p", None)
    }

    fn row(prev: i64, next: i64, number: i64) -> Row {
        Row {
            next: NextOffset::new(next),
            prev: NextOffset::new(prev),
            number: CommitNumber::new(number),
            last: Last::Token,
        }
    }

    fn ours(at: i64, number: i64) -> Group {
        let next = NextOffset::new(at);
        let token =
            Token { writer: writer(), epoch: Epoch::new(1), lo: next, hi: next, number: CommitNumber::new(number) };
        Group { next, mark: Mark::Token(token) }
    }

    fn foreign(at: i64) -> Group {
        Group { next: NextOffset::new(at), mark: Mark::Foreign { shown: String::new() } }
    }

    /// Adopts, checks that the next takeover continues at the right position, and returns the cost.
    fn adopt(
        group: Option<&Group>,
        row: Option<Row>,
        topic: Range<i64>,
        from: From,
    ) -> Result<Option<Adoption>, Refused> {
        let facts = Facts {
            group,
            row,
            first: NextOffset::new(topic.start),
            end: NextOffset::new(topic.end),
            start: NextOffset::new(topic.start),
        };
        let verdict = takeover(group, row, &writer());
        let adoption = adoption(facts, &verdict, from)?;
        if let Some(adoption) = &adoption {
            let known = match verdict {
                Ok(Takeover::Resume(position) | Takeover::Establish(position)) => Some(position),
                _ => None,
            };
            let expected = adoption.position(known).unwrap();
            let row = adoption.row.map(|side| self::row(side.next.get(), side.next.get(), side.number.get())).or(row);
            let group = adoption.token.map(|side| ours(side.next.get(), side.number.get())).or(group.cloned());
            assert_eq!(takeover(group.as_ref(), row, &writer()), Ok(Takeover::Resume(expected)));
            if adoption.row.is_some() && adoption.token.is_some() {
                // Between the two writes the partition must not continue.
                let between = takeover(facts.group, row, &writer());
                let there = match &between {
                    Ok(Takeover::Resume(position) | Takeover::Establish(position)) => Some(position.resume),
                    _ => None,
                };
                assert!(between.is_err() || there == Some(expected.resume), "{between:?}");
            }
        }
        Ok(adoption)
    }

    fn costs(group: Option<&Group>, row: Option<Row>, from: From) -> Effects {
        adopt(group, row, 0..1_000, from).unwrap().unwrap().effects
    }

    #[test]
    fn a_moved_offset_is_followed_or_undone() {
        let last = Some(row(90, 100, 7));
        let skips = costs(Some(&foreign(150)), last, From::Group);
        assert_eq!(
            skips,
            Effects {
                rows_skipped: Some(100..150),
                outputs_skipped: Some(100..150),
                outputs_unsure: Some(90..100),
                ..Effects::default()
            }
        );
        let repeats = costs(Some(&foreign(40)), last, From::Group);
        let expected = Effects { rows_repeated: Some(40..100), outputs_repeated: Some(40..100), ..Effects::default() };
        assert_eq!(repeats, expected);
        let back = costs(Some(&foreign(150)), last, From::Progress);
        assert_eq!(back, Effects { outputs_unsure: Some(90..100), ..Effects::default() });
    }

    #[test]
    fn what_is_missing_on_one_side_is_taken_from_the_other() {
        let lost = costs(None, Some(row(90, 100, 7)), From::Progress);
        assert_eq!(lost, Effects { outputs_unsure: Some(90..100), ..Effects::default() });
        assert_eq!(costs(Some(&ours(100, 7)), None, From::Group), Effects::default());
        assert_eq!(adopt(None, Some(row(90, 100, 7)), 0..1_000, From::Group), Err(Refused::NoGroupOffset));
        assert_eq!(adopt(Some(&ours(9, 7)), None, 0..1_000, From::Progress), Err(Refused::NoProgress));
    }

    #[test]
    fn a_partition_that_can_go_on_is_left_alone() {
        for from in [From::Group, From::Progress, From::Start] {
            assert_eq!(adopt(Some(&ours(100, 7)), Some(row(90, 100, 7)), 0..1_000, from), Ok(None));
            assert_eq!(adopt(Some(&ours(90, 6)), Some(row(90, 100, 7)), 0..1_000, from), Ok(None));
            assert_eq!(adopt(None, None, 0..1_000, from), Ok(None));
        }
    }

    #[test]
    fn past_a_gap_no_side_moves_back() {
        let both = adopt(Some(&ours(100, 7)), Some(row(90, 100, 7)), 200..300, From::Group).unwrap().unwrap();
        let side = Side { next: NextOffset::new(200), number: CommitNumber::new(8) };
        assert_eq!((both.row, both.token), (Some(side), Some(side)));
        assert_eq!(both.effects.rows_skipped, Some(100..200));
        // The rows are past the gap, and the rest of the last batch still gets its outputs.
        let rows = adopt(Some(&ours(90, 6)), Some(row(90, 100, 7)), 95..300, From::Group).unwrap().unwrap();
        assert_eq!(
            (rows.row, rows.token),
            (None, Some(Side { next: NextOffset::new(95), number: CommitNumber::new(6) }))
        );
        assert_eq!(rows.effects, Effects { outputs_skipped: Some(90..95), ..Effects::default() });
        // PostgreSQL has lost commits, and the outputs are past the gap.
        let lost = adopt(Some(&ours(150, 9)), Some(row(90, 100, 7)), 120..300, From::Progress).unwrap().unwrap();
        assert_eq!(
            (lost.row, lost.token),
            (Some(Side { next: NextOffset::new(120), number: CommitNumber::new(7) }), None)
        );
        assert_eq!(lost.effects, Effects { rows_skipped: Some(100..120), ..Effects::default() });
    }

    #[test]
    fn an_offset_beyond_the_end_is_refused_and_the_start_policy_goes_on() {
        let beyond = adopt(Some(&foreign(150)), Some(row(90, 100, 7)), 0..20, From::Group);
        let refused =
            Refused::NotInTopic { at: NextOffset::new(150), first: NextOffset::new(0), end: NextOffset::new(20) };
        assert_eq!(beyond, Err(refused));
        let anew = adopt(Some(&ours(100, 7)), Some(row(90, 100, 7)), 0..20, From::Start).unwrap().unwrap();
        assert_eq!(anew.row, Some(Side { next: NextOffset::new(0), number: CommitNumber::new(8) }));
        assert_eq!(anew.effects.rows_repeated, Some(0..100));
    }
}
