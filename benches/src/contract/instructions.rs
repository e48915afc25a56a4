//! Counts instructions per event with valgrind's callgrind. Unlike time, they do not depend on how busy the machine is,
//! so versions of the code can be compared although they ran at different times.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::{EVENTS, Way};

/// The option with which this program handles all events without measuring: `--count tollgate --times 2`.
pub const OPTION: &str = "--count";

/// The text before callgrind's total.
const TOTAL: &str = "Collected :";

/// Returns whether valgrind can be started here.
pub fn available() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Returns the instructions that `way` spends on one event: the difference between two runs, which cancels out the
/// start.
///
/// # Errors
/// Fails if valgrind fails or prints no total.
pub fn per_event(program: &Path, protos: &Path, way: Way) -> anyhow::Result<f64> {
    let count = |times: u32| total(program, protos, way, times).with_context(|| format!("callgrind of {}", way.name()));
    let (once, thrice) = (count(1)?, count(3)?);
    Ok((thrice - once) / (2.0 * EVENTS as f64))
}

fn total(program: &Path, protos: &Path, way: Way, times: u32) -> anyhow::Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    command.args([OPTION, way.name(), "--times", &times.to_string(), "--protos"]).arg(protos);
    let output = command.stdin(Stdio::null()).output().context("valgrind cannot be started")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}: {}", output.status, text.trim_end());
    }
    collected(&text).with_context(|| format!("no line with {TOTAL:?} in {text:?}"))
}

/// Returns the total from callgrind's last lines.
fn collected(text: &str) -> Option<f64> {
    let line = text.lines().rev().find(|line| line.contains(TOTAL))?;
    line.rsplit(TOTAL).next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_the_closing_lines() {
        let text = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(collected(text), Some(1_234_567.0));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
    }
}
