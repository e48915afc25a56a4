//! Builds the statements of a large batch: COPY into a temporary table of the session, then the same upsert from there
//! (docs/adr/0003).

use sha2::{Digest as _, Sha256};

/// The statements. Each commit empties the table, and each use runs `create` first, so there is no state to track.
#[derive(Debug)]
pub struct Stage {
    pub create: String,
    pub copy: String,
    pub upsert: String,
}

impl Stage {
    /// Builds the statements. `columns` are names and types in the syntax of CREATE TABLE. `upsert` completes the
    /// statement that reads from a source. The table's name is derived from its columns, so two stages with the same
    /// name are identical.
    pub fn new(columns: &str, upsert: impl Fn(&str) -> String) -> Stage {
        let digest = hex::encode(&Sha256::digest(columns)[..8]);
        let name = format!("pg_temp.tollgate_stage_{digest}");
        Stage {
            create: format!("CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns}) ON COMMIT DELETE ROWS"),
            copy: format!("COPY {name} FROM STDIN (FORMAT binary)"),
            upsert: upsert(&format!("{name} AS u")),
        }
    }
}
