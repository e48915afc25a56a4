//! The text formats that rules name: hosts, addresses, URIs and short identifiers.
//!
//! Each is parsed by hand along its grammar instead of with a regular expression: the grammars are small, a parser
//! takes nanoseconds, and the rules' CEL functions (`isIp`, `isUri` …) need the same parsers with arguments.

mod host;
mod ip;
mod uri;

use crate::Text;

pub(crate) use host::{is_email, is_host_and_port, is_hostname};
pub(crate) use ip::{is_ip, is_prefix};
pub(crate) use uri::{is_uri, is_uri_reference};

/// A well-known format of `string` rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Email,
    Hostname,
    /// Any version, or only version 4 or 6.
    Ip(Option<i64>),
    Uri,
    UriRef,
    /// A hostname or an IP address.
    Address,
    Uuid,
    /// A UUID without its hyphens.
    TrimmedUuid,
    Ulid,
    Prefix {
        version: Option<i64>,
        /// Whether the bits after the prefix must be zero.
        strict: bool,
    },
    HostAndPort,
    /// A Protobuf full name; `dot` says whether it starts with one.
    ProtobufName {
        dot: bool,
    },
    HeaderName {
        strict: bool,
    },
    HeaderValue {
        strict: bool,
    },
}

impl Format {
    #[inline]
    pub(super) fn matches(self, text: Text<'_>) -> bool {
        match self {
            Self::Uuid => is_uuid(text.as_bytes()),
            Self::TrimmedUuid => text.as_bytes().len() == 32 && text.as_bytes().iter().all(u8::is_ascii_hexdigit),
            other => other.matches_str(text.as_str()),
        }
    }

    fn matches_str(self, text: &str) -> bool {
        match self {
            Self::Email => is_email(text),
            Self::Hostname => is_hostname(text),
            Self::Ip(version) => is_ip(text, version),
            Self::Uri => is_uri(text),
            Self::UriRef => is_uri_reference(text),
            Self::Address => is_hostname(text) || is_ip(text, None),
            Self::Uuid | Self::TrimmedUuid => self.matches(text.into()),
            Self::Ulid => is_ulid(text),
            Self::Prefix { version, strict } => is_prefix(text, version, strict),
            Self::HostAndPort => is_host_and_port(text, true),
            Self::ProtobufName { dot } => is_protobuf_name(text, dot),
            Self::HeaderName { strict } => is_header_name(text, strict),
            Self::HeaderValue { strict } => is_header_value(text, strict),
        }
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; 36]>::try_from(bytes) else { return false };
    // Counted without an early exit in pieces of sixteen, which the compiler vectorizes; the last two overlap by
    // twelve.
    let digits = |piece: &[u8; 16]| piece.iter().map(|byte| u8::from(byte.is_ascii_hexdigit())).sum::<u8>();
    let (pieces, _) = bytes.as_chunks::<16>();
    let last = bytes.last_chunk::<16>().map_or(0, digits);
    let hyphens = [8, 13, 18, 23].iter().all(|at: &usize| bytes[*at] == b'-');
    hyphens && pieces.iter().map(digits).sum::<u8>() == 28 && last == 15
}

/// Returns whether the text is a ULID: 26 characters of Crockford's base 32, the first one below 8 so that they fit 128
/// bits.
fn is_ulid(text: &str) -> bool {
    let crockford =
        |byte: u8| byte.is_ascii_alphanumeric() && !matches!(byte.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U');
    text.len() == 26 && matches!(text.as_bytes().first(), Some(b'0'..=b'7')) && text.bytes().all(crockford)
}

fn is_protobuf_name(text: &str, dot: bool) -> bool {
    let identifier = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    };
    let name = if dot { text.strip_prefix('.') } else { Some(text) };
    name.is_some_and(|name| name.split('.').all(identifier))
}

fn is_header_name(text: &str, strict: bool) -> bool {
    if !strict {
        return !text.is_empty() && !text.contains(['\0', '\n', '\r']);
    }
    let name = text.strip_prefix(':').unwrap_or(text);
    // The comma belongs to the rule's own character range, `+-.`.
    let token = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#'..=b'\'' | b'*'..=b'.' | b'^'..=b'`' | b'|' | b'~')
    };
    !name.is_empty() && name.bytes().all(token)
}

fn is_header_value(text: &str, strict: bool) -> bool {
    let forbidden = |byte: u8| {
        if strict { matches!(byte, 0..=8 | 0x0a..=0x1f | 0x7f) } else { matches!(byte, 0 | b'\n' | b'\r') }
    };
    !text.bytes().any(forbidden)
}

/// Parses a decimal number without leading zeros that is at most `max`.
fn decimal(text: &str, max: u32) -> Option<u32> {
    let plain = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && digits).then(|| text.parse().ok()).flatten().filter(|number| *number <= max)
}
