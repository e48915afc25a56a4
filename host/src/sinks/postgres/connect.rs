//! Connections, and what an error of PostgreSQL's means.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Error};

use crate::config::Pipeline;
use crate::error::Class;

/// Opens a connection with the session settings of the protocol. `role` shows up in pg_stat_activity.
///
/// Statements end after 30 s and lock waits after 10 s: a lane that waits longer would outlive its Kafka transaction.
pub async fn open(pipeline: &Pipeline, role: &str) -> Result<PgConnection, Error> {
    options(pipeline, role)?.connect().await
}

fn options(pipeline: &Pipeline, role: &str) -> Result<PgConnectOptions, Error> {
    let mut options: PgConnectOptions = pipeline.postgres.url.expose().parse()?;
    if let Some(ca) = &pipeline.postgres.tls_ca {
        options = options.ssl_root_cert(ca);
    }
    let options = options.application_name(&format!("tollgate {} {role}", pipeline.name)).options([
        ("statement_timeout", "30s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "60s"),
        // A server that went away must be noticed in seconds, not after two hours.
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

/// What an error means, by SQLSTATE class.
///
/// | class | meaning |
/// |---|---|
/// | 22, 23, and 21000 | the values of some row: poison, to be found by bisection |
/// | 08, 53, 55, 57, 58, 40, XX, and every error without a SQLSTATE | the world's: reconnect, resolve, retry |
/// | 25 | a transaction was cut off by a timeout of ours: retry |
/// | 28, 3D, 3F, 42, 0A and the rest | the operator's: stop with the message |
pub fn class(error: &Error) -> Class {
    let Some(code) = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned())) else {
        return match error {
            Error::Configuration(_) | Error::ColumnNotFound(_) | Error::TypeNotFound { .. } => Class::Fatal,
            _ => Class::Transient,
        };
    };
    match code.get(..2).unwrap_or_default() {
        "21" | "22" | "23" => Class::Poison,
        "08" | "25" | "40" | "53" | "55" | "57" | "58" | "XX" => Class::Transient,
        _ => Class::Fatal,
    }
}

/// The server's message with its SQLSTATE, and the detail, which names the offending value.
pub fn describe(error: &Error) -> String {
    let Some(inner) = error.as_database_error() else { return error.to_string() };
    let code = inner.code().map(|code| code.into_owned()).unwrap_or_default();
    let detail = inner
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .and_then(|error| error.detail().map(|detail| format!(": {detail}")))
        .unwrap_or_default();
    format!("{} (SQLSTATE {code}){detail}", inner.message())
}
