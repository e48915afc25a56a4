//! Reads a dead letter topic from beginning to end, without joining a group or committing offsets. It reads only
//! committed dead letters.
//!
//! A partition is done at its end, which librdkafka reports as a separate event, or at the end that it had when reading
//! began, whichever comes first. Offsets alone are not enough, because transaction markers occupy the last ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_engine::kafka::headers;
use tollgate_engine::kafka::look::{self, Quiet, ReadOnlyConsumer};

/// Visits the dead letters that the topic held when this was called, or only those produced at or after `since` (Unix
/// milliseconds). Partitions are interleaved; each is visited in its order.
///
/// # Errors
/// Fails with exit code 2 if the topic does not exist or the broker refuses the client, and with 3 if the broker does
/// not answer. Otherwise returns the failure with which `visit` breaks.
pub fn read(
    pipeline: &Pipeline,
    since: Option<i64>,
    bar: &ProgressBar,
    mut visit: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<Failure>,
) -> Result<(), Failure> {
    let consumer = consumer(pipeline)?;
    let mut open = open(pipeline, &consumer, since)?;
    let total: i64 = open.values().map(|span| span.end - span.begin).sum();
    bar.set_length(u64::try_from(total).unwrap_or_default());
    let mut last = Instant::now();
    while !open.is_empty() {
        let Some(polled) = consumer.poll(limits::DLQ_POLL) else {
            if last.elapsed() > limits::DLQ_SILENCE {
                return Err(away(pipeline, &format!("no answer within {} s", limits::DLQ_SILENCE.as_secs())));
            }
            continue;
        };
        last = Instant::now();
        match polled {
            Ok(message) => {
                let Some(span) = open.get(&message.partition()) else { continue };
                let ended = message.offset() + 1 >= span.end;
                // Dead letters that arrived after the start are not part of this run.
                if message.offset() < span.end {
                    bar.inc(1);
                    if let ControlFlow::Break(failure) = visit(&message) {
                        return Err(failure);
                    }
                }
                if ended {
                    open.remove(&message.partition());
                }
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                open.remove(&partition);
            }
            Err(error) => check(pipeline, &error)?,
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The offsets of a partition to read.
struct Span {
    begin: i64,
    end: i64,
}

fn consumer(pipeline: &Pipeline) -> Result<ReadOnlyConsumer, Failure> {
    let mut config = look::config(pipeline);
    config
        .set("enable.partition.eof", "true")
        // Retention may delete records after the beginning of the topic was read.
        .set("auto.offset.reset", "earliest");
    config.create_with_context(Quiet::default()).map_err(|error| Failure::configuration("source.client", error))
}

/// Assigns every partition that has something to read, and returns their offsets.
fn open(pipeline: &Pipeline, consumer: &ReadOnlyConsumer, since: Option<i64>) -> Result<BTreeMap<i32, Span>, Failure> {
    let topic = pipeline.dead_letter.topic.as_str();
    let failed = |error: KafkaError| {
        let trouble = look::call_error(consumer, &error);
        match trouble.refused {
            Some(_) => {
                Failure::configuration("environment.refused", format!("Kafka refuses this client: {}", trouble.why))
            }
            None => away(pipeline, &trouble.why),
        }
    };
    let metadata = consumer.fetch_metadata(Some(topic), limits::KAFKA_CALL).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions: BTreeSet<i32> = match found {
        Some(found) if found.error().is_none() => found.partitions().iter().map(|partition| partition.id()).collect(),
        Some(found) => return Err(refused(topic, found.error().map(RDKafkaErrorCode::from))),
        None => return Err(refused(topic, None)),
    };
    let mut spans = BTreeMap::new();
    for partition in partitions {
        let (begin, end) = consumer.fetch_watermarks(topic, partition, limits::KAFKA_CALL).map_err(failed)?;
        spans.insert(partition, Span { begin, end });
    }
    if let Some(since) = since {
        let mut list = TopicPartitionList::new();
        for partition in spans.keys() {
            list.add_partition_offset(topic, *partition, Offset::Offset(since)).map_err(failed)?;
        }
        for element in consumer.offsets_for_times(list, limits::KAFKA_CALL).map_err(failed)?.elements() {
            if let Some(span) = spans.get_mut(&element.partition()) {
                // Without an offset no record is that recent.
                span.begin = if let Offset::Offset(offset) = element.offset() { offset } else { span.end };
            }
        }
    }
    spans.retain(|_, span| span.begin < span.end);
    let mut list = TopicPartitionList::new();
    for (partition, span) in &spans {
        list.add_partition_offset(topic, *partition, Offset::Offset(span.begin)).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    Ok(spans)
}

fn refused(topic: &str, code: Option<RDKafkaErrorCode>) -> Failure {
    match code {
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            let message = format!("topic {topic} (dead_letter.topic) does not exist: `tollgate setup` creates it");
            Failure::configuration("dlq.topic_missing", message)
        }
        Some(code) => {
            Failure::environment("dlq.topic_refused", format!("cannot read topic {topic} (dead_letter.topic): {code}"))
        }
    }
}

/// Returns an error if librdkafka cannot recover from it by itself. All other errors are ignored.
fn check(pipeline: &Pipeline, error: &KafkaError) -> Result<(), Failure> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AllBrokersDown) => Err(away(pipeline, &error.to_string())),
        Some(
            code @ (RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic),
        ) => Err(refused(&pipeline.dead_letter.topic, Some(code))),
        _ => Ok(()),
    }
}

fn away(pipeline: &Pipeline, why: &str) -> Failure {
    let brokers = &pipeline.source.brokers;
    Failure::environment("environment.unreachable", format!("Kafka at {brokers} cannot be reached: {why}"))
}

/// Creates a progress bar on stderr. It is hidden if stderr is not a terminal.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    // Without the template, the bar has indicatif's default form.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} dead letters") {
        bar.set_style(style);
    }
    bar
}

/// Returns the last header of a name as text. The original record's headers come first, so none of them can pass for
/// one of Tollgate's.
pub fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<std::borrow::Cow<'m, str>> {
    headers::last(message, name).map(String::from_utf8_lossy)
}
