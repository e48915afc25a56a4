//! Reads the schemas that a batch's frames name.

use std::collections::BTreeSet;

use tollgate_config::error::Class;
use tollgate_contract::frame::SchemaId;
use tollgate_decide::schemas::{Schema, Schemas};
use tollgate_registry::{SchemaBody, SchemaError, SchemaStore};

use super::Error;

/// Reads these schemas into `known`. Blocks if a schema is new, see [`SchemaStore::schema`].
///
/// # Errors
/// The registry is unavailable, or rejects us. A schema that does not exist or cannot be used is a fact like any other.
pub(super) fn read(store: Option<&SchemaStore>, ids: BTreeSet<SchemaId>, known: &mut Schemas) -> Result<(), Error> {
    for id in ids {
        let found = store.map_or(Err(SchemaError::NotFound(id)), |store| store.schema(id));
        let schema = match found {
            Ok(schema) => match &schema.body {
                SchemaBody::Protobuf(file) => Schema::Protobuf(file.clone()),
                SchemaBody::Text => Schema::Other(schema.kind.to_string()),
            },
            Err(error) => match (error.class(), reason(&error)) {
                (Class::Poison, Some(reason)) => Schema::Unusable { reason, message: error.to_string() },
                _ => return Err(Error::Registry(error)),
            },
        };
        known.insert(id, schema);
    }
    Ok(())
}

/// Returns the code of the dead letter if the event is at fault.
fn reason(error: &SchemaError) -> Option<&'static str> {
    match error {
        SchemaError::NotFound(_) => Some("schema-unknown"),
        SchemaError::Unusable { .. } => Some("schema-unusable"),
        SchemaError::Unavailable { .. } | SchemaError::Refused(_) | SchemaError::Subject(_) => None,
    }
}
