//! Records as the lanes get them: one arena a batch, no object a record.

use std::ops::Range;

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use crate::position::{Offset, Partition};

/// Records of one lane, in the order they were polled; those of one partition are in offset order.
#[derive(Debug, Default)]
pub struct RecordBatch {
    arena: Vec<u8>,
    pub records: Vec<Record>,
    headers: Vec<HeaderRange>,
}

/// A record's coordinates, and where its bytes lie in the batch's arena.
#[derive(Debug, Clone)]
pub struct Record {
    pub partition: Partition,
    pub offset: Offset,
    /// Unix milliseconds, -1 for none.
    pub timestamp: i64,
    /// Which assignment of the partition this was fetched under; the lane ignores what an older one fetched.
    pub assignment: u64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

#[derive(Debug, Clone)]
struct HeaderRange {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

impl RecordBatch {
    /// Bytes held, for the bound on a batch.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.records.clear();
        self.headers.clear();
    }

    /// Copies a message in. librdkafka's own buffer is freed at once, so that its queue bounds hold.
    pub fn push(&mut self, message: &BorrowedMessage<'_>, assignment: u64) {
        let key = message.key().map(|bytes| put(&mut self.arena, bytes));
        let value = message.payload().map(|bytes| put(&mut self.arena, bytes));
        let first = self.headers.len();
        if let Some(headers) = message.headers() {
            for header in headers.iter() {
                let name = put(&mut self.arena, header.key.as_bytes());
                let value = header.value.map(|bytes| put(&mut self.arena, bytes));
                self.headers.push(HeaderRange { name, value });
            }
        }
        self.records.push(Record {
            partition: Partition(message.partition()),
            offset: Offset(message.offset()),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            assignment,
            key,
            value,
            headers: first..self.headers.len(),
        });
    }

    pub fn key(&self, record: &Record) -> Option<&[u8]> {
        record.key.clone().map(|range| &self.arena[range])
    }

    pub fn value(&self, record: &Record) -> Option<&[u8]> {
        record.value.clone().map(|range| &self.arena[range])
    }

    /// All headers of a record in their order, duplicates included.
    pub fn headers(&self, record: &Record) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers[record.headers.clone()].iter().map(|header| {
            // librdkafka gave the name as a string; the bytes have not changed since.
            let name = std::str::from_utf8(&self.arena[header.name.clone()]).unwrap_or_default();
            (name, header.value.clone().map(|range| &self.arena[range]))
        })
    }

    /// The last header of this name that has a value.
    pub fn header(&self, record: &Record, name: &str) -> Option<&[u8]> {
        self.headers[record.headers.clone()]
            .iter()
            .rev()
            .find(|header| &self.arena[header.name.clone()] == name.as_bytes())
            .and_then(|header| header.value.clone().map(|range| &self.arena[range]))
    }
}

fn put(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    start..arena.len()
}
