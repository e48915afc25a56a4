//! Tests Confluent's wire format: no panic, the verdict of a slow reference reader, and that written frames are read
//! again.

use std::sync::LazyLock;

use prost_reflect::FileDescriptor;
use tollgate_contract::frame::{Frame, FrameFault, Indexing, SchemaId, indexes_of, message_by_indexes};

use crate::choices::Choices;
use crate::schemas;

/// Every file with nested messages, including map entries between them.
static FILES: LazyLock<Vec<FileDescriptor>> = LazyLock::new(|| schemas::pool().files().collect());

/// Compiles the schemas, before executions are counted.
pub fn warm() {
    LazyLock::force(&FILES);
}

/// A parsed frame: the path and the payload.
type Read<'a> = Result<(Vec<u32>, &'a [u8]), FrameFault>;

/// Checks one frame. The bits of the first byte select whether there is a header, whether indexes may be missing, and
/// whether a frame is written first.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let how = choices.byte();
    let indexing = if how & 1 == 0 { Indexing::Required } else { Indexing::Optional };
    let written = (how & 4 != 0).then(|| write(&mut choices));
    let bytes = match &written {
        Some((_, _, frame)) => [frame, choices.rest()].concat(),
        None => choices.rest().to_vec(),
    };
    let (header, payload) = bytes.split_at(bytes.len() * usize::from(how >> 4) / 15);
    let frame = if how & 2 == 0 { Frame::parse(&bytes) } else { Frame::from_header(header, payload) };
    let head = if how & 2 == 0 { &bytes } else { header };
    let body = (how & 2 != 0).then_some(payload);
    let frame = match (frame, schema(head, how & 2 != 0)) {
        (Ok(frame), Ok((id, _))) if frame.schema == id => frame,
        (Err(found), Err(expected)) if found == expected => return,
        (found, expected) => panic!("{found:?}, expected {expected:?}: {bytes:02x?}"),
    };
    let rest = schema(head, how & 2 != 0).map(|(_, rest)| rest).unwrap_or_default();
    assert_eq!(frame.payload(), body.unwrap_or(rest), "{bytes:02x?}");
    let found = frame.protobuf(indexing).map(|(path, payload)| (path.iter().collect(), payload));
    assert_eq!(found, read(rest, body, indexing), "{indexing:?} {bytes:02x?}");
    if let (Some((id, path, frame)), 0) = (&written, how & 2) {
        let path = if path.is_empty() { &[0][..] } else { path };
        // If indexes may be missing, a count of four or more is not a count.
        if indexing == Indexing::Required || path.len() < 4 {
            assert_eq!(
                (*id, Ok((path.to_vec(), &bytes[frame.len()..]))),
                (schema_number(&bytes), found),
                "{bytes:02x?}"
            );
        }
    }
    if let Ok((path, _)) = frame.protobuf(indexing) {
        lead(path);
    }
}

fn schema_number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]])
}

/// Writes a frame's prefix. Returns its id, its path and its bytes.
fn write(choices: &mut Choices<'_>) -> (u32, Vec<u32>, Vec<u8>) {
    let id = u32::from_le_bytes([choices.byte(), choices.byte(), choices.byte(), choices.byte()]);
    let path: Vec<u32> = (0..choices.below(33))
        .map(|_| {
            let index = u32::from(choices.byte());
            // The largest index that the format holds is i32's.
            if index < 0xf0 { index } else { i32::MAX.unsigned_abs() >> (index & 15) }
        })
        .collect();
    let mut frame = Vec::new();
    Frame::write_protobuf(&mut frame, id, &path);
    (id, path, frame)
}

/// Returns the id and the bytes after it.
fn schema(bytes: &[u8], header: bool) -> Result<(SchemaId, &[u8]), FrameFault> {
    let (magic, rest) = bytes.split_first().ok_or(FrameFault::Empty)?;
    let length = match magic {
        0 => 4,
        1 if header => 16,
        magic => return Err(FrameFault::Magic(*magic)),
    };
    let short = FrameFault::Short { need: length, have: rest.len() };
    let (id, rest) = rest.split_at_checked(length).ok_or(short)?;
    let id = match length {
        4 => SchemaId::Id(id.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))),
        _ => SchemaId::Guid(std::array::from_fn(|at| id[at])),
    };
    Ok((id, rest))
}

fn read<'a>(rest: &'a [u8], body: Option<&'a [u8]>, indexing: Indexing) -> Read<'a> {
    let optional = indexing == Indexing::Optional;
    let (path, rest) = match rest.first() {
        None if optional => (vec![0], rest),
        Some(8..) if optional => (vec![0], rest),
        Some(0) => (vec![0], &rest[1..]),
        _ => path(rest)?,
    };
    match body {
        Some(_) if !rest.is_empty() => Err(FrameFault::HeaderTooLong(rest.len())),
        Some(body) => Ok((path, body)),
        None => Ok((path, rest)),
    }
}

fn path(mut rest: &[u8]) -> Result<(Vec<u32>, &[u8]), FrameFault> {
    let count = zigzag(&mut rest)?;
    if count < 0 {
        return Err(FrameFault::IndexNegative(count));
    }
    if count > 32 {
        return Err(FrameFault::IndexesTooDeep(count));
    }
    let mut path = Vec::new();
    for _ in 0..count {
        let index = zigzag(&mut rest)?;
        path.push(u32::try_from(index).map_err(|_| FrameFault::IndexNegative(index))?);
    }
    Ok((path, rest))
}

/// Reads a varint of 32 bits in its shortest form.
fn zigzag(rest: &mut &[u8]) -> Result<i64, FrameFault> {
    let end = rest.iter().take(5).position(|byte| *byte < 0x80);
    let Some(end) = end else {
        return Err(if rest.len() < 5 { FrameFault::IndexesTruncated } else { FrameFault::IndexTooLong });
    };
    let (bytes, after) = rest.split_at(end + 1);
    *rest = after;
    let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    let padded = end > 0 && bytes[end] == 0;
    let value = i64::from(u32::try_from(value).ok().filter(|_| !padded).ok_or(FrameFault::IndexTooLong)?);
    Ok(if value & 1 == 0 { value / 2 } else { -(value + 1) / 2 })
}

/// Checks that a path leads to a message of the file, whose own path leads to it again.
fn lead(path: tollgate_contract::frame::MessageIndexes<'_>) {
    for file in FILES.iter() {
        let Ok(message) = message_by_indexes(file, path, None) else { continue };
        assert!(!message.is_map_entry() && message.parent_file() == *file, "{path:?} in {}", file.name());
        let mut frame = Vec::new();
        Frame::write_protobuf(&mut frame, 1, &indexes_of(&message));
        let own = Frame::parse(&frame).and_then(|frame| frame.protobuf(Indexing::Required).map(|(path, _)| path));
        let own = own.unwrap_or_else(|fault| panic!("{}: {fault}", message.full_name()));
        let back = message_by_indexes(file, own, Some(message.full_name()));
        assert_eq!(back.as_ref(), Ok(&message), "{path:?} in {}", file.name());
    }
}
