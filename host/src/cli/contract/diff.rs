//! `tollgate contract diff A B`: shows the differences between two versions of contracts, field by field, without
//! judging them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use tollgate_compat::describe;

use crate::cli::check::RegistryArgs;
use crate::cli::check::versions::{self, Against, Asked};
use crate::cli::{Success, build};
use tollgate_config::error::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Earlier version: a folder, a .proto file, a descriptor set, a git ref, or registry:SUBJECT.
    #[arg(value_name = "OLD")]
    pub old: String,
    /// Later version: a folder, a .proto file or a descriptor set. If OLD is a git ref, this path is read from it.
    #[arg(value_name = "NEW", default_value = "proto")]
    pub new: PathBuf,
    /// Only this message type or enum, and the types inside it.
    #[arg(long, value_name = "NAME")]
    pub message: Option<String>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// The lines of all elements: type → element → line.
type Lines = BTreeMap<String, BTreeMap<String, String>>;

/// # Errors
/// Fails with exit code 2 if one of the two cannot be read.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let paths = [args.new.clone()];
    let new = versions::Version::working_tree(&paths)?;
    let asked = Asked { paths: &paths, lock: None, transitive: false, new: &new.pool, registry: &args.registry };
    let old = versions::load(&Against::parse(&args.old)?, &asked)?.into_iter().find_map(|earlier| earlier.pool);
    let (old, new) = (old.map(|pool| lines(&pool)).unwrap_or_default(), lines(&new.pool));
    let wanted = |name: &str| {
        args.message.as_deref().is_none_or(|message| name == message || name.starts_with(&format!("{message}.")))
    };
    let unknown = args.message.as_ref().filter(|name| !old.contains_key(*name) && !new.contains_key(*name));
    if let Some(message) = unknown {
        let near = tollgate_config::reader::nearest(message, old.keys().chain(new.keys()).map(String::as_str));
        let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        return Err(Failure::configuration("contract.message", format!("neither version has {message}{near}")));
    }
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|name| wanted(name)).collect();
    let (mut text, mut changes) = (String::new(), Vec::new());
    for name in names {
        let none = BTreeMap::new();
        let (was, is) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
        if was != is {
            let sign = match (old.contains_key(name), new.contains_key(name)) {
                (false, _) => "+",
                (_, false) => "-",
                _ => " ",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{sign} {name}");
            one(name, was, is, &mut text, &mut changes);
        }
    }
    let summary =
        if changes.is_empty() { "no differences".to_owned() } else { build::count(changes.len(), "difference") };
    let shown = if changes.is_empty() { String::new() } else { format!("{text}{summary}\n") };
    Ok(Success::new(summary, json!({ "changes": changes }), shown))
}

fn one(
    name: &str,
    was: &BTreeMap<String, String>,
    is: &BTreeMap<String, String>,
    text: &mut String,
    changes: &mut Vec<Value>,
) {
    let elements: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for element in elements {
        let (was, is) = (was.get(element), is.get(element));
        if was == is {
            continue;
        }
        changes.push(json!({ "type": name, "element": element.trim_start_matches(['0', ' ']), "old": was, "new": is }));
        for (sign, line) in [("-", was), ("+", is)] {
            if let Some(line) = line {
                let _ = writeln!(text, "{sign}     {line}");
            }
        }
    }
}

fn lines(pool: &DescriptorPool) -> Lines {
    let own = |file: &prost_reflect::FileDescriptor| tollgate_compat::is_own(file);
    let messages = pool.all_messages().filter(|message| own(&message.parent_file()) && !message.is_map_entry());
    let mut all: Lines =
        messages.map(|message| (message.full_name().to_owned(), describe::message(&message))).collect();
    let enums = pool.all_enums().filter(|descriptor| own(&descriptor.parent_file()));
    all.extend(enums.map(|descriptor| (descriptor.full_name().to_owned(), describe::an_enum(&descriptor))));
    all
}
