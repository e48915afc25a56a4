//! `golden`: stores everything that users may rely on in files, so that no change of it goes unnoticed.
//!
//! Each row of [`GOLDEN`] is a file and where its text comes from. To add one, add a row and run
//! `cargo xtask golden`.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::failure::Context;
use xtask::{Failure, Result};

use crate::args::Args;
use crate::check::{self, Uses};
use crate::project::{Project, capture};
use crate::say;

enum Origin {
    /// The output of `tollgate` for these arguments.
    Verb(&'static [&'static str]),
    /// `tollgate --help`, followed by the help of every verb at any depth.
    Help,
    /// The files with this extension in a folder, one after the other.
    Files(&'static str, &'static str),
}

const GOLDEN: &[(&str, Origin)] = &[
    ("xtask/golden/help.txt", Origin::Help),
    ("docs/pipeline.schema.json", Origin::Verb(&["schema"])),
    ("docs/status.schema.json", Origin::Verb(&["schema", "status"])),
    ("xtask/golden/transform.wit", Origin::Files("wit", "wit")),
];

/// Writes the files, or with `--check` compares them.
///
/// # Errors
/// Fails if a program is missing (3), the build fails, or a file differs (1).
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    check::check(project, Uses::Build, args.has("--install"))?;
    check::foretell(project, "ask tollgate for its help and schemas");
    if args.has("--check") {
        return compare(project);
    }
    for (file, text) in produce(project)? {
        let before = fs::read_to_string(&file).unwrap_or_default();
        if before != text {
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).context(|| format!("cannot create {}", folder.display()))?;
            }
            fs::write(&file, text).context(|| format!("cannot write {}", file.display()))?;
            say::line(&format!("written: {}", project.relative(&file)));
        }
    }
    Ok(())
}

/// Fails if a golden file differs from the program's current output, and shows the first difference of each.
///
/// # Errors
/// Fails if a file differs or the build fails.
pub(crate) fn compare(project: &Project) -> Result<()> {
    let produced = produce(project)?;
    let differences: Vec<String> = produced
        .iter()
        .filter_map(|(file, text)| {
            let committed = fs::read_to_string(file).unwrap_or_default();
            let line = first_difference(&committed, text)?;
            Some(format!("{}, {line}", project.relative(file)))
        })
        .collect();
    if differences.is_empty() {
        say::line(&format!("{} golden files agree", produced.len()));
        return Ok(());
    }
    let list = differences.join("\n  ");
    Err(Failure::failed(format!(
        "golden files differ:\n  {list}\nif the change is intended, run `cargo xtask golden` and commit the files"
    )))
}

fn produce(project: &Project) -> Result<Vec<(PathBuf, String)>> {
    project.build_tollgate()?;
    let mut produced = Vec::new();
    for (name, origin) in GOLDEN {
        let text = match origin {
            Origin::Verb(words) => capture(&mut project.tollgate(words))?,
            Origin::Help => help(project, &[])?,
            Origin::Files(folder, ending) => concatenate(&project.root.join(folder), ending)?,
        };
        produced.push((project.root.join(name), text.trim_end().to_owned() + "\n"));
    }
    Ok(produced)
}

/// The help of `tollgate <words>`, followed by that of each verb below it.
fn help(project: &Project, words: &[String]) -> Result<String> {
    let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    arguments.push("--help");
    let own = capture(&mut project.tollgate(&arguments))?;
    let mut text = format!("$ tollgate {}\n{}\n", arguments.join(" "), own.trim_end());
    for verb in verbs(&own) {
        let mut deeper = words.to_vec();
        deeper.push(verb);
        text += "\n";
        text += &help(project, &deeper)?;
    }
    Ok(text)
}

/// Returns the verbs that a help text lists under "Commands:", without `help` itself.
fn verbs(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| line.trim_end() != "Commands:").skip(1);
    listed
        .take_while(|line| !line.trim().is_empty())
        // A verb is indented by two blanks; the next lines of its description are indented further.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect()
}

fn concatenate(folder: &Path, ending: &str) -> Result<String> {
    let entries = fs::read_dir(folder).context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    files.sort();
    let texts = files.iter().map(|file| fs::read_to_string(file).context(|| format!("cannot read {}", file.display())));
    Ok(texts.collect::<Result<Vec<_>>>()?.join("\n"))
}

fn first_difference(committed: &str, now: &str) -> Option<String> {
    if committed == now {
        return None;
    }
    let mut lines = committed.lines().zip(now.lines()).enumerate();
    Some(match lines.find(|(_, (before, after))| before != after) {
        Some((index, (before, after))) => format!("line {}:\n    - {before}\n    + {after}", index + 1),
        None => format!("{} lines, now {}", committed.lines().count(), now.lines().count()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_found_in_a_help_text() {
        let help = "The gate\n\nUsage: tollgate <COMMAND>\n\nCommands:\n  run       Run a pipeline\n  dlq       Dead letters\n            \
                    and more\n  help      Print this\n\nOptions:\n  -h, --help  Print help\n";
        assert_eq!(verbs(help), ["run", "dlq"]);
        assert!(verbs("Usage: tollgate run\n\nOptions:\n  -h\n").is_empty());
    }

    #[test]
    fn the_first_difference_is_shown_with_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n").unwrap(), "line 2:\n    - b\n    + c");
        assert_eq!(first_difference("a\n", "a\nb\n").unwrap(), "1 lines, now 2");
    }
}
