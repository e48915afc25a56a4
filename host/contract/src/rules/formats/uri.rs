//! URIs and references by RFC 3986, zones in addresses by RFC 6874.

use super::ip::ipv6;

/// Returns whether the text is an absolute URI.
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    is_scheme(scheme) && tail(rest).is_some_and(|path| is_hierarchy(path, |_| true))
}

/// Returns whether the text is a URI or a relative reference.
pub(crate) fn is_uri_reference(text: &str) -> bool {
    // The first segment of a relative path must not contain a colon, or it would be parsed as a scheme.
    let no_scheme = |path: &str| path.split('/').next().is_none_or(|first| !first.contains(':'));
    is_uri(text) || tail(text).is_some_and(|path| is_hierarchy(path, no_scheme))
}

fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Checks fragment and query, and returns the text before them.
fn tail(text: &str) -> Option<&str> {
    let free = |byte| is_pchar(byte) || matches!(byte, b'/' | b'?');
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (consists_of(fragment, free) && consists_of(query, free)).then_some(path)
}

/// Checks an authority with its path, or a path; `rootless` judges a path that does not start with a slash.
fn is_hierarchy(text: &str, rootless: impl Fn(&str) -> bool) -> bool {
    let is_path = |path: &str| consists_of(path, |byte| is_pchar(byte) || byte == b'/');
    if let Some(rest) = text.strip_prefix("//") {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        return is_authority(authority) && is_path(path);
    }
    is_path(text) && (text.starts_with('/') || rootless(text))
}

fn is_authority(text: &str) -> bool {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", text),
    };
    consists_of(user, |byte| is_unreserved(byte) || is_delimiter(byte) || byte == b':') && is_host_with_port(host)
}

fn is_host_with_port(text: &str) -> bool {
    // The grammar limits neither its length nor its value.
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(literal, rest)| {
            is_literal(literal) && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    is_port(port) && consists_of(host, |byte| is_unreserved(byte) || is_delimiter(byte)) && decodes(host)
}

/// Checks the content of brackets: an IPv6 address, optionally with a zone, or an address of a future version.
fn is_literal(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('v') {
        return rest.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty()
                && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !address.is_empty()
                && address.bytes().all(|byte| is_unreserved(byte) || is_delimiter(byte) || byte == b':')
        });
    }
    match text.split_once("%25") {
        Some((address, zone)) => {
            ipv6(address).is_some() && !zone.is_empty() && consists_of(zone, is_unreserved) && decodes(zone)
        }
        None => ipv6(text).is_some(),
    }
}

/// Returns whether every byte is allowed or part of a percent-encoding.
fn consists_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fine = if byte == b'%' {
            (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit()))
        } else {
            allowed(byte)
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Returns whether the percent-encodings of a host decode to UTF-8 (RFC 3986, section 3.2.2).
fn decodes(host: &str) -> bool {
    let mut plain = Vec::with_capacity(host.len());
    let mut bytes = host.bytes();
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0);
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let value = digit(bytes.next()) << 4 | digit(bytes.next());
            plain.extend(u8::try_from(value));
        } else {
            plain.push(byte);
        }
    }
    std::str::from_utf8(&plain).is_ok()
}

fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte) || is_delimiter(byte) || matches!(byte, b':' | b'@')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}
