//! Values that are never printed.

use std::fmt;

/// A value that is never printed: a password, or a URL that contains one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// Returns the value. This is the only access to it, so a search for calls finds every reader of secrets.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the URL with every password masked: `postgres://user:***@host/db?password=***`.
    pub fn masked_url(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return "***".to_owned() };
        // The last @ ends the user's part, because a password may contain /, ? and @ without encoding.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => match user.split_once(':') {
                Some((name, _)) => (format!("{name}:***@"), rest),
                None => (format!("{user}@"), rest),
            },
            None => (String::new(), rest),
        };
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if !SHOWN_PARAMETERS.contains(&name) => format!("{name}=***"),
            _ => pair.to_owned(),
        };
        let query = query.map(|query| query.split('&').map(pair).collect::<Vec<_>>().join("&"));
        match query {
            Some(query) => format!("{scheme}://{user}{address}?{query}"),
            None => format!("{scheme}://{user}{address}"),
        }
    }
}

/// The parameters of a PostgreSQL URL that are not secret.
const SHOWN_PARAMETERS: [&str; 10] = [
    "sslmode",
    "sslrootcert",
    "host",
    "port",
    "dbname",
    "user",
    "application_name",
    "options",
    "statement-cache-capacity",
    "target_session_attrs",
];

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // I12: the only form in which a secret can be printed.
        f.write_str("***")
    }
}
