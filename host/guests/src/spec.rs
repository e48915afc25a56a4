//! transform.yaml: a transform's name, its input and output types, and its permissions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tollgate_sandbox::{CAPABILITIES, LimitsSpec, Manifest, limits};

use tollgate_config::ConfigErrors;
use tollgate_config::reader::{self, Complaint, Table, boolean, bytes_within, duration_within, path, text, within};

/// The file's name, in the transform's folder.
pub const SPEC_FILE: &str = "transform.yaml";

/// A parsed transform.yaml.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The component's manifest. Version and commit are filled in once the package is read.
    pub manifest: Manifest,
    /// The folder of `.proto` files, already joined to the transform's folder.
    pub protos: PathBuf,
}

impl Spec {
    /// Reads `folder`/transform.yaml.
    ///
    /// # Errors
    /// Returns all errors in the file at once, with line and nearest key.
    pub fn read(folder: &Path) -> Result<Spec, ConfigErrors> {
        let file = folder.join(SPEC_FILE);
        Spec::parse(&file.display().to_string(), &reader::load_text(&file)?, folder)
    }

    /// Reads transform.yaml from a text; `file` is only for messages.
    ///
    /// # Errors
    /// Fails as [`Spec::read`] does.
    pub fn parse(file: &str, text: &str, folder: &Path) -> Result<Spec, ConfigErrors> {
        // The component must be the same wherever it is built, so environment variables are not substituted.
        reader::read_text(file, text, folder, &|_| None, |table| read(table, folder))
    }
}

fn read(table: &Table<'_>, folder: &Path) -> Option<Spec> {
    let name = table.need("name", identifier);
    let description = table.get("description", text);
    let protos = table.or("protos", path, PathBuf::from("proto"));
    let input = table.need("input", type_name);
    let output = table.get("output", type_name);
    let (routes, route_messages) = read_routes(table);
    if routes.len() > limits::ROUTES {
        table.error("routes", format!("{} routes; a transform has at most {}", routes.len(), limits::ROUTES));
    }
    for (at, route) in routes.iter().enumerate() {
        if routes[..at].contains(route) {
            table.error_at(&format!("routes[{at}]"), format!("`{route}` appears twice"));
        }
    }
    let limits = table.need_table("limits", read_limits);
    let config = table.table("config", |config| Some(read_config(config)));
    let capabilities = table.list("capabilities", capability);
    let deterministic = table.or("deterministic", boolean, true);
    Some(Spec {
        manifest: Manifest {
            name: name?,
            version: String::new(),
            commit: None,
            description,
            input: input?,
            output,
            routes,
            route_messages,
            limits: limits?,
            config: config.unwrap_or_default(),
            capabilities,
            deterministic,
        },
        protos: folder.join(protos),
    })
}

/// Reads `routes:`, a list of names, whose type is the output's, or a mapping from names to message types.
fn read_routes(table: &Table<'_>) -> (Vec<String>, BTreeMap<String, String>) {
    let field = table.entry("routes").filter(reader::Field::is_table);
    let Some(field) = field else { return (table.list("routes", identifier), BTreeMap::new()) };
    let typed = field.table(|routes| {
        let read = |(name, field): (String, reader::Field<'_>)| match identifier(&name) {
            Ok(name) => Some((name, field.scalar(type_name)?)),
            Err(complaint) => field.complain(format!("the route's name {}", complaint.message)),
        };
        Some(routes.any().into_iter().filter_map(read).collect::<Vec<_>>())
    });
    let typed = typed.unwrap_or_default();
    (typed.iter().map(|(name, _)| name.clone()).collect(), typed.into_iter().collect())
}

fn read_limits(table: &Table<'_>) -> Option<LimitsSpec> {
    let size = |key: &str, most: u64| {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        table.get(key, bytes_within(1, most)).and_then(|bytes| u64::try_from(bytes).ok())
    };
    let fuel = table.need("fuel", within(1, limits::MAX_FUEL));
    let memory = size("memory", limits::MAX_MEMORY);
    let max_outputs = table.get("max_outputs", within(1, limits::MAX_OUTPUTS));
    let output_bytes = size("output_bytes", limits::MAX_OUTPUT_BYTES);
    let batch_output_bytes = size("batch_output_bytes", limits::MAX_BATCH_OUTPUT_BYTES);
    let log_bytes = size("log_bytes", limits::MAX_LOG_BYTES);
    let deadline = table.get("deadline", duration_within(tollgate_config::limits::MILLISECOND, limits::MAX_DEADLINE));
    let fuel = Some(fuel?);
    Some(LimitsSpec { fuel, memory, max_outputs, output_bytes, batch_output_bytes, log_bytes, deadline })
}

fn read_config(table: &Table<'_>) -> Map<String, Value> {
    table.any().into_iter().filter_map(|(key, field)| Some((key, field.json()?.value))).collect()
}

/// Checks a name that may become a file, a metric's label and a header.
fn identifier(text: &str) -> Result<String, Complaint> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(legal) && !text.starts_with('.') {
        return Ok(text.to_owned());
    }
    Err(Complaint::new("is not a valid name; write at most 64 of a-z, 0-9, -, _ and ., such as payment-rules"))
}

/// Checks a message type with its package.
fn type_name(text: &str) -> Result<String, Complaint> {
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if text.len() <= 255 && text.split('.').all(part) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new("is not a message type; write its full name, such as payments.v1.PaymentEvent"))
}

fn capability(text: &str) -> Result<String, Complaint> {
    if CAPABILITIES.contains(&text) {
        return Ok(text.to_owned());
    }
    let nearest = reader::nearest(text, CAPABILITIES.into_iter());
    Err(Complaint {
        nearest,
        ..Complaint::new(format!("is not a capability; the known one is {}", CAPABILITIES.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;

    const LEAST: &str = "name: rules\ninput: a.v1.B\nlimits: { fuel: 1000 }\n";

    fn parse(text: &str) -> Result<Spec, String> {
        Spec::parse("t.yaml", text, Path::new("/x")).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_least_file_has_defaults() {
        let spec = parse(LEAST).unwrap();
        assert_eq!(spec.protos, Path::new("/x/proto"));
        assert_eq!((spec.manifest.output(), spec.manifest.deterministic), ("a.v1.B", true));
        assert_eq!(spec.manifest.limits, LimitsSpec { fuel: Some(1000), ..LimitsSpec::default() });
    }

    #[test]
    fn a_full_file_is_read_whole() {
        let spec = parse(
            "name: rules\ndescription: d\nprotos: ../p\ninput: a.v1.B\noutput: a.v1.C\nroutes: [audit, late]\n\
             limits: { fuel: 1000, memory: 4MiB, max_outputs: 2, output_bytes: 64KiB, batch_output_bytes: 1MiB, \
             log_bytes: 1KiB, deadline: 500ms }\nconfig: { above: 1.5, list: [a, 2] }\ncapabilities: [log]\n\
             deterministic: false\n",
        );
        let Manifest { output, routes, limits, config, capabilities, deterministic, .. } = spec.unwrap().manifest;
        assert_eq!(output.as_deref(), Some("a.v1.C"));
        assert_eq!(routes, ["audit", "late"]);
        assert_eq!((limits.memory, limits.max_outputs, limits.log_bytes), (Some(4 << 20), Some(2), Some(1024)));
        assert_eq!(limits.deadline, Some(Duration::from_millis(500)));
        assert_eq!(Value::Object(config), serde_json::json!({"above": 1.5, "list": ["a", 2]}));
        assert_eq!((capabilities, deterministic), (vec!["log".to_owned()], false));
    }

    #[test]
    fn a_route_may_carry_a_message_of_its_own() {
        let spec = parse(&format!("{LEAST}output: a.v1.C\nroutes: {{ late: a.v1.L, audit: a.v1.A }}\n")).unwrap();
        let manifest = spec.manifest;
        assert_eq!(manifest.routes, ["late", "audit"], "in the file's order, which the code's must be");
        assert_eq!((manifest.route_message("late"), manifest.route_message("audit")), ("a.v1.L", "a.v1.A"));
        let listed = parse(&format!("{LEAST}output: a.v1.C\nroutes: [late]\n")).unwrap().manifest;
        assert_eq!(listed.route_message("late"), "a.v1.C");
        let stamped = serde_json::to_string(&Manifest { version: "1".into(), ..listed }).unwrap();
        assert!(stamped.contains(r#""routes":["late"]"#) && !stamped.contains("route_messages"), "{stamped}");
    }

    #[test]
    fn all_errors_come_at_once_with_line_and_nearest_key() {
        let error = parse("nmae: rules\ninput: 1.x\nlimits:\n  feul: 10\n  memory: 1PiB\ncapabilities: [logs]\n");
        let error = error.unwrap_err();
        for expected in [
            "t.yaml:1:1: name: required key is missing",
            "t.yaml:1:1: nmae: unknown key; did you mean name?",
            "t.yaml:2:8: input: 1.x is not a message type",
            "t.yaml:3:1: limits.fuel: required key is missing",
            "t.yaml:4:3: limits.feul: unknown key; did you mean fuel?",
            "t.yaml:5:11: limits.memory: 1PiB is not a size",
            "t.yaml:6:16: capabilities[0]: logs is not a capability; the known one is log; did you mean log?",
        ] {
            assert!(error.contains(expected), "{expected}\n---\n{error}");
        }
    }

    #[test]
    fn each_bad_value_is_refused() {
        for (line, expected) in [
            ("name: Payment Rules", "is not a valid name"),
            ("name: ../x", "is not a valid name"),
            ("limits: { fuel: 0 }", "out of range"),
            ("limits: { fuel: 2000000000 }", "out of range"),
            ("limits: { fuel: 1, deadline: 5 }", "without a unit"),
            ("limits: { fuel: 1, max_outputs: 0 }", "out of range"),
            ("routes: [a, a]", "appears twice"),
            ("routes: { a: a.v1.B, b: not a type }", "is not a message type"),
            ("routes: { A: a.v1.B }", "the route's name is not a valid name"),
            ("config: 3", "must be a mapping"),
            ("config: { a: '${HOME}' }", "HOME is not set"),
            ("deterministic: yes", "neither true nor false"),
        ] {
            let key = line.split(':').next().unwrap();
            let rest: String =
                LEAST.lines().filter(|kept| !kept.starts_with(key)).map(|kept| format!("{kept}\n")).collect();
            let error = parse(&format!("{rest}{line}\n")).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
