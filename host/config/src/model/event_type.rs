//! The kinds of event that a topic holds.

use super::{KeyPart, Mapping, Output, Pipeline, Transform, Versions};

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
    /// Its `accept_versions:`, or the contract's; without either a version is not looked at.
    pub versions: Option<Versions>,
    /// `idempotency_of:` what this type's idempotency keys are made of, instead of the envelope's `of`.
    pub idempotency_of: Option<Vec<KeyPart>>,
}

impl Pipeline {
    /// The transforms of all types, type by type.
    pub fn transforms(&self) -> impl Iterator<Item = &Transform> {
        self.types.iter().flat_map(|kind| &kind.transforms)
    }

    /// What the idempotency keys of a type are made of; nothing where they are not checked.
    pub fn key_parts(&self, kind: &EventType) -> Vec<KeyPart> {
        let key = self.contract.envelope.as_ref().and_then(|envelope| envelope.idempotency_key.as_ref());
        let parts = key.map(|key| kind.idempotency_of.as_ref().unwrap_or(&key.of));
        parts.cloned().unwrap_or_default()
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
