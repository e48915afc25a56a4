//! Takes a raw record of the source topic (key, headers, value, timestamp, each of them null, empty or hostile) to its
//! verdict.
//!
//! A finding is a panic anywhere between the copied message and the records that would be produced, or one of these:
//!
//! - a dead letter with a code that is not Tollgate's, because no transform is in the chain;
//! - the same record is decided twice with different results;
//! - an output or dead letter in which a header with one of Tollgate's names occurs twice, or which lost a header of
//!   its record.

#[path = "../../src/choices.rs"]
pub mod choices;
mod pipelines;

use std::cell::RefCell;

use tollgate_decide::batch::Raw;
use tollgate_decide::content::is_content_type;
use tollgate_decide::record::RawHeader;
use tollgate_decide::{dead_letter, reserved};
use tollgate_engine::kafka::headers;
use tollgate_engine::lane::trial::{Made, Settled, Trial};
use tollgate_engine::position::{Offset, Partition};

use choices::Choices;

/// 2026-01-01 in Unix milliseconds, the time of every batch.
const NOW: i64 = 1_767_225_600_000;

/// Names that some stage looks for, and names that no stage should react to.
const NAMES: [&[u8]; 18] = [
    b"content-type",
    b"message-type",
    b"event-type",
    b"schema-version",
    b"__value_schema_id",
    b"h_int",
    b"h_text",
    b"h_uuid",
    b"tollgate.pipeline",
    b"tollgate.dead-letter-topic",
    b"tollgate.source",
    b"tollgate.attempt",
    b"tollgate.replay-count",
    b"tollgate.first-failed-at",
    b"original.tollgate.reason",
    b"__connect.errors.topic",
    b"caf\xe9",
    b"",
];

/// Values that those headers may have.
const VALUES: [&[u8]; 12] = [
    b"application/json",
    b"application/protobuf; charset=utf-8",
    b"f.v1.Event",
    b"event",
    b"other",
    b"1",
    b"-9223372036854775808",
    b"123e4567-e89b-12d3-a456-426614174000",
    b"trial",
    b"trial.dlq",
    b"trial/0/5",
    b"\xff\xfe",
];

const TIMESTAMPS: [i64; 8] = [-1, 0, NOW, i64::MIN, i64::MAX, -62_135_596_800_001, 253_402_300_800_000, NOW * 1_000];

thread_local! {
    static TRIALS: RefCell<Vec<Trial>> = RefCell::new(pipelines::all());
}

/// Compiles the pipelines, before executions are counted.
pub fn warm() {
    TRIALS.with(|trials| assert!(!trials.borrow().is_empty()));
}

/// Decides one record. The first bytes select pipeline, coordinates, key and headers; the rest is the value.
pub fn run(input: &[u8]) {
    TRIALS.with(|trials| {
        let mut trials = trials.borrow_mut();
        let mut choices = Choices::new(input);
        let count = trials.len();
        let trial = &mut trials[choices.below(count)];
        let shape = choices.byte();
        let timestamp = TIMESTAMPS[choices.below(TIMESTAMPS.len())];
        let offset = if shape & 1 == 0 { 7 } else { i64::MAX - 1 };
        let key = match shape >> 1 & 3 {
            0 => None,
            1 => Some(&b""[..]),
            2 => Some(&b"trial-key"[..]),
            _ => Some(sized(&mut choices)),
        };
        let listed: Vec<RawHeader<'_>> = (0..choices.below(9)).map(|_| header(&mut choices)).collect();
        let value = match shape >> 3 & 7 {
            0 => None,
            1 => Some(&b""[..]),
            _ => Some(choices.rest()),
        };
        let raw = Raw { partition: Partition::new(0), offset: Offset::new(offset), timestamp, key, value };
        check(trial, &raw, &listed);
    });
}

fn sized<'a>(choices: &mut Choices<'a>) -> &'a [u8] {
    let count = choices.below(24);
    choices.take(count)
}

fn header<'a>(choices: &mut Choices<'a>) -> RawHeader<'a> {
    let how = choices.byte();
    let name = if how & 7 == 7 { cut(sized(choices)) } else { *choices.of(&NAMES) };
    let value = match how >> 3 & 3 {
        0 => None,
        1 => Some(sized(choices)),
        _ => Some(*choices.of(&VALUES)),
    };
    (name, value)
}

/// Cuts a name at a NUL, as librdkafka does.
fn cut(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn check(trial: &mut Trial, raw: &Raw<'_>, listed: &[RawHeader<'_>]) {
    let mut decide = || trial.decide(raw, listed, NOW).unwrap_or_else(|error| panic!("without servers: {error}"));
    let (first, second) = (decide(), decide());
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "{raw:?} {listed:?}");
    let Settled { verdict, letters, rows: _ } = first;
    let dead = !matches!(verdict.as_str(), "pass" | "drop" | "delete");
    assert!(!dead || dead_letter::is_builtin(&verdict), "{verdict}");
    assert!(!dead || letters.len() == 1, "{letters:?}");
    for letter in &letters {
        check_headers(letter, listed);
        if dead {
            assert_eq!(letter.key.as_deref(), raw.key.filter(|_| letter.key.is_some()), "a key is kept or left out");
        }
    }
}

fn check_headers(letter: &Made, listed: &[RawHeader<'_>]) {
    let written: Vec<RawHeader<'_>> = headers::all(letter.headers.as_borrowed()).collect();
    for (name, _) in written.iter().filter(|(name, _)| reserved::is_reserved(name)) {
        assert_eq!(written.iter().filter(|(other, _)| other == name).count(), 1, "{letter:?}");
    }
    let by_reference = written.iter().any(|(name, _)| *name == b"tollgate.stored");
    // An output declares its own type and content type, whatever the record declared.
    let rewritten = |name: &[u8]| name == b"message-type" || is_content_type(name);
    let free = listed.iter().filter(|(name, _)| !reserved::is_reserved(name) && !rewritten(name));
    for header in free.filter(|(name, _)| !name.starts_with(b"original.")) {
        assert!(by_reference || written.contains(header) || replaced(&written, header.0), "{header:?} of {letter:?}");
    }
}

/// Returns whether a header of the event's envelope replaces the record's own.
fn replaced(written: &[RawHeader<'_>], name: &[u8]) -> bool {
    written.iter().any(|(other, _)| *other == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_inputs_and_random_ones_find_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/record");
        let mut count = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 4);
        // The numbers are the same in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..3_000 {
            let bytes: Vec<u8> = (0..64)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()[3]
                })
                .collect();
            run(&bytes);
        }
    }

    /// Tests that each seed of the corpus does what its name says.
    #[test]
    fn the_committed_inputs_reach_what_they_are_for() {
        let verdict = |name: &str| {
            let input = std::fs::read(format!("{}/../corpus/record/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let mut trials = pipelines::all();
            let mut choices = Choices::new(&input);
            let count = trials.len();
            let trial = &mut trials[choices.below(count)];
            let shape = choices.byte();
            let timestamp = TIMESTAMPS[choices.below(TIMESTAMPS.len())];
            assert!(shape >> 1 & 3 < 3, "{name}: keys are chosen by the shape here");
            let key = [None, Some(&b""[..]), Some(&b"trial-key"[..])][usize::from(shape >> 1 & 3)];
            let listed: Vec<RawHeader<'_>> = (0..choices.below(9)).map(|_| header(&mut choices)).collect();
            let value = match shape >> 3 & 7 {
                0 => None,
                1 => Some(&b""[..]),
                _ => Some(choices.rest()),
            };
            let raw = Raw { partition: Partition::new(0), offset: Offset::new(7), timestamp, key, value };
            trial.decide(&raw, &listed, NOW).unwrap().verdict
        };
        for (name, expected) in
            [("protobuf", "pass"), ("json", "pass"), ("typed", "pass"), ("envelope", "pass"), ("tombstone", "delete")]
        {
            assert_eq!(verdict(name), expected, "{name}");
        }
    }
}
