//! The settings of a connection to a registry. Plain data; the pipeline's file and the flags are parsed elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits;
use crate::secret::Secret;

/// The settings of a registry's client.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The URLs of one registry's replicas, which are tried in turn. There is at least one.
    pub urls: Vec<Url>,
    pub auth: Auth,
    pub tls: Tls,
    /// The folder that keeps fetched schemas across restarts; without it an outage at startup stops the pipeline.
    pub cache_dir: Option<PathBuf>,
    /// Folders with imports that are neither references nor built in, as for `contract.protos`.
    pub import_roots: Vec<PathBuf>,
    /// The timeout of a connection.
    pub connect_timeout: Duration,
    /// The timeout of a request, including its response.
    pub request_timeout: Duration,
    /// The number of times that a failed request is retried; each time, all URLs are tried.
    pub retries: u32,
    /// The first wait before a retry. It doubles each time, and a random part of it is used.
    pub backoff: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// The timeout of all attempts together, because a lane waits meanwhile.
    pub patience: Duration,
    /// The time for which an unknown id is not requested again.
    pub negative_for: Duration,
    /// An unknown id is requested once more after this time, because a replica may lag behind.
    pub confirm_missing: Duration,
    /// The number of schemas kept in memory; beyond it the least recently used one is removed.
    pub schemas: usize,
    /// The maximal size of a response, in bytes.
    pub answer_bytes: u64,
}

/// The login.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Auth {
    #[default]
    None,
    Basic {
        username: String,
        password: Secret,
    },
    Bearer(Secret),
}

/// TLS for `https://` URLs. All files are PEM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tls {
    /// The trusted authorities, instead of the usual ones.
    pub ca: Option<PathBuf>,
    /// The client's certificate with its chain, and its key without a password. Both are set, or neither.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// `http(s)://host[:port][/path]` without a login, a query or a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(String);

/// The reason why a text is not the URL of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registry's URL cannot be used: {0}; write http(s)://host:port/path")]
pub struct UrlFault(&'static str);

impl Url {
    /// Parses the URL of a registry.
    ///
    /// # Errors
    /// Fails if the text is not such a URL, or contains a login.
    pub fn parse(text: &str) -> Result<Url, UrlFault> {
        let text = text.trim();
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest else {
            // The text itself is not shown, because it may contain a password.
            return Err(UrlFault("it begins neither with http:// nor with https://"));
        };
        let authority = rest.split('/').next().unwrap_or_default();
        if rest.contains('@') {
            return Err(UrlFault("it contains a login; set user and password separately"));
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(UrlFault("it names no host"));
        }
        if rest.contains(['?', '#', ' ']) {
            return Err(UrlFault("it contains a query, a fragment or a blank"));
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
    /// Returns the settings for a registry at these URLs, with the default bounds, no login and no cache on disk.
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
    fn urls_and_texts_that_are_not_urls() {
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
