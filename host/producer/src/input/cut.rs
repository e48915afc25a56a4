//! Splits bytes into lines and lengths, with limits.

use std::io::{self, BufRead as _, BufReader, Read};

/// The number of bytes that are kept of an event that is too long to be read: enough to recognise it.
pub(super) const BEGINNING: usize = 1_024;
const READ_BUFFER: usize = 256 << 10;

/// The way in which a line ended.
pub(super) enum Line {
    End,
    Whole,
    /// The line has this many bytes; only its beginning is kept.
    TooLong(u64),
}

/// The result of reading the length before a frame.
pub(super) enum Varint {
    End,
    Length(u64),
    /// The bytes that were read.
    Broken(Vec<u8>),
}

/// A reader that counts the consumed bytes.
pub(super) struct Counted {
    inner: BufReader<Box<dyn Read + Send>>,
    pub position: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Counted {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Counted {
        Counted { inner: BufReader::with_capacity(READ_BUFFER, reader), position: 0 }
    }

    /// Returns whether nothing is buffered, so that the next read may block.
    pub(super) fn is_empty(&self) -> bool {
        self.inner.buffer().is_empty()
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.inner.fill_buf() {
                Ok(_) => return Ok(self.inner.buffer()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends the next line, including its end. If it has more than `most` bytes, appends only its beginning.
    pub(super) fn line(&mut self, most: usize, out: &mut Vec<u8>) -> io::Result<Line> {
        let begin = out.len();
        let mut bytes = 0_u64;
        loop {
            let buffer = self.fill()?;
            if buffer.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', buffer).map(|at| at + 1);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            // One byte more than is allowed shows that the line is too long. The line's own end does not count.
            let room = most.saturating_add(2).saturating_sub(out.len() - begin);
            out.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len();
            bytes += used as u64;
            self.inner.consume(used);
            self.position += used as u64;
            if end.is_some() {
                break;
            }
        }
        if bytes == 0 {
            return Ok(Line::End);
        }
        let ends = out.ends_with(b"\n") && out.len() - begin == usize::try_from(bytes).unwrap_or(usize::MAX);
        let content = if ends { bytes - 1 } else { bytes };
        if content > u64::try_from(most).unwrap_or(u64::MAX) {
            out.truncate(begin + BEGINNING.min(out.len() - begin));
            return Ok(Line::TooLong(content));
        }
        Ok(Line::Whole)
    }

    pub(super) fn varint(&mut self) -> io::Result<Varint> {
        let (mut value, mut read) = (0_u64, Vec::new());
        loop {
            let mut byte = [0];
            if self.read_exactly_one(&mut byte)? {
                read.push(byte[0]);
                let shift = 7 * (read.len() - 1);
                value |= u64::from(byte[0] & 0x7f) << shift;
                // Nine groups of seven bits represent longer lengths than any file has.
                match (byte[0] & 0x80, read.len()) {
                    (0, _) => return Ok(Varint::Length(value)),
                    (_, 9) => return Ok(Varint::Broken(read)),
                    _ => {}
                }
            } else {
                return Ok(if read.is_empty() { Varint::End } else { Varint::Broken(read) });
            }
        }
    }

    fn read_exactly_one(&mut self, byte: &mut [u8; 1]) -> io::Result<bool> {
        let Some(first) = self.fill()?.first().copied() else { return Ok(false) };
        *byte = [first];
        self.inner.consume(1);
        self.position += 1;
        Ok(true)
    }
}

/// Removes the byte order mark that some programs write at the beginning of a file.
pub(super) fn strip_mark(text: &mut Vec<u8>) {
    if text.starts_with(b"\xef\xbb\xbf") {
        text.drain(..3);
    }
}

pub(super) fn trim_end(text: &mut Vec<u8>) {
    if text.ends_with(b"\n") {
        text.pop();
        if text.ends_with(b"\r") {
            text.pop();
        }
    }
}
