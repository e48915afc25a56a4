//! Why a table refuses rows through no fault of any event: what it lacks, and what to create.

use sqlx::Error;
use sqlx::postgres::{PgConnection, PgDatabaseError};

use super::connect;
use super::table::quoted_table;
use crate::config::{Mapping, TableName};
use crate::sinks::classes::Meaning;

/// What the table lacks, where the error alone says so.
pub fn of<'m>(error: &Error, mut mappings: impl Iterator<Item = &'m Mapping>) -> Option<String> {
    let server = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let message = server.message();
    if connect::meaning(error) == Meaning::Pause {
        return Some(match server.code() {
            "23514" => {
                let table = server.table().unwrap_or("…");
                let row =
                    server.detail().map(|detail| format!(": {}", detail.trim_end_matches('.'))).unwrap_or_default();
                format!(
                    "{message}{row}: create the partition (CREATE TABLE … PARTITION OF {table} FOR VALUES …), or one for \
                     all other rows (PARTITION OF {table} DEFAULT)"
                )
            }
            "2200H" => format!("{message}: widen it (ALTER SEQUENCE … AS bigint, and its column with it)"),
            // A missing replica identity: the message names the table and what it publishes.
            _ => format!("{message}: ALTER TABLE … REPLICA IDENTITY USING INDEX …, or FULL"),
        });
    }
    if server.code() != "23502" {
        return None;
    }
    let (table, column) = (server.table()?, server.column()?);
    let same = |name: &TableName| {
        name.name == table
            && name.schema.as_deref().is_none_or(|schema| server.schema().is_none_or(|its| its == schema))
    };
    let mapping = mappings.find(|mapping| same(&mapping.table))?;
    let mapped = mapping.columns.iter().any(|mapped| mapped.name == column);
    (!mapped).then(|| {
        format!(
            "column {column} of {table} takes no NULL, and nothing is mapped to it: give it a default (ALTER TABLE {table} \
             ALTER COLUMN {column} SET DEFAULT …), or map it and start again"
        )
    })
}

/// Whether the error may be that a sequence has outgrown its column: the value is cast from bigint.
pub fn may_be_sequence(error: &Error) -> bool {
    let server = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    server.is_some_and(|server| server.code() == "22003" && matches!(server.routine(), Some("int84" | "int82")))
}

/// A sequence that has passed what its column holds.
const OUTGROWN: &str = r"SELECT a.attname::text, format_type(a.atttypid, NULL), s.name FROM pg_attribute a
    JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    CROSS JOIN LATERAL (SELECT substring(pg_get_expr(d.adbin, d.adrelid) FROM 'nextval\(''(.*)''::regclass\)') AS name) s
    WHERE a.attrelid = to_regclass($1) AND s.name IS NOT NULL
      AND pg_sequence_last_value(to_regclass(s.name)) >
          CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END
    LIMIT 1";

/// Looks for a sequence that has outgrown its column in this table.
pub async fn outgrown_sequence(connection: &mut PgConnection, table: &TableName) -> Result<Option<String>, Error> {
    let found: Option<(String, String, String)> =
        sqlx::query_as(OUTGROWN).bind(quoted_table(table)).fetch_optional(connection).await?;
    Ok(found.map(|(column, kind, sequence)| {
        format!(
            "sequence {sequence} has passed what column {column} of {table} holds ({kind}): ALTER TABLE {table} ALTER COLUMN \
             {column} TYPE bigint"
        )
    }))
}
