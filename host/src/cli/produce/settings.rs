//! The target of events and their contract: from flags, or from a pipeline.yaml.

use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use tollgate_contract::{Contract, Policies, UnknownFields};
use tollgate_producer::envelope::Envelope;
use tollgate_producer::{ClientConfig, Config, Gate, Invalid, Route, SetupError};

use super::{Args, envelope};
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_config::reader::{self, ConfigErrors};
use tollgate_config::{EventType, Pipeline, Routing, Settings};
use tollgate_engine::kafka::client;

pub(super) struct Target {
    pub gate: Gate,
    pub config: Config,
}

impl Target {
    /// Determines the target. It reads files and uses no network.
    pub(super) fn read(args: &Args) -> Result<Target, Failure> {
        match &args.pipeline {
            Some(file) => of_pipeline(args, file),
            None => of_flags(args),
        }
    }
}

fn of_flags(args: &Args) -> Result<Target, Failure> {
    if args.event_type.is_some() {
        return Err(Failure::configuration(
            "produce.arguments",
            "--type names a type of a pipeline.yaml: give one with --pipeline",
        ));
    }
    let missing: Vec<&str> = [
        ("--brokers", args.brokers.is_none() && !args.dry_run),
        ("--topic", args.topic.is_none() && !args.dry_run),
        ("--protos", args.protos.is_empty()),
        ("--message", args.message.is_none()),
    ]
    .into_iter()
    .filter_map(|(flag, missing)| missing.then_some(flag))
    .collect();
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let message = format!("{} {verb} missing; or name a pipeline.yaml with --pipeline", missing.join(", "));
        return Err(Failure::configuration("produce.arguments", message));
    }
    let policies = Policies { max_bytes: limits::EVENT_BYTES, ..Policies::default() };
    let contract = contract(args, &args.protos, args.message.as_deref().unwrap_or_default(), policies)?;
    let topic = args.topic.clone().unwrap_or_else(|| "(none)".to_owned());
    let config = config(args, Config::new(args.brokers.as_deref().unwrap_or_default()), &topic)?;
    Ok(Target { gate: gate(args, topic, contract, None, None)?, config })
}

fn of_pipeline(args: &Args, file: &Path) -> Result<Target, Failure> {
    let pipeline = load(file, args.dry_run).map_err(|errors| Failure::configuration("config.invalid", errors))?;
    let kind = kind(args, &pipeline)?;
    let pools = tollgate_protos::pools(&pipeline)?;
    // Fallbacks for unknown values do not apply to the producer of an event.
    let policies = pipeline.contract.policies.leaving();
    let contract = compile(args, &pools.own, &kind.message, policies)?;
    let envelope = pipeline.contract.envelope.as_ref();
    let envelope = envelope.map(|spec| envelope::of(args, &pipeline, kind, (spec, pools.outer()))).transpose()?;
    let mut base: ClientConfig = client::base(&pipeline.source);
    base.set("client.id", "tollgate-produce");
    let topic = args.topic.clone().unwrap_or_else(|| pipeline.source.topic.clone());
    let config = config(args, Config::over(base), &topic)?;
    let header = match &pipeline.contract.routing {
        Routing::Header(header) => Some((header.clone(), kind.name.clone())),
        Routing::Single | Routing::Frame | Routing::Envelope => None,
    };
    Ok(Target { gate: gate(args, topic, contract, header, envelope)?, config })
}

/// Returns the type of the events.
fn kind<'p>(args: &Args, pipeline: &'p Pipeline) -> Result<&'p EventType, Failure> {
    let wrong = |message: String| Err(Failure::configuration("produce.arguments", message));
    if pipeline.contract.debezium.is_some() {
        return wrong(
            "the pipeline's values are Debezium's change events, which produce does not create: pass complete ones with --brokers, \
             --topic, --protos and --message"
                .to_owned(),
        );
    }
    let names: Vec<&str> =
        pipeline.types.iter().map(|kind| kind.name.as_str()).filter(|name| !name.is_empty()).collect();
    let Some(asked) = &args.event_type else {
        return match pipeline.types.as_slice() {
            [only] => Ok(only),
            _ => wrong(format!("the pipeline has several event types; choose one with --type: {}", names.join(", "))),
        };
    };
    if names.is_empty() {
        return wrong("--type: the pipeline defines no types".to_owned());
    }
    let found = pipeline.types.iter().find(|kind| kind.name == *asked);
    found.map_or_else(
        || wrong(format!("--type: unknown event type {asked}; this pipeline knows {}", names.join(", "))),
        Ok,
    )
}

/// Loads a pipeline for its source and contract. Variables of the `postgres` section may be unset, and for a dry run
/// also those of the brokers.
fn load(file: &Path, dry: bool) -> Result<Pipeline, ConfigErrors> {
    Pipeline::load(file).or_else(|mut errors| {
        let unused = |path: &str| {
            let source = path.starts_with("source.brokers") || path.starts_with("source.security");
            path.starts_with("postgres.") || (dry && source)
        };
        if !errors.errors.iter().all(|error| unused(&error.path)) {
            errors.errors.retain(|error| !unused(&error.path));
            return Err(errors);
        }
        // Unused values must also have a valid form.
        let stand_in = |name: &str| {
            let variable = format!("the variable {name} is not set");
            let missed = errors.errors.iter().find(|error| error.message.contains(&variable));
            let broker = missed.is_some_and(|error| error.path.starts_with("source."));
            let value = if broker { "unset:9092" } else { "postgres://unset/unset" };
            std::env::var(name).ok().or_else(|| Some(value.to_owned()))
        };
        let text = reader::load_text(file)?;
        Pipeline::parse(file, &text, &stand_in).map_err(|_| errors)
    })
}

fn contract(args: &Args, paths: &[PathBuf], message: &str, policies: Policies) -> Result<Contract, Failure> {
    let pool = tollgate_protos::load(paths).map_err(|error| Failure::configuration("contract.invalid", error))?;
    compile(args, &pool, message, policies)
}

fn compile(args: &Args, pool: &DescriptorPool, message: &str, policies: Policies) -> Result<Contract, Failure> {
    // The engine may accept fields of newer producers. In a producer, an unknown field is probably a typo.
    let unknown_fields = if args.allow_unknown_fields { UnknownFields::Allow } else { UnknownFields::Reject };
    Contract::compile(pool, message, Policies { unknown_fields, ..policies }, &[])
        .map_err(|error| Failure::configuration("contract.invalid", error))
}

/// Compiles the gate. `typed` is the header that names the event's type.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn gate(
    args: &Args,
    topic: String,
    contract: Contract,
    typed: Option<(String, String)>,
    envelope: Option<Envelope>,
) -> Result<Gate, Failure> {
    let mut route = Route::new(topic, contract);
    route.key = args.key.iter().map(|field| field.trim().into()).collect();
    route.schema_version.clone_from(&args.schema_version);
    route.schema_id = args.schema_id;
    if let Some((name, value)) = typed {
        route = route.header(name, value.as_bytes());
    }
    for (name, value) in &args.header {
        route = route.header(name, value.as_bytes());
    }
    route.envelope = envelope;
    Gate::new(route).map_err(|error| match error {
        SetupError::Envelope { source, .. } => envelope::failure(&source),
        other => Failure::configuration("produce.key", other),
    })
}

fn config(args: &Args, mut config: Config, topic: &str) -> Result<Config, Failure> {
    let wrong = |message: String| Failure::configuration("produce.config", message);
    if let Some(file) = &args.config_file {
        for (setting, value) in properties(file).map_err(&wrong)? {
            config.set(&setting, &value).map_err(|error| wrong(format!("--config-file: {error}")))?;
        }
    }
    for pair in &args.config {
        let (setting, value) = setting(pair).map_err(&wrong)?;
        config.set(&setting, &value).map_err(|error| wrong(format!("--config: {error}")))?;
    }
    config.delivery_timeout = args.delivery_timeout;
    if let Some(bytes) = args.max_record {
        config.record_bytes = bytes;
    }
    if args.transaction || args.transaction_size.is_some() {
        let usual = format!("tollgate-produce-{topic}");
        config.transactional_id = Some(args.transactional_id.clone().unwrap_or(usual));
        config.transaction_timeout = if args.transaction { limits::PRODUCE_WHOLE } else { limits::PRODUCE_PART };
    }
    if let Some(topic) = &args.dead_letter_topic {
        config.invalid = Invalid::Topic(topic.clone());
    }
    Ok(config)
}

/// Parses `--config key=value`. Secrets are refused: every user of the machine can see a process's arguments.
fn setting(pair: &str) -> Result<(String, String), String> {
    let (setting, value) = pair.split_once('=').ok_or_else(|| format!("--config {pair}: write key=value"))?;
    if Settings::is_secret(setting) && !value.contains("${") {
        return Err(format!(
            "--config {setting}: a secret is visible to all users of this machine on the command line; write '{setting}=${{VARIABLE}}', \
             '{setting}=${{file:/path}}' (in single quotes), or put it into a --config-file"
        ));
    }
    Ok((setting.to_owned(), value_of(setting, value, Path::new("."))?))
}

fn value_of(setting: &str, value: &str, base: &Path) -> Result<String, String> {
    let env = |name: &str| std::env::var(name).ok();
    reader::interpolate(value, &env, base).map(|(value, _)| value).map_err(|error| format!("{setting}: {error}"))
}

/// Reads a file of `key=value` lines, like those of Java's clients and kcat.
fn properties(file: &Path) -> Result<Vec<(String, String)>, String> {
    let shown = file.display();
    let text = reader::load_text(file).map_err(|errors| errors.to_string())?;
    let mut settings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (setting, value) = line.split_once('=').ok_or_else(|| format!("{shown}:{}: write key=value", index + 1))?;
        let (setting, value) = (setting.trim(), value.trim());
        let value = value_of(setting, value, reader::folder_of(file))
            .map_err(|error| format!("{shown}:{}: {error}", index + 1))?;
        settings.push((setting.to_owned(), value));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_variable_or_a_file() {
        assert!(setting("sasl.password=hunter2").unwrap_err().contains("${VARIABLE}"));
        assert!(!setting("sasl.password=hunter2").unwrap_err().contains("hunter2"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("word"), "from the file\n").unwrap();
        let pair = format!("sasl.password=${{file:{}}}", folder.path().join("word").display());
        assert_eq!(setting(&pair).unwrap().1, "from the file");
        assert_eq!(setting("client.id=me").unwrap(), ("client.id".to_owned(), "me".to_owned()));
        assert!(setting("client.id").unwrap_err().contains("key=value"));
    }

    #[test]
    fn a_properties_file_is_read_with_comments_and_lines_in_errors() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.properties");
        std::fs::write(folder.path().join("word"), "w").unwrap();
        std::fs::write(&file, "# who\nclient.id = me\n\nsasl.password=${file:word}\n").unwrap();
        let found = properties(&file).unwrap();
        assert_eq!(found, [("client.id".into(), "me".into()), ("sasl.password".into(), "w".into())]);
        std::fs::write(&file, "client.id=me\nnonsense\n").unwrap();
        assert!(properties(&file).unwrap_err().contains("client.properties:2:"));
    }

    #[test]
    fn a_pipeline_may_lack_postgresqls_variables_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pipeline.yaml");
        let text = |brokers: &str| {
            format!(
                "pipeline: p\nsource: {{ brokers: \"{brokers}\", topic: t, group_id: g, start: earliest }}\n\
                 contract: {{ protos: p, message: a.v1.B }}\ndead_letter: {{ topic: d }}\n\
                 postgres:\n  url: ${{TOLLGATE_TEST_NOT_SET}}\n  table: t\n  key: [id]\n  columns: {{ id: }}\n"
            )
        };
        std::fs::write(&file, text("localhost:9092")).unwrap();
        assert_eq!(load(&file, false).unwrap().source.topic, "t");
        std::fs::write(&file, text("${TOLLGATE_TEST_NOT_SET_EITHER}")).unwrap();
        assert!(load(&file, false).unwrap_err().to_string().contains("TOLLGATE_TEST_NOT_SET_EITHER"));
        assert_eq!(load(&file, true).unwrap().source.topic, "t", "a dry run asks no broker");
    }
}
