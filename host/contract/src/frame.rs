//! Confluent's wire format: the schema with which a payload was written, and the message within it.
//!
//! ```text
//! prefix   00 | schema id, 4 bytes, big endian | what follows
//! header   __value_schema_id: 00 | schema id, 4 bytes   or   01 | schema GUID, 16 bytes; the payload has no prefix
//! follows  Protobuf: message indexes, then the message.  JSON Schema, Avro: the payload at once.
//! indexes  zigzag varint count, then count zigzag varints: [2, 0] is the first message nested in the file's third.
//!          The one byte 0 is short for [0].
//! ```
//!
//! The frame does not contain the kind of its schema, so reading has two steps: [`Frame::parse`], then, once the
//! registry has reported Protobuf, [`Frame::protobuf`]. With the header, the indexes are in the header.
//!
//! Known errors of clients, and how this module handles them:
//! - Indexes written as plain varints (confluent-kafka-python's `use.deprecated.format`): the common `01 00` reads as
//!   count −1 and is rejected; even counts cannot be distinguished from valid ones.
//! - No indexes at all (`@kafkajs/confluent-schema-registry`): [`Indexing::Optional`] accepts them. A message begins
//!   with a tag, and no tag is below 8, while the counts 0 to 3 are the bytes 0, 2, 4, 6. So messages nested four
//!   levels deep or more cannot be named with that setting, and nothing is ever guessed. The default rejects them.
//! - Map fields have hidden entry types. Java's client counts nested messages without them, Go's and Python's with
//!   them: if that leads to two messages, [`message_by_indexes`] fails unless one of them is the expected one.

use prost_reflect::{FileDescriptor, MessageDescriptor};

/// The header with the schema of a record's value.
pub const VALUE_HEADER: &str = "__value_schema_id";
/// The header with the schema of a record's key.
pub const KEY_HEADER: &str = "__key_schema_id";

/// protoc's limit on message nesting; anything deeper is not an index array.
const DEPTH_MAX: usize = 32;
/// The maximum length of a 32-bit varint.
const VARINT_BYTES: usize = 5;
/// Below the first tag that a message can begin with (field 1, wire type 0).
const FIRST_TAG: u8 = 8;
/// `[0]`, as in nearly all frames.
const FIRST_MESSAGE: &[u8] = &[0];

/// The way in which a frame identifies its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    /// The number assigned by the registry.
    Id(u32),
    /// The schema's own id, the same in every registry.
    Guid([u8; 16]),
}

impl std::fmt::Display for SchemaId {
    /// Formats the number, or the GUID with hyphens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Guid(bytes) => {
                for (index, byte) in bytes.iter().enumerate() {
                    let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{hyphen}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// Whether a Protobuf frame must hold message indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Indexing {
    /// As the format defines.
    #[default]
    Required,
    /// A frame without message indexes means the first message.
    Optional,
}

/// Bytes that are not a frame. This is the event's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    #[error("the payload is empty; a framed payload has at least the magic byte and a schema id")]
    Empty,
    #[error("the payload begins with {0:#04x} instead of the magic byte 0, so it does not name a schema")]
    Magic(u8),
    #[error("the frame ends inside the schema id: {need} bytes needed, {have} left")]
    Short { need: usize, have: usize },
    #[error("the frame ends inside the message indexes")]
    IndexesTruncated,
    #[error("a message index is longer than it needs to be, or does not fit 32 bits")]
    IndexTooLong,
    #[error(
        "a message index is {0}, below zero; a serializer that writes plain instead of zigzag varints does this (use.deprecated.format)"
    )]
    IndexNegative(i64),
    #[error(
        "the message indexes are {0} levels deep, and messages nest {DEPTH_MAX} at most; a serializer that writes no indexes does this (kafkajs)"
    )]
    IndexesTooDeep(i64),
    #[error("the header holds {0} bytes after the message indexes")]
    HeaderTooLong(usize),
}

/// A payload with the schema with which it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub schema: SchemaId,
    /// The rest after the id: message indexes and payload, only the payload, or for a header only its indexes.
    rest: &'a [u8],
    /// The whole payload if the schema is in a header.
    payload: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// Reads the prefix of a record's value or key.
    ///
    /// # Errors
    /// Fails if the bytes are too short or have no magic byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        match bytes {
            [] => Err(FrameFault::Empty),
            [0, a, b, c, d, rest @ ..] => {
                Ok(Self { schema: SchemaId::Id(u32::from_be_bytes([*a, *b, *c, *d])), rest, payload: None })
            }
            [0, rest @ ..] => Err(FrameFault::Short { need: 4, have: rest.len() }),
            [magic, ..] => Err(FrameFault::Magic(*magic)),
        }
    }

    /// Reads the header [`VALUE_HEADER`] (or [`KEY_HEADER`]) of a record whose value (or key) is `payload`.
    ///
    /// # Errors
    /// Fails if the header is too short or has neither magic byte.
    pub fn from_header(header: &'a [u8], payload: &'a [u8]) -> Result<Self, FrameFault> {
        let Some((1, rest)) = header.split_first() else {
            return Self::parse(header).map(|frame| Self { payload: Some(payload), ..frame });
        };
        let (guid, rest) = rest.split_first_chunk::<16>().ok_or(FrameFault::Short { need: 16, have: rest.len() })?;
        Ok(Self { schema: SchemaId::Guid(*guid), rest, payload: Some(payload) })
    }

    /// Returns the payload of a JSON Schema or Avro frame: everything after the id.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload.unwrap_or(self.rest)
    }

    /// Returns the indexes of the message in the schema's file, and the message's bytes. Allocates nothing.
    ///
    /// # Errors
    /// Fails if the indexes are truncated, negative, longer than necessary or deeper than messages nest.
    pub fn protobuf(&self, indexing: Indexing) -> Result<(MessageIndexes<'a>, &'a [u8]), FrameFault> {
        // These are the two forms of nearly every frame.
        let (indexes, rest) = match *self.rest {
            [0, ref rest @ ..] => (MessageIndexes { encoded: FIRST_MESSAGE }, rest),
            [first, ..] if indexing == Indexing::Optional && first >= FIRST_TAG => {
                (MessageIndexes { encoded: FIRST_MESSAGE }, self.rest)
            }
            // In a header, and in a frame of the empty message, no byte follows.
            [] if indexing == Indexing::Optional => (MessageIndexes { encoded: FIRST_MESSAGE }, self.rest),
            _ => read_indexes(self.rest)?,
        };
        match self.payload {
            None => Ok((indexes, rest)),
            Some(payload) if rest.is_empty() => Ok((indexes, payload)),
            Some(_) => Err(FrameFault::HeaderTooLong(rest.len())),
        }
    }

    /// Writes a Protobuf frame's prefix; the message's bytes follow. `indexes` are those of [`indexes_of`].
    pub fn write_protobuf(out: &mut Vec<u8>, id: u32, indexes: &[u32]) {
        Self::write(out, id);
        if matches!(indexes, [] | [0]) {
            return out.push(0);
        }
        write_zigzag(out, u64::try_from(indexes.len()).unwrap_or(u64::MAX));
        for index in indexes {
            write_zigzag(out, u64::from(*index));
        }
    }

    /// Writes a frame's magic byte and id, which is the whole prefix of a JSON payload.
    pub fn write(out: &mut Vec<u8>, id: u32) {
        out.push(0);
        out.extend(id.to_be_bytes());
    }
}

/// The path to a message in its file, borrowed from a frame and known to be well formed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageIndexes<'a> {
    /// The indexes as in the frame, but `[0]` is always in its short form, so that equal paths have equal bytes.
    encoded: &'a [u8],
}

impl<'a> MessageIndexes<'a> {
    /// Returns the canonical encoding: together with the schema's id, it is a cache key.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.encoded
    }

    /// Iterates from the outermost message inwards; at least one index.
    pub fn iter(&self) -> impl Iterator<Item = u32> + 'a {
        let mut rest = self.encoded;
        if rest != FIRST_MESSAGE {
            // Skips the count. All varints were validated before: none fails here.
            rest = zigzag(rest).map_or(rest, |(_, rest)| rest);
        }
        std::iter::from_fn(move || {
            let (index, after) = zigzag(rest).ok()?;
            rest = after;
            u32::try_from(index).ok()
        })
    }
}

impl std::fmt::Debug for MessageIndexes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn read_indexes(bytes: &[u8]) -> Result<(MessageIndexes<'_>, &[u8]), FrameFault> {
    let (count, mut rest) = zigzag(bytes)?;
    let levels = match usize::try_from(count) {
        Err(_) => return Err(FrameFault::IndexNegative(count)),
        Ok(levels) if levels > DEPTH_MAX => return Err(FrameFault::IndexesTooDeep(count)),
        Ok(levels) => levels,
    };
    for _ in 0..levels {
        let (index, after) = zigzag(rest)?;
        if index < 0 {
            return Err(FrameFault::IndexNegative(index));
        }
        rest = after;
    }
    let encoded = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
    // [0] written out.
    let encoded = if encoded == [2, 0] { FIRST_MESSAGE } else { encoded };
    Ok((MessageIndexes { encoded }, rest))
}

/// Reads a zigzag varint in its shortest form, of at most 32 bits. No serializer pads, so a longer one is something
/// else.
fn zigzag(bytes: &[u8]) -> Result<(i64, &[u8]), FrameFault> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let padded = byte == 0 && index > 0;
            let value = u32::try_from(value).ok().filter(|_| !padded).ok_or(FrameFault::IndexTooLong)?;
            let (half, sign) = (i64::from(value >> 1), -i64::from(value & 1));
            return Ok((half ^ sign, bytes.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(if bytes.len() < VARINT_BYTES { FrameFault::IndexesTruncated } else { FrameFault::IndexTooLong })
}

fn write_zigzag(out: &mut Vec<u8>, value: u64) {
    let mut left = value << 1;
    while left >= 0x80 {
        out.push((left & 0x7f).to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    out.push(left.to_le_bytes()[0]);
}

/// Message indexes that do not lead to one message of the file. This is the event's fault, because the schema cannot
/// change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexFault {
    #[error("{file} has no message at the indexes {}", show(.indexes))]
    NoSuchMessage { file: String, indexes: Vec<u32> },
    #[error(
        "the indexes {} mean {without_entries} to Java's serializer and {with_entries} to Go's and Python's, which count map \
         entries; name the expected message",
        show(.indexes)
    )]
    Ambiguous { indexes: Vec<u32>, without_entries: String, with_entries: String },
}

fn show(indexes: &[u32]) -> String {
    format!("{indexes:?}")
}

/// Returns the message that the indexes name in a schema's own file. `expected` is a full name that decides the case in
/// which clients count differently (see the module documentation); it is not a check.
///
/// # Errors
/// Fails if there is no such message, or if there are two and neither is expected.
pub fn message_by_indexes(
    file: &FileDescriptor,
    indexes: MessageIndexes<'_>,
    expected: Option<&str>,
) -> Result<MessageDescriptor, IndexFault> {
    let with_entries = walk(file, indexes, true);
    let without_entries = walk(file, indexes, false);
    match (without_entries, with_entries) {
        (Some(one), Some(other)) if one != other => {
            if expected == Some(other.full_name()) {
                return Ok(other);
            }
            if expected == Some(one.full_name()) {
                return Ok(one);
            }
            Err(IndexFault::Ambiguous {
                indexes: indexes.iter().collect(),
                without_entries: one.full_name().to_owned(),
                with_entries: other.full_name().to_owned(),
            })
        }
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => {
            Err(IndexFault::NoSuchMessage { file: file.name().to_owned(), indexes: indexes.iter().collect() })
        }
    }
}

/// Returns the message at the path, with map entries counted or left out; never a map entry itself.
fn walk(file: &FileDescriptor, indexes: MessageIndexes<'_>, entries: bool) -> Option<MessageDescriptor> {
    let counted = |message: &MessageDescriptor| entries || !message.is_map_entry();
    let mut found: Option<MessageDescriptor> = None;
    for index in indexes.iter() {
        let index = usize::try_from(index).ok()?;
        found = match &found {
            None => file.messages().filter(counted).nth(index),
            Some(outer) => outer.child_messages().filter(counted).nth(index),
        };
        found.as_ref()?;
    }
    found.filter(|message| !message.is_map_entry())
}

/// Returns the path to a message in its file, without map entries, as Java's serializer writes it.
#[must_use]
pub fn indexes_of(message: &MessageDescriptor) -> Vec<u32> {
    let mut path = Vec::new();
    let mut current = Some(message.clone());
    while let Some(inner) = current {
        let outer = inner.parent_message();
        let real = |sibling: &MessageDescriptor| !sibling.is_map_entry();
        let position = match &outer {
            Some(outer) => outer.child_messages().filter(real).position(|sibling| sibling == inner),
            None => inner.parent_file().messages().position(|sibling| sibling == inner),
        };
        path.push(position.and_then(|position| u32::try_from(position).ok()).unwrap_or_default());
        current = outer;
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests;
