//! Encodes rows of `payment_events` in PostgreSQL's binary COPY format.

use anyhow::Context;

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: u128,
    /// `id` as the event spells it.
    pub transaction_id: String,
    pub cents: i64,
    pub currency: &'static str,
    pub status: &'static str,
    /// Unix milliseconds.
    pub created_at: i64,
    pub schema_version: i32,
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const COLUMNS: i16 = 6;
/// PostgreSQL counts microseconds from 2000-01-01T00:00:00Z.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;
const NUMERIC_POSITIVE: i16 = 0x0000;
const NUMERIC_NEGATIVE: i16 = 0x4000;

/// Sorts by key and keeps the last row of each key, because an upsert must not touch a row twice.
pub fn fold(rows: &mut Vec<Row>) {
    // The sort is stable, so that the rows of a key stay in log order.
    rows.sort_by_key(|row| row.id);
    rows.dedup_by(|later, kept| {
        let same = later.id == kept.id;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
}

/// Replaces the contents of `into` by the COPY stream of `rows`.
pub fn encode(rows: &[Row], into: &mut Vec<u8>) -> anyhow::Result<()> {
    into.clear();
    into.extend_from_slice(SIGNATURE);
    into.extend_from_slice(&[0; 8]); // no flags, no header extension
    for row in rows {
        into.extend_from_slice(&COLUMNS.to_be_bytes());
        field(into, row.transaction_id.as_bytes())?;
        numeric(into, row.cents)?;
        field(into, row.currency.as_bytes())?;
        field(into, row.status.as_bytes())?;
        let micros = row.created_at.checked_sub(POSTGRES_EPOCH_MS).and_then(|ms| ms.checked_mul(1_000));
        field(into, &micros.context("an event time out of PostgreSQL's range")?.to_be_bytes())?;
        field(into, &row.schema_version.to_be_bytes())?;
    }
    into.extend_from_slice(&(-1i16).to_be_bytes());
    Ok(())
}

fn field(into: &mut Vec<u8>, bytes: &[u8]) -> anyhow::Result<()> {
    into.extend_from_slice(&i32::try_from(bytes.len())?.to_be_bytes());
    into.extend_from_slice(bytes);
    Ok(())
}

/// Encodes `cents / 100` as `numeric`: digits in base 10,000, where `weight` is the exponent of the first.
fn numeric(into: &mut Vec<u8>, cents: i64) -> anyhow::Result<()> {
    let magnitude = cents.unsigned_abs();
    let mut digits = [0i16; 6];
    let mut used = 1;
    digits[5] = i16::try_from(magnitude % 100 * 100)?;
    let mut whole = magnitude / 100;
    while whole > 0 {
        used += 1;
        digits[6 - used] = i16::try_from(whole % 10_000)?;
        whole /= 10_000;
    }
    let sign = if cents < 0 { NUMERIC_NEGATIVE } else { NUMERIC_POSITIVE };
    let count = i16::try_from(used)?;
    into.extend_from_slice(&i32::try_from(8 + 2 * used)?.to_be_bytes());
    for word in [count, count - 2, sign, 2] {
        into.extend_from_slice(&word.to_be_bytes());
    }
    for digit in &digits[6 - used..] {
        into.extend_from_slice(&digit.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u128, cents: i64) -> Row {
        let created_at = POSTGRES_EPOCH_MS;
        Row { id, transaction_id: "k".into(), cents, currency: "EUR", status: "PENDING", created_at, schema_version: 1 }
    }

    #[test]
    fn folding_keeps_the_last_row_of_each_key_in_key_order() {
        let mut rows = vec![row(2, 1), row(1, 2), row(2, 3), row(1, 4), row(2, 5)];
        fold(&mut rows);
        let kept: Vec<_> = rows.iter().map(|r| (r.id, r.cents)).collect();
        assert_eq!(kept, [(1, 4), (2, 5)]);
    }

    #[test]
    fn numerics_have_their_digits_weight_sign_and_scale() {
        let words = |cents| {
            let mut out = Vec::new();
            numeric(&mut out, cents).unwrap();
            out[4..].chunks(2).map(|w| i16::from_be_bytes([w[0], w[1]])).collect::<Vec<_>>()
        };
        assert_eq!(words(123_456_789), [3, 1, 0, 2, 123, 4_567, 8_900]);
        assert_eq!(words(-150), [2, 0, NUMERIC_NEGATIVE, 2, 1, 5_000]);
        assert_eq!(words(7), [1, -1, 0, 2, 700]);
    }
}
