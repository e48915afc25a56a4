//! Detects a pooler in transaction mode in front of PostgreSQL.
//!
//! Tollgate needs sessions: a slot is a session's advisory lock, and settings and the stage belong to a session. A
//! transaction pooler breaks all of that without an error. With two connections open at once it shows: both get the
//! same server process, or one connection gets two, or a setting of one appears on the other.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Error, Row as _};
use tokio::sync::Mutex;

/// The error that PostgreSQL is not reached by separate sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "PostgreSQL is behind a pooler in transaction mode: two connections share a server process, so locks and settings of a \
     session are lost; connect directly, or through a pooler in session mode (PgBouncer: pool_mode = session)"
)]
pub(super) struct TransactionPooler;

/// The number of checks. A busy pooler may happen to give two connections different servers for a moment.
const ROUNDS: usize = 3;

/// Lets only one check run at a time in this process, so that it needs one connection more than its lanes and not twice
/// as many.
static ONE: Mutex<()> = Mutex::const_new(());

/// Checks a new connection with the help of a second one, which `open` opens and which is closed again.
pub(super) async fn check(
    connection: &mut PgConnection,
    open: impl Future<Output = Result<PgConnection, Error>>,
) -> Result<(), Error> {
    let _one = ONE.lock().await;
    let mut second = open.await?;
    let pooled = pooled(connection, &mut second).await;
    // It was open only briefly; errors while closing it do not matter.
    drop(sqlx::Connection::close(second).await);
    if pooled? { Err(Error::Configuration(Box::new(TransactionPooler))) } else { Ok(()) }
}

async fn pooled(first: &mut PgConnection, second: &mut PgConnection) -> Result<bool, Error> {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mark = format!("{}-{}", std::process::id(), elapsed.as_nanos());
    // The simple protocol is used throughout, because such a pooler breaks prepared statements too.
    sqlx::raw_sql(AssertSqlSafe(format!("SET tollgate.session = '{mark}'"))).execute(&mut *first).await?;
    let (own, _) = ask(first).await?;
    for _ in 0..ROUNDS {
        let (other, setting) = ask(second).await?;
        let (again, _) = ask(first).await?;
        if other == own || again != own || setting.as_deref() == Some(mark.as_str()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the server process behind a connection, and its mark.
async fn ask(connection: &mut PgConnection) -> Result<(i32, Option<String>), Error> {
    let row = sqlx::raw_sql("SELECT pg_backend_pid(), current_setting('tollgate.session', true)")
        .fetch_one(connection)
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
