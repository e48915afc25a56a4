//! The verbs of the command line. Data goes to stdout, logs and progress go to stderr. `--output json` prints one
//! object per command.

pub mod build;
pub mod check;
pub mod completion;
pub mod contract;
pub mod demo;
pub mod dlq;
pub mod offsets;
pub mod produce;
pub mod resume;
pub mod run;
mod say;
pub mod schema;
pub mod setup;
pub mod status;
mod table;
pub mod test;
pub mod validate;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tollgate_contract::escape_marks;
use tracing_subscriber::EnvFilter;

pub use say::print;
use say::{Logs, complain, log_line};
use tollgate_config::error::{Exit, Failure};

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
#[command(next_help_heading = "Options of every command")]
struct Common {
    /// Print text, or one JSON object {command, ok, summary, result, error}, on stdout.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Format of the logs on stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log level: error, warn, info, debug, trace, or a filter such as tollgate=debug. Default: info for `run`, warn
    /// for all other commands.
    #[arg(long, global = true, env = "TOLLGATE_LOG", value_name = "LEVEL")]
    log: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    /// Only for `check`, whose help lists it.
    #[value(hide = true)]
    Sarif,
    #[value(hide = true)]
    Github,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a pipeline until a signal stops it.
    Run(run::Args),
    /// Creates what a pipeline needs and the servers lack: topics, the target table, Tollgate's own tables.
    Setup(setup::Args),
    /// Reports errors in a pipeline, and shows what it guarantees.
    Validate(validate::Args),
    Status(status::Args),
    Resume(resume::Args),
    Offsets(offsets::Args),
    /// Lists or exports the dead letters of a pipeline.
    Dlq(dlq::Args),
    /// Builds transforms into components: checks their imports, strips them, embeds their transform.yaml.
    Build(build::Args),
    /// Runs the golden cases of transforms in the real sandbox.
    Test(test::Args),
    Demo(demo::Args),
    Produce(Box<produce::Args>),
    /// Prints a JSON Schema: of a pipeline.yaml, for editors, or of the status of a process.
    Schema(schema::Args),
    Check(check::Args),
    /// Exports, documents, compares, locks and registers contracts.
    Contract(contract::Args),
    Completion(completion::Args),
}

/// The result of a verb that succeeded.
#[derive(Debug, Default)]
pub struct Success {
    /// The result in one line.
    pub summary: String,
    /// The result for `--output json`.
    pub result: Value,
    /// The text for people. If it is empty, only the summary is printed.
    pub text: String,
}

impl Success {
    pub fn new(summary: impl Into<String>, result: Value, text: impl Into<String>) -> Success {
        Success { summary: summary.into(), result, text: text.into() }
    }
}

/// Parses the arguments, runs the verb and prints its result.
pub fn main() -> ExitCode {
    // Components are compiled in a second process of this program, which has separate limits.
    if let Some(code) = tollgate_sandbox::compiler_process() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors. A wrong flag counts as an error in the caller's configuration.
            if !error.use_stderr() {
                return exit(if error.print().is_ok() { Exit::Ok } else { Exit::Failed });
            }
            return misused(&error);
        }
    };
    let usual = if matches!(cli.verb, Verb::Run(_)) { "info" } else { "warn" };
    if let Err(failure) = start_logs(&cli.common, usual) {
        return finish(Form::of(&cli.common), cli.verb.name(), Err(failure));
    }
    let command = cli.verb.name();
    if matches!(cli.common.output, Format::Sarif | Format::Github) && !matches!(cli.verb, Verb::Check(_)) {
        let message =
            format!("--output sarif and github work only with `tollgate check`; `{command}` has text and json");
        let form = Form { output: Format::Text, ..Form::of(&cli.common) };
        return finish(form, command, Err(Failure::configuration("config.output", message)));
    }
    let form = Form::of(&cli.common);
    let result = match cli.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Setup(args) => setup::run(&args),
        Verb::Validate(args) => validate::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Resume(args) => resume::run(&args),
        Verb::Offsets(args) => offsets::run(&args),
        Verb::Dlq(args) => dlq::run(&args, cli.common.output == Format::Json),
        Verb::Build(args) => build::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Demo(args) => demo::run(&args, cli.common.output == Format::Json),
        Verb::Produce(args) => produce::run(&args, cli.common.output == Format::Json),
        Verb::Schema(args) => schema::run(&args),
        Verb::Check(args) => check::run(&args, cli.common.output),
        Verb::Contract(args) => contract::run(&args),
        Verb::Completion(args) => completion::run(&args),
    };
    finish(form, command, result)
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Verb::Run(_) => "run",
            Verb::Setup(_) => "setup",
            Verb::Validate(_) => "validate",
            Verb::Status(_) => "status",
            Verb::Resume(_) => "resume",
            Verb::Offsets(args) => args.name(),
            Verb::Dlq(args) => args.name(),
            Verb::Build(_) => "build",
            Verb::Test(_) => "test",
            Verb::Demo(_) => "demo",
            Verb::Produce(_) => "produce",
            Verb::Schema(_) => "schema",
            Verb::Check(_) => "check",
            Verb::Contract(args) => args.name(),
            Verb::Completion(_) => "completion",
        }
    }
}

fn start_logs(common: &Common, usual: &str) -> Result<(), Failure> {
    let asked = common.log.as_deref().unwrap_or(usual);
    let filter = EnvFilter::try_new(asked)
        .map_err(|error| Failure::configuration("config.log", format!("--log: `{asked}` is not a filter: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Logs);
    match common.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
    }
    Ok(())
}

/// The way in which the result of a verb is printed.
#[derive(Debug, Clone, Copy)]
struct Form {
    output: Format,
    logs: LogFormat,
}

impl Form {
    fn of(common: &Common) -> Form {
        Form { output: common.output, logs: common.log_format }
    }

    /// Returns the form that an argument list asks for, if clap rejects the list.
    fn guess(arguments: &[String]) -> Form {
        let asks = |option: &str, value: &str| {
            let joined = format!("{option}={value}");
            arguments.contains(&joined) || arguments.windows(2).any(|pair| pair[0] == option && pair[1] == value)
        };
        Form {
            output: if asks("--output", "json") { Format::Json } else { Format::Text },
            logs: if asks("--log-format", "json") { LogFormat::Json } else { LogFormat::Text },
        }
    }
}

/// Prints clap's error about the arguments: as clap does, or as the JSON object or log line that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let form = Form::guess(&arguments);
    if form.output != Format::Json && form.logs != LogFormat::Json {
        return exit(if error.print().is_ok() { Exit::Configuration } else { Exit::Failed });
    }
    let cli = Cli::command();
    let verb = arguments.iter().find(|word| cli.find_subcommand(word.as_str()).is_some());
    let said = error.render().to_string();
    let message = said.strip_prefix("error: ").unwrap_or(&said).trim_end();
    finish(form, verb.map_or("", String::as_str), Err(Failure::configuration("config.arguments", message)))
}

/// Prints the result of a verb. No other function does so.
fn finish(form: Form, command: &str, result: Result<Success, Failure>) -> ExitCode {
    // The result of `run` goes to its log; the results of the other verbs are data.
    let logged = form.logs == LogFormat::Json && form.output == Format::Text;
    let (code, object, text) = match result {
        Ok(Success { summary, result, text }) if logged && command == "run" => {
            log_line("INFO", &summary, &[("result", &result)]);
            (Exit::Ok, Value::Null, text)
        }
        Ok(success) => {
            let text = if success.text.is_empty() { success.summary.clone() } else { success.text };
            let object = json!({ "command": command, "ok": true, "summary": success.summary,
                "result": success.result, "error": null });
            (Exit::Ok, object, text)
        }
        Err(failure) => {
            match (form.output, form.logs) {
                (Format::Json, _) => {}
                (_, LogFormat::Json) => log_line("ERROR", &failure.message, &[("code", &json!(failure.code))]),
                (_, LogFormat::Text) => complain(&failure.message),
            }
            let object = json!({ "command": command, "ok": false, "summary": failure.message.lines().next(),
                "result": failure.result, "error": { "code": failure.code, "message": failure.message } });
            (failure.exit, object, failure.text)
        }
    };
    match form.output {
        Format::Json => print(&escape_marks(&object.to_string()), code),
        Format::Text | Format::Sarif | Format::Github if text.is_empty() => {}
        // These commands print files, so their text must not be escaped.
        _ if command.starts_with("contract") || matches!(command, "schema" | "completion") => print(&text, code),
        Format::Text | Format::Sarif | Format::Github => print(&escape_marks(&text), code),
    }
    exit(code)
}

fn exit(code: Exit) -> ExitCode {
    ExitCode::from(code as u8)
}

/// Returns clap's description of the commands, for help pages and completion.
pub fn command() -> clap::Command {
    Cli::command()
}
