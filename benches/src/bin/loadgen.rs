//! Produces the seeded load of payment events and checks the results with its oracle.
//!
//!     loadgen fill   [--n N] [--seed S]                         recreates the topic and sends N events
//!     loadgen rate   [--rate R] [--secs S] [--seed S] [--fresh] [--keep]   R events a second, event time = now
//!     loadgen expect [--n N] [--seed S]                         what `fill` would send, without Kafka
//!     loadgen reset                                             empties the table, recreates the dead letter topic
//!     loadgen verify                                            compares table and dead letters with the expectation
//!
//! Common: --topic, --dead-letters, --expect FILE, --brokers (KAFKA_BROKERS), --database (DATABASE_URL).
//! `fill`, `rate` and `expect` write the expectation to --expect and to stdout; `verify` exits with 1 on a difference.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tollgate_bench::args::Args;
use tollgate_bench::oracle::{Truth, keys_md5};
use tollgate_bench::recipe::Recipe;
use tollgate_bench::table::Table;
use tollgate_bench::wire::Wire;
use tollgate_bench::{DEAD_LETTERS, PARTITIONS, RATE_TOPIC, TOPIC, broker, load, output};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    output::exit(run().await)
}

async fn run() -> anyhow::Result<()> {
    let (verb, args) = Args::with_verb();
    match verb.as_str() {
        "fill" => fill(args, true).await,
        "expect" => fill(args, false).await,
        "rate" => rate(args).await,
        "reset" => reset(args).await,
        "verify" => verify(args).await,
        _ => bail!("loadgen needs one of these verbs: fill, rate, expect, reset, verify"),
    }
}

async fn fill(mut args: Args, send: bool) -> anyhow::Result<()> {
    let events = args.number("--n", 1_000_000u64)?;
    let seed = args.number("--seed", 42u64)?;
    let topic = args.text("--topic", None)?.unwrap_or_else(|| TOPIC.to_owned());
    let file = args.text("--expect", None)?;
    let brokers = if send { Some(args.required("--brokers", "KAFKA_BROKERS")?) } else { None };
    args.finish()?;
    let mut recipe = Recipe::new(seed);
    let start = Instant::now();
    match brokers {
        Some(brokers) => {
            broker::recreate(&brokers, &topic, PARTITIONS).await?;
            let sender = load::fill_sender(&brokers, &topic)?;
            load::fill(&mut recipe, events, Some(&sender))?;
            sender.finish()?;
        }
        None => load::fill(&mut recipe, events, None)?,
    }
    let seconds = start.elapsed().as_secs_f64();
    expectation(&recipe, file, json!({"events": events, "seed": seed, "seconds": seconds}))
}

async fn rate(mut args: Args) -> anyhow::Result<()> {
    let per_second = args.number("--rate", 5_000u64)?;
    let seconds = args.number("--secs", 35u64)?;
    let seed = args.number("--seed", 42u64)?;
    let (fresh, keep) = (args.flag("--fresh"), args.flag("--keep"));
    let topic = args.text("--topic", None)?.unwrap_or_else(|| RATE_TOPIC.to_owned());
    let file = args.text("--expect", None)?;
    let brokers = args.required("--brokers", "KAFKA_BROKERS")?;
    args.finish()?;
    if !keep {
        broker::recreate(&brokers, &topic, PARTITIONS).await?;
    }
    let mut recipe = Recipe::new(seed).fresh(fresh);
    let mut wire = Wire::connect(&brokers, &topic, PARTITIONS)?;
    let pace = load::rate(&mut recipe, per_second, seconds, &mut wire)?;
    let told = json!({
        "events": pace.events, "seed": seed, "seconds": pace.seconds, "late_ticks": pace.late_ticks,
    });
    expectation(&recipe, file, told)
}

/// Writes the expected result of the recipe's events, with the members of `told`.
fn expectation(recipe: &Recipe, file: Option<String>, mut told: Value) -> anyhow::Result<()> {
    let mix = recipe.mix();
    told["mix"] = json!({"new": mix.new, "invalid": mix.invalid, "repeated": mix.repeated, "updated": mix.updated});
    if let (Some(told), Value::Object(truth)) = (told.as_object_mut(), Truth::of(recipe).to_json()) {
        told.extend(truth);
    }
    if let Some(file) = file {
        std::fs::write(&file, format!("{told}\n")).with_context(|| format!("{file} cannot be written"))?;
    }
    output::line(&told)
}

async fn reset(mut args: Args) -> anyhow::Result<()> {
    let dead_letters = args.text("--dead-letters", None)?.unwrap_or_else(|| DEAD_LETTERS.to_owned());
    let brokers = args.required("--brokers", "KAFKA_BROKERS")?;
    let url = args.required("--database", "DATABASE_URL")?;
    args.finish()?;
    Table::connect(&url).await?.reset().await?;
    broker::recreate(&brokers, &dead_letters, 1).await
}

async fn verify(mut args: Args) -> anyhow::Result<()> {
    let file = args.text("--expect", None)?.context("--expect is missing: the file that `fill` wrote")?;
    let dead_letters = args.text("--dead-letters", None)?.unwrap_or_else(|| DEAD_LETTERS.to_owned());
    let brokers = args.required("--brokers", "KAFKA_BROKERS")?;
    let url = args.required("--database", "DATABASE_URL")?;
    args.finish()?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("{file} cannot be read"))?;
    let want = Truth::from_json(&serde_json::from_str(&text)?)?;
    let mut found = Table::connect(&url).await?.content().await?;
    let keys = broker::committed_keys(&brokers, &dead_letters)?;
    found.dead_letters = keys.len() as u64;
    found.dead_letters_md5 = keys_md5(keys);
    let differences = want.differences(&found);
    output::line(&json!({"ok": differences.is_empty(), "found": found.to_json(), "differences": differences}))?;
    if !differences.is_empty() {
        bail!("the oracle disagrees: {}", differences.join("; "));
    }
    Ok(())
}
