//! Tests the compatibility matrix: pairs of contracts and the findings between them, as data in `compat/*.cases`.
//!
//! A case is a title, an old and a new version, and one line for each finding: its backward severity, its forward
//! severity (`-` for none), id, element. `BLESS=1 cargo test -p tollgate-compat --test compat` rewrites the lines;
//! check the difference before you commit it.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use tollgate_compat::{Category, Finding, Mode, Options, RULES, Severity, Side, compare, compare_files, fingerprint};
use tollgate_contract::{edition_source, lower_editions};

const FILE: &str = "t.proto";

#[derive(Debug, Default)]
struct Case {
    title: String,
    /// The text of each file by side and name, in file order.
    files: Vec<(Side, String, String)>,
    expected: Vec<String>,
    /// Ids that must not be found. They only help readers, because the lists of findings are complete.
    not: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

fn case_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = folder().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "cases"));
    files.sort();
    files
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut expecting = false;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case { title: title.to_owned(), ..Case::default() });
            expecting = false;
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if let Some(section) = line.strip_prefix("-- ") {
            let (name, file) = section.split_once(' ').unwrap_or((section, FILE));
            expecting = name == "expect";
            match name {
                "old" => case.files.push((Side::Old, file.to_owned(), String::new())),
                "new" => case.files.push((Side::New, file.to_owned(), String::new())),
                "expect" => {}
                other => panic!("{}: no section is called {other}", case.title),
            }
        } else if line.is_empty() {
        } else if !expecting {
            let (_, _, text) = case.files.last_mut().unwrap();
            *text += line;
            text.push('\n');
        } else if let Some(id) = line.strip_prefix("not ") {
            case.not.push(id.to_owned());
        } else {
            case.expected.push(line.to_owned());
        }
    }
    cases
}

/// Completes a text. Without a syntax it is proto3 in package t, and it imports what it uses. All of this is added to
/// its first line.
fn whole(text: &str) -> String {
    let mut head = String::new();
    if !text.contains("syntax =") && !text.contains("edition =") {
        head += "syntax = \"proto3\"; ";
    }
    if !text.starts_with("package ") {
        head += "package t; ";
    }
    if text.contains("(buf.validate.") {
        head += "import \"buf/validate/validate.proto\"; ";
    }
    for name in ["timestamp", "duration", "any"] {
        let mut type_name = name.to_owned();
        type_name[..1].make_ascii_uppercase();
        if text.contains(&format!("google.protobuf.{type_name}")) {
            let _ = write!(head, "import \"google/protobuf/{name}.proto\"; ");
        }
    }
    for language in ["cpp", "java"] {
        if text.contains(&format!("(pb.{language})")) {
            let _ = write!(head, "import \"google/protobuf/{language}_features.proto\"; ");
        }
    }
    if text.contains("google.protobuf.FieldOptions") {
        head += "import \"google/protobuf/descriptor.proto\"; ";
    }
    // The syntax must come before package and import, wherever it is in the text.
    let syntaxes = ["syntax = \"proto2\";", "edition = \"2023\";"];
    let told = syntaxes.iter().find_map(|syntax| Some((syntax, text.strip_prefix(syntax)?)));
    told.map_or_else(|| format!("{head}{text}"), |(syntax, rest)| format!("{syntax} {head}{rest}"))
}

fn pool(case: &Case, side: Side) -> DescriptorPool {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (_, name, text) in case.files.iter().filter(|(of, ..)| *of == side) {
        let text = whole(text);
        // Files of editions are converted as in the product.
        let text = edition_source(&text).unwrap().unwrap_or(text);
        std::fs::write(folder.path().join(name), text).unwrap();
        names.push(name);
    }
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let features = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protos/src");
    let mut compiler = protox::Compiler::new([folder.path(), &protos, &features]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(names).unwrap_or_else(|error| panic!("{} ({side:?}): {error:?}", case.title));
    DescriptorPool::decode(&*lower_editions(&compiler.encode_file_descriptor_set()).unwrap()).unwrap()
}

fn findings(case: &Case, level: Category, mode: Mode) -> Vec<Finding> {
    compare(&pool(case, Side::Old), &pool(case, Side::New), Options { level, mode })
}

fn found(case: &Case) -> Vec<String> {
    let mut lines: BTreeMap<(String, String, String), [&str; 2]> = BTreeMap::new();
    for (at, mode) in [Mode::Backward, Mode::Forward].into_iter().enumerate() {
        for finding in findings(case, Category::File, mode) {
            // A finding with several messages counts once: a key and a value, two bounds.
            let key = (finding.rule.id.to_owned(), finding.element.clone(), finding.message.clone());
            lines.entry(key).or_insert(["-", "-"])[at] = finding.severity.as_str();
        }
    }
    lines
        .into_iter()
        .map(|((id, element, _), [backward, forward])| format!("{backward} {forward} {id} {element}"))
        .collect()
}

fn bless(file: &Path, text: &str) {
    let cases = parse(text);
    let head: String =
        text.lines().take_while(|line| !line.starts_with("== ")).map(|line| format!("{line}\n")).collect();
    let mut out = head;
    for case in cases {
        let _ = writeln!(out, "== {}", case.title);
        for (side, name, text) in &case.files {
            let side = if *side == Side::Old { "old" } else { "new" };
            let name = if name == FILE { String::new() } else { format!(" {name}") };
            let _ = write!(out, "-- {side}{name}\n{text}");
        }
        out += "-- expect\n";
        for line in found(&case) {
            let _ = writeln!(out, "{line}");
        }
        for id in &case.not {
            let _ = writeln!(out, "not {id}");
        }
        out.push('\n');
    }
    std::fs::write(file, out.trim_end().to_owned() + "\n").unwrap();
}

#[test]
fn every_pair_gives_what_is_expected() {
    let mut wrong = String::new();
    for file in case_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        if std::env::var_os("BLESS").is_some() {
            bless(&file, &text);
            continue;
        }
        for case in parse(&text) {
            let mut expected = case.expected.clone();
            expected.sort();
            let mut found = found(&case);
            found.sort();
            if found != expected {
                let _ = writeln!(
                    wrong,
                    "{}: {}\n  expected {expected:#?}\n  found {found:#?}",
                    file.file_name().unwrap().display(),
                    case.title
                );
            }
            for id in case.not.iter().filter(|id| found.iter().any(|line| line.contains(&format!(" {id} ")))) {
                let _ = writeln!(wrong, "{}: {id} is found and must not be", case.title);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Every rule must fire in some case and not in another.
#[test]
fn every_rule_has_a_pair_that_it_finds_and_one_that_it_does_not() {
    let cases: Vec<Case> =
        case_files().iter().flat_map(|file| parse(&std::fs::read_to_string(file).unwrap())).collect();
    assert!(cases.len() >= 120, "{} pairs", cases.len());
    let titles: BTreeSet<&str> = cases.iter().map(|case| case.title.as_str()).collect();
    assert_eq!(titles.len(), cases.len(), "two cases have the same title");
    let found: BTreeSet<&str> =
        cases.iter().flat_map(|case| &case.expected).filter_map(|line| line.split(' ').nth(2)).collect();
    let not: BTreeSet<&str> = cases.iter().flat_map(|case| &case.not).map(String::as_str).collect();
    // Findings about the sink, the lock file and suppressions are reported by the verb and tested with it.
    let verb = |id: &str| {
        ["sink-", "transform-", "released-", "suppression-", "field-removed-without-notice"]
            .iter()
            .any(|head| id.starts_with(head))
    };
    let own: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).filter(|id| !verb(id)).collect();
    assert_eq!(found, own, "rules with a pair that they find");
    assert_eq!(not, own, "rules with a pair that they must not find");
}

fn case(old: &str, new: &str) -> Case {
    let files = [(Side::Old, old), (Side::New, new)];
    let files = files.map(|(side, text)| (side, FILE.to_owned(), text.to_owned()));
    Case { title: old.to_owned(), files: files.to_vec(), ..Case::default() }
}

#[test]
fn a_level_leaves_out_what_is_wider() {
    let case = case(
        "message M { int32 a = 1; string s = 2; enum E { Z = 0; A = 1; } }",
        "message M { sint32 a = 1; string t = 2; enum E { Z = 0; A = 1; B = 2; } reserved 3; }",
    );
    let ids = |level| {
        let mut ids: Vec<_> = findings(&case, level, Mode::Full).iter().map(|finding| finding.rule.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(Category::Wire), ["enum-value-added", "field-type-changed"]);
    assert_eq!(ids(Category::WireJson), ["enum-value-added", "field-renamed", "field-type-changed"]);
    assert_eq!(
        ids(Category::Package),
        ["enum-value-added", "field-renamed", "field-type-changed", "field-type-changed-source"]
    );
}

/// Checks changes that affect more than generated code, or less than its files.
#[test]
fn a_change_counts_from_the_level_that_it_hurts() {
    let service = |option: &str| format!("message M {{}} service S {{ rpc R(M) returns (M) {{ {option} }} }}");
    let get = service("option idempotency_level = IDEMPOTENT;");
    let cases = [
        ("package t; enum E { Z = 0; }", "package u; enum E { Z = 0; }", Category::Wire, "file-package-changed"),
        (&service(""), &get, Category::Wire, "method-idempotency-changed"),
        (
            "enum E { Z = 0; }",
            "edition = \"2023\"; enum E { option features.json_format = LEGACY_BEST_EFFORT; Z = 0; }",
            Category::WireJson,
            "json-format-changed",
        ),
        ("message M {}", "option go_package = \"a/b\"; message M {}", Category::Package, "file-option-changed"),
        (
            "message M { string s = 1; }",
            "message M { string s = 1 [ctype = CORD]; }",
            Category::Package,
            "field-cpp-string-type-changed",
        ),
    ];
    let levels = [Category::Wire, Category::WireJson, Category::Package, Category::File];
    for (old, new, from, id) in cases {
        let case = case(old, new);
        let found = |level| {
            findings(&case, level, Mode::Full)
                .iter()
                .any(|finding| finding.rule.id == id && finding.severity == Severity::Error)
        };
        assert_eq!(levels.map(found), levels.map(|level| level >= from), "{id}");
    }
}

/// Copies of Google's files are compared if they are among the old version's own files; imports found elsewhere are
/// not.
#[test]
fn own_files_are_those_that_are_named() {
    let vendored = "package google.protobuf; message Money { int64 units = 1; }";
    let changed = "package google.protobuf; message Money { double units = 1; }";
    let case = case(vendored, changed);
    let (old, new) = (pool(&case, Side::Old), pool(&case, Side::New));
    assert!(compare(&old, &new, Options::default()).is_empty());
    let ids = |files: &[&str]| -> Vec<&str> {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        compare_files(&old, &files, &new, Options::default()).iter().map(|finding| finding.rule.id).collect()
    };
    assert_eq!(ids(&[FILE]), ["field-type-changed", "field-type-changed-json"]);
    assert!(ids(&["other.proto"]).is_empty());
}

#[test]
fn a_place_is_where_the_element_is_now_and_where_it_was() {
    let case = case("\nmessage M {\n  int32 a = 1;\n  int32 b = 2;\n}\n", "\n\nmessage M {\n  sint32 a = 1;\n}\n");
    let findings = findings(&case, Category::Wire, Mode::Full);
    let [gone, changed] = findings.as_slice() else { panic!("{findings:#?}") };
    assert_eq!((gone.place.side, gone.place.line, gone.place.column), (Side::New, 3, 1));
    let was = gone.was.as_ref().unwrap();
    assert_eq!((was.side, was.line, was.column, was.file.as_str()), (Side::Old, 4, 3, FILE));
    assert_eq!((changed.place.line, changed.place.column, &changed.was), (4, 3, &None));
}

#[test]
fn the_fingerprint_is_of_what_was_promised_and_of_nothing_else() {
    let print = |text: &str| {
        let case = case(text, text);
        fingerprint(&pool(&case, Side::New).get_message_by_name("t.M").unwrap())
    };
    let base = "message M { int32 a = 1; N n = 2; } message N { E e = 1; } enum E { Z = 0; A = 1; }";
    let same = "// a comment\nenum E { Z = 0; A = 1; } message Other {} message N { E e = 1; }\nmessage M { N n = 2; int32 a = 1; }";
    assert_eq!(print(base), print(same));
    for other in [
        "message M { int64 a = 1; N n = 2; } message N { E e = 1; } enum E { Z = 0; A = 1; }",
        "message M { int32 a = 1; N n = 2; reserved 3; } message N { E e = 1; } enum E { Z = 0; A = 1; }",
        "message M { int32 a = 1; N n = 2; } message N { E e = 1; } enum E { Z = 0; A = 1; B = 2; }",
        "message M { int32 a = 1; N n = 2; } message N { E e = 1; bool x = 2; } enum E { Z = 0; A = 1; }",
        "message M { int32 a = 1 [(buf.validate.field).int32.gt = 0]; N n = 2; } message N { E e = 1; } enum E { Z = 0; A = 1; }",
    ] {
        assert_ne!(print(base), print(other), "{other}");
    }
}
