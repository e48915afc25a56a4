//! Maintains what a lane's PostgreSQL session keeps from batch to batch.

use std::time::Instant;

use super::Lane;
use super::wait::patient;
use crate::sinks::postgres::stage;
use tollgate_config::limits;

impl Lane {
    /// Drops a temporary table that the session has kept for too long. Call it between two batches.
    pub(super) fn renew_stage(&mut self) {
        if self.stage_seen.elapsed() < limits::STAGE_LOOK {
            return;
        }
        self.stage_seen = Instant::now();
        let Some(connection) = self.connection.as_mut() else { return };
        match patient(&self.runtime, async { Ok(stage::renew(connection).await?) }) {
            Ok(age) => self.metrics.stage_age(self.number, age),
            Err(error) => {
                tracing::debug!(lane = self.number, %error, "lost the session; the next batch opens a new one");
                (self.connection, self.rows_in_doubt) = (None, true);
            }
        }
    }
}
