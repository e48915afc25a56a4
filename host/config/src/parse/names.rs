//! The kinds of names in a pipeline, each with the rule of the system that uses the name.

use crate::limits;
use crate::model::{Secret, Start, TableName};
use crate::reader::{Complaint, nearest};
use std::net::{IpAddr, SocketAddr};

type Read<T> = Result<T, Complaint>;

/// Reads `pipeline:`, which is part of transactional ids, lock names and labels.
pub(super) fn pipeline(text: &str) -> Read<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > limits::PIPELINE_NAME || !text.bytes().all(fits) {
        let longest = limits::PIPELINE_NAME;
        return Err(Complaint::new(format!(
            "is not a pipeline name; it has 1 to {longest} letters, digits, ., _ and -"
        )));
    }
    Ok(text.to_owned())
}

/// Reads a topic name by Kafka's rule.
pub(super) fn topic(text: &str) -> Read<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good = !text.is_empty() && text.len() <= limits::TOPIC_NAME && text.bytes().all(fits);
    if !good || text == "." || text == ".." {
        let longest = limits::TOPIC_NAME;
        return Err(Complaint::new(format!(
            "is not a topic name; Kafka allows 1 to {longest} letters, digits, ., _ and -"
        )));
    }
    Ok(text.to_owned())
}

/// Reads `host:port`, separated by commas.
pub(super) fn brokers(text: &str) -> Read<String> {
    let fits = |broker: &str| {
        let (host, port) = broker.trim().rsplit_once(':')?;
        let plain = !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')));
        let known = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte));
        (plain && known && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(())
    };
    if text.split(',').all(|broker| fits(broker).is_some()) {
        Ok(text.split(',').map(str::trim).collect::<Vec<_>>().join(","))
    } else {
        Err(Complaint::new("is not a list of brokers; write host:port, separated by commas"))
    }
}

/// Reads `earliest`, `latest`, `committed` or a time: RFC 3339, or Unix milliseconds.
pub(super) fn start(text: &str) -> Read<Start> {
    /// September 2001 in milliseconds; a smaller value was probably meant in seconds.
    const LEAST_MILLIS: i64 = 1_000_000_000_000;
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        "committed" => return Ok(Start::Committed),
        _ => {}
    }
    if let Ok(millis) = text.parse::<i64>() {
        if millis < LEAST_MILLIS {
            return Err(Complaint::new("is too small for Unix milliseconds; write the time as 2026-01-31T12:00:00Z"));
        }
        return Ok(Start::Timestamp(millis));
    }
    // The parser also accepts dates without a time and other forms; a start needs a time and a zone.
    let timed = text.starts_with(|first: char| first.is_ascii_digit()) && text.contains(['T', 't']);
    if let Some(time) = timed.then(|| text.parse::<prost_types::Timestamp>().ok()).flatten() {
        return Ok(Start::Timestamp(time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000));
    }
    let mut complaint = Complaint::new("is none of earliest, latest, committed, a time such as 2026-01-31T12:00:00Z");
    complaint.nearest = nearest(text, ["earliest", "latest", "committed"].into_iter());
    Err(complaint)
}

/// Reads `auto_offset_reset`, the alias of `start` that Kafka clients use. `none` is refused, because a first start
/// needs a position.
pub(super) fn auto_offset_reset(text: &str) -> Read<Start> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => Err(Complaint {
            nearest: nearest(text, ["earliest", "latest"].into_iter()),
            ..Complaint::new("is neither earliest nor latest")
        }),
    }
}

/// Reads a message type such as `payments.v1.PaymentEvent`.
pub(super) fn message_type(text: &str) -> Read<String> {
    if dotted(text) {
        return Ok(text.to_owned());
    }
    let mut complaint = Complaint::new("is not the full name of a message type, such as payments.v1.PaymentEvent");
    complaint.nearest = text.strip_prefix('.').filter(|rest| dotted(rest)).map(str::to_owned);
    Err(complaint)
}

/// Reads a field's path such as `amount` or `payer.address.city`.
pub(super) fn field_path(text: &str) -> Read<String> {
    if dotted(text) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new("is not a field's path; write names with dots between, such as payer.address.city"))
}

fn dotted(text: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split('.').all(word)
}

/// Reads the name of an event type, which is part of headers and labels.
pub(super) fn event_type(text: &str) -> Read<String> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control();
    if text.is_empty() || text.len() > limits::EVENT_TYPE_NAME || !text.chars().all(fits) {
        let longest = limits::EVENT_TYPE_NAME;
        return Err(Complaint::new(format!("is not an event type's name; it has 1 to {longest} bytes and no blanks")));
    }
    Ok(text.to_owned())
}

/// Reads a header's name; Kafka allows any text.
pub(super) fn header(text: &str) -> Read<String> {
    if text.is_empty() || text.contains('\0') {
        return Err(Complaint::new("is not a header's name"));
    }
    Ok(text.to_owned())
}

/// Reads a route's name as declared by a component.
pub(super) fn route(text: &str) -> Read<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if text.is_empty() || !text.bytes().all(fits) {
        return Err(Complaint::new("is not a route's name; it has letters, digits, ., _ and -"));
    }
    Ok(text.to_owned())
}

/// Reads a column's name, exactly as in PostgreSQL: statements quote it.
pub(super) fn column(text: &str) -> Read<String> {
    identifier(text)?;
    Ok(text.to_owned())
}

/// Reads `table` or `schema.table`.
pub(super) fn table(text: &str) -> Read<TableName> {
    let (schema, name) = match text.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, text),
    };
    if name.contains('.') {
        return Err(Complaint::new("is not a table; write table or schema.table"));
    }
    for part in schema.into_iter().chain([name]) {
        identifier(part)?;
    }
    Ok(TableName { schema: schema.map(str::to_owned), name: name.to_owned() })
}

fn identifier(text: &str) -> Read<()> {
    if text.is_empty() || text.len() > limits::IDENTIFIER_BYTES {
        let longest = limits::IDENTIFIER_BYTES;
        return Err(Complaint::new(format!("is not a PostgreSQL name; it has 1 to {longest} bytes")));
    }
    if text.contains(|c: char| c == '"' || c.is_control()) {
        return Err(Complaint::new("contains a quotation mark; write the name without quotes, as \\d shows it"));
    }
    Ok(())
}

/// Reads a PostgreSQL URL. It may contain a password, so no error shows it.
pub(super) fn postgres_url(text: &str) -> Read<Secret> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
        return Err(Complaint::hidden(
            "is not a URL of the form postgres://user:password@host:5432/database?sslmode=…",
        ));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Reads the `host:port` to listen on.
pub(super) fn listen(text: &str) -> Read<String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match text.strip_prefix("localhost:").map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err(Complaint::new("is not an address to listen on; write 127.0.0.1:8080, [::1]:8080, or off")),
    }
}

/// Reads a host name as in a request's `Host` header, without a port.
pub(super) fn host(text: &str) -> Read<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || !text.chars().all(legal) {
        return Err(Complaint::new("is not a host's name; write the name alone, without a scheme and a port"));
    }
    Ok(text.to_ascii_lowercase())
}

/// Returns whether only this machine can reach the address.
pub(super) fn is_loopback(listen: &str) -> bool {
    match listen.parse::<SocketAddr>() {
        Ok(address) => match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        },
        Err(_) => listen.starts_with("localhost:"),
    }
}
