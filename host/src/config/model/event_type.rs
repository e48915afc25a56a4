//! The kinds of event that a topic holds.

use super::{Mapping, Output, Pipeline, Transform};

/// What becomes of one kind of event: its contract, chain, output and table.
#[derive(Debug, Clone)]
pub struct EventType {
    /// Its name in `types:`; empty for the only one of a pipeline without.
    pub name: String,
    /// `message:` full name of the message type.
    pub message: String,
    pub transforms: Vec<Transform>,
    pub output: Option<Output>,
    pub mapping: Mapping,
}

impl Pipeline {
    /// The transforms of all types, type by type.
    pub fn transforms(&self) -> impl Iterator<Item = &Transform> {
        self.types.iter().flat_map(|kind| &kind.transforms)
    }
}

impl EventType {
    /// The message type that rows and outputs follow.
    pub fn emitted(&self) -> &str {
        self.output.as_ref().and_then(|output| output.contract.as_ref()).unwrap_or(&self.message)
    }

    /// Where a key of this type stands in the file; `message`, `output.key`, `postgres.columns.amount`.
    pub fn place(&self, key: &str) -> String {
        match self.name.as_str() {
            "" if key == "message" => "contract.message".to_owned(),
            "" => key.to_owned(),
            name => format!("types.{name}.{key}"),
        }
    }
}
