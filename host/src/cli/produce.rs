//! `tollgate produce`: events from files or a pipe into a topic, through the contract.

mod columns;
mod flow;
mod ledger;
mod read;
mod settings;
mod skew;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tollgate_producer::{ConnectError, Invalid, Producer, Rejects};

use super::Success;
use super::table::thousands;
use flow::{Ended, Flow, Pace, Stop, rate};
use ledger::{Acks, Counts, Ledger};
use read::{Format, Source};
use settings::Target;
use skew::Skew;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_config::reader;

/// Produces events that fit their contract, and nothing else.
///
/// Reads NDJSON (Protobuf's JSON mapping, one object a line), length-delimited Protobuf frames, or CSV. Each event ends as
/// exactly one of acknowledged, rejected and undelivered. Exit code 0 where all were accepted, 1 where some were not, 2 where a
/// flag or a contract is wrong, 3 where there is no broker.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to read, in this order; - is stdin, which is read too where nothing is named.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Takes brokers, security, topic and contract from this pipeline.yaml: its `source` and `contract`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["brokers", "protos", "message"])]
    pub pipeline: Option<PathBuf>,
    /// Kafka, host:port, comma separated.
    #[arg(long, value_name = "BROKERS")]
    pub brokers: Option<String>,
    /// The topic to produce to; with --pipeline, in place of its source's.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Where the message type comes from: a folder, .proto files, a descriptor set. May be repeated.
    #[arg(long, value_name = "PATH")]
    pub protos: Vec<PathBuf>,
    /// Full name of the message type.
    #[arg(long, value_name = "NAME")]
    pub message: Option<String>,
    /// Type of the events, of a pipeline with several.
    #[arg(long = "type", value_name = "NAME")]
    pub event_type: Option<String>,
    /// How events stand in the input. Default: by the file's name (.ndjson .jsonl .json, .pb .bin .binpb, .csv .tsv), and
    /// ndjson for stdin.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// What stands between the cells of a CSV line. Default: a comma; a tab for .tsv.
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub delimiter: Option<u8>,
    /// Makes the record's key of this field's text, or of several (--key tenant,id) a JSON object; else events have no order.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub key: Vec<String>,
    /// The header schema-version.
    #[arg(long, value_name = "VERSION")]
    pub schema_version: Option<String>,
    /// Frames the values in Confluent's wire format, under this id of a schema registry.
    #[arg(long, value_name = "ID")]
    pub schema_id: Option<u32>,
    /// A header of every record. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub header: Vec<(String, String)>,
    /// Lets fields pass that the contract does not have; those of JSON are left out. Without it they are rejected.
    #[arg(long)]
    pub allow_unknown_fields: bool,
    /// The whole input is one transaction: all of it becomes visible, or nothing. A rejected event rolls it back, unless
    /// --max-rejects allows for it.
    #[arg(long, conflicts_with = "transaction_size")]
    pub transaction: bool,
    /// Each N events are a transaction.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub transaction_size: Option<u64>,
    /// Names the transactions: a second process with the same id ends the first one's. Default: tollgate-produce-TOPIC.
    #[arg(long, value_name = "ID")]
    pub transactional_id: Option<String>,
    /// At most so many events a second, such as 500 or 500/s.
    #[arg(long, value_name = "N/s", value_parser = per_second)]
    pub rate: Option<f64>,
    /// Checks every event and sends none; no broker is needed.
    #[arg(long)]
    pub dry_run: bool,
    /// Partitions for which a dry run says how evenly the keys spread.
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Rejected events go to this topic, as they came, with every violation in headers.
    #[arg(long, value_name = "TOPIC")]
    pub dead_letter_topic: Option<String>,
    /// Rejected events go to this file: one JSON object a line with the place, every violation, and the original. It is
    /// replaced; with --skip, appended to.
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Each acknowledged event's partition and offset go to this file (- is stdout), one JSON object a line. As for --rejects.
    #[arg(long, value_name = "FILE")]
    pub acks_out: Option<PathBuf>,
    /// Stops at the first rejected event beyond so many.
    #[arg(long, value_name = "N")]
    pub max_rejects: Option<u64>,
    /// Passes over so many events: what an earlier run said to go on with.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u64,
    /// How long an event may be on its way before it counts as undelivered.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = delivery_timeout)]
    pub delivery_timeout: Duration,
    /// How long to try to reach a broker at the start.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub start_deadline: Duration,
    /// The largest record, such as 4MiB: no more than the topic's max.message.bytes. Default: 1000000 bytes.
    #[arg(long, value_name = "SIZE", value_parser = record_bytes)]
    pub max_record: Option<usize>,
    /// A setting of librdkafka, such as compression.type=zstd; ${VARIABLE} and ${file:PATH} in it are replaced, and secrets
    /// must come that way. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub config: Vec<String>,
    /// A file of such settings, one a line.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
}

fn said(complaint: reader::Complaint) -> String {
    match complaint.nearest {
        Some(nearest) => format!("{}: did you mean {nearest}?", complaint.message),
        None => complaint.message,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    reader::duration(text).map_err(said)
}

fn delivery_timeout(text: &str) -> Result<Duration, String> {
    reader::duration_within(Duration::from_millis(100), limits::DEADLINE_MAX)(text).map_err(said)
}

fn record_bytes(text: &str) -> Result<usize, String> {
    reader::bytes_within(1_000, limits::EVENT_BYTES_MAX)(text).map_err(said)
}

fn delimiter(text: &str) -> Result<u8, String> {
    match (text, text.as_bytes()) {
        ("\\t" | "tab", _) => Ok(b'\t'),
        (_, [byte]) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("write one character, or tab".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value".to_owned()),
    }
}

fn per_second(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=1e9).contains(&rate) => Ok(rate),
        _ => Err("write a number of events a second, such as 500 or 0.5/s".to_owned()),
    }
}

/// # Errors
/// Exit code 1 where events were rejected or not delivered, 2 where an argument, the contract or the topic is wrong, 3 where no
/// broker can be reached.
pub fn run(args: &Args, json: bool) -> Result<Success, Failure> {
    let sources = sources(args, json)?;
    let target = Target::read(args)?;
    if args.dead_letter_topic.as_deref() == Some(target.gate.topic()) {
        let message = format!("--dead-letter-topic: {} is the topic that the events go to", target.gate.topic());
        return Err(Failure::configuration("produce.arguments", message));
    }
    let options = read::Options {
        message: target.gate.contract().message().clone(),
        most: target.gate.contract().policies().max_bytes,
        skip: args.skip,
    };
    let topic = target.gate.topic().to_owned();
    let producer = producer(args, target)?;
    let outputs = Outputs::open(args, &sources)?;
    let stop = watch_signals()?;
    if !args.dry_run {
        producer.connect(args.start_deadline).map_err(|error| unconnected(args, &error))?;
    }
    stop.running.store(true, Ordering::Release);
    let bar = bar(&sources);
    let ledger = Arc::new(Ledger::new(args.skip, outputs.acks));
    let mut flow = Flow {
        producer: &producer,
        dry: args.dry_run,
        ledger: Arc::clone(&ledger),
        stop: &stop,
        bar: bar.clone(),
        sources: sources.iter().map(|source| (source.name.clone(), source.format)).collect(),
        rejects: outputs.rejects,
        letters: args.dead_letter_topic.is_some(),
        // All or nothing: the first rejected event ends it, unless some are allowed for.
        max_rejects: args.max_rejects.or(args.transaction.then_some(0)),
        transaction_size: if args.transaction { Some(u64::MAX) } else { args.transaction_size }
            .filter(|_| !args.dry_run),
        transaction: None,
        pace: args.rate.map(Pace::new),
        reasons: BTreeMap::new(),
        rejected: 0,
        skew: (args.dry_run && !args.key.is_empty()).then(|| Skew::new(args.partitions)),
    };
    let begun = Instant::now();
    let (messages, _thread) =
        read::start(sources, options).map_err(|error| Failure::environment("environment.thread", error))?;
    let ended = flow.run(&messages);
    drop(messages);
    let ended = flow.finish(ended);
    let skew = flow.skew.take();
    let (reasons, names) = (std::mem::take(&mut flow.reasons), std::mem::take(&mut flow.sources));
    drop(flow);
    bar.finish_and_clear();
    // What is left after all patience comes back as undelivered, and into the books.
    _ = producer.close(Duration::ZERO);
    let elapsed = begun.elapsed();
    let report = Report { args, topic, counts: ledger.counts(), ledger: &ledger, reasons, names, skew, elapsed };
    report.end(ended)
}

/// The inputs, open. Nothing is read yet.
fn sources(args: &Args, json: bool) -> Result<Vec<Source>, Failure> {
    let wrong = |message: String| Failure::configuration("produce.arguments", message);
    if json && args.acks_out.as_deref() == Some(Path::new("-")) {
        let message =
            "--output json prints one object on stdout, where --acks-out - would go too: name a file for them";
        return Err(wrong(message.to_owned()));
    }
    let files = match args.files.as_slice() {
        [] if io::stdin().is_terminal() => {
            return Err(wrong("nothing to read: name files, pipe events in, or write - to type them".to_owned()));
        }
        [] => vec![PathBuf::from("-")],
        files => files.to_vec(),
    };
    if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(wrong("- stands twice; stdin can be read once".to_owned()));
    }
    read::open(&files, args.format, args.delimiter).map_err(|complaints| wrong(complaints.join("\n")))
}

fn producer(args: &Args, target: Target) -> Result<Producer, Failure> {
    let Target { gate, mut config, .. } = target;
    if args.dry_run {
        // It knows no broker, so it cannot ask one.
        config.client.remove("bootstrap.servers");
        (config.invalid, config.transactional_id) = (Invalid::Return, None);
    }
    Producer::with_gates(config, vec![gate]).map_err(|error| Failure::configuration("produce.config", error))
}

fn unconnected(args: &Args, error: &ConnectError) -> Failure {
    match error {
        ConnectError::Unreachable { .. } => Failure::environment("environment.unreachable", error),
        ConnectError::Refused { .. } => Failure::configuration("environment.refused", error),
        ConnectError::Topic { .. } => Failure::environment("produce.topic_refused", error),
        ConnectError::TopicMissing { .. } => {
            let how = match &args.pipeline {
                Some(file) => format!("`tollgate setup {}` creates a pipeline's topics", file.display()),
                None => "create it first: its partitions and retention are not for a producer to choose".to_owned(),
            };
            Failure::configuration("produce.topic_missing", format!("{error}; {how}"))
        }
    }
}

/// Where rejected events and acknowledgements go.
struct Outputs {
    rejects: Option<Rejects<BufWriter<File>>>,
    acks: Option<Acks>,
}

impl Outputs {
    fn open(args: &Args, sources: &[Source]) -> Result<Outputs, Failure> {
        let open = |path: &PathBuf| {
            let mut options = OpenOptions::new();
            options.create(true).write(true);
            // A run that goes on where an earlier one ended adds to what that one wrote.
            if args.skip > 0 {
                options.append(true)
            } else {
                options.truncate(true)
            };
            let unwritten = |error| format!("{} cannot be written: {error}", path.display());
            options.open(path).map_err(|error| Failure::configuration("produce.arguments", unwritten(error)))
        };
        let rejects = args.rejects.as_ref().map(open).transpose()?;
        let acks = match &args.acks_out {
            None => None,
            Some(path) if path.as_os_str() == "-" => Some(Box::new(io::stdout()) as Box<dyn io::Write + Send>),
            Some(path) => Some(Box::new(open(path)?) as Box<dyn io::Write + Send>),
        };
        let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
        let transactional = args.transaction || args.transaction_size.is_some();
        let acks = acks.map(|out| Acks::new(out, &names, transactional)).transpose();
        let acks =
            acks.map_err(|error| Failure::environment("environment.file", format!("a temporary file: {error}")))?;
        Ok(Outputs { rejects: rejects.map(|file| Rejects::new(BufWriter::new(file))), acks })
    }
}

/// Bytes where all lengths are known; else a sign of life.
fn bar(sources: &[Source]) -> ProgressBar {
    let length = sources.iter().map(|source| source.length).sum::<Option<u64>>();
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:30} {percent:>3}% {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    // Without the template the bar has another form, and nothing else is lost.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// The first signal asks the loop to stop, or ends a process that has nothing on its way; the second one ends it in any case.
fn watch_signals() -> Result<Arc<Stop>, Failure> {
    let stop = Arc::new(Stop::default());
    let shared = Arc::clone(&stop);
    let failed = |error: io::Error| Failure::environment("environment.signals", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    let watching = move || {
        runtime.block_on(async {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                let second = shared.asked.swap(true, Ordering::AcqRel);
                if second || !shared.running.load(Ordering::Acquire) {
                    std::process::exit(130);
                }
                tracing::warn!("stopping: waiting for what is on its way; a second signal stops at once");
            }
        });
    };
    std::thread::Builder::new().name("produce-signals".to_owned()).spawn(watching).map_err(failed)?;
    Ok(stop)
}

/// How it went.
struct Report<'r> {
    args: &'r Args,
    topic: String,
    counts: Counts,
    ledger: &'r Ledger,
    reasons: BTreeMap<String, u64>,
    names: Vec<(String, Format)>,
    elapsed: Duration,
    /// How a dry run's keys spread.
    skew: Option<Skew>,
}

impl Report<'_> {
    fn end(&self, ended: Ended) -> Result<Success, Failure> {
        let summary = self.summary();
        let result = self.result(matches!(ended, Ended::Complete));
        if !self.counts.add_up() {
            let message = format!("the counts do not add up, which is a fault of this program: {summary}");
            return Err(Failure::failed("produce.sum", message).with(result, String::new()));
        }
        // Where stdout has the acknowledgements, the summary stands beside them.
        let taken = self.args.acks_out.as_deref() == Some(Path::new("-"));
        let text = if taken { String::new() } else { summary.clone() };
        if taken && !matches!(ended, Ended::Unwatched) {
            _ = writeln!(io::stderr().lock(), "{summary}");
        }
        let failed =
            |code: &'static str, message: String| Failure::failed(code, message).with(result.clone(), text.clone());
        let on = self.go_on();
        match ended {
            Ended::Complete if self.counts.rejected == 0 => {
                Ok(Success::new(if taken { String::new() } else { summary.clone() }, result, ""))
            }
            Ended::Complete => Err(failed("produce.rejected", self.rejected())),
            Ended::Interrupted => Err(failed("produce.interrupted", format!("interrupted{on}"))),
            Ended::Undelivered => Err(failed("produce.undelivered", format!("{}{on}", self.undelivered()))),
            Ended::TooManyRejects => {
                let why = match self.args.max_rejects {
                    Some(most) => format!("more than {most} events are rejected (--max-rejects)"),
                    None => "an event is rejected, and the transaction is all or nothing".to_owned(),
                };
                Err(failed("produce.too_many_rejects", format!("{why}{on}")))
            }
            Ended::Unwatched => match self.ledger.trouble() {
                // A reader that went away (`| head`) is no error.
                None => Ok(Success::default()),
                Some(error) => Err(failed("produce.acks", format!("--acks-out cannot be written: {error}{on}"))),
            },
            Ended::Refused(why) => Err(failed("produce.refused", format!("the producer takes no more: {why}{on}"))),
            Ended::RolledBack(why) => {
                Err(failed("produce.rolled_back", format!("a transaction was rolled back: {why}{on}")))
            }
            Ended::Unreadable(why) | Ended::Unwritten(why) => Err(failed("produce.file", format!("{why}{on}"))),
            Ended::Wrong(why) => Err(Failure::configuration("produce.input", why).with(result, text)),
        }
    }

    fn summary(&self) -> String {
        let Counts { read, acknowledged, rejected, undelivered } = self.counts;
        let count = thousands;
        let ends = if self.args.dry_run {
            format!("{} valid, {} rejected", count(acknowledged), count(rejected))
        } else {
            format!(
                "{} acknowledged by {}, {} rejected, {} undelivered",
                count(acknowledged),
                self.topic,
                count(rejected),
                count(undelivered)
            )
        };
        let (seconds, rate) = (self.elapsed.as_secs_f64(), rate(read, self.elapsed));
        let nothing = if self.args.dry_run { "; nothing was sent" } else { "" };
        let skew = self.skew.as_ref().and_then(Skew::tell).map(|told| format!("\n{told}")).unwrap_or_default();
        format!("{ends}: {} read in {seconds:.1} s, {} a second{nothing}{skew}", count(read), count(rate))
    }

    fn result(&self, complete: bool) -> Value {
        let Counts { read, acknowledged, rejected, undelivered } = self.counts;
        json!({
            "topic": Some(&self.topic).filter(|_| !self.args.dry_run),
            "dry_run": self.args.dry_run,
            "complete": complete,
            "read": read,
            // In a dry run: found to be valid.
            "acknowledged": acknowledged,
            "rejected": rejected,
            "undelivered": undelivered,
            "skipped": self.args.skip,
            "settled": self.ledger.settled(),
            "reasons": self.reasons,
            "skew": self.skew.as_ref().and_then(Skew::json),
            "seconds": self.elapsed.as_secs_f64(),
            "events_per_s": rate(read, self.elapsed),
        })
    }

    fn rejected(&self) -> String {
        let codes: Vec<String> =
            self.reasons.iter().map(|(code, events)| format!("{code} {}", thousands(*events))).collect();
        let kept = if self.args.rejects.is_none() && self.args.dead_letter_topic.is_none() {
            "; --rejects FILE keeps them with every violation"
        } else {
            ""
        };
        let Counts { read, rejected, .. } = self.counts;
        let were = if rejected == 1 { "was" } else { "were" };
        format!("{} of {} events {were} rejected: {}{kept}", thousands(rejected), thousands(read), codes.join(", "))
    }

    fn undelivered(&self) -> String {
        let Some(loss) = self.ledger.loss() else { return "events were not delivered".to_owned() };
        let name = self.names.get(loss.place.source).map_or("", |(name, _)| name);
        let undelivered = self.counts.undelivered;
        let were = if undelivered == 1 { "event was" } else { "events were" };
        let (line, why) = (loss.place.line, loss.why);
        format!("{} {were} not delivered, first {name}:{line}: {why}", thousands(undelivered))
    }

    /// Where to go on.
    fn go_on(&self) -> String {
        let settled = self.ledger.settled();
        if self.args.dry_run {
            return String::new();
        }
        if self.args.transaction {
            return "; nothing of this input is visible".to_owned();
        }
        let again = if self.counts.undelivered > 0 && self.args.transaction_size.is_none() {
            ", which may repeat events behind the first undelivered one"
        } else {
            ""
        };
        format!("\n{} events are settled: go on with --skip {settled}{again}", thousands(settled))
    }
}

#[cfg(test)]
mod tests;
