//! The envelope of a pipeline, for wrapping its events.

use prost_reflect::DescriptorPool;
use tollgate_config::error::Failure;
use tollgate_config::{self as config, EventType, Pipeline, SHIPPED};
use tollgate_contract::Contract;
use tollgate_decide::gate::envelope::Envelope as Compiled;
use tollgate_producer::envelope::{Envelope, EnvelopeError, Fill, IdempotencyKey, KeyPart};

use super::Args;

/// The headers whose fields get a random id unless `--envelope` sets them.
const IDS: [&str; 2] = ["trace-id", "correlation-id"];
/// The headers whose fields get the current time unless `--envelope` sets them.
const TIMES: [&str; 2] = ["ingested-at", "event-time"];

/// Returns the envelope of events of the type `kind`. `spec` is the pipeline's envelope, with the pool that has its
/// message.
///
/// # Errors
/// Fails if the message type does not exist, or if nothing sets the key of a built-in envelope.
pub(super) fn of(
    args: &Args,
    pipeline: &Pipeline,
    kind: &EventType,
    (spec, pool): (&config::Envelope, &DescriptorPool),
) -> Result<Envelope, Failure> {
    let contract = Contract::compile(pool, &spec.message, Compiled::policies(pipeline), &[])
        .map_err(|error| Failure::configuration("contract.invalid", error))?;
    let mut fields = args.envelope.clone();
    let mut fill = |path: &str, with: Fill| {
        if !fields.iter().any(|(set, _)| set == path) {
            fields.push((path.to_owned(), with));
        }
    };
    if let Some(path) = &spec.kind {
        let name = if kind.name.is_empty() { &kind.message } else { &kind.name };
        fill(path, Fill::Text(name.clone()));
    }
    if let (Some(path), Some(version)) = (&spec.version, &args.schema_version) {
        fill(path, Fill::Text(version.clone()));
    }
    for (header, path) in &spec.headers {
        match header.as_str() {
            header if IDS.contains(&header) => fill(path, Fill::TraceId),
            header if TIMES.contains(&header) => fill(path, Fill::Now),
            _ => {}
        }
    }
    let key = spec.idempotency_key.as_ref().map(|key| IdempotencyKey {
        field: key.field.clone(),
        parts: pipeline.key_parts(kind).into_iter().map(part).collect(),
        separator: key.separator.clone(),
    });
    let built_in = SHIPPED.iter().find(|shipped| shipped.message == spec.message).map(|shipped| shipped.key);
    if let Some(field) = built_in.filter(|field| key.is_none() && !fields.iter().any(|(set, _)| set == field)) {
        let message = format!(
            "nothing sets the envelope's {field}: declare how it is computed (contract.envelope.idempotency_key), or set it with \
             --envelope {field}=payload.FIELD"
        );
        return Err(Failure::configuration("produce.envelope", message));
    }
    Ok(Envelope { contract, payload: spec.payload.clone(), fields, key })
}

fn part(part: config::KeyPart) -> KeyPart {
    match part {
        config::KeyPart::Envelope(path) => KeyPart::Envelope(path),
        config::KeyPart::Payload(path) => KeyPart::Payload(path),
        config::KeyPart::Key => KeyPart::RecordKey,
        config::KeyPart::Header(name) => KeyPart::Header(name),
        config::KeyPart::Text(text) => KeyPart::Text(text),
    }
}

/// Returns the failure of an envelope that cannot be filled, with the flag that fixes it.
pub(super) fn failure(error: &EnvelopeError) -> Failure {
    let advice = match error {
        EnvelopeError::UnsetPart { path } => format!(" (--envelope {path}=TEXT or {path}=payload.FIELD)"),
        EnvelopeError::ChangingPart { path } => format!(" (--envelope {path}=payload.FIELD)"),
        EnvelopeError::UnsetHeader { name } => format!(" (--header {name}=VALUE)"),
        EnvelopeError::NoRecordKey => " (--key FIELD)".to_owned(),
        EnvelopeError::NoField { .. }
        | EnvelopeError::Payload { .. }
        | EnvelopeError::Unfillable { .. }
        | EnvelopeError::Text { .. }
        | EnvelopeError::Event { .. }
        | EnvelopeError::Compile(_) => String::new(),
    };
    Failure::configuration("produce.envelope", format!("{error}{advice}"))
}
