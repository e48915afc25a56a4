//! Errors of a registry, and what is at fault.

use std::path::PathBuf;

use tollgate_contract::frame::SchemaId;

use tollgate_config::error::Class;
use tollgate_config::limits;

/// An error in the registry's configuration. This is the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    #[error("the registry has no URL")]
    NoUrl,
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: {detail}", path.display())]
    Pem { path: PathBuf, detail: String },
    #[error("a client certificate needs its key and a key its certificate; name both or none")]
    HalfIdentity,
    #[error("cannot create the cache folder {}: {source}", path.display())]
    CacheFolder { path: PathBuf, source: std::io::Error },
    #[error("the login contains characters that a header cannot hold, such as a line break")]
    Login,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// There was no response, or none from a registry; all URLs were tried as often as configured.
    #[error("the registry cannot be reached: {detail}")]
    Unavailable { detail: String },
    /// The registry does not have the requested object, and its message says so.
    #[error("{url}: {message} (error {code})")]
    NotFound { url: String, code: i64, message: String },
    /// The registry, or a proxy in front of it, rejected the request; retrying does not help.
    #[error("{url} rejected the request with status {status}: {message}{}", advice(*.status))]
    Refused { url: String, status: u16, code: i64, message: String },
    /// The schema's references name one file in two places. This is the schema's fault.
    #[error("{name} is referred to as version {} of {} and as version {} of {}", .places[0].1, .places[0].0, .places[1].1, .places[1].0)]
    TwoPlaces {
        name: String,
        /// Subject and version of each.
        places: Box<[(String, u32); 2]>,
    },
    /// The schema's references are too many or too large. This is the schema's fault.
    #[error(
        "its references are more than {} files or {} bytes",
        limits::REGISTRY_REFERENCES,
        limits::REGISTRY_REFERENCE_BYTES
    )]
    TooManyReferences,
}

fn advice(status: u16) -> &'static str {
    match status {
        401 => "; check user and password, or the token",
        403 => "; this login has no permission for the request",
        404 => "; check the URL's path (Apicurio: /apis/ccompat/v7)",
        _ => "",
    }
}

impl ClientError {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::NotFound { .. } | Self::TwoPlaces { .. } | Self::TooManyReferences => Class::Poison,
            Self::Refused { .. } => Class::Fatal,
        }
    }
}

/// The reason why an id has no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The event contains an id that the registry does not have: `schema-unknown`.
    #[error("the registry has no schema {0}")]
    NotFound(SchemaId),
    /// The schema exists but no contract can be built from it: it does not compile, or a reference is missing.
    #[error("schema {id} cannot be used: {detail}")]
    Unusable { id: SchemaId, detail: String },
    /// Back off, do not advance: nothing is known about the id.
    #[error("schema {id} is not known yet: {detail}")]
    Unavailable { id: SchemaId, detail: String },
    /// The registry rejects us: the login, or the URL's path.
    #[error("{0}")]
    Refused(ClientError),
    /// A subject or version that a user requested.
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

    /// Returns what a failed request means for its id. `of_reference`: the id itself was found.
    pub(super) fn of(id: SchemaId, error: ClientError, of_reference: bool) -> SchemaError {
        match error {
            ClientError::Unavailable { detail } => Self::Unavailable { id, detail },
            ClientError::NotFound { .. } if !of_reference => Self::NotFound(id),
            // The registry prevents the deletion of references, so a missing one stays missing.
            ClientError::NotFound { message, .. } => {
                Self::Unusable { id, detail: format!("a reference is missing: {message}") }
            }
            ClientError::TwoPlaces { .. } | ClientError::TooManyReferences => {
                Self::Unusable { id, detail: error.to_string() }
            }
            refused @ ClientError::Refused { .. } => Self::Refused(refused),
        }
    }
}

impl From<ClientError> for SchemaError {
    /// The error of a request about a subject.
    fn from(error: ClientError) -> Self {
        Self::Subject(error)
    }
}
