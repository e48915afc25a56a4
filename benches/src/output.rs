//! The one door to stdout: what a script reads, a line an object.

use std::io::Write;

pub fn line(text: &impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
