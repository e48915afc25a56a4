//! `tollgate dlq export`: writes each dead letter as one line of JSON while reading the topic.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use rdkafka::message::{BorrowedMessage, Message as _};
use serde_json::{Value, json};
use tollgate_contract::escape_marks;

use super::Which;
use super::groups::FOREIGN;
use super::read::{bar, header, read};
use crate::cli::Success;
use tollgate_config::error::Failure;
use tollgate_config::{Encoding, Pipeline};
use tollgate_decide::content::{self, is_content_type};
use tollgate_decide::record::RawHeader;
use tollgate_decide::reserved;
use tollgate_engine::kafka::headers;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub which: Which,
    /// Write to this file instead of stdout, replacing an existing one.
    #[arg(short = 'o', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Write at most this many dead letters.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Writes the dead letters. The summary goes to stderr if they go to stdout.
///
/// # Errors
/// Fails as [`read`] does, and with exit code 1 if the file cannot be written.
pub fn run(args: &Args, json: bool) -> Result<Success, Failure> {
    if json && args.file.is_none() {
        let message = "--output json prints one object on stdout, where the dead letters would go too: write them to a \
                       file with -o";
        return Err(Failure::configuration("dlq.export", message));
    }
    let pipeline = args.which.load()?;
    // A dead letter that does not decode is still exported. A contract that does not compile is an error that the
    // operator must fix.
    let messages = Messages::load(&pipeline)?;
    let out: Box<dyn Write> = match &args.file {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => Box::new(
            File::create(path)
                .map_err(|error| Failure::failed("dlq.export", format!("cannot write {}: {error}", path.display())))?,
        ),
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
        if let Err(error) = writeln!(out, "{}", escape_marks(&line.to_string())) {
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
    let said = format!("exported {count} dead letters of {topic}");
    match target {
        Some(path) => Ok(Success::new(format!("{said} to {path}"), result, "")),
        None => {
            tracing::info!("{said}");
            Ok(Success::new("", result, ""))
        }
    }
}

/// The code with which reading stops at `--limit`.
const ENOUGH: &str = "dlq.enough";

fn end() -> Failure {
    Failure::failed(ENOUGH, "")
}

fn unwritten(error: &std::io::Error) -> Failure {
    // A reader that has closed the pipe (`| head`) is not an error.
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::failed("dlq.export", format!("cannot write the dead letters: {error}"))
}

/// The message types of the dead letters' values.
struct Messages {
    /// The message of the only type, or of the envelope around all types.
    one: Option<MessageDescriptor>,
    /// The message of each type.
    types: Vec<MessageDescriptor>,
}

impl Messages {
    fn load(pipeline: &Pipeline) -> Result<Messages, Failure> {
        let pools = tollgate_protos::pools(pipeline)?;
        let find = |pool: &DescriptorPool, name: &str| {
            let missing = || format!("contract.message: unknown message type {name}");
            pool.get_message_by_name(name).ok_or_else(|| Failure::configuration("contract.invalid", missing()))
        };
        let types = pipeline.types.iter().map(|kind| find(&pools.own, &kind.message)).collect::<Result<Vec<_>, _>>()?;
        let one = match (&pipeline.contract.envelope, types.as_slice()) {
            (Some(spec), _) => Some(find(pools.outer(), &spec.message)?),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        };
        Ok(Messages { one, types })
    }

    /// Returns the message type of a dead letter. Its contract header decides if there are several types without an
    /// envelope.
    fn of(&self, contract: Option<&str>) -> Option<&MessageDescriptor> {
        let named = || self.types.iter().find(|message| Some(message.full_name()) == contract);
        self.one.as_ref().or_else(named)
    }
}

/// Returns a dead letter as a JSON object. Each fact appears once; unknown facts are left out.
fn line(letter: &BorrowedMessage<'_>, pipeline: &Pipeline, messages: &Messages) -> Value {
    let text = |name: &str| header(letter, name).map(Cow::into_owned);
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let reason = text("tollgate.reason");
    let reference = text("tollgate.stored").is_some_and(|stored| stored == "reference");
    let contract = text("tollgate.contract");
    let is_json = match pipeline.contract.encoding {
        Encoding::Json => true,
        Encoding::Protobuf => false,
        Encoding::Auto => {
            let told = headers::of(letter).filter(|(name, _)| is_content_type(name));
            told.filter_map(|(_, value)| value).next_back().is_some_and(content::is_json)
        }
    };
    let message = messages.of(contract.as_deref());
    let decoded = |value: &[u8]| if reference { None } else { decode(value, is_json, message) };
    let violations = text("tollgate.violations").and_then(|list| serde_json::from_str::<Value>(&list).ok());
    let stored = reference.then(
        || json!({ "value_bytes": number("tollgate.value-bytes"), "value_sha256": text("tollgate.value-sha256") }),
    );
    let stamp = letter.timestamp().to_millis();
    let mut facts = json!({
        "source": source(letter, number("tollgate.timestamp")),
        "letter": { "partition": letter.partition(), "offset": letter.offset(), "timestamp": stamp },
        "reason": reason.as_deref().unwrap_or(FOREIGN),
        "stage": text("tollgate.stage"),
        "field": text("tollgate.field"),
        "message": text("tollgate.message"),
        "violations": violations,
        "transform": text("tollgate.transform"),
        "event_type": text("tollgate.event-type"),
        "contract": contract,
        "contract_digest": text("tollgate.contract-digest"),
        "schema_id": text("tollgate.schema-id"),
        "digest": text("tollgate.digest"),
        "fuel_used": number("tollgate.fuel-used"),
        "first_failed_at": number("tollgate.first-failed-at"),
        "attempt": number("tollgate.attempt"),
        "replays": number("tollgate.replay-count"),
        "stored_by_reference": stored,
    });
    prune(&mut facts);
    // Null has a meaning here: the record has no key, or it is a tombstone.
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("key".to_owned(), letter.key().map_or(Value::Null, bytes));
        facts.insert("value".to_owned(), letter.payload().map_or(Value::Null, |bytes| value(bytes, decoded(bytes))));
        facts.insert("headers".to_owned(), own_headers(headers::of(letter), reason.is_some()));
    }
    facts
}

/// Removes unknown facts.
fn prune(value: &mut Value) {
    if let Value::Object(members) = value {
        members.values_mut().for_each(prune);
        members.retain(|_, value| !value.is_null());
    }
}

/// Returns the source of the event: topic, partition, offset, and its original timestamp.
fn source(letter: &BorrowedMessage<'_>, timestamp: Option<i64>) -> Value {
    let coordinate = |name: &str| header(letter, name).map(Cow::into_owned);
    let number = |name: &str| coordinate(name).and_then(|text| text.parse::<i64>().ok());
    json!({
        "topic": coordinate("__connect.errors.topic"),
        "partition": number("__connect.errors.partition"),
        "offset": number("__connect.errors.offset"),
        "timestamp": timestamp,
    })
}

/// Returns the original headers of the record in their order. A name may appear twice. Tollgate's headers are left out,
/// because they are separate facts.
fn own_headers<'m>(headers: impl Iterator<Item = RawHeader<'m>>, ours: bool) -> Value {
    let own = headers.filter(|(name, _)| !(ours && reserved::is_reserved(name)));
    own.map(|(name, value)| json!({ "name": bytes(name), "value": value.map(bytes) })).collect()
}

/// Returns text as a string, and other bytes as base64.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// Returns a value's original form and its decoded form. JSON whose original text equals the decoded form appears once.
fn value(bytes: &[u8], decoded: Option<Value>) -> Value {
    let mut value = match std::str::from_utf8(bytes) {
        Ok(text) if decoded.as_ref().map(Value::to_string).as_deref() == Some(text) => json!({}),
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    };
    if let Some(decoded) = decoded {
        value["json"] = decoded;
    }
    value
}

/// Decodes the value if possible: returns the original JSON, or the contract's message in Protobuf's JSON mapping.
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
        let pool = tollgate_protos::load(&[folder.path().to_path_buf()]).unwrap();
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
    fn bytes_are_shown_once_as_text_where_they_are_text() {
        assert_eq!(bytes(b"key"), json!("key"));
        assert_eq!(bytes(&[0xff]), json!({"base64": "/w=="}));
        let decoded = Some(json!({"a": 1}));
        assert_eq!(value(br#"{"a":1}"#, decoded.clone()), json!({"json": {"a": 1}}));
        assert_eq!(value(br#"{"a": 1}"#, decoded.clone()), json!({"text": "{\"a\": 1}", "json": {"a": 1}}));
        assert_eq!(value(b"\x08\x01", decoded.clone()), json!({"text": "\u{8}\u{1}", "json": {"a": 1}}));
        assert_eq!(value(b"\x08\xff\x01", decoded), json!({"base64": "CP8B", "json": {"a": 1}}));
        assert_eq!(value(b"{", None), json!({"text": "{"}));
    }

    #[test]
    fn our_headers_are_facts_and_not_listed_again() {
        let headers: [RawHeader<'_>; 4] = [
            (b"trace", Some(b"a")),
            (b"caf\xe9", None),
            (b"tollgate.reason", Some(b"undecodable")),
            (b"original.tollgate.reason", Some(b"x")),
        ];
        let own = json!([
            {"name": "trace", "value": "a"},
            {"name": {"base64": "Y2Fm6Q=="}, "value": null},
            {"name": "original.tollgate.reason", "value": "x"},
        ]);
        assert_eq!(own_headers(headers.into_iter(), true), own);
        let all = own_headers(headers.into_iter(), false);
        assert_eq!(all.as_array().unwrap().len(), 4, "a record that Tollgate did not write keeps all headers");
        let mut facts = json!({"a": null, "b": {"c": null, "d": 1}});
        prune(&mut facts);
        assert_eq!(facts, json!({"b": {"d": 1}}));
    }
}
