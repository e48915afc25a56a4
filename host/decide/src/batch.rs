//! Stores the records that lanes receive, in one arena per batch and without a heap object per record.

use std::ops::Range;

use crate::record::RawHeader;
use tollgate_protocol::position::{Offset, Partition};

/// The number of header names that are searched before a name is stored again. Producers use few names, and always the
/// same ones.
const NAMES: usize = 32;

/// Records of one lane, in the order of polling; those of one partition are in offset order.
#[derive(Debug, Default)]
pub struct RecordBatch {
    arena: Vec<u8>,
    pub records: Vec<Record>,
    headers: Vec<Header>,
    /// The header names, mostly without duplicates. Lanes look headers up by name, and these few cache lines stay hot.
    names: Vec<Box<[u8]>>,
    /// The bytes of memory retained from earlier contents.
    kept: usize,
}

/// The records of an attempt.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub records: &'a RecordBatch,
    /// The indexes of the records to decide, in batch order.
    pub work: &'a [usize],
    /// Unix milliseconds: the value of `now` in rules.
    pub time: i64,
}

/// A record's coordinates, and the positions of its parts in the batch's arena.
#[derive(Debug, Clone)]
pub struct Record {
    pub partition: Partition,
    pub offset: Offset,
    /// The timestamp in Unix milliseconds, or -1 for none.
    pub timestamp: i64,
    /// The assignment of the partition under which this was fetched. The lane ignores records of older assignments.
    pub assignment: u64,
    key: Option<Span>,
    value: Option<Span>,
    headers: Span,
}

/// A Kafka record without its headers.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'m> {
    pub partition: Partition,
    pub offset: Offset,
    /// The timestamp in Unix milliseconds, or -1 for none.
    pub timestamp: i64,
    pub key: Option<&'m [u8]>,
    pub value: Option<&'m [u8]>,
}

/// A range in the arena. 32 bits are enough, because `limits` keeps a batch far below 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone)]
struct Header {
    /// The index in the batch's names.
    name: u32,
    value: Option<Span>,
}

impl RecordBatch {
    /// Returns the number of bytes in the batch, for its limit.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the memory in use, in bytes. Memory that was allocated but never written is not counted.
    pub fn memory(&self) -> usize {
        self.kept.max(self.used())
    }

    fn used(&self) -> usize {
        self.arena.len() + size_of_val(&*self.records) + size_of_val(&*self.headers)
    }

    /// Frees memory that the contents do not need.
    pub fn shrink(&mut self) {
        if self.kept > self.used() {
            self.arena.shrink_to_fit();
            self.records.shrink_to_fit();
            self.headers.shrink_to_fit();
            self.kept = 0;
        }
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.kept = self.memory();
        self.arena.clear();
        self.records.clear();
        self.headers.clear();
        self.names.clear();
    }

    /// Copies a record in.
    pub fn push<'m>(&mut self, raw: &Raw<'m>, headers: impl Iterator<Item = RawHeader<'m>>, assignment: u64) {
        let Raw { partition, offset, timestamp, .. } = *raw;
        let key = raw.key.map(|bytes| put(&mut self.arena, bytes));
        let value = raw.value.map(|bytes| put(&mut self.arena, bytes));
        let first = self.headers.len();
        for (position, (name, value)) in headers.enumerate() {
            let name = self.name(name, position);
            let value = value.map(|bytes| put(&mut self.arena, bytes));
            self.headers.push(Header { name, value });
        }
        let headers = Span::of(first, self.headers.len());
        self.records.push(Record { partition, offset, timestamp, assignment, key, value, headers });
    }

    /// Returns the index of a header's name. Most records have the same headers in the same order, so the first name
    /// seen at this position is tried first.
    fn name(&mut self, name: &[u8], position: usize) -> u32 {
        let known = |index: &usize| self.names.get(*index).is_some_and(|known| **known == *name);
        let index = Some(position).filter(known).or_else(|| (0..NAMES).find(known)).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        narrow(index)
    }

    pub fn key(&self, record: &Record) -> Option<&[u8]> {
        record.key.map(|span| &self.arena[span.range()])
    }

    pub fn value(&self, record: &Record) -> Option<&[u8]> {
        record.value.map(|span| &self.arena[span.range()])
    }

    /// Iterates over all headers of a record in order, including duplicates. A name need not be UTF-8.
    pub fn headers(&self, record: &Record) -> impl Iterator<Item = RawHeader<'_>> + Clone {
        self.headers[record.headers.range()].iter().map(|header| (self.name_of(header), self.value_of(header)))
    }

    /// Returns the last header of this name that has a value.
    pub fn header(&self, record: &Record, name: &str) -> Option<&[u8]> {
        let headers = &self.headers[record.headers.range()];
        headers
            .iter()
            .rev()
            .find(|header| self.name_of(header) == name.as_bytes())
            .and_then(|header| self.value_of(header))
    }

    fn name_of(&self, header: &Header) -> &[u8] {
        &self.names[wide(header.name)]
    }

    fn value_of(&self, header: &Header) -> Option<&[u8]> {
        header.value.map(|span| &self.arena[span.range()])
    }
}

impl Span {
    fn of(start: usize, end: usize) -> Span {
        Span { start: narrow(start), end: narrow(end) }
    }

    fn range(self) -> Range<usize> {
        wide(self.start)..wide(self.end)
    }
}

fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn wide(position: u32) -> usize {
    // A usize has at least 32 bits on every target that librdkafka runs on.
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn put(arena: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    Span::of(start, arena.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_batch_has_its_memory_until_it_is_given_back() {
        let mut batch = RecordBatch { arena: vec![0; 1_000], ..RecordBatch::default() };
        assert_eq!(batch.memory(), 1_000);
        batch.clear();
        assert_eq!((batch.bytes(), batch.memory()), (0, 1_000));
        batch.arena.extend([0; 10]);
        batch.shrink();
        assert_eq!((batch.memory(), batch.arena.capacity()), (10, 10));
        batch.arena.extend([0; 2_000]);
        assert_eq!(batch.memory(), 2_010);
    }

    #[test]
    fn names_are_noted_once_until_there_are_too_many() {
        let mut batch = RecordBatch::default();
        let names: Vec<String> = (0..2 * NAMES).map(|n| format!("header-{n}")).collect();
        for _ in 0..3 {
            for (position, name) in names.iter().enumerate() {
                let number = batch.name(name.as_bytes(), position);
                assert_eq!(&*batch.names[wide(number)], name.as_bytes());
            }
        }
        assert_eq!(batch.names.len(), names.len(), "the same headers in the same order");
        for name in names.iter().rev() {
            let number = batch.name(name.as_bytes(), 0);
            assert_eq!(&*batch.names[wide(number)], name.as_bytes());
        }
        assert_eq!(batch.names.len(), names.len() + NAMES, "what is not among the first is noted again");
        batch.clear();
        assert!(batch.names.is_empty());
    }
}
