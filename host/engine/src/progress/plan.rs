//! The redo plan of a partition's last batch: every record that the batch produces to Kafka. The transaction that
//! writes the batch's rows stores it in the progress row. So the process that completes the batch after a crash
//! produces what was decided, even if transforms, contracts or configuration have changed since. Nothing is decided
//! twice.
//!
//! # Layout
//!
//! One byte, [`VERSION`], then one zstd frame with a checksum. CommitNumbers are unsigned LEB128 varints; texts and bytes are
//! prefixed with their length. The frame holds the first offset, the revision's digest, and a list of operations, each
//! for the offsets that follow those of the previous one. It ends with the offset where the batch ends, in eight
//! little-endian bytes:
//!
//! | operation | content | meaning |
//! |---|---|---|
//! | 0 | count | these offsets produce nothing |
//! | 1 | count, destination | each produces its record as it came, and says where it came from |
//! | 2 | count of letters, the letters | one offset and all that it produces |
//! | 3 | topic, 0 or partition + 1 | names the next destination, beginning with number 0 |
//!
//! A letter is its destination, a byte of flags, and whatever the flags do not imply: key, value, and headers prefixed
//! with their count. Parts of the source record are not stored but taken from the record, which the source topic still
//! has.

use std::borrow::Cow;
use std::ops::Range;

use prost::encoding::{decode_varint, encode_varint};

use crate::position::{NextOffset, Offset};
use tollgate_decide::record::{Headers, NewRecord};

/// The layout's version.
const VERSION: u8 = 1;

/// This level is fast, and still compresses the usual output of transforms to a fifth.
const LEVEL: i32 = 1;

/// The largest plan that may be held in memory, in bytes. A batch's limit is far below it.
const LARGEST: usize = 1 << 30;

const NOTHING: u8 = 0;
const PASSED: u8 = 1;
const LETTERS: u8 = 2;
const DESTINATION: u8 = 3;

const KEY_STORED: u8 = 1;
const KEY_NULL: u8 = 1 << 1;
const VALUE_STORED: u8 = 1 << 2;
const VALUE_NULL: u8 = 1 << 3;
/// The flag for a letter that begins with the record's own headers.
const KEPT: u8 = 1 << 4;
/// The flag for a letter that ends with the headers of source and digest.
const ORIGIN: u8 = 1 << 5;

/// A plan that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "it was written by a newer release (layout {0}, this one reads {VERSION}): start that release to finish its batch"
    )]
    Newer(u8),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it is for the offsets {lo} to {hi}, not for {outputs} to {rows}")]
    Elsewhere { lo: NextOffset, hi: NextOffset, outputs: NextOffset, rows: NextOffset },
}

/// The source record of a letter.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub offset: Offset,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Records what a partition's batch produces, as it is produced.
#[derive(Default)]
pub struct Writer {
    frame: Vec<u8>,
    destinations: Vec<(String, Option<i32>)>,
    /// Operations are written for the offsets below this.
    written: i64,
    /// A run of offsets that produce their records unchanged, and its destination.
    run: Option<(usize, Range<i64>)>,
    record: Record,
}

/// The letters of the current record.
#[derive(Default)]
struct Record {
    offset: i64,
    count: usize,
    /// The destination, as long as the record is only passed through.
    passed: Option<usize>,
    letters: Vec<u8>,
}

impl Writer {
    /// Begins an empty plan for a batch that starts at `lo` and is decided by the revision with this digest. It reuses
    /// the memory of the last plan.
    pub fn begin(&mut self, lo: NextOffset, digest: &str) {
        self.frame.clear();
        self.destinations.clear();
        self.written = lo.get();
        self.run = None;
        self.record.clear();
        encode_varint(lo.get().unsigned_abs(), &mut self.frame);
        bytes(&mut self.frame, digest.as_bytes());
    }

    /// Adds a letter. The letters of a record must be consecutive, and records must be in the order of their offsets.
    pub fn note(&mut self, source: Source<'_>, letter: &NewRecord<'_>, headers: &Headers<'_>) {
        if self.record.count > 0 && self.record.offset != source.offset.get() {
            self.end_record();
        }
        let destination = self.destination(letter);
        let passed = headers.own.is_empty()
            && headers.kept
            && headers.origin
            && letter.key == source.key
            && letter.value == source.value;
        let record = &mut self.record;
        record.offset = source.offset.get();
        record.count += 1;
        if passed && record.count == 1 {
            record.passed = Some(destination);
            return;
        }
        if let Some(before) = record.passed.take() {
            encode_varint(wide(before), &mut record.letters);
            record.letters.extend([KEPT | ORIGIN, 0]);
        }
        put(&mut record.letters, source, destination, letter, headers);
    }

    /// Returns the plan of the offsets below `hi`.
    ///
    /// # Errors
    /// Fails if zstd is out of memory.
    pub fn finish(&mut self, hi: NextOffset) -> std::io::Result<Vec<u8>> {
        if self.record.count > 0 {
            self.end_record();
        }
        self.end_run();
        // The range's end comes last: it is known only now, and a reader has the whole frame anyway.
        self.frame.extend(hi.get().to_le_bytes());
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        let mut plan = Vec::with_capacity(1 + zstd::zstd_safe::compress_bound(self.frame.len()));
        plan.push(VERSION);
        plan.extend(compressor.compress(&self.frame)?);
        Ok(plan)
    }

    fn end_record(&mut self) {
        let (offset, count) = (self.record.offset, self.record.count);
        match (self.record.passed, &mut self.run) {
            (Some(destination), Some((to, run))) if *to == destination && run.end == offset => run.end += 1,
            (Some(destination), _) => {
                self.end_run();
                self.run = Some((destination, offset..offset + 1));
            }
            (None, _) => {
                self.end_run();
                self.skip_to(offset);
                self.frame.push(LETTERS);
                encode_varint(wide(count), &mut self.frame);
                self.frame.extend(&self.record.letters);
                self.written = offset + 1;
            }
        }
        self.record.clear();
    }

    fn end_run(&mut self) {
        let Some((destination, run)) = self.run.take() else { return };
        self.skip_to(run.start);
        self.frame.push(PASSED);
        encode_varint(run.start.abs_diff(run.end), &mut self.frame);
        encode_varint(wide(destination), &mut self.frame);
        self.written = run.end;
    }

    /// Records that the offsets in between produce nothing.
    fn skip_to(&mut self, offset: i64) {
        if self.written < offset {
            self.frame.push(NOTHING);
            encode_varint(self.written.abs_diff(offset), &mut self.frame);
            self.written = offset;
        }
    }

    fn destination(&mut self, letter: &NewRecord<'_>) -> usize {
        let known =
            |(topic, partition): &(String, Option<i32>)| topic == letter.topic && *partition == letter.partition;
        if let Some(index) = self.destinations.iter().position(known) {
            return index;
        }
        // A name may come between the operations of a run, since the run is written only when it has ended.
        self.frame.push(DESTINATION);
        bytes(&mut self.frame, letter.topic.as_bytes());
        encode_varint(letter.partition.map_or(0, |partition| u64::from(partition.unsigned_abs()) + 1), &mut self.frame);
        self.destinations.push((letter.topic.to_owned(), letter.partition));
        self.destinations.len() - 1
    }
}

impl Record {
    fn clear(&mut self) {
        self.letters.clear();
        (self.count, self.passed) = (0, None);
    }
}

/// Writes a letter, without the parts that equal its source record.
fn put(out: &mut Vec<u8>, source: Source<'_>, destination: usize, letter: &NewRecord<'_>, headers: &Headers<'_>) {
    let part = |own: Option<&[u8]>, of: Option<&[u8]>, stored: u8, null: u8| match own {
        own if own == of => 0,
        None => null,
        Some(_) => stored,
    };
    let flags = part(letter.key, source.key, KEY_STORED, KEY_NULL)
        | part(letter.value, source.value, VALUE_STORED, VALUE_NULL)
        | if headers.kept { KEPT } else { 0 }
        | if headers.origin { ORIGIN } else { 0 };
    encode_varint(wide(destination), out);
    out.push(flags);
    for (own, stored) in [(letter.key, KEY_STORED), (letter.value, VALUE_STORED)] {
        if let Some(own) = own.filter(|_| flags & stored != 0) {
            bytes(out, own);
        }
    }
    encode_varint(wide(headers.own.len()), out);
    for (name, value) in &headers.own {
        bytes(out, name);
        match value.as_deref() {
            None => out.push(0),
            Some(value) => {
                encode_varint(wide(value.len()) + 1, out);
                out.extend(value);
            }
        }
    }
}

/// A decoded plan.
#[derive(Debug)]
pub struct Plan {
    frame: Vec<u8>,
    digest: Range<usize>,
    lo: NextOffset,
    hi: NextOffset,
    destinations: Vec<(Range<usize>, Option<i32>)>,
    /// The operations by the offset that follows each, ascending.
    operations: Vec<(i64, Operation)>,
}

#[derive(Debug)]
enum Operation {
    Nothing,
    Passed(usize),
    Letters(Vec<Stored>),
}

/// A letter; its ranges refer to the frame.
#[derive(Debug)]
struct Stored {
    destination: usize,
    flags: u8,
    key: Range<usize>,
    value: Range<usize>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl Plan {
    /// Reads a plan that must serve `[outputs, rows)`.
    ///
    /// # Errors
    /// Fails if the plan has a newer layout, is corrupt, or covers other offsets.
    pub fn read(plan: &[u8], outputs: NextOffset, rows: NextOffset) -> Result<Plan, PlanError> {
        let damaged = |what: &str| PlanError::Damaged(what.to_owned());
        let (version, frame) = plan.split_first().ok_or_else(|| damaged("it is empty"))?;
        if *version != VERSION {
            return Err(PlanError::Newer(*version));
        }
        let bound = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
        let bound = bound.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes <= LARGEST);
        let bound = bound.ok_or_else(|| damaged("its size"))?;
        let frame = zstd::bulk::decompress(frame, bound).map_err(|error| PlanError::Damaged(error.to_string()))?;
        let plan = Reader { at: 0, frame: &frame }
            .plan()
            .ok_or_else(|| damaged("it ends early, or refers to a missing entry"))?;
        let plan = Plan { frame, ..plan };
        if plan.lo > outputs || plan.hi != rows {
            return Err(PlanError::Elsewhere { lo: plan.lo, hi: plan.hi, outputs, rows });
        }
        Ok(plan)
    }

    /// Returns whether the plan covers this record.
    pub fn covers(&self, offset: Offset) -> bool {
        !self.lo.is_past(offset) && self.hi.is_past(offset)
    }

    /// Returns the digest of the revision that decided the batch.
    pub fn digest(&self) -> &str {
        self.text(&self.digest)
    }

    /// Returns what a record produces, in order.
    pub fn letters<'a>(&'a self, source: Source<'a>) -> Vec<(NewRecord<'a>, Headers<'a>)> {
        let place = self.operations.partition_point(|(end, _)| *end <= source.offset.get());
        match self.operations.get(place).map(|(_, operation)| operation) {
            None | Some(Operation::Nothing) => Vec::new(),
            Some(Operation::Passed(destination)) => {
                let (topic, partition) = self.destination(*destination);
                let letter = NewRecord { topic, partition, key: source.key, value: source.value };
                vec![(letter, Headers { kept: true, own: Vec::new(), origin: true })]
            }
            Some(Operation::Letters(letters)) => letters.iter().map(|stored| self.letter(source, stored)).collect(),
        }
    }

    fn letter<'a>(&'a self, source: Source<'a>, stored: &'a Stored) -> (NewRecord<'a>, Headers<'a>) {
        let part = |own: &Range<usize>, of: Option<&'a [u8]>, kept: u8, null: u8| match stored.flags {
            flags if flags & kept != 0 => Some(&self.frame[own.clone()]),
            flags if flags & null != 0 => None,
            _ => of,
        };
        let (topic, partition) = self.destination(stored.destination);
        let key = part(&stored.key, source.key, KEY_STORED, KEY_NULL);
        let value = part(&stored.value, source.value, VALUE_STORED, VALUE_NULL);
        let own = stored.headers.iter();
        let bytes = |range: &Range<usize>| Cow::Borrowed(&self.frame[range.clone()]);
        let own = own.map(|(name, value)| (bytes(name), value.as_ref().map(bytes)));
        let (kept, origin) = (stored.flags & KEPT != 0, stored.flags & ORIGIN != 0);
        (NewRecord { topic, partition, key, value }, Headers { kept, own: own.collect(), origin })
    }

    fn destination(&self, index: usize) -> (&str, Option<i32>) {
        let (topic, partition) = &self.destinations[index];
        (self.text(topic), *partition)
    }

    fn text(&self, range: &Range<usize>) -> &str {
        // The reader has checked that this is UTF-8.
        std::str::from_utf8(&self.frame[range.clone()]).unwrap_or_default()
    }
}

/// Reads a frame. Its methods return `None` if the frame is truncated or its content is invalid.
struct Reader<'a> {
    at: usize,
    frame: &'a [u8],
}

impl Reader<'_> {
    fn plan(mut self) -> Option<Plan> {
        let (operations, hi) = self.frame.split_last_chunk::<8>()?;
        let hi = NextOffset::new(i64::from_le_bytes(*hi));
        self.frame = operations;
        let lo = i64::try_from(self.number()?).ok()?;
        let digest = self.text()?;
        let (mut destinations, mut read, mut end) = (Vec::new(), Vec::new(), lo);
        while self.at < self.frame.len() {
            let operation = match self.byte()? {
                NOTHING => {
                    end = end.checked_add_unsigned(self.number()?)?;
                    Operation::Nothing
                }
                PASSED => {
                    end = end.checked_add_unsigned(self.number()?)?;
                    Operation::Passed(self.index(destinations.len())?)
                }
                LETTERS => {
                    end = end.checked_add(1)?;
                    let count = self.count()?;
                    Operation::Letters((0..count).map(|_| self.letter(destinations.len())).collect::<Option<_>>()?)
                }
                DESTINATION => {
                    let topic = self.text()?;
                    let partition = self.number()?;
                    let partition = partition.checked_sub(1).map(i32::try_from).transpose().ok()?;
                    destinations.push((topic, partition));
                    continue;
                }
                _ => return None,
            };
            read.push((end, operation));
        }
        (end <= hi.get()).then_some(Plan {
            frame: Vec::new(),
            digest,
            lo: NextOffset::new(lo),
            hi,
            destinations,
            operations: read,
        })
    }

    fn letter(&mut self, destinations: usize) -> Option<Stored> {
        let destination = self.index(destinations)?;
        let flags = self.byte()?;
        let key = if flags & KEY_STORED != 0 { self.bytes()? } else { 0..0 };
        let value = if flags & VALUE_STORED != 0 { self.bytes()? } else { 0..0 };
        let count = self.count()?;
        let header = |reader: &mut Self| {
            let name = reader.bytes()?;
            let value = match reader.number()?.checked_sub(1) {
                None => None,
                Some(length) => Some(reader.take(usize::try_from(length).ok()?)?),
            };
            Some((name, value))
        };
        let headers = (0..count).map(|_| header(self)).collect::<Option<_>>()?;
        Some(Stored { destination, flags, key, value, headers })
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.frame.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut rest = &self.frame[self.at..];
        let value = decode_varint(&mut rest).ok()?;
        self.at = self.frame.len() - rest.len();
        Some(value)
    }

    /// Reads a count of items, each of which takes at least one byte.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.frame.len() - self.at).then_some(count)
    }

    fn index(&mut self, below: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|index| *index < below)
    }

    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.frame.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn bytes(&mut self) -> Option<Range<usize>> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<Range<usize>> {
        let range = self.bytes()?;
        std::str::from_utf8(&self.frame[range.clone()]).ok().map(|_| range)
    }
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_varint(wide(bytes.len()), out);
    out.extend(bytes);
}

fn wide(value: usize) -> u64 {
    // A usize has at most 64 bits.
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
