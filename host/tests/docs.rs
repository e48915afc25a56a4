//! Tests that the pages agree with the program: a page for each reason, a line for each metric, valid links, and
//! examples whose copies are identical.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_config::Pipeline;
use tollgate_contract::ReasonCode;
use tollgate_decide::dead_letter;
use tollgate_engine::brakes::halt::code;
use tollgate_engine::brakes::sink::{Sink, State};
use tollgate_engine::classes;
use tollgate_engine::metrics::Metrics;
use tollgate_engine::position::{NextOffset, Partition};
use tollgate_engine::progress::halts::Halt;
use tollgate_registry::Stats;
use tollgate_sandbox::FailureCode;

/// The codes that the sandbox gives a rejection without a code, and that the SDKs give bytes that they cannot decode.
const GUESTS: [&str; 2] = ["rejected", "guest-undecodable"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the files below a folder with this extension, sorted, without those that are built or downloaded.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns every page that users read.
fn pages() -> Vec<PathBuf> {
    let root = root();
    let mut pages: Vec<PathBuf> =
        ["docs", "examples", "deploy"].iter().flat_map(|folder| files(&root.join(folder), "md")).collect();
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)));
    pages
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Returns a page without its fenced blocks.
fn unfenced(page: &Path) -> String {
    let text = read(page);
    let mut fenced = false;
    let kept = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// Returns a page's text without code, where brackets and parentheses have another meaning.
fn prose(page: &Path) -> String {
    let text = unfenced(page);
    let lines = text.lines().filter(|line| !line.starts_with("    "));
    // Every second part is between backticks.
    lines.map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn codes() -> BTreeSet<String> {
    let contract = ReasonCode::ALL.iter().map(|code| code.as_str());
    let sandbox = FailureCode::ALL.iter().map(|code| code.as_str());
    contract.chain(sandbox).chain(dead_letter::CODES.iter().copied()).chain(GUESTS).map(str::to_owned).collect()
}

#[test]
fn each_reason_has_a_page_and_each_page_a_reason() {
    let folder = root().join("docs/reasons");
    let index = read(&folder.join("README.md"));
    let mut written = BTreeSet::new();
    for page in files(&folder, "md") {
        let name = page.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "README" {
            continue;
        }
        let text = read(&page);
        assert!(text.starts_with(&format!("# {name}\n")), "{name}: the title is not the code");
        assert!(text.lines().count() <= 25, "{name} has more than 25 lines");
        for part in ["    tollgate.reason: ", "## Find the cause", "`tollgate dlq export pipeline.yaml", "## Fix it"] {
            assert!(text.contains(part), "{name} lacks {part:?}");
        }
        assert!(index.contains(&format!("[{name}]({name}.md)")), "the index lacks {name}");
        written.insert(name);
    }
    assert_eq!(written, codes());
}

/// A code that the host uses but does not list would have no page.
#[test]
fn the_list_of_the_hosts_codes_is_complete() {
    let mut given = BTreeSet::new();
    let folders = ["host/src", "host/decide/src", "host/engine/src", "host/guests/src"];
    for file in folders.iter().flat_map(|folder| files(&root().join(folder), "rs")) {
        let text = read(&file);
        for (at, stage) in text.match_indices("Stage::") {
            let rest = text[at + stage.len()..].trim_start_matches(char::is_alphanumeric);
            if let Some(code) = rest.strip_prefix(',').and_then(|rest| rest.trim_start().strip_prefix('"')) {
                given.insert(code.split('"').next().unwrap().to_owned());
            }
        }
    }
    // This code replaces the contract's own one, and is not passed to `Reason::new`.
    given.insert("output-contract".to_owned());
    // The registry's resolver returns these.
    given.extend(["schema-unknown", "schema-type", "schema-unusable"].map(str::to_owned));
    let listed: BTreeSet<String> = dead_letter::CODES.iter().map(|&code| code.to_owned()).collect();
    assert_eq!(given, listed);
}

#[test]
fn every_relative_link_leads_to_something() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = prose(&page);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ', '\n']).next().unwrap();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let lost = anchor.is_some_and(|anchor| file.is_file() && !anchors(&file).contains(anchor));
            if !file.exists() || lost {
                broken.push(format!("{}: {target}", shown(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// Returns a page's headings in the form that links use.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = unfenced(page);
    let heading = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(heading).collect()
}

#[test]
fn no_page_names_a_path_of_a_machine() {
    for page in pages() {
        let text = read(&page);
        for path in ["/root/", "/home/", "/work/", "/Users/", "/tmp/"] {
            assert!(!text.contains(path), "{} names {path}", shown(&page));
        }
    }
}

/// The type and the labels of every metric.
type Listed = BTreeMap<String, (String, BTreeSet<String>)>;

/// Returns the metrics of the registry after each was updated once.
fn exposed() -> Listed {
    let metrics = Metrics::default();
    metrics.verdicts(&BTreeMap::from([(("reject", "undecodable"), 1)]));
    metrics.stage("decide", Duration::ZERO);
    metrics.batch(0, 1, Duration::ZERO);
    metrics.waited(0, Duration::ZERO);
    metrics.stage_age(0, 0);
    metrics.lag(Partition::new(0), NextOffset::new(0), NextOffset::new(1));
    metrics.stalled(Partition::new(0), Duration::ZERO);
    metrics.swapped(true, 1);
    metrics.deprecated("a", "1", 1);
    metrics.schemas(Stats { fetched: 1, read: 1, missing: 1, failed: 1, kept: 1 });
    metrics.typed("order.created", "pass", 1);
    metrics.observed("rule-violated", 1);
    metrics.coerced("at", "unix_ms", 1);
    metrics.noticed("unknown_fields", "a.A", "9", 1);
    metrics.breaker(Sink::Kafka, State::Open);
    metrics.transition(Sink::Kafka, State::Open);
    let halt = Halt {
        partition: Partition::new(0),
        code: "c".into(),
        offset: NextOffset::new(1),
        epoch: tollgate_engine::position::Epoch::new(1),
        message: "m".into(),
    };
    metrics.halted(&[halt]);
    metrics.describe("payments", "digest");
    let text = metrics.encode();
    let mut found = Listed::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let ending = if kind == "counter" { "_total" } else { "" };
            found.insert(format!("{name}{ending}"), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((sample, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let family =
                sample.strip_suffix("_bucket").or(sample.strip_suffix("_sum")).or(sample.strip_suffix("_count"));
            let known = found.contains_key(sample);
            let (_, names) = found.get_mut(if known { sample } else { family.unwrap() }).unwrap();
            let labels = labels.split('}').next().unwrap().split(',').filter_map(|label| label.split_once('='));
            names.extend(labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
        }
    }
    found
}

/// Returns the metrics in the tables of docs/metrics.md.
fn documented(text: &str) -> Listed {
    let rows = text.lines().filter(|line| line.starts_with("| `tollgate_"));
    let cells = rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    // The alerts' rows have three cells and no type.
    let metrics = cells.filter(|cells| ["counter", "gauge", "histogram"].contains(&cells[2].as_str()));
    let bare = |cell: &str| cell.trim_matches('`').to_owned();
    metrics
        .map(|cells| {
            let labels = cells[3].split(", ").map(bare).filter(|label| !label.is_empty()).collect();
            (bare(&cells[1]), (cells[2].clone(), labels))
        })
        .collect()
}

#[test]
fn the_metrics_page_and_the_registry_agree() {
    let page = read(&root().join("docs/metrics.md"));
    assert_eq!(documented(&page), exposed());
    let known = exposed();
    for (at, name) in page.match_indices("tollgate_") {
        let rest = page[at + name.len()..].split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap();
        let metric = format!("tollgate_{rest}");
        assert!(rest.is_empty() || known.contains_key(&metric), "docs/metrics.md speaks of {metric}");
    }
}

#[test]
fn the_page_on_halts_has_every_code() {
    let page = read(&root().join("docs/halts.md"));
    let rows =
        page.lines().skip_while(|line| *line != "| code | meaning |").skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let named: BTreeSet<&str> =
        cells.flat_map(|cell| cell.split(", ").map(|code| code.trim().trim_matches('`'))).collect();
    // The codes of a takeover are the protocol's, without those that end the process.
    let takeover = [
        "progress-missing",
        "group-offset-missing",
        "group-offset-moved",
        "group-offset-foreign",
        "group-offset-copied",
        "group-shared",
        "token-newer",
    ];
    assert_eq!(named, code::ALL.into_iter().chain(takeover).collect());
}

/// The calls that take the code of an error or a warning, without white space, and the position of the code after each.
const CALLS: [(&str, usize); 8] = [
    ("Failure::configuration(", 0),
    ("Failure::environment(", 0),
    ("Failure::failed(", 0),
    ("Problem::new(", 0),
    ("of(error.exit(),", 0),
    ("report.error(", 1),
    ("report.warn(", 1),
    ("self.warn(", 1),
];

/// The code that ends the reading of a topic at `--limit`. No command ends with it.
const INTERNAL: &str = "dlq.enough";

/// The number of codes when this test was written. A search that finds fewer has missed some.
const CODES: usize = 134;

/// Returns a source file without its tests, its comment lines, and white space.
fn squeezed(file: &Path) -> String {
    let text = read(file);
    let program = text.split("#[cfg(test)]").next().unwrap();
    let lines = program.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(str::split_whitespace).collect()
}

/// Returns the string literals after `before`, which ends with their quotation mark.
fn literals(text: &str, before: &str) -> Vec<String> {
    let rests = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]);
    rests.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Returns the possible codes of an argument, which is a literal, a constant of the same file, or the variable `code`
/// of a match or a closure.
fn meant(argument: &str, text: &str) -> Option<Vec<String>> {
    if let Some(literal) = argument.strip_prefix('"') {
        return Some(vec![literal.trim_end_matches('"').to_owned()]);
    }
    let codes = match argument {
        // `Problem::new` sets it, which is one of the calls.
        "problem.code" => return Some(Vec::new()),
        "code" => {
            if let Some((_, arms)) = text.split_once("letcode=match") {
                literals(arms.split("};").next()?, "=>\"")
            } else {
                let (before, _) = text.split_once("=|code:&'staticstr,")?;
                literals(text, &format!("{}(\"", before.rsplit("let").next()?))
            }
        }
        constant => literals(text, &format!("const{constant}:&str=\"")),
    };
    Some(codes).filter(|codes| !codes.is_empty())
}

/// Returns the codes of errors and warnings in the sources, and those that a warning may have.
fn coded() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut codes, mut warnings) = (BTreeSet::new(), BTreeSet::new());
    for file in files(&root().join("host"), "rs") {
        let path = shown(&file);
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        let text = squeezed(&file);
        for (call, place) in CALLS {
            for (at, _) in text.match_indices(call) {
                let argument = text[at + call.len()..].split(',').nth(place).unwrap_or_default();
                let found = meant(argument, &text)
                    .unwrap_or_else(|| panic!("{path}: which codes may `{argument}` be, after `{call}`?"));
                if call.ends_with("warn(") {
                    warnings.extend(found.iter().cloned());
                }
                codes.extend(found);
            }
        }
        // These are structures that are written out. The reasons of dead letters have no dot.
        codes.extend(literals(&text, "code:\"").into_iter().filter(|code| code.contains('.')));
    }
    assert!(codes.remove(INTERNAL), "{INTERNAL} is gone: remove it from this test");
    (codes, warnings)
}

#[test]
fn every_code_has_a_row_and_every_row_a_code() {
    let (codes, warnings) = coded();
    assert!(codes.len() >= CODES, "only {} codes were found, there were {CODES}: {codes:?}", codes.len());
    let page = read(&root().join("docs/codes.md"));
    let (mut rows, mut marked) = (BTreeSet::new(), BTreeSet::new());
    for table in page.split("| code | meaning | what to do |\n").skip(1) {
        for row in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let &[code, meaning, advice] = cells.as_slice() else { panic!("docs/codes.md: not three cells: {row}") };
            assert!(!meaning.is_empty() && !advice.is_empty(), "docs/codes.md: an empty cell: {row}");
            let code = code.trim_matches('`').to_owned();
            if meaning.starts_with("*Warning.*") || meaning.starts_with("*Error or warning.*") {
                marked.insert(code.clone());
            }
            assert!(rows.insert(code.clone()), "docs/codes.md has two rows for {code}");
        }
    }
    let missing: Vec<&String> = codes.difference(&rows).collect();
    assert!(missing.is_empty(), "docs/codes.md has no row for {missing:?}");
    let stale: Vec<&String> = rows.difference(&codes).collect();
    assert!(stale.is_empty(), "docs/codes.md has rows for {stale:?}, which nothing in host/ reports");
    assert_eq!(
        marked, warnings,
        "left: the rows of docs/codes.md that begin with *Warning.*; right: the warnings in host/"
    );
}

/// Returns the tables of docs/delivery.md with this heading: codes, meaning and reason of each row.
fn classes(heading: &str) -> Vec<[String; 3]> {
    let page = read(&root().join("docs/delivery.md"));
    let start = page.find(&format!("| {heading} | meaning | why |")).unwrap_or_else(|| panic!("no table of {heading}"));
    let rows = page[start..].lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells =
        rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    cells.map(|cells| cells.try_into().unwrap_or_else(|cells| panic!("{cells:?}"))).collect()
}

/// Returns a row of the table in the code as the page should show it.
fn class_row<C>(row: &classes::Row<C>, name: impl Fn(&C) -> String) -> [String; 3] {
    let codes: Vec<String> = row.codes.iter().map(|code| format!("`{}`", name(code))).collect();
    [codes.join(", "), row.meaning.as_str().to_owned(), row.why.to_owned()]
}

#[test]
fn the_delivery_page_has_the_table_of_error_classes() {
    let mut sqlstates: Vec<_> =
        classes::SQLSTATES.iter().map(|row| class_row(row, |code| (*code).to_owned())).collect();
    let shown = classes("SQLSTATE");
    sqlstates.extend(shown[sqlstates.len()..].iter().cloned());
    assert_eq!(shown, sqlstates);
    let [others, none] = &shown[classes::SQLSTATES.len()..] else { panic!("{shown:?}") };
    assert_eq!(others[..2], ["others".to_owned(), classes::OTHER_SQLSTATES.as_str().to_owned()]);
    assert_eq!(none[..2], ["none".to_owned(), "outage".to_owned()]);
    let mut kafka: Vec<_> = classes::KAFKA.iter().map(|row| class_row(row, |code| format!("{code:?}"))).collect();
    let shown = classes("Kafka");
    let others = shown.last().unwrap();
    assert_eq!(others[..2], ["others".to_owned(), classes::OTHER_KAFKA.as_str().to_owned()]);
    kafka.push(others.clone());
    assert_eq!(shown, kafka);
    let page = read(&root().join("docs/delivery.md"));
    for meaning in ["poison", "unknown", "conflict", "outage", "pause", "login", "fatal"] {
        assert!(page.contains(&format!("\n| {meaning} | ")), "{meaning} is not explained");
    }
}

mod payments {
    use super::*;

    fn folder() -> PathBuf {
        root().join("examples/payments")
    }

    fn pipeline() -> Pipeline {
        let file = folder().join("pipeline.yaml");
        let variable = |name: &str| match name {
            "KAFKA_BROKERS" => Some("localhost:9092".to_owned()),
            "DATABASE_URL" => Some("postgres://localhost/payments".to_owned()),
            _ => None,
        };
        Pipeline::parse(&file, &read(&file), &variable).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn its_contract_is_a_copy() {
        let own = read(&folder().join("proto/payments/v1/payment.proto"));
        assert_eq!(own, read(&root().join("proto/payments/v1/payment.proto")));
    }

    #[test]
    fn its_table_is_what_setup_would_create() {
        let pipeline = pipeline();
        let contracts = tollgate::compiler::contracts(&pipeline).unwrap_or_else(|failure| panic!("{failure}"));
        let statement = tollgate::cli::setup::create_table(&pipeline.types[0].mapping, &contracts[0].output.contract);
        assert_eq!(read(&folder().join("schema.sql")).trim_end(), statement);
    }

    #[test]
    fn its_expected_result_accounts_for_every_record() {
        let keys = |file: &str| {
            let mut keys: Vec<String> = read(&folder().join(file))
                .lines()
                .map(|line| {
                    serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].as_str().unwrap().to_owned()
                })
                .collect();
            keys.sort();
            keys
        };
        let outputs = keys("expected.outputs.ndjson");
        let mut settled = [outputs.clone(), keys("expected.dead-letters.ndjson")].concat();
        settled.sort();
        assert_eq!(settled, keys("input.ndjson"));
        let rows: BTreeSet<String> = read(&folder().join("expected.rows.csv"))
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect();
        assert_eq!(rows, outputs.into_iter().collect());
    }
}
