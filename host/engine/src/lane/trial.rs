//! Makes a pipeline's decisions without servers. Shows what becomes of a raw record, for the fuzz target and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::message::OwnedHeaders;

use super::overdue::Overdues;
use super::stuck::StuckOutage;
use super::{Current, produce};
use crate::runtime::build;
use tollgate_config::error::Failure;
use tollgate_config::{Pipeline, Pools};
use tollgate_decide::Decided;
use tollgate_decide::batch::{Batch, Raw, RecordBatch};
use tollgate_decide::contracts::{Contracts, changes, contracts, envelope, header_names};
use tollgate_decide::entry::Entry;
use tollgate_decide::gate::{Gate, Revision};
use tollgate_decide::known::Known;
use tollgate_decide::postgres::Table;
use tollgate_decide::postgres::cell::PgColumn;
use tollgate_decide::record::RawHeader;
use tollgate_decide::record::{Headers, NewRecord};
use tollgate_decide::verdict::Verdict;

/// A pipeline that is connected to no server.
pub struct Trial {
    gate: Gate,
    revision: Arc<Revision>,
    decided: Decided,
    batch: RecordBatch,
}

/// The result of a record.
#[derive(Debug)]
pub struct Settled {
    /// `pass`, `delete`, `drop`, or a dead letter's code.
    pub verdict: String,
    pub letters: Vec<Made>,
    /// The numbers of rows written and deleted, by table.
    pub rows: Vec<(usize, usize)>,
}

/// A record that would be produced.
pub struct Made {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<_> = crate::kafka::headers::all(self.headers.as_borrowed()).collect();
        write!(f, "{} {:?} {:?} {headers:?}", self.topic, self.key, self.value)
    }
}

impl Trial {
    /// Builds the pipeline. `columns` are what PostgreSQL's catalogue would report for the table of every type. A
    /// registry is not part of the trial.
    ///
    /// # Errors
    /// Fails if the pipeline does not fit its contract, its components or the columns.
    pub fn new(pipeline: Pipeline, pools: &Pools, columns: &[PgColumn]) -> Result<Trial, Failure> {
        let contracts = contracts(&pipeline, pools)?;
        let envelope = envelope(&pipeline, pools)?;
        let changes = changes(&pipeline, pools)?;
        let sandbox = build::sandbox(&pipeline)?;
        let held = contracts.iter().map(Contracts::of_revision);
        let revision = build::revision(&pipeline, held, envelope.as_ref(), &sandbox, 0)
            .map_err(|error| Failure::configuration("transform.refused", error))?;
        let tables = pipeline.destinations().zip(contracts.iter().flat_map(Contracts::outgoing));
        let tables = tables
            .map(|(to, outgoing)| {
                to.mapping().map(|mapping| Table::of(mapping, columns, &outgoing.contract)).transpose()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::configuration("environment.incomplete", error))?;
        let compacted = BTreeSet::new();
        let (types, tables) = build::with_tables(&pipeline, contracts, tables, &compacted);
        let header_names = header_names(envelope.as_ref(), changes.as_ref());
        // The limit is as small as a topic's may be, so that dead letters by reference occur too.
        let topic_bytes = BTreeMap::from([(pipeline.dead_letter.topic.clone(), 8 << 10)]);
        let pipeline = Arc::new(pipeline);
        let gate =
            Gate { pipeline, types, tables, framing: None, envelope, changes, header_names, topic_bytes, compacted };
        Ok(Trial { gate, revision: Arc::new(revision), decided: Decided::default(), batch: RecordBatch::default() })
    }

    /// Decides a record as the only one of its batch, taken at `time` (Unix milliseconds).
    ///
    /// # Errors
    /// Returns errors after which a lane would retry. Without servers none occur.
    pub fn decide(
        &mut self,
        raw: &Raw<'_>,
        headers: &[RawHeader<'_>],
        time: i64,
    ) -> Result<Settled, tollgate_decide::Error> {
        self.batch.clear();
        self.batch.push(raw, headers.iter().copied(), 0);
        let Trial { gate, revision, decided, batch } = self;
        let work = Batch { records: batch, work: &[0], time };
        decided.decide(gate, revision, work, &Known::default())?;
        decided.rows(gate, revision, work, |_| true);
        let mut written = Vec::new();
        for (rows, table) in decided.rows.iter().zip(&gate.tables) {
            let shape = &table.shape;
            let folded = rows.fold(shape);
            written.push((folded.upserts(), folded.deletes()));
            (0..shape.key.len()).for_each(|place| drop(rows.deleted(shape, &folded, place)));
            (0..shape.columns.len()).for_each(|column| drop(rows.array(shape, &folded, column)));
        }
        let current = Current {
            batch,
            revision: Arc::clone(revision),
            time,
            tried: 0,
            overdue: Overdues::default(),
            stuck: StuckOutage::default(),
        };
        let decision = &decided.decisions[0];
        let record = &batch.records[0];
        let made = |letter: &NewRecord<'_>, headers: &Headers<'_>| Made {
            topic: letter.topic.to_owned(),
            key: letter.key.map(<[u8]>::to_vec),
            value: letter.value.map(<[u8]>::to_vec),
            headers: produce::list(batch, record, headers, &gate.pipeline.source.topic, &revision.digest),
        };
        let mut letters = Vec::new();
        let verdict = match (&decision.verdict, decision.kind) {
            (Verdict::Outputs(_), Some(kind)) => {
                let entry = Entry { gate, revision, batch, record, time, kind };
                for output in decided.outputs(entry, decision) {
                    let Ok(output) = output else { continue };
                    let Some(topic) = output.destination.topic.as_deref() else { continue };
                    let letter = NewRecord { topic, partition: None, key: output.key, value: output.payload };
                    letters.push(made(&letter, &produce::headers(entry, decided.passed(gate, decision), &output)));
                }
                "pass"
            }
            (Verdict::Outputs(_), None) => "pass",
            (Verdict::Delete, _) => "delete",
            (Verdict::Dropped, _) => "drop",
            (Verdict::Dead(reason), kind) => {
                let (letter, headers) = produce::dead_letter(gate, &current, kind, record, reason);
                letters.push(made(&letter, &headers));
                &*reason.code
            }
        };
        Ok(Settled { verdict: verdict.to_owned(), letters, rows: written })
    }
}
