//! A YAML text as a tree with positions.
//!
//! The tree is built from the parser's events with an explicit stack, so nesting is bounded. Features that a
//! configuration does not need (anchors, tags, several documents, keys that are not scalars) are separate errors, so
//! that all are reported at once.

use super::{ConfigError, Position};
use crate::limits;
use yaml_rust2::Event;
use yaml_rust2::parser::Parser;
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub at: Position,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub text: String,
    /// Whether it was written without quotes. Only then it may be a number, a boolean or null.
    pub plain: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub at: Position,
    pub value: Node,
}

impl Scalar {
    /// Returns whether this is YAML 1.2's null: `key:` without a value, `~`, `null`.
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }
}

/// Returns the root mapping's entries; an empty text is an empty mapping. Errors go to `errors`; the rest is built
/// anyway.
pub(super) fn parse(text: &str, errors: &mut Vec<ConfigError>) -> Vec<Entry> {
    let mut builder = Builder { stack: Vec::new(), root: None, documents: 0, errors };
    let mut parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    loop {
        match parser.next_token() {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, mark)) => {
                if !builder.event(event, position(&mark)) {
                    return Vec::new();
                }
            }
            Err(error) => {
                builder.syntax(&error);
                return Vec::new();
            }
        }
    }
    builder.finish()
}

fn position(mark: &Marker) -> Position {
    Position { line: mark.line(), column: mark.col() + 1 }
}

enum Frame {
    List { at: Position, items: Vec<Node> },
    Map { at: Position, entries: Vec<Entry>, key: Option<(String, Position)> },
}

struct Builder<'e> {
    stack: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    errors: &'e mut Vec<ConfigError>,
}

impl Builder<'_> {
    /// Processes one event. Returns false if parsing must stop.
    fn event(&mut self, event: Event, at: Position) -> bool {
        match event {
            Event::DocumentStart => {
                self.documents += 1;
                if self.documents > 1 {
                    self.error(at, "second document; a file has only one: remove the line ---");
                    return false;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                self.scalar(text, style == TScalarStyle::Plain, at);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                return self.open(Frame::List { at, items: Vec::new() });
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                return self.open(Frame::Map { at, entries: Vec::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) => {
                self.error(at, "aliases are not supported; repeat the value");
                self.scalar("~".to_owned(), true, at);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn refuse_extras(&mut self, at: Position, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.error(at, "anchors are not supported; repeat the value where it is needed");
        }
        if tagged {
            self.error(at, "tags are not supported; each key has a fixed type");
        }
    }

    fn scalar(&mut self, text: String, plain: bool, at: Position) {
        if let Some(Frame::Map { key: key @ None, .. }) = self.stack.last_mut() {
            *key = Some((text, at));
        } else {
            self.place(Node { at, value: Value::Scalar(Scalar { text, plain }) });
        }
    }

    fn open(&mut self, frame: Frame) -> bool {
        let (Frame::List { at, .. } | Frame::Map { at, .. }) = &frame;
        let at = *at;
        if let Some(Frame::Map { key: key @ None, .. }) = self.stack.last_mut() {
            // Keeps keys and values paired; no key in a file has this name.
            *key = Some(("\u{0}".to_owned(), at));
            self.error(at, "a key must be a name, not a list or a mapping");
            return false;
        }
        if self.stack.len() >= limits::CONFIG_DEPTH {
            self.error(at, "nested too deep");
            return false;
        }
        self.stack.push(frame);
        true
    }

    fn close(&mut self) {
        let node = match self.stack.pop() {
            Some(Frame::List { at, items }) => Node { at, value: Value::List(items) },
            Some(Frame::Map { at, entries, .. }) => {
                // The parser places a block mapping at its first colon; users look for its first key.
                let at = entries.first().map_or(at, |first| first.at.min(at));
                Node { at, value: Value::Map(entries) }
            }
            None => return,
        };
        self.place(node);
    }

    fn place(&mut self, node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => {
                if let Some((key, at)) = key.take() {
                    entries.push(Entry { key, at, value: node });
                }
            }
        }
    }

    fn finish(self) -> Vec<Entry> {
        let Some(root) = self.root else { return Vec::new() };
        if root.is_null() {
            return Vec::new();
        }
        if let Value::Map(entries) = root.value {
            return entries;
        }
        self.errors.push(ConfigError::new(root.at, "", "the file must be a mapping: lines of the form key: value"));
        Vec::new()
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = position(error.marker());
        let hint = if error.info().contains("flow") || error.info().contains("','") {
            " (inside { } and [ ] a ${…} needs quotes)"
        } else {
            ""
        };
        self.error(at, &format!("not YAML: {}{hint}", error.info()));
    }

    fn error(&mut self, at: Position, message: &str) {
        self.errors.push(ConfigError::new(at, "", message));
    }
}
