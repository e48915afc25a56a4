//! `tollgate contract docs`: writes a page for each contract, as Markdown and as one self-contained HTML file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use prost_reflect::MessageDescriptor;
use serde_json::json;
use tollgate_compat::export::Types;
use tollgate_compat::pages::{Change, Page, enum_section, html, markdown, section};
use tollgate_compat::{Category, Finding, Mode, Options, comment};
use tollgate_contract::{ClockSkew, Mode as Refusal, UnknownEnums, UnknownFields, UnknownVariants, UnsetOneofs};

use super::{Loaded, Select, load};
use crate::cli::check::RegistryArgs;
use crate::cli::check::lock::{self, Lock};
use crate::cli::check::versions::{self, Against, Asked};
use crate::cli::{Success, build};
use tollgate_config::error::Failure;
use tollgate_config::reader::{show_bytes, show_duration};
use tollgate_config::{Column, Encoding, From, Mapping, Pipeline, Tombstones};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub select: Select,
    /// Folder for the pages, one Markdown and one HTML file per contract. Default: print the page of one contract on
    /// stdout.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Only this format. Default: both, or Markdown on stdout.
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<Form>,
    /// Show the changes since this version: a git ref, a folder, a descriptor set, or registry:SUBJECT.
    #[arg(long, value_name = "VERSION")]
    pub against: Option<String>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Markdown,
    Html,
}

/// # Errors
/// Fails with exit code 2 if a file or a name is invalid, 3 if a page cannot be written.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let loaded = load(&args.select)?;
    let messages = loaded.messages(&args.select)?;
    let changes = changes(args, &loaded)?;
    let lock = lock::find(&loaded.paths).map(|file| Lock::read(&file)).transpose()?;
    let pages: Vec<Page> =
        messages.iter().map(|message| page(message, &loaded, lock.as_ref(), changes.as_deref(), args)).collect();
    let Some(folder) = &args.out else { return alone(&pages, args.format) };
    let mut written = Vec::new();
    for page in &pages {
        for (form, ending, text) in
            [(Form::Markdown, "md", markdown::render(page)), (Form::Html, "html", html::render(page))]
        {
            if args.format.is_none_or(|only| only == form) {
                written.push(write(folder, &format!("{}.{ending}", page.name), &text)?);
            }
        }
    }
    let summary = format!("{} in {}", build::count(written.len(), "page"), folder.display());
    Ok(Success::new(summary, json!({ "pages": written }), String::new()))
}

fn alone(pages: &[Page], form: Option<Form>) -> Result<Success, Failure> {
    let [page] = pages else {
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        let message = format!(
            "there are {}: name a folder for their pages with --out, or select one with --message: {}",
            build::count(pages.len(), "contract"),
            names.join(", ")
        );
        return Err(Failure::configuration("contract.docs", message));
    };
    let text = if form == Some(Form::Html) { html::render(page) } else { markdown::render(page) };
    Ok(Success::new(page.name.clone(), json!({ "text": text }), text))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, Failure> {
    let file = folder.join(name);
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, text)).map_err(|error| {
        Failure::environment("environment.disk", format!("{} cannot be written: {error}", file.display()))
    })?;
    Ok(file)
}

fn changes(args: &Args, loaded: &Loaded) -> Result<Option<Vec<Finding>>, Failure> {
    let Some(against) = &args.against else { return Ok(None) };
    let asked =
        Asked { paths: &loaded.paths, lock: None, transitive: false, new: &loaded.pool, registry: &args.registry };
    let old = versions::load(&Against::parse(against)?, &asked)?.into_iter().find(|earlier| earlier.pool.is_some());
    let options = Options { level: Category::WireJson, mode: Mode::Full };
    Ok(Some(old.map(|old| old.compare(&loaded.pool, options)).unwrap_or_default()))
}

fn page(
    message: &MessageDescriptor,
    loaded: &Loaded,
    lock: Option<&Lock>,
    changes: Option<&[Finding]>,
    args: &Args,
) -> Page {
    let name = message.full_name().to_owned();
    let types = Types::reach(std::slice::from_ref(message));
    let digest = lock::digest(message);
    let mut facts = vec![("File".to_owned(), message.parent_file().name().to_owned())];
    if let Some((version, released)) = lock.and_then(|lock| lock.latest(&name)) {
        let state = if released == digest { "" } else { ", changed since" };
        facts.push(("Version".to_owned(), format!("{version}{state}")));
    }
    facts.push(("Digest".to_owned(), digest));
    // The contract itself comes first, then the types that it uses.
    let mut sections = vec![section(message, &types)];
    sections.extend(types.messages.values().filter(|one| one.full_name() != name).map(|one| section(one, &types)));
    let pipeline = loaded
        .pipelines
        .iter()
        .find(|pipeline| pipeline.destinations().any(|to| to.kind.message == name || to.message() == name));
    if let Some(pipeline) = pipeline {
        facts.push(("Pipeline".to_owned(), pipeline.name.clone()));
    }
    let inside = |element: &str| {
        let of = |full: &str| element == full || element.strip_prefix(full).is_some_and(|rest| rest.starts_with('.'));
        types.messages.keys().chain(types.enums.keys()).any(|full| of(full))
    };
    let change = |finding: &Finding| Change {
        severity: finding.severity.as_str(),
        id: finding.rule.id,
        message: finding.message.clone(),
    };
    Page {
        comment: comment(message),
        facts,
        types: sections,
        enums: types.enums.values().map(enum_section).collect(),
        policies: pipeline
            .filter(|pipeline| pipeline.types.iter().any(|kind| kind.message == name))
            .map(policies)
            .unwrap_or_default(),
        columns: pipeline.map(|pipeline| columns(pipeline, &name)).unwrap_or_default(),
        changes: changes.into_iter().flatten().filter(|finding| inside(&finding.element)).map(change).collect(),
        since: args.against.clone(),
        name,
    }
}

#[allow(
    unreachable_patterns,
    clippy::wildcard_enum_match_arm,
    reason = "policies grow; a page may be silent about a new one"
)]
fn policies(pipeline: &Pipeline) -> Vec<(String, String)> {
    let contract = &pipeline.contract;
    let encoding = match contract.encoding {
        Encoding::Auto => "Protobuf, or JSON if the header content-type says so",
        Encoding::Protobuf => "Protobuf",
        Encoding::Json => "JSON",
        _ => "see the pipeline file",
    };
    let policies = &contract.policies;
    let (refused, mode) = match policies.mode {
        Refusal::Observe => ("rejected", "the event is accepted, marked and counted"),
        Refusal::DeadLetter => ("rejected", "the event becomes a dead letter"),
        Refusal::Halt => ("rejected", "the pipeline pauses"),
    };
    let fields = match policies.unknown_fields {
        UnknownFields::Allow => "kept and passed on",
        UnknownFields::Warn => "kept and passed on, with a warning",
        UnknownFields::Reject => refused,
    };
    let enums = match &policies.unknown_enums {
        UnknownEnums::Reject => refused.to_owned(),
        UnknownEnums::Keep => "the number is kept".to_owned(),
        UnknownEnums::Fallback(named) => {
            let named: Vec<String> = named.iter().map(|(name, value)| format!("{name} becomes {value}")).collect();
            format!("{}; any other is rejected", named.join(", "))
        }
    };
    let unset = match policies.unset_oneofs {
        UnsetOneofs::Allow => "allowed",
        UnsetOneofs::Reject => refused,
    };
    let variants = match policies.unknown_variants {
        UnknownVariants::Allow => "allowed",
        UnknownVariants::Warn => "allowed, with a warning",
        UnknownVariants::Reject => refused,
    };
    let tombstones = match contract.tombstones {
        Tombstones::DeadLetter => "a dead letter",
        Tombstones::Drop => "counted and dropped",
        Tombstones::Delete => "deletes the row",
        _ => "see the pipeline file",
    };
    let mut told = vec![
        ("Encoding", encoding.to_owned()),
        ("Unknown fields", fields.to_owned()),
        ("Unknown enum numbers", enums),
        ("Oneofs without a set field", unset.to_owned()),
        ("Oneofs with an unknown variant", variants.to_owned()),
        ("A record without a value", tombstones.to_owned()),
        ("Largest event", show_bytes(policies.max_bytes)),
    ];
    told.extend(policies.clock_skew.iter().map(|skew| ("Clock skew", clock(skew))));
    let coerced = policies.coerce.iter().map(|one| format!("{} also as {}", one.field, one.time));
    told.extend(coerced.map(|text| ("Times in JSON", text)));
    told.push(("Rejected events", mode.to_owned()));
    told.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn clock(skew: &ClockSkew) -> String {
    let bound = |bound: Option<Duration>, side: &str| bound.map(|bound| format!("{} {side}", show_duration(bound)));
    let bounds: Vec<String> = bound(skew.past, "before").into_iter().chain(bound(skew.future, "after")).collect();
    format!("{} at most {} the time of processing", skew.field, bounds.join(" and "))
}

fn columns(pipeline: &Pipeline, message: &str) -> Vec<(String, String)> {
    let column = |mapping: &Mapping, column: &Column| {
        let from = match &column.from {
            From::Field(path) => path.clone(),
            From::Oneof(path) => format!("branch of {path}"),
            From::Header(name) => format!("header {name}"),
            From::Record(part) => format!("the record's {}", format!("{part:?}").to_lowercase()),
            From::Now => "the time of writing".to_owned(),
            From::Constant(value) => value.to_string(),
        };
        (format!("{}.{}", mapping.table, column.name), format!("{from}, {}", column.as_))
    };
    let mappings = pipeline.destinations().filter(|to| to.message() == message).filter_map(|to| to.mapping());
    mappings.flat_map(|mapping| mapping.columns.iter().map(|one| column(mapping, one))).collect()
}
