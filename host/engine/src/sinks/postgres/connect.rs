//! Connects to PostgreSQL, and interprets its errors.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Error};

use super::hosts::{self, Hosts, Wanted};
use super::pooler;
use crate::classes::{self, ErrorInfo, Meaning};
use tollgate_config::Pipeline;
use tollgate_config::error::Class;
use tollgate_config::limits;

/// Opens a connection with the session settings of the protocol. `role` shows up in pg_stat_activity. With several
/// hosts, it uses the first that responds and accepts writes.
pub async fn open(pipeline: &Pipeline, role: &str) -> Result<PgConnection, Error> {
    let hosts = Hosts::parse(pipeline.postgres.url.expose()).map_err(|error| Error::Configuration(Box::new(error)))?;
    // An unreachable host sends no response, and the operating system would wait for minutes.
    let patience = limits::CONNECT_PATIENCE / u32::try_from(hosts.options.len()).unwrap_or(1).max(1);
    let mut missed = None;
    for options in hosts.options {
        let place = format!("{}:{}", options.get_host(), options.get_port());
        let tried = tokio::time::timeout(patience, greet(pipeline, role, options, hosts.wanted)).await;
        let error = match tried.unwrap_or_else(|_| Err(timed("no answer from PostgreSQL while connecting"))) {
            Ok(Some(connection)) => return Ok(connection),
            // The next host would reject the same login and settings too.
            Err(error) if refuses(&error) => return Err(error),
            Ok(None) => Error::Io(std::io::Error::other(format!("{place} does not accept writes: it is a standby"))),
            Err(error) => error,
        };
        missed = Some(error);
    }
    Err(missed.unwrap_or_else(|| timed("the URL names no host")))
}

/// Like [`open`], for a session that lives as long as its thread: rejects a pooler in transaction mode.
pub async fn hold(pipeline: &Pipeline, role: &str) -> Result<PgConnection, Error> {
    let mut connection = open(pipeline, role).await?;
    let check = pooler::check(&mut connection, open(pipeline, "pooler check"));
    let patience = limits::CONNECT_PATIENCE * 2;
    tokio::time::timeout(patience, check).await.unwrap_or_else(|_| Err(timed("no answer from PostgreSQL")))?;
    Ok(connection)
}

fn timed(message: &'static str) -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
}

/// Opens a connection. Returns `None` if the server is not of the wanted kind.
async fn greet(
    pipeline: &Pipeline,
    role: &str,
    mut options: PgConnectOptions,
    wanted: Wanted,
) -> Result<Option<PgConnection>, Error> {
    if let Some(ca) = &pipeline.postgres.tls_ca {
        options = options.ssl_root_cert(ca);
    }
    // Poolers reject startup settings, unless they are configured to ignore them: then the settings are lost.
    let options = options.application_name(&application_name(pipeline, role)).extra_float_digits(None);
    let mut connection = options.disable_statement_logging().connect().await?;
    if !hosts::fits(&mut connection, wanted).await? {
        return Ok(None);
    }
    sqlx::raw_sql(AssertSqlSafe(settings(pipeline))).execute(&mut connection).await?;
    Ok(Some(connection))
}

/// Returns the session's settings.
///
/// A statement must end before the Kafka transaction beside it: a lane that waits longer repeats its batch for nothing.
/// PostgreSQL ends a transaction that is idle for longer than Kafka keeps the batch's other half: its lane is frozen or
/// cut off, and the next owner waits for the progress rows that it locks.
fn settings(pipeline: &Pipeline) -> String {
    let idle = (pipeline.delivery.transaction_timeout + limits::IDLE_BEYOND_TRANSACTION).as_millis();
    let transaction = pipeline.delivery.transaction_timeout.as_millis();
    let settings = [
        ("statement_timeout", (transaction * 2 / 3).to_string()),
        ("lock_timeout", (transaction / 3).to_string()),
        ("idle_in_transaction_session_timeout", idle.to_string()),
        // Lets the server detect a cut connection and release our locks. Our own side uses
        // `limits::STATEMENT_PATIENCE`.
        ("tcp_keepalives_idle", "5".to_owned()),
        ("tcp_keepalives_interval", "2".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        // The statements are few and fixed, so a custom plan would always equal the generic one.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("jit", "off".to_owned()),
        ("client_min_messages", "warning".to_owned()),
    ];
    settings.iter().map(|(name, value)| format!("SET {name} = {value};")).collect()
}

/// Sets how long the session's statements wait for a lock.
pub async fn wait_for_locks(connection: &mut PgConnection, patience: Duration) -> Result<(), Error> {
    let statement = format!("SET lock_timeout = {}", patience.as_millis());
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

/// Returns the session's `application_name`; PostgreSQL keeps the first 63 bytes.
pub fn application_name(pipeline: &Pipeline, role: &str) -> String {
    let mut name = format!("tollgate {} {role}", pipeline.name);
    name.truncate(name.floor_char_boundary(63));
    name
}

/// Returns the meaning of an error: by its SQLSTATE; without one, the connection broke or the client timed out.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
pub fn meaning(error: &Error) -> Meaning {
    let Some(inner) = error.as_database_error() else {
        return match error {
            Error::Configuration(_) | Error::ColumnNotFound(_) | Error::TypeNotFound { .. } => Meaning::Fatal,
            _ => Meaning::Outage,
        };
    };
    let server = inner.try_downcast_ref::<PgDatabaseError>();
    classes::sqlstate(ErrorInfo {
        code: &inner.code().unwrap_or_default(),
        routine: server.and_then(PgDatabaseError::routine),
        context: server.and_then(PgDatabaseError::r#where),
    })
}

/// Returns whether the server rejects this login or these settings. At startup that ends the process; later it is
/// retried.
pub fn refuses(error: &Error) -> bool {
    matches!(meaning(error), Meaning::Login | Meaning::Fatal)
}

/// Returns the class of an error, for callers that only decide whether to continue.
pub fn class(error: &Error) -> Class {
    meaning(error).class()
}

/// Returns whether a statement timed out, possibly because it had too much to do.
pub fn timed_out(error: &Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "57014")
}

/// Returns the server's message with its SQLSTATE, without the detail. The detail contains values of the row, which may
/// appear only in a dead letter.
pub fn describe(error: &Error) -> String {
    if let Error::Configuration(why) = error {
        return why.to_string();
    }
    let Some(inner) = error.as_database_error() else { return error.to_string() };
    format!("{} (SQLSTATE {})", inner.message(), inner.code().unwrap_or_default())
}

/// Returns the message with the detail, for a dead letter.
pub fn describe_row(error: &Error) -> String {
    let Some(inner) = error.as_database_error() else { return error.to_string() };
    let detail = inner
        .try_downcast_ref::<PgDatabaseError>()
        .and_then(|error| error.detail().map(|detail| format!(": {detail}")))
        .unwrap_or_default();
    format!("{}{detail}", describe(error))
}
