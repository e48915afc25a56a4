//! Follows docs/first-transform.md: from an empty folder outside this repository to a rule that runs.
//!
//! Files and commands are read from the page itself. The test replaces three of the ten commands: the repository is
//! linked rather than cloned, and `kafka-console-producer.sh` and `psql` are not installed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::engine::{self, Engine};
use tollgate_tests::kafka::Record;
use tollgate_tests::{servers, wait_for};

struct Page {
    files: BTreeMap<String, String>,
    commands: Vec<String>,
}

/// Parses the page. A fenced block is either the contents of the file whose name begins the line before it, or commands
/// behind `$`.
fn page(text: &str) -> Page {
    let (mut files, mut commands) = (BTreeMap::new(), Vec::new());
    let mut name = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("```") {
            let named = line.strip_prefix('`').and_then(|rest| rest.split('`').next());
            name = named.or(name);
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if line == "```console" {
            let joined = block.join("\n").replace("\\\n", " ");
            commands.extend(joined.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned));
        } else if let Some(name) = name.take() {
            files.insert(name.to_owned(), block.join("\n") + "\n");
        }
    }
    Page { files, commands }
}

#[test]
fn the_page_leads_from_an_empty_folder_to_a_live_rule_in_ten_commands() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = page(&fs::read_to_string(repository.join("docs/first-transform.md")).unwrap());
    assert!(page.commands.len() <= 10, "{:#?}", page.commands);
    let servers = servers::shared();
    let case = Case::new("journey");
    let folder = case.folder().join("shop");
    let bin = engine::binary();
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    // Uses the target folder of the other guests, so that common dependencies are not compiled again.
    let target = std::env::var_os("TOLLGATE_GUESTS_TARGET").map_or_else(|| case.folder().join("target"), PathBuf::from);
    let variables = [
        ("PATH", path.as_str()),
        ("KAFKA_BROKERS", &servers.brokers),
        ("DATABASE_URL", case.database.url()),
        ("CARGO_TARGET_DIR", target.to_str().unwrap()),
    ];
    let mut running: Option<Engine> = None;
    for command in &page.commands {
        match command.split(' ').next().unwrap() {
            "mkdir" => {
                let status = Command::new("sh").arg("-ec").arg(command).current_dir(case.folder()).status().unwrap();
                assert!(status.success(), "{command}");
                // At this point the page shows the files.
                for (name, content) in &page.files {
                    fs::write(folder.join(name), content).unwrap();
                }
            }
            "git" => symlink(repository, folder.join("tollgate")).unwrap(),
            "export" => {}
            "printf" => {
                let (_, rest) = command.split_once("\\t").unwrap();
                let value = rest.split_once("\\n").unwrap().0;
                let record = Record { key: None, ..Record::new("", value) }.header("content-type", "application/json");
                case.kafka.produce("orders", &[record]);
            }
            "psql" => {
                let rows = "SELECT to_jsonb(orders)::text FROM orders";
                let found = wait_for("the row", || case.database.texts(rows).pop());
                let found: serde_json::Value = serde_json::from_str(&found).unwrap();
                assert_eq!(
                    found,
                    json!({ "order_id": "order-1", "total": 80.5, "country": "SE", "free_shipping": true })
                );
            }
            _ if command.ends_with('&') => {
                let arguments: Vec<&str> = command.trim_end_matches(" &").split(' ').skip(1).collect();
                let engine = Engine::start(&folder, &arguments, &variables);
                engine.logged("partition taken over");
                running = Some(engine);
            }
            _ => {
                let mut shell = Command::new("sh");
                shell.arg("-ec").arg(command).current_dir(&folder).envs(variables);
                let output = shell.output().unwrap();
                let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                assert!(output.status.success(), "{command}\n{}{}", said(&output.stdout), said(&output.stderr));
            }
        }
    }
    running.expect("a command of the page starts the engine").stop();
}
