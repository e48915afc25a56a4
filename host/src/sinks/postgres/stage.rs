//! Large batches: by COPY into a temporary table of the session, and from there by the same upsert (docs/adr/0003).

use sha2::{Digest as _, Sha256};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::rows::{Folded, Rows, Shape};
use crate::sinks::dead_letter::hex;

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
        let digest = hex(&Sha256::digest(columns)[..8]);
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
        rows.copy(shape, folded, async |piece| stream.send(piece).await.map(|_| ())).await?;
        stream.finish().await?;
        let done = sqlx::query(AssertSqlSafe(self.upsert.clone())).execute(connection).await?;
        Ok(done.rows_affected())
    }
}
