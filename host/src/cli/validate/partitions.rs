//! Checks of `postgres.partitions`: its effect on the key, and the rights that it needs.

use sqlx::postgres::PgConnection;

use super::report::Report;
use tollgate_config::{Destination, Mapping, Pipeline};
use tollgate_decide::postgres::quote::quoted_table;

/// Adds the warnings that need no connection.
pub(super) fn offline(pipeline: &Pipeline, report: &mut Report) {
    for to in pipeline.destinations() {
        let Some(by) = to.mapping().and_then(|mapping| mapping.partitions.as_ref()) else { continue };
        let key = to.place("postgres.partitions.column");
        let message = format!(
            "the key includes {}, because PostgreSQL keeps a key unique only within a partition: two events whose keys differ \
             only in this column become two rows, and a delete needs its value too",
            by.column
        );
        let suggestion = "use a column that never changes for one key, such as a creation time";
        report.warn(pipeline, "postgres.partition_key", &key, &message, suggestion);
    }
}

/// Warns if this role may not create partitions. The pipeline still runs, but another role must then create them.
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
        let message = format!(
            "this role may not create partitions of {name}: it must own the table and have CREATE on its schema"
        );
        let suggestion = format!("run ALTER TABLE {name} OWNER TO …, or run `tollgate setup` regularly as the owner");
        report.warn(pipeline, "postgres.partition_rights", &to.place("postgres.partitions"), &message, &suggestion);
    }
    Ok(())
}
