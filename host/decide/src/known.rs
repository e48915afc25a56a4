//! Facts that were read before a batch is decided. Deciding itself reads nothing.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_protocol::position::Partition;
use tollgate_sandbox::Overdue;

use crate::schemas::Schemas;

/// What the caller has read for a batch. A schema that is needed and not here is reported by [`Error::Missing`]; the caller
/// reads it and decides the batch again.
///
/// [`Error::Missing`]: crate::Error::Missing
#[derive(Debug, Default)]
pub struct Known {
    pub schemas: Schemas,
    /// The events that were interrupted at their deadline in earlier attempts at this batch.
    pub overdue: BTreeMap<Partition, Vec<Overdue>>,
    /// Those of the batch's ids (see [`processed`](crate::processed)) that an earlier batch has processed.
    pub processed: BTreeSet<Vec<u8>>,
}
