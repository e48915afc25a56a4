//! Waiting for the two servers.

use sqlx::postgres::PgConnection;
use tokio::runtime::Runtime;

use super::Error;
use tollgate_config::limits;

/// Makes constraints immediate. A deferred constraint would be checked only at COMMIT, when its row can no longer be
/// identified.
pub(super) const BEGIN: &str = "BEGIN; SET CONSTRAINTS ALL IMMEDIATE";

/// Waits for PostgreSQL with a timeout. After [`Error::Timeout`] the connection must not be used again.
pub(super) fn patient<T>(runtime: &Runtime, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    runtime
        .block_on(async { tokio::time::timeout(limits::STATEMENT_PATIENCE, work).await.unwrap_or(Err(Error::Timeout)) })
}

pub(super) async fn execute(connection: &mut PgConnection, statement: &'static str) -> Result<(), Error> {
    sqlx::raw_sql(statement).execute(connection).await?;
    Ok(())
}
