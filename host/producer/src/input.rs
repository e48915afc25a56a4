//! Reads events from files and pipes: one thread reads the inputs in order and hands over chunks of events.
//!
//! An event keeps its original bytes, so that a rejected one can be stored unchanged. A piece that is not a complete
//! event (a line that is too long, a frame that ends early) is an item too, with its violation. Nothing is skipped
//! silently.

mod columns;
mod cut;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::Violation;
use columns::{Columns, Table};
use crossbeam_channel::{Receiver, Sender, bounded};
use cut::{BEGINNING, Counted, Line, Varint, strip_mark, trim_end};
use prost_reflect::MessageDescriptor;

/// The size at which a chunk is handed over while more input is available.
const CHUNK_BYTES: usize = 64 << 10;
/// The number of chunks that wait: enough to even out slow reads.
const CHUNKS: usize = 3;

/// The format of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line, in Protobuf's JSON mapping.
    Ndjson,
    /// Protobuf messages, each after its length as a varint.
    Protobuf,
    /// A header line with field paths, followed by one line per event.
    Csv,
}

impl Format {
    /// Returns the format for a file's extension.
    #[must_use]
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
            "pb" | "bin" | "binpb" | "protobuf" | "frames" => Some(Format::Protobuf),
            "csv" | "tsv" => Some(Format::Csv),
            _ => None,
        }
    }

    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Ndjson => "application/json",
            Format::Protobuf => "application/protobuf",
            Format::Csv => "text/csv",
        }
    }
}

/// An open input.
pub struct Source {
    /// The name in messages.
    pub name: String,
    pub format: Format,
    /// The character that separates the cells of a CSV line.
    pub delimiter: u8,
    pub reader: Box<dyn Read + Send>,
    /// The length in bytes, if it is known.
    pub length: Option<u64>,
}

/// The reason why an input cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{name} cannot be read: {source}")]
    Unreadable { name: String, source: io::Error },
    #[error("{name} is a folder; name the files in it")]
    Folder { name: String },
    #[error("{name}: its name does not show its format; set one with --format: ndjson, protobuf or csv")]
    Format { name: String },
}

impl Source {
    /// Opens a file, or stdin for `-`. It reads nothing yet.
    ///
    /// # Errors
    /// Fails if the file cannot be opened, or is a folder.
    pub fn open(path: &Path, format: Format, delimiter: u8) -> Result<Source, InputError> {
        if path.as_os_str() == "-" {
            let name = "stdin".to_owned();
            return Ok(Source { name, format, delimiter, reader: Box::new(io::stdin()), length: None });
        }
        let name = path.display().to_string();
        let unreadable = |source: io::Error| InputError::Unreadable { name: name.clone(), source };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(InputError::Folder { name });
        }
        let length = metadata.is_file().then_some(metadata.len());
        Ok(Source { name, format, delimiter, reader: Box::new(file), length })
    }
}

/// A message from the reading thread.
pub(crate) enum Message {
    Chunk(Chunk),
    /// Reading failed, for example from a disk or a pipe.
    Unreadable(String),
    /// The input has a different format than the caller named.
    Wrong(String),
}

/// A piece of the inputs with its events.
#[derive(Default)]
pub(crate) struct Chunk {
    pub bytes: Vec<u8>,
    pub items: Vec<Item>,
    /// The number of bytes read so far from all inputs.
    pub position: u64,
}

/// An event, or a piece of input that is not one.
pub(crate) struct Item {
    /// The index of the input.
    pub source: usize,
    /// The line in which it begins, or the number of the frame, starting at 1.
    pub line: u64,
    /// The event's number across all inputs, from 1.
    pub input: u64,
    /// The original bytes, as a range of the chunk's.
    pub original: Range<usize>,
    /// The full length, if the chunk holds only the beginning.
    pub whole: Option<u64>,
    pub body: Result<Body, Violation>,
}

/// The payload, as a range of the chunk's bytes.
pub(crate) enum Body {
    Json(Range<usize>),
    Protobuf(Range<usize>),
}

/// The reader's settings.
pub(crate) struct Options {
    pub message: MessageDescriptor,
    /// The maximum length of an event, in bytes of the input.
    pub most: usize,
    /// The number of events to skip from the beginning.
    pub skip: u64,
}

/// Starts the reading thread. It ends at the end of the inputs, or when the receiver is dropped.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(crate) fn start(sources: Vec<Source>, options: Options) -> io::Result<(Receiver<Message>, JoinHandle<()>)> {
    let (sender, receiver) = bounded(CHUNKS);
    let reading = move || {
        let mut reader = Reader { sender, options, chunk: Chunk::default(), input: 0, source: 0 };
        for (index, source) in sources.into_iter().enumerate() {
            reader.source = index;
            match reader.read(source) {
                Ok(()) => {}
                Err(Stop::Gone) => return,
                Err(Stop::Say(message)) => {
                    // Events before the error are handed over first.
                    if reader.hand_over().is_ok() {
                        _ = reader.sender.send(message);
                    }
                    return;
                }
            }
        }
        _ = reader.hand_over();
    };
    let thread = std::thread::Builder::new().name("produce-read".to_owned()).spawn(reading)?;
    Ok((receiver, thread))
}

enum Stop {
    /// The receiver is gone.
    Gone,
    Say(Message),
}

struct Reader {
    sender: Sender<Message>,
    options: Options,
    chunk: Chunk,
    /// The number of events so far, including skipped ones.
    input: u64,
    source: usize,
}

impl Reader {
    fn read(&mut self, source: Source) -> Result<(), Stop> {
        let Source { name, format, delimiter, reader, .. } = source;
        let mut input = Counted::new(reader);
        let before = self.chunk.position;
        let read = match format {
            Format::Ndjson => self.ndjson(&name, &mut input, before),
            Format::Protobuf => self.frames(&mut input, before),
            Format::Csv => self.csv(&name, &mut input, before, delimiter),
        };
        self.chunk.position = before + input.position;
        read.map_err(|fault| match fault {
            Fault::Stop(stop) => stop,
            Fault::Io(error) => Stop::Say(Message::Unreadable(format!("{name} cannot be read further: {error}"))),
            Fault::Wrong(what) => Stop::Say(Message::Wrong(format!("{name}: {what}"))),
        })
    }

    fn ndjson(&mut self, name: &str, input: &mut Counted, before: u64) -> Result<(), Fault> {
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let ended = input.line(self.options.most, &mut text)?;
            if matches!(ended, Line::End) {
                break;
            }
            if line == 1 {
                strip_mark(&mut text);
                hint(name, &text)?;
            }
            let whole = if let Line::TooLong(bytes) = ended { Some(bytes) } else { None };
            trim_end(&mut text);
            if whole.is_none() && text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let body = match (whole, std::str::from_utf8(&text)) {
                (Some(bytes), _) => Err(self.too_long("line", bytes)),
                (None, Err(error)) => Err(not_utf8(&error)),
                (None, Ok(_)) => Ok(Form::Json),
            };
            self.add(line, &text, whole, body)?;
            self.breathe(input, before)?;
        }
        Ok(())
    }

    fn frames(&mut self, input: &mut Counted, before: u64) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        for frame in 1.. {
            bytes.clear();
            let length = match input.varint()? {
                Varint::End => break,
                Varint::Length(length) => length,
                Varint::Broken(read) => {
                    let message = "this is not a frame's length, so the next frame cannot be found; the rest of the input is \
                                   skipped";
                    return self.add(frame, &read, None, Err(Violation::new("frame-length", "", message)));
                }
            };
            let most = u64::try_from(self.options.most).unwrap_or(u64::MAX);
            let kept = if length > most { BEGINNING as u64 } else { length };
            io::copy(&mut input.by_ref().take(kept), &mut bytes)?;
            let have = bytes.len() as u64;
            let passed =
                if have == kept { io::copy(&mut input.by_ref().take(length - kept), &mut io::sink())? } else { 0 };
            let (whole, body) = if have + passed < length {
                let message = format!("the input ends after {} of the frame's {length} bytes", have + passed);
                (None, Err(Violation::new("frame-truncated", "", message)))
            } else if length > most {
                (Some(length), Err(self.too_long("frame", length)))
            } else {
                (None, Ok(Form::Protobuf))
            };
            self.add(frame, &bytes, whole, body)?;
            self.breathe(input, before)?;
        }
        Ok(())
    }

    fn csv(&mut self, name: &str, input: &mut Counted, before: u64, delimiter: u8) -> Result<(), Fault> {
        let mut table = Table::new(delimiter);
        let mut columns: Option<Columns> = None;
        let (mut text, mut line, mut first) = (Vec::new(), 0, 0);
        // A record may span lines inside of quotes.
        let mut open = false;
        loop {
            let from = text.len();
            let room = self.options.most.saturating_sub(from);
            let ended = input.line(room, &mut text)?;
            line += 1;
            if line == 1 {
                strip_mark(&mut text);
            }
            if !open {
                first = line;
            }
            let record = match ended {
                Line::End if !open => break,
                Line::End => Err(Violation::new("csv-quotes", "", "the input ends inside quotes")),
                Line::TooLong(bytes) => {
                    let bytes = bytes + from as u64;
                    let violation = self.too_long(if open { "record (are quotes left open?)" } else { "line" }, bytes);
                    text.truncate(BEGINNING);
                    table.reset();
                    open = false;
                    self.add(first, &text, Some(bytes), Err(violation))?;
                    text.clear();
                    continue;
                }
                Line::Whole if !open && text.iter().all(u8::is_ascii_whitespace) => {
                    text.clear();
                    continue;
                }
                Line::Whole => {
                    open = !table.feed(&text[from..]);
                    if open {
                        continue;
                    }
                    Ok(())
                }
            };
            let at_end = matches!(ended, Line::End);
            trim_end(&mut text);
            match &columns {
                None => columns = Some(self.header(name, record, &mut table)?),
                Some(columns) => {
                    let body = record.and_then(|()| match std::str::from_utf8(&text) {
                        Ok(_) => columns.json(&table),
                        Err(error) => Err(not_utf8(&error)),
                    });
                    self.add(first, &text, None, body.map(Form::Made))?;
                    self.breathe(input, before)?;
                }
            }
            table.reset();
            text.clear();
            open = false;
            if at_end {
                break;
            }
        }
        Ok(())
    }

    fn header(&self, name: &str, record: Result<(), Violation>, table: &mut Table) -> Result<Columns, Fault> {
        record.map_err(|violation| Fault::Wrong(format!("the header: {}", violation.message)))?;
        Columns::new(&self.options.message, table)
            .map_err(|complaints| Fault::Wrong(complaints.join(&format!("\n{name}: "))))
    }

    fn too_long(&self, what: &str, bytes: u64) -> Violation {
        let message = format!("the {what} has {bytes} bytes; {} are allowed", self.options.most);
        Violation::new("too-large", "", message)
    }

    fn add(&mut self, line: u64, text: &[u8], whole: Option<u64>, body: Result<Form, Violation>) -> Result<(), Fault> {
        self.input += 1;
        if self.input <= self.options.skip {
            return Ok(());
        }
        let chunk = &mut self.chunk;
        let begin = chunk.bytes.len();
        chunk.bytes.extend_from_slice(text);
        let original = begin..chunk.bytes.len();
        let body = body.map(|form| match form {
            Form::Json => Body::Json(original.clone()),
            Form::Protobuf => Body::Protobuf(original.clone()),
            Form::Made(json) => {
                let begin = chunk.bytes.len();
                chunk.bytes.extend_from_slice(json.as_bytes());
                Body::Json(begin..chunk.bytes.len())
            }
        });
        chunk.items.push(Item { source: self.source, line, input: self.input, original, whole, body });
        Ok(())
    }

    /// Hands the chunk over when it is large enough, or when the next read may block, so that events of a slow pipe are
    /// not delayed.
    fn breathe(&mut self, input: &Counted, before: u64) -> Result<(), Fault> {
        if self.chunk.bytes.len() >= CHUNK_BYTES || input.is_empty() {
            self.chunk.position = before + input.position;
            self.hand_over().map_err(Fault::Stop)?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Stop> {
        let position = self.chunk.position;
        let next = Chunk { position, ..Chunk::default() };
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.sender.send(Message::Chunk(chunk)).map_err(|_| Stop::Gone)
    }
}

/// The form of an event's bytes.
enum Form {
    Json,
    Protobuf,
    /// JSON that was built from the input.
    Made(String),
}

enum Fault {
    Stop(Stop),
    Io(io::Error),
    Wrong(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

fn not_utf8(error: &std::str::Utf8Error) -> Violation {
    Violation::new("invalid-utf8", "", format!("the text is not UTF-8 after byte {}", error.valid_up_to()))
}

/// Detects JSON that is not one object per line. It would give an error for each line, none of which shows the cause.
fn hint(name: &str, first: &[u8]) -> Result<(), Fault> {
    match first.trim_ascii() {
        [b'[', ..] => Err(Fault::Wrong(format!(
            "this is a JSON array, not one object a line; try `jq -c '.[]' {name} | tollgate produce … -`"
        ))),
        b"{" => Err(Fault::Wrong(format!("the first object spans lines; try `jq -c . {name} | tollgate produce … -`"))),
        _ => Ok(()),
    }
}

/// Opens the inputs. Without a `format`, a file's extension determines it, and stdin is NDJSON. Without a `delimiter`,
/// CSV cells are separated by commas, and in `.tsv` files by tabs.
///
/// # Errors
/// Returns an error for every file that cannot be opened or has no known format.
pub fn open(files: &[PathBuf], format: Option<Format>, delimiter: Option<u8>) -> Result<Vec<Source>, Vec<InputError>> {
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    for path in files {
        let stdin = path.as_os_str() == "-";
        let tabs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
        let delimiter = delimiter.unwrap_or(if tabs { b'\t' } else { b',' });
        let opened = match format.or_else(|| Format::of(path)).or(stdin.then_some(Format::Ndjson)) {
            None => Err(InputError::Format { name: path.display().to_string() }),
            Some(format) => Source::open(path, format, delimiter),
        };
        match opened {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(sources) } else { Err(errors) }
}

#[cfg(test)]
mod tests;
