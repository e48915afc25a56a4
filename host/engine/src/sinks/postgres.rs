//! The PostgreSQL side of a batch: one fixed statement per table, fed by binary arrays or, for large batches, from a
//! stage.

mod catalogue;
pub mod cause;
pub mod connect;
pub mod hosts;
mod keys;
pub mod partitions;
mod pooler;
pub mod stage;
pub mod table;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgConnection, PgTypeInfo, types::Oid};
use sqlx::{AssertSqlSafe, Encode, Postgres, Type};

use tollgate_config::limits;
use tollgate_decide::postgres::{Folded, Rows, Table};

/// An array parameter that is already encoded in binary form.
struct RawArray {
    type_info: PgTypeInfo,
    bytes: Vec<u8>,
}

impl Type<Postgres> for RawArray {
    fn type_info() -> PgTypeInfo {
        // This is used only if there is no value; `produces` below names the real type.
        PgTypeInfo::with_name("bytea")
    }
}

impl Encode<'_, Postgres> for RawArray {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.type_info.clone())
    }
}

/// Applies the batch's effects inside the caller's transaction: deletes first, then the upserts. Soft-deleted rows are
/// written before they are marked as deleted.
pub async fn apply(connection: &mut PgConnection, table: &Table, rows: &Rows) -> Result<u64, sqlx::Error> {
    let folded = rows.fold(&table.shape);
    let mut affected = 0;
    if !table.shape.soft {
        affected += delete(connection, table, rows, &folded).await?;
    }
    if folded.upserts() > 0 {
        let large = folded.upserts() >= limits::STAGE_ROWS;
        affected += match table.stage.as_ref().filter(|_| large) {
            Some(stage) => stage::apply(stage, connection, &table.shape, rows, &folded).await?,
            None => by_arrays(connection, table, rows, &folded).await?,
        };
    }
    if table.shape.soft {
        affected += delete(connection, table, rows, &folded).await?;
    }
    Ok(affected)
}

async fn delete(
    connection: &mut PgConnection,
    table: &Table,
    rows: &Rows,
    folded: &Folded,
) -> Result<u64, sqlx::Error> {
    let Some(delete) = table.delete.as_ref().filter(|_| folded.deletes() > 0) else { return Ok(0) };
    let mut query = sqlx::query(AssertSqlSafe(delete.statement.clone()));
    for (place, array) in delete.arrays.iter().enumerate() {
        query = query.bind(RawArray {
            type_info: PgTypeInfo::with_oid(Oid(*array)),
            bytes: rows.deleted(&table.shape, folded, place),
        });
    }
    Ok(query.execute(connection).await?.rows_affected())
}

async fn by_arrays(
    connection: &mut PgConnection,
    table: &Table,
    rows: &Rows,
    folded: &Folded,
) -> Result<u64, sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(table.upsert.clone()));
    for (column, array) in table.arrays.iter().enumerate() {
        query = query.bind(RawArray {
            type_info: PgTypeInfo::with_oid(Oid(*array)),
            bytes: rows.array(&table.shape, folded, column),
        });
    }
    Ok(query.execute(connection).await?.rows_affected())
}
