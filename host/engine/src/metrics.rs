//! The metrics for operators. They are updated once per batch, never once per event.

mod labels;
mod tally;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use self::labels::{
    CoercedLabels, HaltLabels, InfoLabels, LaneLabels, LookupLabels, NoticeLabels, PartitionLabels, ReasonLabels,
    SinkLabels, StageLabels, SwapLabels, TransitionLabels, TypeLabels, VerdictLabels, VersionLabels,
};
use self::tally::Tallies;
pub use self::tally::Tally;
use crate::brakes::sink::{Sink, State};
use crate::position::{NextOffset, Partition};
use crate::progress::halts::Halt;
use tollgate_decide::dead_letter;
use tollgate_registry::Stats;

/// The number of transform codes that get their own label. Transforms can invent any number of codes, and unbounded
/// labels leak memory. Tollgate's own codes are a fixed list, and each has its label.
const REASONS: usize = 200;

/// The number of notes that get their own labels: producers choose field numbers and JSON keys.
const NOTICES: usize = 200;

pub struct Metrics {
    registry: Mutex<Registry>,
    events: Family<VerdictLabels, Counter>,
    reasons: Mutex<BTreeSet<String>>,
    batch_events: Histogram,
    batch_seconds: Histogram,
    stages: Family<StageLabels, Histogram>,
    fetched: Counter,
    fetched_bytes: Counter,
    rows: Counter,
    nul_texts: Counter,
    partition_failures: Counter,
    coerced: Family<CoercedLabels, Counter>,
    fuel: Counter,
    pauses: Counter,
    gaps: Counter,
    retries: Counter,
    redone: Counter,
    repeated: Counter,
    breakers: Family<SinkLabels, Gauge>,
    transitions: Family<TransitionLabels, Counter>,
    partitions: Gauge,
    takeover: Histogram,
    lag: Family<PartitionLabels, Gauge>,
    stalled: Family<PartitionLabels, Gauge<f64, AtomicU64>>,
    committed: Mutex<BTreeMap<Partition, NextOffset>>,
    exhausted: Mutex<BTreeMap<Partition, NextOffset>>,
    poll_interval: Gauge<f64, AtomicU64>,
    batch_wait: Family<LaneLabels, Gauge<f64, AtomicU64>>,
    last_batch: Family<LaneLabels, Gauge<f64, AtomicU64>>,
    stage_age: Family<LaneLabels, Gauge>,
    dead_letter_depth: Gauge,
    dead_letter_alert: Gauge,
    ready: Gauge,
    paused: Gauge,
    halted: Family<HaltLabels, Gauge>,
    revision: Gauge,
    swaps: Family<SwapLabels, Counter>,
    deprecated: Family<VersionLabels, Counter>,
    schemas: Family<LookupLabels, Counter>,
    schemas_kept: Gauge,
    typed: Family<TypeLabels, Counter>,
    observed: Family<ReasonLabels, Counter>,
    noticed: Family<NoticeLabels, Counter>,
    notices: Mutex<HashSet<NoticeLabels>>,
    info: Family<InfoLabels, Gauge>,
    tally: Tallies,
}

fn seconds(first: f64) -> Histogram {
    Histogram::new(exponential_buckets(first, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("tollgate");
        let metrics = Metrics {
            registry: Mutex::default(),
            events: Family::default(),
            reasons: Mutex::default(),
            batch_events: Histogram::new(exponential_buckets(1.0, 2.0, 18)),
            batch_seconds: seconds(0.001),
            // Finer buckets than elsewhere: the commit time is judged by its quantiles.
            stages: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_1, 2.0_f64.powf(0.25), 64))
            }),
            fetched: Counter::default(),
            fetched_bytes: Counter::default(),
            rows: Counter::default(),
            nul_texts: Counter::default(),
            partition_failures: Counter::default(),
            coerced: Family::default(),
            fuel: Counter::default(),
            pauses: Counter::default(),
            gaps: Counter::default(),
            retries: Counter::default(),
            redone: Counter::default(),
            repeated: Counter::default(),
            breakers: Family::default(),
            transitions: Family::default(),
            partitions: Gauge::default(),
            takeover: seconds(0.001),
            lag: Family::default(),
            stalled: Family::default(),
            committed: Mutex::default(),
            exhausted: Mutex::default(),
            poll_interval: Gauge::default(),
            batch_wait: Family::default(),
            last_batch: Family::default(),
            stage_age: Family::default(),
            dead_letter_depth: Gauge::default(),
            dead_letter_alert: Gauge::default(),
            ready: Gauge::default(),
            paused: Gauge::default(),
            halted: Family::default(),
            revision: Gauge::default(),
            swaps: Family::default(),
            deprecated: Family::default(),
            schemas: Family::default(),
            schemas_kept: Gauge::default(),
            typed: Family::default(),
            observed: Family::default(),
            noticed: Family::default(),
            notices: Mutex::default(),
            info: Family::default(),
            tally: Tallies::default(),
        };
        metrics.register(&mut registry);
        Metrics { registry: Mutex::new(registry), ..metrics }
    }
}

impl Metrics {
    fn register(&self, r: &mut Registry) {
        r.register("events", "Committed events, by verdict and reason", self.events.clone());
        r.register("batch_events", "Events in a batch", self.batch_events.clone());
        r.register_with_unit(
            "batch",
            "Duration of a batch in its lane, including all attempts",
            Unit::Seconds,
            self.batch_seconds.clone(),
        );
        r.register_with_unit("stage", "Duration of an attempt, by stage", Unit::Seconds, self.stages.clone());
        r.register("records_fetched", "Records fetched from Kafka", self.fetched.clone());
        r.register_with_unit("fetched", "Values fetched from Kafka", Unit::Bytes, self.fetched_bytes.clone());
        r.register("rows_affected", "Rows that PostgreSQL inserted, updated or deleted", self.rows.clone());
        r.register("nul_texts", "Texts stored without their NUL characters", self.nul_texts.clone());
        let failures = self.partition_failures.clone();
        r.register("partition_failures", "Partitions of a table that could not be created in advance", failures);
        r.register("coerced_values", "JSON values read in a form listed in contract.coerce", self.coerced.clone());
        r.register("typed_events", "Committed events, by type and verdict", self.typed.clone());
        r.register("deprecated", "Events of deprecated versions", self.deprecated.clone());
        r.register("schema_lookups", "Lookups of schemas that were not in memory, by result", self.schemas.clone());
        r.register("schemas_kept", "Schemas and unknown ids in memory", self.schemas_kept.clone());
        r.register("observed", "Events accepted under mode: observe despite a violation", self.observed.clone());
        r.register("noticed", "Deviations that a policy accepted and counted", self.noticed.clone());
        r.register("fuel_used", "Fuel that transforms used", self.fuel.clone());
        r.register(
            "backpressure_pauses",
            "Times that a lane's partitions were paused because its queue was full",
            self.pauses.clone(),
        );
        r.register("offset_gaps", "Gaps in the offsets, left by transaction markers and compaction", self.gaps.clone());
        r.register("redone_events", "Events produced again from a redo plan", self.redone.clone());
        r.register("repeated_events", "Events dropped because they were processed before", self.repeated.clone());
        r.register("retries", "Failed attempts at a batch that were retried", self.retries.clone());
        r.register("breaker_state", "State of a circuit breaker: 0 closed, 1 half open, 2 open", self.breakers.clone());
        r.register("breaker_transitions", "State changes of circuit breakers", self.transitions.clone());
        r.register("partitions_assigned", "Partitions assigned to this process", self.partitions.clone());
        r.register_with_unit("takeover", "Time from assignment to first fetch", Unit::Seconds, self.takeover.clone());
        r.register("consumer_lag_records", "Records between the committed offset and the end", self.lag.clone());
        r.register_with_unit(
            "partition_stalled",
            "Time for which a partition has had lag and committed nothing",
            Unit::Seconds,
            self.stalled.clone(),
        );
        r.register_with_unit(
            "max_poll_interval_used",
            "Duration of the longest batch, as a share of max_poll_interval",
            Unit::Ratios,
            self.poll_interval.clone(),
        );
        r.register_with_unit("batch_wait", "How long batches wait to fill", Unit::Seconds, self.batch_wait.clone());
        r.register_with_unit("last_batch", "Duration of a lane's last batch", Unit::Seconds, self.last_batch.clone());
        r.register("stage_age_transactions", "Age of a lane's temporary table", self.stage_age.clone());
        r.register(
            "dead_letter_depth_records",
            "Offsets in the dead letter topic, including transaction markers",
            self.dead_letter_depth.clone(),
        );
        r.register("dead_letter_alert", "1 while the depth is at least alert_depth", self.dead_letter_alert.clone());
        r.register("ready", "1 while Kafka and PostgreSQL are connected and the group is joined", self.ready.clone());
        r.register("paused", "1 while the dead letter limit or mode: halt pauses the pipeline", self.paused.clone());
        r.register("partition_halted", "1 for each halted partition of this process", self.halted.clone());
        r.register("revision", "Swaps that this process has applied since its start", self.revision.clone());
        r.register("swaps", "Reloads, by result", self.swaps.clone());
        r.register("build_info", "Always 1; pipeline, version and revision digest", self.info.clone());
    }

    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.registry.lock()
            && encode(&mut text, &registry).is_err()
        {
            tracing::error!("metrics could not be encoded");
        }
        text
    }

    /// Counts the verdicts of a batch by verdict and reason.
    pub fn verdicts(&self, counts: &BTreeMap<(&str, &str), u64>) {
        for ((verdict, reason), count) in counts {
            let known = match self.reasons.lock() {
                _ if reason.is_empty() || dead_letter::is_builtin(reason) => true,
                Ok(mut reasons) if reasons.contains(*reason) || reasons.len() < REASONS => {
                    reasons.insert((*reason).to_owned());
                    true
                }
                _ => false,
            };
            let reason = if known { reason } else { "other" };
            let labels = VerdictLabels { verdict: (*verdict).to_owned(), reason: reason.to_owned() };
            self.events.get_or_create(&labels).inc_by(*count);
            self.tally.change(|tally| {
                tally.events += count;
                if *verdict == "reject" {
                    *tally.dead_letters.entry(reason.to_owned()).or_default() += count;
                }
            });
        }
    }

    /// Counts events of a type; the type is empty if it could not be determined.
    pub fn typed(&self, event_type: &str, verdict: &'static str, events: u64) {
        if events > 0 {
            // The configuration bounds the types.
            self.typed.get_or_create(&TypeLabels { event_type: event_type.to_owned(), verdict }).inc_by(events);
        }
    }

    pub fn batch(&self, lane: usize, events: usize, took: Duration) {
        #[allow(clippy::cast_precision_loss, reason = "a histogram's value; batches are far below 2^53")]
        self.batch_events.observe(events as f64);
        self.batch_seconds.observe(took.as_secs_f64());
        self.last_batch.get_or_create(&LaneLabels::of(lane)).set(took.as_secs_f64());
    }

    /// Sets how many transactions ago the temporary table of a lane's session was created.
    pub fn stage_age(&self, lane: usize, transactions: i64) {
        self.stage_age.get_or_create(&LaneLabels::of(lane)).set(transactions);
    }

    /// Sets how long a lane's batches currently wait to fill up.
    pub fn waited(&self, lane: usize, wait: Duration) {
        self.batch_wait.get_or_create(&LaneLabels::of(lane)).set(wait.as_secs_f64());
    }

    pub fn stage(&self, stage: &'static str, took: Duration) {
        self.stages.get_or_create(&StageLabels { stage }).observe(took.as_secs_f64());
    }

    pub fn fetched(&self, bytes: usize) {
        self.fetched.inc();
        self.fetched_bytes.inc_by(u64::try_from(bytes).unwrap_or_default());
    }

    /// Counts the rows of a batch that PostgreSQL changed, and the texts that were stored without their NULs.
    pub fn rows(&self, affected: u64, nul_texts: u64) {
        self.rows.inc_by(affected);
        self.nul_texts.inc_by(nul_texts);
        self.tally.change(|tally| tally.rows += affected);
    }

    /// Counts a partition that could not be created.
    pub fn partition_failed(&self) {
        self.partition_failures.inc();
    }

    /// Counts the outputs of a completed batch.
    pub fn outputs(&self, produced: u64) {
        self.tally.change(|tally| tally.outputs += produced);
    }

    /// Returns the totals since startup, for the summary in the log.
    pub fn tallied(&self) -> Tally {
        self.tally.now()
    }

    /// Counts events accepted under `mode: observe`. Returns whether they are the first with their code.
    pub fn observed(&self, code: &str, events: u64) -> bool {
        self.observed.get_or_create(&ReasonLabels { reason: code.to_owned() }).inc_by(events) == 0
    }

    /// Counts deviations that a policy accepted. Returns whether they are the first with their labels. Beyond the limit
    /// the labels are `other`.
    pub fn noticed(&self, policy: &'static str, type_name: &str, member: &str, count: u64) -> bool {
        let mut labels = NoticeLabels { policy, r#type: type_name.to_owned(), member: member.to_owned() };
        let known = match self.notices.lock() {
            Ok(mut notices) if notices.contains(&labels) || notices.len() < NOTICES => {
                notices.insert(labels.clone());
                true
            }
            _ => false,
        };
        if !known {
            labels = NoticeLabels { policy, r#type: "other".to_owned(), member: "other".to_owned() };
        }
        self.noticed.get_or_create(&labels).inc_by(count) == 0
    }

    /// Counts JSON values that were accepted in a form of `contract.coerce`.
    pub fn coerced(&self, field: &str, form: &str, values: u64) {
        // The configuration bounds both.
        let labels = CoercedLabels { field: field.to_owned(), form: form.to_owned() };
        self.coerced.get_or_create(&labels).inc_by(values);
    }

    /// Counts events of a deprecated version. Returns whether they are the first.
    pub fn deprecated(&self, event_type: &str, version: &str, events: u64) -> bool {
        // The configuration bounds both.
        let labels = VersionLabels { event_type: event_type.to_owned(), version: version.to_owned() };
        self.deprecated.get_or_create(&labels).inc_by(events) == 0
    }

    /// Sets the counters of the schema store since startup.
    pub fn schemas(&self, stats: Stats) {
        let Stats { fetched, read, missing, failed, kept } = stats;
        for (result, total) in [("fetched", fetched), ("disk", read), ("unknown", missing), ("failed", failed)] {
            // The store counts; this copies its count.
            self.schemas.get_or_create(&LookupLabels { result }).inner().store(total, Ordering::Relaxed);
        }
        self.schemas_kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    pub fn fuel(&self, used: u64) {
        self.fuel.inc_by(used);
    }

    pub fn pause(&self) {
        self.pauses.inc();
    }

    pub fn gap(&self) {
        self.gaps.inc();
    }

    pub fn repeated(&self, events: usize) {
        self.repeated.inc_by(u64::try_from(events).unwrap_or_default());
    }

    pub fn redone(&self, events: usize) {
        self.redone.inc_by(u64::try_from(events).unwrap_or_default());
    }

    pub fn retry(&self) {
        self.retries.inc();
    }

    /// Sets a breaker's state at the time of the scrape.
    pub fn breaker(&self, sink: Sink, state: State) {
        self.breakers.get_or_create(&SinkLabels { sink: sink.as_str() }).set(state.number());
    }

    /// Counts a change of a breaker's state.
    pub fn transition(&self, sink: Sink, to: State) {
        self.transitions.get_or_create(&TransitionLabels { sink: sink.as_str(), to: to.as_str() }).inc();
    }

    pub fn partitions(&self, count: usize) {
        self.partitions.set(i64::try_from(count).unwrap_or_default());
    }

    pub fn takeover(&self, took: Duration) {
        self.takeover.observe(took.as_secs_f64());
    }

    pub fn committed(&self, positions: &[(Partition, NextOffset)]) {
        if let Ok(mut committed) = self.committed.lock() {
            committed.extend(positions.iter().copied());
        }
    }

    /// Removes the values of partitions that other members own now, since ours become stale.
    pub fn released(&self, partitions: &BTreeSet<Partition>) {
        if let Ok(mut committed) = self.committed.lock() {
            committed.retain(|partition, _| !partitions.contains(partition));
        }
        for partition in partitions {
            self.exhausted(*partition, None);
            let labels = PartitionLabels { partition: i64::from(partition.get()) };
            self.lag.remove(&labels);
            self.stalled.remove(&labels);
            self.tally.change(|tally| tally.lag.retain(|own, _| own != partition));
        }
    }

    /// Returns the last committed positions, for status and lag.
    pub fn positions(&self) -> BTreeMap<Partition, NextOffset> {
        self.committed.lock().map(|committed| committed.clone()).unwrap_or_default()
    }

    /// Records where the fetch reached the partition's end; `None` once it has continued.
    pub fn exhausted(&self, partition: Partition, position: Option<NextOffset>) {
        if let Ok(mut exhausted) = self.exhausted.lock() {
            match position {
                Some(position) => exhausted.insert(partition, position),
                None => exhausted.remove(&partition),
            };
        }
    }

    /// Sets the lag from `next`, which is committed, to `end`, which includes markers and gaps. Returns it.
    pub fn lag(&self, partition: Partition, next: NextOffset, end: NextOffset) -> i64 {
        let exhausted = self.exhausted.lock().is_ok_and(|exhausted| exhausted.get(&partition) == Some(&next));
        let records = if exhausted { 0 } else { (end.get() - next.get()).max(0) };
        self.lag.get_or_create(&PartitionLabels { partition: i64::from(partition.get()) }).set(records);
        self.tally.change(|tally| tally.lag.extend([(partition, records)]));
        records
    }

    /// Sets how long a partition has had lag without a commit.
    pub fn stalled(&self, partition: Partition, still: Duration) {
        self.stalled.get_or_create(&PartitionLabels { partition: i64::from(partition.get()) }).set(still.as_secs_f64());
    }

    pub fn poll_interval_used(&self, share: f64) {
        if share > self.poll_interval.get() {
            self.poll_interval.set(share);
        }
    }

    /// Sets the depth. Returns whether the alert begins with this value.
    pub fn dead_letter_depth(&self, depth: i64, alert: bool) -> bool {
        self.dead_letter_depth.set(depth);
        self.dead_letter_alert.set(i64::from(alert)) == 0 && alert
    }

    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    pub fn paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
    }

    /// Sets the halted partitions of this process; the list is complete.
    pub fn halted(&self, halts: &[Halt]) {
        self.halted.clear();
        for halt in halts {
            let labels = HaltLabels { partition: i64::from(halt.partition.get()), code: halt.code.clone() };
            self.halted.get_or_create(&labels).set(1);
        }
    }

    pub fn swapped(&self, ok: bool, number: u64) {
        self.swaps.get_or_create(&SwapLabels { result: if ok { "taken" } else { "refused" } }).inc();
        self.revision.set(i64::try_from(number).unwrap_or_default());
    }

    pub fn describe(&self, pipeline: &str, digest: &str) {
        self.info.clear();
        self.info
            .get_or_create(&InfoLabels {
                pipeline: pipeline.to_owned(),
                version: env!("CARGO_PKG_VERSION"),
                digest: digest.to_owned(),
            })
            .set(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_have_a_bound_and_the_first_of_each_is_known() {
        let metrics = Metrics::default();
        assert!(metrics.noticed("unknown_fields", "a.A", "9", 2));
        assert!(!metrics.noticed("unknown_fields", "a.A", "9", 2));
        let firsts = (0..1_000).filter(|n| metrics.noticed("unknown_fields", "a.A", &format!("x{n}"), 1)).count();
        assert_eq!(firsts, NOTICES, "one label existed before, and the first `other` counts as new");
        let other = NoticeLabels { policy: "unknown_fields", r#type: "other".to_owned(), member: "other".to_owned() };
        let rest = metrics.noticed.get_or_create(&other).get();
        assert_eq!(usize::try_from(rest).unwrap(), 1_000 - (NOTICES - 1));
    }

    #[test]
    fn invented_codes_do_not_push_out_those_of_tollgate() {
        let metrics = Metrics::default();
        let count = |code: &str| metrics.verdicts(&BTreeMap::from([(("reject", code), 1)]));
        (0..2 * REASONS).for_each(|n| count(&format!("invented-{n}")));
        for code in ["fuel-exhausted", "undecodable", "row-value"] {
            count(code);
        }
        let counted = metrics.tallied().dead_letters;
        assert_eq!(counted["other"], u64::try_from(REASONS).unwrap());
        assert_eq!(["fuel-exhausted", "undecodable", "row-value"].map(|code| counted[code]), [1, 1, 1]);
        assert_eq!(counted.len(), REASONS + 4);
    }

    #[test]
    fn markers_at_the_end_are_no_lag() {
        let metrics = Metrics::default();
        let partition = Partition::new(0);
        let lag = |next| {
            metrics.lag(partition, NextOffset::new(next), NextOffset::new(10));
            metrics.lag.get_or_create(&PartitionLabels { partition: 0 }).get()
        };
        assert_eq!(lag(8), 2);
        metrics.exhausted(partition, Some(NextOffset::new(8)));
        assert_eq!(lag(8), 0, "the fetch has reached the end");
        assert_eq!(lag(7), 3, "a record is fetched but not committed");
        metrics.exhausted(partition, None);
        assert_eq!(lag(8), 2, "more records have arrived");
    }
}
