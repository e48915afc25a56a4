//! Writes large batches: by COPY into a temporary table of the session, then with the same upsert from there
//! (docs/adr/0003).
//!
//! The temporary table is the only thing that our sessions keep between transactions and that ages: its `relfrozenxid`
//! holds back `datfrozenxid` of the whole database, and no other session's vacuum can process it. [`renew`] drops it in
//! time.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};

use crate::hazards::{Place, hazards};
use tollgate_config::limits;
use tollgate_decide::postgres::rows::{Folded, Rows, Shape};
use tollgate_decide::postgres::stage::Stage;

/// Selects the age, in transactions, of the session's oldest stage, and the age at which it is dropped. The stages of
/// all lanes are found by their names.
const AGE: &str = r"SELECT coalesce(max(age(relfrozenxid)), 0)::bigint,
        least($1, current_setting('autovacuum_freeze_max_age')::bigint / 4)
    FROM pg_class WHERE relname LIKE 'tollgate\_stage\_%' AND relnamespace = pg_my_temp_schema()";

/// Drops the session's stages once they are old; a batch that needs one creates it again. Returns the age of the
/// remaining ones in transactions. Call it outside of a transaction, and also while the lane is idle.
pub async fn renew(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(AGE).bind(limits::STAGE_AGE).fetch_one(&mut *connection).await?;
    let (age, most): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if age < most {
        return Ok(age);
    }
    sqlx::raw_sql("DISCARD TEMP").execute(connection).await?;
    tracing::debug!(age, "dropped the session's stage: it held back the database's oldest transaction");
    Ok(0)
}

/// Upserts the folded rows inside the caller's transaction, and returns how many rows PostgreSQL affected.
pub async fn apply(
    stage: &Stage,
    connection: &mut PgConnection,
    shape: &Shape,
    rows: &Rows,
    folded: &Folded,
) -> Result<u64, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(stage.create.clone())).execute(&mut *connection).await?;
    let mut stream = connection.copy_in_raw(&stage.copy).await?;
    let send = async |piece: &[u8]| {
        hazards().pass(Place::Copy);
        stream.send(piece).await.map(|_| ())
    };
    rows.copy(shape, folded, send).await?;
    stream.finish().await?;
    let done = sqlx::query(AssertSqlSafe(stage.upsert.clone())).execute(connection).await?;
    Ok(done.rows_affected())
}
