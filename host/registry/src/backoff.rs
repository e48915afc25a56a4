//! Delays between retry attempts: exponential backoff with full jitter, so that many processes do not retry at the same
//! moment.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Returns the longest wait before attempt `attempt` (0 is the first retry).
fn bound(attempt: u32, first: Duration, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(attempt)).min(longest)
}

/// Returns a random wait up to the limit, but at least what the server requested.
pub(crate) fn wait(attempt: u32, first: Duration, longest: Duration, asked: Option<Duration>) -> Duration {
    // The standard library seeds each hasher randomly, which is random enough here.
    let random = u32::try_from(RandomState::new().hash_one(attempt) >> 32).unwrap_or(u32::MAX);
    let share = f64::from(random) / f64::from(u32::MAX);
    bound(attempt, first, longest).mul_f64(share).max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_differ() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        let bounds: Vec<u128> = (0..7).map(|attempt| bound(attempt, first, longest).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(bound(u32::MAX, first, longest), longest);
        let waits: std::collections::BTreeSet<Duration> = (0..20).map(|_| wait(3, first, longest, None)).collect();
        assert!(waits.len() > 10 && waits.iter().all(|wait| *wait <= Duration::from_millis(800)), "{waits:?}");
        assert_eq!(wait(0, first, longest, Some(longest)), longest);
    }
}
