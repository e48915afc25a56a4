//! The standard rules of single values, compiled so that no lookup is left.
//!
//! [`Test::holds`] defines what a rule means. The evaluator of whole messages calls it; the walk over the wire bytes
//! uses the form that `typed` derives from the tests, and tests compare the two.

use std::cmp::Ordering;

use bstr::ByteSlice as _;
use regex::Regex;

use super::formats::Format;
use super::listed::Listed;
use crate::schema::EnumTable;
use crate::{Text, Value};

/// A value as the rules see it: CEL's types.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(&'a [u8]),
    /// A Timestamp since the epoch, or a Duration, in nanoseconds.
    Time(i128),
}

impl<'a> Subject<'a> {
    /// Converts a value; returns `None` for a value that is not a single one.
    #[inline(always)]
    pub(crate) fn of(value: Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(value),
            Value::I32(value) | Value::Enum(value) => Self::Int(i64::from(value)),
            Value::I64(value) => Self::Int(value),
            Value::U32(value) => Self::Uint(u64::from(value)),
            Value::U64(value) => Self::Uint(value),
            Value::F32(value) => Self::Double(f64::from(value)),
            Value::F64(value) => Self::Double(value),
            Value::Str(value) => Self::Text(value),
            Value::Bytes(value) => Self::Bytes(value),
            Value::Absent | Value::Default | Value::Message(_) | Value::Split(_) | Value::List(_) | Value::Map(_) => {
                return None;
            }
        })
    }

    /// Returns whether this is the type's zero. Minus zero is not: Protobuf sends it.
    #[inline(always)]
    pub(crate) fn is_zero(self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Int(value) => value == 0,
            Self::Uint(value) => value == 0,
            Self::Double(value) => value.to_bits() == 0,
            Self::Text(value) => value.is_empty(),
            Self::Bytes(value) => value.is_empty(),
            Self::Time(_) => false,
        }
    }
}

/// One comparison.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Bool(bool),
    Int(Bound<i64>),
    Uint(Bound<u64>),
    Double(Bound<f64>),
    Finite,
    Time(Bound<i128>),
    Now(Now),
    Text(TextTest),
    Bytes(BytesTest),
    Defined(EnumTable),
    /// The number of a list's items or a map's pairs.
    Count {
        min: u64,
        max: u64,
    },
    /// No two items of a list are equal.
    Unique,
    AnyUrl {
        listed: Box<[String]>,
        allowed: bool,
    },
    Mask(MaskTest),
}

/// A number's or a time's bounds.
#[derive(Debug, Clone)]
pub(crate) enum Bound<T> {
    Equal(T),
    Range(Range<T>),
    In(Box<[T]>),
    NotIn(Box<[T]>),
}

/// A value between two limits, or, if they are in reverse order, outside of them.
#[derive(Debug, Clone)]
pub(crate) struct Range<T> {
    /// The limit, and whether it is included.
    pub low: Option<(T, bool)>,
    pub high: Option<(T, bool)>,
    pub outside: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Now {
    Before,
    After,
    /// The time may differ from now by at most this many nanoseconds.
    Within(i128),
}

#[derive(Debug, Clone)]
pub(crate) enum TextTest {
    Equal(Box<str>),
    /// The length in characters.
    Len {
        min: u64,
        max: u64,
    },
    /// The length in bytes of UTF-8.
    Size {
        min: u64,
        max: u64,
    },
    Pattern(Regex),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    NotContains(Box<str>),
    In(Listed),
    NotIn(Listed),
    Format(Format),
    NotEmpty,
}

#[derive(Debug, Clone)]
pub(crate) enum BytesTest {
    Equal(Box<[u8]>),
    Size {
        min: u64,
        max: u64,
    },
    /// Matches the bytes as text. Bytes that are not UTF-8 cannot be judged.
    Pattern(Regex),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    In(Box<[Vec<u8>]>),
    NotIn(Box<[Vec<u8>]>),
    /// The allowed sizes. Another rule handles the empty value.
    Sizes(&'static [usize]),
    NotEmpty,
}

/// The paths of a field mask.
#[derive(Debug, Clone)]
pub(crate) enum MaskTest {
    Equal(Box<[String]>),
    In(Box<[String]>),
    NotIn(Box<[String]>),
}

/// The reason why a rule has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    NotUtf8,
    NoClock,
}

impl Unknown {
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NotUtf8 => "the bytes are not UTF-8, so the pattern cannot be applied to them",
            Self::NoClock => "the rule compares with the current time, but the caller passed none",
        }
    }
}

impl<T: PartialOrd> Bound<T> {
    // Written so that NaN, which compares false with everything, is outside of every range and in no list.
    #[inline]
    fn holds(&self, value: &T) -> bool {
        match self {
            Self::Equal(wanted) => value == wanted,
            Self::In(listed) => listed.contains(value),
            Self::NotIn(listed) => !listed.contains(value),
            Self::Range(range) => range.contains(value),
        }
    }
}

impl<T: PartialOrd> Range<T> {
    #[inline]
    fn contains(&self, value: &T) -> bool {
        let limit = |limit: &Option<(T, bool)>, wanted: Ordering| {
            limit.as_ref().map(|(limit, inclusive)| match value.partial_cmp(limit) {
                Some(Ordering::Equal) => *inclusive,
                order => order == Some(wanted),
            })
        };
        let (low, high) = (limit(&self.low, Ordering::Greater), limit(&self.high, Ordering::Less));
        if self.outside { low == Some(true) || high == Some(true) } else { low != Some(false) && high != Some(false) }
    }
}

impl Test {
    /// Returns whether the value passes. `now` is in nanoseconds since the epoch.
    pub(super) fn holds(&self, subject: Subject<'_>, now: Option<i128>) -> Result<bool, Unknown> {
        Ok(match (self, subject) {
            (Self::Text(test), Subject::Text(text)) => test.holds(text),
            (Self::Int(bound), Subject::Int(value)) => bound.holds(&value),
            (Self::Defined(table), Subject::Int(value)) => {
                i32::try_from(value).is_ok_and(|value| table.contains(value))
            }
            (Self::Uint(bound), Subject::Uint(value)) => bound.holds(&value),
            (Self::Double(bound), Subject::Double(value)) => bound.holds(&value),
            (Self::Finite, Subject::Double(value)) => value.is_finite(),
            (Self::Bool(wanted), Subject::Bool(value)) => value == *wanted,
            (Self::Time(bound), Subject::Time(value)) => bound.holds(&value),
            (Self::Now(relation), Subject::Time(value)) => {
                let now = now.ok_or(Unknown::NoClock)?;
                match relation {
                    Now::Before => value <= now,
                    Now::After => value >= now,
                    Now::Within(distance) => (now - distance..=now + distance).contains(&value),
                }
            }
            (Self::Bytes(test), Subject::Bytes(bytes)) => test.holds(bytes)?,
            // Compilation has matched every rule with its field's type.
            _ => true,
        })
    }

    pub(super) fn needs_clock(&self) -> bool {
        matches!(self, Self::Now(_))
    }
}

fn within(len: usize, min: u64, max: u64) -> bool {
    u64::try_from(len).is_ok_and(|len| (min..=max).contains(&len))
}

impl TextTest {
    #[inline]
    pub(super) fn holds(&self, text: Text<'_>) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Equal(wanted) => bytes == wanted.as_bytes(),
            Self::Len { min, max } => within(text.chars(), *min, *max),
            Self::Size { min, max } => within(bytes.len(), *min, *max),
            Self::Pattern(pattern) => pattern.is_match(text.as_str()),
            Self::Prefix(prefix) => bytes.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => bytes.ends_with(suffix.as_bytes()),
            Self::Contains(part) => bytes.contains_str(&**part),
            Self::NotContains(part) => !bytes.contains_str(&**part),
            Self::In(listed) => listed.contains(bytes),
            Self::NotIn(listed) => !listed.contains(bytes),
            // Each format that rejects empty text has a separate rule for it.
            Self::Format(format) => text.is_empty() || format.matches(text),
            Self::NotEmpty => !text.is_empty(),
        }
    }
}

impl BytesTest {
    fn holds(&self, bytes: &[u8]) -> Result<bool, Unknown> {
        Ok(match self {
            Self::Equal(wanted) => bytes == &**wanted,
            Self::Size { min, max } => within(bytes.len(), *min, *max),
            Self::Pattern(pattern) => pattern.is_match(std::str::from_utf8(bytes).map_err(|_| Unknown::NotUtf8)?),
            Self::Prefix(prefix) => bytes.starts_with(prefix),
            Self::Suffix(suffix) => bytes.ends_with(suffix),
            Self::Contains(part) => contains(bytes, part),
            Self::In(listed) => listed.iter().any(|one| one == bytes),
            Self::NotIn(listed) => !listed.iter().any(|one| one == bytes),
            Self::Sizes(sizes) => bytes.is_empty() || sizes.contains(&bytes.len()),
            Self::NotEmpty => !bytes.is_empty(),
        })
    }
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

impl MaskTest {
    pub(super) fn holds(&self, paths: &[&str]) -> bool {
        let covers = |listed: &[String], path: &str| {
            listed
                .iter()
                .any(|one| path.strip_prefix(one.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        };
        match self {
            Self::Equal(wanted) => wanted.iter().map(String::as_str).eq(paths.iter().copied()),
            Self::In(listed) => paths.iter().all(|path| covers(listed, path)),
            Self::NotIn(listed) => !paths.iter().any(|path| covers(listed, path)),
        }
    }
}
