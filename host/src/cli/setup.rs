//! `tollgate setup pipeline.yaml`: creates missing topics and tables, or prints them. `run` itself creates only the
//! partitions that `postgres.partitions` asks for.

mod missing;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::compiler;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use serde_json::json;
use sqlx::AssertSqlSafe;
use tollgate_decide::contracts::Contracts;

use super::Success;
use missing::{Table, look};
pub use missing::{create_table, mappings};
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_engine::progress::schema;
use tollgate_engine::runtime::build;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Print what is missing, but change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Add the columns that the mapping names and an existing table lacks. Nothing else is changed or dropped.
    #[arg(long)]
    pub alter: bool,
    /// Print the SQL statements instead of one line per topic and table.
    #[arg(long)]
    pub sql: bool,
    /// Number of partitions of each created topic.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Replication factor of each created topic; -1 uses the broker's default.
    #[arg(long, default_value_t = -1, value_name = "N", allow_hyphen_values = true)]
    pub replication: i32,
}

/// Everything that has to be created.
struct Todo {
    topics: Vec<String>,
    /// Pending migrations of Tollgate's own tables.
    schema: Vec<&'static str>,
    tables: Vec<Table>,
}

/// # Errors
/// Fails with exit code 2 for the configuration, 3 if a server is unavailable, 1 if it rejects a statement or request.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let pipeline = Pipeline::load(&args.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))?;
    let contracts = compiler::contracts(&pipeline)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    runtime.block_on(setup(args, &pipeline, &contracts))
}

fn database(error: sqlx::Error) -> Failure {
    Failure::failed("setup.postgres", format!("PostgreSQL: {error}"))
}

/// Finds what is missing, and creates it unless `args.dry_run`.
pub async fn setup(args: &Args, pipeline: &Pipeline, contracts: &[Contracts]) -> Result<Success, Failure> {
    let until = Instant::now() + pipeline.start_deadline;
    let mut connection = build::postgres(pipeline, until).await?;
    let existing = build::kafka(pipeline, until)?;
    let mut topics = build::topic_names(pipeline);
    topics.retain(|topic| !existing.contains_key(topic));
    let (tables, lacking) = look(args.alter, pipeline, contracts, &mut connection).await?;
    if args.alter && !args.dry_run {
        // The statements are printed before anything changes.
        for Table { statement, .. } in &tables {
            _ = writeln!(std::io::stderr().lock(), "{statement}");
        }
    }
    let todo = Todo { topics, schema: schema::pending(&mut connection).await.map_err(database)?, tables };
    let text = describe(&todo, args) + &told(&lacking);
    let mut result = json!({
        "topics": todo.topics, "schema": !todo.schema.is_empty(), "table": null, "dry_run": args.dry_run,
    });
    if let [table, more @ ..] = todo.tables.as_slice() {
        result["table"] = json!(table.statement);
        if !more.is_empty() {
            result["tables"] = todo.tables.iter().map(|table| table.statement.as_str()).collect();
        }
    }
    let nothing = todo.topics.is_empty() && todo.schema.is_empty() && todo.tables.is_empty();
    if nothing || args.dry_run {
        let summary = if nothing { "nothing is missing" } else { "nothing was changed" };
        let text = if nothing { format!("{}{summary}", told(&lacking)) } else { text };
        return Ok(Success::new(summary, result, text));
    }
    if !todo.schema.is_empty() {
        schema::migrate(&mut connection)
            .await
            .map_err(|error| Failure::failed("setup.schema", format!("PostgreSQL: {error}")))?;
    }
    for Table { statement, .. } in &todo.tables {
        sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await.map_err(database)?;
    }
    create_topics(args, pipeline, &todo.topics).await?;
    let summary = "created what was missing";
    Ok(Success::new(summary, result, text))
}

/// Lists the missing columns that only `--alter` adds.
fn told(lacking: &[Table]) -> String {
    lacking.iter().map(|Table { statement, .. }| format!("-- missing, --alter adds it: {statement}\n")).collect()
}

/// Describes what is missing or was created: one line each, or the statements themselves.
fn describe(todo: &Todo, args: &Args) -> String {
    let mut text = String::new();
    let (topic, done) = match (args.sql, args.dry_run) {
        (true, _) => ("-- topic", ""),
        (false, true) => ("topic", "missing, "),
        (false, false) => ("topic", "created, "),
    };
    let replication = match args.replication {
        -1 => "the broker's replication factor".to_owned(),
        factor => format!("replication factor {factor}"),
    };
    for name in &todo.topics {
        // Writing to a String cannot fail.
        _ = writeln!(text, "{topic} {name}: {done}{} partitions, {replication}", args.partitions);
    }
    if args.sql {
        let tables = todo.tables.iter().map(|table| table.statement.as_str());
        tables.chain(todo.schema.iter().copied()).for_each(|sql| _ = writeln!(text, "{sql}"));
        return text;
    }
    let done = done.trim_end_matches(", ");
    for Table { what, .. } in &todo.tables {
        _ = writeln!(text, "{what}: {done}");
    }
    if !todo.schema.is_empty() {
        _ = writeln!(text, "Tollgate's own tables (schema tollgate): {done}, {} migrations", todo.schema.len());
    }
    text
}

async fn create_topics(args: &Args, pipeline: &Pipeline, topics: &[String]) -> Result<(), Failure> {
    if topics.is_empty() {
        return Ok(());
    }
    let client = build::admin(pipeline)?;
    let replication = || TopicReplication::Fixed(args.replication);
    let new: Vec<NewTopic<'_>> =
        topics.iter().map(|topic| NewTopic::new(topic, args.partitions, replication())).collect();
    let options = AdminOptions::new().operation_timeout(Some(limits::SETUP_CALL));
    let refused = |error: &dyn std::fmt::Display| Failure::failed("setup.topics", format!("Kafka: {error}"));
    let done = client.create_topics(&new, &options).await.map_err(|error| refused(&error))?;
    let problems: Vec<String> = done
        .into_iter()
        .filter_map(|topic| topic.err().map(|(topic, code)| format!("cannot create topic {topic}: {code}")))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(refused(&problems.join("\n"))) }
}
