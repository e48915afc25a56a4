//! Every key of a pipeline.yaml in one table. docs/configuration.md and the JSON Schema are generated from it. Tests
//! compare it with the keys that the parser reads and with the parser's defaults.

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

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    /// A list of tables; the paths of their keys continue with `[]`.
    Tables,
    /// A table whose keys are free names.
    Map,
    /// A table, or a value of this kind.
    TableOr(&'static Kind),
    /// The same keys as below another key.
    Same(&'static str),
    /// A block with any keys.
    Free,
    Text,
    /// A text, a number or a boolean, used as written.
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
    /// One of the words, including `null`, which YAML reads as no value.
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

/// The consequence if the key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Required,
    /// Required, unless another key sets the same value.
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
        "Name of the pipeline: 1 to 100 letters, digits, `.`, `_` and `-`. The progress rows and the transactional ids contain it, so a renamed pipeline starts over.",
    ),
    key(
        "lanes",
        Whole,
        Value("cores"),
        "Threads that process partitions, 1 to 64. Each has its own connection to PostgreSQL and its own producer. Default: the number of cores available to this process.",
    ),
    key(
        "shutdown",
        Duration,
        Value("30s"),
        "Time for which the process may drain after SIGTERM before it exits anyway. 1s to 1h.",
    ),
    key(
        "start_deadline",
        Duration,
        Value("1m"),
        "Time to wait for Kafka and PostgreSQL at startup before exit code 3. 1s to 1h.",
    ),
    key("source", Table, Required, "The topic to consume."),
    key("source.brokers", Text, Required, "`host:port`; separate several brokers with commas."),
    key("source.topic", Text, Required, "Name of the topic."),
    key("source.group_id", Text, RequiredOnce, "The consumer group."),
    key(
        "source.start",
        WordOrText("earliest|latest|committed"),
        RequiredOnce,
        "`earliest`, `latest`, `committed`, or a time (`2026-01-31T12:00:00Z`, or Unix milliseconds). Used only if neither the group nor the progress row has a position. `committed` continues a group that another program has used: each partition starts at the group's committed offset, or at its first record if it has none. If no partition has one, the pipeline does not start.",
    ),
    key(
        "source.auto_offset_reset",
        Choice(&["earliest", "latest"]),
        Nothing,
        "Alias of `source.start`, as Kafka clients call it.",
    ),
    key(
        "source.session_timeout",
        Duration,
        Value("30s"),
        "A member that sends no heartbeat for this long loses its partitions. Below `max_poll_interval`; the default is at most half of it.",
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
        "A member that does not poll for this long loses its partitions. A warning is logged when a batch takes half of it.",
    ),
    key("source.max_poll_interval_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key(
        "source.stall_after",
        Duration,
        Value("1m"),
        "A partition that has lag and commits nothing for this long is reported in `/readyz`, `tollgate status` and the metrics.",
    ),
    key("source.max_poll_records", Whole, Nothing, "Bounds `delivery.batch.max_events`; the lowest bound applies."),
    key(
        "source.enable_auto_commit",
        Boolean,
        Value("false"),
        "Only `false`, because an offset is committed together with its rows and outputs, never by a timer.",
    ),
    key(
        "source.isolation_level",
        Choice(&["read_committed"]),
        Value("read_committed"),
        "Only `read_committed`, so that records of aborted transactions are never delivered.",
    ),
    key(
        "source.group_instance_id",
        Text,
        Nothing,
        "Static membership: a member that restarts within `session_timeout` keeps its partitions. Each process needs its own name.",
    ),
    key("source.security", Table, Nothing, "TLS and SASL for Kafka, for the consumer and the producers."),
    key(
        "source.security.tls",
        TableOr(&Boolean),
        Value("false"),
        "`true` trusts the system's certificates; a table sets the details.",
    ),
    key("source.security.tls.ca", Path, Nothing, "PEM file of the authority that signed the broker's certificate."),
    key("source.security.tls.certificate", Path, Nothing, "PEM file of the client's certificate; needs `key`."),
    key("source.security.tls.key", Path, Nothing, "PEM file of the client's private key; needs `certificate`."),
    key("source.security.tls.key_password", Secret, Nothing, "Password of the private key."),
    key("source.security.tls.verify_hostname", Boolean, Value("true"), "Whether the certificate must name the host."),
    key("source.security.sasl", Table, Nothing, "Login with user and password."),
    key(
        "source.security.sasl.mechanism",
        Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        Required,
        "The SASL mechanism.",
    ),
    key("source.security.sasl.username", Text, Required, "The user."),
    key("source.security.sasl.password", Secret, Required, "The password."),
    key("source.kafka", Map, Nothing, "Further librdkafka settings that have no key of their own."),
    key(
        "source.kafka.*",
        Scalar,
        Nothing,
        "The setting's value. Settings with their own key, and those that the delivery protocol depends on (`enable.auto.commit`, `isolation.level`, `transactional.id`, `acks` …), are refused.",
    ),
];

const AFTER_TYPES: &[Key] = &[
    key("transforms", Tables, Nothing, "The chain of components, in order; each gets the output of the previous one."),
    key("transforms[].component", Path, Required, "The `.wasm` file of the component."),
    key("transforms[].ceiling", Table, Nothing, "Upper bounds of the transform's own limits; the lower value applies."),
    key("transforms[].ceiling.fuel", Whole, Nothing, "Fuel of one event."),
    key("transforms[].ceiling.memory", Bytes, Nothing, "Memory of one instance, 64KiB to 4GiB."),
    key(
        "transforms[].ceiling.deadline",
        Duration,
        Nothing,
        "Time of one event, at most 5m: a safety net far above its fuel. An event that exceeds it is retried. If it uses \
         this much CPU time `max_retries` times, it becomes a dead letter.",
    ),
    key(
        "transforms[].ceiling.compile_time",
        Duration,
        Nothing,
        "CPU time for compiling the component, 1s to 10m. Default: 10s, plus 5s for each MB of the component after \
         the first. A component that needs more is refused.",
    ),
    key("transforms[].ceiling.output", Bytes, Nothing, "Bytes of one event's outputs."),
    key("transforms[].ceiling.max_outputs", Whole, Nothing, "Number of one event's outputs."),
    key(
        "transforms[].config",
        Free,
        Nothing,
        "Overrides the `config` in the component's transform.yaml. Numbers, booleans and null are typed by YAML 1.2's core schema.",
    ),
    key(
        "transforms[].routes",
        Map,
        Nothing,
        "Destinations of the component's named routes. Every route of the component must be listed.",
    ),
    key(
        "transforms[].routes.*",
        TableOr(&Text),
        Nothing,
        "The route's message type and its destination: a topic, a table, or both. A text is the topic of a route that carries the chain's output type and writes no rows.",
    ),
    key(
        "transforms[].routes.*.message",
        Text,
        Required,
        "Full name of the route's message type, as in the component's transform.yaml. The route's outputs are checked against it.",
    ),
    key("transforms[].routes.*.topic", Text, Nothing, "The route's topic. Without it the route writes only rows."),
    key("transforms[].routes.*.partition", Choice(&["by_key", "same"]), Value("by_key"), "As `output.partition`."),
    key("transforms[].routes.*.key", Text, Nothing, "Field of the message to use as key. Default: the event's key."),
    key(
        "transforms[].routes.*.postgres",
        Table,
        Nothing,
        "The table for the route's outputs, written in the same transaction. Without it the route writes no rows. Nothing is inherited from the root's `postgres`.",
    ),
    key("transforms[].routes.*.postgres.table", Text, Required, "As `postgres.table`."),
    key("transforms[].routes.*.postgres.key", Names, Required, "As `postgres.key`."),
    key(
        "transforms[].routes.*.postgres.columns",
        Same("postgres.columns"),
        Required,
        "As `postgres.columns`, for the route's message.",
    ),
    key("transforms[].routes.*.postgres.only_if_newer", Text, Nothing, "As `postgres.only_if_newer`."),
    key("transforms[].routes.*.postgres.delete", Same("postgres.delete"), Nothing, "As `postgres.delete`."),
    key("transforms[].routes.*.postgres.partitions", Same("postgres.partitions"), Nothing, "As `postgres.partitions`."),
    key("transforms[].routes.*.postgres.nul", Choice(&["reject", "strip", "replace"]), Nothing, "As `postgres.nul`."),
    key("output", Table, Nothing, "The topic for valid events; without it they go only to PostgreSQL."),
    key("output.topic", Text, Required, "Name of the topic."),
    key(
        "output.contract",
        Text,
        Nothing,
        "Message type of the chain's outputs. Default: the source contract's. It determines rows, outputs and their headers.",
    ),
    key(
        "output.partition",
        Choice(&["by_key", "same"]),
        Value("by_key"),
        "`by_key`: the partition that Java's and kafkajs's partitioner choose for the key (murmur2). `same`: the source record's partition number, which keeps the order of a whole partition.",
    ),
    key(
        "output.key",
        TextOrNames,
        Nothing,
        "Field of the output message to use as key, or a list of fields, which form a JSON object. Default: the event's key.",
    ),
    key("dead_letter", Table, RequiredOnce, "Destination of rejected events."),
    key("dead_letter.topic", Text, RequiredOnce, "Name of the topic, which must exist."),
    key(
        "dead_letter.limit",
        TableOr(&Choice(&["off"])),
        Nothing,
        "Pauses the pipeline when more than `share` of at least `of_at_least` events within `within` are rejected. This keeps a faulty deployment from turning the whole topic into dead letters. `off` removes the limit.",
    ),
    key("dead_letter.limit.share", Number, Value("0.5"), "Share of rejected events, 0.0001 to 1."),
    key("dead_letter.limit.of_at_least", Whole, Value("1000"), "Number of events needed before the share is checked."),
    key("dead_letter.limit.within", Duration, Value("1m"), "The window, 1s to 1h."),
    key("dead_letter.alert_depth", Whole, Nothing, "Depth of the dead letter topic that raises the alert."),
];

const AFTER_POSTGRES: &[Key] = &[
    key("delivery", Table, Nothing, "Delivery guarantee and batches."),
    key(
        "delivery.mode",
        Choice(&["effectively_once", "at_least_once"]),
        Value("effectively_once"),
        "With `at_least_once` a crash may duplicate outputs and dead letters; rows are still written once. For brokers without transactions.",
    ),
    key("delivery.batch", Table, Nothing, "Size of one commit."),
    key("delivery.batch.max_events", Whole, Value("16000"), "Events of one batch, 1 to 100000."),
    key(
        "delivery.batch.max_bytes",
        Bytes,
        Value("4MiB"),
        "Bytes of one batch. At least `contract.max_bytes`, and so is the default.",
    ),
    key(
        "delivery.batch.max_wait",
        Duration,
        Value("5ms"),
        "Time for which the first event of a batch waits for more events while its lane is idle. At most 10s, below `transaction_timeout`.",
    ),
    key(
        "delivery.batch.latency_target",
        Duration,
        Nothing,
        "Replaces `max_wait`: the target for the time from an event's fetch to its commit. Batches then wait as long as recent commits allow, which makes them larger and cheaper ([operations](operations.md#sizes)). 10ms to 10s, below `transaction_timeout`.",
    ),
    key(
        "delivery.transaction_timeout",
        Duration,
        Value("15s"),
        "Kafka aborts a transaction that is open for longer. 1s to 15m, below `source.max_poll_interval`; the default is at most half of that.",
    ),
    key(
        "delivery.processed_ids",
        Table,
        Nothing,
        "Recognizes repeated events at different offsets by an id; a repeated event has no effect. Set one of `header`, `field` and `record` to locate the id.",
    ),
    key(
        "delivery.processed_ids.header",
        Text,
        Nothing,
        "Header with the event's id, from its envelope (such as `idempotency-key`) or from the record.",
    ),
    key(
        "delivery.processed_ids.field",
        Text,
        Nothing,
        "Dotted path of a text, whole number or enum in the incoming message. Tombstones then have no id.",
    ),
    key("delivery.processed_ids.record", Choice(&["key"]), Nothing, "The id is the record's key."),
    key(
        "delivery.processed_ids.ttl",
        Duration,
        Value("7d"),
        "Time for which an id is kept in `tollgate.processed`; 1m to 8760h (a year).",
    ),
    key(
        "retry_policy",
        Table,
        Nothing,
        "Reaction to a failed attempt at a batch ([delivery](delivery.md#poison-or-outage)). During an outage the pipeline waits without limit and never dead-letters an event.",
    ),
    key(
        "retry_policy.max_retries",
        Whole,
        Value("3"),
        "Number of retries of a batch after an error for which either the data or the server may be at fault; 0 to 1000. Then the batch is halved until the rows that fail alone are found, and those are dead-lettered (`row-refused`). If the data is clearly at fault, there is no retry.",
    ),
    key("retry_policy.initial_backoff", Duration, Value("100ms"), "The first wait before a retry."),
    key("retry_policy.initial_backoff_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key("retry_policy.max_backoff", Duration, Value("30s"), "The longest wait before a retry."),
    key("retry_policy.max_backoff_ms", Milliseconds, Nothing, "The same in milliseconds."),
    key("retry_policy.multiplier", Number, Value("2.0"), "Factor from one wait to the next, 1 to 10."),
    key("retry_policy.backoff_multiplier", Number, Nothing, "Alias of `retry_policy.multiplier`."),
    key(
        "retry_policy.breaker_threshold",
        Whole,
        Value("5"),
        "Number of consecutive outages of one server, over all lanes and the checks of every second, at which its circuit breaker opens. Then only one lane tries at a time, with the same backoff. 1 to 1000.",
    ),
    key(
        "retry_policy.foreign_key_window",
        Duration,
        Nothing,
        "For rows that may arrive before their parents. A batch refused by a foreign key (SQLSTATE 23503) is retried `max_retries` times, spread over this time, before the refused rows are dead-lettered; 1s to 1h. Its lane waits meanwhile. Without it they are dead-lettered at once.",
    ),
    key(
        "retry_policy.unique_window",
        Duration,
        Nothing,
        "The same for a unique constraint other than the key (SQLSTATE 23505). The row that holds the value may be deleted, or its transaction may roll back.",
    ),
    key("retry_policy.dlq_topic", Text, Nothing, "Alias of `dead_letter.topic`."),
    key("retry_policy.dlq_threshold", Whole, Nothing, "Alias of `dead_letter.alert_depth`."),
    key("retry_policy.max_batch_size", Whole, Nothing, "As `max_batch_size`."),
    key(
        "backpressure",
        Table,
        Nothing,
        "Bounds of the backlog, the events that are fetched but not committed. (The broker's lag grows during a pause, so it cannot end one.)",
    ),
    key(
        "backpressure.lag_threshold",
        Whole,
        Value("100000"),
        "Number of events above which the partitions are paused, for example during an outage. At least `delivery.batch.max_events`.",
    ),
    key(
        "backpressure.pause_on_threshold",
        Boolean,
        Value("true"),
        "With `false` the threshold pauses nothing, and only the batches bound the fetched events (at most three per lane, and one that fills). The partitions of a lane that takes no batch for 5 s are still paused, because a member that stops polling would lose them.",
    ),
    key(
        "backpressure.resume_lag_margin",
        Whole,
        Value("50000"),
        "Backlog at which paused partitions resume. Default: half of `lag_threshold`.",
    ),
    key(
        "backpressure.max_backlog_bytes",
        Bytes,
        Value("64MiB"),
        "Bytes of all batches of the process together: those that fill, wait or are in progress. Above it nothing is fetched \
         from Kafka. It also determines how much is fetched ahead. At least `delivery.batch.max_bytes`.",
    ),
    key("backpressure.dlq_topic", Text, Nothing, "Alias of `dead_letter.topic`."),
    key("backpressure.dlq_threshold", Whole, Nothing, "Alias of `dead_letter.alert_depth`."),
    key("backpressure.max_batch_size", Whole, Nothing, "As `max_batch_size`."),
    key("admin", Table, Nothing, "HTTP endpoint for health, metrics, status and reload."),
    key(
        "admin.listen",
        WordOrText("off"),
        Value("127.0.0.1:8080"),
        "`host:port`, or `off`. Port 0 chooses a free port and logs it.",
    ),
    key(
        "admin.allow_remote",
        Boolean,
        Value("false"),
        "Must be `true` to listen on an address that other machines can reach. They may then read health, metrics and status at any of the machine's IP addresses. Reload is still possible only from this machine.",
    ),
    key(
        "admin.hosts",
        Names,
        Nothing,
        "Host names that requests may use besides `localhost` and loopback addresses, such as `tollgate.internal`. A request with \
         another `Host` is refused with 421, so that a web page cannot reach this endpoint through its own host name.",
    ),
    key(
        "acknowledge",
        Map,
        Nothing,
        "Warnings of `tollgate validate` that you accept: the warning's code, and the reason. They are shown last and not counted.",
    ),
    key("acknowledge.*", Text, Nothing, "The reason why the warning does not matter."),
    key("dlq_topic", Text, Nothing, "Alias of `dead_letter.topic`."),
    key("dlq_threshold", Whole, Nothing, "Alias of `dead_letter.alert_depth`."),
    key("max_batch_size", Whole, Nothing, "Bounds `delivery.batch.max_events`; the lowest bound applies."),
    key(
        "consumer",
        Table,
        Nothing,
        "Consumer settings under the names of Kafka clients, so that an existing block can be pasted. They mean the same as the keys of `source`; a setting in both places is an error.",
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
