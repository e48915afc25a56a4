//! `postgres.delete:` which events delete a row, and how.

/// How rows are deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletes {
    /// `key:` how a tombstone's record key names the row. `None`: as text for a key of one column, as JSON for several.
    pub key: Option<DeleteKey>,
    /// `when:` an event with a value that deletes the row of its own key.
    pub when: Option<DeleteWhen>,
    /// `soft:` the column that marks a deleted row, which stays.
    pub soft: Option<String>,
}

impl Deletes {
    /// How a record key is read for a table whose key has so many columns.
    pub fn key_form(&self, columns: usize) -> DeleteKey {
        self.key.clone().unwrap_or(if columns == 1 { DeleteKey::Text } else { DeleteKey::Json })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteKey {
    /// The key is the one column's value, as text.
    Text,
    /// The key is a JSON object with a member for each key column, or the one column's value in JSON.
    Json,
    /// `{ message: … }` The key is a Protobuf message of this full name, with a field for each key column.
    Message(String),
}

/// `when: { field: op, is: [delete] }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteWhen {
    pub field: String,
    /// Texts, names of an enum's values, `true` or `false`.
    pub is: Vec<String>,
}
