//! Parses just enough of Rust's grammar to find where functions and test modules begin and end: braces outside of
//! comments, strings and character literals. A full parser would be a heavy dependency for counting lines.

use std::collections::BTreeSet;

/// The contents of one file, without items under `#[cfg(test)]`.
#[derive(Debug, PartialEq)]
pub(super) struct Source {
    pub lines: usize,
    /// Name and length of each function with a body, from the line of `fn` to that of its closing brace.
    pub functions: Vec<(String, usize)>,
    /// The paths that the file names and that begin with `crate`, `super` or `self`, and those of its `use` items.
    pub paths: BTreeSet<Vec<String>>,
    /// The modules that the file declares without a body.
    pub modules: Vec<String>,
    /// The lines with a duration written as a number.
    pub durations: Vec<usize>,
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Mark(char),
}

/// A scope that ends at the closing brace of this depth.
struct Open {
    depth: usize,
    begun: usize,
    what: What,
}

enum What {
    Function(String),
    Test,
    Other,
}

pub(super) fn read(text: &str) -> Source {
    let tokens = tokens(text);
    let mut reader = Reader::default();
    for (index, (token, line)) in tokens.iter().enumerate() {
        let ahead = |count: usize| tokens.get(index + count).map(|(token, _)| token);
        reader.take(token, *line, ahead);
    }
    Source {
        lines: text.lines().count() - reader.test_lines,
        functions: reader.functions,
        paths: reader.paths,
        modules: reader.modules,
        durations: reader.durations,
    }
}

#[derive(Default)]
struct Reader {
    functions: Vec<(String, usize)>,
    paths: BTreeSet<Vec<String>>,
    modules: Vec<String>,
    durations: Vec<usize>,
    test_lines: usize,
    open: Vec<Open>,
    depth: usize,
    /// The number of open round and square brackets. A semicolon inside them (`[u8; 4]`) does not end an item.
    nested: usize,
    /// A function or test item whose body has not begun, and the line of its first word.
    coming: Option<(What, usize)>,
}

impl Reader {
    fn take<'a>(&mut self, token: &Token, line: usize, ahead: impl Fn(usize) -> Option<&'a Token>) {
        if !self.in_test() {
            self.note(token, &ahead);
            if is_duration(token, &ahead) {
                self.durations.push(line);
            }
        }
        match token {
            Token::Word(word) if word == "fn" => {
                // `fn` before a bracket is a type, not an item.
                if let (Some(Token::Word(name)), None) = (ahead(1), &self.coming) {
                    self.coming = Some((What::Function(name.clone()), line));
                }
            }
            Token::Mark('#') if self.nested == 0 && is_cfg_test(&ahead) => self.coming = Some((What::Test, line)),
            Token::Mark('(' | '[') => self.nested += 1,
            Token::Mark(')' | ']') => self.nested = self.nested.saturating_sub(1),
            Token::Mark(';') if self.nested == 0 => self.end_without_body(line),
            Token::Mark('{') => self.begin(line),
            Token::Mark('}') => self.end(line),
            Token::Word(_) | Token::Mark(_) => {}
        }
    }

    fn in_test(&self) -> bool {
        let coming = matches!(self.coming, Some((What::Test, _)));
        coming || self.open.iter().any(|open| matches!(open.what, What::Test))
    }

    /// Collects the paths of its own crate that the file names.
    fn note<'a>(&mut self, token: &Token, ahead: &impl Fn(usize) -> Option<&'a Token>) {
        let Token::Word(word) = token else { return };
        match (word.as_str(), ahead(1), ahead(2)) {
            ("use", _, _) => tree(&mut 1, &mut Vec::new(), ahead, &mut self.paths),
            ("mod", Some(Token::Word(name)), Some(Token::Mark(';'))) => self.modules.push(name.clone()),
            ("crate" | "super" | "self", Some(Token::Mark(':')), Some(Token::Mark(':'))) => {
                tree(&mut 0, &mut Vec::new(), ahead, &mut self.paths);
            }
            _ => {}
        }
    }

    fn begin(&mut self, line: usize) {
        // A brace within brackets belongs to a default or a closure in the signature, not to the body.
        let coming = if self.nested == 0 { self.coming.take() } else { None };
        let (what, begun) = coming.unwrap_or((What::Other, line));
        self.open.push(Open { depth: self.depth, begun, what });
        self.depth += 1;
    }

    fn end(&mut self, line: usize) {
        self.depth = self.depth.saturating_sub(1);
        if self.open.last().is_none_or(|open| open.depth != self.depth) {
            return;
        }
        let Some(open) = self.open.pop() else { return };
        let lines = line + 1 - open.begun;
        let in_test = self.open.iter().any(|outer| matches!(outer.what, What::Test));
        match open.what {
            What::Function(name) if !in_test => self.functions.push((name, lines)),
            What::Test if !in_test => self.test_lines += lines,
            What::Function(_) | What::Test | What::Other => {}
        }
    }

    fn end_without_body(&mut self, line: usize) {
        if let Some((What::Test, begun)) = self.coming.take() {
            self.test_lines += line + 1 - begun;
        }
    }
}

/// Reads a path with the trees in its braces, such as `a::{b, c::{d, self}}`, from the word at `at`.
fn tree<'a>(
    at: &mut usize,
    prefix: &mut Vec<String>,
    ahead: &impl Fn(usize) -> Option<&'a Token>,
    found: &mut BTreeSet<Vec<String>>,
) {
    let outer = prefix.len();
    let mut leaf = true;
    loop {
        match ahead(*at) {
            // The name after `as` is an alias in this file.
            Some(Token::Word(word)) if word == "as" => *at += 1,
            Some(Token::Word(word)) => prefix.push(word.clone()),
            Some(Token::Mark('{')) => {
                leaf = false;
                *at += 1;
                while !matches!(ahead(*at), Some(Token::Mark('}' | ';')) | None) {
                    tree(at, prefix, ahead, found);
                    *at += usize::from(matches!(ahead(*at), Some(Token::Mark(','))));
                }
            }
            Some(Token::Mark(_)) | None => break,
        }
        *at += 1;
        match (ahead(*at), ahead(*at + 1)) {
            (Some(Token::Mark(':')), Some(Token::Mark(':'))) => *at += 2,
            (Some(Token::Word(word)), _) if word == "as" => {}
            _ => break,
        }
    }
    if leaf {
        found.insert(prefix.clone());
    }
    prefix.truncate(outer);
    // A token that does not belong to a path is skipped, so that every call advances.
    *at += usize::from(!matches!(ahead(*at), Some(Token::Mark(',' | '}' | ';')) | None));
}

/// Returns whether `#[cfg(test)]` begins at the mark; `cfg(all(test, …))` counts too.
/// Finds `Duration::from_secs(1)` and its likes: the name, two colons, the function, the bracket and a digit.
fn is_duration<'a>(token: &Token, ahead: &impl Fn(usize) -> Option<&'a Token>) -> bool {
    let word = |at| match ahead(at) {
        Some(Token::Word(word)) => word.as_str(),
        Some(Token::Mark(_)) | None => "",
    };
    matches!(token, Token::Word(name) if name == "Duration")
        && word(3).starts_with("from_")
        && word(5).starts_with(|first: char| first.is_ascii_digit())
}

fn is_cfg_test<'a>(ahead: &impl Fn(usize) -> Option<&'a Token>) -> bool {
    let word = |count, wanted: &str| matches!(ahead(count), Some(Token::Word(word)) if word == wanted);
    word(2, "cfg") && (word(4, "test") || word(4, "all") && word(6, "test"))
}

/// Splits the text into words and marks with their lines (from 0), without blanks, comments and the contents of
/// literals.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 0);
    while at < bytes.len() {
        let end = match skip(&bytes[at..]) {
            Some(length) => at + length,
            None if is_word(bytes[at]) => {
                let length = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
                tokens.push((Token::Word(text.get(at..at + length).unwrap_or_default().to_owned()), line));
                at + length
            }
            None => {
                if !bytes[at].is_ascii_whitespace() {
                    tokens.push((Token::Mark(char::from(bytes[at])), line));
                }
                at + 1
            }
        };
        let end = end.min(bytes.len());
        line += bytes[at..end].iter().filter(|byte| **byte == b'\n').count();
        at = end;
    }
    tokens
}

/// Bytes beyond ASCII occur only in names and literals, so each may be treated as part of a word.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Returns the length of the comment or literal that begins here, if there is one.
fn skip(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'/', b'/', ..] => Some(until_line_end(rest)),
        [b'/', b'*', ..] => Some(block_comment(rest)),
        [b'"', ..] => Some(string(rest, 1)),
        [b'b' | b'c', b'"', ..] => Some(string(rest, 2)),
        [b'b' | b'c', b'r', b'"' | b'#', ..] => raw_string(rest, 2),
        [b'r', b'"' | b'#', ..] => raw_string(rest, 1),
        [b'b', b'\'', ..] => character(&rest[1..]).map(|length| length + 1),
        [b'\'', ..] => character(rest),
        // A word that ends in r, b or c must not be mistaken for the prefix of a literal, so it is skipped whole.
        _ => None,
    }
}

fn until_line_end(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[u8], mut at: usize) -> usize {
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Returns the length of `r"…"` or `r#"…"#`, or `None` for a raw name such as `r#type`.
fn raw_string(rest: &[u8], prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let begin = prefix + hashes;
    if rest.get(begin) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let found = rest[begin + 1..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(rest.len(), |length| begin + 1 + length + close.len()))
}

/// Returns the length of `'x'`, `'\n'`, `'\u{1F600}'` or `'é'`, or `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    let length = match *rest.get(1)? {
        // The character after the backslash may itself be the quote.
        b'\\' => return rest.iter().skip(3).position(|byte| *byte == b'\'').map(|length| length + 4),
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    };
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(text: &str) -> Vec<(String, usize)> {
        read(text).functions
    }

    #[test]
    fn functions_are_measured_from_their_first_word_to_their_brace() {
        let text = "/// docs\npub fn one() -> u8 {\n    1\n}\n\nimpl A {\n    async fn two(\n        &self,\n    ) {\n    }\n}\n";
        assert_eq!(functions(text), [("one".to_owned(), 3), ("two".to_owned(), 4)]);
        assert_eq!(read(text).lines, 11);
    }

    #[test]
    fn braces_in_literals_and_comments_do_not_count() {
        let text = r####"
fn literals() {
    let a = "}"; let b = '}'; let c = '\''; let d = r#"}"}"#; let e = b'{'; let f = "\"}"; // }
    /* } /* } */ } */
    let r#type = '{'; let g = b"{"; let h = '\u{7b}'; let i = 'é'; let j = c"}";
}
fn next<'a>(x: &'a str) -> &'a str { x }
"####;
        assert_eq!(functions(text), [("literals".to_owned(), 5), ("next".to_owned(), 1)]);
    }

    #[test]
    fn nested_functions_are_counted_and_types_are_not() {
        let text = "fn outer() {\n    fn inner() {\n    }\n    let f: fn(u8) -> u8 = g;\n}\ntrait T {\n    fn declared(&self) -> [u8; 4];\n}\n";
        assert_eq!(functions(text), [("inner".to_owned(), 2), ("outer".to_owned(), 5)]);
    }

    #[test]
    fn paths_are_read_with_their_trees() {
        let paths = |text: &str| read(text).paths.iter().map(|path| path.join("::")).collect::<Vec<_>>();
        let text =
            "use crate::{a::{self, B as C}, d::*};\nuse super::e;\nuse serde::F;\nfn f() { crate::g::h(self.i) }\n";
        assert_eq!(paths(text), ["crate::a::B", "crate::a::self", "crate::d", "crate::g::h", "serde::F", "super::e"]);
        assert!(paths("#[cfg(test)]\nmod tests {\n    use super::*;\n}\n").is_empty());
        assert_eq!(read("mod a;\npub mod b;\nmod c { }\n").modules, ["a", "b"]);
    }

    #[test]
    fn test_items_are_left_out() {
        let text = "fn code() {\n}\n#[cfg(test)]\nmod tests {\n    fn check() {\n    }\n}\n#[cfg(test)]\nuse a::b;\n";
        let source = read(text);
        assert_eq!((source.lines, source.functions), (2, vec![("code".to_owned(), 2)]));
        assert!(source.paths.is_empty());
        let text = "#[cfg(all(test, unix))]\nmod tests {\n}\nstruct S;\n";
        assert_eq!(read(text).lines, 1);
    }

    #[test]
    fn a_broken_file_does_not_end_in_a_panic() {
        for text in ["", "}", "fn", "fn x() {", "\"", "'", "r#", "/*", "'\\", "b'", "#[cfg(test)]", "'é", "fn a() { '"]
        {
            read(text);
        }
    }
}
