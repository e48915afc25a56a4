//! The rows of the tables.

use sqlx::postgres::PgConnection;
use tollgate_decide::Decided;
use tollgate_decide::gate::Gate;
use tollgate_decide::known::Known;
use tollgate_decide::postgres;

use super::{Error, Participant, Scope};
use crate::metrics::Metrics;
use crate::sinks::postgres as sink;

/// Writes the rows of a batch.
pub(in crate::lane) struct Rows<'a> {
    pub metrics: &'a Metrics,
}

impl Participant for Rows<'_> {
    async fn load(&self, _: &mut PgConnection, _: Scope<'_>, _: &Decided, _: &mut Known) -> Result<(), Error> {
        Ok(())
    }

    fn contribute(&self, scope: Scope<'_>, _: &Known, decided: &mut Decided) {
        let current = scope.current;
        decided.rows(scope.gate, &current.revision, current.batch(&[]), |record| scope.lacks_rows(record));
    }

    async fn apply(&self, connection: &mut PgConnection, scope: Scope<'_>, decided: &Decided) -> Result<(), Error> {
        let affected = apply(connection, scope.gate, &decided.rows).await?;
        self.metrics.rows(affected, decided.rows.iter().map(postgres::Rows::cleaned).sum());
        Ok(())
    }
}

/// Applies the batch's effects, table by table in the types' order: all lanes use the same order to avoid deadlocks.
pub(in crate::lane) async fn apply(
    connection: &mut PgConnection,
    gate: &Gate,
    rows: &[postgres::Rows],
) -> Result<u64, sqlx::Error> {
    let mut affected = 0;
    for (table, rows) in gate.tables.iter().zip(rows) {
        affected += sink::apply(connection, table, rows).await?;
    }
    Ok(affected)
}
