//! Renders tables, numbers and times as text for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use tollgate_contract::{iso, visible};

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Renders a table: the header first, with two blanks before each column. Cells are cut at `widest` characters. Control
/// characters in cells are made visible, because cells come from events.
pub(super) fn render(header: &[(&str, Align)], rows: &[Vec<String>], widest: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|(title, _)| *title));
    table.add_rows(rows.iter().map(|row| cells(row, widest)));
    for (column, (_, align)) in table.column_iter_mut().zip(header) {
        column.set_padding((2, 0)).set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
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

/// Formats Unix milliseconds as `2026-01-31 13:05:09Z`.
pub(super) fn time(millis: i64) -> String {
    let seconds = millis.div_euclid(1_000);
    let (date, rest) = (iso::show_date(seconds.div_euclid(86_400)), seconds.rem_euclid(86_400));
    format!("{date} {:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
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
        let wide = vec![vec!["請求".to_owned(), "1".to_owned()], vec!["abcd".to_owned(), "22".to_owned()]];
        assert_eq!(
            render(&header, &wide, 8),
            "  name  count\n  請求      1\n  abcd     22\n",
            "as wide as a terminal shows it"
        );
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
