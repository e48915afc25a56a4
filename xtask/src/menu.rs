//! The list of verbs.

use xtask::Result;

use crate::args::{self, Args};
use crate::project::Project;
use crate::{bench, chaos, ci, demo, dist, fuzz, golden, guests, play, rings, say, tidy};

struct Verb {
    name: &'static str,
    usage: &'static str,
    says: &'static str,
    flags: &'static [&'static str],
    words: &'static [&'static str],
    run: fn(&Project, &Args) -> Result<()>,
}

const MENU: &[Verb] = &[
    Verb {
        name: "demo",
        usage: "demo [--real] [--keep] [--install]",
        says: "build, and show the gate at work; --real: on Apache Kafka, not the embedded broker; --keep: until Ctrl-C",
        flags: &["--real", "--keep", "--install"],
        words: &[],
        run: demo::run,
    },
    Verb {
        name: "test",
        usage: "test [ring…] [--kafka V] [--postgres V] [--full] [--install] [-- filter]",
        says: "run every ring of tests (unit, guests, cases, e2e), or those named; e2e on a real Kafka and PostgreSQL",
        flags: &["--kafka V", "--postgres V", "--full", "--install"],
        words: rings::NAMES,
        run: rings::run,
    },
    Verb {
        name: "ci",
        usage: "ci [part…] [--full] [--install]",
        says: "run all checks that a change must pass: format, tidy, supply, lints, golden, test, fuzz, chaos; --full: the long forms",
        flags: &["--full", "--install"],
        words: ci::NAMES,
        run: ci::run,
    },
    Verb {
        name: "bench",
        usage: "bench [drain] [latency] [micro] | contract [option…]",
        says: "measure the figures of docs/performance.md on this machine; --help shows the options",
        flags: &[],
        words: &[],
        run: bench::run,
    },
    Verb {
        name: "fuzz",
        usage: "fuzz [target…] [--seconds N] [option…]",
        says: "fuzz decoder, rules, frames, JSON and files; --help shows the options",
        flags: &[],
        words: &[],
        run: fuzz::run,
    },
    Verb {
        name: "chaos",
        usage: "chaos [option…]",
        says: "inject random faults into real servers, then run the oracle; --minutes N, --seed N, and --help shows the rest",
        flags: &[],
        words: &[],
        run: chaos::run,
    },
    Verb {
        name: "guests",
        usage: "guests [--install]",
        says: "build every transform into its component",
        flags: &["--install"],
        words: &[],
        run: guests::run,
    },
    Verb {
        name: "dist",
        usage: "dist",
        says: "build the program as it is published, without symbols; takes minutes",
        flags: &[],
        words: &[],
        run: dist::run,
    },
    Verb {
        name: "golden",
        usage: "golden [--check] [--install]",
        says: "store what users rely on (help, schema, metrics, WIT); --check: fail if it has changed",
        flags: &["--check", "--install"],
        words: &[],
        run: golden::run,
    },
    Verb {
        name: "tidy",
        usage: "tidy",
        says: "list functions over 70 lines and files over 500, tests aside",
        flags: &[],
        words: &[],
        run: tidy::run,
    },
    Verb {
        name: "servers",
        usage: "servers up|down [--kafka V] [--postgres V] [--install]",
        says: "run a Kafka and a PostgreSQL until Ctrl-C, or until `servers down` in another terminal",
        flags: &["--kafka V", "--postgres V", "--install"],
        words: &["up", "down"],
        run: play::run,
    },
];

/// Runs the verb that the first word names. Without words it prints the menu.
///
/// # Errors
/// Fails if the words are wrong (exit code 2) or the verb fails.
pub(crate) fn dispatch(mut words: Vec<String>) -> Result<()> {
    if words.is_empty() || matches!(words[0].as_str(), "help" | "-h" | "--help") {
        say::line(&text());
        return Ok(());
    }
    let name = words.remove(0);
    let Some(verb) = MENU.iter().find(|verb| verb.name == name) else {
        let names: Vec<&str> = MENU.iter().map(|verb| verb.name).collect();
        return Err(args::unknown("verb", &name, &names));
    };
    let own = words.iter().take_while(|word| *word != "--");
    if own.into_iter().any(|word| matches!(word.as_str(), "-h" | "--help")) {
        let usage = match verb.name {
            "bench" => bench::USAGE,
            "fuzz" => fuzz::USAGE,
            "chaos" => chaos::USAGE,
            _ => verb.usage,
        };
        say::line(&format!("cargo xtask {usage}\n  {}", verb.says));
        return Ok(());
    }
    // Verbs with options that take values parse their own words.
    let args = if matches!(verb.name, "bench" | "fuzz" | "chaos") {
        Args::unread(words)
    } else {
        Args::parse(verb.name, words, verb.flags, verb.words)?
    };
    (verb.run)(&Project::open()?, &args)
}

fn text() -> String {
    let width = MENU.iter().map(|verb| verb.usage.chars().count()).max().unwrap_or(0);
    let mut text = "cargo xtask <verb>\n".to_owned();
    for verb in MENU {
        text += &format!("\n  {:width$}  {}", verb.usage, verb.says);
    }
    text + "\n\n--install installs what is missing (as root that happens anyway). Everything outside the checkout is in \
            TOLLGATE_CACHE,\nby default ~/.cache/tollgate; compiled code in CARGO_TARGET_DIR, by default its folder target.\n\
            --kafka and --postgres choose the servers' versions: 3.7 or 4.1, 17 or 18; without, 4.1 and the machine's own."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(line: &str) -> xtask::Failure {
        dispatch(line.split_whitespace().map(str::to_owned).collect()).unwrap_err()
    }

    #[test]
    fn a_wrong_verb_or_argument_ends_in_two_with_a_suggestion() {
        let wrong = failure("tets");
        assert_eq!((wrong.code, wrong.message.as_str()), (2, "unknown verb: `tets`; did you mean `test`?"));
        assert_eq!(failure("test e2").message, "unknown argument of `cargo xtask test`: `e2`; did you mean `e2e`?");
        assert_eq!(failure("tidy --fix").code, 2);
    }

    #[test]
    fn the_menu_names_every_verb_with_its_flags() {
        let text = text();
        for verb in MENU {
            assert!(verb.usage.starts_with(verb.name) && text.contains(verb.usage));
            assert!(verb.flags.iter().all(|flag| verb.usage.contains(flag)), "{}", verb.name);
        }
    }
}
