//! Parses `--name value` options of the benchmark's binaries. There are about a dozen, so a parser library is not
//! needed.

use std::str::FromStr;

use anyhow::{Context, bail};

/// The command line after the verb. Each accessor removes its option; any argument that is left at the end is an error.
pub struct Args {
    rest: Vec<String>,
}

impl Args {
    /// Splits off the verb, or `""` if there is none.
    pub fn with_verb() -> (String, Args) {
        let mut rest: Vec<String> = std::env::args().skip(1).collect();
        let verb = if rest.is_empty() || rest[0].starts_with("--") { String::new() } else { rest.remove(0) };
        (verb, Args { rest })
    }

    pub fn new(rest: Vec<String>) -> Args {
        Args { rest }
    }

    /// Returns whether the flag `name` is given.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.rest.iter().position(|a| a == name);
        at.map(|at| self.rest.remove(at)).is_some()
    }

    /// Returns the value of `name`, or else of the environment variable `env`.
    pub fn text(&mut self, name: &str, env: Option<&str>) -> anyhow::Result<Option<String>> {
        let Some(at) = self.rest.iter().position(|a| a == name) else {
            return Ok(env.and_then(|env| std::env::var(env).ok()));
        };
        if at + 1 >= self.rest.len() {
            bail!("{name} needs a value");
        }
        self.rest.remove(at);
        Ok(Some(self.rest.remove(at)))
    }

    pub fn required(&mut self, name: &str, env: &str) -> anyhow::Result<String> {
        self.text(name, Some(env))?.with_context(|| format!("{name} (or the environment variable {env}) is missing"))
    }

    pub fn number<T: FromStr>(&mut self, name: &str, default: T) -> anyhow::Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        match self.text(name, None)? {
            Some(text) => text.parse().with_context(|| format!("{name} {text:?} is not a valid number")),
            None => Ok(default),
        }
    }

    /// Fails if any argument is left.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.rest.first() {
            Some(extra) => bail!("unknown argument {extra:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn options_are_taken_in_any_order_and_typos_refused() {
        let mut a = args("--fresh --n 5 --topic t");
        assert_eq!(a.number("--n", 1u64).ok(), Some(5));
        assert!(a.flag("--fresh") && !a.flag("--fresh"));
        assert_eq!(a.text("--topic", None).ok().flatten().as_deref(), Some("t"));
        assert!(a.finish().is_ok());
        assert!(args("--tpoic t").finish().is_err());
        assert!(args("--n").number("--n", 1u64).is_err());
        assert!(args("--n five").number("--n", 1u64).is_err());
    }
}
