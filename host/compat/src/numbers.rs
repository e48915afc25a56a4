//! Computes ranges of numbers in reservations and extensions.

use std::ops::Range;

/// Returns the parts of `old` that no range of `new` covers.
pub(super) fn uncovered(old: &[Range<i64>], new: &[Range<i64>]) -> Vec<Range<i64>> {
    let mut left = old.to_vec();
    for cover in new {
        left = left
            .into_iter()
            .flat_map(|range| [range.start..range.end.min(cover.start), range.start.max(cover.end)..range.end])
            .filter(|range| !range.is_empty())
            .collect();
    }
    left.sort_by_key(|range| range.start);
    left.dedup();
    left
}

pub(super) fn contains(ranges: &[Range<i64>], number: i64) -> bool {
    ranges.iter().any(|range| range.contains(&number))
}

/// Formats `5`, `5 to 9` or `5 to max`, in `.proto` syntax.
pub(super) fn show(range: &Range<i64>, max: i64) -> String {
    let last = range.end - 1;
    match last {
        last if last == range.start => range.start.to_string(),
        last if last >= max => format!("{} to max", range.start),
        last => format!("{} to {last}", range.start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_covered_is_left() {
        let range = |start, end| start..end;
        assert_eq!(uncovered(&[range(1, 10)], &[range(3, 5), range(9, 20)]), [range(1, 3), range(5, 9)]);
        assert_eq!(uncovered(&[range(1, 10)], &[range(0, 5), range(5, 10)]), []);
        assert_eq!(uncovered(&[range(4, 5)], &[]), [range(4, 5)]);
    }

    #[test]
    fn ranges_are_shown_as_written() {
        assert_eq!([show(&(5..6), 99), show(&(5..10), 99), show(&(5..100), 99)], ["5", "5 to 9", "5 to max"]);
    }
}
