//! The wire format's primitives: varints, tags, fixed widths, lengths, and skipping unknown fields.

use prost::encoding::encode_varint;

use crate::rejection::{Fault, ReasonCode};

/// The largest field number that Protobuf allows.
pub(crate) const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;

/// The maximum length of a tag: 32 bits, seven per byte. A longer one pads the same number with zeros, which no writer
/// does.
const MAX_TAG: usize = 5;

/// The wire types, as the low three bits of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

impl WireType {
    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Varint),
            1 => Some(Self::Fixed64),
            2 => Some(Self::Delimited),
            3 => Some(Self::StartGroup),
            4 => Some(Self::EndGroup),
            5 => Some(Self::Fixed32),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Varint => "varint",
            Self::Fixed64 => "64-bit",
            Self::Delimited => "length-delimited",
            Self::StartGroup => "group",
            Self::EndGroup => "end of group",
            Self::Fixed32 => "32-bit",
        }
    }
}

/// Bytes that no Protobuf parser accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    VarintTruncated,
    VarintTooLong,
    FixedTruncated { need: usize, have: usize },
    LengthBeyondEnd { need: u64, have: usize },
    FieldNumber(u64),
    TagTooLong(usize),
    WireType { number: u32, bits: u8 },
    EndWithoutStart(u32),
    EndMismatch { open: u32, end: u32 },
    GroupTruncated(u32),
    GroupsTooDeep,
}

impl From<Malformed> for Box<Fault> {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        let code = match malformed {
            Malformed::GroupsTooDeep => ReasonCode::RecursionLimit,
            Malformed::VarintTruncated
            | Malformed::VarintTooLong
            | Malformed::FixedTruncated { .. }
            | Malformed::LengthBeyondEnd { .. }
            | Malformed::FieldNumber(_)
            | Malformed::TagTooLong(_)
            | Malformed::WireType { .. }
            | Malformed::EndWithoutStart(_)
            | Malformed::EndMismatch { .. }
            | Malformed::GroupTruncated(_) => ReasonCode::Undecodable,
        };
        Fault::new(code, malformed.to_string())
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::VarintTruncated => f.write_str("the bytes end inside a varint"),
            Self::VarintTooLong => f.write_str("a varint is longer than ten bytes or does not fit 64 bits"),
            Self::FixedTruncated { need, have } => {
                write!(f, "the bytes end inside a fixed-width value: {need} needed, {have} left")
            }
            Self::LengthBeyondEnd { need, have } => write!(f, "a length of {need} bytes is announced, {have} are left"),
            Self::FieldNumber(number) => write!(f, "field number {number} is outside 1 to {MAX_FIELD_NUMBER}"),
            Self::TagTooLong(length) => {
                write!(f, "a field's tag has {length} bytes, but Protobuf writes at most {MAX_TAG}")
            }
            Self::WireType { number, bits } => {
                write!(f, "field number {number} has wire type {bits}, which does not exist")
            }
            Self::EndWithoutStart(number) => write!(f, "group {number} ends but was never opened"),
            Self::EndMismatch { open, end } => write!(f, "group {open} is closed by the end tag of group {end}"),
            Self::GroupTruncated(number) => write!(f, "the bytes end inside group {number}"),
            Self::GroupsTooDeep => f.write_str("groups of unknown fields nest deeper than the recursion limit"),
        }
    }
}

/// Appends a tag.
pub(crate) fn put_tag(number: u32, wire: WireType, out: &mut Vec<u8>) {
    encode_varint(u64::from(number) << 3 | wire as u64, out);
}

/// A position in borrowed bytes.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// Skips one byte that [`Cursor::peek`] has returned.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.position += 1;
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.position >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.position) {
            Some(&byte) if byte < 0x80 => {
                self.position += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    /// Reads varints of up to eight bytes, such as a time or an id. All bytes are decoded at once, because the length
    /// varies from value to value.
    #[inline(always)]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let word = rest.first_chunk::<8>().map_or(HIGH, |chunk| u64::from_le_bytes(*chunk));
        // The high bit of each byte that ends a varint.
        let ends = !word & HIGH;
        if ends == 0 {
            return self.any_varint();
        }
        self.position += ends.trailing_zeros() as usize / 8 + 1;
        // Keeps the bytes up to the first end, then compacts the groups of seven bits pairwise.
        let word = word & (ends ^ (ends - 1)) & !HIGH;
        let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
        let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
        Ok(word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4)
    }

    /// Reads varints of any length. Accepts overlong forms, as official parsers do, and rejects values beyond 64 bits,
    /// as Go and Rust do (Java drops the excess).
    #[inline(never)]
    fn any_varint(&mut self) -> Result<u64, Malformed> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let mut value = 0;
        for (index, &byte) in rest.iter().take(10).enumerate() {
            if index == 9 && byte > 1 {
                return Err(Malformed::VarintTooLong);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.position += index + 1;
                return Ok(value);
            }
        }
        Err(Malformed::VarintTruncated)
    }

    /// A tag's field number and wire type.
    pub(crate) fn tag(&mut self) -> Result<(u32, WireType), Malformed> {
        let start = self.position;
        let tag = self.varint()?;
        let length = self.position - start;
        if length > MAX_TAG {
            return Err(Malformed::TagTooLong(length));
        }
        let number = tag >> 3;
        if number == 0 || number > MAX_FIELD_NUMBER {
            return Err(Malformed::FieldNumber(number));
        }
        // Both fit: the number is below 2^29 and the bits are three.
        let number = u32::try_from(number).map_err(|_| Malformed::FieldNumber(number))?;
        let bits = (tag & 7).to_le_bytes()[0];
        WireType::from_bits(bits).map(|wire| (number, wire)).ok_or(Malformed::WireType { number, bits })
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        match rest.first_chunk::<N>() {
            Some(chunk) => {
                self.position += N;
                Ok(*chunk)
            }
            None => Err(Malformed::FixedTruncated { need: N, have: rest.len() }),
        }
    }

    #[inline]
    pub(crate) fn fixed32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Malformed> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// Reads a length and that many bytes.
    #[inline]
    pub(crate) fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let need = self.varint()?;
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        match usize::try_from(need).ok().and_then(|length| rest.get(..length)) {
            Some(inner) => {
                self.position += inner.len();
                Ok(inner)
            }
            None => Err(Malformed::LengthBeyondEnd { need, have: rest.len() }),
        }
    }

    /// Skips the value of an unknown field. `levels` is the number of groups that may still nest.
    pub(crate) fn skip(&mut self, number: u32, wire: WireType, levels: u32) -> Result<(), Malformed> {
        match wire {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed64().map(drop),
            WireType::Fixed32 => self.fixed32().map(drop),
            WireType::Delimited => self.delimited().map(drop),
            WireType::EndGroup => Err(Malformed::EndWithoutStart(number)),
            WireType::StartGroup => self.skip_group(number, levels),
        }
    }

    fn skip_group(&mut self, open: u32, levels: u32) -> Result<(), Malformed> {
        let Some(levels) = levels.checked_sub(1) else { return Err(Malformed::GroupsTooDeep) };
        while !self.is_empty() {
            match self.tag()? {
                (end, WireType::EndGroup) if end == open => return Ok(()),
                (end, WireType::EndGroup) => return Err(Malformed::EndMismatch { open, end }),
                (number, wire) => self.skip(number, wire, levels)?,
            }
        }
        Err(Malformed::GroupTruncated(open))
    }
}

/// Returns the low 32 bits: Protobuf's int32, enum and uint32 drop the rest of a longer varint.
#[inline]
pub(crate) fn truncate(varint: u64) -> u32 {
    let [a, b, c, d, ..] = varint.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Malformed, encode_varint};

    proptest::proptest! {
        #[test]
        fn varints_are_read_whatever_follows(value: u64, bits in 0_u32..64, padding in 0_usize..10, behind: [u8; 9], kept in 0_usize..10) {
            let value = value >> bits;
            let mut bytes = Vec::new();
            encode_varint(value, &mut bytes);
            // Overlong, as far as ten bytes allow.
            let padding = padding.min(10 - bytes.len());
            if padding > 0 {
                *bytes.last_mut().unwrap() |= 0x80;
                bytes.resize(bytes.len() + padding - 1, 0x80);
                bytes.push(0);
            }
            let length = bytes.len();
            for cut in 0..length {
                proptest::prop_assert_eq!(Cursor::new(&bytes[..cut]).varint(), Err(Malformed::VarintTruncated));
            }
            bytes.extend_from_slice(&behind[..kept.min(9)]);
            let mut cursor = Cursor::new(&bytes);
            proptest::prop_assert_eq!((cursor.varint(), cursor.position()), (Ok(value), length));
        }
    }
}
