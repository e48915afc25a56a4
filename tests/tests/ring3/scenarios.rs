//! Runs the scenario directories in `tests/cases/`, each as a test.

use std::collections::BTreeSet;

use tollgate_tests::scenario;

macro_rules! scenarios {
    ($($test:ident: $folder:literal, $rows:literal;)*) => {
        $(#[test]
        fn $test() {
            scenario::run($folder, $rows);
        })*

        #[test]
        fn no_directory_is_left_out() {
            let listed: BTreeSet<String> = [$($folder.to_owned()),*].into();
            let there: BTreeSet<String> = std::fs::read_dir(scenario::folder())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(listed, there);
        }
    };
}

scenarios! {
    bad_input_has_a_reason_each: "bad-input", "SELECT to_jsonb(t)::text FROM seen t ORDER BY p, o";
    a_hostile_guest_costs_only_its_event: "hostile-guests", "SELECT to_jsonb(t)::text FROM seen t ORDER BY id";
    every_kind_of_column: "columns",
        "SELECT (to_jsonb(t) - 'topic' - 'digest' - 'first_seen' - 'last_seen' || jsonb_build_object(
                    'topic', t.topic LIKE 'columns-%.in', 'digest', length(t.digest), 'at', t.at AT TIME ZONE 'UTC',
                    'seen', t.first_seen <= t.last_seen AND t.last_seen > now() - interval '1 minute'))::text
         FROM seen t ORDER BY id";
    only_a_newer_event_changes_a_row: "newer",
        "SELECT jsonb_build_object('id', id, 'amount', amount, 'at', at AT TIME ZONE 'UTC')::text FROM seen ORDER BY id";
    tombstones_delete: "deletes", "SELECT to_jsonb(t)::text FROM seen t ORDER BY id";
    rows_that_postgres_refuses_are_found: "refused-rows", "SELECT to_jsonb(t)::text FROM seen t ORDER BY amount";
}
