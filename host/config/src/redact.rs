//! A pipeline as JSON for `status` and `--output json`: every key with its effective value, without secrets.

use super::model::*;
use super::reader::{show_bytes, show_duration};
use crate::registry::{Auth, Url};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tollgate_contract::frame::Indexing;
use tollgate_contract::{
    Absent, ClockSkew, Coercion, DuplicateMembers, Mode as Refusal, TimeUnit, UnknownEnums, UnknownFields,
    UnknownVariants, UnsetOneofs,
};

const MASK: &str = "***";

impl Pipeline {
    /// Returns the configuration in the shape of the file, with defaults. Passwords, secret settings and URLs'
    /// passwords are masked; a transform's `config:` shows each `${…}` as written in the file.
    pub fn redacted_json(&self) -> Value {
        let mut json = json!({
            "pipeline": self.name,
            "source": source(&self.source),
            "contract": contract(&self.contract),
            "dead_letter": dead_letter(&self.dead_letter),
            "postgres": { "url": self.postgres.url.masked_url(), "tls_ca": self.postgres.tls_ca },
            "delivery": {
                "mode": self.delivery.mode.as_str(),
                "batch": {
                    "max_events": self.delivery.batch.max_events,
                    "max_bytes": show_bytes(self.delivery.batch.max_bytes),
                },
                "transaction_timeout": time(self.delivery.transaction_timeout),
            },
            "retry_policy": {
                "max_retries": self.retry.max_retries,
                "initial_backoff": time(self.retry.initial_backoff),
                "max_backoff": time(self.retry.max_backoff),
                "multiplier": self.retry.multiplier,
                "breaker_threshold": self.retry.breaker_threshold,
            },
            "backpressure": {
                "lag_threshold": self.backpressure.lag_threshold,
                "pause_on_threshold": self.backpressure.pause_on_threshold,
                "resume_lag_margin": self.backpressure.resume_at,
                "max_backlog_bytes": show_bytes(self.backpressure.max_bytes),
            },
            "admin": {
                "listen": self.admin.listen.as_deref().unwrap_or("off"),
                "allow_remote": self.admin.remote,
                "hosts": self.admin.hosts,
            },
            "acknowledge": self.acknowledged,
            "lanes": self.lanes,
            "shutdown": time(self.shutdown),
            "start_deadline": time(self.start_deadline),
        });
        let windows =
            [("foreign_key_window", self.retry.foreign_key_window), ("unique_window", self.retry.unique_window)];
        for (key, window) in windows.into_iter().filter_map(|(key, window)| Some((key, window?))) {
            json["retry_policy"][key] = json!(time(window));
        }
        let (key, wait) = self.delivery.batch.wait.key();
        json["delivery"]["batch"][key] = json!(time(wait));
        if let Some(ProcessedIds { id, ttl }) = &self.delivery.processed {
            let mut ids = json!({ "ttl": time(*ttl) });
            match id {
                ProcessedId::Header(name) => ids["header"] = json!(name),
                ProcessedId::Key => ids["record"] = json!("key"),
                ProcessedId::Field(path) => ids["field"] = json!(path),
            }
            json["delivery"]["processed_ids"] = ids;
        }
        for kind in &self.types {
            if kind.name.is_empty() {
                json["contract"]["message"] = json!(kind.message);
                json["transforms"] = kind.transforms.iter().map(transform).collect();
                json["output"] = kind.output.as_ref().map_or(Value::Null, output);
                mapping(&kind.mapping, &mut json["postgres"]);
            } else {
                json["types"][&kind.name] = event_type(kind);
            }
        }
        json
    }
}

fn event_type(kind: &EventType) -> Value {
    let mut json = json!({
        "message": kind.message,
        "transforms": kind.transforms.iter().map(transform).collect::<Vec<_>>(),
        "output": kind.output.as_ref().map(output),
        "postgres": {},
        "accept_versions": kind.versions.as_ref().map(versions),
        "idempotency_of": kind.idempotency_of.as_deref().map(parts),
    });
    mapping(&kind.mapping, &mut json["postgres"]);
    json
}

fn parts(parts: &[KeyPart]) -> Vec<String> {
    parts.iter().map(KeyPart::to_string).collect()
}

fn debezium(debezium: &Debezium) -> Value {
    json!({ "debezium": {
        "message": debezium.message,
        "type": debezium.kind,
        "headers": debezium.headers().into_iter().map(|(name, path)| (name, json!(path))).collect::<Map<_, _>>(),
        "truncates": debezium.truncates.name(),
        "messages": debezium.messages.name(),
    } })
}

fn envelope(envelope: &Envelope) -> Value {
    let headers: Map<String, Value> = envelope.headers.iter().map(|(name, path)| (name.clone(), json!(path))).collect();
    json!({
        "message": envelope.message,
        "type": envelope.kind,
        "payload": envelope.payload,
        "version": envelope.version,
        "headers": headers,
        "idempotency_key": envelope.idempotency_key.as_ref().map(|key| json!({
            "field": key.field,
            "algorithm": "sha256",
            "of": parts(&key.of),
            "separator": key.separator,
        })),
    })
}

fn output(output: &Output) -> Value {
    json!({
        "topic": output.topic,
        "contract": output.contract,
        "partition": partition(output.partition),
        "key": match output.key.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        },
    })
}

fn time(duration: Duration) -> String {
    show_duration(duration)
}

fn source(source: &Source) -> Value {
    let start = match source.start {
        Start::Earliest => json!("earliest"),
        Start::Latest => json!("latest"),
        Start::Committed => json!("committed"),
        Start::Timestamp(millis) => json!(millis),
    };
    let extra: Map<String, Value> = source
        .extra
        .iter()
        .map(|(name, value)| (name.clone(), json!(if Settings::is_secret(name) { MASK } else { value })))
        .collect();
    json!({
        "brokers": source.brokers,
        "topic": source.topic,
        "group_id": source.group_id,
        "start": start,
        "security": {
            "tls": source.security.tls.as_ref().map(|tls| json!({
                "ca": tls.ca,
                "certificate": tls.certificate,
                "key": tls.key,
                "key_password": tls.key_password.as_ref().map(|_| MASK),
                "verify_hostname": !tls.skip_hostname,
            })),
            "sasl": source.security.sasl.as_ref().map(|sasl| json!({
                "mechanism": match sasl.mechanism {
                    SaslMechanism::Plain => "PLAIN",
                    SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                    SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
                },
                "username": sasl.username,
                "password": MASK,
            })),
        },
        "session_timeout": time(source.session_timeout),
        "heartbeat_interval": time(source.heartbeat_interval),
        "max_poll_interval": time(source.max_poll_interval),
        "stall_after": time(source.stall_after),
        "group_instance_id": source.group_instance_id,
        "kafka": extra,
    })
}

fn absent(absent: Absent) -> &'static str {
    match absent {
        Absent::Default => "default",
        Absent::Null => "null",
        Absent::Reject => "reject",
    }
}

fn clock(clock: &ClockSkew) -> (String, Value) {
    let unit = clock.unit.map(|unit| match unit {
        TimeUnit::Seconds => "unix_s",
        TimeUnit::Millis => "unix_ms",
        TimeUnit::Micros => "unix_us",
    });
    let json = json!({ "as": unit, "past": clock.past.map(time), "future": clock.future.map(time) });
    (clock.field.to_string(), json)
}

fn contract(contract: &Contract) -> Value {
    let policies = &contract.policies;
    let (protos, descriptor_set) = match &contract.schema {
        Schema::Protos(paths) => (Some(paths), None),
        Schema::DescriptorSet(path) => (None, Some(path)),
    };
    json!({
        "protos": protos,
        "descriptor_set": descriptor_set,
        "encoding": match contract.encoding {
            Encoding::Auto => "auto",
            Encoding::Protobuf => "protobuf",
            Encoding::Json => "json",
        },
        "unknown_fields": match policies.unknown_fields {
            UnknownFields::Allow => "allow",
            UnknownFields::Warn => "warn",
            UnknownFields::Reject => "reject",
        },
        "unknown_enums": match &policies.unknown_enums {
            UnknownEnums::Reject => json!("reject"),
            UnknownEnums::Keep => json!("keep"),
            UnknownEnums::Fallback(named) => json!({ "fallback": named }),
        },
        "unset_oneofs": match policies.unset_oneofs {
            UnsetOneofs::Allow => "allow",
            UnsetOneofs::Reject => "reject",
        },
        "unknown_variants": match policies.unknown_variants {
            UnknownVariants::Allow => "allow",
            UnknownVariants::Warn => "warn",
            UnknownVariants::Reject => "reject",
        },
        "duplicate_members": match policies.duplicate_members {
            DuplicateMembers::Reject => "reject",
            DuplicateMembers::Last => "last",
        },
        "absent": absent(policies.absent),
        "coerce": policies.coerce.iter().map(coercion).collect::<Map<_, _>>(),
        "clock_skew": policies.clock_skew.iter().map(clock).collect::<Map<_, _>>(),
        "mode": match policies.mode {
            Refusal::Observe => "observe",
            Refusal::DeadLetter => "dead_letter",
            Refusal::Halt => "halt",
        },
        "tombstones": match contract.tombstones {
            Tombstones::DeadLetter => "dead_letter",
            Tombstones::Drop => "drop",
            Tombstones::Delete => "delete",
        },
        "max_bytes": show_bytes(policies.max_bytes),
        "registry": contract.registry.as_ref().map(registry),
        "accept_versions": contract.versions.as_ref().map(versions),
        "envelope": contract.envelope.as_ref().map(envelope).or_else(|| contract.debezium.as_ref().map(debezium)),
        "type_header": match &contract.routing {
            Routing::Header(header) => Some(header),
            Routing::Single | Routing::Frame | Routing::Envelope => None,
        },
        "unknown_types": match contract.unknown_types {
            UnknownTypes::DeadLetter => "dead_letter",
            UnknownTypes::Drop => "drop",
        },
    })
}

fn registry(registry: &Registry) -> Value {
    let (username, password, token) = match &registry.auth {
        Auth::None => (None, None, None),
        Auth::Basic { username, .. } => (Some(username), Some("***"), None),
        Auth::Bearer(_) => (None, None, Some("***")),
    };
    json!({
        "url": registry.urls.iter().map(Url::as_str).collect::<Vec<_>>().join(","),
        "username": username,
        "password": password,
        "token": token,
        "tls": { "ca": registry.tls.ca, "certificate": registry.tls.certificate, "key": registry.tls.key },
        "cache": registry.cache,
        "indexes": match registry.indexes {
            Indexing::Required => "required",
            Indexing::Optional => "optional",
        },
    })
}

fn versions(versions: &Versions) -> Value {
    let (header, schema_ids) = match &versions.by {
        VersionBy::Header(header) => (Some(header), false),
        VersionBy::SchemaId => (None, true),
        VersionBy::Envelope => (None, false),
    };
    json!({
        "header": header,
        "schema_ids": schema_ids,
        "accept": versions.accept,
        "deprecated": versions.deprecated,
        "removed": versions.removed,
    })
}

fn transform(transform: &Transform) -> Value {
    let ceiling = &transform.ceiling;
    let routes: Map<String, Value> = transform.routes.iter().map(|one| (one.name.clone(), route(one))).collect();
    json!({
        "component": transform.component,
        "ceiling": {
            "fuel": ceiling.fuel,
            "memory": ceiling.memory.map(show_bytes),
            "deadline": ceiling.deadline.map(time),
            "compile_time": ceiling.compile_time.map(time),
            "output": ceiling.output.map(show_bytes),
            "max_outputs": ceiling.max_outputs,
        },
        "config": transform.config_written,
        "routes": routes,
    })
}

fn route(route: &Route) -> Value {
    let mut json = json!({
        "message": route.message,
        "topic": route.topic,
        "partition": partition(route.partition),
        "key": route.key,
        "postgres": null,
    });
    if let Some(own) = &route.mapping {
        json["postgres"] = json!({});
        mapping(own, &mut json["postgres"]);
    }
    json
}

fn partition(partition: OutputPartition) -> &'static str {
    match partition {
        OutputPartition::ByKey => "by_key",
        OutputPartition::Same => "same",
    }
}

fn dead_letter(dead_letter: &DeadLetter) -> Value {
    let limit = dead_letter.limit.map_or(
        json!("off"),
        |limit| json!({ "share": limit.share, "of_at_least": limit.of_at_least, "within": time(limit.within) }),
    );
    json!({ "topic": dead_letter.topic, "limit": limit, "alert_depth": dead_letter.alert_depth })
}

/// Adds the keys of a mapping to those of the server.
fn mapping(mapping: &Mapping, postgres: &mut Value) {
    let columns: Map<String, Value> =
        mapping.columns.iter().map(|column| (column.name.clone(), column_json(column))).collect();
    postgres["table"] = json!(mapping.table.to_string());
    postgres["key"] = json!(mapping.key);
    postgres["columns"] = json!(columns);
    postgres["only_if_newer"] = json!(mapping.only_if_newer);
    let Deletes { key, when, soft } = &mapping.delete;
    postgres["delete"] = json!({
        "key": key.as_ref().map(|key| match key {
            DeleteKey::Text => json!("text"),
            DeleteKey::Json => json!("json"),
            DeleteKey::Message(message) => json!({ "message": message }),
        }),
        "when": when.as_ref().map(|DeleteWhen { field, is }| json!({ "field": field, "is": is })),
        "soft": soft,
    });
    postgres["partitions"] = json!(mapping.partitions.as_ref().map(|Partitions { column, every, ahead }| json!({
        "column": column,
        "every": Every::ALL.iter().find(|(_, known)| known == every).map(|(name, _)| name),
        "ahead": ahead,
    })));
    postgres["nul"] = json!(Nul::ALL.iter().find(|(_, nul)| *nul == mapping.nul).map(|(name, _)| name));
}

fn coercion(coercion: &Coercion) -> (String, Value) {
    (coercion.field.to_string(), json!({ "time": coercion.time.to_string() }))
}

fn column_json(column: &Column) -> Value {
    let mut keys = Map::new();
    let (key, value) = match &column.from {
        From::Field(field) => ("field", json!(field)),
        From::Oneof(oneof) => ("oneof", json!(oneof)),
        From::Header(header) => ("header", json!(header)),
        From::Record(part) => ("record", json!(record_part(*part))),
        From::Now => ("now", json!(true)),
        From::Constant(number) => ("value", json!(number)),
    };
    keys.insert(key.to_owned(), value);
    if column.as_ != As::Natural {
        keys.insert("as".to_owned(), json!(column.as_.to_string()));
    }
    if let Some(policy) = column.absent {
        keys.insert("absent".to_owned(), json!(absent(policy)));
    }
    if let Some(default) = &column.default {
        keys.insert("default".to_owned(), json!(default));
    }
    if column.not_null {
        keys.insert("not_null".to_owned(), json!(true));
    }
    if column.overrides_identity {
        keys.insert("identity".to_owned(), json!("override"));
    }
    match column.mode {
        Mode::Set => {}
        Mode::InsertOnly => drop(keys.insert("insert_only".to_owned(), json!(true))),
        Mode::Add => drop(keys.insert("add".to_owned(), json!(true))),
    }
    Value::Object(keys)
}

fn record_part(part: RecordPart) -> &'static str {
    match part {
        RecordPart::Topic => "topic",
        RecordPart::Partition => "partition",
        RecordPart::Offset => "offset",
        RecordPart::Timestamp => "timestamp",
        RecordPart::Key => "key",
        RecordPart::Digest => "digest",
    }
}
