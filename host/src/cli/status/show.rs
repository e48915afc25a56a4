//! The status as JSON and for people.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Halted, Known, Partition};
use crate::cli::table::{Align, render, thousands};
use tollgate_config::Pipeline;
use tollgate_engine::status::{self, Status, Transform};

/// The number of digits of a digest that are shown.
const DIGEST: usize = 12;

/// Returns the status for `--output json`. `process` is the answer of `/status`, or null with the reason in `unknown`.
pub(super) fn object(pipeline: &Pipeline, known: &Known) -> Value {
    let unknown = [
        ("process", known.process.as_ref().err()),
        ("postgres", known.stored.as_ref().err()),
        ("kafka", known.ends.as_ref().err()),
    ];
    let unknown: Vec<Value> =
        unknown.into_iter().filter_map(|(source, why)| Some(json!({ "source": source, "why": why? }))).collect();
    json!({
        "pipeline": pipeline.name,
        "delivery": pipeline.delivery.mode.as_str(),
        "running": known.process.is_ok(),
        "process": known.process.as_ref().ok(),
        "paused": paused(known),
        "halted": halted(known),
        "partitions": known.partitions(),
        "lag": lag(known),
        "unknown": unknown,
    })
}

pub(super) fn summary(pipeline: &Pipeline, known: &Known) -> String {
    let name = &pipeline.name;
    let state = match (&known.process, paused(known)) {
        (Ok(_), Some(_)) => "paused",
        (Ok(process), None) if process.ready => "running",
        (Ok(_), None) => "running, not ready",
        (Err(_), Some(_)) => "paused, no process answers",
        (Err(_), None) => "no process answers",
    };
    let state = match halted(known).len() {
        0 => state.to_owned(),
        1 => format!("{state}, 1 partition halted"),
        count => format!("{state}, {count} partitions halted"),
    };
    let lag = lag(known).map(|lag| format!(", lag {}", thousands(lag))).unwrap_or_default();
    format!("{name}: {state}{lag}")
}

/// Returns the reason why `--check` fails: the first problem that needs an operator. A rejected reload is not one,
/// because events are processed as before.
pub(super) fn ill(known: &Known) -> Option<String> {
    let process = match &known.process {
        Ok(process) => process,
        Err(why) => return Some(why.clone()),
    };
    if let Some(reason) = paused(known) {
        return Some(format!("paused: {reason}"));
    }
    let halted = halted(known);
    if let Some(halt) = halted.first() {
        let status::Halted { partition, code, .. } = &halt.halt;
        return Some(format!("{} halted, the first is partition {partition}: {code}", halted.len()));
    }
    if !process.ready {
        return Some(format!("not ready: {}", process.troubles.join("; ")));
    }
    let lost = known.stored.as_ref().err();
    lost.map(|why| format!("PostgreSQL did not answer: {why}"))
}

pub(super) fn text(pipeline: &Pipeline, known: &Known) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    _ = write_text(&mut out, pipeline, known);
    out
}

fn write_text(out: &mut String, pipeline: &Pipeline, known: &Known) -> std::fmt::Result {
    writeln!(out, "{} ({})", summary(pipeline, known), pipeline.delivery.mode.as_str().replace('_', " "))?;
    match &known.process {
        Ok(process) => write_process(out, process)?,
        Err(why) => writeln!(out, "{why}\nthe rest comes from PostgreSQL and Kafka")?,
    }
    if let Some(reason) = paused(known) {
        let since = known.stored.as_ref().ok().and_then(|stored| stored.pause.as_ref());
        let since = since.map(|pause| format!(" since {}", pause.since)).unwrap_or_default();
        writeln!(out, "\npaused{since}: {reason}")?;
    }
    for halt in halted(known) {
        let since = halt.stored.map(|stored| format!(" since {}", stored.since)).unwrap_or_default();
        let status::Halted { partition, code, offset, message, .. } = halt.halt;
        writeln!(out, "\npartition {partition} halted at offset {offset}{since} ({code}): {message}")?;
        writeln!(out, "to continue: tollgate resume {} --partition {partition}", pipeline.file.display())?;
    }
    for why in [known.stored.as_ref().err(), known.ends.as_ref().err()].into_iter().flatten() {
        writeln!(out, "unknown: {why}")?;
    }
    let partitions = known.partitions();
    if partitions.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let header = [
        ("partition", Align::Right),
        ("next offset", Align::Right),
        ("end", Align::Right),
        ("lag", Align::Right),
        ("epoch", Align::Right),
        ("owner", Align::Left),
        ("updated", Align::Left),
    ];
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let row = |known: &Partition| {
        let number = |value: Option<i64>| shown(value.map(|value| value.to_string()));
        vec![
            known.partition.to_string(),
            number(known.next_offset),
            number(known.end),
            shown(known.lag.map(|lag| lag.to_string())),
            number(known.epoch),
            shown(known.owner.clone()),
            shown(known.updated_at.clone()),
        ]
    };
    out.push_str(&render(&header, &partitions.iter().map(row).collect::<Vec<_>>(), 48));
    Ok(())
}

fn write_process(out: &mut String, process: &Status) -> std::fmt::Result {
    let short = |digest: &str| digest.chars().take(DIGEST).collect::<String>();
    let revision = &process.revision;
    writeln!(out, "process   {}, tollgate {}", process.owner, process.version)?;
    writeln!(out, "revision  {} ({})", revision.number, short(&revision.digest))?;
    for trouble in &process.troubles {
        writeln!(out, "trouble   {trouble}")?;
    }
    if let Some(refused) = &process.refused_reload {
        writeln!(out, "reload    rejected, the revision above stays active: {}", refused.error)?;
    }
    for (sink, state) in process.breakers.iter().filter(|(_, state)| *state != "closed") {
        writeln!(out, "breaker   {sink} {state}")?;
    }
    if revision.transforms.is_empty() {
        return writeln!(out, "no transforms: only the contract is checked");
    }
    let header =
        [("transform", Align::Left), ("version", Align::Left), ("digest", Align::Left), ("component", Align::Left)];
    let row = |transform: &Transform| {
        vec![transform.name.clone(), transform.version.clone(), short(&transform.digest), transform.component.clone()]
    };
    write!(out, "\n{}", render(&header, &revision.transforms.iter().map(row).collect::<Vec<_>>(), 64))
}

/// Returns why the pipeline is paused. PostgreSQL decides, because the process may be a second behind.
fn paused(known: &Known) -> Option<String> {
    match &known.stored {
        Ok(stored) => stored.pause.as_ref().map(|pause| pause.reason.clone()),
        Err(_) => known.process.as_ref().ok().and_then(|process| process.paused.clone()),
    }
}

/// Returns the halted partitions from PostgreSQL, or those of the process if PostgreSQL did not answer.
fn halted(known: &Known) -> Vec<Halted> {
    match (&known.stored, &known.process) {
        (Ok(stored), _) => stored.halts.clone(),
        (Err(_), Ok(process)) => {
            process.halted.iter().map(|halt| Halted { halt: halt.clone(), stored: None }).collect()
        }
        (Err(_), Err(_)) => Vec::new(),
    }
}

/// Returns the lag of all partitions together, if all are known.
fn lag(known: &Known) -> Option<u64> {
    let partitions = known.partitions();
    if partitions.is_empty() {
        return None;
    }
    // A partition without a position has no lag, because the start policy determines where it will start.
    partitions.iter().map(|known| known.lag).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{Pause, Progress, Stored, StoredHalt};
    use super::*;
    use std::path::Path;

    fn pipeline() -> Pipeline {
        let text = "pipeline: p\nsource: { brokers: 'b:1', topic: t, group_id: g, start: earliest }\n\
                    contract: { protos: proto, message: a.B }\ndead_letter: { topic: d }\n\
                    postgres: { url: 'postgres://u:secret@h/d', table: x, key: [id], columns: { id: {} } }\n";
        Pipeline::parse(Path::new("p.yaml"), text, &|_| None).unwrap()
    }

    fn halt(message: &str, since: &str) -> Halted {
        let halt = status::Halted {
            partition: 1,
            code: "records-missing".into(),
            offset: 9,
            epoch: 2,
            message: message.into(),
        };
        Halted { halt, stored: Some(StoredHalt { owner: "host/7".into(), since: since.into() }) }
    }

    fn known() -> Known {
        let row = |partition, next_offset| Progress {
            partition,
            next_offset,
            epoch: 2,
            owner: "host/7".into(),
            updated_at: "2026-01-01 00:00:00Z".into(),
        };
        Known {
            process: Ok(serde_json::from_value(json!({
                "format": 1, "pipeline": "p", "delivery": "effectively_once", "slot": 0, "owner": "host/7",
                "version": "0.1.0", "ready": true, "troubles": [], "positions": { "0": 5 }, "paused": null,
                "refused_reload": null, "halted": [], "breakers": {},
                "revision": { "number": 3, "digest": "a".repeat(64), "transforms":
                    [{ "name": "rules", "version": "1.2.0", "digest": "b".repeat(64), "component": "rules.wasm" }] },
            }))
            .unwrap()),
            stored: Ok(Stored { partitions: vec![row(0, 5), row(1, 9)], ..Stored::default() }),
            ends: Ok([(0, 1_005), (1, 9)].into()),
            exhausted: Default::default(),
        }
    }

    #[test]
    fn a_running_pipeline_shows_revision_transforms_and_lag() {
        let text = text(&pipeline(), &known());
        for part in [
            "p: running, lag 1,000 (effectively once)",
            "revision  3 (aaaaaaaaaaaa)",
            "rules",
            "1.2.0",
            "bbbbbbbbbbbb",
            "host/7",
        ] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        assert_eq!(object(&pipeline(), &known())["lag"], json!(1_000));
    }

    #[test]
    fn a_halted_partition_is_named_with_the_command_that_ends_it() {
        let mut known = known();
        known.stored.as_mut().unwrap().halts.push(halt("records were deleted", "yesterday"));
        let text = text(&pipeline(), &known);
        for part in [
            "p: running, 1 partition halted, lag 1,000",
            "partition 1 halted at offset 9 since yesterday (records-missing): records were deleted",
            "to continue: tollgate resume p.yaml --partition 1",
        ] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        assert_eq!(object(&pipeline(), &known)["halted"][0]["code"], json!("records-missing"));
    }

    #[test]
    fn a_breaker_that_is_not_closed_is_told() {
        let mut known = known();
        assert!(!text(&pipeline(), &known).contains("breaker"));
        let breakers = [("kafka", "closed"), ("postgres", "half-open")];
        known.process.as_mut().unwrap().breakers =
            breakers.map(|(sink, state)| (sink.to_owned(), state.to_owned())).into();
        let text = text(&pipeline(), &known);
        assert!(text.contains("breaker   postgres half-open") && !text.contains("kafka closed"), "{text}");
    }

    #[test]
    fn a_check_names_what_an_operator_has_to_look_at() {
        let mut known = known();
        assert_eq!(ill(&known), None);
        known.process.as_mut().unwrap().refused_reload =
            Some(status::RefusedReload { error: "no such component".to_owned(), at_ms: 1 });
        assert_eq!(ill(&known), None, "events are processed as before");
        let shown = text(&pipeline(), &known);
        assert!(shown.contains("reload    rejected, the revision above stays active: no such component"), "{shown}");
        known.process.as_mut().unwrap().ready = false;
        known.process.as_mut().unwrap().troubles = vec!["kafka: away".to_owned()];
        assert_eq!(ill(&known).unwrap(), "not ready: kafka: away");
        known.stored.as_mut().unwrap().halts.push(halt("", ""));
        assert_eq!(ill(&known).unwrap(), "1 halted, the first is partition 1: records-missing");
        let pause = Pause { reason: "too many".into(), digest: String::new(), since: String::new() };
        known.stored.as_mut().unwrap().pause = Some(pause);
        assert_eq!(ill(&known).unwrap(), "paused: too many");
        known.process = Err("no process answers at x".into());
        assert_eq!(ill(&known).unwrap(), "no process answers at x");
    }

    #[test]
    fn without_a_process_it_says_so_and_shows_the_rest() {
        let pause = Pause { reason: "too many".into(), digest: String::new(), since: "yesterday".into() };
        let mut known = Known { process: Err("no process answers at x".into()), ..known() };
        known.stored.as_mut().unwrap().pause = Some(pause);
        known.ends = Err("Kafka at b:1: away".into());
        let text = text(&pipeline(), &known);
        for part in [
            "p: paused, no process answers",
            "the rest comes from PostgreSQL and Kafka",
            "paused since yesterday: too many",
            "unknown: Kafka at b:1",
        ] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        let object = object(&pipeline(), &known);
        assert_eq!((&object["running"], &object["lag"]), (&json!(false), &Value::Null));
        assert_eq!(object["unknown"].as_array().unwrap().len(), 2);
        assert!(!object.to_string().contains("secret"));
    }
}
