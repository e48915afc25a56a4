//! The files of the demo's pipeline: the pipeline itself, its contract, and the available components.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

pub const PROTO: &str = include_str!("../../../proto/payments/v1/payment.proto");
const PIPELINE: &str = include_str!("pipeline.yaml");

/// The components of the chain that are available.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Components {
    pub rules: Option<PathBuf>,
    pub risk: Option<PathBuf>,
}

impl Components {
    /// Searches a folder that holds `transforms/<name>/<name>.wasm`, as the project's own does after `tollgate build`.
    pub fn find(assets: &Path) -> Components {
        let component = |name: &str| {
            let path = assets.join(format!("transforms/{name}/{name}.wasm"));
            path.is_file().then(|| path.canonicalize().unwrap_or(path))
        };
        Components { rules: component("payment-rules"), risk: component("payment-risk") }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.rules.iter().chain(&self.risk)
    }
}

/// The names of one demo.
#[derive(Debug, Clone)]
pub struct Names {
    pub pipeline: String,
    pub source: String,
    pub output: String,
    pub dead_letters: String,
    pub table: String,
}

impl Names {
    /// Creates names. `suffix` distinguishes the objects of two demos on the user's own servers.
    pub fn new(suffix: &str) -> Names {
        Names {
            pipeline: format!("demo{suffix}"),
            source: format!("demo{suffix}.payments"),
            output: format!("demo{suffix}.payments.rated"),
            dead_letters: format!("demo{suffix}.payments.dlq"),
            table: format!("demo{}_payments", suffix.replace('-', "_")),
        }
    }
}

/// The settings that differ between demos.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    pub names: &'a Names,
    pub brokers: &'a str,
    pub url: &'a str,
    pub mode: &'a str,
    pub admin: &'a str,
    pub components: &'a Components,
}

/// Writes pipeline.yaml and the contract into the folder. Returns the pipeline's path.
///
/// # Errors
/// Fails if the folder cannot be written.
pub fn write(folder: &Path, settings: &Settings<'_>) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let proto = folder.join("proto/payments/v1");
    fs::create_dir_all(&proto)?;
    fs::write(proto.join("payment.proto"), PROTO)?;
    let path = folder.join("pipeline.yaml");
    // The file contains the database's password.
    let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
    std::io::Write::write_all(&mut file, text(settings).as_bytes())?;
    Ok(path)
}

fn text(settings: &Settings<'_>) -> String {
    let Settings { names, components, .. } = settings;
    // JSON strings are valid YAML, but `${` would start a variable.
    let quoted = |value: &str| json!(value).to_string().replace("${", "$${");
    let mut transforms = String::new();
    for path in components.paths() {
        transforms += &format!("  - component: {}\n", quoted(&path.display().to_string()));
    }
    if !transforms.is_empty() {
        transforms = format!("transforms:\n{transforms}");
    }
    let rated = components.risk.is_some();
    let replacements = [
        ("<pipeline>", names.pipeline.clone()),
        ("<brokers>", quoted(settings.brokers)),
        ("<source>", quoted(&names.source)),
        ("<output>", quoted(&names.output)),
        ("<dead_letters>", quoted(&names.dead_letters)),
        ("<url>", quoted(settings.url)),
        ("<table>", names.table.clone()),
        ("<mode>", settings.mode.to_owned()),
        ("<admin>", quoted(settings.admin)),
        ("<transforms>\n", if transforms.is_empty() { String::new() } else { format!("{transforms}\n") }),
        ("<rated>\n", if rated { "  contract: payments.v1.RatedPayment\n\n".to_owned() } else { "\n".to_owned() }),
        ("<risk>", if rated { "    risk_tier: {}\n    amount_minor: {}\n".to_owned() } else { String::new() }),
    ];
    replacements.into_iter().fold(PIPELINE.to_owned(), |text, (mark, value)| text.replace(mark, &value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_config::Pipeline;

    fn written(components: &Components, url: &str) -> Pipeline {
        let names = Names::new("-1a2b");
        let settings = Settings {
            names: &names,
            brokers: "127.0.0.1:1,127.0.0.1:2",
            url,
            mode: "at_least_once",
            admin: "127.0.0.1:0",
            components,
        };
        let text = text(&settings);
        Pipeline::parse(Path::new("/demo/pipeline.yaml"), &text, &|_| None)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn the_file_is_a_pipeline_with_and_without_components() {
        let url = "postgres://postgres:pa$${ss}word@127.0.0.1:5432/postgres";
        let pipeline = written(&Components::default(), url);
        assert_eq!(pipeline.transforms().count(), 0);
        assert_eq!(pipeline.types[0].mapping.columns.len(), 7);
        assert_eq!(pipeline.source.brokers, "127.0.0.1:1,127.0.0.1:2");
        let both = Components { rules: Some("/a/rules.wasm".into()), risk: Some("/a/risk.wasm".into()) };
        let pipeline = written(&both, url);
        assert_eq!(pipeline.transforms().count(), 2);
        assert_eq!(pipeline.types[0].mapping.columns.len(), 9);
        assert_eq!(pipeline.types[0].output.as_ref().unwrap().contract.as_deref(), Some("payments.v1.RatedPayment"));
    }

    #[test]
    fn a_url_is_taken_as_it_is() {
        let url = r#"postgres://u:${HOME}"\x@h/db"#;
        assert_eq!(written(&Components::default(), url).postgres.url.expose(), url);
    }
}
