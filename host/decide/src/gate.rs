//! What a lane holds records against: contracts, tables and topics, which stay, and the chains, which a swap changes.

pub mod change;
pub mod envelope;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollgate_contract::frame::Indexing;
use tollgate_contract::{Contract, Mode, Slot};
use tollgate_sandbox::{Chain, Output};

use self::change::Changes;
use self::envelope::Envelope;
use crate::postgres::table::Table;
use tollgate_config::{OutputPartition, Pipeline};
use tollgate_registry::{Compile, Resolver, SchemaStore};

/// What does not change while the process runs: contracts, tables, topics.
pub struct Gate {
    pub pipeline: Arc<Pipeline>,
    /// The kinds of event on the topic, in the configuration's order. At least one.
    pub types: Vec<EventType>,
    /// Each table, as the first type or route has it that writes it: those that share a table share its statements and its
    /// rows. In the configuration's order, a type's own before those of its routes.
    pub tables: Vec<Arc<Table>>,
    /// What the ids in frames mean, where values are frames.
    pub registry: Option<Registry>,
    /// What is wrapped round the events.
    pub envelope: Option<Envelope>,
    /// How change events are read, where the values are Debezium's.
    pub changes: Option<Changes>,
    /// Headers that an event takes from its envelope.
    pub header_names: Vec<String>,
    /// Bytes that each topic's records may have.
    pub topic_bytes: BTreeMap<String, usize>,
    /// Topics that Kafka compacts: they take no record without a key.
    pub compacted: BTreeSet<String>,
}

/// One kind of event: what it must look like, and where what becomes of it goes.
pub struct EventType {
    pub contract: Contract,
    /// Hex.
    pub contract_digest: String,
    /// Of what leaves the chain at its end.
    pub output: Destination,
    /// Of the routes of its transforms, in the order of [`tollgate_config::EventType::routes`].
    pub routes: Vec<Destination>,
    /// The event's id in [`EventType::contract`], where `processed_ids` names a field.
    pub id: Option<Slot>,
    /// An event's row can be written as it comes in: the sinks want the same message type, and nothing about the output
    /// has to be known first.
    pub stages: bool,
}

/// Where outputs go: into a topic, a table or both, and what they must look like.
pub struct Destination {
    /// The route's name; `None` at the chain's end.
    pub route: Option<String>,
    /// An output is checked against this; its slots are the table's fields, then the key.
    pub contract: Contract,
    pub key: Vec<Slot>,
    pub topic: Option<String>,
    pub partition: OutputPartition,
    pub table: Option<Target>,
}

/// The table that a destination's outputs are rows of.
pub struct Target {
    pub table: Arc<Table>,
    /// Index in [`Gate::tables`].
    pub rows: usize,
}

impl EventType {
    /// Where an output of its chain goes; `None` for a route that the transform does not have.
    pub fn destination(&self, chain: &TypeChain, output: &Output) -> Option<&Destination> {
        let Some(route) = output.route.checked_sub(1) else { return Some(&self.output) };
        let place = chain.transforms.get(output.transform)?.routes.get(usize::try_from(route).ok()?)?;
        self.routes.get(*place)
    }

    /// The tables that its events may write, by their index in [`Gate::tables`].
    pub fn tables(&self) -> impl Iterator<Item = usize> {
        std::iter::once(&self.output).chain(&self.routes).filter_map(|to| to.table.as_ref().map(|target| target.rows))
    }

    /// Whether an output may have headers that tell what was let pass.
    pub fn tells_notices(&self) -> bool {
        self.contract.policies().mode == Mode::Observe || self.contract.mends()
    }
}

/// The schemas of a framed topic.
pub struct Registry {
    pub schemas: Arc<SchemaStore>,
    pub indexes: Indexing,
    /// Makes contracts of the schemas' messages.
    pub compile: Arc<Compile>,
}

impl Gate {
    /// A lane's own way from a frame to its contract.
    pub fn resolver(&self) -> Option<Resolver> {
        let Registry { schemas, indexes, compile } = self.registry.as_ref()?;
        // With several types no frame is expected to be of a certain one, unless it is round an envelope.
        let changes = self.changes.as_ref().and_then(|changes| changes.proto.as_ref());
        let expected = match (&self.envelope, self.types.as_slice()) {
            _ if changes.is_some() => changes.map(|proto| &proto.contract),
            (Some(envelope), _) => Some(&envelope.contract),
            (None, [only]) => Some(&only.contract),
            (None, _) => None,
        };
        let expected = expected.map(|contract| contract.message().full_name().to_owned());
        Some(Resolver::new(Arc::clone(schemas), *indexes, expected, Arc::clone(compile)))
    }

    /// What a letter about a record of this type says of its contract: full name and digest. Without a type it is the
    /// envelope's.
    pub fn contract_of(&self, kind: Option<usize>) -> Option<(&str, &str)> {
        let own = kind.map(|kind| (&self.types[kind].contract, &self.types[kind].contract_digest));
        let outer = self.envelope.as_ref().map(|envelope| (&envelope.contract, &envelope.contract_digest));
        own.or(outer).map(|(contract, digest)| (contract.message().full_name(), digest.as_str()))
    }

    /// A type as the configuration has it.
    pub fn spec(&self, kind: usize) -> &tollgate_config::EventType {
        &self.pipeline.types[kind]
    }
}

/// What a swap changes.
pub struct Revision {
    /// Counts the swaps of this process.
    pub number: u64,
    /// Hex; covers the contracts, the components, their limits and their configuration.
    pub digest: String,
    /// A chain for each type, in the gate's order.
    pub chains: Vec<TypeChain>,
}

impl Revision {
    /// All transforms, type by type.
    pub fn transforms(&self) -> impl Iterator<Item = &TransformInfo> {
        self.chains.iter().flat_map(|chain| &chain.transforms)
    }
}

/// The chain of one type.
pub struct TypeChain {
    pub chain: Chain,
    pub transforms: Vec<TransformInfo>,
}

/// A transform as operators know it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TransformInfo {
    /// Whose chain it is in, where the topic holds several kinds of event.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub event_type: String,
    pub name: String,
    pub version: String,
    pub component: String,
    pub digest: String,
    /// Index in [`EventType::routes`] of each route, in the component's order.
    #[serde(skip)]
    pub routes: Vec<usize>,
}

/// The contracts of a type, by which a revision is known.
pub struct Held<'c> {
    pub input: &'c Contract,
    /// Of the chain's end.
    pub output: &'c Contract,
    pub routes: Vec<&'c Contract>,
}

impl EventType {
    /// The contracts that its revisions are known by.
    pub fn held(&self) -> Held<'_> {
        let routes = self.routes.iter().map(|route| &route.contract).collect();
        Held { input: &self.contract, output: &self.output.contract, routes }
    }
}

impl Held<'_> {
    /// Whether these are the same contracts.
    pub fn same(&self, other: &Held<'_>) -> bool {
        let digests = |held: &Held<'_>| -> Vec<[u8; 32]> {
            [held.input, held.output].iter().chain(&held.routes).map(|contract| contract.digest()).collect()
        };
        digests(self) == digests(other)
    }
}
