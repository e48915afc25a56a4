//! `cargo xtask chaos`: runs one chaos run. Its log goes to stderr, its results to stdout.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program; stdout is what it has to say")]

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::chaos::{self, Bout, Outcome};
use tollgate_tests::oracle::DISAGREEING;
use tollgate_tests::takeovers::{Figures, Matter};
use xtask::{Cache, process};

struct Options {
    bout: Bout,
    json: bool,
}

fn options() -> Result<Options, String> {
    let bout = Bout { length: Duration::from_secs(600), seed: 1, rate: 20_000 };
    let mut options = Options { bout, json: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match word.as_str() {
            "--minutes" => options.bout.length = Duration::from_secs(number(value()?)? * 60),
            "--seed" => options.bout.seed = number(value()?)?,
            "--rate" => options.bout.rate = u32::try_from(number(value()?)?).map_err(|error| error.to_string())?,
            "--output" => options.json = value()? == "json",
            unknown => return Err(format!("unknown argument {unknown:?}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    process::end_on_signals().unwrap();
    let Bout { seed, length, rate } = options.bout;
    eprintln!("a bout of {} s, seed {seed}, {rate} events/s", length.as_secs());
    let logs = Cache::open().unwrap().folder("logs").unwrap().join(format!("chaos-{seed}-{}", std::process::id()));
    let outcome = chaos::run(options.bout, &logs);
    let failure = failure(&outcome);
    if options.json {
        println!("{}", report(&outcome, seed, failure.as_deref()));
    } else {
        tell(&outcome);
    }
    process::clean_up();
    let Some(failure) = failure else { return ExitCode::SUCCESS };
    eprintln!("{}error: {failure}; logs: {}", outcome.found, outcome.logs.display());
    ExitCode::FAILURE
}

/// Returns why the run failed, if it did.
fn failure(outcome: &Outcome) -> Option<String> {
    if outcome.quiet.is_none() {
        return Some("not all records were processed".to_owned());
    }
    let rest = outcome.found.others(DISAGREEING);
    (!outcome.found.is_empty()).then(|| {
        format!(
            "{} lost, {} duplicated, {} disagreeing, {rest} violations besides those that disagree",
            outcome.lost, outcome.duplicated, outcome.disagreeing
        )
    })
}

/// The classes of takeovers in the report.
const MATTERS: [(Matter, &str); 3] = [
    (Matter::Nothing, ", servers healthy, no member standing still"),
    (Matter::Still, ", servers healthy"),
    (Matter::Server, ""),
];

fn tell(outcome: &Outcome) {
    for (fault, count) in &outcome.faults {
        println!("{count:5}  {fault}");
    }
    println!("{:5}  faults", outcome.faults.values().sum::<u32>());
    println!("{:5}  engines that ended by themselves", outcome.ended.len());
    for (fault, seconds) in &outcome.recovery {
        println!("{seconds:7.1} s to the next commit after: {fault}");
    }
    for (matter, what) in MATTERS {
        if let Some(Figures { count, p50, p99 }) = outcome.takeovers.figures(matter) {
            println!("{p99:7.2} s p99, {p50:.2} s p50 of {count} takeovers{what}");
        }
    }
    println!("{} events at {:.0}/s", outcome.events, outcome.rate);
    println!("{} lost, {} duplicated, {} disagreeing", outcome.lost, outcome.duplicated, outcome.disagreeing);
}

fn report(outcome: &Outcome, seed: u64, failure: Option<&str>) -> Value {
    let faults: u32 = outcome.faults.values().sum();
    let summary = format!(
        "{faults} faults, {} events, {} lost, {} duplicated, {} disagreeing",
        outcome.events, outcome.lost, outcome.duplicated, outcome.disagreeing
    );
    let takeovers = |matter| outcome.takeovers.figures(matter);
    let p99 = |matter| takeovers(matter).map(|of| of.p99);
    let count = |matter| takeovers(matter).map_or(0, |of| of.count);
    json!({
        "command": "chaos", "ok": failure.is_none(), "summary": summary, "error": failure,
        "seed": seed, "faults": faults, "kinds": outcome.faults, "ended": outcome.ended, "events": outcome.events,
        "events_per_s": outcome.rate.round(), "lost": outcome.lost, "duplicated": outcome.duplicated,
        "disagreeing": outcome.disagreeing, "recovery_s": outcome.recovery,
        "takeovers": count(Matter::Still), "takeover_p99_s": p99(Matter::Still),
        "takeovers_undisturbed": count(Matter::Nothing), "takeover_undisturbed_p99_s": p99(Matter::Nothing),
        "takeovers_all": count(Matter::Server), "takeover_all_p99_s": p99(Matter::Server),
        "quiet_s": outcome.quiet.map(|quiet| quiet.as_secs_f64()),
    })
}
