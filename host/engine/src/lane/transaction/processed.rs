//! `delivery.processed_ids`: the ids of the events whose effects are committed.

use sqlx::postgres::PgConnection;
use tollgate_config::ProcessedIds;
use tollgate_decide::Decided;
use tollgate_decide::known::Known;
use tollgate_decide::processed::Ids;
use tollgate_decide::verdict::Verdict;

use super::{Error, Participant, Scope};
use crate::metrics::Metrics;
use crate::progress::processed;

/// Drops the events whose ids have been processed, and stores the ids of the others.
pub(in crate::lane) struct Processed<'a> {
    pub metrics: &'a Metrics,
}

/// Returns the ids of the records whose rows are not committed yet. If only the outputs are missing, this very event has stored
/// its id.
fn ids<'a>(scope: Scope<'a>, decided: &'a Decided) -> Ids<'a> {
    Ids::of(decided, scope.gate, scope.current.batch, |record| scope.lacks_rows(record))
}

impl Participant for Processed<'_> {
    async fn load(
        &self,
        connection: &mut PgConnection,
        scope: Scope<'_>,
        decided: &Decided,
        known: &mut Known,
    ) -> Result<(), Error> {
        let Some(ProcessedIds { ttl, .. }) = &scope.gate.pipeline.delivery.processed else { return Ok(()) };
        let ids = ids(scope, decided);
        let ids = ids.sorted();
        if !ids.is_empty() {
            let found = processed::known(connection, &scope.gate.pipeline.name, &ids, *ttl).await?;
            known.processed = found.into_iter().collect();
        }
        Ok(())
    }

    fn contribute(&self, scope: Scope<'_>, known: &Known, decided: &mut Decided) {
        let verdicts = ids(scope, decided).verdicts(scope.gate, &known.processed);
        self.metrics.repeated(verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Dropped).count());
        for (index, verdict) in verdicts {
            decided.decisions[index].verdict = verdict;
        }
    }

    async fn apply(&self, connection: &mut PgConnection, scope: Scope<'_>, decided: &Decided) -> Result<(), Error> {
        let Some(ProcessedIds { ttl, .. }) = &scope.gate.pipeline.delivery.processed else { return Ok(()) };
        let ids = ids(scope, decided);
        let ids = ids.sorted();
        if ids.is_empty() {
            return Ok(());
        }
        let new = processed::note(connection, &scope.gate.pipeline.name, &ids, *ttl).await?;
        if usize::try_from(new).unwrap_or_default() == ids.len() { Ok(()) } else { Err(Error::Repeated) }
    }
}
