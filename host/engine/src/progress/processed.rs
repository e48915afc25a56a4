//! The ids that have been processed, in PostgreSQL. Each function is one statement.

use std::time::Duration;

use sqlx::postgres::PgConnection;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// The number of ids that one statement deletes.
const AT_ONCE: i64 = 10_000;

/// Returns which of these ids have been processed within `ttl`.
pub async fn known(
    connection: &mut PgConnection,
    pipeline: &str,
    ids: &[&[u8]],
    ttl: Duration,
) -> Result<Vec<Vec<u8>>> {
    sqlx::query_scalar(
        "SELECT id FROM tollgate.processed
         WHERE pipeline = $1 AND id = ANY($2) AND at > now() - make_interval(secs => $3)",
    )
    .bind(pipeline)
    .bind(ids)
    .bind(ttl.as_secs_f64())
    .fetch_all(connection)
    .await
}

/// Stores ids within the caller's transaction, and returns how many were new or expired. If these are fewer than `ids`,
/// another lane has processed one meanwhile, and the caller must roll back. `ids` must be sorted, so that lanes lock in
/// the same order.
pub async fn note(connection: &mut PgConnection, pipeline: &str, ids: &[&[u8]], ttl: Duration) -> Result<u64> {
    let done = sqlx::query(
        "INSERT INTO tollgate.processed AS p (pipeline, id) SELECT $1, id FROM unnest($2::bytea[]) id
         ON CONFLICT (pipeline, id) DO UPDATE SET at = now() WHERE p.at <= now() - make_interval(secs => $3)",
    )
    .bind(pipeline)
    .bind(ids)
    .bind(ttl.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes some ids that are older than `ttl`. Returns whether there may be more.
pub async fn forget(connection: &mut PgConnection, pipeline: &str, ttl: Duration) -> Result<bool> {
    let done = sqlx::query(
        "DELETE FROM tollgate.processed WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM tollgate.processed WHERE pipeline = $1 AND at <= now() - make_interval(secs => $2)
             LIMIT $3 FOR UPDATE SKIP LOCKED))",
    )
    .bind(pipeline)
    .bind(ttl.as_secs_f64())
    .bind(AT_ONCE)
    .execute(connection)
    .await?;
    Ok(i64::try_from(done.rows_affected()).is_ok_and(|rows| rows >= AT_ONCE))
}
