//! Tests every line of the takeover table.

use super::*;
use crate::position::Epoch;

const HERE: &str = "payments";
const CLUSTER: &str = "cluster-1";

fn here() -> Writer {
    Writer::new(HERE, Some(CLUSTER))
}

fn row(prev: i64, next: i64, number: i64) -> Row {
    Row {
        next: NextOffset::new(next),
        prev: NextOffset::new(prev),
        number: CommitNumber::new(number),
        last: Last::Token,
    }
}

fn by(pipeline: &str, cluster: Option<&str>, offset: i64, hi: i64, number: i64) -> Group {
    let writer = Writer::new(pipeline, cluster);
    let token = Token {
        writer,
        epoch: Epoch::new(3),
        lo: NextOffset::new(0),
        hi: NextOffset::new(hi),
        number: CommitNumber::new(number),
    };
    Group { next: NextOffset::new(offset), mark: Mark::Token(token) }
}

fn ours(offset: i64, number: i64) -> Group {
    by(HERE, Some(CLUSTER), offset, offset, number)
}

fn foreign(offset: i64) -> Group {
    Group { next: NextOffset::new(offset), mark: Mark::Foreign { shown: "app".into() } }
}

fn take(group: &Group, row: Row) -> Result<Takeover, Halt> {
    takeover(Some(group), Some(row), &here())
}

fn position(rows: (i64, i64), outputs: (i64, i64)) -> Position {
    let resume = Resume { rows: NextOffset::new(rows.0), outputs: NextOffset::new(outputs.0) };
    Position {
        resume,
        numbers: CommitNumbers { rows: CommitNumber::new(rows.1), outputs: CommitNumber::new(outputs.1) },
    }
}

fn moved(group: i64, prev: i64, next: i64) -> Result<Takeover, Halt> {
    Err(Halt::GroupMoved { group: NextOffset::new(group), prev: NextOffset::new(prev), next: NextOffset::new(next) })
}

#[test]
fn every_line_of_the_takeover_table() {
    let resume = |rows, outputs| Ok(Takeover::Resume(position(rows, outputs)));
    assert_eq!(takeover(None, None, &here()), Ok(Takeover::Start));
    assert_eq!(take(&ours(20, 5), row(10, 20, 5)), resume((20, 5), (20, 5)));
    assert_eq!(take(&ours(10, 4), row(10, 20, 5)), resume((20, 5), (10, 4)));
    assert_eq!(take(&ours(15, 4), row(10, 20, 5)), resume((20, 5), (15, 4)), "a repeat that was cut short");
    assert_eq!(take(&ours(20, 4), row(20, 20, 5)), resume((20, 5), (20, 4)), "a commit that moved no offset");
    assert_eq!(take(&ours(30, 6), row(10, 20, 5)), resume((20, 5), (30, 6)), "PostgreSQL lost a commit");
    assert_eq!(take(&ours(20, 6), row(10, 20, 5)), resume((20, 5), (20, 6)), "and one that moved no offset");
    assert_eq!(take(&ours(10, 3), row(10, 20, 5)), moved(10, 10, 20), "two commits back");
    assert_eq!(take(&ours(9, 4), row(10, 20, 5)), moved(9, 10, 20));
    assert_eq!(take(&ours(21, 4), row(10, 20, 5)), moved(21, 10, 20));
    assert_eq!(take(&ours(19, 5), row(10, 20, 5)), moved(19, 10, 20), "the same commit elsewhere");
    assert_eq!(take(&ours(19, 7), row(10, 20, 5)), moved(19, 10, 20), "a later commit before the row");
}

#[test]
fn what_is_missing_on_one_side() {
    let first = Row { next: NextOffset::new(7), ..row(7, 7, 1) };
    assert_eq!(takeover(None, Some(first), &here()), Ok(Takeover::Establish(position((7, 1), (7, 1)))));
    let none = takeover(None, Some(row(10, 20, 5)), &here());
    assert_eq!(none, Err(Halt::NoGroupOffset { row: NextOffset::new(20) }));
    for group in [ours(5, 3), foreign(5)] {
        assert_eq!(takeover(Some(&group), None, &here()), Err(Halt::NoProgress { group: NextOffset::new(5) }));
    }
}

#[test]
fn an_offset_that_somebody_else_committed_halts_wherever_it_lies() {
    for offset in [0, 10, 15, 20, 150] {
        let halt =
            Halt::ForeignOffset { group: NextOffset::new(offset), row: NextOffset::new(20), metadata: "app".into() };
        assert_eq!(take(&foreign(offset), row(10, 20, 5)), Err(halt));
        let other = Halt::OtherPipeline { group: NextOffset::new(offset), pipeline: "refunds".into() };
        assert_eq!(take(&by("refunds", Some(CLUSTER), offset, offset, 5), row(10, 20, 5)), Err(other));
        let mirrored = Halt::OtherCluster { was: "cluster-2".into(), now: CLUSTER.into() };
        assert_eq!(take(&by(HERE, Some("cluster-2"), offset, offset, 5), row(10, 20, 5)), Err(mirrored));
        let newer = Group { next: NextOffset::new(offset), mark: Mark::Newer { format: "tollgate/2".into() } };
        let halt = Halt::NewerToken { group: NextOffset::new(offset), format: "tollgate/2".into() };
        assert_eq!(take(&newer, row(10, 20, 5)), Err(halt));
    }
    let copied = Halt::CopiedToken { group: NextOffset::new(17), token: NextOffset::new(20) };
    assert_eq!(take(&by(HERE, Some(CLUSTER), 17, 20, 5), row(10, 20, 5)), Err(copied));
}

#[test]
fn a_broker_that_does_not_say_its_cluster_is_believed() {
    assert!(take(&by(HERE, None, 20, 20, 5), row(10, 20, 5)).is_ok());
    let unknown = Writer::new(HERE, None);
    assert!(takeover(Some(&ours(20, 5)), Some(row(10, 20, 5)), &unknown).is_ok());
}

#[test]
fn an_older_release_is_judged_by_its_offsets_and_gets_a_token() {
    let old = |prev, next| Row { last: Last::Unknown, ..row(prev, next, 5) };
    let establish = |rows, outputs| Ok(Takeover::Establish(position(rows, outputs)));
    assert_eq!(take(&foreign(20), old(10, 20)), establish((20, 5), (20, 5)));
    assert_eq!(take(&foreign(10), old(10, 20)), establish((20, 5), (10, 4)));
    assert_eq!(take(&foreign(30), old(10, 20)), establish((20, 5), (30, 6)));
    assert_eq!(take(&foreign(9), old(10, 20)), moved(9, 10, 20));
    // A newer release wrote the token. Since then an older one has moved the row without changing its number.
    assert_eq!(take(&ours(10, 5), old(10, 20)), establish((20, 5), (10, 4)));
    assert!(take(&by("refunds", None, 20, 20, 5), old(10, 20)).is_err(), "another pipeline stays another pipeline");
}

#[test]
fn after_at_least_once_the_row_alone_counts() {
    let row = Row { last: Last::AtLeastOnce, ..row(10, 20, 5) };
    for group in [None, Some(foreign(3)), Some(foreign(30)), Some(ours(10, 2))] {
        let found = takeover(group.as_ref(), Some(row), &here());
        assert_eq!(found, Ok(Takeover::Establish(position((20, 5), (20, 5)))));
    }
}

#[test]
fn start_committed_adopts_what_another_program_left_and_no_pipelines_offset() {
    assert_eq!(adopt(&foreign(17), &here()), Ok(Takeover::Establish(position((17, 1), (17, 1)))));
    assert_eq!(adopt(&ours(17, 4), &here()), Err(Halt::NoProgress { group: NextOffset::new(17) }));
    assert!(matches!(adopt(&by("refunds", None, 17, 17, 4), &here()), Err(Halt::OtherPipeline { .. })));
}

#[test]
fn at_least_once_trusts_the_row_before_the_group() {
    let resume = |offset, number| Takeover::Resume(Position::level(NextOffset::new(offset), CommitNumber::new(number)));
    assert_eq!(takeover_at_least_once(None, None), Takeover::Start);
    assert_eq!(takeover_at_least_once(Some(NextOffset::new(9)), Some(row(10, 20, 5))), resume(20, 5));
    assert_eq!(takeover_at_least_once(Some(NextOffset::new(9)), None), resume(9, 1));
}

#[test]
fn a_lane_believes_only_the_offset_before_and_after_its_open_commit() {
    let asked = |group: Option<&Group>, at| concluded(group, at, &here());
    let undecided = position((10, 4), (10, 4));
    assert_eq!(asked(Some(&ours(10, 4)), undecided), Ok((NextOffset::new(10), CommitNumber::new(4))));
    let decided = position((20, 5), (10, 4));
    assert_eq!(asked(Some(&ours(10, 4)), decided), Ok((NextOffset::new(10), CommitNumber::new(4))));
    assert_eq!(asked(Some(&ours(20, 5)), decided), Ok((NextOffset::new(20), CommitNumber::new(5))));
    assert_eq!(
        asked(Some(&ours(15, 4)), decided),
        Ok((NextOffset::new(15), CommitNumber::new(4))),
        "a repeat that was cut short"
    );
    let lost = position((20, 5), (60, 8));
    assert_eq!(asked(Some(&ours(60, 8)), lost), Ok((NextOffset::new(60), CommitNumber::new(8))));
    for wrong in [ours(20, 5), ours(9, 3), ours(11, 4), foreign(10)] {
        assert!(asked(Some(&wrong), undecided).is_err(), "{wrong:?}");
    }
    assert_eq!(asked(None, undecided), Err(Halt::NoGroupOffset { row: NextOffset::new(10) }));
}

#[test]
fn what_the_row_remembers_of_its_place_must_be_here() {
    let place = |group: &str, cluster: &str, topic: &str| Place {
        group: Some(group.into()),
        cluster: Some(cluster.into()),
        topic: Some(topic.into()),
    };
    let here = place("g", "c", "t");
    let differ = |was: &str, now: &str| (was.to_owned(), now.to_owned());
    assert_eq!(same_place(&here, &here), Ok(()));
    assert_eq!(same_place(&Place::default(), &here), Ok(()), "an older release remembered nothing");
    assert_eq!(same_place(&here, &Place { topic: None, ..here.clone() }), Ok(()), "the broker does not say");
    let (was, now) = differ("x", "g");
    assert_eq!(same_place(&place("x", "c", "t"), &here), Err(Halt::OtherGroup { was, now }));
    let (was, now) = differ("x", "c");
    assert_eq!(same_place(&place("g", "x", "x"), &here), Err(Halt::OtherCluster { was, now }));
    let (was, now) = differ("x", "t");
    assert_eq!(same_place(&place("g", "c", "x"), &here), Err(Halt::TopicRecreated { was, now }));
}

#[test]
fn every_halt_has_a_code_of_its_own() {
    let offset = NextOffset::new(1);
    let text = String::new;
    let all = [
        Halt::NoProgress { group: offset },
        Halt::NoGroupOffset { row: offset },
        Halt::GroupMoved { group: offset, prev: offset, next: offset },
        Halt::ForeignOffset { group: offset, row: offset, metadata: text() },
        Halt::CopiedToken { group: offset, token: offset },
        Halt::OtherPipeline { group: offset, pipeline: text() },
        Halt::NewerToken { group: offset, format: text() },
        Halt::OtherGroup { was: text(), now: text() },
        Halt::OtherCluster { was: text(), now: text() },
        Halt::TopicRecreated { was: text(), now: text() },
        Halt::NothingCommitted,
    ];
    let codes: std::collections::BTreeSet<&str> = all.iter().map(Halt::code).collect();
    assert_eq!(codes.len(), all.len());
    let page = include_str!("../../../../docs/halts.md");
    let stored = all.iter().filter(|halt| !halt.concerns_pipeline());
    let absent: Vec<&str> = stored.map(Halt::code).filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(absent.is_empty(), "docs/halts.md does not explain {absent:?}");
}
