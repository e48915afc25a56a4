//! The demo's report for people.

use super::super::table::{Align, render, thousands};
use super::Args;
use crate::demo::{Report, Stage};
use std::fmt::Write as _;

pub(super) fn text(args: &Args, stage: &Stage, report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    _ = write_text(&mut out, args, stage, report);
    out
}

fn message_types(pipeline: &tollgate_config::Pipeline) -> String {
    let names: Vec<&str> = pipeline.types.iter().map(|kind| kind.message.as_str()).collect();
    names.join(", ")
}

fn write_text(out: &mut String, args: &Args, stage: &Stage, report: &Report) -> std::fmt::Result {
    let pipeline = &stage.pipeline;
    let dead: u64 = report.dead_letters.iter().map(|group| group.count).sum();
    let kafka = if stage.real_broker() {
        format!("{}, effectively once", stage.brokers())
    } else {
        format!("embedded ({}), at least once, because it has no transactions", stage.brokers())
    };
    let database = if stage.own_postgres { ", deleted at the end" } else { "" };
    let transforms: Vec<String> = report.transforms.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let chain = if transforms.is_empty() {
        "none, only the contract is checked (--assets names a folder with components)".to_owned()
    } else {
        transforms.join(" → ")
    };
    writeln!(out, "Kafka       {kafka}")?;
    writeln!(out, "PostgreSQL  {}{database}", report.postgres_version)?;
    writeln!(out, "contract    {}", message_types(pipeline))?;
    writeln!(out, "transforms  {chain}\n")?;
    writeln!(
        out,
        "{} events in {:.2} s, {} per second",
        thousands(report.events),
        report.seconds,
        thousands(rounded(report.events_per_second))
    )?;
    let carried = report.events.saturating_sub(dead);
    writeln!(
        out,
        "  {:>9} rows in table {}, from {} valid events",
        thousands(report.rows),
        stage.names.table,
        thousands(carried)
    )?;
    writeln!(out, "  {:>9} dead letters in topic {}\n", thousands(dead), pipeline.dead_letter.topic)?;
    writeln!(out, "Latest rows:")?;
    let header: Vec<(&str, Align)> = report.columns.iter().map(|column| (column.as_str(), align(column))).collect();
    writeln!(out, "{}", render(&header, &report.sample, 36))?;
    writeln!(out, "Dead letters by reason:")?;
    writeln!(out, "{}", crate::cli::dlq::table(&report.dead_letters))?;
    next_steps(out, args, stage)
}

fn align(column: &str) -> Align {
    if column.starts_with("amount") { Align::Right } else { Align::Left }
}

fn rounded(number: f64) -> u64 {
    format!("{number:.0}").parse().unwrap_or_default()
}

fn next_steps(out: &mut String, args: &Args, stage: &Stage) -> std::fmt::Result {
    let pipeline = &stage.pipeline;
    let listen = pipeline.admin.listen.as_deref().unwrap_or_default();
    if args.keep {
        let file = pipeline.file.display();
        writeln!(out, "The demo continues until Ctrl-C. Meanwhile, in another terminal:")?;
        writeln!(out, "  curl http://{listen}/metrics")?;
        writeln!(out, "  tollgate status {file}")?;
        writeln!(out, "  tollgate dlq list {file}")?;
        if stage.own_postgres {
            writeln!(
                out,
                "  psql {} -c 'select * from {} limit 5'",
                pipeline.postgres.url.expose(),
                stage.names.table
            )?;
        }
    } else {
        writeln!(out, "Metrics were at http://{listen}/metrics; `tollgate demo --keep` keeps everything running.")?;
    }
    if stage.real_broker() {
        writeln!(out, "Next, with a pipeline of your own: tollgate validate pipeline.yaml --connect")
    } else {
        writeln!(out, "Next, with your own Kafka:         tollgate demo --real localhost:9092")?;
        writeln!(out, "and with a pipeline of your own:   tollgate validate pipeline.yaml --connect")
    }
}
