//! Compares folding with an oracle that applies the events one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The OID of int8.
const ELEMENT: u32 = 20;

#[derive(Debug, Clone)]
enum Event {
    /// An upsert. `gone` marks a soft delete, which is an upsert too under `only_if_newer`.
    Upsert {
        key: u8,
        set: Option<i64>,
        once: i64,
        newer: Option<i64>,
        add: i64,
        gone: bool,
    },
    Delete {
        key: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TableRow {
    set: Option<i64>,
    once: i64,
    newer: Option<i64>,
    count: i64,
    gone: bool,
}

type Table = BTreeMap<u8, TableRow>;

/// Applies one upsert like PostgreSQL with the statement that `table.rs` writes.
fn upsert(table: &mut Table, key: u8, row: TableRow, guarded: bool) {
    match table.get_mut(&key) {
        None => {
            table.insert(key, row);
        }
        Some(current) => {
            let passes = match (row.newer, current.newer) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(new), Some(old)) => new > old,
            };
            if !guarded || passes {
                current.set = row.set;
                current.newer = row.newer;
                current.gone = row.gone;
                current.count += row.count;
            }
        }
    }
}

fn one_by_one(table: &mut Table, events: &[Event], guarded: bool) {
    for event in events {
        match event {
            Event::Delete { key } => {
                table.remove(key);
            }
            Event::Upsert { key, set, once, newer, add, gone } => {
                let count = if guarded { 0 } else { *add };
                let row = TableRow { set: *set, once: *once, newer: *newer, count, gone: guarded && *gone };
                upsert(table, *key, row, guarded);
            }
        }
    }
}

fn shape(guarded: bool) -> Shape {
    let column = |mode| ShapeColumn { element: ELEMENT, mode };
    let mut columns = vec![column(Mode::Set), column(Mode::Set), column(Mode::InsertOnly), column(Mode::Set)];
    columns.push(column(if guarded { Mode::Set } else { Mode::Add }));
    Shape { columns, key: vec![0], newer: guarded.then_some(3), soft: false }
}

fn collect(events: &[Event], guarded: bool) -> Rows {
    let mut rows = Rows::default();
    for event in events {
        match event {
            Event::Delete { key } => {
                let mut row = rows.begin();
                let start = row.open();
                row.out().extend_from_slice(&i64::from(*key).to_be_bytes());
                row.close(start);
                row.deletes();
                row.finish();
            }
            Event::Upsert { key, set, once, newer, add, gone } => {
                let mut row = rows.begin();
                let mark = guarded.then_some(Some(i64::from(*gone)));
                for value in [Some(i64::from(*key)), *set, Some(*once), *newer].into_iter().chain(mark) {
                    match value {
                        None => row.null(),
                        Some(value) => {
                            let start = row.open();
                            row.out().extend_from_slice(&value.to_be_bytes());
                            row.close(start);
                        }
                    }
                }
                if !guarded {
                    row.add(*add);
                }
                row.finish();
            }
        }
    }
    rows
}

/// Reads an array as PostgreSQL would.
fn read(array: &[u8]) -> Vec<Option<i64>> {
    let int = |at: usize| i32::from_be_bytes(array[at..at + 4].try_into().unwrap());
    assert_eq!((int(0), int(8), int(16)), (1, 20, 1));
    let mut at = 20;
    let mut values = Vec::new();
    for _ in 0..int(12) {
        let length = int(at);
        at += 4;
        if length < 0 {
            assert_eq!(int(4), 1, "an array with NULLs must say so");
            values.push(None);
        } else {
            values.push(Some(i64::from_be_bytes(array[at..at + 8].try_into().unwrap())));
            at += 8;
        }
    }
    assert_eq!(at, array.len());
    values
}

fn folded(table: &mut Table, events: &[Event], guarded: bool) {
    let shape = shape(guarded);
    let rows = collect(events, guarded);
    let folded = rows.fold(&shape);
    for key in read(&rows.deleted(&shape, &folded, 0)) {
        table.remove(&u8::try_from(key.unwrap()).unwrap());
    }
    let columns: Vec<_> = (0..shape.columns.len()).map(|column| read(&rows.array(&shape, &folded, column))).collect();
    let keys: Vec<_> = columns[0].clone();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "sorted, and each key once");
    for (row, key) in keys.iter().enumerate() {
        let values = TableRow {
            set: columns[1][row],
            once: columns[2][row].unwrap(),
            newer: columns[3][row],
            count: if guarded { 0 } else { columns[4][row].unwrap() },
            gone: guarded && columns[4][row] == Some(1),
        };
        upsert(table, u8::try_from(key.unwrap()).unwrap(), values, guarded);
    }
}

fn event(deletes: bool) -> impl Strategy<Value = Event> {
    let upsert = (0u8..4, any::<Option<i8>>(), any::<i8>(), any::<Option<i8>>(), -3i64..4, any::<bool>()).prop_map(
        |(key, set, once, newer, add, gone)| Event::Upsert {
            key,
            gone,
            set: set.map(i64::from),
            once: i64::from(once),
            newer: newer.map(i64::from),
            add,
        },
    );
    if deletes {
        prop_oneof![4 => upsert, 1 => (0u8..4).prop_map(|key| Event::Delete { key })].boxed()
    } else {
        upsert.boxed()
    }
}

proptest! {
    #[test]
    fn a_folded_batch_leaves_what_one_by_one_leaves(
        before in prop::collection::vec(event(true), 0..6),
        batch in prop::collection::vec(event(true), 0..24),
    ) {
        let (mut expected, mut got) = (Table::new(), Table::new());
        one_by_one(&mut expected, &before, false);
        one_by_one(&mut got, &before, false);
        one_by_one(&mut expected, &batch, false);
        folded(&mut got, &batch, false);
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn also_under_only_if_newer(
        before in prop::collection::vec(event(false), 0..6),
        batch in prop::collection::vec(event(false), 0..24),
    ) {
        let (mut expected, mut got) = (Table::new(), Table::new());
        one_by_one(&mut expected, &before, true);
        one_by_one(&mut got, &before, true);
        one_by_one(&mut expected, &batch, true);
        folded(&mut got, &batch, true);
        prop_assert_eq!(got, expected);
    }

    /// Tests any order of a key's events, and any batch boundaries between them.
    #[test]
    fn under_only_if_newer_the_newest_event_has_the_last_word_also_if_it_deletes(
        events in prop::collection::vec((any::<Option<i8>>(), any::<bool>()), 1..9),
        order in any::<u64>(),
        size in 1usize..9,
    ) {
        let versions: Vec<Event> = (1..).zip(&events).map(|(version, (set, gone))| {
            Event::Upsert { key: 1, set: set.map(i64::from), once: 0, newer: Some(version), add: 0, gone: *gone }
        }).collect();
        let mut shuffled = versions.clone();
        // A number always gives the same shuffle, so that proptest can shrink the case.
        let mut state = order | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        let (mut expected, mut got) = (Table::new(), Table::new());
        one_by_one(&mut expected, &versions[versions.len() - 1..], true);
        shuffled.chunks(size).for_each(|batch| folded(&mut got, batch, true));
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn a_row_that_is_not_finished_leaves_nothing() {
    let mut rows = Rows::default();
    let mut row = rows.begin();
    row.add(3);
    drop(row);
    assert!(rows.is_empty() && rows.cells.is_empty() && rows.addends.is_empty());
}

/// Uses two key columns, a value, and soft-deleted rows.
#[test]
fn a_soft_delete_keeps_the_upserts_before_it() {
    let column = || ShapeColumn { element: ELEMENT, mode: Mode::Set };
    let shape = Shape { columns: vec![column(), column(), column()], key: vec![1, 0], newer: None, soft: true };
    let put = |rows: &mut Rows, cells: &[i64], deletes: bool| {
        let mut row = rows.begin();
        for cell in cells {
            let start = row.open();
            row.out().extend_from_slice(&cell.to_be_bytes());
            row.close(start);
        }
        if deletes {
            row.deletes();
        }
        row.finish();
    };
    let mut rows = Rows::default();
    // Columns in table order, keys in key order.
    put(&mut rows, &[1, 10, 100], false);
    put(&mut rows, &[10, 1], true);
    put(&mut rows, &[10, 2], true);
    put(&mut rows, &[2, 10, 200], false);
    put(&mut rows, &[1, 11, 300], false);
    let folded = rows.fold(&shape);
    let column = |at: usize| read(&rows.array(&shape, &folded, at));
    assert_eq!(column(2), [Some(100), Some(200), Some(300)]);
    assert_eq!(read(&rows.deleted(&shape, &folded, 0)), [Some(10)]);
    assert_eq!(read(&rows.deleted(&shape, &folded, 1)), [Some(1)], "the last word on (10, 2) is an upsert");
    let hard = Shape { soft: false, ..shape };
    let folded = rows.fold(&hard);
    assert_eq!((folded.upserts(), folded.deletes()), (2, 2), "a row that is gone and comes back is deleted first");
}
