//! Parses the words after a verb: flags, plain words, and everything after `--`.

use xtask::{Failure, Result};

/// The flag for the long forms: all variants of the tests, longer fuzzing, and ten minutes of chaos.
pub(crate) const FULL: &str = "--full";

/// The arguments of a verb. Each has been checked against the allowed ones.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Args {
    flags: Vec<String>,
    values: Vec<(String, String)>,
    pub words: Vec<String>,
    /// Everything after `--`; it is passed to the program that the verb runs.
    pub rest: Vec<String>,
}

impl Args {
    /// Parses the arguments `given` to `verb`. `flags` are the allowed flags with their dashes, and `words` the allowed
    /// plain words. A flag `--kafka V` takes a value.
    ///
    /// # Errors
    /// Fails at the first argument that is not allowed and names the nearest one that is, or at a flag without its
    /// value (exit code 2).
    pub(crate) fn parse(verb: &str, given: Vec<String>, flags: &[&str], words: &[&str]) -> Result<Self> {
        let mut args = Args::default();
        let mut given = given.into_iter();
        while let Some(word) = given.next() {
            if word == "--" {
                args.rest = given.collect();
                break;
            }
            if !word.starts_with('-') {
                known(&format!("argument of `cargo xtask {verb}`"), &word, words)?;
                args.words.push(word);
                continue;
            }
            let names: Vec<&str> = flags.iter().map(|flag| name(flag)).collect();
            known(&format!("flag of `cargo xtask {verb}`"), &word, &names)?;
            if flags.contains(&word.as_str()) {
                args.flags.push(word);
                continue;
            }
            let value = given.next().filter(|value| !value.starts_with('-'));
            let value = value.ok_or_else(|| Failure::usage(format!("{word} needs a value")))?;
            args.values.push((word, value));
        }
        Ok(args)
    }

    /// Keeps all words unparsed, for a verb that parses them itself.
    pub(crate) fn unread(rest: Vec<String>) -> Self {
        Args { rest, ..Args::default() }
    }

    /// Returns the same arguments without the plain words, for a verb that another verb calls.
    pub(crate) fn only_flags(&self) -> Self {
        Args { flags: self.flags.clone(), values: self.values.clone(), ..Args::default() }
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// Returns the value of a flag. If the flag is repeated, the last value counts.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        self.values.iter().rev().find(|(given, _)| given == flag).map(|(_, value)| value.as_str())
    }
}

/// Returns a flag's name without the placeholder of its value.
fn name(flag: &str) -> &str {
    flag.split_once(' ').map_or(flag, |(name, _)| name)
}

fn known(kind: &str, word: &str, allowed: &[&str]) -> Result<()> {
    if allowed.contains(&word) { Ok(()) } else { Err(unknown(kind, word, allowed)) }
}

/// Returns a failure such as "unknown verb `tset`; did you mean `test`?". If no allowed word is similar, it lists all
/// of them.
pub(crate) fn unknown(kind: &str, word: &str, allowed: &[&str]) -> Failure {
    let hint = match nearest(word, allowed) {
        Some(near) => format!("did you mean `{near}`?"),
        None if allowed.is_empty() => "it takes none".to_owned(),
        None => format!("there is: {}", allowed.join(", ")),
    };
    Failure::usage(format!("unknown {kind}: `{word}`; {hint}"))
}

/// Returns the allowed word with the fewest edits from `word`, if these are at most a third of its length, rounded up.
fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let (distance, near) = allowed.iter().map(|candidate| (edits(word, candidate), *candidate)).min()?;
    (distance <= near.len().div_ceil(3)).then_some(near)
}

/// Counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment distance).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        let given = line.split_whitespace().map(str::to_owned).collect();
        Args::parse("test", given, &["--install", "--kafka V"], &["unit", "e2e"])
    }

    #[test]
    fn flags_words_and_the_rest() {
        let args = parse("e2e --install -- --exact happy e2e").unwrap();
        assert!(args.has("--install"));
        assert_eq!(args.words, ["e2e"]);
        assert_eq!(args.rest, ["--exact", "happy", "e2e"]);
        assert_eq!(parse("").unwrap(), Args::default());
    }

    #[test]
    fn a_flag_may_take_a_value() {
        let args = parse("--kafka 3.7.2 e2e").unwrap();
        assert_eq!(args.value("--kafka"), Some("3.7.2"));
        assert_eq!(args.only_flags().value("--kafka"), Some("3.7.2"));
        assert_eq!(args.words, ["e2e"]);
        for line in ["e2e --kafka", "--kafka --install", "--kafka -- x"] {
            assert_eq!(parse(line).unwrap_err().message, "--kafka needs a value");
        }
    }

    #[test]
    fn a_wrong_word_names_the_nearest_right_one() {
        let failure = parse("--instal").unwrap_err();
        assert_eq!(failure.message, "unknown flag of `cargo xtask test`: `--instal`; did you mean `--install`?");
        assert_eq!(failure.code, 2);
        let failure = parse("everything").unwrap_err();
        assert_eq!(failure.message, "unknown argument of `cargo xtask test`: `everything`; there is: unit, e2e");
        let failure = Args::parse("tidy", vec!["x".into()], &[], &[]).unwrap_err();
        assert_eq!(failure.message, "unknown argument of `cargo xtask tidy`: `x`; it takes none");
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("test", "test", 0),
            ("tset", "test", 1),
            ("tes", "test", 1),
            ("demp", "demo", 1),
            ("ci", "bench", 4),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
        }
        assert_eq!(nearest("serves", &["servers", "test"]), Some("servers"));
        assert_eq!(nearest("xyz", &["ci", "test"]), None);
    }
}
