use proptest::prelude::*;

use super::*;

/// A source record of the tests, and what it produces.
#[derive(Debug, Clone)]
struct Event {
    /// The number of offsets without a record before it.
    gap: u8,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    letters: Vec<Made>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    topic: &'static str,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    kept: bool,
    own: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    origin: bool,
}

impl Made {
    fn passed(key: &Option<Vec<u8>>, value: &Option<Vec<u8>>) -> Made {
        let (key, value, own) = (key.clone(), value.clone(), Vec::new());
        Made { topic: "out", partition: Some(3), key, value, kept: true, own, origin: true }
    }
}

fn source(event: &Event, offset: i64) -> Source<'_> {
    Source { offset: Offset::new(offset), key: event.key.as_deref(), value: event.value.as_deref() }
}

/// Returns the events' offsets, the end of the batch, and its plan.
fn written(events: &[Event]) -> (Vec<i64>, NextOffset, Vec<u8>) {
    let mut writer = Writer::default();
    // The remains of an earlier batch must have no effect.
    writer.begin(NextOffset::new(7), "another");
    writer.note(
        Source { offset: Offset::new(8), key: None, value: None },
        &letter(&Made::passed(&None, &None)),
        &Headers::default(),
    );
    writer.begin(NextOffset::new(100), "digest");
    let mut next = 100;
    let mut offsets = Vec::new();
    for event in events {
        let offset = next + i64::from(event.gap);
        for made in &event.letters {
            let own = made
                .own
                .iter()
                .map(|(name, value)| (Cow::Borrowed(&**name), value.as_deref().map(Cow::Borrowed)))
                .collect();
            let headers = Headers { kept: made.kept, own, origin: made.origin };
            writer.note(source(event, offset), &letter(made), &headers);
        }
        offsets.push(offset);
        next = offset + 1;
    }
    let hi = NextOffset::new(next + 2);
    (offsets, hi, writer.finish(hi).unwrap())
}

fn letter(made: &Made) -> NewRecord<'_> {
    NewRecord { topic: made.topic, partition: made.partition, key: made.key.as_deref(), value: made.value.as_deref() }
}

fn read(plan: &Plan, event: &Event, offset: i64) -> Vec<Made> {
    let letters = plan.letters(source(event, offset)).into_iter();
    letters
        .map(|(letter, headers)| Made {
            topic: if letter.topic == "out" { "out" } else { "dead" },
            partition: letter.partition,
            key: letter.key.map(<[u8]>::to_vec),
            value: letter.value.map(<[u8]>::to_vec),
            kept: headers.kept,
            own: headers
                .own
                .iter()
                .map(|(name, value)| (name.to_vec(), value.as_deref().map(<[u8]>::to_vec)))
                .collect(),
            origin: headers.origin,
        })
        .collect()
}

fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..4))
}

fn made() -> impl Strategy<Value = Made> {
    let name = proptest::collection::vec(prop_oneof![Just(b'a'), Just(0xff)], 0..3);
    let own = proptest::collection::vec((name, some_bytes()), 0..3);
    let topic = prop_oneof![Just("out"), Just("dead")];
    let partition = proptest::option::of(0..3i32);
    (topic, partition, some_bytes(), some_bytes(), any::<bool>(), own, any::<bool>()).prop_map(
        |(topic, partition, key, value, kept, own, origin)| Made { topic, partition, key, value, kept, own, origin },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let letters = prop_oneof![
        3 => Just(None),
        2 => proptest::collection::vec(made(), 0..3).prop_map(Some),
    ];
    (prop_oneof![5 => Just(0), 1 => 1..4u8], some_bytes(), some_bytes(), letters, 0..3usize).prop_map(
        |(gap, key, value, letters, place)| {
            let passed = Made::passed(&key, &value);
            let letters = match letters {
                None => vec![passed],
                Some(mut letters) => {
                    // Sometimes one of several letters passes the record, at any position.
                    if place < letters.len() {
                        letters.insert(place, passed);
                    }
                    letters
                }
            };
            Event { gap, key, value, letters }
        },
    )
}

proptest! {
    #[test]
    fn what_was_noted_is_read_whatever_it_is(events in proptest::collection::vec(event(), 0..40)) {
        let (offsets, hi, stored) = written(&events);
        let plan = Plan::read(&stored, NextOffset::new(100), hi).unwrap();
        prop_assert_eq!(plan.digest(), "digest");
        for (event, offset) in events.iter().zip(&offsets) {
            prop_assert!(plan.covers(Offset::new(*offset)));
            prop_assert_eq!(read(&plan, event, *offset), event.letters.clone());
        }
        // A half-completed batch is continued in its middle.
        prop_assert!(Plan::read(&stored, NextOffset::new(hi.get() - 1), hi).is_ok());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut stored = vec![VERSION];
        stored.extend(zstd::bulk::compress(&bytes, LEVEL).unwrap());
        if let Ok(plan) = Plan::read(&stored, NextOffset::new(0), NextOffset::new(0)) {
            for offset in -2..4 {
                plan.letters(Source { offset: Offset::new(offset), key: None, value: None });
            }
        }
        Plan::read(&bytes, NextOffset::new(0), NextOffset::new(0)).unwrap_err();
    }
}

fn passing(count: usize) -> Vec<Event> {
    let value = Some(vec![1; 100]);
    (0..count)
        .map(|number| {
            let key = Some(number.to_string().into_bytes());
            let letters = vec![Made::passed(&key, &value)];
            Event { gap: 0, key, value: value.clone(), letters }
        })
        .collect()
}

#[test]
fn events_that_pass_cost_no_bytes() {
    let (.., stored) = written(&passing(16_000));
    assert!(stored.len() < 64, "{}", stored.len());
}

#[test]
fn a_dropped_event_ends_the_run() {
    let mut events = passing(5);
    events[2].letters.clear();
    let (offsets, hi, stored) = written(&events);
    let plan = Plan::read(&stored, NextOffset::new(100), hi).unwrap();
    let counts: Vec<usize> =
        offsets.iter().zip(&events).map(|(offset, event)| read(&plan, event, *offset).len()).collect();
    assert_eq!(counts, [1, 1, 0, 1, 1]);
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let (.., hi, stored) = written(&passing(10));
    let found = |stored: &[u8], outputs, rows| Plan::read(stored, NextOffset::new(outputs), rows).unwrap_err();
    assert_eq!(found(&[2, 0, 0], 100, hi), PlanError::Newer(2));
    assert!(matches!(found(&[], 100, hi), PlanError::Damaged(_)));
    assert!(matches!(found(&stored, 99, hi), PlanError::Elsewhere { .. }));
    assert!(matches!(found(&stored, 100, NextOffset::new(hi.get() + 1)), PlanError::Elsewhere { .. }));
    for place in 1..stored.len() {
        let mut spoilt = stored.clone();
        spoilt[place] ^= 0x20;
        let read = Plan::read(&spoilt, NextOffset::new(100), hi);
        assert!(matches!(read, Err(PlanError::Damaged(_))), "byte {place}: {read:?}");
    }
}
