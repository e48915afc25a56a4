//! The answer of `GET /status`: the state of one process. `tollgate status` reads it; its JSON Schema is docs/status.schema.json.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::progress::halts::Halt;

/// The current format. A change that a reader of the previous format would misread raises it; new fields do not.
pub const FORMAT: u32 = 1;

/// The state of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Status of a Tollgate process")]
pub struct Status {
    /// The format of this object, currently 1. A higher number means that fields have changed their meaning.
    #[serde(default)]
    pub format: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// The release of the process.
    pub version: String,
    /// `effectively_once` or `at_least_once`.
    pub delivery: String,
    /// The number of its slot, which its transactional producers carry in their names; null with `at_least_once`.
    pub slot: Option<i32>,
    /// Host and process id.
    pub owner: String,
    /// The contracts and transforms that are active.
    pub revision: Revision,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Why it is not ready.
    pub troubles: Vec<String>,
    /// Why the pipeline is paused; null if it is not.
    pub paused: Option<String>,
    /// The last rejected reload; null since the next accepted one.
    pub refused_reload: Option<RefusedReload>,
    /// The halted partitions among those that the group has assigned to this process.
    pub halted: Vec<Halted>,
    /// The state of each circuit breaker: `closed`, `half-open` or `open`.
    pub breakers: BTreeMap<String, String>,
    /// The next offset of each assigned partition.
    pub positions: BTreeMap<i32, i64>,
}

/// The contracts and transforms that are active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// The number of swaps since the process started.
    pub number: u64,
    /// SHA-256 in hex over contracts, components, limits and configuration.
    pub digest: String,
    /// Chain by chain, in the chain's order.
    pub transforms: Vec<Transform>,
}

/// An active transform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transform {
    /// The event type whose chain it is in; absent if the topic holds one type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event_type: String,
    /// The name in its manifest.
    pub name: String,
    /// The version in its manifest.
    pub version: String,
    /// The path of its component.
    pub component: String,
    /// SHA-256 of the component in hex.
    pub digest: String,
}

/// A reload that was rejected; the revision before it stays active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedReload {
    /// Why it was rejected.
    pub error: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// A halted partition: an operator decides how it continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Halted {
    /// The number of the partition.
    pub partition: i32,
    /// A code of docs/halts.md.
    pub code: String,
    /// The next offset to read.
    pub offset: i64,
    /// The epoch at which the partition was held; 0 if the takeover itself was rejected.
    pub epoch: i64,
    /// What happened and what to do.
    pub message: String,
}

impl From<&Halt> for Halted {
    fn from(halt: &Halt) -> Halted {
        Halted {
            partition: halt.partition.get(),
            code: halt.code.clone(),
            offset: halt.offset.get(),
            epoch: halt.epoch.get(),
            message: halt.message.clone(),
        }
    }
}

/// Returns the JSON Schema of [`Status`].
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Status).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_an_older_release_can_be_read() {
        let older = r#"{"pipeline":"p","version":"0.1.0","delivery":"effectively_once","slot":0,"owner":"h/7",
            "revision":{"number":3,"digest":"aa","transforms":[{"name":"r","version":"1","component":"r.wasm","digest":"bb"}]},
            "ready":true,"troubles":[],"paused":null,"refused_reload":null,"halted":[],"breakers":{"kafka":"closed"},
            "positions":{"0":5}}"#;
        let status: Status = serde_json::from_str(older).unwrap();
        assert_eq!((status.format, status.positions[&0]), (0, 5));
        let newer = older.replacen('{', r#"{"format":1,"not_yet_invented":true,"#, 1);
        assert_eq!(serde_json::from_str::<Status>(&newer).unwrap().format, 1);
    }

    #[test]
    fn every_field_is_described() {
        let schema = json_schema();
        let described = |fields: &serde_json::Map<String, serde_json::Value>| {
            for (name, field) in fields {
                assert!(field.get("description").is_some(), "{name}");
            }
        };
        described(schema["properties"].as_object().unwrap());
        schema["$defs"].as_object().unwrap().values().for_each(|of| described(of["properties"].as_object().unwrap()));
    }
}
