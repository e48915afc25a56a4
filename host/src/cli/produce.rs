//! `tollgate produce`: sends events from files or a pipe to a topic, after checking them against the contract.

mod args;
mod envelope;
mod report;
mod settings;
mod watch;

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _};
use std::path::{Path, PathBuf};

use tollgate_producer::input::{self, Source};
use tollgate_producer::run::{self, Acks, Options, Skew};
use tollgate_producer::{ConnectError, Invalid, Producer, Rejects};

use super::Success;
pub use args::{Args, Format};
use report::Report;
use settings::Target;
use tollgate_config::error::Failure;
use watch::Bar;

/// # Errors
/// Fails with exit code 1 if events were rejected or not delivered, 2 if an argument, the contract or the topic is
/// wrong, and 3 if no broker can be reached.
pub fn run(args: &Args, json: bool) -> Result<Success, Failure> {
    let sources = sources(args, json)?;
    let target = Target::read(args)?;
    if args.dead_letter_topic.as_deref() == Some(target.gate.topic()) {
        let message = format!("--dead-letter-topic: {} is the topic that the events go to", target.gate.topic());
        return Err(Failure::configuration("produce.arguments", message));
    }
    let topic = target.gate.topic().to_owned();
    let producer = producer(args, target)?;
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let options = options(args, &names)?;
    let signals = watch::signals()?;
    if !args.dry_run {
        producer.connect(args.start_deadline).map_err(|error| unconnected(args, &error))?;
    }
    signals.started();
    let mut bar = Bar::new(&sources, args.dry_run);
    let finished = run::run(producer, sources, options, signals.stop(), &mut bar)
        .map_err(|error| Failure::environment("environment.thread", error))?;
    drop(bar);
    Report { args, topic, names, finished: &finished }.result()
}

/// Opens the inputs. It reads nothing yet.
fn sources(args: &Args, json: bool) -> Result<Vec<Source>, Failure> {
    let wrong = |message: String| Failure::configuration("produce.arguments", message);
    if json && args.acks_out.as_deref() == Some(Path::new("-")) {
        let message =
            "--output json prints one object on stdout, where --acks-out - would write too: name a file for the latter";
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
        return Err(wrong("- is given twice; stdin can be read once".to_owned()));
    }
    input::open(&files, args.format.map(Into::into), args.delimiter)
        .map_err(|errors| wrong(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn producer(args: &Args, target: Target) -> Result<Producer, Failure> {
    let Target { gate, mut config } = target;
    if args.dry_run {
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
                None => "create it first, with the partitions and the retention that it needs".to_owned(),
            };
            Failure::configuration("produce.topic_missing", format!("{error}; {how}"))
        }
    }
}

/// Opens the output files. `names` are the inputs' names.
fn options(args: &Args, names: &[String]) -> Result<Options, Failure> {
    type Out = Box<dyn io::Write + Send>;
    let open = |path: &PathBuf| -> Result<Out, Failure> {
        let mut options = OpenOptions::new();
        // A run that continues an earlier one appends to its files.
        options.create(true).write(true).append(args.skip > 0).truncate(args.skip == 0);
        let unwritten = |error| format!("{} cannot be written: {error}", path.display());
        let file = options.open(path);
        Ok(Box::new(file.map_err(|error| Failure::configuration("produce.arguments", unwritten(error)))?))
    };
    let rejects = args.rejects.as_ref().map(open).transpose()?;
    let acks = match &args.acks_out {
        None => None,
        Some(path) if path.as_os_str() == "-" => Some(Box::new(io::stdout()) as Out),
        Some(path) => Some(open(path)?),
    };
    let transactional = args.transaction || args.transaction_size.is_some();
    let acks = acks.map(|out| Acks::new(out, names, transactional)).transpose();
    Ok(Options {
        dry: args.dry_run,
        skip: args.skip,
        rejects: rejects.map(|file| Rejects::new(Box::new(BufWriter::new(file)) as Out)),
        dead_letters: args.dead_letter_topic.is_some(),
        // With one transaction the first rejected event ends the run, unless some are allowed.
        max_rejects: args.max_rejects.or(args.transaction.then_some(0)),
        transaction_size: if args.transaction { Some(u64::MAX) } else { args.transaction_size },
        rate: args.rate,
        acks: acks.map_err(|error| Failure::environment("environment.file", format!("a temporary file: {error}")))?,
        skew: (args.dry_run && !args.key.is_empty()).then(|| Skew::new(args.partitions)),
    })
}
