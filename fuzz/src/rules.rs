//! Compares the two tiers of the rules: a payload that passes the walk must have no violation, and a refused one
//! exactly those that it names.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use crate::agreement::agree;
use crate::choices::Choices;
use crate::grow;
use crate::schemas::{self, Schema};

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(schemas::ruled);

/// Compiles the contracts, before executions are counted.
pub fn warm() {
    LazyLock::force(&SCHEMAS);
}

/// Checks one payload. One byte selects the message type, and one the present time; the rest is the payload.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let schema = schemas::choose(&SCHEMAS, &mut choices);
    let now = UNIX_EPOCH + Duration::from_millis(u64::from(choices.byte()) * 100);
    let payload = grow::payload(&schema.message, &mut choices);
    for contract in &schema.contracts {
        if let Err(difference) = agree(contract, &payload, now) {
            panic!("{} at {now:?}: {difference}", schema.message.full_name());
        }
    }
}
