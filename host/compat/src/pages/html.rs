//! Renders a contract's page as one HTML file. It has no script, no external font and no image, and is light or dark as
//! the reader's system is.

use std::fmt::Write as _;

use super::{Page, Row, Section};

const STYLE: &str = include_str!("style.css");

pub fn render(page: &Page) -> String {
    let mut body = String::new();
    let (package, short) = page.name.rsplit_once('.').unwrap_or(("", &page.name));
    // Writing to a String cannot fail.
    let _ = write!(
        body,
        "<header><p class=\"eyebrow\">Contract</p><h1><span class=\"package\">{}{}</span><wbr>{}</h1>{}",
        escape(package),
        if package.is_empty() { "" } else { "." },
        escape(short),
        prose(&page.comment)
    );
    body += "<dl class=\"facts\">";
    for (key, value) in &page.facts {
        let _ = write!(body, "<div><dt>{}</dt><dd><code>{}</code></dd></div>", escape(key), escape(value));
    }
    body += "</dl></header>";
    body += &contents(page);
    if let [own, others @ ..] = page.types.as_slice() {
        body += &section("Fields", own, "");
        body.extend(others.iter().map(|one| section(&one.name, one, &one.comment)));
    }
    body.extend(page.enums.iter().map(enum_section));
    body += &pairs("Policies", "policies", &page.policies, false);
    body += &pairs("Columns", "columns", &page.columns, true);
    if let Some(since) = &page.since {
        let _ = write!(body, "<section id=\"changes\"><h2>Changes since <code>{}</code></h2>", escape(since));
        if page.changes.is_empty() {
            body += "<p>None that require attention.</p>";
        }
        body += "<ul class=\"changes\">";
        for change in &page.changes {
            let _ = write!(
                body,
                "<li><span class=\"badge {0}\">{0}</span> <code>{1}</code><br>{2}</li>",
                change.severity,
                change.id,
                escape(&change.message)
            );
        }
        body += "</ul></section>";
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
        escape(&page.name)
    )
}

/// Links to the sections, if there are several.
fn contents(page: &Page) -> String {
    let mut links = vec![(page.name.clone(), "Fields".to_owned())];
    let others = page.types.iter().skip(1).chain(&page.enums);
    links.extend(others.map(|one| (one.name.clone(), one.name.rsplit('.').next().unwrap_or_default().to_owned())));
    for (there, id, title) in [
        (!page.policies.is_empty(), "policies", "Policies"),
        (!page.columns.is_empty(), "columns", "Columns"),
        (page.since.is_some(), "changes", "Changes"),
    ] {
        if there {
            links.push((id.to_owned(), title.to_owned()));
        }
    }
    let items: String =
        links.iter().map(|(id, title)| format!("<a href=\"#{}\">{}</a>", escape(id), escape(title))).collect();
    if links.len() > 1 { format!("<nav aria-label=\"Contents\">{items}</nav>") } else { String::new() }
}

fn section(title: &str, section: &Section, comment: &str) -> String {
    let mut text = format!("<section id=\"{}\"><h2>{}</h2>{}", escape(&section.name), escape(title), prose(comment));
    if section.rows.is_empty() {
        text += "<p>No fields.</p>";
    } else {
        text += "<div class=\"scroll\"><table><thead><tr><th class=\"number\">#</th><th>Field</th><th>Type</th><th>Meaning</th></tr></thead><tbody>";
        text.extend(section.rows.iter().map(row));
        text += "</tbody></table></div>";
    }
    if !section.notes.is_empty() {
        text += "<ul class=\"notes\">";
        text.extend(section.notes.iter().map(|note| format!("<li><code>{}</code></li>", escape(note))));
        text += "</ul>";
    }
    text + "</section>"
}

fn row(row: &Row) -> String {
    let type_name = match &row.link {
        Some(link) => format!("<a href=\"#{}\">{}</a>", escape(link), breakable(&row.type_name)),
        None => breakable(&row.type_name),
    };
    let rules: String = row.rules.iter().map(|rule| format!("<code class=\"rule\">{}</code>", escape(rule))).collect();
    let rules = if rules.is_empty() { rules } else { format!("<div class=\"rules\">{rules}</div>") };
    format!(
        "<tr{}><td class=\"number\">{}</td><td><code class=\"field\">{}</code>{}</td><td><code>{type_name}</code></td><td>{}{rules}</td></tr>",
        if row.deprecated { " class=\"deprecated\"" } else { "" },
        row.number,
        escape(&row.name),
        if row.deprecated { " <span class=\"badge\">deprecated</span>" } else { "" },
        prose(&row.comment)
    )
}

fn enum_section(section: &Section) -> String {
    let mut text = format!("<section id=\"{0}\"><h2>{0}</h2>{1}", escape(&section.name), prose(&section.comment));
    text += "<div class=\"scroll\"><table><thead><tr><th class=\"number\">#</th><th>Value</th><th>Meaning</th></tr></thead><tbody>";
    for row in &section.rows {
        let deprecated = if row.deprecated { " <span class=\"badge\">deprecated</span>" } else { "" };
        let _ = write!(
            text,
            "<tr><td class=\"number\">{}</td><td><code class=\"field\">{}</code>{deprecated}</td><td>{}</td></tr>",
            row.number,
            escape(&row.name),
            prose(&row.comment)
        );
    }
    text + "</tbody></table></div></section>"
}

fn pairs(title: &str, id: &str, rows: &[(String, String)], code: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("<section id=\"{id}\"><h2>{title}</h2><div class=\"scroll\"><table><tbody>");
    for (key, value) in rows {
        let shown = |text: &str| if code { format!("<code>{}</code>", escape(text)) } else { escape(text) };
        let _ = write!(text, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", shown(key), shown(value));
    }
    text + "</tbody></table></div></section>"
}

/// Formats a dotted name that may break after its dots.
fn breakable(text: &str) -> String {
    escape(text).replace('.', ".<wbr>")
}

/// Formats the paragraphs of a comment.
fn prose(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|part| !part.trim().is_empty());
    paragraphs.map(|part| format!("<p>{}</p>", escape(part))).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
