//! Connections, and what an error of PostgreSQL's means.

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError};
use sqlx::{ConnectOptions as _, Error};

use crate::config::Pipeline;
use crate::error::Class;
use crate::limits;
use crate::sinks::classes::{self, Meaning};

/// Opens a connection with the session settings of the protocol. `role` shows up in pg_stat_activity.
///
/// A statement ends before the Kafka transaction beside it would: a lane that waits longer repeats its batch for nothing.
/// A transaction that stands idle longer than Kafka keeps the batch's other half is ended: its lane is frozen or cut off,
/// and its heir waits for the progress rows that it holds.
pub async fn open(pipeline: &Pipeline, role: &str) -> Result<PgConnection, Error> {
    let options = options(pipeline, role)?;
    let connect = options.connect();
    // A host that is gone answers nothing, and the operating system would wait for minutes.
    tokio::time::timeout(limits::CONNECT_PATIENCE, connect).await.unwrap_or_else(|_| {
        Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer from PostgreSQL while connecting")))
    })
}

/// What a session calls itself; PostgreSQL keeps the first 63 bytes.
pub fn application_name(pipeline: &Pipeline, role: &str) -> String {
    let mut name = format!("tollgate {} {role}", pipeline.name);
    name.truncate(name.floor_char_boundary(63));
    name
}

fn options(pipeline: &Pipeline, role: &str) -> Result<PgConnectOptions, Error> {
    let mut options: PgConnectOptions = pipeline.postgres.url.expose().parse()?;
    if let Some(ca) = &pipeline.postgres.tls_ca {
        options = options.ssl_root_cert(ca);
    }
    let idle = pipeline.delivery.transaction_timeout + limits::IDLE_BEYOND_TRANSACTION;
    let idle = format!("{}ms", idle.as_millis());
    let transaction = pipeline.delivery.transaction_timeout.as_millis();
    let (statement, lock) = (format!("{}ms", transaction * 2 / 3), format!("{}ms", transaction / 3));
    let options = options.application_name(&application_name(pipeline, role)).options([
        ("statement_timeout", statement.as_str()),
        ("lock_timeout", lock.as_str()),
        ("idle_in_transaction_session_timeout", idle.as_str()),
        // The server's side of a cut cable: it lets go of our locks. Ours is `limits::STATEMENT_PATIENCE`.
        ("tcp_keepalives_idle", "5"),
        ("tcp_keepalives_interval", "2"),
        ("tcp_keepalives_count", "3"),
        // The statements are few and fixed, and a custom plan could only be the same one.
        ("plan_cache_mode", "force_generic_plan"),
        ("jit", "off"),
        ("client_min_messages", "warning"),
    ]);
    Ok(options.disable_statement_logging())
}

/// What an error means: by its SQLSTATE, and where there is none, the connection broke or the client gave up.
pub fn meaning(error: &Error) -> Meaning {
    let Some(inner) = error.as_database_error() else {
        return match error {
            Error::Configuration(_) | Error::ColumnNotFound(_) | Error::TypeNotFound { .. } => Meaning::Fatal,
            _ => Meaning::Outage,
        };
    };
    let routine = inner.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
    classes::sqlstate(&inner.code().unwrap_or_default(), routine)
}

/// What an error means for whoever only has to know whether to go on.
pub fn class(error: &Error) -> Class {
    meaning(error).class()
}

/// Whether a statement took longer than it may: it may be that it had too much to do.
pub fn timed_out(error: &Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "57014")
}

/// The server's message with its SQLSTATE. Without the detail: that holds values of the row, which belong into a dead
/// letter and into nothing else.
pub fn describe(error: &Error) -> String {
    let Some(inner) = error.as_database_error() else { return error.to_string() };
    format!("{} (SQLSTATE {})", inner.message(), inner.code().unwrap_or_default())
}

/// The same with the detail, for a dead letter.
pub fn describe_row(error: &Error) -> String {
    let Some(inner) = error.as_database_error() else { return error.to_string() };
    let detail = inner
        .try_downcast_ref::<PgDatabaseError>()
        .and_then(|error| error.detail().map(|detail| format!(": {detail}")))
        .unwrap_or_default();
    format!("{}{detail}", describe(error))
}
