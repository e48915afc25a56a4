//! The result of a run, for people and as JSON.

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use tollgate_config::error::Failure;
use tollgate_producer::run::{Counts, Ended, Finished, Skew};

use super::Args;
use super::watch::rate;
use crate::cli::Success;
use crate::cli::table::thousands;

/// A finished run.
pub(super) struct Report<'r> {
    pub args: &'r Args,
    pub topic: String,
    /// The inputs' names.
    pub names: Vec<String>,
    pub finished: &'r Finished,
}

impl Report<'_> {
    /// Returns the verb's result.
    ///
    /// # Errors
    /// Fails with exit code 1 or 2 if not every event was accepted.
    pub(super) fn result(&self) -> Result<Success, Failure> {
        let Finished { ended, counts, acks_error, .. } = self.finished;
        let summary = self.summary();
        let result = self.json(matches!(ended, Ended::Complete));
        if !counts.add_up() {
            let message = format!("the counts do not add up, which is a bug in tollgate: {summary}");
            return Err(Failure::failed("produce.sum", message).with(result, String::new()));
        }
        // If stdout has the acknowledgements, the summary goes to stderr.
        let taken = self.args.acks_out.as_deref() == Some(Path::new("-"));
        let text = if taken { String::new() } else { summary.clone() };
        if taken && !matches!(ended, Ended::Unwatched) {
            _ = writeln!(io::stderr().lock(), "{summary}");
        }
        let failed =
            |code: &'static str, message: String| Failure::failed(code, message).with(result.clone(), text.clone());
        let on = self.go_on();
        match ended {
            Ended::Complete if counts.rejected == 0 => {
                Ok(Success::new(if taken { String::new() } else { summary.clone() }, result, ""))
            }
            Ended::Complete => Err(failed("produce.rejected", self.rejected())),
            Ended::Interrupted => Err(failed("produce.interrupted", format!("interrupted{on}"))),
            Ended::Undelivered => Err(failed("produce.undelivered", format!("{}{on}", self.undelivered()))),
            Ended::TooManyRejects => {
                let why = match self.args.max_rejects {
                    Some(most) => format!("more than {most} events were rejected (--max-rejects)"),
                    None => "an event was rejected, and the transaction is all or nothing".to_owned(),
                };
                Err(failed("produce.too_many_rejects", format!("{why}{on}")))
            }
            Ended::Unwatched => match acks_error {
                // A closed pipe (`| head`) is not an error.
                None => Ok(Success::default()),
                Some(error) => Err(failed("produce.acks", format!("--acks-out cannot be written: {error}{on}"))),
            },
            Ended::Refused(why) => {
                Err(failed("produce.refused", format!("the producer accepts no more events: {why}{on}")))
            }
            Ended::RolledBack(why) => {
                Err(failed("produce.rolled_back", format!("a transaction was rolled back: {why}{on}")))
            }
            Ended::Unreadable(why) => Err(failed("produce.file", format!("{why}{on}"))),
            Ended::RejectsUnwritten(error) => {
                Err(failed("produce.file", format!("--rejects cannot be written: {error}{on}")))
            }
            Ended::WrongFormat(why) => Err(Failure::configuration("produce.input", why).with(result, text)),
        }
    }

    fn summary(&self) -> String {
        let Counts { read, acknowledged, rejected, undelivered } = self.finished.counts;
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
        let (seconds, rate) = (self.finished.elapsed.as_secs_f64(), rate(read, self.finished.elapsed));
        let nothing = if self.args.dry_run { "; nothing was sent" } else { "" };
        let skew =
            self.finished.skew.as_ref().and_then(Skew::summary).map(|text| format!("\n{text}")).unwrap_or_default();
        format!("{ends}: {} read in {seconds:.1} s, {} a second{nothing}{skew}", count(read), count(rate))
    }

    fn json(&self, complete: bool) -> Value {
        let Counts { read, acknowledged, rejected, undelivered } = self.finished.counts;
        json!({
            "topic": Some(&self.topic).filter(|_| !self.args.dry_run),
            "dry_run": self.args.dry_run,
            "complete": complete,
            "read": read,
            // In a dry run these are the valid events.
            "acknowledged": acknowledged,
            "rejected": rejected,
            "undelivered": undelivered,
            "skipped": self.args.skip,
            "settled": self.finished.settled,
            "reasons": self.finished.reasons,
            "skew": self.finished.skew.as_ref().and_then(Skew::json),
            "seconds": self.finished.elapsed.as_secs_f64(),
            "events_per_s": rate(read, self.finished.elapsed),
        })
    }

    fn rejected(&self) -> String {
        let codes: Vec<String> =
            self.finished.reasons.iter().map(|(code, events)| format!("{code} {}", thousands(*events))).collect();
        let kept = if self.args.rejects.is_none() && self.args.dead_letter_topic.is_none() {
            "; --rejects FILE keeps them with every violation"
        } else {
            ""
        };
        let Counts { read, rejected, .. } = self.finished.counts;
        let were = if rejected == 1 { "was" } else { "were" };
        format!("{} of {} events {were} rejected: {}{kept}", thousands(rejected), thousands(read), codes.join(", "))
    }

    fn undelivered(&self) -> String {
        let Some(loss) = &self.finished.loss else { return "events were not delivered".to_owned() };
        let name = self.names.get(loss.place.source).map_or("", String::as_str);
        let undelivered = self.finished.counts.undelivered;
        let were = if undelivered == 1 { "event was" } else { "events were" };
        let (line, why) = (loss.place.line, &loss.reason);
        format!("{} {were} not delivered, first {name}:{line}: {why}", thousands(undelivered))
    }

    /// Returns a text that tells how to continue.
    fn go_on(&self) -> String {
        let settled = self.finished.settled;
        if self.args.dry_run {
            return String::new();
        }
        if self.args.transaction {
            return "; nothing of this input is visible".to_owned();
        }
        let again = if self.finished.counts.undelivered > 0 && self.args.transaction_size.is_none() {
            ", which may repeat events that follow the first undelivered one"
        } else {
            ""
        };
        format!("\n{} events are settled: continue with --skip {settled}{again}", thousands(settled))
    }
}
