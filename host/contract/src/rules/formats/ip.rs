//! IP addresses and prefixes as text (RFC 791, RFC 4291, RFC 4007's zones).

use super::decimal;

/// Returns whether the text is an IP address of that version; `None` or 0 means any, another number none.
pub(crate) fn is_ip(text: &str, version: Option<i64>) -> bool {
    match version {
        None | Some(0) => ipv4(text).is_some() || ipv6_with_zone(text),
        Some(4) => ipv4(text).is_some(),
        Some(6) => ipv6_with_zone(text),
        Some(_) => false,
    }
}

/// Returns whether the text is an address with a prefix length. If `strict`, no bit after the prefix may be set.
pub(crate) fn is_prefix(text: &str, version: Option<i64>, strict: bool) -> bool {
    let v4 = || {
        let (address, length) = text.rsplit_once('/')?;
        Some((u128::from(ipv4(address)?), decimal(length, 32)?, 32))
    };
    let v6 = || {
        let (address, length) = text.rsplit_once('/')?;
        Some((ipv6(address)?, decimal(length, 128)?, 128))
    };
    let found = match version {
        None | Some(0) => v4().or_else(v6),
        Some(4) => v4(),
        Some(6) => v6(),
        Some(_) => None,
    };
    found.is_some_and(|(address, length, width): (u128, u32, u32)| {
        let rest = u128::MAX.checked_shr(128 - width + length).unwrap_or(0);
        !strict || address & rest == 0
    })
}

fn ipv4(text: &str) -> Option<u32> {
    let mut address = 0_u32;
    let mut parts = 0;
    for part in text.split('.') {
        address = address.checked_shl(8)? | decimal(part, 255)?;
        parts += 1;
        if parts > 4 {
            return None;
        }
    }
    (parts == 4).then_some(address)
}

fn ipv6_with_zone(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => ipv6(address).is_some() && !zone.is_empty() && !zone.contains('\0'),
        None => ipv6(text).is_some(),
    }
}

/// Parses an IPv6 address without a zone. The standard library accepts exactly what RFC 4291 describes.
pub(super) fn ipv6(text: &str) -> Option<u128> {
    text.parse::<std::net::Ipv6Addr>().ok().map(u128::from)
}
