//! A component's description of itself: `transform.yaml`, embedded as JSON by `tollgate build`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;

use crate::limits::{self, LimitsSpec};

/// The custom section that holds the manifest, at the top level of the component.
pub const SECTION: &str = "tollgate:transform";

/// The custom section with the message types that the component was compiled with. The sandbox passes it on unchanged.
pub const TYPES_SECTION: &str = "tollgate:types";

/// The capabilities that a manifest may request.
pub const CAPABILITIES: [&str; 1] = ["log"];

/// A component's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    /// The commit from which it was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The full name of its input message type.
    pub input: String,
    /// The message type that it emits on route 0; the input's if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Names of the routes 1 to n.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The message types of routes, by name; a route that is not listed has the type of route 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub route_messages: BTreeMap<String, String>,
    pub limits: LimitsSpec,
    /// The configuration passed to `init`, overridden by the pipeline's.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// The requested capabilities; see [`CAPABILITIES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// The author's declaration that the verdict depends only on the event and the configuration.
    #[serde(default = "yes")]
    pub deterministic: bool,
}

fn yes() -> bool {
    true
}

/// Why a manifest is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("it has {0} bytes; the limit is {most}", most = limits::MANIFEST_BYTES)]
    TooLarge(usize),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("{0} must have 1 to 255 characters, none of them a control character")]
    Text(&'static str),
    #[error("it names {0} routes; the limit is {most}", most = limits::ROUTES)]
    Routes(usize),
    #[error("the names of routes must be set and differ: `{0}`")]
    RouteName(String),
    #[error("route_messages names `{0}`, which is not one of its routes")]
    RouteMessage(String),
    #[error("unknown capability `{0}`; the known one is {known}", known = CAPABILITIES.join(", "))]
    Capability(String),
    /// A component must have one manifest.
    #[error("there are two of them")]
    Twice,
}

impl Manifest {
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// A key is missing, unknown or wrong.
    pub fn parse(json: &[u8]) -> Result<Manifest, ManifestError> {
        if json.len() > limits::MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(json.len()));
        }
        let manifest: Manifest = serde_json::from_slice(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Returns the message type of route 0.
    pub fn output(&self) -> &str {
        self.output.as_deref().unwrap_or(&self.input)
    }

    /// Returns the message type of a route.
    pub fn route_message(&self, route: &str) -> &str {
        self.route_messages.get(route).map_or_else(|| self.output(), String::as_str)
    }

    /// Iterates over the message types that it emits: on route 0, and on each route.
    pub fn emitted(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.output()).chain(self.routes.iter().map(|route| self.route_message(route)))
    }

    /// Returns the configuration for `init`: the manifest's with the pipeline's merged over it, object by object.
    pub fn config_under(&self, over: Option<&Value>) -> Value {
        let mut config = Value::Object(self.config.clone());
        if let Some(over) = over {
            merge(&mut config, over);
        }
        config
    }

    fn check(&self) -> Result<(), ManifestError> {
        for (key, value) in [("name", &self.name), ("version", &self.version), ("input", &self.input)] {
            if value.is_empty() || value.len() > 255 || value.chars().any(char::is_control) {
                return Err(ManifestError::Text(key));
            }
        }
        if self.routes.len() > limits::ROUTES {
            return Err(ManifestError::Routes(self.routes.len()));
        }
        for (index, route) in self.routes.iter().enumerate() {
            if route.is_empty() || self.routes[..index].contains(route) {
                return Err(ManifestError::RouteName(route.clone()));
            }
        }
        if let Some(unknown) = self.route_messages.keys().find(|name| !self.routes.contains(name)) {
            return Err(ManifestError::RouteMessage(unknown.clone()));
        }
        match self.capabilities.iter().find(|wanted| !CAPABILITIES.contains(&wanted.as_str())) {
            Some(unknown) => Err(ManifestError::Capability(unknown.clone())),
            None => Ok(()),
        }
    }
}

fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Returns the digest of several parts, each with its length, so that different lists of parts never have the same
    /// bytes.
    pub(crate) fn of_parts(parts: &[&[u8]]) -> Digest {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Digest(hash.finalize().into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Encodes JSON whose bytes depend only on the value, whichever map serde_json was built with.
pub(crate) fn canonical(value: &Value) -> Vec<u8> {
    fn write(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<_> = map.keys().collect();
                keys.sort();
                out.push(b'{');
                for (index, key) in keys.into_iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                    out.push(b':');
                    write(&map[key], out);
                }
                out.push(b'}');
            }
            Value::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write(item, out);
                }
                out.push(b']');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                out.extend_from_slice(value.to_string().as_bytes());
            }
        }
    }
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LEAST: &str =
        r#"{"name": "rules", "version": "1.2.3", "input": "payments.v1.Payment", "limits": {"fuel": 9}}"#;

    #[test]
    fn the_least_manifest_has_sensible_defaults() {
        let manifest = Manifest::parse(LEAST.as_bytes()).unwrap();
        assert_eq!(manifest.output(), "payments.v1.Payment");
        assert!(manifest.deterministic && manifest.routes.is_empty() && manifest.capabilities.is_empty());
        assert_eq!(Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap(), manifest);
    }

    #[test]
    fn every_error_names_what_is_wrong() {
        let with = |key: &str, value: Value| {
            let mut manifest: Value = serde_json::from_str(LEAST).unwrap();
            manifest[key] = value;
            Manifest::parse(manifest.to_string().as_bytes()).unwrap_err().to_string()
        };
        assert!(with("colour", json!("red")).contains("unknown field `colour`"));
        assert!(with("name", json!("")).contains("name must have"));
        assert!(with("limits", json!({"feul": 1})).contains("unknown field `feul`"));
        assert!(with("routes", json!(["late", "late"])).contains("`late`"));
        assert!(with("routes", json!((0..17).map(|n| n.to_string()).collect::<Vec<_>>())).contains("17 routes"));
        assert!(with("route_messages", json!({"late": "a.B"})).contains("`late`, which is not one of its routes"));
        assert!(with("capabilities", json!(["log", "network"])).contains("`network`"));
        assert!(Manifest::parse(br#"{"name": "x"}"#).unwrap_err().to_string().contains("missing field"));
        assert!(Manifest::parse(&vec![b' '; limits::MANIFEST_BYTES + 1]).unwrap_err().to_string().contains("bytes"));
    }

    #[test]
    fn the_pipelines_config_lies_over_the_manifests() {
        let mut manifest = Manifest::parse(LEAST.as_bytes()).unwrap();
        manifest.config = serde_json::from_value(json!({"high": {"above": 10, "tier": "A"}, "list": [1, 2]})).unwrap();
        let over = json!({"high": {"above": 99}, "list": [3]});
        assert_eq!(manifest.config_under(Some(&over)), json!({"high": {"above": 99, "tier": "A"}, "list": [3]}));
        assert_eq!(manifest.config_under(None), Value::Object(manifest.config.clone()));
    }

    #[test]
    fn canonical_json_ignores_the_order_of_keys() {
        let one: Value = serde_json::from_str(r#"{"b": [1, {"y": null, "x": "\n"}], "a": true}"#).unwrap();
        assert_eq!(canonical(&one), br#"{"a":true,"b":[1,{"x":"\n","y":null}]}"#);
    }
}
