//! The statements of a large batch: COPY into a temporary table of the session, and from there by the same upsert (docs/adr/0003).

use sha2::{Digest as _, Sha256};

/// The statements. The table is emptied by each commit, so there is no state to keep: whoever wants it says `create` first.
#[derive(Debug)]
pub struct Stage {
    pub create: String,
    pub copy: String,
    pub upsert: String,
}

impl Stage {
    /// `columns`: names and types, as CREATE TABLE has them; `upsert` completes the statement that reads from a source.
    /// The table is named by its columns: two of the same name are the same.
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
