//! Waiting for the two servers.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::runtime::Runtime;

use super::Error;
use tollgate_config::limits;

/// How long the broker may take to acknowledge a batch.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// A deferred constraint would speak up at COMMIT only, where nobody could say any more which row it means.
pub(super) const BEGIN: &str = "BEGIN; SET CONSTRAINTS ALL IMMEDIATE";

/// Waits for PostgreSQL, but not for ever. After [`Error::Silent`] the connection is not to be used again.
pub(super) fn patient<T>(runtime: &Runtime, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    runtime
        .block_on(async { tokio::time::timeout(limits::STATEMENT_PATIENCE, work).await.unwrap_or(Err(Error::Silent)) })
}

pub(super) async fn execute(connection: &mut PgConnection, statement: &'static str) -> Result<(), Error> {
    sqlx::raw_sql(statement).execute(connection).await?;
    Ok(())
}
