//! Finds key columns that do not compare by bytes.

use sqlx::postgres::PgConnection;

/// Returns the key columns that treat two values as equal although their bytes differ: their events would not be folded
/// into one row, and a delete could miss its row. A unique index may compare differently from its column.
pub(super) async fn unequal(
    connection: &mut PgConnection,
    table: &str,
    key: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    let found: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "SELECT DISTINCT a.attname::text, format_type(b.oid, NULL), c.collname::text
         FROM pg_attribute a
         JOIN pg_type t ON t.oid = a.atttypid
         JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
         LEFT JOIN pg_collation c ON NOT c.collisdeterministic AND (c.oid = a.attcollation OR EXISTS (
             SELECT 1 FROM pg_index i, unnest(i.indkey::int2[], i.indcollation::oid[]) k(attribute, collated)
             WHERE i.indrelid = a.attrelid AND i.indisunique AND k.attribute = a.attnum AND k.collated = c.oid))
         WHERE a.attrelid = to_regclass($1) AND a.attname::text = ANY ($2)
           AND (c.oid IS NOT NULL OR b.typname IN ('citext', 'jsonb', 'interval', 'float4', 'float8'))
         ORDER BY 1",
    )
    .bind(table)
    .bind(key)
    .fetch_all(connection)
    .await?;
    let problem = |(column, kind, collation): (String, String, Option<String>)| {
        let (how, instead) = match collation {
            Some(collation) => {
                (format!("has the nondeterministic collation {collation}"), "a deterministic one, or \"C\"")
            }
            None => (format!("has type {kind}"), "text, numeric or another type whose equal values are the same"),
        };
        format!(
            "column {column} {how}, which treats different values as equal, and is a key: events of one row cannot be \
             distinguished from those of two; use {instead}, and write one form of a value with a transform"
        )
    };
    Ok(found.into_iter().map(problem).collect())
}
