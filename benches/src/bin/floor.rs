//! The floor program does the least work that the payments job needs, and so shows the limit of the machine.
//!
//! Two lanes each have their own consumer and half of the partitions. A lane decodes with prost, checks with native
//! code, folds keys, copies rows in binary form into a temporary table, and upserts from there. Invalid events go to
//! the dead letter topic. There is no sandbox and no guarantee: no transaction ties dead letters to rows, and offsets
//! are committed once, at the end.
//!
//!     floor --events N [--lanes 2] [--batch N] [--topic T] [--dead-letters T] [--group G] [--brokers B] [--database URL]
//!
//! Prints one line of JSON: events, seconds (first record to last commit), events_per_s, cpu_s, max_rss_mb.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use prost::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use tollgate_bench::args::Args;
use tollgate_bench::broker::{self, Sender};
use tollgate_bench::copy::{self, Row};
use tollgate_bench::machine::{self, Process};
use tollgate_bench::payment::{PaymentEvent, Refusal};
use tollgate_bench::{DEAD_LETTERS, TOPIC, output};
use tollgate_engine::kafka::headers;

/// A lane with nothing to poll for this time passes its rows to the writer.
const POLL: Duration = Duration::from_millis(5);

/// Dead letters wait this long to be sent in one batch.
const LINGER_MS: u32 = 5;

/// Bounded types have no TOAST table, so emptying the stage at each commit truncates one file less. The column `text`
/// accepts them without a conversion.
const STAGE: &str = "create temp table stage (transaction_id varchar(36), amount numeric(18,2), currency varchar(3),
    status varchar(18), created_at timestamptz, schema_version int) on commit delete rows";
const COPY: &str = "copy stage from stdin (format binary)";
/// The round trip that ends a transaction also begins the next one.
const UPSERT: &str = "insert into payment_events select * from stage on conflict (transaction_id) do update set
    amount = excluded.amount, currency = excluded.currency, status = excluded.status,
    created_at = excluded.created_at, schema_version = excluded.schema_version; commit; begin";

struct Settings {
    events: u64,
    lanes: usize,
    batch: usize,
    topic: String,
    dead_letters: String,
    group: String,
    brokers: String,
    database: String,
}

impl Settings {
    fn read() -> anyhow::Result<Settings> {
        let mut args = Args::new(std::env::args().skip(1).collect());
        let settings = Settings {
            events: args.number("--events", 0)?,
            lanes: args.number("--lanes", 2)?,
            batch: args.number("--batch", 8_000)?,
            topic: args.text("--topic", None)?.unwrap_or_else(|| TOPIC.to_owned()),
            dead_letters: args.text("--dead-letters", None)?.unwrap_or_else(|| DEAD_LETTERS.to_owned()),
            group: args.text("--group", None)?.unwrap_or_else(|| "floor".to_owned()),
            brokers: args.required("--brokers", "KAFKA_BROKERS")?,
            database: args.required("--database", "DATABASE_URL")?,
        };
        args.finish()?;
        if settings.events == 0 || settings.lanes == 0 || settings.batch == 0 {
            bail!("--events, --lanes and --batch need numbers above 0");
        }
        Ok(settings)
    }
}

/// State that the lanes share.
struct Shared {
    settings: Settings,
    sender: Sender,
    /// The number of records taken from the topic by all lanes. The lanes end when it reaches `events`.
    taken: AtomicU64,
    first: OnceLock<Instant>,
}

fn main() -> ExitCode {
    output::exit(run())
}

fn run() -> anyhow::Result<()> {
    let settings = Settings::read()?;
    let sender = Sender::new(&settings.brokers, &settings.dead_letters, LINGER_MS)?;
    let probe = consumer(&settings)?;
    let partitions = broker::partitions(&probe, &settings.topic)?;
    let shared = Arc::new(Shared { settings, sender, taken: AtomicU64::new(0), first: OnceLock::new() });
    let lanes: Vec<_> = (0..shared.settings.lanes)
        .map(|lane| {
            let own: Vec<i32> = partitions.iter().skip(lane).step_by(shared.settings.lanes).copied().collect();
            let shared = Arc::clone(&shared);
            thread::spawn(move || run_lane(&shared, &own))
        })
        .collect();
    let mut last = None;
    for lane in lanes {
        last = last.max(lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))??);
    }
    let shared = Arc::into_inner(shared).context("a lane still runs")?;
    shared.sender.finish()?;
    let (first, last) = shared.first.get().zip(last).context("the topic gave no valid event")?;
    let seconds = last.duration_since(*first).as_secs_f64();
    let events = shared.taken.into_inner();
    output::line(&json!({
        "events": events,
        "seconds": seconds,
        "events_per_s": events as f64 / seconds,
        "cpu_s": Process::read(std::process::id())?.cpu.total(),
        "max_rss_mb": machine::peak_rss_mb("self"),
    }))
}

fn consumer(settings: &Settings) -> anyhow::Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // If the queue is full, the client waits a second by default before it fetches again.
        .set("fetch.queue.backoff.ms", "2")
        .set("queued.min.messages", "50000")
        .set("queued.max.messages.kbytes", "32768")
        .set("check.crcs", "false")
        .create()?)
}

/// Consumes and checks on this thread. A second thread writes, so that PostgreSQL never waits for the next batch.
/// Returns the time of the lane's last commit.
fn run_lane(shared: &Shared, partitions: &[i32]) -> anyhow::Result<Option<Instant>> {
    let consumer = consumer(&shared.settings)?;
    consumer.assign(&broker::at(&shared.settings.topic, partitions, Offset::Beginning)?)?;
    let (full, batches) = sync_channel::<Vec<u8>>(1);
    let (back, empties) = sync_channel::<Vec<u8>>(4);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&shared.settings.database, batches, back));
        let consumed = consume(shared, &consumer, &full, &empties);
        drop(full);
        let last = writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        let next = consumed?;
        if next.count() > 0 {
            consumer.commit(&next, CommitMode::Sync).context("offsets cannot be committed")?;
        }
        Ok(last)
    })
}

/// Takes records until all lanes together have enough. Returns the next offsets of the partitions that it read.
fn consume(
    shared: &Shared,
    consumer: &BaseConsumer,
    full: &SyncSender<Vec<u8>>,
    empties: &Receiver<Vec<u8>>,
) -> anyhow::Result<TopicPartitionList> {
    let mut next = std::collections::BTreeMap::new();
    let mut rows = Vec::with_capacity(shared.settings.batch);
    loop {
        let record = consumer.poll(POLL);
        let idle = record.is_none();
        if let Some(record) = record {
            let record = record?;
            shared.first.get_or_init(Instant::now);
            rows.extend(row_of(shared, &record)?);
            next.insert(record.partition(), record.offset() + 1);
            shared.taken.fetch_add(1, Ordering::Relaxed);
        }
        if rows.len() >= shared.settings.batch || idle && !rows.is_empty() {
            copy::fold(&mut rows);
            let mut buffer = empties.try_recv().unwrap_or_default();
            copy::encode(&rows, &mut buffer)?;
            rows.clear();
            full.send(buffer).ok().context("the writer of a lane has ended early")?;
        }
        if idle && shared.taken.load(Ordering::Relaxed) >= shared.settings.events {
            break;
        }
    }
    let mut list = TopicPartitionList::new();
    for (partition, offset) in next {
        list.add_partition_offset(&shared.settings.topic, partition, Offset::Offset(offset))?;
    }
    Ok(list)
}

/// Returns the row of a valid event. An invalid event is sent to the dead letter topic.
fn row_of(shared: &Shared, record: &BorrowedMessage<'_>) -> anyhow::Result<Option<Row>> {
    let value = record.payload().unwrap_or_default();
    let event = match PaymentEvent::decode(value) {
        Ok(event) => event,
        Err(error) => return dead_letter(shared, record, &format!("undecodable: {error}")).map(|()| None),
    };
    match event.check() {
        Ok(valid) => Ok(Some(Row {
            id: valid.id,
            transaction_id: event.transaction_id,
            cents: cents(event.amount),
            currency: valid.currency,
            status: valid.status,
            created_at: event.created_at,
            schema_version: schema_version(record),
        })),
        Err(refusal) => dead_letter(shared, record, Refusal::code(refusal)).map(|()| None),
    }
}

/// Converts an amount to cents; `numeric(18,2)` rounds half to even. The checks allow only finite amounts, and one
/// beyond 2^63 cents saturates.
#[allow(clippy::cast_possible_truncation, reason = "a float becomes an integer by saturation, which is meant")]
fn cents(amount: f64) -> i64 {
    (amount * 100.0).round_ties_even() as i64
}

fn schema_version(record: &BorrowedMessage<'_>) -> i32 {
    let version = headers::of(record).filter(|(name, _)| *name == b"schema-version").find_map(|(_, value)| value);
    version.and_then(|v| std::str::from_utf8(v).ok()?.parse().ok()).unwrap_or(0)
}

fn dead_letter(shared: &Shared, record: &BorrowedMessage<'_>, reason: &str) -> anyhow::Result<()> {
    let source = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
    let headers = record.headers().map_or_else(OwnedHeaders::new, |h| h.detach());
    let headers = headers
        .insert(Header { key: "floor.reason", value: Some(reason) })
        .insert(Header { key: "floor.source", value: Some(&source) });
    shared.sender.send(record.key().unwrap_or_default(), record.payload().unwrap_or_default(), headers)
}

/// Upserts each batch in its own transaction and returns the buffers.
fn write(database: &str, batches: Receiver<Vec<u8>>, back: SyncSender<Vec<u8>>) -> anyhow::Result<Option<Instant>> {
    let mut last = None;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect(database).await.context("PostgreSQL cannot be reached")?;
        connection.execute(STAGE).await?;
        connection.execute("begin").await?;
        for batch in batches {
            let mut stream = connection.copy_in_raw(COPY).await?;
            stream.send(&batch[..]).await?;
            stream.finish().await?;
            connection.execute(UPSERT).await?;
            last = Some(Instant::now());
            // A buffer that does not fit is freed.
            drop(back.try_send(batch));
        }
        connection.close().await?;
        Ok(last)
    })
}
