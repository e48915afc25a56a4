//! What goes wrong with a registry, and whose fault it is.

use std::path::PathBuf;

use tollgate_contract::frame::SchemaId;

use tollgate_config::error::Class;

/// A registry cannot be talked to as it is configured. The operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    #[error("no URL of the registry is named")]
    NoUrl,
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: {detail}", path.display())]
    Pem { path: PathBuf, detail: String },
    #[error("a client certificate needs its key and a key its certificate; name both or none")]
    HalfIdentity,
    #[error("the cache folder {} cannot be made: {source}", path.display())]
    CacheFolder { path: PathBuf, source: std::io::Error },
    #[error("the login holds characters that no header can carry, such as a line break")]
    Login,
}

/// A request that did not get what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered, or nobody answered as a registry does; all URLs were tried, as often as is configured.
    #[error("the registry cannot be reached: {detail}")]
    Unavailable { detail: String },
    /// The registry does not have what was asked for, and said so in its own words.
    #[error("{url}: {message} (error {code})")]
    NotFound { url: String, code: i64, message: String },
    /// The registry, or what stands before it, said no; asking again does not help.
    #[error("{url} refuses with status {status}: {message}{}", advice(*.status))]
    Refused { url: String, status: u16, code: i64, message: String },
    /// References that lead too far. The schema's fault.
    #[error("{0}")]
    References(String),
}

fn advice(status: u16) -> &'static str {
    match status {
        401 => "; check user and password, or the token",
        403 => "; this login may not do that",
        404 => "; check the URL's path (Apicurio: /apis/ccompat/v7)",
        _ => "",
    }
}

impl ClientError {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::NotFound { .. } | Self::References(_) => Class::Poison,
            Self::Refused { .. } => Class::Fatal,
        }
    }
}

/// Why there is no schema for an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The event names an id that the registry does not have: `schema-unknown`.
    #[error("the registry knows no schema {0}")]
    NotFound(SchemaId),
    /// The schema is there and no contract can be made of it: it does not compile, or a reference is missing.
    #[error("schema {id} cannot be used: {detail}")]
    Unusable { id: SchemaId, detail: String },
    /// Back off, do not advance: nothing is known about the id.
    #[error("schema {id} is not known yet: {detail}")]
    Unavailable { id: SchemaId, detail: String },
    /// The registry refuses us: the login, or the URL's path.
    #[error("{0}")]
    Refused(ClientError),
    /// A subject or version that a person asked for.
    #[error("{0}")]
    Subject(ClientError),
}

impl SchemaError {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NotFound(_) | Self::Unusable { .. } => Class::Poison,
            Self::Unavailable { .. } => Class::Transient,
            Self::Refused(_) => Class::Fatal,
            Self::Subject(error) => error.class(),
        }
    }

    /// What a failed request means for the id that it was about. `of_reference`: the id itself was found.
    pub(super) fn of(id: SchemaId, error: ClientError, of_reference: bool) -> SchemaError {
        match error {
            ClientError::Unavailable { detail } => Self::Unavailable { id, detail },
            ClientError::NotFound { .. } if !of_reference => Self::NotFound(id),
            // The registry guards references against deletion, so one that is missing stays so.
            ClientError::NotFound { message, .. } => {
                Self::Unusable { id, detail: format!("a reference is missing: {message}") }
            }
            ClientError::References(detail) => Self::Unusable { id, detail },
            refused @ ClientError::Refused { .. } => Self::Refused(refused),
        }
    }
}

impl From<ClientError> for SchemaError {
    /// Of a request about a subject.
    fn from(error: ClientError) -> Self {
        Self::Subject(error)
    }
}
