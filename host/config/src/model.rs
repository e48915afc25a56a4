//! What a pipeline.yaml says, after every default is filled in and every value is checked. Plain data.

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
    /// `pipeline:` letters, digits, `.`, `_` and `-`; names the progress rows and the transactional ids.
    pub name: String,
    /// The file, as it was named.
    pub file: PathBuf,
    /// The folder of the file: relative paths in it start here.
    pub base: PathBuf,
    pub source: Source,
    pub contract: Contract,
    /// What the topic holds: at least one, in file order.
    pub types: Vec<EventType>,
    pub dead_letter: DeadLetter,
    pub postgres: Postgres,
    pub delivery: Delivery,
    pub retry: Retry,
    pub backpressure: Backpressure,
    pub admin: Admin,
    /// `lanes:` threads that carry partitions; default: the cores this process may use.
    pub lanes: usize,
    /// `shutdown:` how long SIGTERM may drain before the process leaves all the same.
    pub shutdown: Duration,
    /// `start_deadline:` how long to wait for Kafka and PostgreSQL at the start before exit code 3.
    pub start_deadline: Duration,
    /// `acknowledge:` a warning's code → why it is meant.
    pub acknowledged: BTreeMap<String, String>,
    /// Where each key stands in the file, for findings that come later.
    pub places: Places,
    /// What `${…}` stands for, for messages that show a path.
    pub origins: Origins,
}

/// `source:` the topic that is consumed.
#[derive(Debug, Clone)]
pub struct Source {
    /// `brokers:` host:port, comma separated.
    pub brokers: String,
    pub topic: String,
    pub group_id: String,
    /// `start:` used only where neither the group nor the progress row knows a position. Required.
    pub start: Start,
    pub security: Security,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub max_poll_interval: Duration,
    /// `stall_after:` how long a partition with lag may stand still before it is reported.
    pub stall_after: Duration,
    /// `group_instance_id:` static membership, off by default.
    pub group_instance_id: Option<String>,
    /// `kafka:` further librdkafka settings, for what has no key of its own. Those the delivery protocol owns are refused.
    pub extra: Settings,
}

/// librdkafka settings, name → value. Debug shows no value that could be a secret.
#[derive(Clone, Default)]
pub struct Settings(pub BTreeMap<String, String>);

impl Settings {
    /// Whether a setting's value may not be shown, by its name.
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
    /// Where the consumer group stands: another program has used it until now.
    Committed,
    /// The first record at or after this time, Unix milliseconds.
    Timestamp(i64),
}

/// `source.security:` TLS and SASL towards Kafka, for the consumer and the producers alike.
#[derive(Debug, Clone, Default)]
pub struct Security {
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// `ca:` path of a PEM file; without it the system's certificates. These paths start in the file's folder already.
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password: Option<Secret>,
    /// `verify_hostname:` default true.
    pub skip_hostname: bool,
}

#[derive(Debug, Clone)]
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
#[derive(Clone)]
pub struct Transform {
    /// `component:` path of the .wasm.
    pub component: PathBuf,
    pub ceiling: Ceiling,
    /// `config:` laid over the configuration in the component's transform.yaml.
    pub config: Option<serde_json::Value>,
    /// `config` with every `${…}` as it stands in the file: what may be shown.
    pub config_written: Option<serde_json::Value>,
    /// `routes:` where the outputs of the component's named routes go, in file order.
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

/// The pipeline's upper bounds: the effective limit is the lower of these and the transform's own.
#[derive(Debug, Clone, Default)]
pub struct Ceiling {
    pub fuel: Option<u64>,
    pub memory: Option<usize>,
    pub deadline: Option<Duration>,
    /// CPU time that compiling the component may use. Not a limit of its own: the sandbox has a default by its size.
    pub compile_time: Option<Duration>,
    pub output: Option<usize>,
    pub max_outputs: Option<u32>,
}

/// `output:` where valid events are produced.
#[derive(Debug, Clone)]
pub struct Output {
    pub topic: String,
    /// `contract:` message type of what the chain emits; default: the source contract's.
    pub contract: Option<String>,
    pub partition: OutputPartition,
    /// `key:` fields of the output message instead of the event's key; none: that.
    pub key: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputPartition {
    /// Where Java's and kafkajs's partitioner would put the key (murmur2).
    ByKey,
    /// The source record's partition number.
    Same,
}

/// `dead_letter:`
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub topic: String,
    pub limit: Option<DeadLetterLimit>,
    /// `dlq_threshold` of the article's template: the depth that raises the alert.
    pub alert_depth: Option<u64>,
}

/// `dead_letter.limit:` more than `share` of at least `of_at_least` events within `within` pauses the pipeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeadLetterLimit {
    pub share: f64,
    pub of_at_least: u64,
    pub within: Duration,
}

/// `postgres:` the server: the target tables, and where progress is kept.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub url: Secret,
    /// `tls_ca:` PEM file, its path starting in the file's folder already; how strict TLS is says the URL's `sslmode`.
    pub tls_ca: Option<PathBuf>,
}

/// The rest of `postgres:` a target table and how its columns are filled.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// `table:` name or schema.name.
    pub table: TableName,
    /// `key:` columns of the primary key or of a unique index.
    pub key: Vec<String>,
    /// In file order. Every key column is among them.
    pub columns: Vec<Column>,
    /// `only_if_newer:` the column that must grow for an update to happen.
    pub only_if_newer: Option<String>,
    pub nul: Nul,
    pub delete: Deletes,
    pub partitions: Option<Partitions>,
}

impl Mapping {
    /// Whether an event that deletes marks its row by an upsert, so that `only_if_newer` holds for it too.
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
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub from: From,
    pub as_: As,
    pub mode: Mode,
    /// `absent:` instead of the contract's.
    pub absent: Option<Absent>,
    /// `default:` what the column gets where its field is not set or its header is absent.
    pub default: Option<String>,
    /// `identity: override` inserts the event's value into a column that PostgreSQL would number by itself.
    pub overrides_identity: bool,
    /// `not_null: true` makes `setup` declare the column NOT NULL.
    pub not_null: bool,
}

impl Column {
    /// A column that takes the field of its own name.
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

/// `postgres.nul:` what becomes of the NUL character, which PostgreSQL cannot store in a text.
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

/// Where a column's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// `field:` dotted path in the message (of the output contract where there is one).
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
    /// The path in the message that the value is read from; each column that has one has a slot.
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
    /// The revision's digest that the event passed, hex.
    Digest,
}

/// A declared conversion; `Natural` is the type map of docs/tables.md.
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
    /// The enum's name, with an optional prefix cut off.
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
    /// A list as an array of PostgreSQL's own.
    Array,
    /// Text or whole numbers read as a time.
    Time(TimeSpec),
}

/// As one writes it in the file.
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
    /// The last event's value.
    Set,
    /// Only the insert sets it.
    InsertOnly,
    /// `add:` grows by the value: `n = t.n + excluded.n`.
    Add,
}

/// `admin:` health, metrics, status, reload.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `listen:` host:port; port 0 takes a free one and logs it. None with `listen: off`.
    pub listen: Option<String>,
    /// `allow_remote:` other machines may read health, metrics and status.
    pub remote: bool,
    /// `hosts:` names beside this machine's own by which the server may be asked, in lower case.
    pub hosts: Vec<String>,
}
