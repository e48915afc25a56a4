//! `postgres.delete:` the events that delete a row, and the way they do it.

/// The settings for deleting rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletes {
    /// `key:` how a tombstone's record key identifies the row. `None`: as text for a key of one column, as JSON for
    /// several.
    pub key: Option<DeleteKey>,
    /// `when:` selects events with a value that delete the row of their key.
    pub when: Option<DeleteWhen>,
    /// `soft:` the column that marks a row as deleted instead of deleting it.
    pub soft: Option<String>,
}

impl Deletes {
    /// Returns how a record key is read for a table whose key has this number of columns.
    pub fn key_form(&self, columns: usize) -> DeleteKey {
        self.key.clone().unwrap_or(if columns == 1 { DeleteKey::Text } else { DeleteKey::Json })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteKey {
    /// The key is the value of the only key column, as text.
    Text,
    /// The key is a JSON object with a member for each key column, or the value of the only one in JSON.
    Json,
    /// `{ message: … }` The key is a Protobuf message of this full name, with a field for each key column.
    Message(String),
}

/// `when: { field: op, is: [delete] }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteWhen {
    pub field: String,
    /// Texts, names of enum values, `true` or `false`.
    pub is: Vec<String>,
}
