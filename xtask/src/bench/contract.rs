//! `bench contract`: measures the contract stage alone with criterion, without servers. benches/src/contract.rs and
//! docs/performance.md describe what is measured.

use std::fs;
use std::io::{self, Write as _};
use std::process::Stdio;

use xtask::failure::Context;
use xtask::{Failure, Result};

use super::{USAGE, node};
use crate::check::{self, Uses};
use crate::project::{Project, succeed};
use crate::say;

/// The one part that is measured without the others.
pub(super) const PART: &str = "contract";

/// The part's options that take a value; they are passed on unchanged.
const WITH_VALUE: [&str; 2] = ["--rounds", "--output"];

pub(super) struct Options {
    passed: Vec<String>,
    node: bool,
    install: bool,
}

/// Runs the bench. The figures go to stdout, criterion's output to stderr.
///
/// # Errors
/// Fails if a program is missing (3), or a build or a measurement fails (1).
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    say::to_stderr();
    check::check(project, Uses::Build, options.install)?;
    check::foretell(project, "measure, half a minute");
    let work = project.cache.folder("bench")?;
    let node = if options.node { node(&project.root, &work)? } else { None };
    let figures = work.join("contract-figures");
    // Uses the same build flags as `cargo test`, so that no dependency is compiled again.
    let mut bench = project.cargo(&["bench", "--workspace", "--bench", "contract", "--"]);
    bench.args(&options.passed).arg("--figures").arg(&figures).arg("--work").arg(&work);
    if let Some(node) = node {
        bench.arg("--node").arg(node);
    }
    // Criterion's own report is stored with the build results. Its output goes to stderr, because it is not part of the
    // figures.
    bench.env("CRITERION_HOME", project.cache.target().join("criterion")).stdout(Stdio::from(io::stderr()));
    succeed("the bench", &mut bench)?;
    let told = fs::read(&figures).context(|| format!("cannot read {}", figures.display()))?;
    io::stdout().write_all(&told).context(|| "cannot write to stdout".to_owned())
}

/// Parses the arguments of `bench contract`.
///
/// # Errors
/// Fails if an argument does not apply to this part (2), for example an option or another part that needs servers.
pub(super) fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { passed: Vec::new(), node: true, install: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            PART => {}
            "--no-node" => options.node = false,
            "--install" => options.install = true,
            option if WITH_VALUE.contains(&option) => {
                let value = rest.next().ok_or_else(|| Failure::usage(format!("{option} needs a value\n{USAGE}")))?;
                valid(option, value)?;
                options.passed.extend([arg.clone(), value.clone()]);
            }
            other if super::PARTS.contains(&other) => {
                let message =
                    format!("`bench contract` starts no servers and is measured alone; run `bench {other}` by itself");
                return Err(Failure::usage(message));
            }
            option if super::WITH_VALUE.contains(&option) => {
                let message = format!(
                    "{option} does not apply to `bench contract`; it takes --rounds, --no-node, --output and --install"
                );
                return Err(Failure::usage(message));
            }
            unknown => return Err(Failure::usage(format!("unknown argument {unknown:?}\n{USAGE}"))),
        }
    }
    Ok(options)
}

/// Checks a value before minutes of building, not after.
fn valid(option: &str, value: &str) -> Result<()> {
    let (fits, wanted) = match option {
        "--rounds" => (value.parse::<u32>().is_ok_and(|rounds| rounds > 0), "a number of at least 1"),
        _ => (matches!(value, "text" | "json"), "text or json"),
    };
    if fits { Ok(()) } else { Err(Failure::usage(format!("{option} takes {wanted}, not {value:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn its_options_are_passed_on() {
        let options = parsed("contract --rounds 2 --no-node --output json").unwrap();
        assert_eq!(options.passed, ["--rounds", "2", "--output", "json"]);
        assert!(!options.node && !options.install);
    }

    #[test]
    fn what_it_does_not_take_is_refused_by_name() {
        for (line, words) in [
            ("contract drain", "measured alone"),
            ("contract --n 5", "--n does not apply to `bench contract`"),
            ("contract --engines floor", "--engines does not apply"),
            ("contract --rounds", "--rounds needs a value"),
            ("contract --rounds 0", "--rounds takes a number of at least 1, not \"0\""),
            ("contract --rounds many", "a number of at least 1"),
            ("contract --output yaml", "text or json"),
            ("contract --protos x", "unknown argument \"--protos\""),
        ] {
            let failure = parsed(line).err().unwrap_or_else(|| panic!("{line} is taken"));
            assert_eq!(failure.code, 2, "{line}");
            assert!(failure.message.contains(words), "{line}: {}", failure.message);
        }
    }
}
