//! Rewrites `.proto` files of editions so that a proto2 parser can read them.
//!
//! Of the older syntaxes only proto2 supports everything that a file of an edition may contain: defaults, extensions,
//! enums that do not begin at zero. In addition it requires a label before each field. The features stay as options;
//! `lower_editions` reads them in the compiled set. Line numbers do not change, so that error positions stay correct.

use std::fmt::Write as _;

/// An edition that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("edition {0:?} is unknown; editions 2023 and 2024 can be read")]
pub struct UnknownEdition(pub String);

/// Marks the file for [`super::lower_editions`]: files of proto2 and proto3 have no features. It sets the default
/// value.
const MARK: &str = " option features.enum_type = OPEN;";

/// Converts the text of a file of an edition to proto2; `None` for files of another syntax.
///
/// # Errors
/// Fails for an edition that is not supported.
pub fn edition_source(source: &str) -> Result<Option<String>, UnknownEdition> {
    let mut tokens = Tokens { text: source, at: 0 };
    let head = [tokens.next(), tokens.next(), tokens.next()];
    let [Some(edition), Some(_), Some(year)] = head else { return Ok(None) };
    if edition.text != "edition" {
        return Ok(None);
    }
    let name = year.text.trim_matches(['"', '\'']);
    if !matches!(name, "2023" | "2024") {
        return Err(UnknownEdition(name.to_owned()));
    }
    let mut rewriter = Rewriter { out: String::with_capacity(source.len() + 256), copied: 0, source };
    rewriter.replace(&edition, "syntax");
    rewriter.replace(&year, "\"proto2\"");
    let marked = rewriter.statements(&mut tokens);
    rewriter.out.push_str(source.get(rewriter.copied..).unwrap_or_default());
    if !marked && let Some(end) = rewriter.out.find(';') {
        rewriter.out.insert_str(end + 1, MARK);
    }
    Ok(Some(rewriter.out))
}

/// The content of a pair of braces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    File,
    /// A message or an `extend`: fields with labels.
    Fields,
    Oneof,
    Enum,
    /// A service or a method, or the value of an option.
    Other,
}

/// A body, and the first word of its current statement.
struct Open<'t> {
    body: Body,
    statement: Option<&'t str>,
}

struct Rewriter<'t> {
    source: &'t str,
    out: String,
    /// The part of the source that is in `out`.
    copied: usize,
}

impl<'t> Rewriter<'t> {
    fn replace(&mut self, token: &Token<'t>, with: &str) {
        self.out.push_str(self.source.get(self.copied..token.start).unwrap_or_default());
        self.out.push_str(with);
        self.copied = token.start + token.text.len();
    }

    /// Walks the statements after the edition. Returns whether the file sets features itself.
    fn statements(&mut self, tokens: &mut Tokens<'t>) -> bool {
        let mut marked = false;
        // The statement `edition = …` is still open.
        let mut stack = vec![Open { body: Body::File, statement: Some("edition") }];
        while let Some(token) = tokens.next() {
            let Some(open) = stack.last_mut() else { break };
            match (token.text, open.statement) {
                ("{", statement) => {
                    let body = body_of(open.body, statement);
                    stack.push(Open { body, statement: None });
                }
                ("}", _) => {
                    let closed = stack.pop().map(|open| open.body);
                    if let Some(open) = stack.last_mut()
                        && (closed != Some(Body::Other) || matches!(open.statement, Some("service" | "rpc")))
                    {
                        open.statement = None;
                    }
                }
                (";", _) => open.statement = None,
                (_, Some("reserved")) if is_word(token.text) && !matches!(token.text, "to" | "max") => {
                    let quoted = format!("\"{}\"", token.text);
                    self.replace(&token, &quoted);
                }
                (_, Some("import")) if token.text == "option" => self.replace(&token, "      "),
                ("export" | "local", None) if tokens.peek_word() => self.replace(&token, "     "),
                (first, None) => {
                    open.statement = Some(first);
                    marked |= open.body == Body::File && first == "option" && tokens.peek_starts("features.");
                    if open.body == Body::Fields && wants_label(first, tokens) {
                        let _ = write!(
                            self.out,
                            "{}optional ",
                            self.source.get(self.copied..token.start).unwrap_or_default()
                        );
                        self.copied = token.start;
                    }
                }
                _ => {}
            }
        }
        marked
    }
}

fn body_of(outer: Body, statement: Option<&str>) -> Body {
    match (outer, statement) {
        (Body::File | Body::Fields, Some("message" | "extend")) => Body::Fields,
        (Body::File | Body::Fields, Some("enum")) => Body::Enum,
        (Body::Fields, Some("oneof")) => Body::Oneof,
        _ => Body::Other,
    }
}

/// Returns whether this first word of a statement in a message begins a field.
fn wants_label(first: &str, tokens: &mut Tokens<'_>) -> bool {
    match first {
        "message" | "enum" | "oneof" | "extend" | "extensions" | "reserved" | "option" | "repeated" | "optional"
        | "required" => false,
        "map" => !tokens.peek_starts("<"),
        _ => is_word(first) || first.starts_with('.'),
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

struct Token<'t> {
    text: &'t str,
    start: usize,
}

/// Yields words with their dots, numbers, strings, and single punctuation marks; blanks and comments are skipped.
struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    fn next(&mut self) -> Option<Token<'t>> {
        self.blanks();
        let start = self.at;
        let rest = self.text.get(start..)?;
        let first = rest.chars().next()?;
        let length = match first {
            '"' | '\'' => string(rest),
            _ if is_inner(first) => rest.find(|character| !is_inner(character)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        self.at = start + length;
        Some(Token { text: self.text.get(start..self.at)?, start })
    }

    fn blanks(&mut self) {
        while let Some(rest) = self.text.get(self.at..) {
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            let comment = if trimmed.starts_with("//") {
                trimmed.find('\n').unwrap_or(trimmed.len())
            } else if trimmed.starts_with("/*") {
                trimmed.find("*/").map_or(trimmed.len(), |end| end + 2)
            } else {
                return;
            };
            self.at += comment;
        }
    }

    fn peek_starts(&mut self, with: &str) -> bool {
        self.blanks();
        self.text.get(self.at..).is_some_and(|rest| rest.starts_with(with))
    }

    fn peek_word(&mut self) -> bool {
        self.blanks();
        ["message", "enum"].iter().any(|word| self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)))
    }
}

fn is_inner(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.')
}

/// Returns the length of a string with its quotes.
fn string(text: &str) -> usize {
    let quote = text.chars().next();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            _ if Some(character) == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_where_proto2_wants_them() {
        let source = r#"// edition = "x"
edition = "2023";
package a.v1;
import option "b.proto";
message M { /* int32 no = 1; */
  int32 a = 1 [(x.y) = { b: "}", c { d: 1 } }, features.field_presence = IMPLICIT];
  .a.v1.M self = 2; repeated string many = 3;
  map<string, int32> counts = 4;
  oneof one { string s = 5; }
  reserved old, older;
  reserved 10 to max;
  option (z) = { q: 1 };
  enum E { A = 3; reserved GONE; }
  export message N { bytes b = 1; }
  mapped.Type t = 6;
}
extend M { string e = 100; }
service S { rpc R(M) returns (M) { option (h) = { get: "/" }; } }
local enum F { F0 = 0; }
"#;
        let expected = r#"// edition = "x"
syntax = "proto2"; option features.enum_type = OPEN;
package a.v1;
import        "b.proto";
message M { /* int32 no = 1; */
  optional int32 a = 1 [(x.y) = { b: "}", c { d: 1 } }, features.field_presence = IMPLICIT];
  optional .a.v1.M self = 2; repeated string many = 3;
  map<string, int32> counts = 4;
  oneof one { string s = 5; }
  reserved "old", "older";
  reserved 10 to max;
  option (z) = { q: 1 };
  enum E { A = 3; reserved "GONE"; }
        message N { optional bytes b = 1; }
  optional mapped.Type t = 6;
}
extend M { optional string e = 100; }
service S { rpc R(M) returns (M) { option (h) = { get: "/" }; } }
      enum F { F0 = 0; }
"#;
        let found = edition_source(source).unwrap().unwrap();
        // `export` and `local` are replaced by as many blanks.
        let squeeze = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeeze(&found), squeeze(expected));
        assert_eq!(found.lines().count(), source.lines().count());
    }

    #[test]
    fn files_of_other_syntaxes_are_left_alone() {
        for source in ["", "syntax = \"proto3\";", "message edition { }", "// edition = \"2023\";\nsyntax = 'proto2';"]
        {
            assert_eq!(edition_source(source), Ok(None), "{source}");
        }
        assert_eq!(edition_source("edition = \"2031\";"), Err(UnknownEdition("2031".into())));
        let own = "edition = '2024';\noption features.field_presence = IMPLICIT;\n";
        let found = edition_source(own).unwrap().unwrap();
        assert!(!found.contains(MARK), "{found}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "(edition = \"2023\";)?[a-z{};/*\"'\\\\= .<>\\[\\]\n]{0,80}") {
            let _ = edition_source(&text);
        }
    }
}
