//! `source:` and its keys that may also be in `consumer:`.

use super::names;
use super::template::Shared;
use crate::limits;
use crate::model::{Sasl, SaslMechanism, Security, Settings, Source, Tls};
use crate::reader::{Field, Table, boolean, choice, duration, path, secret, text};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub(super) fn read(root: &Table<'_>, shared: &mut Shared, base: &Path) -> Option<Source> {
    root.need_table("source", |table| {
        let brokers = table.need("brokers", names::brokers);
        let topic = table.need("topic", names::topic);
        shared.start.offer(table, "start", names::start);
        shared.consumer_keys(table);
        let group_id = shared.group_id.need(table, "group_id");
        let start = shared.start.need(table, "start");
        let security = table.table("security", |security| read_security(security, base));
        let extra = table.table("kafka", read_extra).unwrap_or_default();
        let (session_timeout, heartbeat_interval, max_poll_interval) = timeouts(table, shared);
        Some(Source {
            brokers: brokers?,
            topic: topic?,
            group_id: group_id?,
            start: start?,
            security: security.unwrap_or_default(),
            session_timeout,
            heartbeat_interval,
            max_poll_interval,
            stall_after: table.get("stall_after", duration).unwrap_or(limits::STALL_AFTER),
            group_instance_id: table.get("group_instance_id", text),
            extra,
        })
    })
}

/// Reads the timeouts and checks that heartbeat < session < max_poll_interval. Defaults adapt to the values that are
/// set.
fn timeouts(table: &Table<'_>, shared: &mut Shared) -> (Duration, Duration, Duration) {
    let place = |once: Option<&str>, key: &str| once.map_or_else(|| format!("source.{key}"), str::to_owned);
    let session_place = place(shared.session_timeout.from(), "session_timeout");
    let heartbeat_place = place(shared.heartbeat_interval.from(), "heartbeat_interval");
    let poll = shared.max_poll_interval.take().unwrap_or(limits::MAX_POLL_INTERVAL);
    let session = shared.session_timeout.take().unwrap_or(limits::SESSION_TIMEOUT.min(part(poll, 2)));
    let heartbeat = shared.heartbeat_interval.take().unwrap_or(limits::HEARTBEAT_INTERVAL.min(part(session, 3)));
    if heartbeat >= session {
        let message = format!("must be below session_timeout ({session:?}), or a healthy member loses its partitions");
        table.error_at(&heartbeat_place, message);
    }
    if session >= poll {
        table.error_at(&session_place, format!("must be below max_poll_interval ({poll:?})"));
    }
    (session, heartbeat, poll)
}

/// Returns a part of a time in whole milliseconds, the unit of Kafka's settings.
fn part(whole: Duration, of: u64) -> Duration {
    Duration::from_millis(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX) / of)
}

fn read_security(table: &Table<'_>, base: &Path) -> Option<Security> {
    let tls = table.field("tls").and_then(|field| read_tls(&field, base));
    let sasl = table.table("sasl", |sasl| {
        let mechanisms = [
            ("PLAIN", SaslMechanism::Plain),
            ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
            ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
        ];
        let mechanism = sasl.need("mechanism", choice(&mechanisms));
        let username = sasl.need("username", text);
        let password = sasl.need("password", secret);
        Some(Sasl { mechanism: mechanism?, username: username?, password: password? })
    });
    Some(Security { tls, sasl })
}

/// Reads `tls: true`, or a table.
fn read_tls(field: &Field<'_>, base: &Path) -> Option<Tls> {
    if !field.is_table() {
        return field.scalar(boolean)?.then(Tls::default);
    }
    let file = |table: &Table<'_>, key: &str| table.get(key, path).map(|path| base.join(path));
    field.table(|tls| {
        let (certificate, key) = (file(tls, "certificate"), file(tls, "key"));
        if certificate.is_some() != key.is_some() {
            let lone = if key.is_some() { "key" } else { "certificate" };
            tls.error(lone, "a client's certificate needs both certificate and key");
        }
        Some(Tls {
            ca: file(tls, "ca"),
            certificate,
            key,
            key_password: tls.get("key_password", secret),
            skip_hostname: !tls.or("verify_hostname", boolean, true),
        })
    })
}

/// Reads `kafka:`, further librdkafka settings.
fn read_extra(table: &Table<'_>) -> Option<Settings> {
    let mut extra = BTreeMap::new();
    for (name, field) in table.any() {
        if let Some(reason) = refusal(&name) {
            field.complain::<()>(reason);
            continue;
        }
        let value = field.scalar(text);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            field.complain::<()>("is not a setting's name");
        } else if let Some(value) = value {
            extra.insert(name, value);
        }
    }
    Some(Settings(extra))
}

/// Returns why a librdkafka setting is refused: it has its own key, or the delivery protocol depends on its value.
fn refusal(name: &str) -> Option<String> {
    let own = match name {
        "bootstrap.servers" | "metadata.broker.list" => "source.brokers",
        "group.id" => "source.group_id",
        "group.instance.id" => "source.group_instance_id",
        "auto.offset.reset" => "source.start",
        "session.timeout.ms" => "source.session_timeout",
        "heartbeat.interval.ms" => "source.heartbeat_interval",
        "max.poll.interval.ms" => "source.max_poll_interval",
        "transaction.timeout.ms" => "delivery.transaction_timeout",
        "queued.max.messages.kbytes" | "fetch.max.bytes" => "backpressure.max_backlog_bytes",
        "security.protocol" | "sasl.mechanism" | "sasl.mechanisms" | "sasl.username" | "sasl.password" => {
            "source.security"
        }
        "ssl.ca.location"
        | "ssl.certificate.location"
        | "ssl.key.location"
        | "ssl.key.password"
        | "ssl.endpoint.identification.algorithm" => "source.security.tls",
        _ => "",
    };
    if !own.is_empty() {
        return Some(format!("has its own key: {own}"));
    }
    let why = match name {
        "enable.auto.commit" | "enable.auto.offset.store" | "auto.commit.interval.ms" | "auto.commit.enable" => {
            "an offset is committed together with its rows and outputs, never by a timer"
        }
        "isolation.level" => "records of aborted transactions must not be delivered",
        "transactional.id" => "the ids are {pipeline}-{slot}-{lane}, and a takeover uses them for fencing",
        "enable.idempotence"
        | "acks"
        | "request.required.acks"
        | "retries"
        | "message.send.max.retries"
        | "max.in.flight"
        | "max.in.flight.requests.per.connection"
        | "enable.gapless.guarantee" => "outputs must not be lost, duplicated or reordered",
        "message.timeout.ms" | "delivery.timeout.ms" => "it must be shorter than the transaction's timeout",
        "partition.assignment.strategy" | "group.protocol" | "group.remote.assignor" => {
            "a rebalance moves partitions one by one (cooperative-sticky, classic protocol)"
        }
        "partitioner" => "output.partition chooses the partition of a key",
        _ => return None,
    };
    Some(format!("belongs to the delivery protocol and cannot be set: {why}"))
}
