//! Host names, email addresses, and hosts with ports.

use super::{decimal, is_ip};

/// The longest host name in the Domain Name System's text form.
const HOSTNAME: usize = 253;
/// The longest label of a host name.
const LABEL: usize = 63;

/// Returns whether the text is a host name in RFC 1034's preferred form: labels of letters, digits and inner hyphens. A
/// final dot is allowed and does not count among the 253 characters. The last label has a non-digit, so that no IPv4
/// address is a host name.
pub(crate) fn is_hostname(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= HOSTNAME
        && name.split('.').all(is_label)
        && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_label(label: &str) -> bool {
    (1..=LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Returns whether the text is an email address as browsers accept it (by the WHATWG's definition, which allows neither
/// quotes nor comments).
pub(crate) fn is_email(text: &str) -> bool {
    let local = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    text.split_once('@')
        .is_some_and(|(name, domain)| !name.is_empty() && name.bytes().all(local) && domain.split('.').all(is_label))
}

/// Returns whether the text is `host:port`, where the host is a host name, an IPv4 address or an IPv6 address in
/// brackets.
pub(crate) fn is_host_and_port(text: &str, port_required: bool) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.rsplit_once(']') else { return false };
        return is_ip(address, Some(6))
            && match rest.strip_prefix(':') {
                Some(port) => is_port(port),
                None => rest.is_empty() && !port_required,
            };
    }
    let is_host = |host: &str| is_hostname(host) || is_ip(host, Some(4));
    match text.rsplit_once(':') {
        Some((host, port)) => is_host(host) && is_port(port),
        None => !port_required && is_host(text),
    }
}

fn is_port(text: &str) -> bool {
    decimal(text, u32::from(u16::MAX)).is_some()
}

#[cfg(test)]
mod tests {
    use super::is_hostname;

    #[test]
    fn a_dot_at_the_end_does_not_count() {
        let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(is_hostname(&longest) && is_hostname(&format!("{longest}.")));
        assert!(!is_hostname(&format!("{longest}d")) && !is_hostname(&format!("{longest}d.")));
        assert!(!is_hostname(&format!("{longest}..")) && !is_hostname(".") && !is_hostname(""));
    }
}
