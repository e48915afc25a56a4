//! Checks the target table against its mapping when the pipeline starts.

use sqlx::postgres::PgConnection;
use tollgate_config::Mapping;
use tollgate_contract::Contract;
use tollgate_decide::postgres::Table;
use tollgate_decide::postgres::quote::quoted_table;
use tollgate_decide::postgres::table::UnfitTable;

pub use super::catalogue::describe;
use super::catalogue::has_unique_index;
use super::{keys, partitions};

/// The reasons why a table does not match, all at once.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
    #[error(transparent)]
    Unfit(#[from] UnfitTable),
}

/// Checks the mapping against the catalogue and the contract.
pub async fn check(connection: &mut PgConnection, mapping: &Mapping, contract: &Contract) -> Result<Table, Error> {
    let name = quoted_table(&mapping.table);
    let Some(columns) = describe(connection, &mapping.table).await? else {
        return Err(Error::Unfit(UnfitTable(vec![format!(
            "table {name} does not exist: `tollgate setup` creates it, `tollgate setup --dry-run` shows what it would do"
        )])));
    };
    let mut problems = Vec::new();
    if !has_unique_index(connection, &name, &mapping.key).await? {
        problems.push(format!(
            "table {name} has no primary key or unique index on exactly ({}): ON CONFLICT needs one",
            mapping.key.join(", ")
        ));
    }
    problems.extend(keys::unequal(connection, &name, &mapping.key).await?);
    if let Some(by) = &mapping.partitions {
        problems.extend(partitions::unfit(connection, &mapping.table, by).await?);
    }
    for column in &columns {
        let mapped = mapping.columns.iter().any(|mapped| mapped.name == column.name);
        if column.not_null && !column.has_default && !column.generated && !mapped {
            problems.push(format!(
                "column {} of {name} is NOT NULL and has no default, but nothing is mapped to it",
                column.name
            ));
        }
    }
    let mut table = Table::plan(mapping, &columns, contract, problems).map_err(UnfitTable)?;
    let stages: bool =
        sqlx::query_scalar("SELECT has_database_privilege(current_database(), 'TEMP')").fetch_one(connection).await?;
    table.stage = table.stage.filter(|_| stages);
    Ok(table)
}
