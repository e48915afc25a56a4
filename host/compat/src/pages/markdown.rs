//! Renders a contract's page as Markdown.

use std::fmt::Write as _;

use super::{Page, Section};

pub fn render(page: &Page) -> String {
    let mut text = format!("# {}\n\n", page.name);
    // Writing to a String cannot fail.
    if !page.comment.is_empty() {
        let _ = writeln!(text, "{}\n", page.comment);
    }
    table(&mut text, ["", ""], &page.facts);
    let [own, others @ ..] = page.types.as_slice() else { return text };
    text += "## Fields\n\n";
    section(&mut text, own);
    for one in others {
        let _ = writeln!(text, "## {}\n", one.name);
        comment(&mut text, one);
        section(&mut text, one);
    }
    for one in &page.enums {
        let _ = writeln!(text, "## {}\n", one.name);
        comment(&mut text, one);
        text += "| number | name | |\n|---|---|---|\n";
        for row in &one.rows {
            let deprecated = if row.deprecated { "deprecated. " } else { "" };
            let _ = writeln!(text, "| {} | `{}` | {deprecated}{} |", row.number, row.name, cell(&row.comment));
        }
        text.push('\n');
    }
    if !page.policies.is_empty() {
        text += "## Policies\n\n";
        table(&mut text, ["", ""], &page.policies);
    }
    if !page.columns.is_empty() {
        text += "## Columns\n\n";
        table(&mut text, ["column", "from"], &page.columns);
    }
    if let Some(since) = &page.since {
        let _ = writeln!(text, "## Changes since {since}\n");
        for change in &page.changes {
            let _ = writeln!(text, "- {} `{}`: {}", change.severity, change.id, change.message);
        }
        text += if page.changes.is_empty() { "None that require attention.\n" } else { "" };
    }
    text.trim_end().to_owned() + "\n"
}

fn comment(text: &mut String, section: &Section) {
    if !section.comment.is_empty() {
        let _ = writeln!(text, "{}\n", section.comment);
    }
}

fn section(text: &mut String, section: &Section) {
    if section.rows.is_empty() {
        *text += "No fields.\n\n";
    } else {
        *text += "| number | field | type | rules | |\n|---|---|---|---|---|\n";
    }
    for row in &section.rows {
        let rules: Vec<String> = row.rules.iter().map(|rule| format!("`{}`", cell(rule))).collect();
        let type_name = match &row.link {
            // GitHub's anchor names for headings.
            Some(link) => format!("[`{}`](#{})", row.type_name, link.to_lowercase().replace('.', "")),
            None => format!("`{}`", row.type_name),
        };
        let deprecated = if row.deprecated { "deprecated. " } else { "" };
        let rules = rules.join("<br>");
        let _ = writeln!(
            text,
            "| {} | `{}` | {type_name} | {rules} | {deprecated}{} |",
            row.number,
            row.name,
            cell(&row.comment)
        );
    }
    if !section.rows.is_empty() {
        text.push('\n');
    }
    for note in &section.notes {
        let _ = writeln!(text, "- `{note}`");
    }
    if !section.notes.is_empty() {
        text.push('\n');
    }
}

fn table(text: &mut String, head: [&str; 2], rows: &[(String, String)]) {
    let _ = writeln!(text, "| {} | {} |\n|---|---|", head[0], head[1]);
    for (key, value) in rows {
        let _ = writeln!(text, "| {} | {} |", cell(key), cell(value));
    }
    text.push('\n');
}

/// Formats a text in a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
