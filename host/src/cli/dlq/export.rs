//! `tollgate dlq export`: one JSON object a line, written as the letters are read.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use serde_json::{Value, json};

use super::Which;
use super::groups::FOREIGN;
use super::read::{bar, header, read};
use crate::cli::Success;
use crate::config::{Encoding, Pipeline};
use crate::engine::build;
use crate::error::Failure;
use crate::lane::content::{self, is_content_type};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub which: Which,
    /// Writes into this file instead of stdout; an existing one is replaced.
    #[arg(short = 'o', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// At most so many letters.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Writes the letters; the summary goes to stderr where stdout is taken.
///
/// # Errors
/// As for [`read`], and exit code 1 where the file cannot be written.
pub fn run(args: &Args, json: bool) -> Result<Success, Failure> {
    if json && args.file.is_none() {
        let message =
            "--output json prints one object on stdout, where the letters would go too: name a file for them with -o";
        return Err(Failure::configuration("dlq.export", message));
    }
    let pipeline = args.which.load()?;
    // A letter that does not decode is still exported; a contract that does not compile is the operator's to mend.
    let messages = Messages::load(&pipeline)?;
    let out: Box<dyn Write> = match &args.file {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => Box::new(File::create(path).map_err(|error| {
            Failure::failed("dlq.export", format!("{} cannot be written: {error}", path.display()))
        })?),
    };
    let mut out = BufWriter::new(out);
    let mut count = 0;
    let done = read(&pipeline, args.which.since(), &bar(), |letter| {
        let line = line(letter, &pipeline, &messages);
        if args.which.reason.as_ref().is_some_and(|reason| line["reason"] != json!(reason)) {
            return ControlFlow::Continue(());
        }
        if args.limit.is_some_and(|limit| count >= limit) {
            return ControlFlow::Break(end());
        }
        if let Err(error) = writeln!(out, "{line}") {
            return ControlFlow::Break(unwritten(&error));
        }
        count += 1;
        ControlFlow::Continue(())
    });
    match done.and_then(|()| out.flush().map_err(|error| unwritten(&error))) {
        Ok(()) => {}
        Err(failure) if failure.code == ENOUGH => out.flush().map_err(|error| unwritten(&error))?,
        Err(failure) => return Err(failure),
    }
    let topic = &pipeline.dead_letter.topic;
    let target = args.file.as_ref().map(|path| path.display().to_string());
    let result = json!({ "topic": topic, "count": count, "file": target });
    let said = format!("{count} dead letters of {topic} written");
    match target {
        Some(path) => Ok(Success::new(format!("{said} to {path}"), result, "")),
        None => {
            tracing::info!("{said}");
            Ok(Success::new("", result, ""))
        }
    }
}

/// Code of the end before the end: the limit is reached, or nobody reads any more.
const ENOUGH: &str = "dlq.enough";

fn end() -> Failure {
    Failure::failed(ENOUGH, "")
}

fn unwritten(error: &std::io::Error) -> Failure {
    // A reader that went away (`| head`) is no error.
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::failed("dlq.export", format!("the letters cannot be written: {error}"))
}

/// What the letters' values are.
struct Messages {
    /// Of the only type, or of the envelope round all of them.
    one: Option<MessageDescriptor>,
    /// Of each type.
    types: Vec<MessageDescriptor>,
}

impl Messages {
    fn load(pipeline: &Pipeline) -> Result<Messages, Failure> {
        let pool = build::pool(pipeline)?;
        let find = |pool: &DescriptorPool, name: &str| {
            let missing = || format!("contract.message: there is no message type {name}");
            pool.get_message_by_name(name).ok_or_else(|| Failure::configuration("contract.invalid", missing()))
        };
        let types = pipeline.types.iter().map(|kind| find(&pool, &kind.message)).collect::<Result<Vec<_>, _>>()?;
        let one = match (&pipeline.contract.envelope, types.as_slice()) {
            (Some(spec), _) => Some(find(&build::envelope_pool(spec, pool), &spec.message)?),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        };
        Ok(Messages { one, types })
    }

    /// That of a letter: what its contract header says, where that decides.
    fn of(&self, contract: Option<&str>) -> Option<&MessageDescriptor> {
        let named = || self.types.iter().find(|message| Some(message.full_name()) == contract);
        self.one.as_ref().or_else(named)
    }
}

/// A letter as an object.
fn line(letter: &BorrowedMessage<'_>, pipeline: &Pipeline, messages: &Messages) -> Value {
    let text = |name: &str| header(letter, name).map(std::borrow::Cow::into_owned);
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let reference = text("tollgate.stored").is_some_and(|stored| stored == "reference");
    let stored = reference.then(
        || json!({ "value_bytes": number("tollgate.value-bytes"), "value_sha256": text("tollgate.value-sha256") }),
    );
    let is_json = match pipeline.contract.encoding {
        Encoding::Json => true,
        Encoding::Protobuf => false,
        Encoding::Auto => letter.headers().is_some_and(|headers| {
            let told = headers.iter().filter(|header| is_content_type(header.key));
            told.filter_map(|header| header.value).last().is_some_and(content::is_json)
        }),
    };
    let decoded = letter
        .payload()
        .filter(|_| !reference)
        .and_then(|value| decode(value, is_json, messages.of(text("tollgate.contract").as_deref())));
    json!({
        "source": source(letter, number("tollgate.timestamp")),
        "letter": { "topic": letter.topic(), "partition": letter.partition(), "offset": letter.offset(),
            "timestamp": letter.timestamp().to_millis() },
        "reason": text("tollgate.reason").unwrap_or_else(|| FOREIGN.to_owned()),
        "stage": text("tollgate.stage"),
        "field": text("tollgate.field"),
        "message": text("tollgate.message"),
        "transform": text("tollgate.transform"),
        "event_type": text("tollgate.event-type"),
        "contract": text("tollgate.contract"),
        "digest": text("tollgate.digest"),
        "fuel_used": number("tollgate.fuel-used"),
        "first_failed_at": number("tollgate.first-failed-at"),
        "stored_by_reference": stored,
        "key": letter.key().map(bytes),
        "value": letter.payload().map(|value| {
            json!({ "base64": STANDARD.encode(value), "json": decoded })
        }),
        "headers": headers(letter),
    })
}

/// Where the event came from: topic, partition, offset, and its own timestamp.
fn source(letter: &BorrowedMessage<'_>, timestamp: Option<i64>) -> Value {
    let coordinate = |name: &str| header(letter, name).map(std::borrow::Cow::into_owned);
    let number = |name: &str| coordinate(name).and_then(|text| text.parse::<i64>().ok());
    json!({
        "topic": coordinate("__connect.errors.topic"),
        "partition": number("__connect.errors.partition"),
        "offset": number("__connect.errors.offset"),
        "timestamp": timestamp,
    })
}

/// In the record's order; a name may come twice.
fn headers(letter: &BorrowedMessage<'_>) -> Vec<Value> {
    let Some(headers) = letter.headers() else { return Vec::new() };
    let one =
        |header: rdkafka::message::Header<'_, &[u8]>| json!({ "name": header.key, "value": header.value.map(bytes) });
    headers.iter().map(one).collect()
}

/// Bytes, and the text that they are, if they are one.
fn bytes(bytes: &[u8]) -> Value {
    json!({ "base64": STANDARD.encode(bytes), "text": std::str::from_utf8(bytes).ok() })
}

/// What the value says, where it can be read at all: the JSON as it came, or the contract's message in protobuf's JSON mapping.
fn decode(value: &[u8], is_json: bool, message: Option<&MessageDescriptor>) -> Option<Value> {
    if is_json {
        return serde_json::from_slice(value).ok();
    }
    let decoded = DynamicMessage::decode(message?.clone(), value).ok()?;
    serde_json::from_str(&tollgate_contract::show_json(&decoded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> MessageDescriptor {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("payment.proto"), crate::demo::files::PROTO).unwrap();
        let pool = crate::protos::load(&[folder.path().to_path_buf()]).unwrap();
        pool.get_message_by_name("payments.v1.PaymentEvent").unwrap()
    }

    #[test]
    fn a_value_is_decoded_where_it_can_be() {
        let message = message();
        assert_eq!(
            decode(b"\x1a\x03EUR\x20\x02", false, Some(&message)),
            Some(json!({"currency": "EUR", "status": "AUTHORIZED"}))
        );
        assert_eq!(decode(b"\x1a\x09EUR", false, Some(&message)), None);
        assert_eq!(decode(br#"{"amount": "a lot"}"#, true, Some(&message)), Some(json!({"amount": "a lot"})));
        assert_eq!(decode(b"{", true, Some(&message)), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_base64_alone() {
        assert_eq!(bytes(b"key"), json!({"base64": "a2V5", "text": "key"}));
        assert_eq!(bytes(&[0xff]), json!({"base64": "/w==", "text": null}));
    }
}
