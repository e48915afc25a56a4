//! The rows of a batch: collected in event order, folded to one per key, and written as PostgreSQL's binary arrays.
//!
//! Folding is needed because one statement must not touch a row twice, and it saves work. It must not be visible in the
//! table: a folded batch leaves it exactly as if its events had been applied one by one in offset order. The property
//! test below compares the two over all column modes.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::HashTable;

use super::binary::signed;
use tollgate_config::Mode;

/// The properties of the table that affect folding.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The columns whose values come from the batch (not `now()`), in statement order.
    pub columns: Vec<ShapeColumn>,
    /// The indices of the key's columns in `columns`.
    pub key: Vec<usize>,
    /// Whether deleted rows are kept and marked, so that their upserts count too.
    pub soft: bool,
    /// The index of the column that must grow: a big-endian signed integer in binary form.
    pub newer: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub struct ShapeColumn {
    /// The OID of the array's element type.
    pub element: u32,
    /// The way in which the column is updated. For `add` the batch's value is a 64-bit sum.
    pub mode: Mode,
}

/// A value's place in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    start: u32,
    /// The length, or [`NULL`] for NULL.
    length: u32,
}

const NULL: u32 = u32::MAX;

/// The start of a binary COPY: signature, no flags, no header extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of a binary COPY, in place of a row's column count.
const COPY_END: i16 = -1;
/// The size of a piece, which is about the size of a socket's buffer.
const COPY_PIECE: usize = 64 << 10;

/// An event's effect on the table, in event order.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// A row: the index of its first cell, and of its first addend.
    Upsert { cells: usize, addends: usize },
    /// A deletion of the row whose key's cells begin here.
    Delete { cells: usize },
}

/// The effects of a batch. [`Rows::clear`] keeps the memory for reuse.
#[derive(Debug, Default)]
pub struct Rows {
    arena: Vec<u8>,
    cells: Vec<Cell>,
    addends: Vec<i64>,
    effects: Vec<Effect>,
    /// The number of texts that are stored without their NULs.
    cleaned: u64,
}

/// A position to which the rows can be reset.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    arena: usize,
    cells: usize,
    addends: usize,
    effects: usize,
    cleaned: u64,
}

/// A row whose cells are written but that has no effect yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    cells: usize,
    addends: usize,
    cleaned: u32,
    /// Whether its cells are the key of a row to delete.
    deletes: bool,
}

/// A batch folded to at most one delete and one upsert per key, sorted by key so that lanes lock rows in the same
/// order.
#[derive(Debug, Default)]
pub struct Folded {
    upserts: Vec<Upsert>,
    /// The first cells of the keys.
    deletes: Vec<usize>,
    sums: Vec<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Upsert {
    /// The cells of the event that would have inserted the row, from which `insert_only` columns are taken.
    first: usize,
    /// The cells of the event that was applied last.
    last: usize,
    /// The first sum of the `add` columns in [`Folded::sums`].
    sums: usize,
}

/// The position of a key.
#[derive(Debug, Clone, Copy)]
enum Key {
    One(Cell),
    /// The row's first cell. The shape lists which cells are the key.
    Many(usize),
    /// The first cell of a key without a row.
    Alone(usize),
}

/// The combined effect of the events of one key.
#[derive(Debug, Clone, Copy)]
struct State {
    key: Key,
    /// The first cell of the deleted key.
    delete: Option<usize>,
    upsert: Option<Upsert>,
}

impl Rows {
    pub fn clear(&mut self) {
        self.arena.clear();
        self.cells.clear();
        self.addends.clear();
        self.effects.clear();
        self.cleaned = 0;
    }

    pub fn len(&self) -> usize {
        self.effects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Returns the current end of the rows, for [`Rows::truncate`].
    pub fn mark(&self) -> Mark {
        Mark {
            arena: self.arena.len(),
            cells: self.cells.len(),
            addends: self.addends.len(),
            effects: self.effects.len(),
            cleaned: self.cleaned,
        }
    }

    /// Discards everything after the mark. An event writes all of its rows or none.
    pub fn truncate(&mut self, mark: Mark) {
        self.arena.truncate(mark.arena);
        self.cells.truncate(mark.cells);
        self.addends.truncate(mark.addends);
        self.effects.truncate(mark.effects);
        self.cleaned = mark.cleaned;
    }

    /// Returns how many texts in the batch's rows were stored without their NULs.
    pub fn cleaned(&self) -> u64 {
        self.cleaned
    }

    /// Begins a row. [`RowWriter::finish`] keeps it, and dropping the writer discards it.
    pub fn begin(&mut self) -> RowWriter<'_> {
        let mark = self.mark();
        RowWriter { mark, rows: self, kept: false, cleaned: 0, deletes: false }
    }

    /// Makes a staged row effective.
    pub fn upsert(&mut self, Staged { cells, addends, cleaned, deletes }: Staged) {
        self.cleaned += u64::from(cleaned);
        self.effects.push(if deletes { Effect::Delete { cells } } else { Effect::Upsert { cells, addends } });
    }

    fn bytes(&self, cell: Cell) -> Option<&[u8]> {
        (cell.length != NULL).then(|| &self.arena[cell.start as usize..][..cell.length as usize])
    }

    /// Folds the batch. See the module documentation for what that must not change.
    pub fn fold(&self, shape: &Shape) -> Folded {
        // I10: the table cannot tell a folded batch from single writes.
        let adds = shape.columns.iter().filter(|column| column.mode == Mode::Add).count();
        let hasher = foldhash::fast::RandomState::default();
        let mut folded = Folded::default();
        let mut states: Vec<State> = Vec::with_capacity(self.effects.len());
        let mut index: HashTable<usize> = HashTable::with_capacity(self.effects.len());
        for effect in &self.effects {
            let key = self.key(shape, effect);
            let hash = self.hash(&hasher, shape, key);
            let same = |state: &usize| self.key_bytes(shape, states[*state].key).eq(self.key_bytes(shape, key));
            let found = match index.find(hash, same) {
                Some(state) => *state,
                None => {
                    states.push(State { key, delete: None, upsert: None });
                    index.insert_unique(hash, states.len() - 1, |state| self.hash(&hasher, shape, states[*state].key));
                    states.len() - 1
                }
            };
            let state = &mut states[found];
            match *effect {
                Effect::Delete { cells } => {
                    state.delete = Some(cells);
                    if !shape.soft {
                        state.upsert = None;
                    }
                }
                Effect::Upsert { cells, addends } => {
                    let addends = &self.addends[addends..addends + adds];
                    if shape.soft {
                        // An upsert clears the deletion mark.
                        state.delete = None;
                    }
                    match &mut state.upsert {
                        None => {
                            let sums = folded.sums.len();
                            folded.sums.extend_from_slice(addends);
                            state.upsert = Some(Upsert { first: cells, last: cells, sums });
                        }
                        Some(upsert) => {
                            for (sum, addend) in folded.sums[upsert.sums..].iter_mut().zip(addends) {
                                // Saturating, so that PostgreSQL rejects the value instead of us wrapping it.
                                *sum = sum.saturating_add(*addend);
                            }
                            if self.newer(shape, cells, upsert.last) {
                                upsert.last = cells;
                            }
                        }
                    }
                }
            }
        }
        self.sort(shape, &mut states);
        for state in states {
            folded.deletes.extend(state.delete);
            folded.upserts.extend(state.upsert);
        }
        folded
    }

    fn hash(&self, hasher: &foldhash::fast::RandomState, shape: &Shape, key: Key) -> u64 {
        let mut state = hasher.build_hasher();
        self.key_bytes(shape, key).for_each(|column| column.hash(&mut state));
        state.finish()
    }

    /// Sorts by key, so that all lanes lock rows in the same order. Most keys differ in their first bytes, which fit a
    /// register.
    fn sort(&self, shape: &Shape, states: &mut [State]) {
        let prefix = |state: &State| {
            let bytes = self.key_bytes(shape, state.key).next().flatten().unwrap_or_default();
            let mut prefix = [0; 8];
            let length = bytes.len().min(8);
            prefix[..length].copy_from_slice(&bytes[..length]);
            u64::from_be_bytes(prefix)
        };
        let mut order: Vec<(u64, State)> = states.iter().map(|state| (prefix(state), *state)).collect();
        // Most keys differ in their first eight bytes, and comparing two numbers is cheap.
        order.sort_unstable_by_key(|(prefix, _)| *prefix);
        for same in order.chunk_by_mut(|(a, _), (b, _)| a == b).filter(|same| same.len() > 1) {
            same.sort_unstable_by(|(_, a), (_, b)| self.key_bytes(shape, a.key).cmp(self.key_bytes(shape, b.key)));
        }
        for (slot, (_, state)) in states.iter_mut().zip(order) {
            *slot = state;
        }
    }

    fn key(&self, shape: &Shape, effect: &Effect) -> Key {
        match *effect {
            Effect::Upsert { cells, .. } if shape.key.len() == 1 => Key::One(self.cells[cells + shape.key[0]]),
            Effect::Upsert { cells, .. } => Key::Many(cells),
            Effect::Delete { cells } if shape.key.len() == 1 => Key::One(self.cells[cells]),
            Effect::Delete { cells } => Key::Alone(cells),
        }
    }

    /// Iterates over the key's columns separately, so that ("ab", "c") and ("a", "bc") differ.
    fn key_bytes<'a>(&'a self, shape: &'a Shape, key: Key) -> impl Iterator<Item = Option<&'a [u8]>> + Clone {
        let columns = match key {
            Key::One(_) => &shape.key[..1],
            Key::Many(_) | Key::Alone(_) => &shape.key[..],
        };
        columns.iter().enumerate().map(move |(place, column)| match key {
            Key::One(cell) => self.bytes(cell),
            Key::Many(cells) => self.bytes(self.cells[cells + column]),
            Key::Alone(cells) => self.bytes(self.cells[cells + place]),
        })
    }

    /// Returns whether an update by the row at `cells` would pass `only_if_newer` on the row that `current` left.
    fn newer(&self, shape: &Shape, cells: usize, current: usize) -> bool {
        let Some(column) = shape.newer else { return true };
        let value = |row: usize| self.bytes(self.cells[row + column]).map(signed);
        match (value(cells), value(current)) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(new), Some(old)) => new > old,
        }
    }

    /// Returns one column of the folded upserts as a binary array.
    pub fn array(&self, shape: &Shape, folded: &Folded, column: usize) -> Vec<u8> {
        let spec = shape.columns[column];
        let add = shape.columns[..column].iter().filter(|column| column.mode == Mode::Add).count();
        let mut out = ArrayWriter::new(spec.element, folded.upserts.len());
        for upsert in &folded.upserts {
            match spec.mode {
                Mode::Set => out.push(self.bytes(self.cells[upsert.last + column])),
                Mode::InsertOnly => out.push(self.bytes(self.cells[upsert.first + column])),
                Mode::Add => out.push(Some(&folded.sums[upsert.sums + add].to_be_bytes())),
            }
        }
        out.finish()
    }

    /// Writes the folded upserts as a binary COPY stream. Pieces of about [`COPY_PIECE`] bytes are passed to `send` as
    /// soon as they are full, so that PostgreSQL reads while the next is written.
    pub async fn copy<E>(
        &self,
        shape: &Shape,
        folded: &Folded,
        mut send: impl AsyncFnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = i16::try_from(shape.columns.len()).unwrap_or(i16::MAX);
        let mut piece = Vec::with_capacity(COPY_PIECE + COPY_PIECE / 8);
        piece.extend_from_slice(COPY_HEADER);
        for upsert in &folded.upserts {
            piece.extend_from_slice(&columns.to_be_bytes());
            let mut sum = upsert.sums;
            for (column, spec) in shape.columns.iter().enumerate() {
                match spec.mode {
                    Mode::Set => element(self.bytes(self.cells[upsert.last + column]), &mut piece),
                    Mode::InsertOnly => element(self.bytes(self.cells[upsert.first + column]), &mut piece),
                    Mode::Add => {
                        element(Some(&folded.sums[sum].to_be_bytes()), &mut piece);
                        sum += 1;
                    }
                }
            }
            if piece.len() >= COPY_PIECE {
                send(&piece).await?;
                piece.clear();
            }
        }
        piece.extend_from_slice(&COPY_END.to_be_bytes());
        send(&piece).await
    }

    /// Returns one column of the folded deletes' keys as a binary array.
    pub fn deleted(&self, shape: &Shape, folded: &Folded, place: usize) -> Vec<u8> {
        let mut out = ArrayWriter::new(shape.columns[shape.key[place]].element, folded.deletes.len());
        for cells in &folded.deletes {
            out.push(self.bytes(self.cells[cells + place]));
        }
        out.finish()
    }
}

impl Folded {
    pub fn upserts(&self) -> usize {
        self.upserts.len()
    }

    pub fn deletes(&self) -> usize {
        self.deletes.len()
    }
}

/// Writes one row's cells, in shape order.
pub struct RowWriter<'a> {
    rows: &'a mut Rows,
    mark: Mark,
    kept: bool,
    cleaned: u32,
    deletes: bool,
}

impl RowWriter<'_> {
    pub fn null(&mut self) {
        self.rows.cells.push(Cell { start: 0, length: NULL });
    }

    /// Returns the start of a cell that the caller writes to [`RowWriter::out`] in PostgreSQL's binary form.
    /// [`RowWriter::close`] ends it. This is not one call with a closure, because the value would then pass through
    /// memory, which costs more than writing it.
    #[inline]
    pub fn open(&self) -> usize {
        self.rows.arena.len()
    }

    #[inline]
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.rows.arena
    }

    /// Ends the cell that began at `start`. Always inlined: a call would cost more than the body.
    #[inline(always)]
    pub fn close(&mut self, start: usize) {
        let end = self.rows.arena.len();
        self.rows.cells.push(cell(start, end));
    }

    /// Adds an addend, which also takes its column's place among the cells.
    pub fn add(&mut self, addend: i64) {
        self.rows.addends.push(addend);
        self.null();
    }

    pub fn finish(mut self) {
        self.kept = true;
        let staged = self.staged();
        self.rows.upsert(staged);
    }

    /// Keeps the cells of a row for later. [`Rows::upsert`] makes the row effective.
    pub fn stage(mut self) -> Staged {
        self.kept = true;
        self.staged()
    }

    fn staged(&self) -> Staged {
        let Mark { cells, addends, .. } = self.mark;
        Staged { cells, addends, cleaned: self.cleaned, deletes: self.deletes }
    }

    /// Marks the cells as a key, in key order, and the row of this key as deleted.
    pub fn deletes(&mut self) {
        self.deletes = true;
    }

    /// Records that the last cell is a text without its NULs.
    pub fn cleaned(&mut self) {
        self.cleaned += 1;
    }
}

impl Drop for RowWriter<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.rows.truncate(self.mark);
        }
    }
}

/// Converts positions to a cell. A batch's arena stays far below 4 GiB, because `limits` restricts events and bytes.
fn cell(start: usize, end: usize) -> Cell {
    let narrow = |value: usize| u32::try_from(value).unwrap_or(NULL - 1);
    Cell { start: narrow(start), length: narrow(end - start) }
}

/// Writes a one-dimensional array in PostgreSQL's binary form: dimensions, null flag, element OID, length, lower bound,
/// and each element prefixed with its length.
struct ArrayWriter {
    out: Vec<u8>,
    nulls: bool,
}

impl ArrayWriter {
    fn new(element: u32, length: usize) -> ArrayWriter {
        let mut out = Vec::with_capacity(20 + length * 24);
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        out.extend_from_slice(&1i32.to_be_bytes());
        out.extend_from_slice(&0i32.to_be_bytes());
        out.extend_from_slice(&element.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
        ArrayWriter { out, nulls: false }
    }

    fn push(&mut self, value: Option<&[u8]>) {
        self.nulls |= value.is_none();
        element(value, &mut self.out);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.nulls {
            self.out[4..8].copy_from_slice(&1i32.to_be_bytes());
        }
        self.out
    }
}

/// Writes a value prefixed with its length, as in arrays and COPY; NULL has length -1.
fn element(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let length = value.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

#[cfg(test)]
mod tests;
