//! A record to produce, with its decided headers. It is not yet in a client's form.

use std::borrow::Cow;

use tollgate_config::limits;

/// A header's name and value; the value may be null.
pub type RawHeader<'m> = (&'m [u8], Option<&'m [u8]>);

/// A record to produce, without its headers.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    pub topic: &'a str,
    /// The partition, or `None` if the key's hash chooses it.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// A header that is not taken unchanged from its record.
pub type OwnHeader<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// An output's headers by origin, in this order: its source record's, its own, its source coordinates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Whether all of the record's headers come first.
    pub kept: bool,
    pub own: Vec<OwnHeader<'a>>,
    /// Whether `tollgate.source` and `tollgate.digest` come last.
    pub origin: bool,
}

impl<'a> Headers<'a> {
    pub fn push(&mut self, name: impl Into<Cow<'a, [u8]>>, value: Option<&'a [u8]>) {
        self.own.push((name.into(), value.map(Cow::Borrowed)));
    }

    pub fn text(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        let value = match value.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        self.own.push((Cow::Borrowed(name.as_bytes()), Some(value)));
    }

    /// Returns the size of its own headers in a record, in bytes.
    pub fn bytes(&self) -> usize {
        let one = |(name, value): &OwnHeader<'_>| header_bytes(name, value.as_deref());
        self.own.iter().map(one).sum()
    }
}

/// Returns the size of a header in a record, in bytes.
pub fn header_bytes(name: impl AsRef<[u8]>, value: Option<&[u8]>) -> usize {
    name.as_ref().len() + value.map_or(0, <[u8]>::len) + limits::HEADER_OVERHEAD
}
