//! The demo's environment: broker, database, and the pipeline between them.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::AssertSqlSafe;

use super::Options;
use super::broker::Broker;
use super::files::{self, Components, Names, Settings};
use super::postgres;
use super::scratch::Scratch;
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_engine::sinks::postgres::connect;

/// The running environment. Dropping it stops what the demo started and deletes its folder.
pub struct Stage {
    pub names: Names,
    pub components: Components,
    pub pipeline: Arc<Pipeline>,
    /// Whether PostgreSQL is a throw-away server.
    pub own_postgres: bool,
    broker: Broker,
    // This is the last field, so that the server stops after its users are dropped.
    _scratch: Scratch,
}

impl Stage {
    /// Starts the servers and writes the pipeline's files. `tell` receives progress messages.
    ///
    /// # Errors
    /// Fails with exit code 3 if a server is unavailable.
    pub async fn set(options: &Options, tell: &dyn Fn(&str)) -> Result<Stage, Failure> {
        let mut scratch = Scratch::new(&postgres::parent())?;
        let foreign = options.real.is_some() || options.postgres.is_some();
        let names = Names::new(&if foreign { format!("-{:x}", now() / 1_000) } else { String::new() });
        let broker = match &options.real {
            Some(brokers) => Broker::Real(brokers.clone()),
            None => Broker::embedded(&names)?,
        };
        let url = match &options.postgres {
            Some(url) => url.clone(),
            None => {
                tell("starting a throw-away PostgreSQL");
                postgres::start(&mut scratch).await?
            }
        };
        let components = Components::find(&options.assets);
        let settings = Settings {
            names: &names,
            brokers: &broker.address(),
            url: &url,
            mode: if broker.is_real() { "effectively_once" } else { "at_least_once" },
            admin: &admin_address().map_err(|error| Failure::environment("demo.port", error))?,
            components: &components,
        };
        let file = files::write(scratch.path(), &settings)
            .map_err(|error| Failure::environment("demo.folder", format!("cannot write the demo's files: {error}")))?;
        let pipeline = Pipeline::load(&file).map_err(|errors| Failure::configuration("config.invalid", errors))?;
        let own_postgres = options.postgres.is_none();
        Ok(Stage { names, components, pipeline: Arc::new(pipeline), own_postgres, broker, _scratch: scratch })
    }

    pub fn real_broker(&self) -> bool {
        self.broker.is_real()
    }

    pub fn brokers(&self) -> String {
        self.broker.address()
    }

    /// Deletes what the demo created on the user's own servers. The engine must have ended.
    pub async fn tidy(&self) {
        self.broker.tidy(&self.pipeline, &self.names).await;
        if self.own_postgres {
            return;
        }
        let table = &self.names.table;
        let name = &self.names.pipeline;
        let done = async {
            let mut connection = connect::open(&self.pipeline, "demo").await?;
            let statement = format!(
                "DROP TABLE IF EXISTS {table}; DELETE FROM tollgate.progress WHERE pipeline = '{name}'; \
                 DELETE FROM tollgate.slot WHERE pipeline = '{name}'; DELETE FROM tollgate.pause WHERE pipeline = '{name}'; \
                 DELETE FROM tollgate.halt WHERE pipeline = '{name}'; DELETE FROM tollgate.resume WHERE pipeline = '{name}'"
            );
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await
        };
        if let Err(error) = done.await {
            tracing::warn!(
                error = connect::describe(&error),
                table,
                "cannot delete the demo's table and progress rows"
            );
        }
    }
}

/// Returns the time in Unix milliseconds.
pub(super) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the default admin address of a pipeline, if its port is free.
fn admin_address() -> std::io::Result<String> {
    let usual = "127.0.0.1:8080";
    if TcpListener::bind(usual).is_ok() {
        return Ok(usual.to_owned());
    }
    Ok(format!("127.0.0.1:{}", postgres::free_port()?))
}
