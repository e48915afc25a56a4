//! The fields of the envelope that become headers of the event, in addition to its record's headers.

use std::ops::Range;

/// The headers of all events of a batch. [`Passed::clear`] keeps the memory for reuse.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    text: String,
    /// The index of the header's name, and the range of its value.
    headers: Vec<(usize, Range<usize>)>,
    /// The start of the current event's headers.
    begin: usize,
}

/// The headers of one event.
#[derive(Clone, Copy, Default)]
pub struct View<'a> {
    names: &'a [String],
    text: &'a str,
    headers: &'a [(usize, Range<usize>)],
}

impl Passed {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.headers.clear();
        self.begin = 0;
    }

    /// Begins the next event; headers of the previous one that were not taken are discarded.
    pub(crate) fn begin(&mut self) {
        self.headers.truncate(self.begin);
    }

    pub(crate) fn push(&mut self, name: usize, value: &str) {
        let start = self.text.len();
        self.text.push_str(value);
        self.headers.push((name, start..self.text.len()));
    }

    /// Keeps the current event's headers and returns their range, for [`Passed::of`].
    pub(crate) fn take(&mut self) -> Range<usize> {
        let taken = self.begin..self.headers.len();
        self.begin = taken.end;
        taken
    }

    /// Returns the headers of the current event.
    pub(crate) fn view<'a>(&'a self, names: &'a [String]) -> View<'a> {
        self.of(names, &(self.begin..self.headers.len()))
    }

    pub(crate) fn of<'a>(&'a self, names: &'a [String], place: &Range<usize>) -> View<'a> {
        View { names, text: &self.text, headers: &self.headers[place.clone()] }
    }
}

impl<'a> View<'a> {
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        self.iter().find(|(own, _)| own.as_bytes() == name.as_ref()).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let View { names, text, headers } = *self;
        headers.iter().map(move |(name, place)| (names[*name].as_str(), &text.as_bytes()[place.clone()]))
    }
}
