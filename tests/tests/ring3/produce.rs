//! Tests `tollgate produce`: what it sends, what it rejects, and its messages in case of errors.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::engine::{self, Engine};
use tollgate_tests::kafka::{Client, Letter};
use tollgate_tests::{events, servers, wait_for};
use xtask::process::Signal;
use xtask::servers::{Kafka, KafkaOptions};

const PARTITIONS: i32 = 4;

/// A folder with the contract, and a separate topic.
struct Field {
    folder: TempDir,
    kafka: Client,
    brokers: String,
    topic: String,
}

impl Field {
    fn new(name: &str) -> Field {
        Field::on(&servers::shared().brokers, name)
    }

    fn on(brokers: &str, name: &str) -> Field {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let topic = format!("produce-{name}-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.proto"), events::PROTO).unwrap();
        let kafka = Client::new(brokers);
        kafka.create_topic(&topic, PARTITIONS, &[]);
        wait_for("the topic", || (kafka.partitions(&topic) == PARTITIONS).then_some(()));
        Field { folder, kafka, brokers: brokers.to_owned(), topic }
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn arguments<'a>(&'a self, further: &[&'a str]) -> Vec<&'a str> {
        let base = ["produce", "--brokers", &self.brokers, "--topic", &self.topic, "--protos", "events.proto"];
        [&base[..], &["--message", events::MESSAGE], further].concat()
    }

    fn start(&self, further: &[&str]) -> Engine {
        Engine::start(self.folder.path(), &self.arguments(further), &[])
    }

    /// Runs to the end. Asserts the exit code and returns the JSON answer.
    fn produce(&self, code: i32, further: &[&str]) -> Value {
        let engine = self.start(&[further, &["--output", "json"]].concat());
        let status = engine.wait();
        assert_eq!(status.code(), Some(code), "{}\n{}", engine.stdout(), engine.log());
        serde_json::from_str(&engine.stdout()).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        self.kafka.read(&self.topic).iter().map(id_of).collect()
    }
}

fn id_of(letter: &Letter) -> String {
    events::decode(letter.value.as_deref().unwrap())["id"].as_str().unwrap().to_owned()
}

fn ndjson(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{{\"id\": \"{n}\", \"amount\": \"{n}\", \"note\": \"an event of the test's\"}}\n")).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn counts(answer: &Value) -> [u64; 4] {
    ["read", "acknowledged", "rejected", "undelivered"].map(|name| answer["result"][name].as_u64().unwrap())
}

#[test]
fn each_line_ends_once_and_keys_go_where_java_puts_them() {
    let field = Field::new("lines");
    let dead = format!("{}.dead", field.topic);
    field.kafka.create_topic(&dead, 1, &[]);
    // These are the test vectors of Kafka's own hash, and their partitions out of four.
    let keys = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("abc", 479_470_107),
    ];
    let good: String =
        keys.iter().map(|(key, _)| format!("{{\"id\": \"{key}\", \"colour\": \"COLOUR_RED\"}}\n")).collect();
    let bad: [(&[u8], &str); 5] = [
        (b"{\"id\": \"x\", \"amount\": \"many\"}", "json-wrong-type"),
        (b"{\"id\": \"x\", \"amuont\": 1}", "unknown-field"),
        (b"{\"id\": \"x\"", "json-invalid"),
        (b"\xff\xfe", "invalid-utf8"),
        (b"{\"note\": \"nobody's\"}", "key-missing"),
    ];
    let mut input = good.into_bytes();
    for (line, _) in bad {
        input.extend([b"\n", line, b"\r\n"].concat());
    }
    input.extend(br#"{"id": "last"}"#);
    field.put("events.ndjson", &input);
    let outputs = ["--rejects", "rejects.ndjson", "--acks-out", "acks.ndjson", "--dead-letter-topic", &dead];
    let flags = ["events.ndjson", "--key", "id", "--schema-version", "1.0.0", "--header", "tenant=a"];
    let answer = field.produce(1, &[&flags[..], &outputs].concat());
    assert_eq!(counts(&answer), [11, 6, 5, 0]);
    assert_eq!(answer["error"]["code"], json!("produce.rejected"));
    assert_eq!(answer["result"]["settled"], json!(11));

    let found = field.kafka.read(&field.topic);
    assert_eq!(found.len(), 6);
    for (key, hash) in keys {
        let letter = found.iter().find(|letter| letter.key.as_deref() == Some(key.as_bytes())).unwrap();
        assert_eq!(letter.partition, (hash & 0x7fff_ffff) % PARTITIONS, "key {key}");
        assert_eq!(id_of(letter), key);
        let headers =
            ["content-type", "message-type", "schema-version", "tenant"].map(|name| letter.header(name).unwrap());
        assert_eq!(headers, ["application/protobuf", events::MESSAGE, "1.0.0", "a"]);
    }
    let told: BTreeSet<_> = lines(&field.text("acks.ndjson"))
        .iter()
        .map(|ack| (ack["partition"].clone().as_i64(), ack["offset"].as_i64()))
        .collect();
    let there = found.iter().map(|letter| (Some(i64::from(letter.partition)), Some(letter.offset))).collect();
    assert_eq!(told, there, "what was acknowledged is where it was said to be");

    let kept = lines(&field.text("rejects.ndjson"));
    let letters = field.kafka.read(&dead);
    assert_eq!((kept.len(), letters.len()), (5, 5));
    for (index, (line, code)) in bad.iter().enumerate() {
        assert_eq!(kept[index]["violations"][0]["code"], json!(code));
        assert_eq!(kept[index]["line"], json!(7 + 2 * index));
        assert_eq!(letters[index].value.as_deref(), Some(*line), "the letter is the original");
        assert_eq!(letters[index].header("tollgate.reason"), Some(*code));
        let source = format!("events.ndjson:{}", 7 + 2 * index);
        assert_eq!(letters[index].header("tollgate.source"), Some(source.as_str()));
    }
    assert_eq!(kept[0]["original"], json!("{\"id\": \"x\", \"amount\": \"many\"}"));
    assert_eq!(kept[3]["original_base64"], json!("//4="));
}

#[test]
fn frames_csv_and_a_pipe_give_the_same_events() {
    let field = Field::new("formats");
    let mut frames = Vec::new();
    for n in 0..3 {
        let event = events::encode(&json!({ "id": format!("frame-{n}"), "price": 1.5 }));
        frames.push(u8::try_from(event.len()).unwrap());
        frames.extend(event);
    }
    frames.extend(b"\x03\x0a\xff\xff");
    field.put("events.pb", frames);
    field.put(
        "events.csv",
        "id;amount;price;colour;at\ncsv-0;-5;9.99;COLOUR_BLUE;1767225600000\n\"csv;1\";;1e3;1;\ncsv-2;many;;;\ncsv-3;;;COLOUR_GONE;\n",
    );
    let answer = field.produce(1, &["events.pb", "--schema-id", "258"]);
    assert_eq!(counts(&answer), [4, 3, 1, 0]);
    for letter in field.kafka.read(&field.topic) {
        let value = letter.value.unwrap();
        assert_eq!(&value[..6], b"\x00\x00\x00\x01\x02\x00", "the frame of schema id 258");
        assert_eq!(events::decode(&value[6..])["price"], json!(1.5));
    }
    let csv = Field::new("csv");
    csv.put("events.csv", field.text("events.csv"));
    let answer = csv.produce(1, &["events.csv", "--delimiter", ";", "--key", "id"]);
    assert_eq!(counts(&answer), [4, 2, 2, 0]);
    assert_eq!(answer["result"]["reasons"], json!({ "csv-value": 1, "unknown-enum": 1 }));
    let mut found: Vec<Value> =
        csv.kafka.read(&csv.topic).iter().map(|letter| events::decode(letter.value.as_deref().unwrap())).collect();
    found.sort_by_key(|event| event["id"].as_str().unwrap().to_owned());
    let first = json!({ "id": "csv-0", "amount": "-5", "price": 9.99, "colour": "COLOUR_BLUE", "at": "1767225600000" });
    assert_eq!(found, [first, json!({ "id": "csv;1", "price": 1000.0, "colour": "COLOUR_RED" })]);
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let field = Field::new("transaction");
    field.put("events.ndjson", ndjson(0..500) + "{\"id\": 7}\n" + &ndjson(501..600));
    let whole = ["events.ndjson", "--transaction", "--acks-out", "acks.ndjson"];
    let answer = field.produce(1, &whole);
    assert_eq!(answer["error"]["code"], json!("produce.too_many_rejects"));
    assert_eq!(counts(&answer), [501, 0, 1, 500]);
    assert!(field.ids().is_empty(), "nothing of it is visible");
    assert_eq!(field.text("acks.ndjson"), "", "what is rolled back is not acknowledged");

    let answer = field.produce(1, &[&whole[..], &["--max-rejects", "1"]].concat());
    assert_eq!(counts(&answer), [600, 599, 1, 0]);
    assert_eq!(field.ids().len(), 599);
    assert_eq!(field.text("acks.ndjson").lines().count(), 599);

    // In parts: those that were committed before the end remain.
    let parts = Field::new("parts");
    parts.put("events.ndjson", field.text("events.ndjson"));
    let answer = parts.produce(1, &["events.ndjson", "--transaction-size", "200", "--max-rejects", "0"]);
    assert_eq!(counts(&answer), [501, 400, 1, 100]);
    assert_eq!(answer["result"]["settled"], json!(400));
    assert_eq!(parts.ids().len(), 400);
    let answer = parts.produce(1, &["events.ndjson", "--transaction-size", "200", "--skip", "400"]);
    assert_eq!(counts(&answer), [200, 199, 1, 0]);
    let ids = parts.ids();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (599, 599), "each once");
}

#[test]
fn a_dry_run_needs_no_broker_and_says_the_same() {
    let field = Field::new("dry");
    field.put("events.ndjson", ndjson(0..10) + "{\"id\": 7}\n");
    let arguments = ["produce", "--dry-run", "--protos", "events.proto", "--message", events::MESSAGE, "events.ndjson"];
    let engine = Engine::start(field.folder.path(), &arguments, &[]);
    assert_eq!(engine.wait().code(), Some(1));
    assert!(engine.stdout().contains("10 valid, 1 rejected"), "{}", engine.stdout());
    for part in ["events.ndjson:11: json-wrong-type: id:", "--rejects FILE"] {
        assert!(engine.log().contains(part), "{} lacks {part}", engine.log());
    }
    assert!(field.ids().is_empty());
}

#[test]
fn what_is_wrong_is_said_before_anything_is_sent() {
    let field = Field::new("wrong");
    field.put("events.ndjson", ndjson(0..1));
    field.put("events.csv", "id,amuont\n1,2\n");
    field.put("array.json", "[{}]");
    field.put("events.txt", "");
    for (arguments, said) in [
        (&["gone.ndjson"][..], &["gone.ndjson cannot be read"][..]),
        (&["."], &["does not show its format", "--format"]),
        (&["events.txt"], &["events.txt", "--format"]),
        (&["events.csv"], &["amuont", "did you mean amount?"]),
        (&["array.json"], &["JSON array", "jq -c"]),
        (&["events.ndjson", "--key", "amonut"], &["did you mean amount?"]),
        (&["events.ndjson", "--key", "price"], &["price is double"]),
        (&["events.ndjson", "--config", "acks=0"], &["acks", "always all"]),
        (&["events.ndjson", "--config", "no.such.setting=hidden-word"], &["no.such.setting"]),
        (&["events.ndjson", "--config", "sasl.password=hidden-word"], &["${VARIABLE}"]),
        (&["events.ndjson", "--rate", "fast"], &["events a second"]),
        (&["events.ndjson", "--dead-letter-topic", &field.topic], &["the topic that the events go to"]),
        (&["events.ndjson", "--acks-out", "-", "--output", "json"], &["one object on stdout"]),
    ] {
        let engine = field.start(arguments);
        assert_eq!(engine.wait().code(), Some(2), "{arguments:?}: {}", engine.log());
        let log = engine.log() + &engine.stdout();
        said.iter().for_each(|part| assert!(log.contains(part), "{arguments:?}: {log} lacks {part}"));
        assert!(!log.contains("hidden-word"), "{log}");
    }
    let other = Field { topic: format!("{}.gone", field.topic), ..field };
    let engine = other.start(&["events.ndjson"]);
    assert_eq!(engine.wait().code(), Some(2));
    assert!(engine.log().contains("does not exist"), "{}", engine.log());
    let away = format!("127.0.0.1:{}", xtask::servers::free_port().unwrap());
    let other = Field { brokers: away.clone(), ..other };
    let engine = other.start(&["events.ndjson", "--start-deadline", "1s"]);
    assert_eq!(engine.wait().code(), Some(3));
    assert!(engine.log().contains(&away) && engine.log().contains("refused"), "{}", engine.log());
}

#[test]
fn a_signal_stops_it_where_it_can_go_on() {
    let field = Field::new("signal");
    field.put("events.ndjson", ndjson(0..2_000));
    let engine = field.start(&["events.ndjson", "--rate", "500/s", "--output", "json"]);
    wait_for("some events", || {
        (field.kafka.ends(&field.topic, "read_committed").iter().sum::<i64>() > 100).then_some(())
    });
    engine.signal(Signal::INT);
    assert_eq!(engine.wait().code(), Some(1));
    let answer: Value = serde_json::from_str(&engine.stdout()).unwrap();
    assert_eq!(answer["error"]["code"], json!("produce.interrupted"));
    let [read, acknowledged, ..] = counts(&answer);
    assert_eq!(read, acknowledged, "what was on its way was waited for");
    let settled = answer["result"]["settled"].as_u64().unwrap().to_string();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("--skip {settled}")), "{message}");
    field.produce(0, &["events.ndjson", "--skip", &settled]);
    let ids = field.ids();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (2_000, 2_000), "each once");
}

fn piped(field: &Field, further: &[&str]) -> Child {
    let mut command = Command::new(engine::binary());
    command.args(field.arguments(further)).current_dir(field.folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_slow_pipe_is_produced_line_by_line() {
    let field = Field::new("pipe");
    let mut child = piped(&field, &["--acks-out", "-"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    for n in 0..3 {
        stdin.write_all(ndjson(n..n + 1).as_bytes()).unwrap();
        // The pipe stays open: events are not held back to wait for more.
        let ack: Value = serde_json::from_str(&stdout.next().unwrap().unwrap()).unwrap();
        assert_eq!((&ack["source"], &ack["input"]), (&json!("stdin"), &json!(n + 1)));
    }
    drop(stdin);
    assert!(stdout.next().is_none(), "stdout has the acknowledgements alone");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("3 acknowledged"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let field = Field::new("head");
    let mut child = piped(&field, &["--acks-out", "-"]);
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    // The program ends by itself, while there is still input.
    let writing = std::thread::spawn(move || while stdin.write_all(ndjson(0..100).as_bytes()).is_ok() {});
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

/// Returns the resident memory in MB.
fn memory(engine: &Engine) -> u64 {
    engine.memory("VmRSS").unwrap_or_default() >> 20
}

fn big(field: &Field, count: u32) {
    let mut file = std::io::BufWriter::new(fs::File::create(field.path("events.ndjson")).unwrap());
    for n in 0..count {
        writeln!(file, "{{\"id\": \"{n}\", \"note\": \"{}\"}}", "n".repeat(200)).unwrap();
    }
    file.flush().unwrap();
}

fn own_kafka() -> Kafka {
    Kafka::start(&xtask::Cache::open().unwrap(), &KafkaOptions::default()).unwrap()
}

#[test]
fn an_outage_makes_it_wait_within_bounds_and_loses_nothing() {
    const COUNT: u32 = 600_000;
    let mut kafka = own_kafka();
    let field = Field::on(&kafka.brokers(), "outage");
    big(&field, COUNT);
    let engine = field.start(&["events.ndjson", "--key", "id", "--rate", "150000/s", "--output", "json"]);
    wait_for("a steady flow", || {
        (field.kafka.ends(&field.topic, "read_committed").iter().sum::<i64>() > 50_000).then_some(())
    });
    let before = memory(&engine);
    kafka.stop();
    // This is long enough for a fast reader to read everything if nothing held it back.
    let (began, mut most) = (Instant::now(), 0);
    wait_for("the outage to last", || {
        assert!(engine.running(), "it gave up: {}", engine.log());
        most = most.max(memory(&engine));
        (began.elapsed() > Duration::from_secs(8)).then_some(())
    });
    kafka.restart().unwrap();
    let status = engine.wait_within(Duration::from_secs(120));
    assert_eq!(status.code(), Some(0), "{}\n{}", engine.stdout(), engine.log());
    let answer: Value = serde_json::from_str(&engine.stdout()).unwrap();
    assert_eq!(counts(&answer), [u64::from(COUNT), u64::from(COUNT), 0, 0]);
    println!("produce, outage: {before} MB before, {most} MB at most");
    // The limit is the buffer's 32 MiB and librdkafka's overhead for each record.
    assert!(most < before + 120, "memory grew from {before} to {most} MB");
    let mut seen = BTreeSet::new();
    field.kafka.scan(&field.topic, |letter| assert!(seen.insert(id_of(&letter)), "an event came twice"));
    assert_eq!(seen.len(), usize::try_from(COUNT).unwrap());
}

#[test]
fn an_outage_beyond_the_delivery_timeout_is_told_and_can_be_gone_on_from() {
    const COUNT: u32 = 3_000;
    let mut kafka = own_kafka();
    let field = Field::on(&kafka.brokers(), "timeout");
    big(&field, COUNT);
    let engine = field.start(&["events.ndjson", "--rate", "1000/s", "--delivery-timeout", "2s", "--output", "json"]);
    wait_for("a flow", || (field.kafka.ends(&field.topic, "read_committed").iter().sum::<i64>() > 200).then_some(()));
    kafka.stop();
    assert_eq!(engine.wait().code(), Some(1), "{}", engine.log());
    let answer: Value = serde_json::from_str(&engine.stdout()).unwrap();
    assert_eq!(answer["error"]["code"], json!("produce.undelivered"));
    let [read, acknowledged, rejected, undelivered] = counts(&answer);
    assert!(undelivered > 0 && rejected == 0);
    assert_eq!(read, acknowledged + undelivered);
    let settled = answer["result"]["settled"].as_u64().unwrap();
    assert!(settled >= 200 && settled <= acknowledged, "{answer}");
    kafka.restart().unwrap();
    field.produce(0, &["events.ndjson", "--skip", &settled.to_string()]);
    let ids: BTreeSet<_> = field.ids().into_iter().collect();
    assert_eq!(ids.len(), usize::try_from(COUNT).unwrap(), "every event is there");
}
