//! Every key of a pipeline.yaml in one table: docs/configuration.md and the JSON Schema are made from it, and tests hold it
//! against what the parser asks for and against the defaults that the parser fills in.

mod contract;
mod paths;
mod postgres;

pub use paths::{all_paths, is_list};

use std::sync::LazyLock;

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `transforms[].component`: `[]` for each item of a list, `*` for any name.
    pub path: &'static str,
    pub kind: Kind,
    pub fallback: Fallback,
    pub meaning: &'static str,
}

/// What a key's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    /// A list of tables, whose keys follow with `[]`.
    Tables,
    /// A table whose keys are free names.
    Map,
    /// A table, or this.
    TableOr(&'static Kind),
    /// The same keys as those below another key.
    Same(&'static str),
    /// A free block.
    Free,
    Text,
    /// A text, a number or a truth value, taken as written.
    Scalar,
    Secret,
    Path,
    Paths,
    Names,
    Boolean,
    Whole,
    Signed,
    Number,
    Duration,
    Milliseconds,
    Bytes,
    Choice(&'static [&'static str]),
    /// One of the words, of which YAML takes `null` for its own.
    ChoiceOrNull(&'static [&'static str]),
    /// A fixed word, or a text.
    WordOrText(&'static str),
    /// One name, or a list of them.
    TextOrNames,
    /// One of the words, or a list of them.
    WordOrNames(&'static str),
    /// A whole number, a field's path or `true`.
    Addend,
    Null,
}

/// What holds when the key is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Required,
    /// Required, but another key may say it too.
    RequiredOnce,
    Value(&'static str),
    Nothing,
}

use Fallback::{Nothing, Required, RequiredOnce, Value};
use Kind::{
    Boolean, Bytes, Choice, Duration, Free, Map, Milliseconds, Names, Number, Path, Same, Scalar, Secret, Table,
    TableOr, Tables, Text, TextOrNames, Whole, WordOrText,
};

const fn key(path: &'static str, kind: Kind, fallback: Fallback, meaning: &'static str) -> Key {
    Key { path, kind, fallback, meaning }
}

/// All keys, in the order of the page.
pub static KEYS: LazyLock<Vec<Key>> =
    LazyLock::new(|| [BEFORE_CONTRACT, contract::KEYS, AFTER_TYPES, postgres::KEYS, AFTER_POSTGRES].concat());

const BEFORE_CONTRACT: &[Key] = &[
    key(
        "pipeline",
        Text,
        Required,
        "Name of the pipeline: 1 to 100 letters, digits, `.`, `_` and `-`. Names the progress rows and the transactional ids, so a renamed pipeline starts anew.",
    ),
    key(
        "lanes",
        Whole,
        Value("cores"),
        "Threads that carry partitions, 1 to 64. Each has a connection to PostgreSQL and a producer. Default: the cores this process may use.",
    ),
    key(
        "shutdown",
        Duration,
        Value("30s"),
        "How long SIGTERM may drain before the process leaves all the same. 1s to 1h.",
    ),
    key(
        "start_deadline",
        Duration,
        Value("1m"),
        "How long to wait for Kafka and PostgreSQL at the start before exit code 3. 1s to 1h.",
    ),
    key("source", Table, Required, "The topic that is consumed."),
    key("source.brokers", Text, Required, "`host:port`, several with commas between."),
    key("source.topic", Text, Required, "The topic."),
    key("source.group_id", Text, RequiredOnce, "The consumer group."),
    key(
        "source.start",
        WordOrText("earliest|latest|committed"),
        RequiredOnce,
        "`earliest`, `latest`, `committed`, or a time (`2026-01-31T12:00:00Z`, or Unix milliseconds). Used only where neither the group nor the progress row knows a position. `committed` takes a group over from another program: each partition begins at the offset that the group has committed, a partition without one at its first record; where no partition has one, the pipeline does not start.",
    ),
    key("source.auto_offset_reset", Choice(&["earliest", "latest"]), Nothing, "The articles' name for `start`."),
    key(
        "source.session_timeout",
        Duration,
        Value("30s"),
        "A member that is silent this long loses its partitions. Below `max_poll_interval`; the default is at most half of it.",
    ),
    key("source.session_timeout_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key(
        "source.heartbeat_interval",
        Duration,
        Value("3s"),
        "Time between heartbeats. Below `session_timeout`; the default is at most a third of it.",
    ),
    key("source.heartbeat_interval_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key(
        "source.max_poll_interval",
        Duration,
        Value("5m"),
        "A member that does not poll this long loses its partitions. A warning comes when a batch takes half of it.",
    ),
    key("source.max_poll_interval_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key(
        "source.stall_after",
        Duration,
        Value("1m"),
        "A partition that has lag and commits nothing for this long is reported: in `/readyz`, `tollgate status` and the metrics.",
    ),
    key("source.max_poll_records", Whole, Nothing, "Bounds `delivery.batch.max_events`: the lowest counts."),
    key(
        "source.enable_auto_commit",
        Boolean,
        Value("false"),
        "Only `false`: an offset is committed with the effects it stands for, never by a timer.",
    ),
    key(
        "source.isolation_level",
        Choice(&["read_committed"]),
        Value("read_committed"),
        "Only `read_committed`: records of aborted transactions are never delivered.",
    ),
    key(
        "source.group_instance_id",
        Text,
        Nothing,
        "Static membership: a restart within `session_timeout` keeps its partitions. One process a name.",
    ),
    key("source.security", Table, Nothing, "TLS and SASL towards Kafka, for the consumer and the producers alike."),
    key("source.security.tls", TableOr(&Boolean), Value("false"), "`true` (the system's certificates) or a table."),
    key("source.security.tls.ca", Path, Nothing, "PEM file of the authority that signed the broker's certificate."),
    key("source.security.tls.certificate", Path, Nothing, "PEM file of the client's certificate; needs `key`."),
    key("source.security.tls.key", Path, Nothing, "PEM file of the client's private key; needs `certificate`."),
    key("source.security.tls.key_password", Secret, Nothing, "Password of the private key."),
    key(
        "source.security.tls.verify_hostname",
        Boolean,
        Value("true"),
        "Whether the broker's certificate must name its host.",
    ),
    key("source.security.sasl", Table, Nothing, "User and password."),
    key(
        "source.security.sasl.mechanism",
        Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        Required,
        "How the password is proven.",
    ),
    key("source.security.sasl.username", Text, Required, "The user."),
    key("source.security.sasl.password", Secret, Required, "The password."),
    key("source.kafka", Map, Nothing, "Further librdkafka settings, for what has no key of its own."),
    key(
        "source.kafka.*",
        Scalar,
        Nothing,
        "The value. Settings with a key of their own here, and those that the delivery protocol depends on (`enable.auto.commit`, `isolation.level`, `transactional.id`, `acks` …), are refused.",
    ),
];

const AFTER_TYPES: &[Key] = &[
    key("transforms", Tables, Nothing, "The chain of components, in order; each sees what the one before it emitted."),
    key("transforms[].component", Path, Required, "The `.wasm`."),
    key(
        "transforms[].ceiling",
        Table,
        Nothing,
        "Upper bounds: the lower of these and the transform's own limits counts.",
    ),
    key("transforms[].ceiling.fuel", Whole, Nothing, "Fuel of one event."),
    key("transforms[].ceiling.memory", Bytes, Nothing, "Memory of one instance, 64KiB to 4GiB."),
    key(
        "transforms[].ceiling.deadline",
        Duration,
        Nothing,
        "Time of one event, at most 5m: a safety net far above its fuel. Beyond it the event is tried again; one that uses \
         all of it in CPU time `max_retries` times is a dead letter.",
    ),
    key(
        "transforms[].ceiling.compile_time",
        Duration,
        Nothing,
        "CPU time that compiling the component may use, 1s to 10m. Default: 10s, and 5s for each MB of the component above \
         the first. A component that needs more is refused.",
    ),
    key("transforms[].ceiling.output", Bytes, Nothing, "Bytes that one event may emit."),
    key("transforms[].ceiling.max_outputs", Whole, Nothing, "Outputs that one event may emit."),
    key(
        "transforms[].config",
        Free,
        Nothing,
        "Laid over the configuration in the component's transform.yaml. Numbers, truth values and nothing are typed by YAML 1.2's core rules.",
    ),
    key(
        "transforms[].routes",
        Map,
        Nothing,
        "Where the outputs of the component's named routes go. Each route of the component must be here.",
    ),
    key(
        "transforms[].routes.*",
        TableOr(&Text),
        Nothing,
        "What the route carries, and where to: a topic, a table, or both. A text is the topic of a route that carries what the chain emits and writes no rows.",
    ),
    key(
        "transforms[].routes.*.message",
        Text,
        Required,
        "Full name of its message type, the one that the component's transform.yaml names. Its outputs are checked against it.",
    ),
    key("transforms[].routes.*.topic", Text, Nothing, "Its topic. Without one its outputs are rows only."),
    key("transforms[].routes.*.partition", Choice(&["by_key", "same"]), Value("by_key"), "As `output.partition`."),
    key("transforms[].routes.*.key", Text, Nothing, "Field of its message to use as key. Default: the event's key."),
    key(
        "transforms[].routes.*.postgres",
        Table,
        Nothing,
        "The table that its outputs are rows of, written in the same transaction. Without it a route writes no rows. Nothing is taken over from the root's `postgres`.",
    ),
    key("transforms[].routes.*.postgres.table", Text, Required, "As `postgres.table`."),
    key("transforms[].routes.*.postgres.key", Names, Required, "As `postgres.key`."),
    key(
        "transforms[].routes.*.postgres.columns",
        Same("postgres.columns"),
        Required,
        "As `postgres.columns`, of the route's message.",
    ),
    key("transforms[].routes.*.postgres.only_if_newer", Text, Nothing, "As `postgres.only_if_newer`."),
    key("transforms[].routes.*.postgres.delete", Same("postgres.delete"), Nothing, "As `postgres.delete`."),
    key("transforms[].routes.*.postgres.partitions", Same("postgres.partitions"), Nothing, "As `postgres.partitions`."),
    key("transforms[].routes.*.postgres.nul", Choice(&["reject", "strip", "replace"]), Nothing, "As `postgres.nul`."),
    key("output", Table, Nothing, "Where valid events are produced; without it they go to PostgreSQL alone."),
    key("output.topic", Text, Required, "The topic."),
    key(
        "output.contract",
        Text,
        Nothing,
        "Message type of what the chain emits. Default: the source contract's. Rows, outputs and their headers follow it.",
    ),
    key(
        "output.partition",
        Choice(&["by_key", "same"]),
        Value("by_key"),
        "`by_key`: where Java's and kafkajs's partitioner would put the key (murmur2). `same`: the source record's partition number, which keeps the order of a whole partition.",
    ),
    key(
        "output.key",
        TextOrNames,
        Nothing,
        "Field of the output message to use as key, or a list of them, which make a JSON object. Default: the event's key.",
    ),
    key("dead_letter", Table, RequiredOnce, "Where rejected events go."),
    key("dead_letter.topic", Text, RequiredOnce, "The topic. It must exist."),
    key(
        "dead_letter.limit",
        TableOr(&Choice(&["off"])),
        Nothing,
        "Pauses the pipeline when more than `share` of at least `of_at_least` events within `within` are rejected, instead of draining a topic into its dead letters after a bad deploy. `off` lets everything through.",
    ),
    key("dead_letter.limit.share", Number, Value("0.5"), "0.0001 to 1."),
    key("dead_letter.limit.of_at_least", Whole, Value("1000"), "Fewer events say nothing about a share."),
    key("dead_letter.limit.within", Duration, Value("1m"), "The window, 1s to 1h."),
    key("dead_letter.alert_depth", Whole, Nothing, "Depth of the dead letter topic that raises the alert."),
];

const AFTER_POSTGRES: &[Key] = &[
    key("delivery", Table, Nothing, "How effects are made to happen once."),
    key(
        "delivery.mode",
        Choice(&["effectively_once", "at_least_once"]),
        Value("effectively_once"),
        "`at_least_once`: outputs and dead letters may be doubled by a crash; rows are guarded all the same. For brokers without transactions.",
    ),
    key("delivery.batch", Table, Nothing, "What one commit carries."),
    key("delivery.batch.max_events", Whole, Value("16000"), "1 to 100000."),
    key(
        "delivery.batch.max_bytes",
        Bytes,
        Value("4MiB"),
        "At least `contract.max_bytes`, and the default is at least that.",
    ),
    key(
        "delivery.batch.max_wait",
        Duration,
        Value("5ms"),
        "How long the first event of a batch waits for company while its lane is idle. At most 10s, below `transaction_timeout`.",
    ),
    key(
        "delivery.batch.latency_target",
        Duration,
        Nothing,
        "In place of `max_wait`: from an event's fetch to its commit. Batches then wait as long as the commits of late leave time for, and cost less for it ([operations](operations.md#sizes)). 10ms to 10s, below `transaction_timeout`.",
    ),
    key(
        "delivery.transaction_timeout",
        Duration,
        Value("15s"),
        "Kafka ends a transaction left open after this. 1s to 15m, below `source.max_poll_interval`; the default is at most half of that.",
    ),
    key(
        "delivery.processed_ids",
        Table,
        Nothing,
        "Events that come once more under another offset, by an id: the second has no effect. One of `header`, `field` and `record` says where it is.",
    ),
    key(
        "delivery.processed_ids.header",
        Text,
        Nothing,
        "A header with the event's id, of its envelope (`idempotency-key`, say) or of the record.",
    ),
    key(
        "delivery.processed_ids.field",
        Text,
        Nothing,
        "Dotted path of a text, whole number or enum in the event's message, as it comes in. Tombstones have no id then.",
    ),
    key("delivery.processed_ids.record", Choice(&["key"]), Nothing, "The id is the record's key."),
    key(
        "delivery.processed_ids.ttl",
        Duration,
        Value("7d"),
        "How long an id is remembered in `tollgate.processed`; 1m to 8760h (a year).",
    ),
    key(
        "retry_policy",
        Table,
        Nothing,
        "What an attempt at a batch that failed is followed by ([delivery](delivery.md#poison-or-outage)). An outage is waited out, however long, and never dead-letters an event.",
    ),
    key(
        "retry_policy.max_retries",
        Whole,
        Value("3"),
        "How often a batch is tried again after an error that may be the data's or the server's; 0 to 1000. After that the batch is halved until the rows are found that fail alone, and those are dead-lettered (`row-refused`). What is plainly the data's is not tried again first.",
    ),
    key("retry_policy.initial_backoff", Duration, Value("100ms"), "The first wait."),
    key("retry_policy.initial_backoff_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key("retry_policy.max_backoff", Duration, Value("30s"), "The longest wait."),
    key("retry_policy.max_backoff_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key("retry_policy.multiplier", Number, Value("2.0"), "Factor from one wait to the next, 1 to 10."),
    key("retry_policy.backoff_multiplier", Number, Nothing, "The articles' name for `multiplier`."),
    key(
        "retry_policy.breaker_threshold",
        Whole,
        Value("5"),
        "Outages of one server in a row, over all lanes and the checks of every second, after which its circuit breaker opens: from then on one lane tries at a time, with the same backoff; 1 to 1000.",
    ),
    key(
        "retry_policy.foreign_key_window",
        Duration,
        Nothing,
        "For rows that may come before their parents: a batch that a foreign key refuses (SQLSTATE 23503) is tried again `max_retries` times, spread over this time, before the refused rows are dead-lettered; 1s to 1h. Its lane waits meanwhile. Without it they are dead-lettered at once.",
    ),
    key(
        "retry_policy.unique_window",
        Duration,
        Nothing,
        "The same for a unique constraint other than the key (SQLSTATE 23505): the row that has the value may go, or may be the same one of a transaction that rolls back.",
    ),
    key("retry_policy.dlq_topic", Text, Nothing, "The articles' place for `dead_letter.topic`."),
    key("retry_policy.dlq_threshold", Whole, Nothing, "The articles' place for `dead_letter.alert_depth`."),
    key("retry_policy.max_batch_size", Whole, Nothing, "As `max_batch_size`."),
    key(
        "backpressure",
        Table,
        Nothing,
        "Bounds of the backlog: events fetched and not committed. (The broker's lag only grows while paused, so it is no measure.)",
    ),
    key(
        "backpressure.lag_threshold",
        Whole,
        Value("100000"),
        "Events; above it (an outage) the partitions are paused. At least `delivery.batch.max_events`.",
    ),
    key(
        "backpressure.pause_on_threshold",
        Boolean,
        Value("true"),
        "`false`: the threshold pauses nothing, and what is fetched is bounded by the batches alone (at most three a lane, and one in the making). A lane that takes no batch for 5 s has its partitions paused all the same: a member that stopped polling to wait would lose them.",
    ),
    key(
        "backpressure.resume_lag_margin",
        Whole,
        Value("50000"),
        "Resume at this backlog. Default: half of `lag_threshold`.",
    ),
    key(
        "backpressure.max_backlog_bytes",
        Bytes,
        Value("64MiB"),
        "All batches of the process together, bytes: those that fill, those that wait and those in work. Above it nothing is taken \
         from Kafka. What is fetched ahead follows from it. At least `delivery.batch.max_bytes`.",
    ),
    key("backpressure.dlq_topic", Text, Nothing, "The articles' place for `dead_letter.topic`."),
    key("backpressure.dlq_threshold", Whole, Nothing, "The articles' place for `dead_letter.alert_depth`."),
    key("backpressure.max_batch_size", Whole, Nothing, "As `max_batch_size`."),
    key("admin", Table, Nothing, "Health, metrics, status, reload."),
    key(
        "admin.listen",
        WordOrText("off"),
        Value("127.0.0.1:8080"),
        "`host:port`, or `off`. Port 0 takes a free one and logs it.",
    ),
    key(
        "admin.allow_remote",
        Boolean,
        Value("false"),
        "Must be `true` to listen where other machines reach it: health, metrics and status may then be read from elsewhere, by any of the machine's IP addresses. Reload stays with this machine.",
    ),
    key(
        "admin.hosts",
        Names,
        Nothing,
        "Names by which the server may be asked, beside `localhost` and loopback addresses, such as `tollgate.internal`. A request with \
         another `Host` is refused with 421: a web page cannot read what runs here through a name of its own.",
    ),
    key(
        "acknowledge",
        Map,
        Nothing,
        "Warnings of `tollgate validate` that are meant: the warning's code, and the reason. They are shown last and do not count.",
    ),
    key("acknowledge.*", Text, Nothing, "Why the warning does not matter here."),
    key("dlq_topic", Text, Nothing, "The articles' name for `dead_letter.topic`."),
    key("dlq_threshold", Whole, Nothing, "The articles' name for `dead_letter.alert_depth`."),
    key("max_batch_size", Whole, Nothing, "Bounds `delivery.batch.max_events`: the lowest counts."),
    key(
        "consumer",
        Table,
        Nothing,
        "The articles' consumer template, pasted as it stands. Its keys mean the same as those of `source`; a setting in both places is an error.",
    ),
    key("consumer.group_id", Text, Nothing, "As `source.group_id`."),
    key("consumer.auto_offset_reset", Choice(&["earliest", "latest"]), Nothing, "As `source.start`."),
    key("consumer.session_timeout", Duration, Nothing, "As `source.session_timeout`."),
    key("consumer.session_timeout_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key("consumer.heartbeat_interval", Duration, Nothing, "As `source.heartbeat_interval`."),
    key("consumer.heartbeat_interval_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key("consumer.max_poll_interval", Duration, Nothing, "As `source.max_poll_interval`."),
    key("consumer.max_poll_interval_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key("consumer.max_poll_records", Whole, Nothing, "As `source.max_poll_records`."),
    key("consumer.enable_auto_commit", Boolean, Nothing, "Only `false`."),
    key("consumer.isolation_level", Choice(&["read_committed"]), Nothing, "Only `read_committed`."),
    key("consumer.retry_policy", Same("retry_policy"), Nothing, "As `retry_policy`."),
    key("consumer.backpressure", Same("backpressure"), Nothing, "As `backpressure`."),
    key("consumer.dlq_topic", Text, Nothing, "As `dead_letter.topic`."),
    key("consumer.dlq_threshold", Whole, Nothing, "As `dead_letter.alert_depth`."),
    key("consumer.max_batch_size", Whole, Nothing, "As `max_batch_size`."),
];
