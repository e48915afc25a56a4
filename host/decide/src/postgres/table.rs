//! The target table. It is checked against the mapping when the pipeline starts, and has the statements derived from
//! both.

use tollgate_contract::{Contract, FieldPath, Fields, Slot};

use super::cell::{Encoder, PgColumn};
use super::column;
use super::delete::{self, Delete, Soft, When};
use super::quote::{quote, quoted_table};
use super::row::Cell;
pub use super::row::{Misfit, RecordView};
use super::rows::{RowWriter, Shape, ShapeColumn};
use super::stage::Stage;
use super::unfit::mapping::UnfitColumn;
use tollgate_config::{Column, From, Mapping, Mode, Nul};

/// The OID of bool, the type of the mark on a row that an event deletes.
const BOOL: u32 = 16;
const BOOL_ARRAY: u32 = 1000;
/// A table that matches its mapping.
#[derive(Debug)]
pub struct Table {
    pub shape: Shape,
    pub upsert: String,
    /// The statements for large batches, or `None` if the role must not create temporary tables.
    pub stage: Option<Stage>,
    /// The deletes, if they are possible.
    pub delete: Option<Delete>,
    /// Selects the events with a value that delete.
    when: Option<When>,
    /// Whether a deleting event is an upsert whose last cell marks its row. Then `only_if_newer` applies to it like to
    /// any other event, and an older event that arrives later finds the newer row.
    pub marks: bool,
    /// The OIDs of the array types, in shape order.
    pub arrays: Vec<u32>,
    cells: Vec<Cell>,
}

/// Returns the field paths that a mapping reads, for [`Contract::compile`]. Slot i is the i-th path.
pub fn fields(mapping: &Mapping) -> Vec<FieldPath> {
    let paths = mapping.columns.iter().filter_map(|column| column.from.path());
    // This path comes after the columns' fields, whose slots are counted.
    paths.chain(mapping.delete.when.iter().map(|when| FieldPath::new(&when.field))).collect()
}

/// The reasons why a table does not match its mapping, all at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct UnfitTable(pub Vec<String>);

impl Table {
    /// Plans the mapping on known columns. No server is queried, so indexes are not checked.
    ///
    /// # Errors
    /// Returns every reason why the table does not match.
    pub fn of(mapping: &Mapping, columns: &[PgColumn], contract: &Contract) -> Result<Table, UnfitTable> {
        Table::plan(mapping, columns, contract, Vec::new()).map_err(UnfitTable)
    }

    /// Plans the mapping on these columns. `problems` are the problems found so far.
    ///
    /// # Errors
    /// Returns every reason why the table does not match.
    pub fn plan(
        mapping: &Mapping,
        columns: &[PgColumn],
        contract: &Contract,
        mut problems: Vec<String>,
    ) -> Result<Table, Vec<String>> {
        let mut builder = Builder { nul: mapping.nul, ..Builder::default() };
        let mut slot = 0;
        for mapped in &mapping.columns {
            let this = slot;
            slot += usize::from(mapped.from.path().is_some());
            let Some(column) = columns.iter().find(|column| column.name == mapped.name) else {
                problems.push(missing(mapped, columns));
                continue;
            };
            if let Err(problem) =
                builder.column(mapped, column, Slot(this), contract, mapping.key.contains(&mapped.name))
            {
                problems.push(problem.to_string());
            }
        }
        if let Some(newer) = &mapping.only_if_newer
            && let Some(column) = columns.iter().find(|column| &column.name == newer)
            && !matches!(column.type_name.as_str(), "int2" | "int4" | "int8" | "timestamptz" | "timestamp")
        {
            problems.push(format!(
                "only_if_newer: column {newer} is {}; it must be an integer or a timestamp",
                column.sql_type
            ));
        }
        let soft = mapping.delete.soft.as_ref().map(|column| Soft::new(column, &mapping.columns, columns)).transpose();
        let soft = soft.unwrap_or_else(|problem| {
            problems.push(problem.to_string());
            None
        });
        let when = mapping.delete.when.as_ref().map(|when| When::new(when, Slot(slot), contract)).transpose();
        let when = when.unwrap_or_else(|problem| {
            problems.push(problem.to_string());
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let marks = mapping.marks();
        // A deleted row keeps no version, so an older event would bring it back.
        let keys = delete::key_columns(mapping, columns).filter(|_| mapping.only_if_newer.is_none());
        let name = quoted_table(&mapping.table);
        let delete =
            keys.map(|keys| Delete::new(&name, mapping, &keys, soft.as_ref(), contract)).transpose()?.flatten();
        if mapping.delete.when.is_some() && delete.is_none() && !marks {
            return Err(vec![format!(
                "delete.when: the key ({}) has a type that deletes do not support",
                mapping.key.join(", ")
            )]);
        }
        let mut table = builder.finish(mapping, soft, marks);
        (table.delete, table.when) = (delete, when);
        Ok(table)
    }

    /// Writes the row of one output. The caller keeps it with [`RowWriter::finish`] or drops it.
    pub fn write(
        &self,
        contract: &Contract,
        fields: &Fields<'_>,
        record: &RecordView<'_>,
        row: &mut RowWriter<'_>,
    ) -> Result<(), Misfit> {
        let gone = self.when.as_ref().is_some_and(|when| when.holds(contract, fields));
        self.write_as(gone, contract, fields, record, row)
    }

    /// Writes the row of a message. `gone` tells whether it is deleted.
    pub fn write_as(
        &self,
        gone: bool,
        contract: &Contract,
        fields: &Fields<'_>,
        record: &RecordView<'_>,
        row: &mut RowWriter<'_>,
    ) -> Result<(), Misfit> {
        if gone && !self.marks {
            row.deletes();
            return self.shape.key.iter().try_for_each(|key| self.cells[*key].write(contract, fields, record, row));
        }
        self.cells.iter().try_for_each(|cell| cell.write(contract, fields, record, row))?;
        if self.marks {
            delete::mark(row, gone);
        }
        Ok(())
    }
}

fn missing(mapping: &Column, columns: &[PgColumn]) -> String {
    let near = columns
        .iter()
        .map(|column| (strsim::damerau_levenshtein(&column.name, &mapping.name), &column.name))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, name)| format!("; did you mean {name}?"))
        .unwrap_or_default();
    format!("column {} does not exist in the table{near}", mapping.name)
}

/// Collects the parts of the statement column by column.
#[derive(Default)]
struct Builder {
    cells: Vec<Cell>,
    shape: Vec<ShapeColumn>,
    arrays: Vec<u32>,
    insert: Vec<String>,
    select: Vec<String>,
    unnest: Vec<String>,
    stage: Vec<String>,
    update: Vec<String>,
    names: Vec<String>,
    /// Whether an identity column is written with the events' values.
    overriding: bool,
    nul: Nul,
}

/// Checks whether PostgreSQL accepts values for a column that it fills itself.
fn generated(mapping: &Column, column: &PgColumn, key: bool) -> Result<(), UnfitColumn> {
    let name = || column.name.clone();
    if column.generated {
        return Err(UnfitColumn::Generated { column: name() });
    }
    if column.identity && !mapping.overrides_identity {
        return Err(UnfitColumn::Identity { column: name() });
    }
    if column.identity && !key && mapping.mode != Mode::InsertOnly {
        return Err(UnfitColumn::IdentityUpdated { column: name() });
    }
    Ok(())
}

impl Builder {
    fn column(
        &mut self,
        mapping: &Column,
        column: &PgColumn,
        slot: Slot,
        contract: &Contract,
        key: bool,
    ) -> Result<(), UnfitColumn> {
        let quoted = quote(&mapping.name);
        generated(mapping, column, key)?;
        self.overriding |= mapping.overrides_identity;
        match mapping.mode {
            Mode::Set => self.update.push(format!("{quoted} = excluded.{quoted}")),
            // NULL, in a row that is older than the column, counts as 0.
            Mode::Add => self.update.push(format!("{quoted} = COALESCE(t.{quoted}, 0) + excluded.{quoted}")),
            Mode::InsertOnly => {}
        }
        self.insert.push(quoted);
        if mapping.from == From::Now {
            if !matches!(column.type_name.as_str(), "timestamptz" | "timestamp" | "date") {
                let (column, sql_type) = (column.name.clone(), column.sql_type.clone());
                return Err(UnfitColumn::Now { column, sql_type });
            }
            self.select.push("now()".into());
            return Ok(());
        }
        self.valued(mapping, column, slot, contract, key)
    }

    /// Adds a column whose value comes from each event.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
    fn valued(
        &mut self,
        mapping: &Column,
        column: &PgColumn,
        slot: Slot,
        contract: &Contract,
        key: bool,
    ) -> Result<(), UnfitColumn> {
        let index = self.cells.len();
        let planned = column::plan(mapping, column, slot, contract, key, self.nul)?;
        // An array is sent as text, see `cell/list.rs`.
        let cast = match planned.cell.encoder {
            Encoder::List(_) => format!("::{}", column.base_sql_type),
            _ => String::new(),
        };
        self.select.push(format!("u.c{index}{cast}"));
        self.unnest.push(format!("${}::{}", index + 1, planned.array_sql));
        self.stage.push(format!("c{index} {}", planned.array_sql.trim_end_matches("[]")));
        self.arrays.push(planned.array);
        self.names.push(mapping.name.clone());
        self.shape.push(ShapeColumn { element: planned.element, mode: mapping.mode });
        self.cells.push(planned.cell);
        Ok(())
    }

    fn finish(mut self, mapping: &Mapping, soft: Option<Soft>, marks: bool) -> Table {
        let table = quoted_table(&mapping.table);
        let position = |name: &String| self.names.iter().position(|column| column == name);
        let key: Vec<usize> = mapping.key.iter().filter_map(position).collect();
        let newer = mapping.only_if_newer.as_ref().and_then(position);
        let keys: Vec<String> = mapping.key.iter().map(|name| quote(name)).collect();
        if let Some(Soft { column, marked, clear }) = &soft {
            self.insert.push(column.clone());
            self.update.push(format!("{column} = excluded.{column}"));
            if marks {
                let index = self.cells.len();
                self.select.push(format!("CASE WHEN u.c{index} THEN {marked} ELSE {clear} END"));
                self.unnest.push(format!("${}::boolean[]", index + 1));
                self.stage.push(format!("c{index} boolean"));
                self.arrays.push(BOOL_ARRAY);
                self.shape.push(ShapeColumn { element: BOOL, mode: Mode::Set });
            } else {
                self.select.push((*clear).to_owned());
            }
        }
        // A key column is already equal when an update happens.
        self.update.retain(|set| !keys.iter().any(|key| set.starts_with(&format!("{key} = "))));
        let action =
            if self.update.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", self.update.join(", ")) };
        let guard = match mapping.only_if_newer.as_ref().map(|name| quote(name)) {
            Some(column) if !self.update.is_empty() => {
                format!(" WHERE t.{column} IS NULL OR excluded.{column} > t.{column}")
            }
            _ => String::new(),
        };
        let names: Vec<String> = (0..self.shape.len()).map(|index| format!("c{index}")).collect();
        let overriding = if self.overriding { " OVERRIDING SYSTEM VALUE" } else { "" };
        let upsert = |source: &str| {
            format!(
                "INSERT INTO {table} AS t ({}){overriding} SELECT {} FROM {source} ON CONFLICT ({}) DO {action}{guard}",
                self.insert.join(", "),
                self.select.join(", "),
                keys.join(", "),
            )
        };
        let stage = Stage::new(&self.stage.join(", "), upsert);
        let upsert = upsert(&format!("unnest({}) AS u({})", self.unnest.join(", "), names.join(", ")));
        let shape = Shape { columns: self.shape, key, newer, soft: soft.is_some() };
        Table {
            shape,
            upsert,
            stage: Some(stage),
            delete: None,
            when: None,
            marks,
            arrays: self.arrays,
            cells: self.cells,
        }
    }
}
