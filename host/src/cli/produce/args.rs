//! The flags of `tollgate produce`.

use std::path::PathBuf;
use std::time::Duration;

use tollgate_config::limits;
use tollgate_config::reader;
use tollgate_producer::envelope::Fill;
use tollgate_producer::input;

/// Produces events that satisfy their contract, and rejects all others.
///
/// Reads NDJSON (Protobuf's JSON mapping, one object per line), length-delimited Protobuf frames, or CSV. Each event
/// ends as exactly one of acknowledged, rejected and undelivered. Exit code 0: all were accepted; 1: some were not; 2:
/// a flag or the contract is wrong; 3: no broker was reached.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files to read, in this order; - is stdin, the default.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Takes brokers, security, topic, contract and envelope from this pipeline.yaml: its `source` and `contract`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["brokers", "protos", "message"])]
    pub pipeline: Option<PathBuf>,
    /// Kafka's brokers, host:port, separated by commas.
    #[arg(long, value_name = "BROKERS")]
    pub brokers: Option<String>,
    /// The topic to produce to; with --pipeline, the default is its source's topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// The files that define the message type: a folder, a .proto file or a descriptor set. May be repeated.
    #[arg(long, value_name = "PATH")]
    pub protos: Vec<PathBuf>,
    /// The full name of the message type.
    #[arg(long, value_name = "NAME")]
    pub message: Option<String>,
    /// The type of the events, if the pipeline has several.
    #[arg(long = "type", value_name = "NAME")]
    pub event_type: Option<String>,
    /// The format of the input. Default: by the file's name (.ndjson .jsonl .json, .pb .bin .binpb, .csv .tsv), and
    /// ndjson for stdin.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The character between the cells of a CSV line. Default: a comma; a tab for .tsv.
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub delimiter: Option<u8>,
    /// The field whose text is the record's key; several (--key tenant,id) form a JSON object. Without it events have
    /// no order.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub key: Vec<String>,
    /// The value of the header schema-version, and of the envelope's version.
    #[arg(long, value_name = "VERSION")]
    pub schema_version: Option<String>,
    /// Frames the values in Confluent's wire format, with this id of a schema registry.
    #[arg(long, value_name = "ID")]
    pub schema_id: Option<u32>,
    /// Adds a header to every record. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub header: Vec<(String, String)>,
    /// Sets a field of the pipeline's envelope: to a text, to a field of the event (payload.FIELD), to @now or to
    /// @trace-id (a random one). May be repeated.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = fill, requires = "pipeline")]
    pub envelope: Vec<(String, Fill)>,
    /// Accepts fields that the contract does not have; unknown JSON fields are not sent. By default they are rejected.
    #[arg(long)]
    pub allow_unknown_fields: bool,
    /// Makes the whole input one transaction: all of it becomes visible, or nothing. A rejected event rolls it back,
    /// unless --max-rejects allows it.
    #[arg(long, conflicts_with = "transaction_size")]
    pub transaction: bool,
    /// Makes each N events a transaction.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub transaction_size: Option<u64>,
    /// The id of the transactions: a second process with the same id ends the first one's. Default:
    /// tollgate-produce-TOPIC.
    #[arg(long, value_name = "ID")]
    pub transactional_id: Option<String>,
    /// The maximum number of events per second, such as 500 or 500/s.
    #[arg(long, value_name = "N/s", value_parser = per_second)]
    pub rate: Option<f64>,
    /// Checks every event and sends none. Needs no broker.
    #[arg(long)]
    pub dry_run: bool,
    /// The number of partitions for which a dry run reports how evenly the keys spread.
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Sends rejected events to this topic: the original bytes, with every violation in headers.
    #[arg(long, value_name = "TOPIC")]
    pub dead_letter_topic: Option<String>,
    /// Writes rejected events to this file: one JSON object per line with position, every violation, and the original.
    /// The file is replaced; with --skip, appended to.
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Writes each acknowledged event's partition and offset to this file (- is stdout), one JSON object per line. The
    /// file is replaced; with --skip, appended to.
    #[arg(long, value_name = "FILE")]
    pub acks_out: Option<PathBuf>,
    /// Stops when more than this many events are rejected.
    #[arg(long, value_name = "N")]
    pub max_rejects: Option<u64>,
    /// Skips this many events: the number that an interrupted run printed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u64,
    /// How long an event may be in flight before it counts as undelivered.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = delivery_timeout)]
    pub delivery_timeout: Duration,
    /// How long to try to reach a broker at startup.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub start_deadline: Duration,
    /// The maximum record size, such as 4MiB, at most the topic's max.message.bytes. Default: 1000000 bytes.
    #[arg(long, value_name = "SIZE", value_parser = record_bytes)]
    pub max_record: Option<usize>,
    /// A setting of librdkafka, such as compression.type=zstd; ${VARIABLE} and ${file:PATH} are replaced, and secrets
    /// must be given in that form. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub config: Vec<String>,
    /// A file of such settings, one per line.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
}

/// The format of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per line, in Protobuf's JSON mapping.
    Ndjson,
    /// Protobuf messages, each after its length as a varint.
    Protobuf,
    /// A header line with field paths, then one line per event.
    Csv,
}

impl From<Format> for input::Format {
    fn from(format: Format) -> input::Format {
        match format {
            Format::Ndjson => input::Format::Ndjson,
            Format::Protobuf => input::Format::Protobuf,
            Format::Csv => input::Format::Csv,
        }
    }
}

fn shown(complaint: reader::Complaint) -> String {
    match complaint.nearest {
        Some(nearest) => format!("{}: did you mean {nearest}?", complaint.message),
        None => complaint.message,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    reader::duration(text).map_err(shown)
}

fn delivery_timeout(text: &str) -> Result<Duration, String> {
    reader::duration_within(limits::DELIVERY_TIMEOUT_MIN, limits::DEADLINE_MAX)(text).map_err(shown)
}

fn record_bytes(text: &str) -> Result<usize, String> {
    reader::bytes_within(1_000, limits::EVENT_BYTES_MAX)(text).map_err(shown)
}

fn delimiter(text: &str) -> Result<u8, String> {
    match (text, text.as_bytes()) {
        ("\\t" | "tab", _) => Ok(b'\t'),
        (_, [byte]) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("write one character, or tab".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value".to_owned()),
    }
}

/// Parses `field=text`, `field=payload.path`, `field=@now` or `field=@trace-id`.
fn fill(text: &str) -> Result<(String, Fill), String> {
    let (field, value) = pair(text).map_err(|_| "write field=value".to_owned())?;
    let fill = match value.as_str() {
        "@now" => Fill::Now,
        "@trace-id" => Fill::TraceId,
        other if other.starts_with('@') => return Err(format!("{other} is unknown; write @now or @trace-id")),
        other => match other.strip_prefix("payload.") {
            Some(path) => Fill::Payload(path.to_owned()),
            None => Fill::Text(value),
        },
    };
    Ok((field, fill))
}

fn per_second(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=1e9).contains(&rate) => Ok(rate),
        _ => Err("write a number of events a second, such as 500 or 0.5/s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_meant() {
        assert_eq!([per_second("500"), per_second("0.5/s")], [Ok(500.0), Ok(0.5)]);
        for wrong in ["0", "-1", "NaN", "5/m", ""] {
            assert!(per_second(wrong).is_err(), "{wrong}");
        }
        assert_eq!([delimiter(";"), delimiter("tab"), delimiter("\\t")], [Ok(b';'), Ok(b'\t'), Ok(b'\t')]);
        assert!(delimiter("\"").is_err() && delimiter("ab").is_err());
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err());
    }

    #[test]
    fn values_of_an_envelope_are_read_as_they_are_meant() {
        let read = |text| fill(text).unwrap().1;
        assert_eq!(read("source=order-service"), Fill::Text("order-service".to_owned()));
        assert_eq!(read("timestamp=payload.created_at"), Fill::Payload("created_at".to_owned()));
        assert_eq!([read("at=@now"), read("trace_id=@trace-id")], [Fill::Now, Fill::TraceId]);
        assert!(fill("at=@never").unwrap_err().contains("@now"));
        assert!(fill("=x").is_err() && fill("x").is_err());
    }
}
