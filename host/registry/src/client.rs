//! The HTTP client of Confluent's REST API. It blocks: its callers are lanes and commands, each on its own thread.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tollgate_contract::frame::SchemaId;
use tollgate_contract::visible;

use super::api::{Id, Level, Problem, Reference, Registered, SubjectVersion, Verdict, Version};
use super::{ClientError, ConfigFault, tls};
use tollgate_config::Backoff;
use tollgate_config::limits;
use tollgate_config::registry::{Auth, Config};
use tollgate_contract::Source;

/// The result of the registry's compatibility check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compatibility {
    /// There is no earlier version to compare with.
    NewSubject,
    Compatible,
    /// The new version is incompatible, for the registry's reasons.
    Incompatible(Vec<String>),
}

/// A client of a registry. Share it, so that its connections are reused.
pub struct Client {
    config: Config,
    agent: ureq::Agent,
    /// The value of the header `authorization`.
    login: Option<String>,
    /// The index of the URL that responded last; the next request tries it first.
    current: AtomicUsize,
    /// Versions of subjects: like ids they never change, and many schemas refer to the same ones.
    versions: Mutex<BTreeMap<(String, u32), Registered>>,
}

/// One response.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: String,
}

impl Client {
    /// Creates a client. It makes no connection yet.
    ///
    /// # Errors
    /// Fails for an invalid configuration: no URL, or TLS files that cannot be read or do not match.
    pub fn new(config: Config) -> Result<Client, ConfigFault> {
        if config.urls.is_empty() {
            return Err(ConfigFault::NoUrl);
        }
        let login = match &config.auth {
            Auth::None => None,
            Auth::Basic { username, password } => {
                let pair = format!("{username}:{}", password.expose());
                Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
            }
            Auth::Bearer(token) => Some(format!("Bearer {}", token.expose().trim())),
        };
        if login.as_ref().is_some_and(|login| !login.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
            return Err(ConfigFault::Login);
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls::configure(&config.tls)?)
            .timeout_connect(Some(config.connect_timeout))
            .timeout_global(Some(config.request_timeout))
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Client { config, agent, login, current: AtomicUsize::new(0), versions: Mutex::default() })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Requests `GET /schemas/ids/{id}`, or `/schemas/guids/{guid}`.
    ///
    /// # Errors
    /// See [`ClientError`]; the same holds for all requests.
    pub fn schema(&self, id: SchemaId) -> Result<Registered, ClientError> {
        match id {
            SchemaId::Id(number) => self.get(&format!("/schemas/ids/{number}")),
            SchemaId::Guid(_) => self.get(&format!("/schemas/guids/{id}")),
        }
    }

    /// Returns the names of all subjects, sorted.
    pub fn subjects(&self) -> Result<Vec<String>, ClientError> {
        let mut subjects: Vec<String> = self.get("/subjects")?;
        subjects.sort();
        Ok(subjects)
    }

    /// Returns the version numbers of a subject, ascending.
    pub fn versions(&self, subject: &str) -> Result<Vec<u32>, ClientError> {
        let mut versions: Vec<u32> = self.get(&format!("/subjects/{}/versions", segment(subject)))?;
        versions.sort_unstable();
        Ok(versions)
    }

    pub fn version(&self, subject: &str, version: Version) -> Result<SubjectVersion, ClientError> {
        self.get(&format!("/subjects/{}/versions/{version}", segment(subject)))
    }

    /// Registers a schema, unless it is registered already. Returns its id.
    pub fn register(&self, subject: &str, schema: &Registered) -> Result<u32, ClientError> {
        let path = format!("/subjects/{}/versions", segment(subject));
        let id: Id = self.request("POST", &path, Some(&body(schema)))?;
        Ok(id.id)
    }

    /// Returns the version under which a subject already has this schema.
    pub fn lookup(&self, subject: &str, schema: &Registered) -> Result<Option<SubjectVersion>, ClientError> {
        match self.request("POST", &format!("/subjects/{}", segment(subject)), Some(&body(schema))) {
            Ok(found) => Ok(Some(found)),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the compatibility level of a subject, or `None` if it has no separate one. Without a subject, returns
    /// that of the registry.
    pub fn compatibility(&self, subject: Option<&str>) -> Result<Option<String>, ClientError> {
        match self.get::<Level>(&config_path(subject)) {
            Ok(level) => Ok(Some(level.compatibility)),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the compatibility level: `BACKWARD`, `FULL_TRANSITIVE`, `NONE` and so on.
    pub fn set_compatibility(&self, subject: Option<&str>, level: &str) -> Result<(), ClientError> {
        let sent = json!({ "compatibility": level });
        self.request::<Value>("PUT", &config_path(subject), Some(&sent)).map(drop)
    }

    /// Checks whether the registry would accept this schema as the subject's next version.
    pub fn check(&self, subject: &str, schema: &Registered) -> Result<Compatibility, ClientError> {
        let path = format!("/compatibility/subjects/{}/versions/latest?verbose=true", segment(subject));
        match self.request::<Verdict>("POST", &path, Some(&body(schema))) {
            Ok(verdict) if verdict.is_compatible => Ok(Compatibility::Compatible),
            Ok(verdict) => {
                Ok(Compatibility::Incompatible(verdict.messages.into_iter().chain(verdict.reason).collect()))
            }
            Err(ClientError::NotFound { .. }) => Ok(Compatibility::NewSubject),
            Err(error) => Err(error),
        }
    }

    /// Returns all files that a schema refers to, directly and indirectly, each once. The registry rejects cyclic
    /// references; a cycle would be fetched once around and then rejected by the compiler.
    ///
    /// # Errors
    /// Fails as all requests do, and if there are too many references, if they are too large, or if two files have the
    /// same name.
    pub fn references(&self, schema: &Registered) -> Result<Vec<Source>, ClientError> {
        let mut places: BTreeMap<String, (String, u32)> = BTreeMap::new();
        let mut files = Vec::new();
        let mut bytes = schema.schema.len();
        let mut open: Vec<Reference> = schema.references.clone();
        while let Some(Reference { name, subject, version }) = open.pop() {
            if let Some(place) = places.get(&name) {
                if *place == (subject.clone(), version) {
                    continue;
                }
                return Err(ClientError::TwoPlaces { name, places: Box::new([place.clone(), (subject, version)]) });
            }
            let found = self.fixed_version(&subject, version)?;
            bytes += found.schema.len();
            if files.len() >= limits::REGISTRY_REFERENCES || bytes > limits::REGISTRY_REFERENCE_BYTES {
                return Err(ClientError::TooManyReferences);
            }
            places.insert(name.clone(), (subject, version));
            open.extend(found.references);
            files.push(Source { name, text: found.schema });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(files)
    }

    fn fixed_version(&self, subject: &str, version: u32) -> Result<Registered, ClientError> {
        let key = (subject.to_owned(), version);
        let kept = |versions: &Mutex<BTreeMap<_, Registered>>| {
            versions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned()
        };
        if let Some(schema) = kept(&self.versions) {
            return Ok(schema);
        }
        let schema = self.version(subject, Version::Number(version))?.schema;
        let mut versions = self.versions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if versions.len() >= limits::REGISTRY_SCHEMAS {
            versions.clear();
        }
        versions.insert(key, schema.clone());
        Ok(schema)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request("GET", path, None)
    }

    /// Sends one request, to all URLs in turn and again after a wait, until a registry responds. Repeating a POST is
    /// harmless: registering a schema twice gives the same id.
    fn request<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<&Value>) -> Result<T, ClientError> {
        let until = Instant::now() + self.config.patience;
        let mut backoff = Backoff::doubling(self.config.backoff, self.config.backoff_max);
        let mut faults: BTreeMap<usize, String> = BTreeMap::new();
        for attempt in 0..=self.config.retries {
            let mut asked_to_wait = None;
            let first = self.current.load(Ordering::Relaxed);
            for turn in 0..self.config.urls.len() {
                let index = (first + turn) % self.config.urls.len();
                let url = &self.config.urls[index];
                match self.once(method, &format!("{url}{path}"), body) {
                    Ok(answer) if is_transient(answer.status) => {
                        asked_to_wait = asked_to_wait.max(answer.retry_after);
                        faults.insert(index, format!("{url}: status {}", answer.status));
                    }
                    Ok(answer) => match judge(url.as_str(), answer) {
                        Ok(value) => {
                            self.current.store(index, Ordering::Relaxed);
                            return Ok(value);
                        }
                        Err(ClientError::Unavailable { detail }) => drop(faults.insert(index, detail)),
                        Err(error) => return Err(error),
                    },
                    Err(error) => drop(faults.insert(index, format!("{url}: {}", explain(&error)))),
                }
            }
            let wait = backoff.next_wait().max(asked_to_wait.unwrap_or_default());
            if attempt == self.config.retries || Instant::now() + wait > until {
                break;
            }
            thread::sleep(wait);
        }
        Err(ClientError::Unavailable { detail: faults.into_values().collect::<Vec<_>>().join("; ") })
    }

    /// # Errors
    /// There was no response.
    fn once(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Answer, ureq::Error> {
        const JSON: &str = "application/vnd.schemaregistry.v1+json";
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        request = request.header("accept", format!("{JSON}, application/json"));
        if let Some(login) = &self.login {
            request = request.header("authorization", login);
        }
        let sent = body.map(Value::to_string);
        if sent.is_some() {
            request = request.header("content-type", JSON);
        }
        let request = request.body(sent.unwrap_or_default())?;
        let mut response = self.agent.run(request)?;
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.body_mut().with_config().limit(self.config.answer_bytes).read_to_string();
        Ok(Answer {
            status: response.status().as_u16(),
            // A date instead of seconds is legal but rare: then our own waits apply.
            retry_after: retry_after.map(Duration::from_secs),
            body: text?,
        })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("urls", &self.config.urls).finish_non_exhaustive()
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "the host's name cannot be resolved".to_owned(),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::BodyExceedsLimit(bytes) => format!("the answer has more than {bytes} bytes"),
        error => error.to_string(),
    }
}

/// 408 and 429 ask for a retry; 501 and 505 are permanent.
fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 506..=599)
}

fn judge<T: DeserializeOwned>(url: &str, answer: Answer) -> Result<T, ClientError> {
    let Answer { status, body, .. } = answer;
    if (200..300).contains(&status) {
        // A login page or a proxy's page: it does not come from the registry.
        return serde_json::from_str(&body).map_err(|error| ClientError::Unavailable {
            detail: format!("{url}: the answer is not that of a schema registry: {error}"),
        });
    }
    let url = url.to_owned();
    let problem: Option<Problem> = serde_json::from_str(&body).ok();
    match problem {
        // 40401 subject, 40402 version, 40403 schema, 40408 level. A bare 404 is about the path, not about the named
        // object.
        Some(Problem { error_code: code @ 40_401..=40_499, message }) => {
            Err(ClientError::NotFound { url, code, message })
        }
        Some(Problem { error_code: code, message }) => Err(ClientError::Refused { url, status, code, message }),
        None => {
            let message: String =
                body.chars().map(|c| if c.is_whitespace() { ' ' } else { visible(c) }).take(200).collect();
            let message = if message.trim().is_empty() { "(no explanation)".to_owned() } else { message };
            Err(ClientError::Refused { url, status, code: i64::from(status), message })
        }
    }
}

fn body(schema: &Registered) -> Value {
    let mut body = json!({ "schemaType": schema.schema_type, "schema": schema.schema });
    if !schema.references.is_empty() {
        body["references"] = json!(schema.references);
    }
    body
}

fn config_path(subject: Option<&str>) -> String {
    subject.map_or_else(|| "/config".to_owned(), |subject| format!("/config/{}", segment(subject)))
}

/// Encodes a name as one segment of a URL's path: subjects are often import paths, with slashes.
fn segment(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
