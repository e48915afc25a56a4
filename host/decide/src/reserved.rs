//! Renames header names that only Tollgate may write.
//!
//! An input record may have headers with these names: a dead letter that was copied back, an output of another
//! pipeline, or a producer's own header. In Tollgate's output they would be mistaken for its own, so they are renamed
//! to `original.<name>`. Each name is kept once with its first value, so a record does not grow, however often it is
//! processed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::record::RawHeader;
use tollgate_config::limits;

const ORIGINAL: &[u8] = b"original.";

/// Returns whether only Tollgate may write this header.
pub fn is_reserved(name: &[u8]) -> bool {
    limits::RESERVED_HEADERS.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// Returns the maximum number of bytes that renaming adds for this header.
pub fn renaming_bytes(name: &[u8]) -> usize {
    if is_reserved(name) { ORIGINAL.len() } else { 0 }
}

/// A header of a record after renaming.
pub type Renamed<'a> = (Cow<'a, [u8]>, Option<&'a [u8]>);

/// Returns the headers of a record after renaming, or `None` if all are unchanged.
pub fn renamed<'a>(headers: impl Iterator<Item = RawHeader<'a>> + Clone) -> Option<Vec<Renamed<'a>>> {
    if !headers.clone().any(|(name, _)| is_reserved(name)) {
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut list = Vec::new();
    for (name, value) in headers {
        let bare = name.strip_prefix(ORIGINAL).unwrap_or(name);
        if !is_reserved(bare) {
            list.push((Cow::Borrowed(name), value));
        } else if seen.insert(bare) {
            list.push((Cow::Owned([ORIGINAL, bare].concat()), value));
        }
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(headers: &[RawHeader<'_>]) -> [Option<Vec<(String, String)>>; 2] {
        let shown = |list: &[Renamed<'_>]| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            list.iter().map(|(name, value)| (text(name), text(value.unwrap_or(b"null")))).collect()
        };
        let once = renamed(headers.iter().copied());
        let Some(list) = &once else { return [None, None] };
        // The dead letter's own headers are appended when it is written, and return with it.
        let back: Vec<RawHeader<'_>> = list
            .iter()
            .map(|(name, value)| (&**name, *value))
            .chain([(&b"tollgate.reason"[..], Some(&b"later"[..])), (b"tollgate.attempt", Some(b"2"))])
            .collect();
        [Some(shown(list)), renamed(back.iter().copied()).as_deref().map(shown)]
    }

    #[test]
    fn ours_are_kept_once_and_the_first_stays() {
        let headers: [RawHeader<'_>; 5] = [
            (b"trace", Some(b"a")),
            (b"tollgate.reason", Some(b"first")),
            (b"__connect.errors.stage", None),
            (b"tollgate.reason", Some(b"second")),
            (b"trace", Some(b"b")),
        ];
        let expected = [
            ("trace", "a"),
            ("original.tollgate.reason", "first"),
            ("original.__connect.errors.stage", "null"),
            ("trace", "b"),
        ];
        let [once, again] = twice(&headers);
        let owned: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(once.as_ref(), Some(&owned));
        let mut later = owned;
        later.push(("original.tollgate.attempt".to_owned(), "2".to_owned()));
        assert_eq!(again, Some(later), "a second round keeps the first round's reason");
    }

    #[test]
    fn transforms_are_held_to_the_same_names() {
        assert_eq!(limits::RESERVED_HEADERS, tollgate_sandbox::limits::HOST_HEADERS);
    }

    #[test]
    fn others_pass_unchanged() {
        for name in ["trace", "Tollgate.reason", "tollgate", "original.tollgate.reason", "__connect.other"] {
            assert_eq!(renamed([(name.as_bytes(), None)].into_iter()), None, "{name}");
        }
    }
}
