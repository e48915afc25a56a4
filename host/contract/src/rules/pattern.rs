//! Converts RE2's syntax to that of the `regex` crate.
//!
//! Both are closely related. In the crate `\d`, `\s`, `\w` and `\b` are Unicode, in RE2 they are ASCII; and inside
//! brackets the crate reads `[`, `&&`, `--` and `~~` as operators, RE2 as characters. Only RE2 has `\Q…\E`.

use regex::Regex;

/// Compiles a pattern with RE2's meaning.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&translate(pattern))
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    // Whether the next `]` is the first item in its class, and so a character.
    let mut class_start = false;
    let mut after_hyphen = false;
    while let Some(next) = rest.next() {
        let first = std::mem::take(&mut class_start);
        let second_hyphen = std::mem::replace(&mut after_hyphen, next == '-');
        match next {
            '\\' => match rest.next() {
                Some('Q') => quote(&mut rest, &mut out),
                Some(escaped) => escape(escaped, in_class, &mut out),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            '[' if rest.peek() == Some(&':') => {
                // A POSIX class is copied unchanged.
                out.push('[');
                for inner in rest.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            ']' if in_class && !first => {
                in_class = false;
                out.push(']');
            }
            '[' | ']' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(next);
            }
            // The second of two ends a range: `+--` runs from plus to hyphen.
            '-' if in_class && second_hyphen => out.push_str("\\-"),
            other => out.push(other),
        }
    }
    out
}

fn escape(escaped: char, in_class: bool, out: &mut String) {
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'B' if !in_class => out.push_str("(?-u:\\B)"),
        other => {
            out.push('\\');
            out.push(other);
        }
    }
}

/// Handles `\Q` up to `\E` or the end: every character is literal.
fn quote(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    while let Some(next) = rest.next() {
        if next == '\\' && rest.next_if_eq(&'E').is_some() {
            return;
        }
        out.push_str(&regex::escape(next.encode_utf8(&mut [0; 4])));
    }
}

#[cfg(test)]
mod tests {
    use super::compile;
    use crate::rules::fault::RuleFault;

    #[test]
    fn patterns_mean_what_re2_means() {
        for (pattern, text, matches) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢٣", false),
            (r"^[\w-]+$", "a_b-c", true),
            (r"^[\w-]+$", "ä", false),
            (r"^[[]$", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]]$", "]", false),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[+--]+$", ",", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^\Qa.b*\E$", "a.b*", true),
            (r"^\Qa.b*\E$", "axb*", false),
            (r"(?i)^STRASSE$", "strasse", true),
            (r"^.$", "€", true),
            (r"^[^\D]$", "7", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), matches, "{pattern} on {text}");
        }
        assert!(RuleFault::from(compile("a(b").unwrap_err()).to_string().starts_with("unclosed"));
        assert!(compile("(?=a)").is_err());
    }
}
