//! Tests that the servers start, fail and restart as the end-to-end ring needs it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use xtask::Cache;
use xtask::process::Signal;
use xtask::servers::{Kafka, KafkaOptions, Postgres, PostgresOptions, Registry, fetch_kafka, kafka_tools, versions};

/// Asks a broker for its API versions (key 18, version 0). Returns whether an answer without an error came within 2 s.
fn kafka_answers(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout of 2 s");
    // length, key, version, correlation id, client id (null)
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let mut answer = [0u8; 10];
    stream.write_all(&request).is_ok() && stream.read_exact(&mut answer).is_ok() && answer[4..] == [0, 0, 0, 7, 0, 0]
}

/// Sends PostgreSQL a startup message and a query, without a client library. Returns whether a row `1` came back within
/// 2 s.
fn postgres_answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout of 2 s");
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let mut message = u32::try_from(parameters.len() + 8).expect("a short message").to_be_bytes().to_vec();
    message.extend(196_608u32.to_be_bytes());
    message.extend(parameters);
    message.extend(b"Q\0\0\0\rselect 1\0");
    if stream.write_all(&message).is_err() {
        return false;
    }
    let row = b"D\0\0\0\x0b\0\x01\0\0\0\x011";
    let mut seen = Vec::new();
    let mut chunk = [0u8; 512];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        seen.extend_from_slice(&chunk[..length]);
        if seen.windows(row.len()).any(|window| window == row) {
            return true;
        }
    }
    false
}

#[test]
fn other_versions_than_the_usual_ones_start() {
    let cache = Cache::open().unwrap();
    let version = Some("3.7".to_owned());
    let kafka = Kafka::start(&cache, &KafkaOptions { version, ..Default::default() }).unwrap();
    assert_eq!(kafka.version(), "3.7.2");
    assert!(kafka_answers(&kafka.brokers()));
    let version = Some("18".to_owned());
    let postgres = Postgres::start(&cache, &PostgresOptions { version, ..Default::default() }).unwrap();
    assert!(postgres.version().starts_with("18."), "{}", postgres.version());
    assert!(postgres_answers(postgres.port()));
}

/// Runs the commands of the docs: creates a topic, produces to it, reads it.
fn docs_commands_work(tools: &Path, brokers: &str) {
    let run = |tool: &str, arguments: &[&str], input: &str| {
        let mut command = Command::new(tools.join(tool));
        command.args(["--bootstrap-server", brokers, "--topic", "orders"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the tool starts");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    run("kafka-topics.sh", &["--create", "--partitions", "1"], "");
    run("kafka-console-producer.sh", &["--property", "parse.headers=true"], "a:b\tone\n");
    let read = ["--from-beginning", "--max-messages", "1", "--property", "print.headers=true"];
    assert_eq!(run("kafka-console-consumer.sh", &read, ""), "a:b\tone\n");
    assert_eq!(run("kafka-get-offsets.sh", &["--time", "latest"], ""), "orders:0:1\n");
}

#[test]
fn kafka_survives_a_kill_a_stop_and_a_pause_on_the_same_port() {
    let cache = Cache::open().unwrap();
    let mut kafka = Kafka::start(&cache, &KafkaOptions::default()).unwrap();
    let address = kafka.brokers();
    assert!(kafka_answers(&address));
    docs_commands_work(&kafka_tools(&cache, kafka.version()).unwrap(), &address);
    assert!(kafka.died().is_none());
    assert!(Signal::KILL.send(kafka.id().unwrap()));
    let until = Instant::now() + Duration::from_secs(20);
    let failure = loop {
        if let Some(failure) = kafka.died() {
            break failure;
        }
        assert!(Instant::now() < until, "nobody noticed that the broker is gone");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(failure.message.starts_with("Kafka has ended (signal: 9"), "{failure}");
    kafka.kill();
    assert!(!kafka_answers(&address));
    kafka.restart().unwrap();
    assert!(kafka_answers(&address));
    kafka.pause();
    assert!(!kafka_answers(&address), "a paused broker keeps silent");
    kafka.resume();
    assert!(kafka_answers(&address));
    assert_eq!(kafka.stop().and_then(|status| status.code()), Some(143), "an orderly end by SIGTERM");
    kafka.restart().unwrap();
    assert_eq!(kafka.brokers(), address);
    assert!(kafka_answers(&address));
    drop(kafka);
    assert!(!kafka_answers(&address));
}

#[test]
fn postgres_survives_a_kill_a_stop_and_a_pause_on_the_same_port() {
    let cache = Cache::open().unwrap();
    let settings = vec![("track_commit_timestamp".to_owned(), "on".to_owned())];
    let mut postgres = Postgres::start(&cache, &PostgresOptions { settings, ..Default::default() }).unwrap();
    let port = postgres.port();
    assert!(postgres_answers(port));
    postgres.kill();
    assert!(!postgres_answers(port));
    postgres.restart().unwrap();
    assert!(postgres_answers(port));
    postgres.pause();
    assert!(!postgres_answers(port), "a paused server keeps silent");
    postgres.resume();
    assert!(postgres_answers(port));
    postgres.stop();
    assert!(!postgres_answers(port));
    postgres.restart().unwrap();
    assert!(postgres_answers(port));
    assert!(postgres.url().ends_with(&format!(":{port}/postgres")));
    drop(postgres);
    assert!(!postgres_answers(port));
}

/// Asks a registry for its subjects. Returns whether it has any, or `None` if no answer came within 2 s.
fn registry_subjects(url: &str) -> Option<bool> {
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout of 2 s");
    write!(stream, "GET /{path}/subjects HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(!answer.rsplit_once("\r\n\r\n")?.1.contains("[]"))
}

#[test]
fn the_registry_survives_a_kill_and_a_pause_on_the_same_port() {
    let cache = Cache::open().unwrap();
    let mut registry = Registry::start(&cache).unwrap();
    let url = registry.url();
    assert_eq!(registry_subjects(&url), Some(false));
    registry.pause();
    assert_eq!(registry_subjects(&url), None, "a paused registry keeps silent");
    registry.resume();
    assert_eq!(registry_subjects(&url), Some(false));
    registry.kill();
    assert_eq!(registry_subjects(&url), None);
    registry.restart().unwrap();
    assert_eq!(registry.url(), url);
    assert_eq!(registry_subjects(&url), Some(false));
    drop(registry);
    assert_eq!(registry_subjects(&url), None);
}

#[test]
fn a_server_that_does_not_start_shows_its_log() {
    let cache = Cache::open().unwrap();
    let settings = vec![("shared_buffers".to_owned(), "many".to_owned())];
    let failure = Postgres::start(&cache, &PostgresOptions { settings, ..Default::default() }).err().unwrap();
    assert!(failure.message.contains("invalid value for parameter \"shared_buffers\""), "{failure}");
    let properties = vec![("node.id".to_owned(), "one".to_owned())];
    let failure = Kafka::start(&cache, &KafkaOptions { properties, ..Default::default() }).err().unwrap();
    assert!(failure.message.contains("Invalid value one for configuration"), "{failure}");
    let log = failure.message.split_whitespace().find(|word| word.ends_with(".log:")).expect("the log's path");
    assert!(fs::metadata(log.trim_end_matches(':')).unwrap().len() > 0);
}

#[test]
fn parallel_starts_share_one_download_and_no_port() {
    let cache = Cache::open().unwrap();
    let jars: Vec<PathBuf> = thread::scope(|scope| {
        let fetches: Vec<_> =
            (0..4).map(|_| scope.spawn(|| fetch_kafka(&cache, versions::KAFKA[0]).unwrap())).collect();
        fetches.into_iter().map(|fetch| fetch.join().unwrap()).collect()
    });
    assert!(jars.iter().all(|folder| folder == &jars[0] && folder.join("kafka_2.13-4.1.0.jar").is_file()));
    let first = Postgres::start(&cache, &PostgresOptions::default()).unwrap();
    let second = Postgres::start(&cache, &PostgresOptions::default()).unwrap();
    assert_ne!(first.port(), second.port());
    assert!(postgres_answers(first.port()) && postgres_answers(second.port()));
}
