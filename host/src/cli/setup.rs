//! `tollgate setup pipeline.yaml`: creates missing topics and tables, or prints them. `run` itself creates only the
//! partitions that `postgres.partitions` asks for.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use crate::compiler;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tollgate_contract::{Contract, Kind, Slot};
use tollgate_decide::contracts::Contracts;

use super::Success;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_config::{As, Column, From, Mapping, Mode, Pipeline, RecordPart, TableName, TimeForm};
use tollgate_decide::postgres::quote::{quote, quoted_table};
use tollgate_engine::progress::schema;
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::postgres::partitions::{self, Partition};
use tollgate_engine::sinks::postgres::table;

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

/// A table to create, or a column to add.
#[derive(PartialEq)]
struct Table {
    what: String,
    statement: String,
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
    let (tables, lacking) = look(args, pipeline, contracts, &mut connection).await?;
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

/// Returns an error if a table cannot be created with partitions, because the partition column would not hold a time.
fn unfit_partitions(mapping: &Mapping, contract: &Contract) -> Option<String> {
    let by = mapping.partitions.as_ref()?;
    let place = mapping.columns.iter().position(|column| column.name == by.column)?;
    let fields = mapping.columns[..place].iter().filter(|column| matches!(column.from, From::Field(_))).count();
    let found = sql_type(&mapping.columns[place], contract, Slot(fields));
    let fits = matches!(found.as_str(), "timestamptz" | "timestamp" | "date");
    (!fits).then(|| {
        format!(
            "column {} would be {found}, but partitions need a time: give the column a conversion such as `as: unix_ms` or \
             `as: {{ time: iso }}`",
            by.column
        )
    })
}

/// Returns the partitions that a mapping asks for today.
fn wanted(mapping: &Mapping) -> Vec<Partition> {
    let today = partitions::day_of(SystemTime::now());
    mapping.partitions.iter().flat_map(|by| partitions::wanted(&mapping.table, by, today)).collect()
}

fn partition(partition: &Partition) -> Table {
    Table { what: format!("partition {}", quoted_table(&partition.name)), statement: partition.statement() }
}

/// Returns what the tables of the mappings lack, and the missing columns that only `--alter` adds.
async fn look(
    args: &Args,
    pipeline: &Pipeline,
    contracts: &[Contracts],
    connection: &mut PgConnection,
) -> Result<(Vec<Table>, Vec<Table>), Failure> {
    let (mut tables, mut lacking) = (Vec::new(), Vec::new());
    let mut known: Vec<&TableName> = Vec::new();
    for (mapping, contract) in mappings(pipeline, contracts) {
        let first = !known.contains(&&mapping.table);
        known.push(&mapping.table);
        match table::describe(connection, &mapping.table).await.map_err(database)? {
            None if first => {
                if let Some(problem) = unfit_partitions(mapping, contract) {
                    return Err(Failure::configuration("postgres.partitions", problem));
                }
                tables.push(Table {
                    what: format!("table {}", quoted_table(&mapping.table)),
                    statement: create_table(mapping, contract),
                });
                tables.extend(wanted(mapping).iter().map(partition));
            }
            None => {}
            Some(columns) => {
                let lacks = |column: &&Column| !columns.iter().any(|known| known.name == column.name);
                for statement in add_columns(mapping, contract, lacks) {
                    let list = if args.alter { &mut tables } else { &mut lacking };
                    if !list.contains(&statement) {
                        list.push(statement);
                    }
                }
                if let Some(by) = mapping.partitions.as_ref().filter(|_| first) {
                    let unfit = partitions::unfit(connection, &mapping.table, by).await.map_err(database)?;
                    if let Some(problem) = unfit {
                        return Err(Failure::configuration("postgres.partitions", problem));
                    }
                    let lacking = partitions::missing(connection, wanted(mapping)).await.map_err(database)?;
                    tables.extend(lacking.iter().map(partition));
                }
            }
        }
    }
    Ok((tables, lacking))
}

/// Lists the missing columns that only `--alter` adds.
fn told(lacking: &[Table]) -> String {
    lacking.iter().map(|Table { statement, .. }| format!("-- missing, --alter adds it: {statement}\n")).collect()
}

/// Returns a statement for each column that a table lacks.
fn add_columns(mapping: &Mapping, contract: &Contract, lacks: impl Fn(&&Column) -> bool) -> Vec<Table> {
    let mut slot = 0;
    let mut statements = Vec::new();
    for column in &mapping.columns {
        let this = Slot(slot);
        slot += usize::from(column.from.path().is_some());
        if lacks(&column) {
            let table = quoted_table(&mapping.table);
            // Existing rows have not counted anything yet.
            let zero = if column.mode == Mode::Add { " DEFAULT 0" } else { "" };
            let what = format!("column {} of table {table}", quote(&column.name));
            let column = declared(column, mapping, contract, this);
            statements.push(Table { what, statement: format!("ALTER TABLE {table} ADD COLUMN {column}{zero};") });
        }
    }
    statements
}

/// Returns a column's declaration in CREATE TABLE.
fn declared(column: &Column, mapping: &Mapping, contract: &Contract, slot: Slot) -> String {
    let key = mapping.key.contains(&column.name);
    let mut declared = format!("{} {}", quote(&column.name), sql_type(column, contract, slot));
    if let Some(default) = &column.default {
        declared += &format!(" DEFAULT '{}'", default.replace('\'', "''"));
    }
    if key || column.mode == Mode::Add || column.not_null {
        declared += " NOT NULL";
    }
    declared
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

/// Returns every mapping, of types and of routes, with the contract of its messages.
pub fn mappings<'p>(
    pipeline: &'p Pipeline,
    contracts: &'p [Contracts],
) -> impl Iterator<Item = (&'p Mapping, &'p Contract)> {
    let outgoing = contracts.iter().flat_map(Contracts::outgoing);
    pipeline.destinations().zip(outgoing).filter_map(|(to, outgoing)| Some((to.mapping()?, &outgoing.contract)))
}

/// Returns the CREATE TABLE statement for a mapping.
pub fn create_table(mapping: &Mapping, contract: &Contract) -> String {
    let mut slot = 0;
    let mut lines: Vec<String> = Vec::new();
    for column in &mapping.columns {
        let this = Slot(slot);
        slot += usize::from(column.from.path().is_some());
        lines.push(format!("    {}", declared(column, mapping, contract, this)));
    }
    lines.extend(mapping.delete.soft.iter().map(|column| format!("    {} timestamptz", quote(column))));
    let keys: Vec<String> = mapping.key.iter().map(|name| quote(name)).collect();
    lines.push(format!("    PRIMARY KEY ({})", keys.join(", ")));
    let by = mapping.partitions.as_ref().map(partitions::clause).unwrap_or_default();
    format!("CREATE TABLE {} (\n{}\n){by};", quoted_table(&mapping.table), lines.join(",\n"))
}

/// Returns the SQL type that holds every value of a column's source.
pub fn sql_type(column: &Column, contract: &Contract, slot: Slot) -> String {
    if column.mode == Mode::Add {
        return "bigint".into();
    }
    match &column.as_ {
        As::Array | As::EnumName { .. } if of_list(column, contract, slot).is_some() => {
            return of_list(column, contract, slot).unwrap_or_default();
        }
        As::Array => return "jsonb".into(),
        As::Numeric { precision, scale } => return format!("numeric({precision},{scale})"),
        As::Decimal => return "numeric".into(),
        As::JsonText => return "jsonb".into(),
        As::Time(spec) => {
            let days = spec.forms.iter().all(|form| *form == TimeForm::UnixDays);
            return if days { "date".into() } else { "timestamptz".into() };
        }
        As::UnixSeconds | As::UnixMillis | As::UnixMicros => return "timestamptz".into(),
        As::EnumName { .. } | As::Text => return "text".into(),
        As::Int => return "bigint".into(),
        As::Jsonb => return "jsonb".into(),
        As::Uuid => return "uuid".into(),
        As::Natural => {}
    }
    let name = match &column.from {
        From::Now | From::Record(RecordPart::Timestamp) => "timestamptz",
        From::Header(_) | From::Record(RecordPart::Topic | RecordPart::Key | RecordPart::Digest) => "text",
        From::Record(RecordPart::Partition) => "integer",
        From::Record(RecordPart::Offset) | From::Constant(_) => "bigint",
        From::Field(_) | From::Oneof(_) => natural_type(&contract.field(slot).kind),
    };
    name.into()
}

/// Returns the SQL type that holds every value of a field's kind.
fn natural_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::I32 | Kind::Enum(_) => "integer",
        Kind::I64 | Kind::U32 => "bigint",
        Kind::U64 => "numeric(20)",
        Kind::F32 => "real",
        Kind::F64 => "double precision",
        Kind::String | Kind::Oneof(_) => "text",
        Kind::Bytes => "bytea",
        Kind::Timestamp => "timestamptz",
        Kind::Message(_) | Kind::Duration | Kind::Repeated(_) | Kind::Map(..) => "jsonb",
    }
}

/// Returns the array type of a repeated field, if the mapping stores it as an array.
fn of_list(column: &Column, contract: &Contract, slot: Slot) -> Option<String> {
    let (From::Field(_), As::Array | As::EnumName { .. }) = (&column.from, &column.as_) else { return None };
    let Kind::Repeated(element) = &contract.field(slot).kind else { return None };
    let name = if column.as_ == As::Array { natural_type(element) } else { "text" };
    Some(format!("{name}[]"))
}
