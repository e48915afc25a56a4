//! Confluent's REST API in Rust: its requests and responses.

use serde::{Deserialize, Serialize};

/// A file that a schema imports: its import name, and its place in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The import's path.
    pub name: String,
    pub subject: String,
    pub version: u32,
}

/// A schema as stored in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// The type, which is omitted for Avro.
    #[serde(default = "avro")]
    pub schema_type: String,
    /// `.proto` text, or a FileDescriptorProto in base64; JSON for the other types.
    pub schema: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub references: Vec<Reference>,
}

fn avro() -> String {
    "AVRO".to_owned()
}

/// Reads a list; some registries send null for an empty one.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Reference>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SubjectVersion {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    #[serde(flatten)]
    pub schema: Registered,
}

/// Selects a version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Latest,
    Number(u32),
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Id {
    pub id: u32,
}

/// A compatibility result. Confluent's registry sends `messages`, and Apicurio's sends `reason`.
#[derive(Deserialize)]
pub(super) struct Verdict {
    pub is_compatible: bool,
    #[serde(default)]
    pub messages: Vec<String>,
    pub reason: Option<String>,
}

/// A compatibility level, which is received as `compatibilityLevel` and sent as `compatibility`.
#[derive(Deserialize)]
pub(super) struct Level {
    #[serde(alias = "compatibilityLevel")]
    pub compatibility: String,
}

#[derive(Deserialize)]
pub(super) struct Problem {
    pub error_code: i64,
    #[serde(default)]
    pub message: String,
}
