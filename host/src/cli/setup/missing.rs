//! What the tables of a pipeline lack.

use std::time::SystemTime;

use sqlx::postgres::PgConnection;
use tollgate_config::error::Failure;
use tollgate_config::{Column, From, Mapping, Mode, Pipeline, TableName};
use tollgate_contract::{Contract, Slot};
use tollgate_decide::contracts::Contracts;
use tollgate_decide::postgres::ddl::{self, declared, sql_type};
use tollgate_decide::postgres::quote::{quote, quoted_table};
use tollgate_engine::sinks::postgres::partitions::{self, Partition};
use tollgate_engine::sinks::postgres::table;

use super::database;

/// A table to create, or a column to add.
#[derive(PartialEq)]
pub(super) struct Table {
    pub what: String,
    pub statement: String,
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
pub(super) async fn look(
    alter: bool,
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
                    let list = if alter { &mut tables } else { &mut lacking };
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
    ddl::create_table(mapping, contract, &mapping.partitions.as_ref().map(partitions::clause).unwrap_or_default())
}
