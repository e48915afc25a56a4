//! Compares the rights of the connected PostgreSQL role with those that a run needs.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use tollgate_config::{Mapping, Mode, Pipeline, TableName, Tombstones};
use tollgate_decide::postgres::cell::PgColumn;
use tollgate_decide::postgres::quote::{quote, quoted_table};

/// A missing right, schema or table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: &'static str,
    pub message: String,
}

impl Problem {
    fn new(code: &'static str, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into() }
    }
}

/// Tollgate's own tables, and the rights that a run needs on each.
const OWN: [(&str, &[&str]); 4] = [
    ("progress", &["SELECT", "INSERT", "UPDATE"]),
    ("slot", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("pause", &["SELECT", "INSERT", "DELETE"]),
    ("processed", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
];

/// Returns which of Tollgate's own tables are missing, and which rights on them.
pub(super) async fn own_tables(connection: &mut PgConnection) -> Result<Vec<Problem>, sqlx::Error> {
    let missing = || {
        vec![Problem::new(
            "postgres.schema_missing",
            "Tollgate's own tables are missing: `tollgate setup` creates them",
        )]
    };
    let usage: Option<bool> =
        sqlx::query_scalar("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'tollgate'")
            .fetch_optional(&mut *connection)
            .await?;
    match usage {
        None => return Ok(missing()),
        Some(false) => return Ok(vec![no_usage("tollgate")]),
        Some(true) => {}
    }
    let mut problems = Vec::new();
    for (table, wanted) in OWN {
        let found: Option<Vec<String>> = sqlx::query_scalar(
            "SELECT ARRAY(SELECT w FROM unnest($2::text[]) w WHERE NOT has_table_privilege(c.oid, w))
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'tollgate' AND c.relname = $1",
        )
        .bind(table)
        .bind(wanted.iter().map(|right| (*right).to_owned()).collect::<Vec<String>>())
        .fetch_optional(&mut *connection)
        .await?;
        match found {
            None => return Ok(missing()),
            Some(lacking) if lacking.is_empty() => {}
            Some(lacking) => problems.push(no_grant(&lacking.join(", "), &format!("tollgate.{table}"))),
        }
    }
    Ok(problems)
}

/// Returns a problem if the table's schema does not exist or the role may not use it. A table name without a schema has
/// no such problem.
pub(super) async fn schema_of(
    connection: &mut PgConnection,
    table: &TableName,
) -> Result<Option<Problem>, sqlx::Error> {
    let Some(schema) = &table.schema else { return Ok(None) };
    let usage: Option<bool> =
        sqlx::query_scalar("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1")
            .bind(schema)
            .fetch_optional(connection)
            .await?;
    Ok(match usage {
        Some(true) => None,
        Some(false) => Some(no_usage(&quote(schema))),
        None => {
            let message = format!("schema {schema} does not exist: CREATE SCHEMA {}", quote(schema));
            Some(Problem::new("postgres.schema_missing", message))
        }
    })
}

/// Returns the missing rights on the target table, column by column, because a grant may name columns.
pub(super) async fn target(
    connection: &mut PgConnection,
    pipeline: &Pipeline,
    mapping: &Mapping,
    columns: &[PgColumn],
) -> Result<Vec<Problem>, sqlx::Error> {
    let name = quoted_table(&mapping.table);
    let mut problems = Vec::new();
    for (right, wanted) in wanted(mapping) {
        // Columns that the table lacks are reported elsewhere.
        let wanted: Vec<String> =
            wanted.into_iter().filter(|column| columns.iter().any(|there| there.name == *column)).collect();
        let row = sqlx::query(
            "SELECT ARRAY(SELECT w FROM unnest($2::text[]) w WHERE NOT has_column_privilege($1::regclass, w, $3))",
        )
        .bind(&name)
        .bind(&wanted)
        .bind(right)
        .fetch_one(&mut *connection)
        .await?;
        let lacking: Vec<String> = row.try_get(0)?;
        if lacking.is_empty() {
            continue;
        }
        let listed = lacking.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ");
        let whole = lacking.len() == wanted.len();
        let what = if whole { right.to_owned() } else { format!("{right} ({listed})") };
        problems.push(no_grant(&what, &name));
    }
    let deletes = pipeline.contract.tombstones == Tombstones::Delete
        || pipeline.contract.debezium.is_some()
        || mapping.delete.when.is_some();
    if deletes && mapping.delete.soft.is_none() {
        let allowed: bool = sqlx::query_scalar("SELECT has_table_privilege($1::regclass, 'DELETE')")
            .bind(&name)
            .fetch_one(connection)
            .await?;
        if !allowed {
            problems.push(no_grant("DELETE", &name));
        }
    }
    Ok(problems)
}

/// Returns the columns that the upsert inserts, updates and reads.
fn wanted(mapping: &Mapping) -> [(&'static str, Vec<String>); 3] {
    let soft = mapping.delete.soft.clone();
    let all = mapping.columns.iter().map(|column| column.name.clone()).chain(soft.clone()).collect();
    let updated =
        |column: &&tollgate_config::Column| !mapping.key.contains(&column.name) && column.mode != Mode::InsertOnly;
    let updates = mapping.columns.iter().filter(updated).map(|column| column.name.clone()).chain(soft).collect();
    let read = |column: &&tollgate_config::Column| {
        mapping.key.contains(&column.name)
            || column.mode == Mode::Add
            || mapping.only_if_newer.as_ref() == Some(&column.name)
    };
    let reads = mapping.columns.iter().filter(read).map(|column| column.name.clone()).collect();
    [("INSERT", all), ("UPDATE", updates), ("SELECT", reads)]
}

fn no_usage(schema: &str) -> Problem {
    let message = format!("the role may not use schema {schema}: GRANT USAGE ON SCHEMA {schema} TO <role>");
    Problem::new("postgres.grant", message)
}

fn no_grant(rights: &str, table: &str) -> Problem {
    let message = format!("the role lacks {rights} on {table}: GRANT {rights} ON {table} TO <role>");
    Problem::new("postgres.grant", message)
}
