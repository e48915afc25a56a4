//! The output of `tollgate offsets adopt`.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Value, json};
use tollgate_protocol::adoption::{Adoption, Effects, Side};

use super::Judged;
use crate::cli::Success;
use tollgate_config::{DeliveryMode, Pipeline};
use tollgate_engine::position::NextOffset;

/// Returns why nothing is written. Names every refused partition.
pub(super) fn refusal(pipeline: &Pipeline, judged: &[Judged]) -> Option<String> {
    let lines = judged.iter().filter_map(|one| {
        let refused = one.adoption.as_ref().err()?;
        Some(format!("partition {} of {}: {refused}", one.partition, pipeline.source.topic))
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

pub(super) fn success(pipeline: &Pipeline, judged: &[Judged], written: bool) -> Success {
    let changed = judged.iter().filter(|one| adoption(one).is_some()).count();
    let summary = match (changed, written) {
        (0, _) => format!("no partition of {} is halted because of its offset", pipeline.name),
        (1, true) => "1 partition adopted; start the pipeline".to_owned(),
        (_, true) => format!("{changed} partitions adopted; start the pipeline"),
        (1, false) => "1 partition would be adopted; nothing was changed, run again with --yes to write it".to_owned(),
        (_, false) => {
            format!("{changed} partitions would be adopted; nothing was changed, run again with --yes to write it")
        }
    };
    let partitions: Vec<Value> = judged.iter().filter_map(|one| object(one, adoption(one)?)).collect();
    let result = json!({
        "pipeline": pipeline.name, "topic": pipeline.source.topic, "group": pipeline.source.group_id,
        "dry_run": !written, "partitions": partitions,
    });
    let mut text = String::new();
    for one in judged {
        if let Some(adoption) = adoption(one) {
            // Writing to a String cannot fail.
            _ = writeln!(text, "{}", paragraph(pipeline, one, adoption));
        }
    }
    text.push_str(&summary);
    Success::new(summary, result, text)
}

fn adoption(one: &Judged) -> Option<&Adoption> {
    one.adoption.as_ref().ok()?.as_ref()
}

fn object(one: &Judged, adoption: &Adoption) -> Option<Value> {
    let Effects { rows_skipped, rows_repeated, outputs_skipped, outputs_repeated, outputs_unsure } = &adoption.effects;
    let ends = |range: &Option<Range<i64>>| range.as_ref().map(|range| json!([range.start, range.end]));
    let side =
        |side: Option<Side>| side.map(|side| json!({ "next_offset": side.next.get(), "commit": side.number.get() }));
    Some(json!({
        "partition": one.partition.get(),
        "halt": one.halt.as_ref().map(|halt| json!({ "code": halt.code(), "message": halt.to_string() })),
        "group_offset": one.group.as_ref().map(|group| group.next.get()),
        "progress_offset": one.row.as_ref().map(|found| found.row.next.get()),
        "renamed_from": one.renamed,
        "progress": side(adoption.row),
        "group": side(adoption.token),
        "rows": { "skipped": ends(rows_skipped), "repeated": ends(rows_repeated) },
        "outputs": { "skipped": ends(outputs_skipped), "repeated": ends(outputs_repeated), "unsure": ends(outputs_unsure) },
    }))
}

fn paragraph(pipeline: &Pipeline, one: &Judged, adoption: &Adoption) -> String {
    let mut text = format!("partition {} of {}\n", one.partition, pipeline.source.topic);
    let offset = |next: Option<NextOffset>| next.map_or_else(|| "none".to_owned(), |next| next.to_string());
    let mut line = |name: &str, what: String| _ = writeln!(text, "  {name:<17} {what}");
    if let Some(halt) = &one.halt {
        line("halt", format!("{halt} ({})", halt.code()));
    }
    let group = one.group.as_ref().map(|group| group.next);
    let by = if group.is_some() { format!(", committed {}", one.written_by()) } else { String::new() };
    line("group offset", format!("{}{by}", offset(group)));
    let of = one.renamed.as_ref().map(|name| format!(", under the pipeline's former name {name}"));
    let row = one.row.as_ref().map(|found| found.row.next);
    line("progress row", format!("{}{}", offset(row), of.unwrap_or_default()));
    let position = adoption.position(None);
    match (position, adoption.row, adoption.token) {
        (Some(position), ..) => line("continues at", position.resume.begin().to_string()),
        (None, Some(side), _) => line("continues at", format!("{} in PostgreSQL; the group's offset stays", side.next)),
        (None, None, side) => {
            line("continues at", format!("{} in Kafka; the progress row stays", offset(side.map(|side| side.next))));
        }
    }
    effects(pipeline, &adoption.effects, &mut line);
    text
}

fn effects(pipeline: &Pipeline, effects: &Effects, line: &mut impl FnMut(&str, String)) {
    let Effects { rows_skipped, rows_repeated, outputs_skipped, outputs_repeated, outputs_unsure } = effects;
    let offsets = |range: &Range<i64>| format!("offsets {} to {}", range.start, range.end - 1);
    if let Some(range) = rows_skipped {
        line("rows skipped", format!("{} will get no rows", offsets(range)));
    }
    if let Some(range) = rows_repeated {
        line("rows repeated", format!("{} are written again: {}", offsets(range), repeated(pipeline)));
    }
    if let Some(range) = outputs_skipped {
        line("outputs skipped", format!("{} will get no outputs and no dead letters", offsets(range)));
    }
    if let Some(range) = outputs_repeated {
        line("outputs repeated", format!("those of {} are produced again", offsets(range)));
    }
    if let Some(range) = outputs_unsure.as_ref().filter(|_| pipeline.delivery.mode == DeliveryMode::EffectivelyOnce) {
        let why = "no token records it; if the pipeline was shut down cleanly, they were";
        line("outputs unsure", format!("those of {} may not have been produced: {why}", offsets(range)));
    }
}

/// Describes what writing a row again does to the table.
fn repeated(pipeline: &Pipeline) -> String {
    use tollgate_config::Mode;
    let columns = || pipeline.types.iter().flat_map(|kind| &kind.mapping.columns);
    let named = |mode: Mode| {
        let names: Vec<&str> =
            columns().filter(|column| column.mode == mode).map(|column| column.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut notes = Vec::new();
    if let Some(columns) = named(Mode::Add) {
        notes.push(format!("they are counted again in {columns} (add)"));
    }
    if pipeline.delivery.processed.is_some() {
        notes.push("delivery.processed_ids drops those whose id is still stored, with their outputs".to_owned());
    }
    if notes.is_empty() { "the same keys, so the same rows".to_owned() } else { notes.join("; ") }
}
