//! Tests the lines that a guest writes to the operator's log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::{events, guests, load, run};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(event: &str, limit: u64) -> String {
    let event = format!(
        "(data (i32.const 512) \"rate\\1b[2J of EUR\") (func $event (param i32) (result i32) {event} (i32.const 1))"
    );
    let module = guests::module(guests::LOG_IMPORT, &[guests::INIT, guests::PROCESS, guests::LOOP, &event]);
    let mut manifest = guests::manifest("talker");
    manifest["capabilities"] = json!(["log"]);
    manifest["limits"]["log_bytes"] = json!(limit);
    let transform = load(&guests::stamp(guests::encode(&module), manifest.to_string().as_bytes()));
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(run(&[&transform], &events(&["p", "p"])).unwrap().outputs.len(), 2);
    });
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_line_names_the_transform_and_the_event_and_drives_no_terminal() {
    let log = logged("(call $write (i32.const 2) (i32.const 512) (i32.const 15))", 100);
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    for (line, offset) in lines.iter().zip(["offset=100", "offset=101"]) {
        for part in ["WARN", "tollgate::guest", "rate?[2J of EUR", "transform=\"talker\"", "partition=3", offset] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

#[test]
fn bytes_over_the_limit_are_cut_and_counted() {
    let write = "(call $write (i32.const 1) (i32.const 512) (i32.const 4))";
    let log = logged(&write.repeat(4), 6);
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2 * 2 + 1, "{log}");
    for event in [0, 2] {
        assert!(lines[event].contains("rate ") && lines[event + 1].contains("ra "), "{log}");
    }
    assert!(lines[4].contains("WARN") && lines[4].contains("cut=6"), "{log}");
}

#[test]
fn lines_without_bytes_are_bounded_too() {
    let log = logged("(call $write (i32.const 3) (i32.const 512) (i32.const 0))".repeat(200).as_str(), 6);
    let most = usize::try_from(tollgate_sandbox::limits::LOG_LINES).unwrap();
    assert_eq!(log.lines().count(), most + 1, "{log}");
}
