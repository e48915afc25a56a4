//! The verbs. Data on stdout, logs and progress on stderr; `--output json` prints one object a command.

pub mod run;
pub mod schema;
pub mod setup;
pub mod validate;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::error::{Exit, Failure};

/// Moves events from Kafka into PostgreSQL through a Protobuf contract and WASM transforms, effectively once.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Common {
    /// What stdout gets: text for people, or one JSON object {command, ok, summary, result, error}.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Form of the logs on stderr.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// What is logged: error, warn, info, debug, trace, or a filter such as tollgate=debug.
    #[arg(long, global = true, env = "TOLLGATE_LOG", default_value = "info", value_name = "LEVEL")]
    log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a pipeline until it is told to stop.
    Run(run::Args),
    /// Creates what a pipeline lacks: topics, the target table, Tollgate's own tables.
    Setup(setup::Args),
}

/// What a verb has to show.
#[derive(Debug, Default)]
pub struct Success {
    /// One line.
    pub summary: String,
    /// For `--output json`.
    pub result: Value,
    /// For people; without it the summary stands alone.
    pub text: String,
}

impl Success {
    pub fn new(summary: impl Into<String>, result: Value, text: impl Into<String>) -> Success {
        Success { summary: summary.into(), result, text: text.into() }
    }
}

/// Parses, runs the verb, and prints how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a wrong flag is the caller's configuration.
            let code = if error.use_stderr() { Exit::Configuration } else { Exit::Ok };
            if error.print().is_err() {
                return exit(Exit::Failed);
            }
            return exit(code);
        }
    };
    start_logs(&cli.common);
    let command = cli.verb.name();
    let result = match cli.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Setup(args) => setup::run(&args),
    };
    finish(cli.common.output, command, result)
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Verb::Run(_) => "run",
            Verb::Setup(_) => "setup",
        }
    }
}

fn start_logs(common: &Common) {
    let filter = EnvFilter::try_new(&common.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match common.log_format {
        Format::Json => builder.json().flatten_event(true).init(),
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
    }
}

/// The one place that prints a verb's end.
fn finish(format: Format, command: &str, result: Result<Success, Failure>) -> ExitCode {
    let (code, object, text) = match result {
        Ok(success) => {
            let text = if success.text.is_empty() { success.summary.clone() } else { success.text };
            let object = json!({ "command": command, "ok": true, "summary": success.summary,
                "result": success.result, "error": null });
            (Exit::Ok, object, text)
        }
        Err(failure) => {
            if format == Format::Text {
                complain(&failure.message);
            }
            let object = json!({ "command": command, "ok": false, "summary": failure.message.lines().next(),
                "result": failure.result, "error": { "code": failure.code, "message": failure.message } });
            (failure.exit, object, failure.text)
        }
    };
    match format {
        Format::Json => print(&object.to_string()),
        Format::Text if !text.is_empty() => print(&text),
        Format::Text => {}
    }
    exit(code)
}

fn exit(code: Exit) -> ExitCode {
    ExitCode::from(code as u8)
}

/// Writes a line to stdout. A reader that went away (`| head`) is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .is_err()
    {
        std::process::exit(0);
    }
}

fn complain(message: &str) {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    eprintln!("error: {first}");
    lines.for_each(|line| eprintln!("  {line}"));
}

/// The commands as clap knows them, for help pages and completion.
pub fn command() -> clap::Command {
    Cli::command()
}
