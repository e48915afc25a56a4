//! All bounds of the host, each with the reason for its number. The sandbox's bounds are in its crate.

use std::time::Duration;

/// The least value of most durations in a configuration file.
pub const MILLISECOND: Duration = Duration::from_millis(1);
/// The least value of longer ones.
pub const SECOND: Duration = Duration::from_secs(1);
pub const DAY: Duration = Duration::from_secs(86_400);

/// Bytes of a pipeline.yaml or transform.yaml. The largest sensible file (hundreds of columns) has about 50 kB.
pub const CONFIG_BYTES: u64 = 1 << 20;

/// Nesting of a configuration file. Our own keys need 5; `config:` blocks may be deeper, and trees are processed
/// recursively.
pub const CONFIG_DEPTH: usize = 64;

/// Unknown keys of one table that get a suggestion. More are not typos, and each suggestion compares the key with all
/// known keys.
pub const CONFIG_SUGGESTIONS: usize = 100;

/// Bytes of a file named by `${file:…}`. Keys and certificates have a few kB; the bound stops at files such as
/// `/dev/zero`.
pub const SECRET_FILE_BYTES: u64 = 64 << 10;

/// Characters of `pipeline:`. Each transactional id (Kafka allows 249) and each advisory lock's name begins with it.
pub const PIPELINE_NAME: usize = 100;

/// Kafka's bound of a topic name.
pub const TOPIC_NAME: usize = 249;

/// PostgreSQL silently truncates a longer identifier (NAMEDATALEN − 1).
pub const IDENTIFIER_BYTES: usize = 63;

/// `lanes:` Each lane has its own connection, producer and instances. With more, PostgreSQL's connections run out
/// first.
pub const LANES: usize = 64;

/// `source.session_timeout`: how long a dead member keeps its partitions; long enough for pauses of a healthy member.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// librdkafka's bound of `session.timeout.ms`.
pub const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// `source.heartbeat_interval`: Kafka's default. A tenth of the session, so nine heartbeats may be lost.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// `source.max_poll_interval`: Kafka's default.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// The interval of librdkafka's statistics: a stop waits for one. They cost a few microseconds a partition.
pub const STATISTICS: Duration = Duration::from_millis(200);

/// The time between two log lines about the same outage.
pub const OUTAGE_REMINDER: Duration = Duration::from_secs(60);

/// An outage is over if the server answers the keeper and no thread has met the outage for this long. Threads wait at
/// most `retry_policy.max_backoff`, plus the timeout of a call.
pub const OUTAGE_QUIET: Duration = Duration::from_secs(30);

/// `source.stall_after`: longer than a takeover and a slow batch, and short enough to alert users early.
pub const STALL_AFTER: Duration = Duration::from_secs(60);
/// librdkafka's bound of `max.poll.interval.ms`.
pub const MAX_POLL_INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// Bytes of a name in `types:`, which is the value of a header and a label.
pub const EVENT_TYPE_NAME: usize = 200;

/// Entries of `types:`. Each has its own contracts, chain, table and metric labels.
pub const EVENT_TYPES: usize = 64;

/// Parts of an idempotency key, and headers from an envelope's fields.
pub const ENVELOPE_PARTS: usize = 32;

/// `contract.accept_versions.header`: the name that the built-in envelopes use for the version's header.
pub const VERSION_HEADER: &str = "schema-version";

/// `contract.max_bytes`: Kafka's default `max.message.bytes`. A topic must allow larger records explicitly.
pub const EVENT_BYTES: usize = 1 << 20;
/// The largest `contract.max_bytes`: offsets in a batch's arena have 32 bits, and a batch holds many events.
pub const EVENT_BYTES_MAX: usize = 64 << 20;

/// The largest bound of `contract.clock_skew`: ten years. A larger bound would accept everything.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Bytes of the headers with the deviations that a policy accepted. They count against the output topic's bound even if
/// absent.
pub const NOTICE_BYTES: usize = 4_096;

/// `delivery.batch.max_events`: larger batches save statements in PostgreSQL and transactions in Kafka. Beyond 16,000
/// rows neither gains, but memory and the work repeated after a failure still grow.
pub const BATCH_EVENTS: usize = 16_000;
/// With more events a statement's arrays alone take tens of megabytes for each lane.
pub const BATCH_EVENTS_MAX: usize = 100_000;

/// From this number of rows a batch uses COPY and a temporary table: slower at 1,400, faster from 2,000
/// (docs/adr/0003).
pub const STAGE_ROWS: usize = 2_000;

/// The age, in transactions of the server, at which a lane drops its temporary table. PostgreSQL begins to vacuum
/// against wraparound at 200 million (`autovacuum_freeze_max_age`; if a quarter of that setting is less, it applies
/// here), and refuses writes at two billion. Dropping the table once per million transactions costs nothing.
pub const STAGE_AGE: i64 = 1_000_000;
/// The interval at which a lane checks the age of its temporary table, with one query. A server with 100,000
/// transactions a second uses another million in this time.
pub const STAGE_LOOK: Duration = Duration::from_secs(10);

/// `delivery.batch.max_bytes`: 16,000 events of 260 bytes. Batches of larger events have fewer events.
pub const BATCH_BYTES: usize = 4 << 20;
/// Offsets in the arena have 32 bits; half of that leaves room for keys.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// `delivery.batch.max_wait`: about the duration of a commit, so that waiting never takes longer than committing.
pub const BATCH_WAIT: Duration = Duration::from_millis(5);
/// `delivery.batch.latency_target`: below this a commit alone takes longer.
pub const LATENCY_TARGET_MIN: Duration = Duration::from_millis(10);
/// A longer wait is not a sensible latency, and the wait must stay far below the transaction's timeout.
pub const BATCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// `delivery.transaction_timeout`: a dead process blocks readers of its outputs for this time plus Kafka's 10 s.
/// Statements and produce requests end after 10 s, so a live process never needs more.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// librdkafka's minimum.
pub const TRANSACTION_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The broker's default of `transaction.max.timeout.ms`; it refuses a longer timeout.
pub const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// The share of `delivery.transaction_timeout` that a Kafka transaction may have used when PostgreSQL commits. The rest
/// is for that commit and for the request that ends the transaction.
pub const TRANSACTION_SHARE: f64 = 0.9;

/// `dead_letter.limit`: half of the events. Bad data affects single events; a faulty deployment rejects nearly all.
pub const DEAD_LETTER_SHARE: f64 = 0.5;
/// A share of fewer events is not significant.
pub const DEAD_LETTER_OF_AT_LEAST: u64 = 1_000;
/// Long enough for 1,000 events of a slow topic, and short enough to stop before the topic is drained.
pub const DEAD_LETTER_WITHIN: Duration = Duration::from_secs(60);
/// The window stores counts per second: an hour has 3,600 of them.
pub const DEAD_LETTER_WITHIN_MAX: Duration = Duration::from_secs(3600);

/// `retry_policy.max_retries`: enough for a passing error, and few enough that a rejected event does not block its lane
/// for long.
pub const RETRIES: u32 = 3;
/// With more retries there is no bound in practice.
pub const RETRIES_MAX: u32 = 1_000;
/// The time for which all attempts at a batch may fail by an outage of Kafka before a lane asks the broker whether the
/// topics exist. A broker's restart or a topic's creation takes less.
pub const STUCK_LOOK: Duration = Duration::from_secs(30);

/// The time for which they may fail while the broker answers before the partition is halted. An election of leaders, a
/// rolling restart, or an operator's reaction to a full disk takes less.
pub const STUCK_HALT: Duration = Duration::from_secs(600);

/// `retry_policy.breaker_threshold`: a lost connection or a restart of PostgreSQL is over before this many attempts.
pub const BREAKER_THRESHOLD: u32 = 5;
/// With more, the breaker would never open in practice.
pub const BREAKER_THRESHOLD_MAX: u32 = 1_000;
/// The interval at which a lane checks whether the breaker lets it try: another part of the process may have reached
/// the server again.
pub const BREAKER_LOOK: Duration = Duration::from_millis(50);
/// An open breaker that no lane checks for this long after its wait has no waiting lanes, because lanes check every 50
/// ms.
pub const BREAKER_IDLE: Duration = Duration::from_secs(5);
/// `retry_policy.foreign_key_window` and `unique_window`: normal backoff already covers less than a second, and a lane
/// that waits longer than an hour is stopped in effect.
pub const CONSTRAINT_WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// `retry_policy.initial_backoff`: the shortest failover takes this long; a lost connection is often restored at once.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(100);
/// `retry_policy.max_backoff`: the longest delay after the server has recovered.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The largest value that may be set.
pub const BACKOFF_LIMIT: Duration = Duration::from_secs(3600);
/// `retry_policy.multiplier`: the usual exponential backoff; about nine retries reach `max_backoff`.
pub const BACKOFF_MULTIPLIER: f64 = 2.0;
/// With more, the second or third wait is already the longest.
pub const BACKOFF_MULTIPLIER_MAX: f64 = 10.0;

/// `backpressure.lag_threshold`: about half a second of work at full speed, so that a drain never pauses.
pub const BACKLOG_EVENTS: u64 = 100_000;
/// With more events, the bound on the backlog's bytes always applies first.
pub const BACKLOG_EVENTS_MAX: u64 = 100_000_000;
/// `backpressure.max_backlog_bytes`: leaves most of the process's 300 MB to lanes and instances.
pub const BACKLOG_BYTES: usize = 64 << 20;
/// The bytes that librdkafka fetches ahead: at least Kafka's default for a record (`max.message.bytes`, 1,048,588).
pub const AHEAD_MIN: usize = 1_048_588;
/// More bytes are not faster: these are already some tens of milliseconds of work.
pub const AHEAD_MAX: usize = 16 << 20;
/// The largest value that may be set.
pub const BACKLOG_BYTES_MAX: usize = 16 << 30;

/// `shutdown`: Kubernetes waits 30 s between SIGTERM and SIGKILL.
pub const SHUTDOWN: Duration = Duration::from_secs(30);
/// `start_deadline`: a broker and a database that start together with Tollgate are ready within this time.
pub const START_DEADLINE: Duration = Duration::from_secs(60);
/// The time for which a start may exceed its deadline, so that a step with the same timeout can report its own error
/// first.
pub const START_GRACE: Duration = Duration::from_secs(1);
/// The longest `shutdown` and `start_deadline`.
pub const DEADLINE_MAX: Duration = Duration::from_secs(3600);

/// A ceiling's memory: a component needs at least one WebAssembly page and can address at most 4 GiB.
pub const CEILING_MEMORY: (usize, usize) = (64 << 10, 4 << 30);
/// A ceiling's output bytes for one event.
pub const CEILING_OUTPUT_MAX: usize = 1 << 30;
/// A ceiling's number of outputs for one event.
pub const CEILING_OUTPUTS_MAX: u32 = 100_000;
/// A ceiling's deadline. If it exceeded the poll interval, the group would remove the member.
pub const CEILING_DEADLINE_MAX: Duration = Duration::from_secs(300);
/// A ceiling's CPU time for compiling, counted in seconds. The largest component compiles in a fraction of ten minutes.
pub const CEILING_COMPILE_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// PostgreSQL's bound of the declared precision of `numeric`.
pub const NUMERIC_PRECISION: u16 = 1_000;
/// The largest precision whose numbers all fit into 128 bits, which is the fast way to write them.
pub const NUMERIC_FAST: u16 = 38;
/// PostgreSQL's bound of the digits before the point of a `numeric` without precision.
pub const NUMERIC_WHOLE: i64 = 131_072;
/// PostgreSQL's bound of the digits after the point of a `numeric` without precision.
pub const NUMERIC_FRACTION: i64 = 16_383;

/// The duration of a poll while a batch fills: short, so that the batch is handed over in time.
pub const POLL_BUSY: Duration = Duration::from_millis(1);

/// The duration of a poll while no batch fills: long enough to cost nothing, short enough to notice a rebalance or a
/// stop.
pub const POLL_IDLE: Duration = Duration::from_millis(50);

/// Records that the loop takes in a row from librdkafka's queue before it handles other events.
pub const POLL_RUN: usize = 1_000;

/// The time for which the poll thread waits for a lane before it pauses the lane's partitions. It is also at most a
/// tenth of `max_poll_interval`, so that ten such waits in a row do not end the membership.
pub const LANE_PATIENCE: Duration = Duration::from_secs(5);

/// Batches that wait for a lane besides the one in progress: the first keeps the lane busy, and the second absorbs
/// bursts.
pub const LANE_QUEUE: usize = 2;

/// Batches of a lane and the poll thread together: one that fills, one that waits to be handed over, those in the
/// lane's queue, and the one in progress.
pub const LANE_BATCHES: usize = LANE_QUEUE + 3;

/// The maximal number of copies in memory of the batch in progress: as events of the sandbox, as its results, as rows
/// and their arrays, in a statement, in the producer's queue and in its requests, and as a redo plan that is written,
/// compressed and sent. These are eleven copies, plus half as much that the allocator has not returned.
pub const LANE_COPIES: usize = 16;

/// Memory of the process without events: code, compiled components, connections.
pub const PROGRAM_BYTES: usize = 64 << 20;

/// A seek is answered by librdkafka's own threads, without a network request.
pub const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

// I15: the bound of every channel between threads.
/// Rebalances, takeovers and releases in progress at once: the group has one at a time.
pub const EVENTS: usize = 64;

/// A lane's stack: the sandbox runs guests on it (256 KiB for them) in addition to our own frames.
pub const LANE_STACK: usize = 4 << 20;

/// Processes of one pipeline: each needs a slot.
pub const SLOTS: i32 = 1024;

/// The time for which the id of an event is kept.
pub const PROCESSED_TTL: Duration = Duration::from_secs(7 * 86_400);
pub const PROCESSED_TTL_MIN: Duration = Duration::from_secs(60);
pub const PROCESSED_TTL_MAX: Duration = Duration::from_secs(365 * 86_400);

/// The interval at which the slot's session is checked and the stored pause is read.
pub const KEEPER_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which a lane waits for PostgreSQL's answer: longer than the server's own `statement_timeout`, so that
/// it applies only if no server can answer any more (a broken network, a dead host).
pub const STATEMENT_PATIENCE: Duration = Duration::from_secs(35);

/// The idle timeout of a PostgreSQL transaction exceeds the timeout of its Kafka transaction by this time, so that a
/// drain that ends at the last moment still commits.
pub const IDLE_BEYOND_TRANSACTION: Duration = Duration::from_secs(5);

/// The interval at which `run` logs a summary: often enough to be visible in a log, and only 1,440 lines a day.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// Partitions of a table that are created after the current one. With monthly partitions, a week without a working
/// member is harmless. The maximum is a year of daily partitions.
pub const PARTITIONS_AHEAD: u32 = 2;
pub const PARTITIONS_AHEAD_MAX: u32 = 366;

/// Rounds of the keeper between two checks for partitions to create: an hour. A partition that could not be created is
/// retried long before it is needed.
pub const PARTITION_ROUNDS: u32 = 3_600;

/// The time for which the creation of a partition waits for the table's lock. Writers to the table queue behind it.
pub const PARTITION_LOCK: Duration = Duration::from_millis(500);

/// The time within which the keeper notices that the process stops.
pub const KEEPER_STEP: Duration = Duration::from_millis(50);

/// Bytes of a payload in a dead letter by reference: enough to recognise the payload, small enough for any topic.
pub const REFERENCE_BYTES: usize = 1_024;

/// An upper bound of a record's overhead besides key, value and headers: varints, attributes, the batch's header.
pub const RECORD_OVERHEAD: usize = 128;

/// Overhead of one header: two length varints.
pub const HEADER_OVERHEAD: usize = 10;

/// Prefixes of header names that only Tollgate writes; `tollgate_sandbox::limits::HOST_HEADERS` has the same list for
/// transforms.
pub const RESERVED_HEADERS: [&str; 2] = ["tollgate.", "__connect.errors."];

/// Characters of a message in a dead letter's headers.
pub const MESSAGE_CHARS: usize = 2_000;

/// The timeout of a connection to PostgreSQL: TLS and a login over a slow network take a second.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// The timeout of one attempt at a takeover: a lock held by a predecessor's statement ends before.
pub const TAKEOVER_PATIENCE: Duration = Duration::from_secs(60);

/// The time for which a takeover waits for a locked row before it checks again whether the session that holds the lock
/// is stuck. A commit in progress takes less.
pub const TAKEOVER_LOCK: Duration = Duration::from_secs(1);
/// The longest wait between two attempts at a takeover, regardless of `retry_policy`, because its partitions are not
/// processed meanwhile.
pub const TAKEOVER_BACKOFF: Duration = Duration::from_secs(1);
/// The interval at which a takeover that keeps failing with the same error is logged.
pub const TAKEOVER_REMINDER: Duration = Duration::from_secs(10);

/// The time for which a takeover waits for the group's offsets to become stable before it ends the last owner's
/// transactions. A healthy owner finishes its work in progress before it releases its partitions.
pub const STABLE_PATIENCE: Duration = Duration::from_millis(500);

/// Seconds to wait for an occupied slot: another member holds it while it ends transactions.
pub const SLOT_TRIES: u32 = 30;

/// The timeout of a connection to the schema registry; a lane waits meanwhile.
pub const REGISTRY_CONNECT: Duration = Duration::from_secs(3);
/// The timeout of a request to the registry: responses are small, and a registry that takes longer is unavailable.
pub const REGISTRY_REQUEST: Duration = Duration::from_secs(10);
/// The number of times that a failed request is retried before it counts as an outage; then the lane backs off and
/// retries itself.
pub const REGISTRY_RETRIES: u32 = 3;
/// The longest wait between these retries.
pub const REGISTRY_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The timeout of all attempts at a request: far below `max_poll_interval`, above the time of one request.
pub const REGISTRY_PATIENCE: Duration = Duration::from_secs(15);
/// An unknown id is requested again after this time, so a flood of such frames costs two requests a minute.
pub const REGISTRY_NEGATIVE: Duration = Duration::from_secs(30);
/// A registry's replica follows its leader within milliseconds; a second is enough for a busy one.
pub const REGISTRY_CONFIRM: Duration = Duration::from_secs(1);
/// Schemas in memory: a topic has tens of ids, and a compiled schema takes about 100 kB.
pub const REGISTRY_SCHEMAS: usize = 512;
/// Bytes of a response. The largest schemas are generated and have some hundreds of kB.
pub const REGISTRY_ANSWER_BYTES: u64 = 8 << 20;
/// Files that a schema may refer to, directly and indirectly.
pub const REGISTRY_REFERENCES: usize = 512;
/// Bytes of a schema and all its references.
pub const REGISTRY_REFERENCE_BYTES: usize = 16 << 20;
/// Bytes of a cached schema's file: the schema and its references, escaped as JSON.
pub const REGISTRY_CACHE_BYTES: u64 = 64 << 20;

/// Released versions that `deprecate_for` in tollgate-check.yaml may require: more than any contract has had.
pub const DEPRECATE_FOR_MAX: u32 = 100;

/// How long one blocking call to Kafka may take before its outcome counts as unknown.
pub const KAFKA_CALL: Duration = Duration::from_secs(10);

/// The timeout of one request to Kafka while the start waits for it. librdkafka keeps connecting in between, so a short timeout loses
/// nothing, and the reason is logged early.
pub const START_ASK: Duration = Duration::from_secs(2);

/// How long a lane waits for a transactional call that may exceed [`KAFKA_CALL`].
pub const KAFKA_HANG: Duration = Duration::from_secs(12);

/// How long to wait for records in flight before a transaction is aborted without them.
pub const PRODUCER_PURGE: Duration = Duration::from_secs(1);

/// How long a lane waits for its old producers to close.
pub const PRODUCER_CLOSE: Duration = Duration::from_secs(2);

/// The interval of checks for delivery reports: a batch takes milliseconds, and a check microseconds.
pub const REPORTS_LOOK: Duration = Duration::from_micros(250);

/// How long the broker may take to acknowledge a batch.
pub const BROKER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a lane waits after an error that time resolves, before it checks again whether it may continue.
pub const PAUSE_LOOK: Duration = Duration::from_millis(200);

/// How long the broker may take to describe a topic: the lane handles no revocation meanwhile.
pub const METADATA_CALL: Duration = Duration::from_secs(2);

/// How long one request of a takeover to Kafka may take: the partitions wait meanwhile.
pub const TAKEOVER_CALL: Duration = Duration::from_secs(5);

/// How long a takeover waits for the topic's id. The partitions wait meanwhile. A broker without an answer is no reason to halt: the
/// id stored in the row stays, and the next takeover compares it.
pub const TAKEOVER_TOPIC_ID: Duration = Duration::from_secs(1);

/// The interval at which `--drain` checks whether the open transactions have ended.
pub const ENDS_LOOK: Duration = Duration::from_millis(50);

/// How long transactions may be open before `--drain` logs that it waits.
pub const ENDS_SILENCE: Duration = Duration::from_secs(2);

/// How long the partitions may take to respond. The poll thread takes nothing and does not poll meanwhile.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// The interval of checks of the queues.
pub const PROBE_LOOK: Duration = Duration::from_millis(5);

/// librdkafka reports the reason of a rejection as an event, separate from the failed call. The event is there when the call returns,
/// or arrives shortly after.
pub const REJECTION_EVENT: Duration = Duration::from_millis(300);

/// The timeout of one poll of `dlq`: how soon Ctrl-C is noticed.
pub const DLQ_POLL: Duration = Duration::from_millis(100);

/// How long `dlq` waits without a record, an end or an error. After that, something is wrong that librdkafka does not report.
pub const DLQ_SILENCE: Duration = Duration::from_secs(30);

/// How long a command waits until the servers are available. It is short, because the caller waits.
pub const VERB_PATIENCE: Duration = Duration::from_secs(10);

/// The time limit of one request of `validate --connect`, because the caller waits.
pub const VALIDATE_CALL: Duration = Duration::from_secs(5);

/// Kafka's default of `group.min.session.timeout.ms`.
pub const SESSION_TIMEOUT_MIN_BROKER: Duration = Duration::from_secs(6);

/// The time limit for the first record of each partition. If it does not arrive in time, the lag is computed from the offsets.
pub const STATUS_PEEK: Duration = Duration::from_secs(2);

/// The time limit of each source of `status`, because the caller waits.
pub const STATUS_CALL: Duration = Duration::from_secs(4);

/// The timeout of a transaction of `produce` over the whole input: the longest that brokers allow by default.
pub const PRODUCE_WHOLE: Duration = Duration::from_secs(900);

/// The timeout of a transaction of `produce` over a part: a dead process delays readers for at most this long.
pub const PRODUCE_PART: Duration = Duration::from_secs(60);

/// How long the demo may take to produce its events: it takes less than a second.
pub const DEMO_FEED: Duration = Duration::from_secs(30);

/// How long the demo waits for its PostgreSQL. It takes half a second on an idle machine.
pub const DEMO_POSTGRES: Duration = Duration::from_secs(60);

/// The interval at which the demo checks what it waits for.
pub const DEMO_LOOK: Duration = Duration::from_millis(10);

/// How long processing the demo's events may take; thousands take a second, and joining a group three.
pub const DEMO_PATIENCE: Duration = Duration::from_secs(120);

/// How long the demo's engine may take to stop.
pub const DEMO_CLOSE: Duration = Duration::from_secs(5);

/// How long the keeper waits for one answer of Kafka: it has more to look after. Also the least time for a request at the start.
pub const KEEPER_CALL: Duration = Duration::from_millis(500);

/// The interval at which a stop checks whether the threads have ended.
pub const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// The least time for which the start waits for Kafka's transaction coordinator, even if its deadline is near.
pub const START_LEAST: Duration = Duration::from_secs(1);

/// The interval at which `run --watch` checks its files.
pub const WATCH_LOOK: Duration = Duration::from_millis(500);

/// How long Kafka may take to create the topics of `setup`.
pub const SETUP_CALL: Duration = Duration::from_secs(30);

/// One poll for the event that reports a rejection.
pub const EVENT_POLL: Duration = Duration::from_millis(20);

/// The longest poll of the consumer's main queue, which holds callbacks: a rebalance is noticed at latest then.
pub const MAIN_QUEUE_POLL: Duration = Duration::from_millis(500);

/// The interval at which the progress display turns.
pub const SPINNER: Duration = Duration::from_millis(100);

/// The least `produce --delivery-timeout`: below it a healthy broker cannot acknowledge in time.
pub const DELIVERY_TIMEOUT_MIN: Duration = Duration::from_millis(100);
