//! The expected result: the table row by row, and the dead letters key by key.
//!
//! The rule of the benchmark is that the last valid event of a key in log order wins, in every column. So the table
//! does not depend on how an engine forms its batches, and one hash is enough to compare it.

use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::payment::{format_uuid, hex};
use crate::recipe::{Event, Recipe};

/// Hashes and sums of a table's contents and of the keys in a dead letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    pub rows: u64,
    /// The sum of all amounts, with two decimals.
    pub sum_amount: String,
    /// The hash of the lines `id|amount|currency|status|epoch_ms
    /// ` in byte order.
    pub table_md5: String,
    pub dead_letters: u64,
    /// The hash of the keys, one per line and in byte order. Each invalid event counts exactly once.
    pub dead_letters_md5: String,
}

impl Truth {
    /// Returns the expected result of the events drawn from `recipe` so far.
    pub fn of(recipe: &Recipe) -> Truth {
        let mut rows: Vec<&Event> = recipe.rows().iter().collect();
        // The text of a UUID sorts like its number: the digits are lower case, and the hyphens are always at the same
        // places.
        rows.sort_unstable_by_key(|e| e.id);
        let mut hash = Md5::new();
        let mut cents = 0;
        for row in &rows {
            cents += row.cents;
            hash.update(line(row).as_bytes());
        }
        let keys = recipe.invalid_ids().iter().map(|id| format_uuid(*id).into_bytes()).collect();
        Truth {
            rows: rows.len() as u64,
            sum_amount: decimal(cents),
            table_md5: hex(&hash.finalize()),
            dead_letters: recipe.invalid_ids().len() as u64,
            dead_letters_md5: keys_md5(keys),
        }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "rows": self.rows, "sum_amount": self.sum_amount, "table_md5": self.table_md5,
            "dead_letters": self.dead_letters, "dead_letters_md5": self.dead_letters_md5,
        })
    }

    /// Parses the output of [`Truth::to_json`]; other members are ignored.
    pub fn from_json(value: &Value) -> anyhow::Result<Truth> {
        let text = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(|| missing(key));
        let number = |key: &str| value[key].as_u64().ok_or_else(|| missing(key));
        Ok(Truth {
            rows: number("rows")?,
            sum_amount: text("sum_amount")?,
            table_md5: text("table_md5")?,
            dead_letters: number("dead_letters")?,
            dead_letters_md5: text("dead_letters_md5")?,
        })
    }

    /// Returns every difference as `what: found, expected`, or nothing if all values agree.
    pub fn differences(&self, found: &Truth) -> Vec<String> {
        let (want, got) = (self.to_json(), found.to_json());
        let members = want.as_object().into_iter().flatten();
        members
            .filter(|(key, value)| got[key.as_str()] != **value)
            .map(|(key, value)| format!("{key}: found {}, expected {value}", got[key.as_str()]))
            .collect()
    }
}

fn missing(key: &str) -> anyhow::Error {
    anyhow::anyhow!("the file of expectations has no `{key}`; write it again with `loadgen fill` or `loadgen expect`")
}

fn line(row: &Event) -> String {
    format!("{}|{}|{}|{}|{}\n", format_uuid(row.id), decimal(row.cents), row.currency, row.status, row.created_at)
}

fn decimal(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let magnitude = cents.unsigned_abs();
    format!("{sign}{}.{:02}", magnitude / 100, magnitude % 100)
}

/// Returns the hash of `keys`, sorted, one per line.
pub fn keys_md5(mut keys: Vec<Vec<u8>>) -> String {
    keys.sort_unstable();
    let mut hash = Md5::new();
    for key in &keys {
        hash.update(key);
        hash.update(b"\n");
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::FILL_EPOCH_MS;

    /// These are the figures that every engine was measured against, so a change of the recipe fails here.
    #[test]
    fn the_million_of_seed_42_amounts_to_the_known_table() {
        let mut recipe = Recipe::new(42);
        for ms in FILL_EPOCH_MS..FILL_EPOCH_MS + 1_000_000 {
            recipe.next(ms);
        }
        let truth = Truth::of(&recipe);
        assert_eq!((truth.rows, truth.dead_letters), (939_960, 10_052));
        assert_eq!(truth.sum_amount, "1433848972.44");
        assert_eq!(truth.table_md5, "46acd64326f30fa923283c99129f55bc");
        let mix = recipe.mix();
        assert_eq!((mix.repeated, mix.updated), (24_802, 25_186));
    }

    #[test]
    fn differences_name_what_differs_and_nothing_else() {
        let truth = Truth::of(&Recipe::new(1));
        let mut found = truth.clone();
        assert!(truth.differences(&found).is_empty());
        found.dead_letters = 3;
        assert_eq!(truth.differences(&found), ["dead_letters: found 3, expected 0"]);
        assert_eq!(Truth::from_json(&truth.to_json()).ok(), Some(truth));
    }

    #[test]
    fn decimals_keep_their_sign_and_zeros() {
        assert_eq!([decimal(5), decimal(-5), decimal(123_456)], ["0.05", "-0.05", "1234.56"]);
    }
}
