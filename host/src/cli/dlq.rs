//! `tollgate dlq list|export pipeline.yaml`: shows the contents of the dead letter topic.

pub mod export;
pub mod groups;
pub mod read;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::Success;
use super::table::{Align, render, thousands, time};
use groups::Group;
use tollgate_config::error::Failure;
use tollgate_config::{Pipeline, reader};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Counts the dead letters by reason, most frequent first.
    List(List),
    /// Writes the dead letters as NDJSON: one object per line, with the original record and the reason.
    Export(export::Args),
}

#[derive(Debug, clap::Args)]
pub struct Which {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Only dead letters with this reason code.
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// Only dead letters written within this time, such as 30m or 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    pub which: Which,
    /// Show at most this many reasons; all dead letters are counted.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

fn duration(text: &str) -> Result<Duration, String> {
    let said = |complaint: reader::Complaint| match complaint.nearest {
        Some(nearest) => format!("{}: did you mean {nearest}?", complaint.message),
        None => complaint.message,
    };
    reader::duration(text).map_err(said)
}

impl Which {
    fn load(&self) -> Result<Pipeline, Failure> {
        Pipeline::load(&self.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))
    }

    /// Returns the start of `--since` in Unix milliseconds.
    fn since(&self) -> Option<i64> {
        let since = std::time::SystemTime::now().checked_sub(self.since?)?;
        let elapsed = since.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(elapsed.as_millis()).ok()
    }
}

impl Args {
    /// Returns the verb with its sub-verb.
    pub fn name(&self) -> &'static str {
        match self.verb {
            Verb::List(_) => "dlq list",
            Verb::Export(_) => "dlq export",
        }
    }
}

/// # Errors
/// Fails with exit code 2 if the topic does not exist, 3 if Kafka cannot be reached.
pub fn run(args: &Args, json: bool) -> Result<Success, Failure> {
    match &args.verb {
        Verb::List(list) => self::list(list),
        Verb::Export(args) => export::run(args, json),
    }
}

fn list(args: &List) -> Result<Success, Failure> {
    let pipeline = args.which.load()?;
    let mut groups = groups::groups(&pipeline, args.which.reason.as_deref(), args.which.since(), &read::bar())?;
    let total: u64 = groups.iter().map(|group| group.count).sum();
    let reasons = groups.len();
    groups.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    let topic = &pipeline.dead_letter.topic;
    let result = json!({ "topic": topic, "total": total, "reasons": reasons, "groups": groups });
    let summary = match (total, &args.which.reason) {
        (0, _) if args.which.reason.is_some() || args.which.since.is_some() => {
            format!("{topic} has no dead letters matching these filters")
        }
        (0, _) => format!("no dead letters in {topic}"),
        (1, _) => format!("1 dead letter in {topic}"),
        (_, Some(reason)) => format!("{} dead letters in {topic} for {reason}", thousands(total)),
        (_, None) if reasons == 1 => format!("{} dead letters in {topic}, for one reason", thousands(total)),
        (_, None) => format!("{} dead letters in {topic}, for {reasons} reasons", thousands(total)),
    };
    let text = if total == 0 { summary.clone() } else { format!("{}\n{summary}", table(&groups)) };
    Ok(Success::new(summary, result, text))
}

/// Renders the groups as a table for people.
pub fn table(groups: &[Group]) -> String {
    let header = [
        ("count", Align::Right),
        ("reason", Align::Left),
        ("by", Align::Left),
        ("last", Align::Left),
        ("example", Align::Left),
        ("message", Align::Left),
    ];
    let row = |group: &Group| {
        let by = group.transform.as_ref().unwrap_or(&group.stage);
        vec![
            thousands(group.count),
            group.reason.clone(),
            by.clone(),
            time(group.last),
            group.example.clone(),
            group.message.clone(),
        ]
    };
    render(&header, &groups.iter().map(row).collect::<Vec<_>>(), 72)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_line() {
        let group = Group {
            reason: "undecodable".into(),
            transform: None,
            stage: "contract".into(),
            count: 1_234,
            first: 0,
            last: 1_767_225_599_999,
            example: "payments/3/41".into(),
            field: None,
            message: "line\nbreak".into(),
        };
        let text = table(&[group]);
        let line = text.lines().nth(1).unwrap();
        for part in ["1,234", "undecodable", "contract", "2025-12-31 23:59:59Z", "payments/3/41", "line\u{fffd}break"] {
            assert!(line.contains(part), "{line} lacks {part}");
        }
    }
}
