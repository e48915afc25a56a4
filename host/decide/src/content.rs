//! Detects a value's format from its headers and from its first bytes.

use super::entry::Entry;
use super::verdict::Verdict;
use super::workbench::Refused;
use crate::dead_letter::{Reason, Stage};
use crate::gate::change::Changes;
use tollgate_config::{Encoding, Pipeline};

/// Reason codes that bytes of another format produce.
const CONFUSED: [&str; 8] = [
    "undecodable",
    "wrong-wire-type",
    "invalid-utf8",
    "group-field",
    "recursion-limit",
    "unknown-field",
    "json-invalid",
    "frame-invalid",
];

/// Returns whether a header of this name declares the content type. Kafka clients have no common spelling: Spring
/// writes `contentType`, HTTP bridges write `Content-Type`.
pub fn is_content_type(name: impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"contenttype")
}

/// Returns whether a content type is JSON: `application/json` with or without parameters, `text/json`, and the `+json`
/// types. It may be in upper or lower case, and in quotes, as Spring writes it.
pub fn is_json(content_type: &[u8]) -> bool {
    let trimmed = content_type.trim_ascii();
    let unquoted = trimmed.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(trimmed);
    let essence = unquoted.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/json")
        || essence.eq_ignore_ascii_case(b"text/json")
        || essence.last_chunk::<5>().is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

/// A format that can be recognized by a value's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookalike {
    Json,
    /// Text with a byte order mark.
    Marked,
    Gzip,
    Zstd,
    /// A schema registry's frame.
    Frame,
}

impl Lookalike {
    fn of(value: &[u8]) -> Option<Lookalike> {
        match value {
            [0xef, 0xbb, 0xbf, ..] => Some(Lookalike::Marked),
            [0x1f, 0x8b, ..] => Some(Lookalike::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Lookalike::Zstd),
            [0, _, _, _, _, _, ..] => Some(Lookalike::Frame),
            _ => looks_like_json(value).then_some(Lookalike::Json),
        }
    }

    /// Returns advice about a value that was read in the wrong format, or `None` if the format was right.
    fn advice(self, pipeline: &Pipeline, read_as_json: bool) -> Option<&'static str> {
        let framed = pipeline.contract.registry.is_some();
        let encoding = pipeline.contract.encoding;
        Some(match self {
            Lookalike::Json if framed => {
                "the value looks like JSON, without the frame of a schema registry's serializer that `contract.registry` requires"
            }
            Lookalike::Json if read_as_json => return None,
            Lookalike::Json if encoding == Encoding::Auto => {
                "the value looks like JSON, but has no content-type: send the header `content-type: application/json` with \
                 it, or set `contract.encoding: json`"
            }
            Lookalike::Json => {
                "the value looks like JSON, but `contract.encoding: protobuf` reads it as Protobuf: set `auto` or `json`"
            }
            // The JSON reader reports this itself.
            Lookalike::Marked if read_as_json => return None,
            Lookalike::Marked => {
                "the value is text with a byte order mark and without a content-type for JSON: send it without the mark, and \
                 with the header `content-type: application/json`"
            }
            Lookalike::Gzip => {
                "the value is compressed with gzip: send it uncompressed, and let the producer compress it (`compression.type`)"
            }
            Lookalike::Zstd => {
                "the value is compressed with zstd: send it uncompressed, and let the producer compress it (`compression.type`)"
            }
            Lookalike::Frame if framed => return None,
            Lookalike::Frame => {
                "the value looks like a frame of a schema registry's serializer: set `contract.registry`"
            }
        })
    }
}

/// Returns whether an object or array begins: `{"`, `{}`, `[{`, `["`, `[1`. Protobuf begins with these bytes only for a
/// group.
fn looks_like_json(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let inner = value.get(1..).unwrap_or_default().trim_ascii_start().first();
    match (value.first(), inner) {
        (Some(b'{'), inner) => matches!(inner, Some(b'"' | b'}')),
        (Some(b'['), inner) => matches!(inner, Some(b'{' | b'[' | b'"' | b']' | b'-' | b'0'..=b'9')),
        _ => false,
    }
}

impl Entry<'_> {
    /// Returns whether the record's value is JSON. A frame's schema decides this, whatever a header declares.
    pub(super) fn is_json(&self) -> bool {
        if self.gate.framing.is_some() {
            return false;
        }
        match self.gate.pipeline.contract.encoding {
            Encoding::Protobuf => false,
            Encoding::Json => true,
            Encoding::Auto if self.gate.changes.as_ref().is_some_and(Changes::only_json) => true,
            Encoding::Auto => {
                let told = self.batch.headers(self.record).filter(|(name, _)| is_content_type(name));
                told.filter_map(|(_, value)| value).last().is_some_and(is_json)
            }
        }
    }

    /// Adds to the rejection what the value looks like if it was read in the wrong format. "field 15: a length of 105
    /// bytes" does not help a user whose producer sends JSON.
    #[cold]
    pub(super) fn blame(&self, refused: Refused) -> Refused {
        let Refused::Verdict(kind, Verdict::Dead(mut reason)) = refused else { return refused };
        if let Some(value) = self.batch.value(self.record).filter(|_| is_confused(&reason)) {
            let read_as_json = self.is_json();
            let like = Lookalike::of(value);
            if let Some(advice) = like.and_then(|like| like.advice(&self.gate.pipeline, read_as_json)) {
                let format = if read_as_json { "JSON" } else { "Protobuf" };
                let place = if reason.field.is_empty() { String::new() } else { format!("field {}: ", reason.field) };
                reason.message = format!("{advice} (read as {format}: {place}{})", reason.message);
                reason.field.clear();
            }
        }
        Refused::Verdict(kind, Verdict::Dead(reason))
    }
}

fn is_confused(reason: &Reason) -> bool {
    reason.stage == Stage::Contract && CONFUSED.contains(&&*reason.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_every_spelling_of_its_content_type() {
        for name in ["content-type", "Content-Type", "contentType", "CONTENT-TYPE", "contenttype"] {
            assert!(is_content_type(name), "{name}");
        }
        assert!(!is_content_type("content_type") && !is_content_type("accept"));
        for json in [
            "application/json",
            "Application/JSON",
            " application/json ",
            "application/json;charset=UTF-8",
            "application/json ; charset=utf-8",
            "\"application/json\"",
            "\"application/json;charset=UTF-8\"",
            "text/json",
            "application/vnd.shop.order+json",
            "application/cloudevents+JSON; charset=utf-8",
        ] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in
            ["", "\"", "application/protobuf", "application/jsonl", "json", "text/plain", "application/x+json5"]
        {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        for (value, expected) in [
            (&b"{\"id\":1}"[..], Some(Lookalike::Json)),
            (b" \n{ }", Some(Lookalike::Json)),
            (b"[ {\"id\":1}]", Some(Lookalike::Json)),
            (b"\xef\xbb\xbf{}", Some(Lookalike::Marked)),
            (b"\x1f\x8b\x08\0", Some(Lookalike::Gzip)),
            (b"\x28\xb5\x2f\xfd\0", Some(Lookalike::Zstd)),
            (b"\0\0\0\0\x07\0\x0a", Some(Lookalike::Frame)),
            (b"\0\0\0", None),
            (b"", None),
            (b"{", None),
            (b"{\x08\x01|", None),
            (b"\x0a\x03abc", None),
            (b"text", None),
        ] {
            assert_eq!(Lookalike::of(value), expected, "{value:?}");
        }
    }
}
