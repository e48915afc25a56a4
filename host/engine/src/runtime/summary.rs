//! Logs each minute, and at the end, what the process has done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::metrics::{Metrics, Tally};
use tollgate_config::limits;

/// The maximum number of dead letter reasons in a line; the rest is one number.
const REASONS: usize = 5;

/// Logs each minute what happened since the last line.
pub async fn each_minute(metrics: Arc<Metrics>) {
    let mut last = Tally::default();
    loop {
        tokio::time::sleep(limits::SUMMARY_EVERY).await;
        let now = metrics.tallied();
        log("in the last minute", &since(&now, &last));
        last = now;
    }
}

/// Logs what happened since startup.
pub fn at_end(metrics: &Metrics) {
    log("since the start", &metrics.tallied());
}

fn log(span: &str, tally: &Tally) {
    let Tally { events, rows, outputs, dead_letters, lag } = tally;
    let dead: u64 = dead_letters.values().sum();
    let reasons = reasons(dead_letters);
    let lag: i64 = lag.values().sum();
    tracing::info!(events, rows, outputs, dead_letters = dead, reasons, lag, "{span}");
}

/// Returns `now` minus `last`; the lag is the current one.
fn since(now: &Tally, last: &Tally) -> Tally {
    let mut dead_letters = now.dead_letters.clone();
    for (reason, before) in &last.dead_letters {
        if let Some(count) = dead_letters.get_mut(reason) {
            *count -= before;
        }
    }
    dead_letters.retain(|_, count| *count > 0);
    let lag = now.lag.clone();
    let (events, rows, outputs) = (now.events - last.events, now.rows - last.rows, now.outputs - last.outputs);
    Tally { events, rows, outputs, dead_letters, lag }
}

/// Formats the reasons as `undecodable 12, row-value 3, others 1`, the most frequent first. Returns `None` if there are
/// no dead letters.
fn reasons(dead_letters: &BTreeMap<String, u64>) -> Option<String> {
    let mut sorted: Vec<(&String, &u64)> = dead_letters.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut text = String::new();
    let others: u64 = sorted.iter().skip(REASONS).map(|(_, count)| **count).sum();
    let named = sorted.iter().take(REASONS).map(|(reason, count)| (reason.as_str(), **count));
    for (reason, count) in named.chain((others > 0).then_some(("others", others))) {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        _ = write!(text, "{comma}{reason} {count}");
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Partition;

    fn tally(events: u64, dead: &[(&str, u64)], lag: i64) -> Tally {
        let dead_letters = dead.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        let lag = BTreeMap::from([(Partition::new(0), lag), (Partition::new(1), 1)]);
        Tally { events, rows: events * 2, outputs: events * 3, dead_letters, lag }
    }

    #[test]
    fn a_minute_has_what_came_since_the_last() {
        let (last, now) = (tally(10, &[("a", 1), ("b", 2)], 70), tally(15, &[("a", 1), ("b", 5), ("c", 1)], 7));
        let minute = since(&now, &last);
        assert_eq!((minute.events, minute.rows, minute.outputs), (5, 10, 15));
        assert_eq!(reasons(&minute.dead_letters).as_deref(), Some("b 3, c 1"));
        assert_eq!(minute.lag.values().sum::<i64>(), 8);
    }

    #[test]
    fn the_most_frequent_reasons_are_named() {
        assert_eq!(reasons(&BTreeMap::new()), None);
        let many = tally(0, &[("a", 1), ("b", 9), ("c", 3), ("d", 3), ("e", 2), ("f", 1), ("g", 1)], 0);
        assert_eq!(reasons(&many.dead_letters).as_deref(), Some("b 9, c 3, d 3, e 2, a 1, others 2"));
    }
}
