//! Large batches: by COPY into a temporary table of the session, and from there by the same upsert (docs/adr/0003).
//!
//! A temporary table is the only thing that a session of ours holds between two transactions and that ages: its `relfrozenxid`
//! holds back `datfrozenxid` of the whole database, and no vacuum of anybody else's may touch it. [`renew`] drops it in time.

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::rows::{Folded, Rows, Shape};
use crate::hazards::{Place, hazards};
use tollgate_config::limits;

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

/// The statements. The table is emptied by each commit, so there is no state to keep: whoever wants it says `create` first.
#[derive(Debug)]
pub struct Stage {
    create: String,
    copy: String,
    upsert: String,
}

impl Stage {
    /// `columns`: names and types, as CREATE TABLE has them; `upsert` completes the statement that reads from a source.
    /// The table is named by its columns: two of the same name are the same.
    pub fn new(columns: &str, upsert: impl Fn(&str) -> String) -> Stage {
        let digest = hex::encode(&Sha256::digest(columns)[..8]);
        let name = format!("pg_temp.tollgate_stage_{digest}");
        Stage {
            create: format!("CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns}) ON COMMIT DELETE ROWS"),
            copy: format!("COPY {name} FROM STDIN (FORMAT binary)"),
            upsert: upsert(&format!("{name} AS u")),
        }
    }

    /// Upserts the folded rows inside the caller's transaction, and returns how many PostgreSQL touched.
    pub async fn apply(
        &self,
        connection: &mut PgConnection,
        shape: &Shape,
        rows: &Rows,
        folded: &Folded,
    ) -> Result<u64, sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(self.create.clone())).execute(&mut *connection).await?;
        let mut stream = connection.copy_in_raw(&self.copy).await?;
        let send = async |piece: &[u8]| {
            hazards().pass(Place::Copy);
            stream.send(piece).await.map(|_| ())
        };
        rows.copy(shape, folded, send).await?;
        stream.finish().await?;
        let done = sqlx::query(AssertSqlSafe(self.upsert.clone())).execute(connection).await?;
        Ok(done.rows_affected())
    }
}
