//! How a registry is reached. Plain data: the pipeline's file and the flags are parsed elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits;
use crate::secret::Secret;

/// A registry and how to talk to it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Replicas of one registry, tried in turn. At least one.
    pub urls: Vec<Url>,
    pub auth: Auth,
    pub tls: Tls,
    /// Where fetched schemas are kept over restarts; without it an outage at the start stops the pipeline.
    pub cache_dir: Option<PathBuf>,
    /// Folders in which imports are found that are neither references nor built in, as for `contract.protos`.
    pub import_roots: Vec<PathBuf>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may take, its answer included.
    pub request_timeout: Duration,
    /// How often a request that failed is repeated, all URLs being tried each time.
    pub retries: u32,
    /// The first wait before a repetition; it doubles, and a random part of it is waited.
    pub backoff: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// How long all tries together may take: a lane stands still meanwhile.
    pub patience: Duration,
    /// How long an id that the registry does not know is not asked for again.
    pub negative_for: Duration,
    /// Before an id counts as unknown it is asked for once more after this time: a replica may lag behind.
    pub confirm_missing: Duration,
    /// Schemas kept in memory; past this the one that was not used for longest goes.
    pub schemas: usize,
    /// Bytes of an answer.
    pub answer_bytes: u64,
}

/// The login.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    #[default]
    None,
    Basic {
        username: String,
        password: Secret,
    },
    Bearer(Secret),
}

/// TLS towards `https://` URLs. Files are PEM.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The authorities that are trusted instead of the usual ones.
    pub ca: Option<PathBuf>,
    /// Our own certificate with those up to its authority, and its key without a password: both or none.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// `http(s)://host[:port][/path]` without a login, a query and a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(String);

/// Why a text is no URL of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registry's URL cannot be used: {0}; write http(s)://host:port/path")]
pub struct UrlFault(&'static str);

impl Url {
    /// # Errors
    /// Where the text is no such URL, or holds a login.
    pub fn parse(text: &str) -> Result<Url, UrlFault> {
        let text = text.trim();
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest else {
            // The text itself is not shown: it may hold a password.
            return Err(UrlFault("it begins neither with http:// nor with https://"));
        };
        let authority = rest.split('/').next().unwrap_or_default();
        if rest.contains('@') {
            return Err(UrlFault("it holds a login; name user and password on their own"));
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(UrlFault("it names no host"));
        }
        if rest.contains(['?', '#', ' ']) {
            return Err(UrlFault("it holds a query, a fragment or a blank"));
        }
        Ok(Url(text.trim_end_matches('/').to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// The registry at these URLs, with the usual bounds, no login and no cache on disk.
    pub fn new(urls: Vec<Url>) -> Config {
        Config {
            urls,
            auth: Auth::None,
            tls: Tls::default(),
            cache_dir: None,
            import_roots: Vec::new(),
            connect_timeout: limits::REGISTRY_CONNECT,
            request_timeout: limits::REGISTRY_REQUEST,
            retries: limits::REGISTRY_RETRIES,
            backoff: limits::BACKOFF_INITIAL,
            backoff_max: limits::REGISTRY_BACKOFF_MAX,
            patience: limits::REGISTRY_PATIENCE,
            negative_for: limits::REGISTRY_NEGATIVE,
            confirm_missing: limits::REGISTRY_CONFIRM,
            schemas: limits::REGISTRY_SCHEMAS,
            answer_bytes: limits::REGISTRY_ANSWER_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_what_is_none() {
        let parse = |text: &str| Url::parse(text).map(|url| url.to_string()).map_err(|fault| fault.to_string());
        assert_eq!(
            parse(" https://r.example:8081/apis/ccompat/v7/ ").unwrap(),
            "https://r.example:8081/apis/ccompat/v7"
        );
        assert_eq!(parse("http://r").unwrap(), "http://r");
        for (text, part) in [
            ("r.example:8081", "neither"),
            ("ftp://r", "neither"),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://r/?a=b", "a query"),
            ("http://user:hunter2@r", "a login"),
            ("http://user:hunt/er2@r", "a login"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.contains(part) && !fault.contains("hunter2"), "{text}: {fault}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = Config::new(vec![Url::parse("http://r").unwrap()]);
        config.auth = Auth::Basic { username: "gate".into(), password: Secret::new("hunter2".into()) };
        assert!(!format!("{config:?}").contains("hunter2"));
        config.auth = Auth::Bearer(Secret::new("hunter2".into()));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
