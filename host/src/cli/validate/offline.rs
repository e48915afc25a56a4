//! The checks that need files but no network: contracts compile, fields exist and convert, components load and fit
//! together.

mod deletes;
mod policies;

use self::deletes::check_deletes;
use self::policies::check_policies;
use super::Memory;
use super::partitions;
use super::report::{Guarantee, Report};
use prost_reflect::DescriptorPool;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::net::IpAddr;
use std::path::Path;
use tollgate_config::limits;
use tollgate_config::{
    As, Column, DeliveryMode, Destination, EventType, From, Mode, Pipeline, Pools, RecordPart, Schema, Settings,
    TimeForm,
};
use tollgate_contract::{Contract, FieldPath, Kind, Policies};
use tollgate_decide::gate::change::Changes;
use tollgate_decide::gate::envelope::{self, Envelope};
use tollgate_decide::postgres::cell::{InputKind, PgColumn, encoder};
use tollgate_decide::postgres::kinds::field_kind;
use tollgate_decide::postgres::unfit::mapping::UnfitColumn;
use tollgate_decide::types;
use tollgate_engine::runtime::build;
use tollgate_engine::runtime::routes::{Wrong, wrong_routes};
use tollgate_engine::sinks::postgres::hosts::Hosts;
use tollgate_sandbox::Sandbox;

/// Runs all checks that need no connection. It reads the files that the pipeline names, and starts each component once
/// in the sandbox.
pub fn offline(pipeline: &Pipeline) -> Report {
    let mut report = Report::new(guarantee(pipeline), Memory::of(pipeline));
    check_kafka(pipeline, &mut report);
    check_postgres(pipeline, &mut report);
    let pools = message_types(pipeline, &mut report);
    let known = pools.as_ref().map(|pools| check_contracts(pipeline, pools, &mut report)).unwrap_or_default();
    check_transforms(pipeline, pools.as_ref(), &known, &mut report);
    check_habits(pipeline, &mut report);
    partitions::offline(pipeline, &mut report);
    report.sort();
    report
}

/// Describes the delivery guarantee.
fn guarantee(pipeline: &Pipeline) -> Guarantee {
    let produced = if pipeline.destinations().any(|to| to.topic().is_some()) {
        "outputs and dead letters"
    } else {
        "dead letters"
    };
    match pipeline.delivery.mode {
        DeliveryMode::EffectivelyOnce => Guarantee {
            name: "effectively once",
            means: vec![
                "rows: each event takes effect in the table once, whatever crashes; progress commits with it".to_owned(),
                format!("{produced}: each appears in its topic once for readers with isolation.level=read_committed"),
            ],
            why_not_stronger: vec![
                "PostgreSQL commits first and Kafka right after it: between the two, and until a takeover after a crash there, \
                 readers can see a row before its output"
                    .to_owned(),
                apart(pipeline),
            ],
        },
        DeliveryMode::AtLeastOnce => Guarantee {
            name: "at least once",
            means: vec![
                "rows: each event takes effect in the table once, whatever crashes; progress commits with it".to_owned(),
                format!("{produced}: none is lost; a crash can repeat those of the last batch"),
            ],
            why_not_stronger: vec![
                "delivery.mode is at_least_once: nothing is produced in a transaction; effectively_once needs a broker with \
                 transactions"
                    .to_owned(),
                apart(pipeline),
            ],
        },
    }
}

/// Explains what happens to two records that are the same event to their producer.
fn apart(pipeline: &Pipeline) -> String {
    match &pipeline.delivery.processed {
        Some(ids) => format!(
            "two records with the same id (delivery.processed_ids) are one event only if the second arrives within {} h",
            ids.ttl.as_secs() / 3600
        ),
        None => {
            "two records with the same content are two events: duplicates sent by a producer are not detected (a producer \
                 with enable.idempotence sends none; delivery.processed_ids detects them by an id)"
                .to_owned()
        }
    }
}

/// Checks the Kafka settings. librdkafka itself reports which settings it does not know.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn check_kafka(pipeline: &Pipeline, report: &mut Report) {
    for (name, value) in &pipeline.source.extra {
        let refused = ClientConfig::new().set(name, value).create_native_config().err();
        let Some(error) = refused else { continue };
        let detail = match &error {
            // The description repeats the value.
            KafkaError::ClientConfig(_, description, ..) if !Settings::is_secret(name) => description.clone(),
            _ => "librdkafka rejects this setting".to_owned(),
        };
        report.error(pipeline, "kafka.setting", &format!("source.kafka.{name}"), detail);
    }
    let security = &pipeline.source.security;
    if let Some(tls) = &security.tls {
        let files = [("ca", &tls.ca), ("certificate", &tls.certificate), ("key", &tls.key)];
        for (key, path) in files {
            check_readable(pipeline, &format!("source.security.tls.{key}"), path.as_deref(), report);
        }
    }
    if security.tls.is_none() && security.sasl.is_some() {
        let message = "the password is sent over the network without TLS";
        report.warn(pipeline, "kafka.sasl_without_tls", "source.security.sasl", message, "add source.security.tls");
    }
}

fn check_readable(pipeline: &Pipeline, key: &str, path: Option<&Path>, report: &mut Report) {
    let Some(path) = path else { return };
    if let Err(error) = std::fs::File::open(path) {
        let shown = pipeline.shown(path);
        report.error(pipeline, "config.file", key, format!("cannot read {}: {error}", shown.display()));
    }
}

fn check_postgres(pipeline: &Pipeline, report: &mut Report) {
    check_readable(pipeline, "postgres.tls_ca", pipeline.postgres.tls_ca.as_deref(), report);
    let hosts = match Hosts::parse(pipeline.postgres.url.expose()) {
        Ok(hosts) => hosts.options,
        Err(error) => return report.error(pipeline, "postgres.url", "postgres.url", error.to_string()),
    };
    let local = |options: &PgConnectOptions| {
        let host = options.get_host();
        host.starts_with('/')
            || host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || options.get_socket().is_some()
    };
    let strict = |options: &PgConnectOptions| {
        matches!(options.get_ssl_mode(), PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull)
    };
    if hosts.iter().any(|options| !local(options) && !strict(options)) {
        let message = "the connection to another machine may not use TLS";
        report.warn(pipeline, "postgres.tls", "postgres.url", message, "add ?sslmode=verify-full to the URL");
    }
}

/// Compiles the pipeline's message types.
fn message_types(pipeline: &Pipeline, report: &mut Report) -> Option<Pools> {
    match tollgate_protos::pools(pipeline) {
        Ok(pools) => Some(pools),
        Err(failure) => {
            let key = match &pipeline.contract.schema {
                Schema::Protos(_) => "contract.protos",
                Schema::DescriptorSet(_) => "contract.descriptor_set",
            };
            report.error(pipeline, "contract.schema", key, failure.message);
            None
        }
    }
}

/// Compiles the contracts of every type and checks each column against the contract of its rows. Returns the names of
/// the types whose own contract compiles.
fn check_contracts<'p>(pipeline: &'p Pipeline, pools: &Pools, report: &mut Report) -> Vec<&'p str> {
    let pool = &pools.own;
    let known = pipeline.types.iter().filter(|kind| check_contract(pipeline, kind, pool, report));
    let known: Vec<&EventType> = known.collect();
    let messages: Vec<&str> = known.iter().map(|kind| kind.message.as_str()).collect();
    check_policies(pipeline, pool, &messages, report);
    let known = known.into_iter().map(|kind| kind.name.as_str()).collect();
    check_envelope(pipeline, pools, report);
    known
}

/// Checks the envelope and the fields of idempotency keys.
fn check_envelope(pipeline: &Pipeline, pools: &Pools, report: &mut Report) {
    let pool = &pools.own;
    if let Some(spec) = &pipeline.contract.debezium {
        for problem in Changes::compile(pipeline, spec, pool).err().unwrap_or_default() {
            report.error(pipeline, "contract.envelope", &problem.key, problem.message);
        }
    }
    let Some(spec) = &pipeline.contract.envelope else { return };
    // Another finding reports a missing message.
    for kind in pipeline.types.iter().filter(|kind| pool.get_message_by_name(&kind.message).is_some()) {
        let own = kind.idempotency_of.is_some();
        let place = if own { kind.place("idempotency_of") } else { "contract.envelope.idempotency_key.of".to_owned() };
        for path in envelope::key_fields(pipeline, kind) {
            let path = path.to_string();
            let found = field(pipeline, pool, &kind.message, &path, &place, report);
            if let Some(why) = found.and_then(|found| envelope::no_text(&found)) {
                report.error(pipeline, "contract.envelope", &place, format!("payload.{path} {why}"));
            }
        }
    }
    let compiled = Envelope::compile(pipeline, spec, pools.outer());
    for problem in compiled.err().unwrap_or_default() {
        report.error(pipeline, "contract.envelope", &problem.key, problem.message);
    }
}

fn check_contract(pipeline: &Pipeline, kind: &EventType, pool: &DescriptorPool, report: &mut Report) -> bool {
    let known = compile(pipeline, pool, &kind.message, &kind.place("message"), report).is_some();
    if known {
        check_id(pipeline, kind, pool, report);
    }
    for to in kind.destinations() {
        // A destination that names no message has the message of its type or of the chain's end, which is checked
        // elsewhere.
        let fits = if to.is_named() {
            compile(pipeline, pool, to.message(), &to.place("message"), report).is_some()
        } else {
            pool.get_message_by_name(to.message()).is_some()
        };
        if !fits {
            continue;
        }
        check_columns(pipeline, to, pool, report);
        check_deletes(pipeline, to, pool, report);
        for key in to.keys() {
            field(pipeline, pool, to.message(), key, &to.place("key"), report);
        }
    }
    known
}

fn compile(
    pipeline: &Pipeline,
    pool: &DescriptorPool,
    message: &str,
    key: &str,
    report: &mut Report,
) -> Option<Contract> {
    Contract::compile(pool, message, Policies::default(), &[])
        .map_err(|error| report.error(pipeline, "contract.message", key, error.to_string()))
        .ok()
}

/// Returns a field's kind. Each path is compiled separately, so that every wrong path is reported and not only the
/// first.
fn field(
    pipeline: &Pipeline,
    pool: &DescriptorPool,
    message: &str,
    path: &str,
    key: &str,
    report: &mut Report,
) -> Option<Kind> {
    kind_at(pipeline, pool, message, FieldPath::new(path), key, report)
}

/// Returns a kind as [`field`] does, and also accepts a oneof.
fn kind_at(
    pipeline: &Pipeline,
    pool: &DescriptorPool,
    message: &str,
    path: FieldPath,
    key: &str,
    report: &mut Report,
) -> Option<Kind> {
    match Contract::compile(pool, message, Policies::default(), &[path]) {
        Ok(contract) => contract.fields().first().map(|info| info.kind.clone()),
        Err(error) => {
            report.error(pipeline, "contract.field", key, error.to_string());
            None
        }
    }
}

fn check_columns(pipeline: &Pipeline, of: Destination<'_>, pool: &DescriptorPool, report: &mut Report) {
    let Some(mapping) = of.mapping() else { return };
    for column in &mapping.columns {
        let key = of.place(&format!("postgres.columns.{}", column.name));
        let kind = match column.from.path() {
            Some(path) => {
                let Some(kind) = kind_at(pipeline, pool, of.message(), path, &key, report) else { continue };
                Some(kind)
            }
            None => None,
        };
        let Some(input) = input_kind(column, kind.as_ref()) else { continue };
        if let Err(problem) = converts(column, input) {
            report.error(pipeline, "postgres.conversion", &key, problem.to_string());
        }
        let newer = mapping.only_if_newer.as_ref() == Some(&column.name);
        if newer && !grows(column, input) {
            let message = format!("only_if_newer needs a whole number or a time; {} is neither", column.name);
            report.error(pipeline, "postgres.only_if_newer", &of.place("postgres.only_if_newer"), message);
        }
    }
}

/// Checks the field by which `delivery.processed_ids` recognises events that were processed before.
fn check_id(pipeline: &Pipeline, of: &EventType, pool: &DescriptorPool, report: &mut Report) {
    if let Some(path) = pipeline.delivery.id_field() {
        const KEY: &str = "delivery.processed_ids.field";
        let kind = field(pipeline, pool, &of.message, path, KEY, report);
        let id = |kind: &Kind| {
            matches!(kind, Kind::String | Kind::I32 | Kind::I64 | Kind::U32 | Kind::U64 | Kind::Enum(_) | Kind::Bool)
        };
        if let Some(kind) = kind.filter(|kind| !id(kind)) {
            let message =
                format!("{path} is {}; an id must be a string, a whole number, an enum or a bool", kind.name());
            report.error(pipeline, "contract.field", KEY, message);
        }
    }
}

/// Returns the kind of value that a column's source provides, or `None` if the source is `now()`.
pub fn input_kind(column: &Column, field: Option<&Kind>) -> Option<InputKind> {
    match &column.from {
        From::Field(_) | From::Oneof(_) => field.map(|kind| field_kind(column, kind)),
        From::Header(_) | From::Record(RecordPart::Key) => Some(InputKind::Header),
        From::Record(RecordPart::Topic | RecordPart::Digest) => Some(InputKind::Text),
        From::Record(RecordPart::Partition | RecordPart::Offset) | From::Constant(_) => Some(InputKind::Int),
        From::Record(RecordPart::Timestamp) => Some(InputKind::Micros),
        From::Now => None,
    }
}

/// Why a declared conversion does not exist for an input.
#[derive(Debug, thiserror::Error)]
pub enum Unconverted {
    #[error("add needs a whole number")]
    Add,
    #[error("`as: array` needs a list of scalars, enums or timestamps; {0} cannot be an array")]
    Array(&'static str),
    #[error(transparent)]
    Column(#[from] UnfitColumn),
}

/// Returns an error if the declared conversion does not exist for this input. The type of the table's column is not
/// checked here, because that needs the server.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
pub fn converts(column: &Column, input: InputKind) -> Result<(), Unconverted> {
    if column.mode == Mode::Add {
        return if input == InputKind::Int { Ok(()) } else { Err(Unconverted::Add) };
    }
    let type_name = match &column.as_ {
        As::Natural => return Ok(()),
        As::Numeric { .. } | As::Decimal => "numeric",
        As::UnixSeconds | As::UnixMillis | As::UnixMicros => "timestamptz",
        As::Time(spec) if spec.forms.contains(&TimeForm::UnixDays) => "date",
        As::Time(_) => "timestamptz",
        As::EnumName { .. } | As::Text => "text",
        As::Int => "int8",
        As::Jsonb | As::JsonText => "jsonb",
        As::Uuid => "uuid",
        As::Array => match input {
            InputKind::List(_) => return Ok(()),
            InputKind::Json => return Err(Unconverted::Array("maps and lists of messages")),
            _ => return Err(Unconverted::Array("a single value")),
        },
    };
    let best = PgColumn {
        name: column.name.clone(),
        type_name: type_name.to_owned(),
        sql_type: type_name.to_owned(),
        typmod: -1,
        ..PgColumn::default()
    };
    // The conversion of a list converts each of its elements.
    let input = if let InputKind::List(element) = input { *element } else { input };
    Ok(encoder(input, &column.as_, &best).map(|_| ())?)
}

fn grows(column: &Column, input: InputKind) -> bool {
    match &column.as_ {
        As::Int | As::UnixSeconds | As::UnixMillis | As::UnixMicros => true,
        As::Natural => matches!(input, InputKind::Int | InputKind::Micros),
        As::Time(spec) => !spec.forms.contains(&TimeForm::UnixDays),
        As::Numeric { .. }
        | As::Decimal
        | As::EnumName { .. }
        | As::Text
        | As::Jsonb
        | As::JsonText
        | As::Uuid
        | As::Array => false,
    }
}

/// Loads every component and checks the message types along each chain.
fn check_transforms(pipeline: &Pipeline, pools: Option<&Pools>, known: &[&str], report: &mut Report) {
    let sandbox = match pipeline.transforms().next().map(|_| build::sandbox(pipeline)).transpose() {
        Ok(sandbox) => sandbox,
        Err(failure) => return report.error(pipeline, "sandbox.engine", "transforms", failure.message),
    };
    for kind in &pipeline.types {
        let mut message = Some(kind.message.clone()).filter(|_| known.contains(&kind.name.as_str()));
        for index in 0..kind.transforms.len() {
            let Some(sandbox) = &sandbox else { continue };
            message = check_transform(pipeline, (sandbox, pools), (kind, index), message.as_deref(), report);
        }
        let last = kind.emitted();
        if let Some(message) = message.filter(|message| message != last) {
            let place = kind.place(if kind.output.is_some() { "output.contract" } else { "transforms" });
            let problem = format!("the chain emits {message}, but rows and outputs expect {last}: set output.contract");
            report.error(pipeline, "transform.chain", &place, problem);
        }
    }
}

/// Checks a transform. Returns the message type that it emits, if that is known.
fn check_transform(
    pipeline: &Pipeline,
    (sandbox, pools): (&Sandbox, Option<&Pools>),
    (kind, index): (&EventType, usize),
    message: Option<&str>,
    report: &mut Report,
) -> Option<String> {
    let spec = &kind.transforms[index];
    let place = kind.place(&format!("transforms[{index}]"));
    let component = format!("{place}.component");
    let path = pipeline.resolve(&spec.component);
    let shown = pipeline.shown(&path);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.error(pipeline, "transform.file", &component, format!("cannot read {}: {error}", shown.display()));
            return None;
        }
    };
    let overrides = build::overrides(spec);
    let transform = match sandbox.load(&bytes, &overrides) {
        Ok(transform) => transform,
        Err(error) => {
            report.error(pipeline, "transform.refused", &component, format!("{}: {error}", shown.display()));
            return None;
        }
    };
    let manifest = transform.manifest();
    match pools.map(|pools| types::compare(&transform, &pools.own)) {
        Some(Ok(notices)) => {
            for notice in notices {
                let suggestion = "build the component with the contract's .proto files";
                report.warn(
                    pipeline,
                    "transform.types",
                    &component,
                    &format!("{}: {notice}", manifest.name),
                    suggestion,
                );
            }
        }
        Some(Err(stale)) => {
            report.error(pipeline, "transform.types", &component, format!("{} {stale}", path.display()))
        }
        // `message_types` has reported this.
        None => {}
    }
    if let Some(message) = message.filter(|message| *message != manifest.input) {
        let problem = format!("{} takes {}, but it receives {message}", manifest.name, manifest.input);
        report.error(pipeline, "transform.chain", &component, problem);
    }
    for Wrong { key, problem } in wrong_routes(kind, index, manifest) {
        report.error(pipeline, "transform.route", &key, problem);
    }
    report.memory.instances(pipeline.lanes, transform.limits().memory);
    Some(manifest.output().to_owned())
}

/// Warns about settings that are allowed but often not intended.
fn check_habits(pipeline: &Pipeline, report: &mut Report) {
    for to in pipeline.destinations() {
        let Some(mapping) = to.mapping() else { continue };
        let overwrites = |column: &Column| {
            let own = column.from.path().is_some() || matches!(column.from, From::Header(_) | From::Record(_));
            own && column.mode == Mode::Set && !mapping.key.contains(&column.name)
        };
        if mapping.only_if_newer.is_none() && mapping.columns.iter().any(overwrites) {
            let message = "events with the same key on different partitions have no order: the last one committed wins";
            let suggestion =
                "set postgres.only_if_newer to a column that grows, unless each key always goes to one partition";
            report.warn(pipeline, "order.across_partitions", &to.place("postgres.columns"), message, suggestion);
        }
    }
    if pipeline.dead_letter.limit.is_none() {
        let message = "without a limit, a bad deploy can turn the whole topic into dead letters";
        report.warn(pipeline, "dead_letter.no_limit", "dead_letter.limit", message, "set a limit");
    }
    if pipeline.source.session_timeout < limits::SESSION_TIMEOUT_MIN_BROKER {
        let message = "a broker with default settings rejects a session_timeout below 6s";
        let suggestion = "raise it, or lower group.min.session.timeout.ms on the broker";
        report.warn(pipeline, "kafka.session_timeout", "source.session_timeout", message, suggestion);
    }
}

#[cfg(test)]
mod tests;
