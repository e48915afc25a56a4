//! The resources with which lanes process records: contracts, tables and topics, which are fixed, and the chains, which
//! a swap replaces.

pub mod change;
pub mod envelope;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollgate_contract::{Contract, Mode, Slot};
use tollgate_sandbox::{Chain, Output};

use self::change::Changes;
use self::envelope::Envelope;
use crate::postgres::table::Table;
use crate::schemas::{Framing, Resolver};
use tollgate_config::{OutputPartition, Pipeline};

/// The parts that do not change while the process runs: contracts, tables and topics.
pub struct Gate {
    pub pipeline: Arc<Pipeline>,
    /// The event types on the topic, in the configuration's order. There is at least one.
    pub types: Vec<EventType>,
    /// Each table once, as defined by the first type or route that writes it. Types that share a table share its
    /// statements and its rows. The order is that of the configuration, with a type's own table before those of its
    /// routes.
    pub tables: Vec<Arc<Table>>,
    /// How values name their schemas, if a schema registry's serializer frames them.
    pub framing: Option<Framing>,
    /// The envelope around the events.
    pub envelope: Option<Envelope>,
    /// The reader of change events, if the values are Debezium's.
    pub changes: Option<Changes>,
    /// The headers that an event takes from its envelope.
    pub header_names: Vec<String>,
    /// The maximum record size of each topic, in bytes.
    pub topic_bytes: BTreeMap<String, usize>,
    /// The compacted topics, which accept no record without a key.
    pub compacted: BTreeSet<String>,
}

/// An event type: its contract, and the destinations of its outputs.
pub struct EventType {
    pub contract: Contract,
    /// The contract's digest in hex.
    pub contract_digest: String,
    /// The destination at the end of the chain.
    pub output: Destination,
    /// The destinations of its transforms' routes, in the order of [`tollgate_config::EventType::routes`].
    pub routes: Vec<Destination>,
    /// The slot of the event's id in [`EventType::contract`], if `processed_ids` names a field.
    pub id: Option<Slot>,
    /// Whether an event's row can be written from the input, because the sinks use the same message type and do not
    /// depend on the output.
    pub stages: bool,
}

/// The destination of outputs: a topic, a table or both, with the contract that they must satisfy.
pub struct Destination {
    /// The route's name, or `None` at the chain's end.
    pub route: Option<String>,
    /// The contract that outputs are checked against. Its slots are the table's fields, then the key.
    pub contract: Contract,
    pub key: Vec<Slot>,
    pub topic: Option<String>,
    pub partition: OutputPartition,
    pub table: Option<Target>,
}

/// The table to which a destination writes its outputs as rows.
pub struct Target {
    pub table: Arc<Table>,
    /// The index in [`Gate::tables`].
    pub rows: usize,
}

impl EventType {
    /// Returns the destination of a chain's output, or `None` for a route that the transform does not have.
    pub fn destination(&self, chain: &TypeChain, output: &Output) -> Option<&Destination> {
        let Some(route) = output.route.checked_sub(1) else { return Some(&self.output) };
        let place = chain.transforms.get(output.transform)?.routes.get(usize::try_from(route).ok()?)?;
        self.routes.get(*place)
    }

    /// Iterates over the tables that the type's events may write, by their index in [`Gate::tables`].
    pub fn tables(&self) -> impl Iterator<Item = usize> {
        std::iter::once(&self.output).chain(&self.routes).filter_map(|to| to.table.as_ref().map(|target| target.rows))
    }

    /// Returns whether an output may carry warning headers.
    pub fn tells_notices(&self) -> bool {
        self.contract.policies().mode == Mode::Observe || self.contract.has_fallbacks()
    }
}

impl Gate {
    /// Creates a resolver from frames to contracts; `None` if values are not framed.
    pub(crate) fn resolver(&self) -> Option<Resolver> {
        let framing = self.framing.as_ref()?;
        // With several types a frame is not expected to have a certain message, unless it surrounds an envelope.
        let changes = self.changes.as_ref().and_then(|changes| changes.proto.as_ref());
        let expected = match (&self.envelope, self.types.as_slice()) {
            _ if changes.is_some() => changes.map(|proto| &proto.contract),
            (Some(envelope), _) => Some(&envelope.contract),
            (None, [only]) => Some(&only.contract),
            (None, _) => None,
        };
        let expected = expected.map(|contract| contract.message().full_name().to_owned());
        Some(Resolver::new(framing, expected))
    }

    /// Returns the full name and the digest of the contract that a dead letter of this type names. Without a type it is
    /// the envelope's.
    pub fn contract_of(&self, kind: Option<usize>) -> Option<(&str, &str)> {
        let own = kind.map(|kind| (&self.types[kind].contract, &self.types[kind].contract_digest));
        let outer = self.envelope.as_ref().map(|envelope| (&envelope.contract, &envelope.contract_digest));
        own.or(outer).map(|(contract, digest)| (contract.message().full_name(), digest.as_str()))
    }

    /// Returns a type's configuration.
    pub fn spec(&self, kind: usize) -> &tollgate_config::EventType {
        &self.pipeline.types[kind]
    }
}

/// The parts that a swap replaces.
pub struct Revision {
    /// The number of swaps in this process.
    pub number: u64,
    /// The digest in hex. It covers the contracts, the components, their limits and their configuration.
    pub digest: String,
    /// The chains, one for each type, in the gate's order.
    pub chains: Vec<TypeChain>,
}

impl Revision {
    /// Iterates over all transforms, type by type.
    pub fn transforms(&self) -> impl Iterator<Item = &TransformInfo> {
        self.chains.iter().flat_map(|chain| &chain.transforms)
    }
}

/// The chain of one type.
pub struct TypeChain {
    pub chain: Chain,
    pub transforms: Vec<TransformInfo>,
}

/// A transform, as shown to operators.
#[derive(Debug, Clone)]
pub struct TransformInfo {
    /// The type that uses it, if the topic has several types.
    pub event_type: String,
    pub name: String,
    pub version: String,
    pub component: String,
    pub digest: String,
    /// The index in [`EventType::routes`] of each route, in the component's order.
    pub routes: Vec<usize>,
}

/// The contracts of a type that identify a revision.
pub struct TypeContracts<'c> {
    pub input: &'c Contract,
    /// The contract at the chain's end.
    pub output: &'c Contract,
    pub routes: Vec<&'c Contract>,
}

impl EventType {
    /// Returns the contracts that identify the type's revisions.
    pub fn of_revision(&self) -> TypeContracts<'_> {
        let routes = self.routes.iter().map(|route| &route.contract).collect();
        TypeContracts { input: &self.contract, output: &self.output.contract, routes }
    }
}

impl TypeContracts<'_> {
    /// Returns whether the contracts are the same.
    pub fn same(&self, other: &TypeContracts<'_>) -> bool {
        let digests = |held: &TypeContracts<'_>| -> Vec<[u8; 32]> {
            [held.input, held.output].iter().chain(&held.routes).map(|contract| contract.digest()).collect()
        };
        digests(self) == digests(other)
    }
}
