//! The only module that writes to the terminal. Its lines go to stdout; errors and cargo's output go to stderr.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static STDERR: AtomicBool = AtomicBool::new(false);

/// From now on writes all lines to stderr: stdout belongs to the program that is run, and scripts read its output.
pub(crate) fn to_stderr() {
    STDERR.store(true, Ordering::Relaxed);
}

/// Writes a line. A closed pipe (`| head`) is no reason to fail, so a line that cannot be written is dropped.
pub(crate) fn line(text: &str) {
    let _reader_gone = if STDERR.load(Ordering::Relaxed) {
        writeln!(io::stderr(), "{text}")
    } else {
        writeln!(io::stdout(), "{text}")
    };
}

/// Writes a headline after an empty line, so that it is easily found in a long log.
pub(crate) fn headline(text: &str) {
    line(&format!("\n== {text}"));
}

pub(crate) fn error(text: &str) {
    let _reader_gone = writeln!(io::stderr(), "error: {text}");
}
