//! `tollgate contract export`: writes contracts in other languages. SQL is the table that `tollgate setup` would
//! create.

use std::path::PathBuf;

use crate::compiler;
use clap::ValueEnum;
use serde_json::json;
use tollgate_compat::export::{Types, jsonschema, typescript, zod};

use super::{Select, load};
use crate::cli::{Success, setup};
use tollgate_config::TableName;
use tollgate_config::error::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub select: Select,
    /// Output format. sql: the tables of a pipeline's mapping; jsonschema: draft 2020-12; typescript: types; zod:
    /// schemas for zod 3 and 4, with their types.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Target,
    /// Write to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    Sql,
    Jsonschema,
    Typescript,
    Zod,
}

/// # Errors
/// Fails with exit code 2 if a file or a name is invalid, 3 if the file cannot be written.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other variants are passed on or all other variants are treated alike"
)]
pub fn run(args: &Args) -> Result<Success, Failure> {
    let text = match args.format {
        Target::Sql => sql(args)?,
        target => {
            let loaded = load(&args.select)?;
            let types = Types::reach(&loaded.messages(&args.select)?);
            match target {
                Target::Jsonschema => format!("{:#}\n", jsonschema::render(&types)),
                Target::Typescript => typescript::render(&types),
                _ => zod::render(&types),
            }
        }
    };
    let result = json!({ "text": text, "file": args.file });
    let Some(file) = &args.file else { return Ok(Success::new("exported", result, text)) };
    std::fs::write(file, &text).map_err(|error| {
        Failure::environment("environment.disk", format!("{} cannot be written: {error}", file.display()))
    })?;
    Ok(Success::new(format!("wrote {}", file.display()), result, String::new()))
}

fn sql(args: &Args) -> Result<String, Failure> {
    let loaded = load(&args.select)?;
    if loaded.pipelines.is_empty() {
        let message = "SQL comes from a pipeline's mapping: name the pipeline file, as in `tollgate contract export \
                       pipeline.yaml --format sql`";
        return Err(Failure::configuration("contract.export", message));
    }
    let mut text = String::new();
    for pipeline in &loaded.pipelines {
        let mut done: Vec<&TableName> = Vec::new();
        let contracts = compiler::contracts(pipeline)?;
        for (mapping, contract) in setup::mappings(pipeline, &contracts) {
            if done.contains(&&mapping.table) {
                continue;
            }
            done.push(&mapping.table);
            text += &setup::create_table(mapping, contract);
            text.push('\n');
        }
    }
    Ok(text)
}
