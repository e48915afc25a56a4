//! Compares the decode plan with prost-reflect: they must accept the same payloads and read the same values.
//! `reference` lists the exceptions; each counts only if its cause is found in the bytes.

use std::sync::LazyLock;

use crate::choices::Choices;
use crate::reference::judge;
use crate::schemas::{self, Schema};
use crate::{arrival, grow};

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(schemas::plain);

/// Compiles the contracts, before executions are counted.
pub fn warm() {
    LazyLock::force(&SCHEMAS);
}

/// Checks one payload. One byte selects the message type, and one the policies; the rest is the payload.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let schema = schemas::choose(&SCHEMAS, &mut choices);
    let contract = choices.of(&schema.contracts);
    let payload = grow::payload(&schema.message, &mut choices);
    if let Err(difference) = judge(contract, &payload).and_then(|()| arrival::judge(contract, &payload)) {
        panic!("{} {:?}: {difference}", schema.message.full_name(), contract.policies());
    }
}
