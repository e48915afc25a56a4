//! The seeded stream of payment events: the same seed gives the same bytes on every machine and in every version.
//!
//! Of the events 94 % are new and valid, 1 % are invalid (half with a negative amount, half with an unknown currency),
//! and 5 % repeat an earlier valid key. Half of the repeats are identical to the earlier event; the others have a new
//! status and a later time. Half of the repeats reach back at most [`RECENT`] events, the others any distance, so that
//! they affect both the current batch and rows that were committed long ago.
//!
//! The order in which numbers are drawn is part of the recipe. A change of the order makes results incomparable.

use crate::payment::{CURRENCIES, PaymentEvent, STATUSES, format_uuid, hex};

/// 2026-01-01T00:00:00Z. The events of a filled topic start at this time, one each millisecond.
pub const FILL_EPOCH_MS: i64 = 1_767_225_600_000;
const UNKNOWN_CURRENCIES: [&str; 4] = ["ZZZ", "eur", "US", ""];
const RECENT: u64 = 5_000;
/// The shares of the mix, out of 10,000.
const REPEATS_BELOW: u64 = 500;
const INVALID_FROM: u64 = 9_900;

/// splitmix64 (Steele, Lea, Flood 2014): it has eight bytes of state, and every seed is good.
struct SplitMix(u64);

impl SplitMix {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    fn wide(&mut self) -> u128 {
        let high = self.draw();
        u128::from(high) << 64 | u128::from(self.draw())
    }

    fn uuid4(&mut self) -> u128 {
        const VERSION: u128 = 0xF000 << 64;
        const VARIANT: u128 = 0xC000 << 48;
        self.wide() & !VERSION & !VARIANT | 0x4000 << 64 | 0x8000 << 48
    }
}

/// A generated event in a compact form, so that millions of them fit in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    pub id: u128,
    pub cents: i64,
    pub currency: &'static str,
    pub status: &'static str,
    pub created_at: i64,
    trace: u128,
    tenant: u64,
}

impl Event {
    pub fn message(&self) -> PaymentEvent {
        let status = STATUSES.iter().position(|s| *s == self.status).and_then(|s| i32::try_from(s).ok());
        PaymentEvent {
            transaction_id: format_uuid(self.id),
            amount: self.cents as f64 / 100.0,
            currency: self.currency.to_owned(),
            status: status.unwrap_or(0),
            created_at: self.created_at,
            trace_id: hex(&self.trace.to_be_bytes()),
            tenant_id: format!("tenant-{:04}", self.tenant),
        }
    }
}

/// Counts of the events drawn so far, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mix {
    pub new: u64,
    pub invalid: u64,
    pub repeated: u64,
    pub updated: u64,
}

/// The stream. It also keeps the expected result: the rows of the table and the keys of the invalid events.
pub struct Recipe {
    random: SplitMix,
    /// Repeats carry the time of sending instead of their earlier time, so that the table shows latencies.
    fresh: bool,
    /// The last valid state of every key, in order of first appearance.
    rows: Vec<Event>,
    invalid: Vec<u128>,
    mix: Mix,
}

impl Recipe {
    pub fn new(seed: u64) -> Recipe {
        Recipe { random: SplitMix(seed), fresh: false, rows: Vec::new(), invalid: Vec::new(), mix: Mix::default() }
    }

    pub fn fresh(self, fresh: bool) -> Recipe {
        Recipe { fresh, ..self }
    }

    pub fn rows(&self) -> &[Event] {
        &self.rows
    }

    pub fn invalid_ids(&self) -> &[u128] {
        &self.invalid
    }

    pub fn mix(&self) -> Mix {
        self.mix
    }

    /// Returns the next event. A new event happens at `now`, in Unix milliseconds.
    pub fn next(&mut self, now: i64) -> Event {
        let kind = self.random.below(10_000);
        if kind < REPEATS_BELOW && !self.rows.is_empty() {
            return self.repeat(now);
        }
        let mut event = self.new_event(now);
        if kind < INVALID_FROM {
            self.mix.new += 1;
            self.rows.push(event);
            return event;
        }
        if self.random.coin() {
            event.cents = -event.cents;
        } else {
            event.currency = self.random.pick(&UNKNOWN_CURRENCIES);
        }
        self.mix.invalid += 1;
        self.invalid.push(event.id);
        event
    }

    fn repeat(&mut self, now: i64) -> Event {
        let known = self.rows.len();
        let at = if self.random.coin() {
            known - 1 - self.random.index(known.min(usize::try_from(RECENT).unwrap_or(known)))
        } else {
            self.random.index(known)
        };
        let row = &mut self.rows[at];
        if self.random.coin() {
            self.mix.repeated += 1;
            if self.fresh {
                row.created_at = now;
            }
        } else {
            self.mix.updated += 1;
            row.status = self.random.pick(&STATUSES[1..]);
            row.created_at = now;
        }
        *row
    }

    /// Draws an amount from 1.00 to just under 10,000.00, small ones more often.
    fn new_event(&mut self, now: i64) -> Event {
        let id = self.random.uuid4();
        let currency = self.random.pick(&CURRENCIES);
        let status = self.random.pick(&STATUSES[1..]);
        let trace = self.random.wide();
        let tenant = self.random.below(200);
        let magnitude: u64 = self.random.pick(&[100, 1_000, 10_000, 100_000]);
        let cents = magnitude + self.random.below(magnitude * 9);
        Event { id, cents: i64::try_from(cents).unwrap_or(0), currency, status, created_at: now, trace, tenant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_events() {
        let (mut a, mut b, mut other) = (Recipe::new(7), Recipe::new(7), Recipe::new(8));
        let same = (0..10_000).all(|ms| a.next(ms) == b.next(ms));
        assert!(same);
        assert_ne!(a.next(0).id, other.next(0).id);
    }

    #[test]
    fn the_mix_is_as_told_and_the_checks_agree_with_it() {
        let mut recipe = Recipe::new(1);
        let mut refused = 0;
        for ms in 1..=100_000 {
            refused += u64::from(recipe.next(ms).message().check().is_err());
        }
        let mix = recipe.mix();
        assert_eq!(mix.new + mix.invalid + mix.repeated + mix.updated, 100_000);
        assert_eq!(mix.invalid, refused);
        assert!((93_500..94_500).contains(&mix.new), "{mix:?}");
        assert!((900..1_100).contains(&mix.invalid), "{mix:?}");
        assert!((2_300..2_700).contains(&mix.repeated) && (2_300..2_700).contains(&mix.updated), "{mix:?}");
        assert_eq!(recipe.rows().len() as u64, mix.new);
    }

    #[test]
    fn fresh_repeats_carry_the_time_of_sending() {
        let mut recipe = Recipe::new(3).fresh(true);
        assert!((1..50_000).all(|ms| recipe.next(ms).created_at == ms));
    }
}
