//! `postgres.partitions`: what it means for the key, and what it needs.

use sqlx::postgres::PgConnection;

use super::report::Report;
use tollgate_config::{Destination, Mapping, Pipeline};
use tollgate_decide::postgres::quote::quoted_table;

/// What can be said without a connection.
pub(super) fn offline(pipeline: &Pipeline, report: &mut Report) {
    for to in pipeline.destinations() {
        let Some(by) = to.mapping().and_then(|mapping| mapping.partitions.as_ref()) else { continue };
        let key = to.place("postgres.partitions.column");
        let message = format!(
            "the key has {}, since PostgreSQL keeps a key unique only within a partition: two events with the same other key \
             columns and different values of it are two rows, and a delete needs both",
            by.column
        );
        let suggestion =
            "make sure that it never changes for one key, as the time at which something was created does not";
        report.warn(pipeline, "postgres.partition_key", &key, &message, suggestion);
    }
}

/// Whether this role may create partitions. Without it a pipeline runs, and somebody else must create them.
pub(super) async fn rights(
    pipeline: &Pipeline,
    (to, mapping): (Destination<'_>, &Mapping),
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    if mapping.partitions.is_none() {
        return Ok(());
    }
    let name = quoted_table(&mapping.table);
    let may: Option<bool> = sqlx::query_scalar(
        "SELECT pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE')
           FROM pg_class WHERE oid = to_regclass($1)",
    )
    .bind(&name)
    .fetch_optional(connection)
    .await?;
    if may == Some(false) {
        let message =
            format!("this role may not create partitions of {name}: that needs its owner, and CREATE on its schema");
        let suggestion =
            format!("ALTER TABLE {name} OWNER TO …, or run `tollgate setup` as the owner from time to time");
        report.warn(pipeline, "postgres.partition_rights", &to.place("postgres.partitions"), &message, &suggestion);
    }
    Ok(())
}
