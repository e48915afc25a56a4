//! JSON text as a tree that preserves everything a mapping needs: numbers as written, and members in order, including
//! duplicates.

use std::borrow::Cow;

use crate::{ReasonCode, Rejection};

/// The maximum nesting depth of arrays and objects. Recursive reading needs a limit; 127 is that of the JSON parsers
/// that producers in Rust use, and well above the 100 levels that a message may have.
pub(crate) const MAX_NESTING: u32 = 127;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'t> {
    Null,
    Bool(bool),
    /// The number as written.
    Number(&'t str),
    Text(Cow<'t, str>),
    List(Vec<Json<'t>>),
    Object(Vec<(Cow<'t, str>, Json<'t>)>),
}

impl Json<'_> {
    /// Returns the kind of the value, for error messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// An error in a text, and its position in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Malformed {
    problem: Problem,
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("the text is not UTF-8")]
    Encoding,
    #[error("the text starts with a byte order mark, which JSON does not have; send it without one")]
    ByteOrderMark,
    #[error("the text is empty")]
    Empty,
    #[error("the text ends too early")]
    End,
    #[error("expected a value")]
    Value,
    #[error("expected a member name in double quotes")]
    Name,
    #[error("expected `:`")]
    Colon,
    #[error("expected `,` or `]`")]
    List,
    #[error("expected `,` or `}}`")]
    Object,
    #[error("invalid number")]
    Number,
    #[error("invalid escape in a string")]
    Escape,
    #[error("half a surrogate pair in a string")]
    Surrogate,
    #[error("control character in a string; write it as an escape")]
    Control,
    #[error("unexpected characters after the value")]
    Trailing,
    #[error("arrays and objects nest deeper than {MAX_NESTING} levels")]
    Deep,
}

/// Parses a text that is one value.
///
/// # Errors
/// Fails for text that is not JSON, with the position.
pub(crate) fn parse(bytes: &[u8]) -> Result<Json<'_>, Rejection> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| rejection(bytes, Malformed { problem: Problem::Encoding, at: error.valid_up_to() }))?;
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.whole().map_err(|malformed| rejection(bytes, malformed))
}

#[cold]
fn rejection(bytes: &[u8], Malformed { problem, at }: Malformed) -> Rejection {
    let code = if problem == Problem::Deep { ReasonCode::RecursionLimit } else { ReasonCode::JsonInvalid };
    if matches!(problem, Problem::Empty | Problem::ByteOrderMark) {
        return Rejection::new(code, "", problem.to_string());
    }
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    Rejection::new(code, "", format!("{problem} at line {line} column {column}"))
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: u32,
}

type Parsed<T> = Result<T, Malformed>;

impl<'t> Parser<'t> {
    fn whole(&mut self) -> Parsed<Json<'t>> {
        if self.text.starts_with('\u{feff}') {
            return Err(self.fault(Problem::ByteOrderMark));
        }
        self.blanks();
        if self.peek().is_none() {
            return Err(self.fault(Problem::Empty));
        }
        let value = self.value()?;
        self.blanks();
        if self.at == self.text.len() { Ok(value) } else { Err(self.fault(Problem::Trailing)) }
    }

    fn fault(&self, problem: Problem) -> Malformed {
        Malformed { problem, at: self.at }
    }

    /// Returns an error, unless the text simply ends here.
    fn expected(&self, problem: Problem) -> Malformed {
        self.fault(if self.peek().is_none() { Problem::End } else { problem })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips this byte if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let eats = self.peek() == Some(byte);
        self.at += usize::from(eats);
        eats
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Parsed<Json<'t>> {
        match self.peek() {
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.expected(Problem::Value)),
        }
    }

    fn word(&mut self, word: &str, value: Json<'t>) -> Parsed<Json<'t>> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.fault(if word.as_bytes().starts_with(rest) { Problem::End } else { Problem::Value }))
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Parsed<Json<'t>>) -> Parsed<Json<'t>> {
        if self.depth == MAX_NESTING {
            return Err(self.fault(Problem::Deep));
        }
        self.depth += 1;
        self.at += 1;
        self.blanks();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> Parsed<Json<'t>> {
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blanks();
            if self.eat(b']') {
                return Ok(Json::List(items));
            }
            if !self.eat(b',') {
                return Err(self.expected(Problem::List));
            }
            self.blanks();
        }
    }

    fn object(&mut self) -> Parsed<Json<'t>> {
        let mut members = Vec::new();
        if self.eat(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.expected(Problem::Name));
            }
            let name = self.string()?;
            self.blanks();
            if !self.eat(b':') {
                return Err(self.expected(Problem::Colon));
            }
            self.blanks();
            members.push((name, self.value()?));
            self.blanks();
            if self.eat(b'}') {
                return Ok(Json::Object(members));
            }
            if !self.eat(b',') {
                return Err(self.expected(Problem::Object));
            }
            self.blanks();
        }
    }

    fn number(&mut self) -> Parsed<&'t str> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.fault(Problem::Number));
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn digits(&mut self) -> Parsed<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected(Problem::Number)) } else { Ok(()) }
    }

    /// Parses a string from its opening quote; borrowed unless it has escapes.
    fn string(&mut self) -> Parsed<Cow<'t, str>> {
        self.at += 1;
        let mut read: Option<String> = None;
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| !matches!(byte, b'"' | b'\\' | ..0x20)) {
                self.at += 1;
            }
            // Quotes, escapes and control characters are ASCII, so slices between them are whole characters.
            let plain = self.text.get(start..self.at).unwrap_or_default();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match read {
                        None => Cow::Borrowed(plain),
                        Some(read) => Cow::Owned(read + plain),
                    });
                }
                Some(b'\\') => {
                    let read = read.get_or_insert_default();
                    read.push_str(plain);
                    read.push(self.escape()?);
                }
                Some(_) => return Err(self.fault(Problem::Control)),
                None => return Err(self.fault(Problem::End)),
            }
        }
    }

    /// Parses an escape from its backslash.
    fn escape(&mut self) -> Parsed<char> {
        let start = self.at;
        self.at += 1;
        let plain = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(start),
            Some(_) => return Err(Malformed { problem: Problem::Escape, at: start }),
            None => return Err(self.fault(Problem::End)),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Parses a `\u` escape, or a surrogate pair of two, from the `u`.
    fn code_point(&mut self, start: usize) -> Parsed<char> {
        const LOW: std::ops::RangeInclusive<u32> = 0xdc00..=0xdfff;
        let half = Malformed { problem: Problem::Surrogate, at: start };
        let first = self.hex(start)?;
        if !(0xd800..=0xdfff).contains(&first) {
            return char::from_u32(first).ok_or(half);
        }
        if LOW.contains(&first) || !(self.eat(b'\\') && self.peek() == Some(b'u')) {
            return Err(half);
        }
        let second = self.hex(start)?;
        if !LOW.contains(&second) {
            return Err(half);
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(half)
    }

    fn hex(&mut self, start: usize) -> Parsed<u32> {
        let invalid = Malformed { problem: Problem::Escape, at: start };
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5).ok_or(invalid)?;
        self.at += 5;
        digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?)).ok_or(invalid)
    }
}

#[cfg(test)]
mod tests;
