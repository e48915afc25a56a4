//! Tollgate's own tables, created by the migrations in `migrations/`.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;

/// Every migration, in order. A released migration never changes: sqlx compares checksums.
pub const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "tollgate", include_str!("../../../../migrations/0001_tollgate.sql")),
    (2, "processed", include_str!("../../../../migrations/0002_processed.sql")),
    (3, "halts", include_str!("../../../../migrations/0003_halts.sql")),
    (4, "token", include_str!("../../../../migrations/0004_token.sql")),
];

/// The tables that the migrations create. `run` checks that they exist, because its role may lack access to the list of
/// migrations.
pub const TABLES: &[&str] =
    &["tollgate.progress", "tollgate.slot", "tollgate.pause", "tollgate.processed", "tollgate.halt", "tollgate.resume"];

/// Columns that were added after their table, one for each migration that adds some.
pub const COLUMNS: &[(&str, &str)] = &[("tollgate.progress", "commit_no")];

/// Returns the statements of the migrations that this database still lacks, in order.
///
/// # Errors
/// Fails if the database rejects the query.
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

/// Brings the schema `tollgate` up to date. Several processes may call it at the same time.
///
/// # Errors
/// Fails if the database rejects a statement, or has a migration that this version does not know.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // The list is stored beside our tables, not in the schema of the user's tables.
    migrator.create_schema("tollgate");
    migrator.dangerous_set_table_name("tollgate.migration");
    migrator.run(connection).await
}
