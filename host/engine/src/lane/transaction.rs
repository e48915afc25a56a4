//! The PostgreSQL transaction of a batch, and its participants.
//!
//! | participant | load | contribute | apply |
//! |---|---|---|---|
//! | [`Progress`] | nothing: `resync` has read the positions | nothing | moves the progress rows, and stores the redo plans |
//! | [`Processed`] | the ids that earlier batches have processed | verdicts of repeated events | stores the batch's ids |
//! | [`Rows`] | nothing | the rows of each table | upserts and deletes |
//!
//! They always run in this order, and each locks its rows in sorted order, so that lanes cannot deadlock. The progress rows come
//! first: a lane that has lost its partition does no work.

mod processed;
mod progress;
mod rows;

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use tollgate_decide::Decided;
use tollgate_decide::batch::Record;
use tollgate_decide::gate::Gate;
use tollgate_decide::known::Known;

use super::{Current, Error, Owned};
use crate::position::Partition;

pub(super) use processed::Processed;
pub(super) use progress::Progress;
pub(super) use rows::{Rows, apply as apply_rows};

/// The batch of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub gate: &'a Gate,
    pub current: &'a Current<'a>,
    pub partitions: &'a BTreeMap<Partition, Owned>,
}

impl Scope<'_> {
    /// Returns whether a record's rows are not committed yet.
    pub(super) fn lacks_rows(&self, record: &Record) -> bool {
        self.partitions.get(&record.partition).is_some_and(|owned| owned.resume.rows.lacks(record.offset))
    }
}

/// A part of the transaction.
pub(super) trait Participant {
    /// Reads what the decisions depend on, in at most one round trip, before the transaction begins.
    async fn load(
        &self,
        connection: &mut PgConnection,
        scope: Scope<'_>,
        decided: &Decided,
        known: &mut Known,
    ) -> Result<(), Error>;

    /// Adds its rows, or changes verdicts. It asks no server.
    fn contribute(&self, scope: Scope<'_>, known: &Known, decided: &mut Decided);

    /// Executes its statements inside the transaction.
    ///
    /// # Errors
    /// [`Error::Guard`] or [`Error::Repeated`] if another process changed what `load` or `resync` read: the batch is decided again.
    async fn apply(&self, connection: &mut PgConnection, scope: Scope<'_>, decided: &Decided) -> Result<(), Error>;
}
