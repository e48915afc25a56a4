//! Output to stdout and stderr. Text from events is escaped, so that it cannot change how a terminal shows the rest.

use std::io::{self, Stderr, Write};

use serde_json::{Value, json};
use tollgate_contract::escape_marks;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use tollgate_config::error::Exit;

/// The writer of the logs. Each line is written in one call, so no mark is split between two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Logs;

/// Writes a log line with line separators and bidirectional marks escaped.
#[derive(Debug)]
pub(super) struct Escaped<W>(W);

impl MakeWriter<'_> for Logs {
    type Writer = Escaped<Stderr>;

    fn make_writer(&self) -> Escaped<Stderr> {
        Escaped(io::stderr())
    }
}

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(escape_marks(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes a line to stdout, and ends the process if that fails. If the reader has closed the pipe (`| head`), the exit
/// code is still `code`. Any other error, such as a full disk, is reported and makes a successful verb fail.
pub fn print(text: &str, code: Exit) {
    let mut out = io::stdout().lock();
    let line = out.write_all(text.as_bytes()).and_then(|()| {
        let end: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
        out.write_all(end)
    });
    let Err(error) = line.and_then(|()| out.flush()) else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(code as i32);
    }
    complain(&format!("cannot write to stdout: {error}"));
    std::process::exit(if matches!(code, Exit::Ok) { Exit::Failed } else { code } as i32);
}

/// Writes a line in the format of `--log-format json` to stderr. The log's filter does not apply, because the result of
/// a verb is always reported.
pub(super) fn log_line(level: &str, message: &str, more: &[(&str, &Value)]) {
    let mut stamp = String::new();
    // This fails only if the clock is before 1970. The line then has an empty timestamp.
    _ = SystemTime.format_time(&mut Writer::new(&mut stamp));
    let mut line = json!({ "timestamp": stamp, "level": level, "message": message });
    for (name, value) in more {
        line[*name] = (*value).clone();
    }
    // If stderr is closed, the exit code still shows the result.
    _ = writeln!(io::stderr().lock(), "{}", escape_marks(&line.to_string()));
}

/// Writes an error for people to stderr.
pub(super) fn complain(message: &str) {
    let text = format!("error: {}\n", message.trim_end().replace('\n', "\n  "));
    // If stderr is closed, the exit code still shows the result.
    _ = io::stderr().lock().write_all(escape_marks(&text).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_stays_one_line_in_its_own_direction() {
        let mut out = Vec::new();
        Escaped(&mut out).write_all("\u{1b}[32m INFO\u{1b}[0m id=a\u{202e}b\u{2028}forged é\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\u{1b}[32m INFO\u{1b}[0m id=a\\u202eb\\u2028forged é\n");
    }
}
