//! Generates payloads from decisions: wire bytes along a schema, so that mutations reach deep places, including every
//! way to write them badly.

use prost_reflect::prost::encoding::encode_varint;
use prost_reflect::{Kind, MessageDescriptor};

use crate::choices::Choices;

/// Deeper than any contract's limit, so that the limit is reached.
const DEPTH: usize = 110;
const FIELDS: usize = 64;

/// Returns a payload of that type: the bytes themselves, or a message generated from them as decisions, which is
/// sometimes damaged.
pub fn payload(message: &MessageDescriptor, choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.byte() % 4 {
        0 => choices.rest().to_vec(),
        1 => {
            let edits: Vec<(usize, u8, u8)> = (0..=choices.below(3))
                .map(|_| {
                    (usize::from(u16::from_le_bytes([choices.byte(), choices.byte()])), choices.byte(), choices.byte())
                })
                .collect();
            let mut out = Vec::new();
            grow(message, choices, 0, &mut out);
            edits.into_iter().for_each(|edit| damage(&mut out, edit));
            out
        }
        _ => {
            let mut out = Vec::new();
            grow(message, choices, 0, &mut out);
            out
        }
    }
}

fn damage(payload: &mut Vec<u8>, (at, byte, how): (usize, u8, u8)) {
    let at = at % (payload.len() + 1);
    match how % 5 {
        0 => payload.truncate(at),
        1 => payload.insert(at, byte),
        2 if at < payload.len() => drop(payload.remove(at)),
        3 if at < payload.len() => payload[at] ^= 1 << (byte & 7),
        _ if at < payload.len() => payload[at] = byte,
        _ => payload.push(byte),
    }
}

/// Appends fields until a byte says stop. A field is selected by its index in the list, so every byte selects one.
fn grow(message: &MessageDescriptor, choices: &mut Choices<'_>, depth: usize, out: &mut Vec<u8>) {
    let mut fields: Vec<(u32, Kind, bool, bool)> =
        message.fields().map(|field| (field.number(), field.kind(), field.is_list(), field.is_group())).collect();
    fields.extend(message.extensions().map(|field| (field.number(), field.kind(), field.is_list(), field.is_group())));
    for _ in 0..FIELDS {
        let what = choices.byte();
        if what == 0 || choices.is_empty() || depth > DEPTH {
            return;
        }
        if what >= 0xf8 || fields.is_empty() {
            odd(what, choices, out);
            continue;
        }
        let (number, kind, is_list, is_group) = &fields[usize::from(what - 1) % fields.len()];
        let number = u64::from(*number);
        match kind {
            Kind::Message(inner) if *is_group => {
                encode_varint(number << 3 | 3, out);
                grow(inner, choices, depth + 1, out);
                encode_varint(number << 3 | 4, out);
            }
            Kind::Message(inner) => {
                let mut bytes = Vec::new();
                grow(inner, choices, depth + 1, &mut bytes);
                delimited(number, &bytes, out);
            }
            kind if *is_list && wire(kind) != 2 && choices.byte() & 1 == 1 => {
                let mut bytes = Vec::new();
                for _ in 0..choices.below(5) {
                    scalar(kind, choices, &mut bytes);
                }
                delimited(number, &bytes, out);
            }
            kind => {
                encode_varint(number << 3 | wire(kind), out);
                scalar(kind, choices, out);
            }
        }
    }
}

/// Appends what no writer of this schema writes: unknown fields and groups, tags with another wire type, random bytes.
fn odd(what: u8, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let some = choices.byte();
    let number = u64::from(some) + 1;
    match what & 7 {
        0 => {
            encode_varint(number << 3, out);
            integer(choices, out);
        }
        1 => delimited(number * 1000, choices.take(usize::from(some % 8)), out),
        2 => encode_varint(number << 3 | 3, out),
        3 => encode_varint(number << 3 | 4, out),
        4 => {
            for _ in 0..number % 120 {
                encode_varint(777 << 3 | 3, out);
            }
            for _ in 0..number % 120 {
                encode_varint(777 << 3 | 4, out);
            }
        }
        5 => encode_varint(number << 3 | u64::from(choices.byte() & 7), out),
        6 => out.extend(choices.take(usize::from(some % 16))),
        _ => {
            // This is an overlong tag.
            out.extend([(number << 3).to_le_bytes()[0] & 0x78 | 0x80, 0x80, 0]);
            integer(choices, out);
        }
    }
}

fn scalar(kind: &Kind, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => fixed::<8>(kind, choices, out),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => fixed::<4>(kind, choices, out),
        Kind::String | Kind::Bytes | Kind::Message(_) => {
            let how = choices.byte();
            let bytes = choices.take(usize::from(how & 15));
            // Most bytes become letters, so that most strings are valid.
            let letters: Vec<u8> = bytes.iter().map(|byte| b'a' + byte % 4).collect();
            let bytes = if how < 0xc0 && *kind == Kind::String { &letters } else { bytes };
            encode_varint(bytes.len() as u64, out);
            out.extend(bytes);
        }
        Kind::Enum(names) if choices.byte() & 7 != 7 => {
            let numbers: Vec<i32> = names.values().map(|value| value.number()).collect();
            encode_varint(i64::from(*choices.of(&numbers)).cast_unsigned(), out);
        }
        _ => integer(choices, out),
    }
}

/// Appends an integer. Most are small, because rules and enums are about small numbers.
fn integer(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let how = choices.byte();
    match how & 7 {
        0..=4 => encode_varint(u64::from(how >> 3), out),
        5 => {
            let mut number = [0; 8];
            for (place, byte) in number.iter_mut().zip(choices.take(8)) {
                *place = *byte;
            }
            encode_varint(u64::from_le_bytes(number), out);
        }
        6 => encode_varint((-i64::from(how >> 3) - 1).cast_unsigned(), out),
        // This is an overlong integer.
        _ => out.extend([how >> 3 | 0x80, 0x80, 0]),
    }
}

fn fixed<const N: usize>(kind: &Kind, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let how = choices.byte();
    let small = f32::from(how >> 4) / 2.0 - 1.0;
    let double = [f64::from(small), -0.0, f64::NAN, f64::NEG_INFINITY][usize::from(how >> 2 & 3)];
    let single = [small, -0.0, f32::NAN, f32::INFINITY][usize::from(how >> 2 & 3)];
    match (how & 3, kind) {
        (0, _) => {
            let bytes = choices.take(N);
            out.extend(bytes);
            out.extend(std::iter::repeat_n(0, N - bytes.len()));
        }
        (_, Kind::Double) => out.extend(double.to_le_bytes()),
        (_, Kind::Float) => out.extend(single.to_le_bytes()),
        _ => {
            out.push(how >> 2);
            out.extend([0; N].iter().skip(1));
        }
    }
}

fn wire(kind: &Kind) -> u64 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
        Kind::String | Kind::Bytes | Kind::Message(_) => 2,
        _ => 0,
    }
}

fn delimited(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(number << 3 | 2, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}
