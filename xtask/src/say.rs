//! The only place that writes to the terminal. What is said goes to stdout; errors and what cargo says go to stderr.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static STDERR: AtomicBool = AtomicBool::new(false);

/// From now on everything is said on stderr: stdout belongs to the program that is called, whose output a script reads.
pub(crate) fn to_stderr() {
    STDERR.store(true, Ordering::Relaxed);
}

/// A reader that has gone away (`| head`) is no reason to fail, so a line that cannot be written is lost.
pub(crate) fn line(text: &str) {
    let _reader_gone = if STDERR.load(Ordering::Relaxed) {
        writeln!(io::stderr(), "{text}")
    } else {
        writeln!(io::stdout(), "{text}")
    };
}

/// A headline, with room above it so that it is found in a long log.
pub(crate) fn headline(text: &str) {
    line(&format!("\n== {text}"));
}

pub(crate) fn error(text: &str) {
    let _reader_gone = writeln!(io::stderr(), "error: {text}");
}
