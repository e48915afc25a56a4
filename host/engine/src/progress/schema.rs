//! Tollgate's own tables, by the migrations in `migrations/`.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;

/// Every migration, in order. A released one never changes: sqlx compares checksums.
pub const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "tollgate", include_str!("../../../../migrations/0001_tollgate.sql")),
    (2, "processed", include_str!("../../../../migrations/0002_processed.sql")),
    (3, "halts", include_str!("../../../../migrations/0003_halts.sql")),
    (4, "token", include_str!("../../../../migrations/0004_token.sql")),
];

/// What the migrations have made. `run` looks whether they are there: its role need not be able to read which migrations were.
pub const TABLES: &[&str] =
    &["tollgate.progress", "tollgate.slot", "tollgate.pause", "tollgate.processed", "tollgate.halt", "tollgate.resume"];

/// Columns that came later than their table, one for each migration that adds some.
pub const COLUMNS: &[(&str, &str)] = &[("tollgate.progress", "commit_no")];

/// The statements of those migrations that this database has not had, in order.
///
/// # Errors
/// The database refuses.
pub async fn pending(connection: &mut PgConnection) -> sqlx::Result<Vec<&'static str>> {
    let begun: bool =
        sqlx::query_scalar("SELECT to_regclass('tollgate.migration') IS NOT NULL").fetch_one(&mut *connection).await?;
    let had: Vec<i64> = if begun {
        sqlx::query_scalar("SELECT version FROM tollgate.migration WHERE success").fetch_all(connection).await?
    } else {
        Vec::new()
    };
    let pending = MIGRATIONS.iter().filter(|(version, ..)| !had.contains(version));
    Ok(pending.map(|(_, _, sql)| *sql).collect())
}

/// Brings the schema `tollgate` up to date. Safe to call from several processes at once.
///
/// # Errors
/// The database refuses, or holds a migration that this version does not know.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // Beside our tables, not in the schema that the user's tables are in.
    migrator.create_schema("tollgate");
    migrator.dangerous_set_table_name("tollgate.migration");
    migrator.run(connection).await
}
