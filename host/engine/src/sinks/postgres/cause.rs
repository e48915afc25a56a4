//! Determines what a table lacks if it rejects rows through no fault of any event, and what to create.

use sqlx::Error;
use sqlx::postgres::{PgConnection, PgDatabaseError};

use super::connect;
use crate::classes::Meaning;
use tollgate_config::{Mapping, TableName};
use tollgate_decide::postgres::quote::quoted_table;

/// Returns what the table lacks, if the error alone shows it.
pub fn of(error: &Error) -> Option<String> {
    if connect::meaning(error) != Meaning::Pause {
        return None;
    }
    let server = server(error)?;
    let message = server.message();
    Some(match server.code() {
        "23514" => {
            let table = server.table().unwrap_or("…");
            let row = server.detail().map(|detail| format!(": {}", detail.trim_end_matches('.'))).unwrap_or_default();
            format!(
                "{message}{row}: create the partition (CREATE TABLE … PARTITION OF {table} FOR VALUES …), or one for \
                 all other rows (PARTITION OF {table} DEFAULT)"
            )
        }
        "2200H" => format!("{message}: widen it (ALTER SEQUENCE … AS bigint, and its column with it)"),
        // A missing replica identity: the message names the table and what it publishes.
        _ => format!("{message}: ALTER TABLE … REPLICA IDENTITY USING INDEX …, or FULL"),
    })
}

/// An error that either the event or the table may have caused; the catalogue decides.
pub enum Ambiguity<'e> {
    /// A value was too large for a cast from bigint: the value may be a sequence's.
    Sequence,
    /// A column rejects NULL: it may be a column without a mapping. If the table has partitions, the server names the
    /// partition that rejected the row.
    NotNull { schema: &'e str, table: &'e str, column: &'e str },
}

/// Classifies an error as a doubt, if it is one.
pub fn doubt(error: &Error) -> Option<Ambiguity<'_>> {
    let server = server(error)?;
    match server.code() {
        "22003" => matches!(server.routine(), Some("int84" | "int82")).then_some(Ambiguity::Sequence),
        "23502" => {
            Some(Ambiguity::NotNull { schema: server.schema()?, table: server.table()?, column: server.column()? })
        }
        _ => None,
    }
}

impl Ambiguity<'_> {
    /// Queries the catalogue whether this table is the cause, and returns what it lacks.
    pub async fn ask(&self, connection: &mut PgConnection, mapping: &Mapping) -> Result<Option<String>, Error> {
        match self {
            Ambiguity::Sequence => outgrown_sequence(connection, &mapping.table).await,
            Ambiguity::NotNull { schema, table, column } => {
                if mapping.columns.iter().any(|mapped| mapped.name == *column) {
                    return Ok(None);
                }
                let partition = TableName { schema: Some((*schema).to_owned()), name: (*table).to_owned() };
                let part_of =
                    sqlx::query_scalar(PART_OF).bind(quoted_table(&mapping.table)).bind(quoted_table(&partition));
                let part_of: bool = part_of.fetch_one(connection).await?;
                let table = &mapping.table;
                Ok(part_of.then(|| {
                    format!(
                        "column {column} of {table} is NOT NULL, and nothing is mapped to it: give it a default (ALTER TABLE \
                         {table} ALTER COLUMN {column} SET DEFAULT …), or map it and restart"
                    )
                }))
            }
        }
    }
}

/// Tests whether the second table is the first one or one of its partitions.
const PART_OF: &str = "SELECT coalesce(to_regclass($2) = to_regclass($1)
    OR to_regclass($2) IN (SELECT relid FROM pg_partition_tree(to_regclass($1))), false)";

fn server(error: &Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()
}

/// Finds a sequence that has exceeded its column's type.
const OUTGROWN: &str = r"SELECT a.attname::text, format_type(a.atttypid, NULL), s.name FROM pg_attribute a
    JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    CROSS JOIN LATERAL (SELECT substring(pg_get_expr(d.adbin, d.adrelid) FROM 'nextval\(''(.*)''::regclass\)') AS name) s
    WHERE a.attrelid = to_regclass($1) AND s.name IS NOT NULL
      AND pg_sequence_last_value(to_regclass(s.name)) >
          CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END
    LIMIT 1";

/// Looks for a sequence that has exceeded its column's type in this table.
async fn outgrown_sequence(connection: &mut PgConnection, table: &TableName) -> Result<Option<String>, Error> {
    let found: Option<(String, String, String)> =
        sqlx::query_as(OUTGROWN).bind(quoted_table(table)).fetch_optional(connection).await?;
    Ok(found.map(|(column, kind, sequence)| {
        format!(
            "sequence {sequence} has exceeded the range of column {column} of {table} ({kind}): ALTER TABLE {table} ALTER \
             COLUMN {column} TYPE bigint"
        )
    }))
}
