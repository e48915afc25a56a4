//! `tollgate contract register|versions`: uses a schema registry from the command line.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::Success;
use crate::cli::table::{Align, render};
use tollgate_config::error::{Class, Failure};
use tollgate_config::registry::{Auth, Config, Tls, Url};
use tollgate_config::secret::Secret;
use tollgate_registry::api::{SubjectVersion, Version};
use tollgate_registry::{Client, ClientError, Done, PublishError, Schema, SchemaBody};

/// The registry and the credentials for it. No secret is an argument, because every process of the machine can see
/// arguments.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Which {
    /// URL of the registry, such as http://localhost:8081; separate several by commas, they are tried in turn.
    #[arg(long, env = "TOLLGATE_REGISTRY", hide_env_values = true, value_name = "URL", value_delimiter = ',')]
    pub registry: Vec<String>,
    /// User name for the registry; its password is in the environment variable TOLLGATE_REGISTRY_PASSWORD.
    #[arg(long, env = "TOLLGATE_REGISTRY_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// Environment variable that holds the password.
    #[arg(long, value_name = "VARIABLE", default_value = "TOLLGATE_REGISTRY_PASSWORD", hide_default_value = true)]
    pub password_env: String,
    /// Environment variable that holds a bearer token, which is used if no user is named.
    #[arg(long, value_name = "VARIABLE", default_value = "TOLLGATE_REGISTRY_TOKEN")]
    pub token_env: String,
    /// PEM file of the certificate authorities to trust instead of the default ones.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// PEM file of the client certificate's private key, without a password.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Register {
    /// The .proto file to register.
    pub file: PathBuf,
    /// Subject, usually the topic's name and `-value`, such as payment-events-value.
    #[arg(long, value_name = "NAME")]
    pub subject: String,
    /// Root folder of imports. Default: the nearest folder above the file from which all imports are found.
    #[arg(long, value_name = "FOLDER")]
    pub protos: Vec<PathBuf>,
    /// Ask the registry whether it would accept the file, but register nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub which: Which,
}

#[derive(Debug, clap::Args)]
pub struct Versions {
    /// Subject whose versions are listed. Default: list all subjects.
    pub subject: Option<String>,
    #[command(flatten)]
    pub which: Which,
}

impl Which {
    /// # Errors
    /// Fails with exit code 2 if a URL, a variable or a file cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        let wrong = |message: &dyn std::fmt::Display| Failure::configuration("registry.config", message);
        if self.registry.is_empty() {
            return Err(wrong(&"no registry is named; give --registry URL or set TOLLGATE_REGISTRY"));
        }
        let urls = self.registry.iter().map(|text| Url::parse(text)).collect::<Result<Vec<_>, _>>();
        let mut config = Config::new(urls.map_err(|fault| wrong(&format!("--registry: {fault}")))?);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(Secret::new);
        config.auth = match &self.user {
            Some(user) => {
                let missing =
                    || wrong(&format!("--user: the environment variable {} holds no password", self.password_env));
                Auth::Basic { username: user.clone(), password: variable(&self.password_env).ok_or_else(missing)? }
            }
            None => variable(&self.token_env).map_or(Auth::None, Auth::Bearer),
        };
        config.tls = Tls { ca: self.ca.clone(), certificate: self.certificate.clone(), key: self.key.clone() };
        Client::new(config).map_err(|fault| wrong(&fault))
    }
}

/// # Errors
/// Fails with exit code 1 if the registry rejects the schema, 2 for a file or a flag, 3 if the registry cannot be
/// reached.
pub fn register(args: &Register) -> Result<Success, Failure> {
    let publication = tollgate_protos::with_imports(&args.file, &args.protos)
        .map_err(|error| Failure::configuration("contract.protos", error))?;
    let client = args.which.client()?;
    let published = tollgate_registry::publish(&client, &publication, &args.subject, args.dry_run)
        .map_err(|error| refused(&error))?;
    let rows: Vec<Vec<String>> = published
        .steps
        .iter()
        .map(|step| {
            let (what, version, id) = show(&step.done);
            vec![step.subject.clone(), version, id, what.to_owned()]
        })
        .collect();
    let header = [("subject", Align::Left), ("version", Align::Right), ("id", Align::Right), ("", Align::Left)];
    let summary = match published.steps.last().map(|step| &step.done) {
        Some(Done::Registered { version, id }) => format!("{}: registered version {version}, id {id}", args.subject),
        Some(Done::Unchanged { version, id }) => {
            format!("{} already has this schema as version {version}, id {id}", args.subject)
        }
        Some(Done::Acceptable) => format!("the registry would accept this as the next version of {}", args.subject),
        Some(Done::Unchecked) | None => {
            format!("{} cannot be checked before the files that it imports are registered", args.subject)
        }
    };
    let mut result = json!(published);
    result["dry_run"] = json!(args.dry_run);
    Ok(Success::new(summary.clone(), result, format!("{}{summary}", render(&header, &rows, 72))))
}

fn show(done: &Done) -> (&'static str, String, String) {
    match done {
        Done::Unchanged { version, id } => ("unchanged", version.to_string(), id.to_string()),
        Done::Registered { version, id } => ("registered", version.to_string(), id.to_string()),
        Done::Acceptable => ("would be registered", String::new(), String::new()),
        Done::Unchecked => ("not checked: its imports are not registered", String::new(), String::new()),
    }
}

fn refused(error: &PublishError) -> Failure {
    match error {
        PublishError::Incompatible { reasons, subject, .. } => {
            let mut message = format!("{error}; the file was not registered");
            for reason in reasons {
                _ = write!(message, "\n- {reason}");
            }
            _ = write!(
                message,
                "\nfix it so that old and new consumers stay compatible (keep each field's number and type, reserve removed \
                 fields), or register it under a new subject with a new topic; `tollgate check --against \
                 registry:{subject}` shows each place"
            );
            Failure::failed("registry.incompatible", message)
        }
        PublishError::Client { source: ClientError::Refused { status: 409, message, .. }, subject, .. } => {
            let message = format!(
                "{subject}: the registry reports a conflict: {message}\nanother version was registered after our check; merge \
                 that change into the file and try again, and let CI serialize registrations"
            );
            Failure::failed("registry.conflict", message)
        }
        PublishError::Client { source: ClientError::Refused { status: 422, message, .. }, file, subject } => {
            let message = format!(
                "{subject}: the registry cannot read {file} as a Protobuf schema: {message}\nthe file compiles here, so look \
                 for a feature that the registry does not support, such as editions"
            );
            Failure::failed("registry.invalid", message)
        }
        PublishError::Client { source, .. } => failure(source, error),
    }
}

fn failure(source: &ClientError, shown: &dyn std::fmt::Display) -> Failure {
    match source.class() {
        Class::Transient | Class::Unknown => Failure::environment("registry.unreachable", shown),
        Class::Poison => Failure::failed("registry.not_found", shown),
        Class::Fatal => Failure::failed("registry.refused", shown),
    }
}

/// # Errors
/// Fails with exit code 1 if the subject does not exist or the registry refuses us, 2 for a flag, 3 if the registry
/// cannot be reached.
pub fn versions(args: &Versions) -> Result<Success, Failure> {
    let client = args.which.client()?;
    match &args.subject {
        Some(subject) => of_subject(&client, subject),
        None => subjects(&client),
    }
    .map_err(|error| failure(&error, &error))
}

fn subjects(client: &Client) -> Result<Success, ClientError> {
    let subjects = client.subjects()?;
    let count = subjects.len();
    let summary = if count == 1 { "1 subject".to_owned() } else { format!("{count} subjects") };
    let text = subjects.iter().map(|subject| format!("{subject}\n")).collect::<String>();
    Ok(Success::new(summary, json!({ "subjects": subjects }), text))
}

fn of_subject(client: &Client, subject: &str) -> Result<Success, ClientError> {
    let numbers = client.versions(subject)?;
    let versions: Vec<SubjectVersion> =
        numbers.iter().map(|number| client.version(subject, Version::Number(*number))).collect::<Result<_, _>>()?;
    let level = match client.compatibility(Some(subject))? {
        None => client.compatibility(None)?,
        own => own,
    };
    let described: Vec<(SubjectVersion, String)> = versions
        .into_iter()
        .map(|version| messages(client, &version).map(|messages| (version, messages)))
        .collect::<Result<_, _>>()?;
    let header = [("version", Align::Right), ("id", Align::Right), ("type", Align::Left), ("messages", Align::Left)];
    let rows: Vec<Vec<String>> = described
        .iter()
        .map(|(version, messages)| {
            vec![
                version.version.to_string(),
                version.id.to_string(),
                version.schema.schema_type.clone(),
                messages.clone(),
            ]
        })
        .collect();
    let result = described.iter().map(|(version, messages)| to_json(version, messages)).collect::<Vec<_>>();
    let kept = level.as_deref().unwrap_or("unknown");
    let count = described.len();
    let plural = if count == 1 { "" } else { "s" };
    let summary = format!("{subject}: {count} version{plural}, compatibility {kept}");
    let result = json!({ "subject": subject, "compatibility": level, "versions": result });
    Ok(Success::new(summary.clone(), result, format!("{}{summary}", render(&header, &rows, 100))))
}

/// Returns the names of the top-level messages of a version, or why they cannot be determined.
fn messages(client: &Client, version: &SubjectVersion) -> Result<String, ClientError> {
    let files = match client.references(&version.schema) {
        Err(
            error @ (ClientError::TwoPlaces { .. } | ClientError::TooManyReferences | ClientError::NotFound { .. }),
        ) => return Ok(format!("({error})")),
        other => other?,
    };
    Ok(match Schema::of_version(version, files, None, tollgate_protos::compile_schema) {
        Ok(Schema { body: SchemaBody::Protobuf(file), .. }) => {
            file.messages().map(|message| message.full_name().to_owned()).collect::<Vec<_>>().join(", ")
        }
        Ok(_) => String::new(),
        Err(error) => format!("({error})"),
    })
}

fn to_json(version: &SubjectVersion, messages: &str) -> Value {
    json!({
        "version": version.version,
        "id": version.id,
        "type": version.schema.schema_type,
        "references": version.schema.references,
        "messages": messages.split(", ").filter(|name| !name.is_empty() && !name.starts_with('(')).collect::<Vec<_>>(),
        "schema": version.schema.schema,
    })
}
