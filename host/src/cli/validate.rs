//! `tollgate validate pipeline.yaml`: checks a pipeline without any network, and with `--connect` also against its
//! servers.

mod connect;
mod memory;
pub mod offline;
mod partitions;
mod report;
mod rights;

pub use memory::Memory;
pub use offline::offline;
pub use report::{Finding, Guarantee, Report, Severity};

use super::Success;
use serde_json::json;
use std::path::PathBuf;
use tollgate_config::error::{Exit, Failure};
use tollgate_config::{ConfigErrors, Pipeline};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Check Kafka and PostgreSQL too: topics, tables, columns, types, grants and ACLs. Changes nothing.
    #[arg(long)]
    pub connect: bool,
}

/// # Errors
/// Fails with exit code 2 with all findings if one of them is an error, 3 if the only errors are unreachable servers.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let pipeline = load(args)?;
    let mut report = offline(&pipeline);
    if !args.connect {
        report.check_acknowledged(&pipeline);
        return conclude(&pipeline, &report);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    runtime.block_on(connect::connected(&pipeline, &mut report));
    report.check_acknowledged(&pipeline);
    let concluded = conclude(&pipeline, &report);
    // Unreachable servers are an error of the environment: nothing in the file or on the servers needs a fix.
    concluded.map_err(|failure| match connect::only_unreachable(&report) {
        true => Failure { exit: Exit::Environment, code: "environment.unreachable", ..failure },
        false => failure,
    })
}

fn load(args: &Args) -> Result<Pipeline, Failure> {
    Pipeline::load(&args.pipeline).map_err(|errors| {
        let findings: Vec<Finding> = errors.errors.iter().map(Finding::from).collect();
        let result = json!({ "findings": findings, "guarantee": null, "memory": null });
        Failure::configuration("config.invalid", summary(&errors)).with(result, errors.to_string())
    })
}

fn summary(errors: &ConfigErrors) -> String {
    format!("{} has {}", errors.file, report::count(errors.errors.len(), "error"))
}

/// Turns a report into the result of the verb.
pub fn conclude(pipeline: &Pipeline, report: &Report) -> Result<Success, Failure> {
    let file = pipeline.file.display().to_string();
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    let (result, text) = (report.to_json(), report.to_text(&file));
    let warned = if warnings == 0 { String::new() } else { format!(", with {}", report::count(warnings, "warning")) };
    if errors > 0 {
        let message = format!("{file} has {}{warned}", report::count(errors, "error"));
        return Err(Failure::configuration("config.invalid", message).with(result, text));
    }
    let summary = format!("{file} is valid{warned}");
    // The text starts with the summary and ends with the guarantee, the last thing that a reader sees.
    Ok(Success::new(summary.clone(), result, format!("{summary}\n{text}")))
}
