//! Every bound of the host, each with the reason for its number. The sandbox's own bounds live in its crate.

use std::time::Duration;

/// Bytes of a pipeline.yaml or transform.yaml. The largest sensible one (hundreds of columns) has some 50 kB.
pub const CONFIG_BYTES: u64 = 1 << 20;

/// Nesting of a configuration file. Our own keys need 5; `config:` blocks are free, and trees are walked recursively.
pub const CONFIG_DEPTH: usize = 64;

/// Unknown keys of one table for which the nearest known one is looked up: more are no typos, and each look-up compares the key
/// with all known ones.
pub const CONFIG_SUGGESTIONS: usize = 100;

/// Bytes of a file named by `${file:…}`. Keys and certificates have a few kB; the bound keeps `/dev/zero` out.
pub const SECRET_FILE_BYTES: u64 = 64 << 10;

/// Characters of `pipeline:`. It begins each transactional id (Kafka takes 249) and each advisory lock's name.
pub const PIPELINE_NAME: usize = 100;

/// Kafka's own bound of a topic's name.
pub const TOPIC_NAME: usize = 249;

/// PostgreSQL cuts a longer identifier off (NAMEDATALEN − 1), silently.
pub const IDENTIFIER_BYTES: usize = 63;

/// `lanes:` each has a connection, a producer and instances of its own; beyond this PostgreSQL's connections run out first.
pub const LANES: usize = 64;

/// `source.session_timeout`: as in the articles; how long a member that died keeps its partitions.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// librdkafka's bound of `session.timeout.ms`.
pub const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// `source.heartbeat_interval`: Kafka's default; a tenth of the session, so that nine may be lost.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// `source.max_poll_interval`: as in the articles, and Kafka's default.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// Between two of librdkafka's statistics: a stop waits for one. They cost a few microseconds a partition.
pub const STATISTICS: Duration = Duration::from_millis(200);

/// Between two lines of the log about the same outage.
pub const OUTAGE_REMINDER: Duration = Duration::from_secs(60);

/// A server that answers the keeper is back once no thread has met the outage for so long: their waits are at most
/// `retry_policy.max_backoff`, and a call's timeout comes on top.
pub const OUTAGE_QUIET: Duration = Duration::from_secs(30);

/// `source.stall_after`: longer than a takeover and a slow batch, shorter than the patience of whoever waits for the events.
pub const STALL_AFTER: Duration = Duration::from_secs(60);
/// librdkafka's bound of `max.poll.interval.ms`.
pub const MAX_POLL_INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// Bytes of a name in `types:`. It is a header's and a label's value.
pub const EVENT_TYPE_NAME: usize = 200;

/// Entries of `types:`. Each has contracts, a chain and a table of its own, and labels in the metrics.
pub const EVENT_TYPES: usize = 64;

/// Parts of an idempotency key, and headers that an envelope's fields become.
pub const ENVELOPE_PARTS: usize = 32;

/// `contract.accept_versions.header`: as in the articles.
pub const VERSION_HEADER: &str = "schema-version";

/// `contract.max_bytes`: Kafka's default `max.message.bytes`; what is larger was let in on purpose.
pub const EVENT_BYTES: usize = 1 << 20;
/// The largest `contract.max_bytes`: offsets in a batch's arena have 32 bits, and a batch holds many events.
pub const EVENT_BYTES_MAX: usize = 64 << 20;

/// The largest bound of `contract.clock_skew`: ten years. Whoever needs more means none.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Bytes of the headers that tell what a policy let pass: they count against the output topic's bound, whether they are there or not.
pub const NOTICE_BYTES: usize = 4_096;

/// `delivery.batch.max_events`: PostgreSQL pays for statements and Kafka for transactions; beyond 16,000 rows neither gains, and
/// memory and what a failure repeats go on growing.
pub const BATCH_EVENTS: usize = 16_000;
/// Beyond this a statement's arrays alone take tens of megabytes a lane.
pub const BATCH_EVENTS_MAX: usize = 100_000;

/// From so many rows on a batch goes by COPY and a temporary table: behind at 1,400, ahead from 2,000 on (docs/adr/0003).
pub const STAGE_ROWS: usize = 2_000;

/// From so many transactions of the server's on a lane drops its temporary table. PostgreSQL begins to vacuum against wraparound at
/// 200 million (`autovacuum_freeze_max_age`; where that is less, a quarter of it counts here), and refuses writes at two
/// billion. Dropping it once a million costs nothing.
pub const STAGE_AGE: i64 = 1_000_000;
/// How often a lane looks at the age of its temporary table: one query. A server with 100,000 transactions a second has used
/// another million by then.
pub const STAGE_LOOK: Duration = Duration::from_secs(10);

/// `delivery.batch.max_bytes`: 16,000 events of 260 bytes; larger events make smaller batches.
pub const BATCH_BYTES: usize = 4 << 20;
/// Offsets in the arena have 32 bits; half of that leaves room for keys.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// `delivery.batch.max_wait`: about one commit's time, so that waiting never costs more than committing.
pub const BATCH_WAIT: Duration = Duration::from_millis(5);
/// `delivery.batch.latency_target`: below this a commit alone takes longer.
pub const LATENCY_TARGET_MIN: Duration = Duration::from_millis(10);
/// Longer than this is a latency nobody means; and it must stay far below the transaction's timeout.
pub const BATCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// `delivery.transaction_timeout`: a dead process blocks readers of its outputs this long plus Kafka's 10 s;
/// statements and produces end after 10 s, so a living one never needs more.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// librdkafka's least.
pub const TRANSACTION_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The broker's default `transaction.max.timeout.ms`; it refuses more.
pub const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// How much of `delivery.transaction_timeout` a Kafka transaction may have used when PostgreSQL commits: the rest is for that
/// commit, and for the request that ends the transaction.
pub const TRANSACTION_SHARE: f64 = 0.9;

/// `dead_letter.limit`: half of the events. Bad data comes in single events; a bad deploy rejects nearly all.
pub const DEAD_LETTER_SHARE: f64 = 0.5;
/// Fewer say nothing about a share.
pub const DEAD_LETTER_OF_AT_LEAST: u64 = 1_000;
/// Long enough to see 1,000 events of a slow topic, short enough to stop before the topic is drained.
pub const DEAD_LETTER_WITHIN: Duration = Duration::from_secs(60);
/// The window is kept as counts per second: an hour is 3,600 of them.
pub const DEAD_LETTER_WITHIN_MAX: Duration = Duration::from_secs(3600);

/// `retry_policy.max_retries`: as in the articles.
pub const RETRIES: u32 = 3;
/// More is no longer a bound.
pub const RETRIES_MAX: u32 = 1_000;
/// How long all attempts at a batch may fail by an outage of Kafka's before a lane asks the broker whether the topics exist: a
/// broker's restart and a topic's creation are over by then.
pub const DOUBT_LOOK: Duration = Duration::from_secs(30);

/// How long they may fail, while the broker answers, before the partition is halted: an election of leaders, a rolling restart and
/// a full disk that somebody is called to take less.
pub const DOUBT_HALT: Duration = Duration::from_secs(600);

/// `retry_policy.breaker_threshold`: a lost connection or a restart of PostgreSQL's is past before that many attempts are.
pub const BREAKER_THRESHOLD: u32 = 5;
/// More is no breaker.
pub const BREAKER_THRESHOLD_MAX: u32 = 1_000;
/// How often a lane asks whether the breaker lets it try: another part of the process may have found the server back.
pub const BREAKER_LOOK: Duration = Duration::from_millis(50);
/// An open breaker that no lane asks for so long after its wait protects nobody: they ask every 50 ms.
pub const BREAKER_IDLE: Duration = Duration::from_secs(5);
/// `retry_policy.foreign_key_window` and `unique_window`: less than a second is what a batch waits for anyway, and a lane that waits
/// for an hour is a stopped one.
pub const CONSTRAINT_WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// `retry_policy.initial_backoff`: a failover's shortest; a lost connection is often back at once.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(100);
/// `retry_policy.max_backoff`: as in the articles; nobody waits longer for a server that is back.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The largest that may be set.
pub const BACKOFF_LIMIT: Duration = Duration::from_secs(3600);
/// `retry_policy.multiplier`: as in the articles.
pub const BACKOFF_MULTIPLIER: f64 = 2.0;
/// Beyond ten the second wait is the last one.
pub const BACKOFF_MULTIPLIER_MAX: f64 = 10.0;

/// `backpressure.lag_threshold`: a second's worth at full speed is taken in a pause at most, and a drain never pauses.
pub const BACKLOG_EVENTS: u64 = 100_000;
/// Past this the backlog's bytes bind first in any case.
pub const BACKLOG_EVENTS_MAX: u64 = 100_000_000;
/// `backpressure.max_backlog_bytes`: leaves most of the 300 MB that the process may take to lanes and instances.
pub const BACKLOG_BYTES: usize = 64 << 20;
/// What librdkafka fetches ahead: less than Kafka's default for a record (`max.message.bytes`, 1,048,588) would stop at one.
pub const AHEAD_MIN: usize = 1_048_588;
/// More is no faster: it is some tens of milliseconds of work.
pub const AHEAD_MAX: usize = 16 << 20;
/// The largest that may be set.
pub const BACKLOG_BYTES_MAX: usize = 16 << 30;

/// `shutdown`: Kubernetes gives 30 s between SIGTERM and SIGKILL.
pub const SHUTDOWN: Duration = Duration::from_secs(30);
/// `start_deadline`: a broker and a database that start together with Tollgate are up by then.
pub const START_DEADLINE: Duration = Duration::from_secs(60);
/// How far past its deadline a start may be, so that a step which ends with it can say more than that it was waited for.
pub const START_GRACE: Duration = Duration::from_secs(1);
/// The longest `shutdown` and `start_deadline`.
pub const DEADLINE_MAX: Duration = Duration::from_secs(3600);

/// A ceiling's memory: one WebAssembly page is the least that a component can start with, 4 GiB all it can address.
pub const CEILING_MEMORY: (usize, usize) = (64 << 10, 4 << 30);
/// A ceiling's output bytes of one event.
pub const CEILING_OUTPUT_MAX: usize = 1 << 30;
/// A ceiling's outputs of one event.
pub const CEILING_OUTPUTS_MAX: u32 = 100_000;
/// A ceiling's deadline; one that outlasts the poll interval would evict the member.
pub const CEILING_DEADLINE_MAX: Duration = Duration::from_secs(300);
/// A ceiling's CPU time for compiling: it is counted in seconds, and ten minutes compile the largest component several times over.
pub const CEILING_COMPILE_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// PostgreSQL's bound of `numeric`'s declared precision.
pub const NUMERIC_PRECISION: u16 = 1_000;
/// The longest precision whose numbers all fit into 128 bits: the fast way to write them.
pub const NUMERIC_FAST: u16 = 38;
/// PostgreSQL's bound of the digits before the point of a `numeric` without precision.
pub const NUMERIC_WHOLE: i64 = 131_072;
/// PostgreSQL's bound of the digits behind the point of a `numeric` without precision.
pub const NUMERIC_FRACTION: i64 = 16_383;

/// One poll while a batch waits to be filled: short, so that it is handed over in time.
pub const POLL_BUSY: Duration = Duration::from_millis(1);

/// One poll while nothing waits: long enough to cost nothing, short enough to notice a rebalance or a stop.
pub const POLL_IDLE: Duration = Duration::from_millis(50);

/// Records taken in a row from what librdkafka has fetched, before the loop looks at its other events.
pub const POLL_RUN: usize = 1_000;

/// How long the poll thread waits for a lane before it pauses the lane's partitions; also at most a tenth of
/// `max_poll_interval`, so that ten such waits in a row do not cost the membership.
pub const LANE_PATIENCE: Duration = Duration::from_secs(5);

/// Batches that wait for a lane beside the one in its hands: one is enough to keep it busy, two even out bursts.
pub const LANE_QUEUE: usize = 2;

/// Batches that a lane and the poll thread have between them: one that fills, one that waits to be handed over, those in
/// the lane's queue, and the one in its hands.
pub const LANE_BATCHES: usize = LANE_QUEUE + 3;

/// How often the bytes of the batch in a lane's hands are in memory beside the batch, at most: as events of the sandbox, as
/// its results, as rows and their arrays, in a statement, in the producer's queue and in its requests, and as a redo plan
/// that is written, compressed and sent: eleven, and half as much again that the allocator has not given back.
pub const LANE_COPIES: usize = 16;

/// What the process has without events: code, compiled components, connections.
pub const PROGRAM_BYTES: usize = 64 << 20;

/// A seek answers from librdkafka's own threads; it is no network call.
pub const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

/// Rebalances, takeovers and releases under way at once: the group has one at a time.
pub const EVENTS: usize = 64;

/// A lane's stack: the sandbox runs guests on it (256 KiB of their own) on top of our own frames.
pub const LANE_STACK: usize = 4 << 20;

/// Processes of one pipeline: each takes a slot.
pub const SLOTS: i32 = 1024;

/// How long the id of an event is remembered.
pub const PROCESSED_TTL: Duration = Duration::from_secs(7 * 86_400);
pub const PROCESSED_TTL_MIN: Duration = Duration::from_secs(60);
pub const PROCESSED_TTL_MAX: Duration = Duration::from_secs(365 * 86_400);

/// How often the slot's session is asked whether it lives, and the stored pause is read.
pub const KEEPER_INTERVAL: Duration = Duration::from_secs(1);

/// How long a lane waits for PostgreSQL's answer: longer than the server's own `statement_timeout`, so that this ends only
/// what no server will answer any more (a cut cable, a host that is gone).
pub const STATEMENT_PATIENCE: Duration = Duration::from_secs(35);

/// How much longer than its Kafka transaction a PostgreSQL transaction may stand idle: a drain that ends in the last
/// moment still commits.
pub const IDLE_BEYOND_TRANSACTION: Duration = Duration::from_secs(5);

/// How often `run` logs what it has done: a person who looks at a log sees one, and a day has 1,440 of them.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// Partitions of a table that are created after the one of now: enough that a week without a working member does no harm to
/// partitions of a month, and a year of days at most.
pub const PARTITIONS_AHEAD: u32 = 2;
pub const PARTITIONS_AHEAD_MAX: u32 = 366;

/// Rounds of the keeper between two looks for partitions to create: an hour. What a member could not create today, it or another one
/// creates long before it is needed.
pub const PARTITION_ROUNDS: u32 = 3_600;

/// How long the creation of a partition waits for the table's lock. Those who write to the table wait behind it.
pub const PARTITION_LOCK: Duration = Duration::from_millis(500);

/// How soon the keeper notices that the process stops.
pub const KEEPER_STEP: Duration = Duration::from_millis(50);

/// Bytes of a payload in a dead letter by reference: enough to recognise it, small enough for any topic.
pub const REFERENCE_BYTES: usize = 1_024;

/// A record's overhead beside key, value and headers, generously: varints, attributes, the batch's own header.
pub const RECORD_OVERHEAD: usize = 128;

/// Overhead of one header: two length varints.
pub const HEADER_OVERHEAD: usize = 10;

/// What the names of headers begin with that only Tollgate writes; `tollgate_sandbox::limits::HOST_HEADERS` says the same to
/// transforms.
pub const RESERVED_HEADERS: [&str; 2] = ["tollgate.", "__connect.errors."];

/// Characters of a message in a dead letter's headers.
pub const MESSAGE_CHARS: usize = 2_000;

/// How long a connection to PostgreSQL may take: TLS and a login over a slow line take a second.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long one try at a takeover may take: a lock held by a predecessor's statement ends before.
pub const TAKEOVER_PATIENCE: Duration = Duration::from_secs(60);

/// How long a takeover waits for a row that is locked, before it looks again whether the session that has the lock stands still.
/// A commit under way is over before that.
pub const TAKEOVER_LOCK: Duration = Duration::from_secs(1);
/// The longest wait between two tries at a takeover, whatever `retry_policy` says: its partitions stand still meanwhile.
pub const TAKEOVER_BACKOFF: Duration = Duration::from_secs(1);
/// How often a takeover that fails with the same error again is logged.
pub const TAKEOVER_REMINDER: Duration = Duration::from_secs(10);

/// How long a takeover waits for the group's offsets to become stable before it ends the last owner's transactions: what an
/// owner that is well has under way is through before it lets go.
pub const STABLE_PATIENCE: Duration = Duration::from_millis(500);

/// Seconds in which a slot that somebody holds may come free again: a neighbour holds it while it ends transactions.
pub const SLOT_TRIES: u32 = 30;

/// How long a connection to the schema registry may take; a lane stands still meanwhile.
pub const REGISTRY_CONNECT: Duration = Duration::from_secs(3);
/// How long one of its answers may take: they are small, and a registry that is busy for longer is down.
pub const REGISTRY_REQUEST: Duration = Duration::from_secs(10);
/// How often a failed request is repeated before it counts as an outage; the lane backs off and asks again by itself.
pub const REGISTRY_RETRIES: u32 = 3;
/// The longest wait between these.
pub const REGISTRY_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// All tries of a request together: far below `max_poll_interval`, above one request's time.
pub const REGISTRY_PATIENCE: Duration = Duration::from_secs(15);
/// An id that does not exist is asked for again after this: a flood of such frames costs two requests a minute.
pub const REGISTRY_NEGATIVE: Duration = Duration::from_secs(30);
/// A registry's replica follows its leader within some milliseconds; a second covers a busy one.
pub const REGISTRY_CONFIRM: Duration = Duration::from_secs(1);
/// Schemas in memory: a topic has tens of ids; a compiled schema takes some 100 kB.
pub const REGISTRY_SCHEMAS: usize = 512;
/// Bytes of an answer. The largest schemas are generated, some hundreds of kB.
pub const REGISTRY_ANSWER_BYTES: u64 = 8 << 20;
/// Files that a schema may refer to, directly and through others.
pub const REGISTRY_REFERENCES: usize = 512;
/// Bytes of a schema and all its references.
pub const REGISTRY_REFERENCE_BYTES: usize = 16 << 20;
/// Bytes of a cached schema's file: what goes in, escaped as JSON.
pub const REGISTRY_CACHE_BYTES: u64 = 64 << 20;

/// Released versions that `deprecate_for` of tollgate-check.yaml may ask for: more than any contract has seen.
pub const DEPRECATE_FOR_MAX: u32 = 100;
