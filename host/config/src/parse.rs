//! Parses pipeline.yaml to a [`Pipeline`]: section by section, with defaults from `limits.rs`, then checks across
//! sections.

mod contract;
mod conversion;
mod debezium;
mod envelope;
mod names;
mod once;
mod policies;
mod postgres;
mod routes;
mod source;
mod template;
mod types;

use super::model::*;
use super::reader::{
    self, ConfigErrors, Environment, Field, Seen, Table, boolean, bytes_within, choice, duration_within, number_within,
    path, within,
};
use crate::limits;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;
use template::Shared;

impl Pipeline {
    /// Reads and checks a pipeline.yaml; variables come from the process's environment. Uses no network, and reads only
    /// this file and those named by `${file:…}`.
    ///
    /// # Errors
    /// Returns all errors in the file at once.
    pub fn load(path: &Path) -> Result<Pipeline, ConfigErrors> {
        let text = reader::load_text(path)?;
        let env = |name: &str| std::env::var(name).ok();
        Pipeline::parse(path, &text, &env)
    }

    /// Parses a text like [`Pipeline::load`]. Messages show `path`, and relative paths start in its folder.
    ///
    /// # Errors
    /// Returns all errors in the file at once.
    pub fn parse(path: &Path, text: &str, env: Environment<'_>) -> Result<Pipeline, ConfigErrors> {
        parse_seen(path, text, env).0
    }

    /// Returns a path from the file, relative to the working directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// Returns a path from the file for use in messages: a path from `${…}` is shown as written in the file.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.origins.shown(path, &self.base)
    }
}

pub(super) fn parse_seen(path: &Path, text: &str, env: Environment<'_>) -> (Result<Pipeline, ConfigErrors>, Seen) {
    let base = reader::folder_of(path);
    let file = path.display().to_string();
    let (result, seen) = reader::read_seen(&file, text, base, env, |root| read_pipeline(root, path, base));
    let result =
        result.map(|pipeline| Pipeline { places: seen.places.clone(), origins: seen.origins.clone(), ..pipeline });
    (result, seen)
}

fn read_pipeline(root: &Table<'_>, file: &Path, base: &Path) -> Option<Pipeline> {
    let mut shared = Shared::read(root);
    let name = root.need("pipeline", names::pipeline);
    let source = source::read(root, &mut shared, base);
    let typed = root.has("types");
    let contract = root.need_table("contract", |table| contract::read(table, base, typed));
    let dead_letter = read_dead_letter(root, &mut shared);
    let postgres = postgres::read(root, base, typed);
    let types = types::read(root, contract.as_ref(), postgres.as_ref());
    let longest_poll = source.as_ref().map_or(limits::MAX_POLL_INTERVAL, |source| source.max_poll_interval);
    let largest_event = contract.as_ref().map_or(limits::EVENT_BYTES, |(contract, _)| contract.policies.max_bytes);
    let delivery = read_delivery(root, &mut shared, longest_poll, largest_event);
    let admin = root.table_or_empty("admin", read_admin);
    let acknowledged = root.table("acknowledge", read_acknowledged).unwrap_or_default();
    let lanes = root.or("lanes", within(1, limits::LANES), default_lanes());
    let deadline = || duration_within(limits::SECOND, limits::DEADLINE_MAX);
    let shutdown = root.or("shutdown", deadline(), limits::SHUTDOWN);
    let start_deadline = root.or("start_deadline", deadline(), limits::START_DEADLINE);
    let backlog_from = shared.backpressure.from().unwrap_or("backpressure").to_owned();
    let letters_from = shared.dlq_topic.from().unwrap_or("dead_letter.topic").to_owned();
    let ((contract, _), (postgres, _)) = (contract?, postgres?);
    let mut pipeline = Pipeline {
        name: name?,
        file: file.to_owned(),
        base: base.to_owned(),
        source: source?,
        contract,
        types: types?,
        dead_letter: dead_letter?,
        postgres,
        delivery: delivery?,
        retry: shared.retry.take().unwrap_or_else(template::default_retry),
        backpressure: shared.backpressure.take().unwrap_or_else(template::default_backpressure),
        admin: admin?,
        lanes,
        shutdown,
        start_deadline,
        acknowledged,
        places: reader::Places::default(),
        origins: reader::Origins::default(),
    };
    check_topics(root, &pipeline, &letters_from);
    debezium::complete(root, &mut pipeline);
    check_tombstones(root, &pipeline);
    types::check(root, &pipeline);
    check_backlog(root, &pipeline, &backlog_from);
    Some(pipeline)
}

/// Returns the number of cores available to this process.
fn default_lanes() -> usize {
    available_parallelism().map_or(1, usize::from).min(limits::LANES)
}

/// Reads one path or a list of paths.
fn read_paths(field: &Field<'_>) -> Option<Vec<PathBuf>> {
    if !field.is_list() {
        return Some(vec![field.scalar(path)?]);
    }
    let items = field.items()?;
    if items.is_empty() {
        return field.complain("lists no files or folders");
    }
    items.iter().map(|item| item.scalar(path)).collect()
}

fn read_transform(table: &Table<'_>) -> Option<Transform> {
    let component = table.need("component", path);
    let ceiling = table.table("ceiling", read_ceiling).unwrap_or_default();
    let config = table.field("config").and_then(|field| {
        if !field.is_table() {
            return field.complain("must be a mapping, because it overrides the component's configuration key by key");
        }
        field.json()
    });
    let routes = table.table("routes", routes::read);
    let (config, config_written) = config.map(|json| (json.value, json.written)).unzip();
    Some(Transform { component: component?, ceiling, config, config_written, routes: routes.unwrap_or_default() })
}

fn read_ceiling(table: &Table<'_>) -> Option<Ceiling> {
    let (least, most) = limits::CEILING_MEMORY;
    let (least_compile, most_compile) = limits::CEILING_COMPILE_TIME;
    Some(Ceiling {
        fuel: table.get("fuel", within(1, u64::MAX)),
        memory: table.get("memory", bytes_within(least, most)),
        deadline: table.get("deadline", duration_within(limits::MILLISECOND, limits::CEILING_DEADLINE_MAX)),
        compile_time: table.get("compile_time", duration_within(least_compile, most_compile)),
        output: table.get("output", bytes_within(1, limits::CEILING_OUTPUT_MAX)),
        max_outputs: table.get("max_outputs", within(1, limits::CEILING_OUTPUTS_MAX)),
    })
}

fn read_dead_letter(root: &Table<'_>, shared: &mut Shared) -> Option<DeadLetter> {
    // `dlq_topic` alone is enough.
    if !root.has("dead_letter") && shared.dlq_topic.from().is_none() {
        root.field("dead_letter");
        root.error("dead_letter", "required key is missing: the topic of rejected events, dead_letter: { topic: … }");
        return None;
    }
    root.table_or_empty("dead_letter", |table| {
        shared.dlq_topic.offer(table, "topic", names::topic);
        shared.dlq_threshold.offer(table, "alert_depth", within(1, u64::MAX));
        let limit = read_limit(table);
        let topic = shared.dlq_topic.need(table, "topic");
        Some(DeadLetter { topic: topic?, limit, alert_depth: shared.dlq_threshold.take() })
    })
}

/// Reads `limit: off`, or a table in which each key has a default.
fn read_limit(table: &Table<'_>) -> Option<DeadLetterLimit> {
    let default = DeadLetterLimit {
        share: limits::DEAD_LETTER_SHARE,
        of_at_least: limits::DEAD_LETTER_OF_AT_LEAST,
        within: limits::DEAD_LETTER_WITHIN,
    };
    let Some(field) = table.field("limit") else { return Some(default) };
    if !field.is_table() {
        return field.scalar(choice(&[("off", ())])).map_or(Some(default), |()| None);
    }
    field.table(|limit| {
        // A share of 0 would pause at the first rejected event.
        Some(DeadLetterLimit {
            share: limit.or("share", number_within(0.0001, 1.0), default.share),
            of_at_least: limit.or("of_at_least", within(1, u64::MAX), default.of_at_least),
            within: limit.or("within", duration_within(limits::SECOND, limits::DEAD_LETTER_WITHIN_MAX), default.within),
        })
    })
}

fn read_delivery(
    root: &Table<'_>,
    shared: &mut Shared,
    longest_poll: Duration,
    largest_event: usize,
) -> Option<Delivery> {
    let modes = [("effectively_once", DeliveryMode::EffectivelyOnce), ("at_least_once", DeliveryMode::AtLeastOnce)];
    root.table_or_empty("delivery", |table| {
        let mode = table.or("mode", choice(&modes), DeliveryMode::EffectivelyOnce);
        let timeout_kind = duration_within(limits::TRANSACTION_TIMEOUT_MIN, limits::TRANSACTION_TIMEOUT_MAX);
        let default_timeout = limits::TRANSACTION_TIMEOUT.min(longest_poll / 2).max(limits::TRANSACTION_TIMEOUT_MIN);
        let transaction_timeout = table.or("transaction_timeout", timeout_kind, default_timeout);
        if transaction_timeout >= longest_poll {
            let message = format!(
                "must be below source.max_poll_interval ({longest_poll:?}): a transaction must end before its member is removed \
                 from the group"
            );
            table.error("transaction_timeout", message);
        }
        let batch = table.table_or_empty("batch", |batch| read_batch(batch, shared, largest_event))?;
        let (key, wait) = batch.wait.key();
        if wait >= transaction_timeout {
            let message = format!("must be below delivery.transaction_timeout ({transaction_timeout:?})");
            table.error_at(&format!("delivery.batch.{key}"), message);
        }
        let processed = table.table("processed_ids", read_processed);
        Some(Delivery { mode, batch, transaction_timeout, processed })
    })
}

fn read_processed(table: &Table<'_>) -> Option<ProcessedIds> {
    let ttl = duration_within(limits::PROCESSED_TTL_MIN, limits::PROCESSED_TTL_MAX);
    let ttl = table.or("ttl", ttl, limits::PROCESSED_TTL);
    let ids = [
        ("header", table.get("header", names::header).map(ProcessedId::Header)),
        ("record", table.get("record", choice(&[("key", ())])).map(|()| ProcessedId::Key)),
        ("field", table.get("field", names::field_path).map(ProcessedId::Field)),
    ];
    let given: Vec<&str> = ids.iter().map(|(name, _)| *name).filter(|name| table.has(name)).collect();
    match given.as_slice() {
        [first, second, ..] => table.error(second, format!("the id already comes from {first}; keep one of the two")),
        [] => {
            table.error("header", "set the location of an event's id: `header: NAME`, `field: PATH`, or `record: key`");
        }
        [_] => {}
    }
    let id = ids.into_iter().find_map(|(_, id)| id);
    Some(ProcessedIds { id: id?, ttl })
}

fn read_batch(table: &Table<'_>, shared: &mut Shared, largest_event: usize) -> Option<Batch> {
    let own = table.or("max_events", within(1, limits::BATCH_EVENTS_MAX), limits::BATCH_EVENTS);
    let bounds = [shared.max_poll_records.take(), shared.max_batch_size.take()];
    let max_events = bounds.into_iter().flatten().fold(own, usize::min);
    let default_bytes = limits::BATCH_BYTES.max(largest_event);
    let max_bytes = table.or("max_bytes", bytes_within(1, limits::BATCH_BYTES_MAX), default_bytes);
    if max_bytes < largest_event {
        let event = reader::show_bytes(largest_event);
        table.error("max_bytes", format!("must be at least contract.max_bytes ({event}), so that one event fits"));
    }
    let most = table.get("max_wait", duration_within(Duration::ZERO, limits::BATCH_WAIT_MAX));
    let target = table.get("latency_target", duration_within(limits::LATENCY_TARGET_MIN, limits::BATCH_WAIT_MAX));
    if table.has("max_wait") && table.has("latency_target") {
        table.error(
            "latency_target",
            "cannot be combined with max_wait, which also sets how long a batch waits; keep one of the two",
        );
    }
    let wait = target.map_or(BatchWait::Most(most.unwrap_or(limits::BATCH_WAIT)), BatchWait::Target);
    Some(Batch { max_events, max_bytes, wait })
}

/// The keys are the warnings' codes, which contain dots.
fn read_acknowledged(table: &Table<'_>) -> Option<std::collections::BTreeMap<String, String>> {
    let reason = |(code, field): (String, Field<'_>)| Some((code, field.scalar(reader::text)?));
    Some(table.any().into_iter().filter_map(reason).collect())
}

fn read_admin(table: &Table<'_>) -> Option<Admin> {
    const DEFAULT: &str = "127.0.0.1:8080";
    let kind = |text: &str| if text == "off" { Ok(None) } else { names::listen(text).map(Some) };
    let listen = table.or("listen", kind, Some(DEFAULT.to_owned()));
    let allow_remote = table.or("allow_remote", boolean, false);
    if listen.as_deref().is_some_and(|listen| !allow_remote && !names::is_loopback(listen)) {
        let message = "can be reached from other machines; listen on 127.0.0.1, or allow other machines to read health, \
                       metrics and status: admin.allow_remote: true";
        table.error("listen", message);
    }
    let hosts = table.list("hosts", names::host);
    Some(Admin { listen, remote: allow_remote, hosts })
}

/// Checks that the pipeline does not consume its own output, and that dead letters and outputs have different topics.
fn check_topics(root: &Table<'_>, pipeline: &Pipeline, letters_from: &str) {
    let (source, letters) = (&pipeline.source.topic, &pipeline.dead_letter.topic);
    if letters == source {
        root.error_at(
            letters_from,
            format!("{letters} is the source topic, so the pipeline would consume its own output"),
        );
    }
    let produced = pipeline.destinations().filter_map(|to| Some((to.place("topic"), to.topic()?)));
    for (place, topic) in produced {
        if topic == source {
            root.error_at(&place, format!("{topic} is the source topic, so the pipeline would consume its own output"));
        } else if topic == letters {
            root.error_at(
                &place,
                format!("{topic} is the dead letter topic, so readers could not distinguish outputs from dead letters"),
            );
        }
    }
}

fn check_tombstones(root: &Table<'_>, pipeline: &Pipeline) {
    if pipeline.contract.tombstones != Tombstones::Delete {
        return;
    }
    let place = "contract.tombstones";
    if !matches!(pipeline.contract.routing, Routing::Single | Routing::Header(_)) {
        let message = "delete needs type_header, because a record without a value names its type, and so its table, only in \
                       a header";
        root.error_at(place, message);
    }
    if pipeline.types.iter().any(|kind| kind.mapping.only_if_newer.is_some()) {
        // A tombstone has no value, and so none for the column that must increase.
        let message = "delete cannot be combined with only_if_newer: a tombstone has no value, so it is unknown whether it is \
                       newer than the row; delete by an event with a value (postgres.delete.when, with delete.soft), and use \
                       drop or dead_letter here";
        root.error_at(place, message);
    }
}

/// Checks that the backlog can hold a batch. Otherwise partitions would pause before every batch is full.
fn check_backlog(root: &Table<'_>, pipeline: &Pipeline, place: &str) {
    let (backlog, batch) = (&pipeline.backpressure, &pipeline.delivery.batch);
    if backlog.lag_threshold < batch.max_events as u64 {
        let message =
            format!("must be at least delivery.batch.max_events ({}), or no batch can fill", batch.max_events);
        root.error_at(&format!("{place}.lag_threshold"), message);
    }
    if backlog.max_bytes < batch.max_bytes {
        let bytes = reader::show_bytes(batch.max_bytes);
        let message = format!("must be at least delivery.batch.max_bytes ({bytes}), or no batch can fill");
        root.error_at(&format!("{place}.max_backlog_bytes"), message);
    }
}

#[cfg(test)]
pub(super) mod tests;
