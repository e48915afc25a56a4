//! Characters in foreign text that change how the surrounding text is displayed.
//!
//! Text from producers ends up in terminals, logs and editors. A control character controls a terminal, a line
//! separator forges a line, and a bidirectional mark reorders the display of the rest of the line.

use std::borrow::Cow;

/// Returns whether a non-ASCII character separates lines or changes the direction of text.
fn is_mark(c: char) -> bool {
    matches!(
        c,
        '\u{85}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Returns the character as it may be shown in one line: U+FFFD replaces control characters, line separators and
/// bidirectional marks.
pub fn visible(c: char) -> char {
    if c.is_control() || is_mark(c) { '\u{fffd}' } else { c }
}

/// Escapes line separators and bidirectional marks as `\u202e`. That is JSON's own escape, so JSON keeps its meaning.
/// Control characters stay: JSON contains none, and a log's own colours and line ends are control characters.
pub fn escape_marks(text: &str) -> Cow<'_, str> {
    use std::fmt::Write as _;
    if !text.contains(is_mark) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_mark(c) {
            // Writing to a String cannot fail.
            _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_or_breaks_a_line_is_shown_as_itself_nowhere() {
        let marks = "\u{85}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        assert!(marks.chars().all(|c| visible(c) == '\u{fffd}'));
        assert!(!escape_marks(marks).contains(is_mark));
        assert_eq!(escape_marks("a\u{202e}b\u{2028}"), "a\\u202eb\\u2028");
        assert_eq!("\u{1b}\n\u{9b}".chars().map(visible).collect::<String>(), "\u{fffd}\u{fffd}\u{fffd}");
        let plain = "grün, שלום, \u{200d}, \u{1b}[0m\n";
        assert_eq!(escape_marks(plain), plain);
        assert_eq!("grün, שלום".chars().map(visible).collect::<String>(), "grün, שלום");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "a\u{2028}": "x\u{202e}y" });
        let text = value.to_string();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escape_marks(&text)).ok(), Some(value));
    }
}
