//! Renders tables, numbers and times as text for people.

use tollgate_contract::visible;

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Renders a table: the header first, with two blanks before each column. Cells are cut at `widest` characters. Control
/// characters in cells are made visible, because cells come from events.
pub(super) fn render(header: &[(&str, Align)], rows: &[Vec<String>], widest: usize) -> String {
    let titles: Vec<String> = header.iter().map(|(title, _)| (*title).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&titles).chain(rows).map(|line| cells(line, widest)).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for ((cell, width), (_, align)) in line.iter().zip(&widths).zip(header) {
            let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
            shown.push_str("  ");
            match align {
                Align::Left => shown.extend([cell.as_str(), &blanks]),
                Align::Right => shown.extend([blanks.as_str(), cell]),
            }
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

fn cells(line: &[String], widest: usize) -> Vec<String> {
    let cell = |text: &String| -> String {
        if text.chars().count() <= widest {
            return text.chars().map(visible).collect();
        }
        text.chars().map(visible).take(widest.saturating_sub(1)).chain(['…']).collect()
    };
    line.iter().map(cell).collect()
}

/// Formats `1234567` as `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats Unix milliseconds as `2026-01-31 13:05:09Z`. (The conversion of days to a date is Howard Hinnant's
/// `civil_from_days`.)
pub(super) fn time(millis: i64) -> String {
    let seconds = millis.div_euclid(1_000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let header = [("name", Align::Left), ("count", Align::Right)];
        let rows =
            vec![vec!["a\u{1b}[31m".to_owned(), "7".to_owned()], vec!["longer than that".to_owned(), "1,200".into()]];
        let expected = "  name      count\n  a\u{fffd}[31m        7\n  longer …  1,200\n";
        assert_eq!(render(&header, &rows, 8), expected);
    }

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(951_827_696_789), "2000-02-29 12:34:56Z");
        assert_eq!(time(1_767_225_599_999), "2025-12-31 23:59:59Z");
        assert_eq!(time(-1), "1969-12-31 23:59:59Z");
    }
}
