//! A test's own database, with a blocking interface.

use std::sync::Mutex;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::runtime::Runtime;

/// PostgreSQL copies one template at a time.
static CREATING: Mutex<()> = Mutex::new(());

pub struct Database {
    runtime: Runtime,
    url: String,
}

impl Database {
    /// Creates the database `name` on the server of the URL `server`.
    pub fn create(server: &str, name: &str) -> Database {
        let (base, _) = server.rsplit_once('/').unwrap();
        let database = Database { runtime: runtime(), url: format!("{base}/{name}") };
        let server = Database { runtime: runtime(), url: server.to_owned() };
        let _one_at_a_time = CREATING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        server.run(&format!("CREATE DATABASE \"{name}\""));
        database
    }

    /// Returns another handle of the same database.
    #[must_use]
    pub fn again(&self) -> Database {
        Database { runtime: runtime(), url: self.url.clone() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements without parameters and ignores their results.
    pub fn run(&self, sql: &str) {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    pub fn rows(&self, sql: &str) -> Vec<PgRow> {
        self.try_rows(sql).unwrap()
    }

    /// # Errors
    /// Fails if the server cannot be reached or rejects the statement.
    pub fn try_rows(&self, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await?;
            let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await?;
            connection.close().await?;
            Ok(rows)
        })
    }

    /// Returns one number, or 0 for NULL.
    pub fn number(&self, sql: &str) -> i64 {
        self.rows(sql)[0].get::<Option<i64>, _>(0).unwrap_or(0)
    }

    /// Returns one text for each row.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.rows(sql).iter().map(|row| row.get(0)).collect()
    }
}

/// A transaction that stays open, with its locks, until this value is dropped.
pub struct Held {
    runtime: Runtime,
    connection: Option<PgConnection>,
}

impl Database {
    /// Opens a transaction, runs a statement in it and leaves it open.
    pub fn hold(&self, sql: &str) -> Held {
        let runtime = runtime();
        let connection = runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {sql}"))).execute(&mut connection).await.unwrap();
            connection
        });
        Held { runtime, connection: Some(connection) }
    }
}

impl Held {
    /// Commits the transaction.
    pub fn commit(mut self) {
        if let Some(mut connection) = self.connection.take() {
            self.runtime.block_on(async {
                sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            });
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The connection may already be gone, and its locks with it.
            drop(self.runtime.block_on(connection.close()));
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
