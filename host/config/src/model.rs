//! The content of a pipeline.yaml, with all defaults filled in and all values checked. Plain data.

mod contract;
mod debezium;
mod delete;
mod delivery;
mod envelope;
mod event_type;
mod partitions;
mod route;

pub use contract::*;
pub use debezium::*;
pub use delete::*;
pub use delivery::*;
pub use envelope::*;
pub use event_type::*;
pub use partitions::*;
pub use route::*;
pub use tollgate_contract::{Between, TimeForm, TimeSpec};

use super::reader::{Origins, Places};
pub use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tollgate_contract::{Absent, FieldPath};

/// A whole pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// `pipeline:` letters, digits, `.`, `_` and `-`; part of the progress rows and the transactional ids.
    pub name: String,
    /// The path of the file, as given by the user.
    pub file: PathBuf,
    /// The folder of the file; relative paths in the file start here.
    pub base: PathBuf,
    pub source: Source,
    pub contract: Contract,
    /// The types of event on the topic: at least one, in file order.
    pub types: Vec<EventType>,
    pub dead_letter: DeadLetter,
    pub postgres: Postgres,
    pub delivery: Delivery,
    pub retry: Retry,
    pub backpressure: Backpressure,
    pub admin: Admin,
    /// `lanes:` threads that process partitions; by default the number of cores available to this process.
    pub lanes: usize,
    /// `shutdown:` how long the process may drain after SIGTERM before it exits anyway.
    pub shutdown: Duration,
    /// `start_deadline:` how long to wait for Kafka and PostgreSQL at startup before exit code 3.
    pub start_deadline: Duration,
    /// `acknowledge:` a warning's code → the reason for accepting it.
    pub acknowledged: BTreeMap<String, String>,
    /// The position of each key in the file, for findings of later checks.
    pub places: Places,
    /// The values of `${…}`, for messages that show a path.
    pub origins: Origins,
}

/// `source:` the topic to consume.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// `brokers:` host:port, comma separated.
    pub brokers: String,
    pub topic: String,
    pub group_id: String,
    /// `start:` used only if neither the group nor the progress row has a position. Required.
    pub start: Start,
    pub security: Security,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub max_poll_interval: Duration,
    /// `stall_after:` how long a partition with lag may commit nothing before it is reported.
    pub stall_after: Duration,
    /// `group_instance_id:` static membership, off by default.
    pub group_instance_id: Option<String>,
    /// `kafka:` further librdkafka settings that have no key of their own. Settings that the delivery protocol needs
    /// are refused.
    pub extra: Settings,
}

/// librdkafka settings, name → value. `Debug` masks every value that may be secret.
#[derive(Clone, Default, PartialEq)]
pub struct Settings(pub BTreeMap<String, String>);

impl Settings {
    /// Returns whether the value of a setting with this name must not be shown.
    pub fn is_secret(name: &str) -> bool {
        ["password", "secret", "token", "jaas", "oauthbearer.config", ".pem", "credential"]
            .iter()
            .any(|part| name.contains(part))
    }
}

impl std::ops::Deref for Settings {
    type Target = BTreeMap<String, String>;
    fn deref(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl<'s> IntoIterator for &'s Settings {
    type Item = (&'s String, &'s String);
    type IntoIter = std::collections::btree_map::Iter<'s, String, String>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            (name.clone(), if Settings::is_secret(name) { "***".to_owned() } else { value.clone() })
        };
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// The committed offsets of the consumer group, which another program has used until now.
    Committed,
    /// The first record at or after this time, Unix milliseconds.
    Timestamp(i64),
}

/// `source.security:` TLS and SASL for Kafka, used by the consumer and the producers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Security {
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tls {
    /// `ca:` path of a PEM file; without it the system's certificates are used. These paths already include the file's
    /// folder.
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password: Option<Secret>,
    /// `verify_hostname:` default true.
    pub skip_hostname: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sasl {
    pub mechanism: SaslMechanism,
    pub username: String,
    pub password: Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

/// One of `transforms:`, in chain order.
#[derive(Clone, PartialEq)]
pub struct Transform {
    /// `component:` path of the .wasm file.
    pub component: PathBuf,
    pub ceiling: Ceiling,
    /// `config:` overrides the `config` in the component's transform.yaml.
    pub config: Option<serde_json::Value>,
    /// `config` with every `${…}` as written in the file; this may be shown.
    pub config_written: Option<serde_json::Value>,
    /// `routes:` destinations of the component's named routes, in file order.
    pub routes: Vec<Route>,
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform")
            .field("component", &self.component)
            .field("ceiling", &self.ceiling)
            .field("config", &self.config_written)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

/// The pipeline's upper bounds. The effective limit is the lower one of these and the transform's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ceiling {
    pub fuel: Option<u64>,
    pub memory: Option<usize>,
    pub deadline: Option<Duration>,
    /// CPU time for compiling the component. A transform cannot set this limit. Without it, the sandbox derives a limit
    /// from the component's size.
    pub compile_time: Option<Duration>,
    pub output: Option<usize>,
    pub max_outputs: Option<u32>,
}

/// `output:` the topic for valid events.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub topic: String,
    /// `contract:` message type of the chain's outputs; by default the source contract's.
    pub contract: Option<String>,
    pub partition: OutputPartition,
    /// `key:` fields of the output message; if empty, the event's key is used.
    pub key: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputPartition {
    /// The partition that Java's and kafkajs's partitioner choose for the key (murmur2).
    ByKey,
    /// The source record's partition number.
    Same,
}

/// `dead_letter:`
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    pub topic: String,
    pub limit: Option<DeadLetterLimit>,
    /// `alert_depth:` or `dlq_threshold:` the depth at which the alert metric becomes 1.
    pub alert_depth: Option<u64>,
}

/// `dead_letter.limit:` more than `share` of at least `of_at_least` events within `within` pauses the pipeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeadLetterLimit {
    pub share: f64,
    pub of_at_least: u64,
    pub within: Duration,
}

/// `postgres:` the server with the target tables and the progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Postgres {
    pub url: Secret,
    /// `tls_ca:` PEM file; the path already includes the file's folder. The URL's `sslmode` sets how strictly TLS is
    /// checked.
    pub tls_ca: Option<PathBuf>,
}

/// The rest of `postgres:` a target table and the sources of its columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// `table:` name or schema.name.
    pub table: TableName,
    /// `key:` columns of the primary key or of a unique index.
    pub key: Vec<String>,
    /// The columns in file order, including every key column.
    pub columns: Vec<Column>,
    /// `only_if_newer:` the column whose value must increase for an update.
    pub only_if_newer: Option<String>,
    pub nul: Nul,
    pub delete: Deletes,
    pub partitions: Option<Partitions>,
}

impl Mapping {
    /// Returns whether a deleting event marks its row by an upsert, so that `only_if_newer` applies to it too.
    pub fn marks(&self) -> bool {
        self.only_if_newer.is_some() && self.delete.soft.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    pub schema: Option<String>,
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One column of the target table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub from: From,
    pub as_: As,
    pub mode: Mode,
    /// `absent:` overrides the contract's.
    pub absent: Option<Absent>,
    /// `default:` the column's value if its field is not set or its header is absent.
    pub default: Option<String>,
    /// `identity: override` inserts the event's value into a column that PostgreSQL would otherwise number itself.
    pub overrides_identity: bool,
    /// `not_null: true` makes `setup` declare the column NOT NULL.
    pub not_null: bool,
}

impl Column {
    /// Returns a column that gets the field of the same name.
    pub fn field(name: String) -> Column {
        Column {
            from: From::Field(name.clone()),
            name,
            as_: As::Natural,
            mode: Mode::Set,
            absent: None,
            default: None,
            overrides_identity: false,
            not_null: false,
        }
    }
}

/// `postgres.nul:` the handling of the NUL character, which PostgreSQL cannot store in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nul {
    /// The event becomes a dead letter.
    #[default]
    Reject,
    /// The text is stored without its NULs.
    Strip,
    /// Each NUL becomes U+FFFD, the replacement character.
    Replace,
}

impl Nul {
    pub const ALL: [(&'static str, Nul); 3] =
        [("reject", Nul::Reject), ("strip", Nul::Strip), ("replace", Nul::Replace)];
}

/// The source of a column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// `field:` dotted path in the message (of the output contract, if there is one).
    Field(String),
    /// `oneof:` dotted path of a oneof in the message; the value is the name of the branch that is set.
    Oneof(String),
    /// `header:` of the source record.
    Header(String),
    /// `record:`
    Record(RecordPart),
    /// `now: true` PostgreSQL's transaction time.
    Now,
    /// `value: 1`, for `add`.
    Constant(i64),
}

impl From {
    /// Returns the path in the message that the value is read from. Each column with such a path has a slot.
    pub fn path(&self) -> Option<FieldPath> {
        match self {
            From::Field(path) => Some(FieldPath::new(path)),
            From::Oneof(path) => Some(FieldPath::oneof(path)),
            From::Header(_) | From::Record(_) | From::Now | From::Constant(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPart {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    /// The digest of the revision that processed the event, in hex.
    Digest,
}

/// A declared conversion. `Natural` uses the type map of docs/tables.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum As {
    Natural,
    /// `numeric(p,s)` rounds half to even; a value out of range is rejected.
    Numeric {
        precision: u16,
        scale: u16,
    },
    /// `numeric` alone keeps every digit; a value that the column would round is rejected.
    Decimal,
    UnixSeconds,
    UnixMillis,
    UnixMicros,
    /// The enum's name, without an optional prefix.
    EnumName {
        strip_prefix: Option<String>,
    },
    /// Text or bytes read as a whole number.
    Int,
    Text,
    Jsonb,
    /// Text or bytes read as a JSON document.
    JsonText,
    Uuid,
    /// A list as a PostgreSQL array.
    Array,
    /// Text or whole numbers read as a time.
    Time(TimeSpec),
}

/// Writes the conversion as in the file.
impl fmt::Display for As {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            As::Natural => f.write_str("natural"),
            As::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            As::Decimal => f.write_str("numeric"),
            As::JsonText => f.write_str("json_text"),
            As::Array => f.write_str("array"),
            As::Time(spec) => spec.fmt(f),
            As::UnixSeconds => f.write_str("unix_s"),
            As::UnixMillis => f.write_str("unix_ms"),
            As::UnixMicros => f.write_str("unix_us"),
            As::EnumName { strip_prefix: None } => f.write_str("enum_name"),
            As::EnumName { strip_prefix: Some(prefix) } => write!(f, "enum_name without {prefix}"),
            As::Int => f.write_str("int"),
            As::Text => f.write_str("text"),
            As::Jsonb => f.write_str("jsonb"),
            As::Uuid => f.write_str("uuid"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The value of the last event.
    Set,
    /// Only an insert sets the column.
    InsertOnly,
    /// `add:` adds the value: `n = t.n + excluded.n`.
    Add,
}

/// `admin:` health, metrics, status, reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// `listen:` host:port; port 0 chooses a free port and logs it. `None` for `listen: off`.
    pub listen: Option<String>,
    /// `allow_remote:` other machines may read health, metrics and status.
    pub remote: bool,
    /// `hosts:` host names that requests may use besides this machine's own, in lower case.
    pub hosts: Vec<String>,
}
