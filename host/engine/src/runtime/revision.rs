//! Builds what a swap replaces: the chains of every type, and the digest that identifies them.

use std::io;

use tollgate_contract::{CanonicalHash, Contract};
use tollgate_sandbox::{Chain, LimitsSpec, LoadError, Overrides, Sandbox};

use super::routes::{Wrong, places, wrong_routes};
use tollgate_config::{Debezium, Envelope as EnvelopeSpec, KeyPart, Pipeline, WithoutRow};
use tollgate_decide::gate::envelope::Envelope;
use tollgate_decide::gate::{Revision, TransformInfo, TypeChain, TypeContracts};
use tollgate_decide::types::{self, Stale};

/// Identifies the encoding of a revision. Change it when the meaning of the values changes.
const FORM: &str = "tollgate-revision/1";

/// The reason why a chain cannot be built. `component` is the path as configured.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    #[error("cannot read component {component}: {source}")]
    Unreadable { component: String, source: io::Error },
    #[error("component {component}: {source}")]
    Load { component: String, source: Box<LoadError> },
    #[error("component {component} takes {takes}, but it receives {receives}")]
    Input { component: String, takes: String, receives: String },
    #[error("component {component} {source}")]
    Stale { component: String, source: Stale },
    #[error("component {component}: {key}: {problem}")]
    Route { component: String, key: String, problem: String },
    #[error("the chain emits {emitted}, but the output contract is {contract}: set output.contract")]
    Output { emitted: String, contract: String },
    #[error("type {name}: {source}")]
    OfType { name: String, source: Box<RevisionError> },
}

/// Loads, checks and compiles the components of every chain. `contracts` are the input and output contracts of each
/// type, under `envelope`. `number` counts the swaps.
pub fn revision<'c>(
    pipeline: &Pipeline,
    contracts: impl Iterator<Item = TypeContracts<'c>>,
    envelope: Option<&Envelope>,
    sandbox: &Sandbox,
    number: u64,
) -> Result<Revision, RevisionError> {
    let mut digest = CanonicalHash::new(FORM);
    digest.optional(envelope, |digest, envelope| digest.text(&envelope.contract_digest));
    digest.optional(pipeline.contract.envelope.as_ref(), add_envelope);
    digest.optional(pipeline.contract.debezium.as_ref(), add_debezium);
    digest.count(pipeline.types.len());
    let chains = pipeline.types.iter().zip(contracts).map(|(kind, held)| {
        digest.text(&kind.name);
        add_key_parts(&mut digest, &pipeline.key_parts(kind));
        digest.bytes(&held.input.digest());
        digest.bytes(&held.output.digest());
        digest.count(held.routes.len());
        held.routes.iter().for_each(|route| digest.bytes(&route.digest()));
        digest.count(kind.transforms.len());
        chain(pipeline, kind, held.output, sandbox, &mut digest).map_err(|error| match kind.name.as_str() {
            "" => error,
            name => RevisionError::OfType { name: name.to_owned(), source: Box::new(error) },
        })
    });
    let chains = chains.collect::<Result<Vec<_>, _>>()?;
    Ok(Revision { number, digest: hex::encode(digest.finish()), chains })
}

/// Builds the chain of a type; everything that affects its verdicts is added to the digest.
fn chain(
    pipeline: &Pipeline,
    kind: &tollgate_config::EventType,
    output: &Contract,
    sandbox: &Sandbox,
    digest: &mut CanonicalHash,
) -> Result<TypeChain, RevisionError> {
    let mut transforms = Vec::new();
    let mut infos = Vec::new();
    let mut message = kind.message.clone();
    let mut place = 0;
    for (index, spec) in kind.transforms.iter().enumerate() {
        let path = pipeline.resolve(&spec.component);
        let component = || pipeline.shown(&path).display().to_string();
        let bytes =
            std::fs::read(&path).map_err(|source| RevisionError::Unreadable { component: component(), source })?;
        let overrides = overrides(spec);
        let transform = sandbox
            .load(&bytes, &overrides)
            .map_err(|error| RevisionError::Load { component: component(), source: Box::new(error) })?;
        let manifest = transform.manifest();
        if manifest.input != message {
            let takes = manifest.input.clone();
            return Err(RevisionError::Input { component: component(), takes, receives: message });
        }
        message = manifest.output().to_owned();
        let notices = types::compare(&transform, output.message().parent_pool())
            .map_err(|source| RevisionError::Stale { component: component(), source })?;
        for notice in notices {
            tracing::warn!(component = component(), transform = manifest.name, "{notice}");
        }
        if let Some(Wrong { key, problem }) = wrong_routes(kind, index, manifest).into_iter().next() {
            return Err(RevisionError::Route { component: component(), key, problem });
        }
        digest.bytes(transform.revision_digest().as_bytes());
        infos.push(TransformInfo {
            event_type: kind.name.clone(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            component: pipeline.shown(&spec.component).display().to_string(),
            digest: transform.digest().to_string(),
            routes: places(spec, manifest, place),
        });
        place += spec.routes.len();
        transforms.push(transform);
    }
    if message != output.message().full_name() {
        let contract = output.message().full_name().to_owned();
        return Err(RevisionError::Output { emitted: message, contract });
    }
    Ok(TypeChain { chain: Chain::new(transforms), transforms: infos })
}

/// Returns the pipeline's settings for a transform.
pub fn overrides(spec: &tollgate_config::Transform) -> Overrides {
    let (config, compile_time) = (spec.config.clone(), spec.ceiling.compile_time);
    let wide = |bytes: Option<usize>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
    let tollgate_config::Ceiling { fuel, memory, deadline, output, max_outputs, .. } = spec.ceiling;
    let (memory, output_bytes) = (wide(memory), wide(output));
    let ceiling = LimitsSpec { fuel, memory, deadline, output_bytes, max_outputs, ..LimitsSpec::default() };
    Overrides { ceiling, config, compile_time }
}

/// Adds the names of the envelope's fields, and how keys are built.
fn add_envelope(hash: &mut CanonicalHash, spec: &EnvelopeSpec) {
    let EnvelopeSpec { message, kind, payload, version, headers, idempotency_key } = spec;
    hash.text(message);
    hash.optional(kind.as_deref(), CanonicalHash::text);
    hash.text(payload);
    hash.optional(version.as_deref(), CanonicalHash::text);
    add_pairs(hash, headers);
    hash.optional(idempotency_key.as_ref(), |hash, key| {
        hash.text(&key.field);
        add_key_parts(hash, &key.of);
        hash.text(&key.separator);
    });
}

fn add_debezium(hash: &mut CanonicalHash, spec: &Debezium) {
    let Debezium { message, kind, headers, truncates, messages } = spec;
    hash.optional(message.as_deref(), CanonicalHash::text);
    hash.optional(kind.as_deref(), CanonicalHash::text);
    hash.optional(headers.as_deref(), add_pairs);
    for without_row in [truncates, messages] {
        hash.text(match without_row {
            WithoutRow::DeadLetter => "dead_letter",
            WithoutRow::Drop => "drop",
        });
    }
}

fn add_pairs(hash: &mut CanonicalHash, pairs: &[(String, String)]) {
    hash.count(pairs.len());
    for (one, other) in pairs {
        hash.text(one);
        hash.text(other);
    }
}

fn add_key_parts(hash: &mut CanonicalHash, parts: &[KeyPart]) {
    hash.count(parts.len());
    for part in parts {
        let (kind, text) = match part {
            KeyPart::Envelope(path) => ("envelope", path.as_str()),
            KeyPart::Payload(path) => ("payload", path.as_str()),
            KeyPart::Key => ("record.key", ""),
            KeyPart::Header(name) => ("header", name.as_str()),
            KeyPart::Text(text) => ("text", text.as_str()),
        };
        hash.text(kind);
        hash.text(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dead letters, rows and outputs carry revisions' digests, and operators compare them between processes and
    /// releases.
    #[test]
    fn the_encoding_of_a_revision_is_the_same_in_every_build() {
        let key = tollgate_config::IdempotencyKey {
            field: "event_id".to_owned(),
            of: vec![KeyPart::Envelope("source".to_owned()), KeyPart::Payload("id".to_owned()), KeyPart::Key],
            separator: ":".to_owned(),
        };
        let spec = EnvelopeSpec {
            message: "tollgate.envelope.v1.DomainEvent".to_owned(),
            kind: Some("event_type".to_owned()),
            payload: "data".to_owned(),
            version: None,
            headers: vec![("event-id".to_owned(), "event_id".to_owned())],
            idempotency_key: Some(key),
        };
        let mut hash = CanonicalHash::new(FORM);
        add_envelope(&mut hash, &spec);
        add_debezium(&mut hash, &Debezium::usual(true));
        assert_eq!(hex::encode(hash.finish()), "e5864640bfbed53ff4e4ef12f9bd70e9b57bee4490ec6fa849492a90fdb559a9");
    }
}
