//! Large batches: by COPY into a temporary table of the session, and from there by the same upsert (docs/adr/0003).
//!
//! A temporary table is the only thing that a session of ours holds between two transactions and that ages: its `relfrozenxid`
//! holds back `datfrozenxid` of the whole database, and no vacuum of anybody else's may touch it. [`renew`] drops it in time.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};

use crate::hazards::{Place, hazards};
use tollgate_config::limits;
use tollgate_decide::postgres::rows::{Folded, Rows, Shape};
use tollgate_decide::postgres::stage::Stage;

/// How many transactions ago the session's oldest stage was made, and from what age on it is dropped. A stage of any lane is found
/// by its name.
const AGE: &str = r"SELECT coalesce(max(age(relfrozenxid)), 0)::bigint,
        least($1, current_setting('autovacuum_freeze_max_age')::bigint / 4)
    FROM pg_class WHERE relname LIKE 'tollgate\_stage\_%' AND relnamespace = pg_my_temp_schema()";

/// Drops the session's stages once they are old; a batch that wants one makes it again. Returns the age of what is left,
/// in transactions. To be called outside of a transaction, also while there is nothing to do.
pub async fn renew(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(AGE).bind(limits::STAGE_AGE).fetch_one(&mut *connection).await?;
    let (age, most): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if age < most {
        return Ok(age);
    }
    sqlx::raw_sql("DISCARD TEMP").execute(connection).await?;
    tracing::debug!(age, "the session's stage is dropped: it held back the database's oldest transaction");
    Ok(0)
}

/// Upserts the folded rows inside the caller's transaction, and returns how many PostgreSQL touched.
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
