//! The types of event on a topic.

use super::{KeyPart, Mapping, Output, Pipeline, Transform, Versions};

/// A type of event, with its contract, chain, output and table.
#[derive(Debug, Clone, PartialEq)]
pub struct EventType {
    /// The name in `types:`; empty for the only type of a pipeline without `types:`.
    pub name: String,
    /// `message:` full name of the message type.
    pub message: String,
    pub transforms: Vec<Transform>,
    pub output: Option<Output>,
    pub mapping: Mapping,
    /// The type's `accept_versions:`, or the contract's. Without either, versions are not checked.
    pub versions: Option<Versions>,
    /// `idempotency_of:` the hashed parts of this type's idempotency keys, instead of the envelope's `of`.
    pub idempotency_of: Option<Vec<KeyPart>>,
}

impl Pipeline {
    /// Returns the transforms of all types, type by type.
    pub fn transforms(&self) -> impl Iterator<Item = &Transform> {
        self.types.iter().flat_map(|kind| &kind.transforms)
    }

    /// Returns the hashed parts of a type's idempotency keys; empty if they are not checked.
    pub fn key_parts(&self, kind: &EventType) -> Vec<KeyPart> {
        let key = self.contract.envelope.as_ref().and_then(|envelope| envelope.idempotency_key.as_ref());
        let parts = key.map(|key| kind.idempotency_of.as_ref().unwrap_or(&key.of));
        parts.cloned().unwrap_or_default()
    }
}

impl EventType {
    /// Returns the message type of rows and outputs.
    pub fn emitted(&self) -> &str {
        self.output.as_ref().and_then(|output| output.contract.as_ref()).unwrap_or(&self.message)
    }

    /// Returns the path in the file of a key of this type, such as `message`, `output.key`, `postgres.columns.amount`.
    pub fn place(&self, key: &str) -> String {
        match self.name.as_str() {
            "" if key == "message" => "contract.message".to_owned(),
            "" => key.to_owned(),
            name => format!("types.{name}.{key}"),
        }
    }
}
