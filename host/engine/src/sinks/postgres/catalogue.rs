//! Reads a table's definition from PostgreSQL's catalogue.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use tollgate_config::TableName;
use tollgate_decide::postgres::cell::PgColumn;
use tollgate_decide::postgres::quote::quoted_table;

/// Reads the table's columns from the catalogue; `None` if there is no such table.
pub async fn describe(connection: &mut PgConnection, table: &TableName) -> Result<Option<Vec<PgColumn>>, sqlx::Error> {
    let name = quoted_table(table);
    let found: Option<Oid32> =
        sqlx::query_scalar("SELECT to_regclass($1)::oid::int8").bind(&name).fetch_one(&mut *connection).await?;
    let Some(relation) = found else { return Ok(None) };
    let rows = sqlx::query(CATALOGUE).bind(relation).fetch_all(connection).await?;
    let columns = rows.into_iter().map(|row| {
        let number = |at: usize| row.try_get::<i64, _>(at).map(|oid| u32::try_from(oid).unwrap_or_default());
        let name: String = row.try_get(0)?;
        let typmod = row.try_get(6)?;
        let element = match row.try_get::<Option<String>, _>(11)? {
            None => None,
            Some(type_name) => Some(Box::new(PgColumn {
                name: name.clone(),
                type_name,
                sql_type: row.try_get(12)?,
                typmod,
                labels: row.try_get(13)?,
                ..PgColumn::default()
            })),
        };
        Ok(PgColumn {
            name,
            type_name: row.try_get(1)?,
            sql_type: row.try_get(2)?,
            oid: number(3)?,
            array_sql_type: row.try_get(4)?,
            array_oid: number(5)?,
            typmod,
            not_null: row.try_get(7)?,
            has_default: row.try_get(8)?,
            generated: row.try_get(9)?,
            labels: row.try_get(10)?,
            element,
            base_sql_type: row.try_get(14)?,
            identity: row.try_get(15)?,
        })
    });
    columns.collect::<Result<Vec<_>, sqlx::Error>>().map(Some)
}

type Oid32 = i64;

/// The columns of a table. Domains, also nested ones, are resolved to their base type; likewise for an array's element.
const CATALOGUE: &str = "
WITH RECURSIVE base AS (
    SELECT t.oid AS top, t.oid, t.typtype, t.typbasetype, -1 AS typmod, t.typtypmod AS own, t.typnotnull AS strict
      FROM pg_type t WHERE t.oid IN (
          SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped
          UNION SELECT e.typelem FROM pg_attribute a JOIN pg_type e ON e.oid = a.atttypid
           WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped AND e.typcategory = 'A')
    UNION ALL
    SELECT d.top, t.oid, t.typtype, t.typbasetype, CASE WHEN d.typmod = -1 THEN d.own ELSE d.typmod END, t.typtypmod,
           d.strict OR t.typnotnull
      FROM base d JOIN pg_type t ON t.oid = d.typbasetype WHERE d.typtype = 'd')
SELECT a.attname::text, CASE WHEN b.typtype = 'e' THEN 'enum' ELSE b.typname::text END,
       format_type(a.atttypid, a.atttypmod), b.oid::int8, format_type(b.typarray, -1), b.typarray::int8,
       CASE WHEN d.typmod = -1 THEN a.atttypmod ELSE d.typmod END,
       a.attnotnull OR d.strict, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '',
       ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = b.oid),
       CASE WHEN e.typtype = 'e' THEN 'enum' ELSE e.typname::text END, format_type(b.typelem, a.atttypmod),
       ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = e.oid),
       format_type(b.oid, -1), a.attidentity = 'a'
  FROM pg_attribute a
  JOIN base d ON d.top = a.atttypid AND d.typtype <> 'd'
  JOIN pg_type b ON b.oid = d.oid
  LEFT JOIN base de ON b.typcategory = 'A' AND de.top = b.typelem AND de.typtype <> 'd'
  LEFT JOIN pg_type e ON e.oid = de.oid
 WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Returns whether a primary key or a unique index covers exactly these columns.
pub(super) async fn has_unique_index(
    connection: &mut PgConnection,
    table: &str,
    key: &[String],
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
            AND i.indexprs IS NULL AND i.indimmediate
            AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_attribute a
                 WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
              = (SELECT array_agg(k ORDER BY k) FROM unnest($2::text[]) k))",
    )
    .bind(table)
    .bind(key)
    .fetch_one(connection)
    .await
}
