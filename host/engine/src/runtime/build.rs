//! Builds everything that the threads need from a checked configuration. It may connect but spawns nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost_reflect::MessageDescriptor;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer as _;
use sqlx::postgres::PgConnection;
use tollgate_contract::{CompileSchema, Contract, Policies};
use tollgate_sandbox::{Sandbox, Settings};

pub use super::revision::{RevisionError, overrides, revision};
use super::{Parts, Waiting};
use crate::kafka::client;
use crate::kafka::look::{self, Quiet, ReadOnlyConsumer};
use crate::progress::{Writer, schema};
use crate::sinks::kafka::Sizes;
use crate::sinks::postgres::connect;
use crate::sinks::postgres::table;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_config::{Backoff, Pipeline, Pools, Schema, TableName};
use tollgate_decide::contracts::{Contracts, Outgoing, changes, contracts, envelope, header_names};
use tollgate_decide::gate::envelope::Envelope;
use tollgate_decide::gate::{Destination, EventType, Gate, Target};
use tollgate_decide::postgres::Table;
use tollgate_decide::postgres::table::UnfitTable;
use tollgate_decide::schemas::Framing;
use tollgate_registry::SchemaStore;

/// The compiler of `.proto` files and schemas, which the program provides: the engine has none of its own.
#[derive(Debug, Clone, Copy)]
pub struct ProtoCompiler {
    /// Compiles the message types that a pipeline names. Reads files.
    pub pools: fn(&Pipeline) -> Result<Pools, Failure>,
    /// Compiles a registry's schema.
    pub schema: CompileSchema,
}

/// Creates the schema store of a framed topic. It makes no request yet. `compile` compiles its schemas.
fn schemas(pipeline: &Pipeline, compile: CompileSchema) -> Result<Option<Arc<SchemaStore>>, Failure> {
    let Some(registry) = &pipeline.contract.registry else { return Ok(None) };
    let mut config = tollgate_config::registry::Config::new(registry.urls.clone());
    config.auth = registry.auth.clone();
    config.tls = registry.tls.clone();
    config.cache_dir = registry.cache.clone();
    if let Schema::Protos(paths) = &pipeline.contract.schema {
        let folders = paths.iter().map(|path| pipeline.resolve(path)).filter(|path| path.is_dir());
        config.import_roots = folders.collect();
    }
    let schemas = SchemaStore::new(config, compile)
        .map_err(|fault| Failure::configuration("contract.registry", format!("contract.registry: {fault}")))?;
    Ok(Some(Arc::new(schemas)))
}

/// Returns how the values of a framed topic name their schemas.
fn framing(pipeline: &Pipeline) -> Option<Framing> {
    let indexes = pipeline.contract.registry.as_ref()?.indexes;
    // A frame names the outermost message. Compiled with the policies of its own contract, an identical schema has the
    // same digest.
    let policies = match pipeline.contract.envelope {
        Some(_) => Envelope::policies(pipeline),
        None => pipeline.contract.policies.clone(),
    };
    let compile = move |message: &MessageDescriptor| {
        let compile = |policies: Policies| Contract::compile(message.parent_pool(), message.full_name(), policies, &[]);
        // Another version of the types may lack the fields and enums that the policies name.
        compile(policies.clone()).or_else(|_| compile(policies.foreign()))
    };
    Some(Framing { indexes, compile: Arc::new(compile) })
}

/// Creates the engine that runs the transforms.
pub fn sandbox(pipeline: &Pipeline) -> Result<Sandbox, Failure> {
    // A lane runs one chain at a time, but a pool slot remembers its component: provide one for each transform of every
    // chain.
    let transforms = pipeline.transforms().count().max(1);
    let settings = Settings { lanes: pipeline.lanes, transforms, ..Settings::default() };
    Sandbox::new(settings).map_err(|error| Failure::environment("sandbox.engine", error))
}

/// Returns every topic of a pipeline with its purpose.
pub fn topics(pipeline: &Pipeline) -> Vec<(String, &'static str)> {
    let mut topics = vec![
        (pipeline.source.topic.clone(), "source.topic"),
        (pipeline.dead_letter.topic.clone(), "dead_letter.topic"),
    ];
    let (routes, ends): (Vec<_>, Vec<_>) = pipeline.destinations().partition(|to| to.route.is_some());
    for (destinations, what) in [(ends, "output.topic"), (routes, "a transform's route")] {
        topics.extend(destinations.iter().filter_map(|to| Some((to.topic()?.to_owned(), what))));
    }
    // Types may share topics.
    let mut known = BTreeSet::new();
    topics.retain(|topic| known.insert(topic.clone()));
    topics
}

/// Returns the topics' names without duplicates.
pub fn topic_names(pipeline: &Pipeline) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (topic, _) in topics(pipeline) {
        if !names.contains(&topic) {
            names.push(topic);
        }
    }
    names
}

/// The reason why a wait for the servers failed.
#[derive(Debug)]
pub enum Unreachable {
    /// The server was not reachable in time.
    Away(String),
    /// The server was reachable, but it rejected our credentials.
    Refused(String),
}

impl From<Unreachable> for Failure {
    fn from(unreachable: Unreachable) -> Failure {
        match unreachable {
            Unreachable::Away(message) => Failure::environment("environment.unreachable", message),
            Unreachable::Refused(message) => Failure::configuration("environment.refused", message),
        }
    }
}

/// Returns the timeout of one request: the time that is left, but at least enough for an answer.
fn patience(until: Instant, most: Duration) -> Duration {
    until.saturating_duration_since(Instant::now()).clamp(limits::KEEPER_CALL, most)
}

/// Connects to PostgreSQL, retrying until the deadline and logging each failure.
pub async fn postgres(pipeline: &Pipeline, until: Instant) -> Result<PgConnection, Unreachable> {
    let mut backoff = Backoff::new(&pipeline.retry);
    loop {
        let patience = patience(until, limits::KAFKA_CALL);
        let tried = tokio::time::timeout(patience, connect::hold(pipeline, "start")).await;
        let error = match tried {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if connect::refuses(&error) => {
                return Err(Unreachable::Refused(format!(
                    "PostgreSQL rejected the connection: {}",
                    connect::describe(&error)
                )));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:.1} s", patience.as_secs_f64()),
        };
        let at = pipeline.postgres.url.masked_url();
        if Instant::now() >= until {
            return Err(Unreachable::Away(format!("PostgreSQL at {at} cannot be reached: {error}")));
        }
        tracing::warn!(error, "PostgreSQL is not available yet, retrying");
        tokio::time::sleep(backoff.next_wait().min(until.saturating_duration_since(Instant::now()))).await;
    }
}

/// Queries Kafka for the topics, retrying until the deadline. Returns the partition count of each existing topic.
pub fn kafka(pipeline: &Pipeline, until: Instant) -> Result<BTreeMap<String, usize>, Unreachable> {
    let client: ReadOnlyConsumer = look::config(pipeline).create_with_context(Quiet::default()).map_err(|error| {
        Unreachable::Refused(format!("cannot create the Kafka client: {}", client::explain(&error)))
    })?;
    let at = &pipeline.source.brokers;
    let mut backoff = Backoff::new(&pipeline.retry);
    loop {
        let error = match client.fetch_metadata(None, patience(until, limits::START_ASK)) {
            Ok(metadata) => {
                let known = metadata.topics().iter().filter(|topic| topic.error().is_none());
                return Ok(known.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect());
            }
            Err(error) => look::call_error(&client, &error),
        };
        if error.refused.is_some() {
            return Err(Unreachable::Refused(format!("Kafka at {at} rejected this client: {}", error.why)));
        }
        if Instant::now() >= until {
            return Err(Unreachable::Away(format!("Kafka at {at} cannot be reached: {}", error.why)));
        }
        tracing::warn!(error = error.why, "Kafka is not available yet, retrying");
        std::thread::sleep(backoff.next_wait().min(until.saturating_duration_since(Instant::now())));
    }
}

pub fn admin(pipeline: &Pipeline) -> Result<AdminClient<DefaultClientContext>, Unreachable> {
    client::base(&pipeline.source)
        .create()
        .map_err(|error| Unreachable::Refused(format!("cannot create the Kafka client: {}", client::explain(&error))))
}

/// The settings of the topics to which records are produced.
#[derive(Debug, Default)]
pub struct Targets {
    /// `max.message.bytes`.
    pub bytes: BTreeMap<String, usize>,
    /// The topics with `compact` in their `cleanup.policy`.
    pub compacted: BTreeSet<String>,
    /// The id of the cluster.
    pub cluster: Option<String>,
}

/// Queries Kafka for the settings. Settings that it does not report (the embedded broker, a missing permission) get
/// Kafka's defaults.
pub async fn targets(pipeline: &Pipeline) -> Result<Targets, Unreachable> {
    let client = admin(pipeline)?;
    let produced: Vec<String> = topic_names(pipeline).into_iter().skip(1).collect();
    let resources: Vec<_> = produced.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(limits::KAFKA_CALL));
    let described = client.describe_configs(resources.iter(), &options).await.unwrap_or_default();
    let mut described = described.into_iter();
    // The call blocks, and some commands have a single-threaded runtime.
    let cluster =
        tokio::task::spawn_blocking(move || client.inner().fetch_cluster_id(limits::KAFKA_CALL)).await.ok().flatten();
    let mut targets = Targets { cluster, ..Targets::default() };
    for topic in produced {
        let config = described.next().and_then(Result::ok);
        let setting = |name| config.as_ref().and_then(|config| config.get(name)?.value.as_deref());
        let most = setting("max.message.bytes").and_then(|bytes| bytes.parse().ok());
        if setting("cleanup.policy").is_some_and(|policy| policy.split(',').any(|word| word.trim() == "compact")) {
            targets.compacted.insert(topic.clone());
        }
        targets.bytes.insert(topic, most.unwrap_or(DEFAULT_MESSAGE_BYTES));
    }
    Ok(targets)
}

/// Returns an error if the dead letter topic is compacted. Compaction keeps one record per key, so a later dead letter
/// would replace an earlier one with the same key.
pub fn compacted_letters(pipeline: &Pipeline, targets: &Targets) -> Option<String> {
    let topic = &pipeline.dead_letter.topic;
    targets.compacted.contains(topic).then(|| {
        format!(
            "topic {topic} (dead_letter.topic) is compacted: it would lose dead letters, and rejects those without a key; set \
             its cleanup.policy to delete"
        )
    })
}

/// Kafka's default for `max.message.bytes`.
const DEFAULT_MESSAGE_BYTES: usize = 1_048_588;

/// Returns what the producers may send: librdkafka counts a record's own overhead too.
pub fn sizes(topic_bytes: &BTreeMap<String, usize>) -> Sizes {
    let most = topic_bytes.values().copied().max().unwrap_or(DEFAULT_MESSAGE_BYTES);
    let least = topic_bytes.values().copied().min().unwrap_or(DEFAULT_MESSAGE_BYTES);
    // librdkafka's own limits for the two settings.
    Sizes { message: most.clamp(1_000, 1_000_000_000), batch: least.clamp(1_000, 1_000_000) }
}

/// Builds everything for a run. All missing topics and tables are reported at once.
pub async fn build(pipeline: Arc<Pipeline>, compiler: ProtoCompiler, waiting: &Waiting) -> Result<Parts, Failure> {
    waiting.waits_for("the components to be compiled");
    let pools = (compiler.pools)(&pipeline)?;
    let contracts = contracts(&pipeline, &pools)?;
    let (envelope, changes) = (envelope(&pipeline, &pools)?, changes(&pipeline, &pools)?);
    let (schemas, framing) = (schemas(&pipeline, compiler.schema)?, framing(&pipeline));
    let sandbox = sandbox(&pipeline)?;
    let revision = revision(&pipeline, contracts.iter().map(Contracts::of_revision), envelope.as_ref(), &sandbox, 0)
        .map_err(|error| Failure::configuration("transform.refused", error))?;
    waiting.waits_for(format!("PostgreSQL at {}", pipeline.postgres.url.masked_url()));
    let mut connection = postgres(&pipeline, waiting.until()).await?;
    waiting.waits_for(format!("Kafka at {}", pipeline.source.brokers));
    let existing = tokio::task::block_in_place(|| kafka(&pipeline, waiting.until()))?;
    let mut problems = missing_topics(&pipeline, &existing);
    problems.extend(too_few_partitions(&pipeline, &existing));
    waiting.waits_for("Kafka to describe the topics' settings");
    let targets = targets(&pipeline).await?;
    let mappings = pipeline.destinations().filter_map(|to| to.mapping());
    let tables: Vec<String> = mappings.map(|mapping| mapping.table.to_string()).collect();
    waiting.waits_for(format!("PostgreSQL to describe its tables, including {}", tables.join(", ")));
    problems.extend(compacted_letters(&pipeline, &targets));
    problems.extend(missing_schema(&mut connection).await.map_err(database)?);
    let mut checked = Vec::new();
    for (to, outgoing) in pipeline.destinations().zip(contracts.iter().flat_map(Contracts::outgoing)) {
        let Some(mapping) = to.mapping() else {
            checked.push(None);
            continue;
        };
        match table::check(&mut connection, mapping, &outgoing.contract).await {
            Ok(table) => checked.push(Some(table)),
            Err(table::Error::Unfit(UnfitTable(reasons))) => problems.extend(reasons),
            Err(table::Error::Postgres(error)) => return Err(database(error)),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::configuration("environment.incomplete", problems.join("\n")));
    }
    let Targets { bytes: topic_bytes, compacted, cluster } = targets;
    let writer = Writer::new(&pipeline.name, cluster.as_deref());
    let sizes = sizes(&topic_bytes);
    let (types, tables) = with_tables(&pipeline, contracts, checked, &compacted);
    let header_names = header_names(envelope.as_ref(), changes.as_ref());
    let gate = Gate { pipeline, types, tables, framing, envelope, changes, header_names, topic_bytes, compacted };
    Ok(Parts::new(gate, schemas, revision, sandbox, compiler, writer, sizes))
}

/// Returns the types with their tables, and each table once. `tables` has the table of each destination, type by type.
pub fn with_tables<'p>(
    pipeline: &'p Pipeline,
    contracts: Vec<Contracts>,
    tables: Vec<Option<Table>>,
    compacted: &BTreeSet<String>,
) -> (Vec<EventType>, Vec<Arc<Table>>) {
    let mut first: Vec<(&'p TableName, Arc<Table>)> = Vec::new();
    let mut tables = tables.into_iter();
    let mut destination = |to: tollgate_config::Destination<'p>, Outgoing { contract, key }: Outgoing| {
        let table = tables.next().flatten().map(Arc::new);
        let table = to.mapping().zip(table).map(|(mapping, table)| {
            let rows = first.iter().position(|(name, _)| **name == mapping.table).unwrap_or_else(|| {
                first.push((&mapping.table, Arc::clone(&table)));
                first.len() - 1
            });
            Target { table, rows }
        });
        let (route, topic) = (to.route.map(|(_, route)| route.name.clone()), to.topic().map(str::to_owned));
        Destination { route, contract, key, topic, partition: to.partition(), table }
    };
    let types = pipeline.types.iter().zip(contracts).map(|(kind, Contracts { input, id, output, routes })| {
        let output = destination(kind.end(), output);
        EventType {
            contract_digest: hex::encode(input.digest()),
            // An idempotency key's fields are slots of the input contract.
            stages: input.message() == output.contract.message() && compacted.is_empty() && input.fields().is_empty(),
            contract: input,
            output,
            id,
            routes: kind.routes().zip(routes).map(|(to, outgoing)| destination(to, outgoing)).collect(),
        }
    });
    let types = types.collect();
    (types, first.into_iter().map(|(_, table)| table).collect())
}

fn database(error: sqlx::Error) -> Failure {
    Failure::environment("environment.postgres", format!("PostgreSQL: {}", connect::describe(&error)))
}

pub fn missing_topics(pipeline: &Pipeline, existing: &BTreeMap<String, usize>) -> Vec<String> {
    let missing = topics(pipeline).into_iter().filter(|(topic, _)| !existing.contains_key(topic));
    missing.map(|(topic, key)| format!("topic {topic} ({key}) does not exist: `tollgate setup` creates it")).collect()
}

/// Checks `partition: same`, which needs a partition for each of the source's.
pub fn too_few_partitions(pipeline: &Pipeline, existing: &BTreeMap<String, usize>) -> Option<String> {
    let source = existing.get(&pipeline.source.topic)?;
    let same = pipeline.destinations().filter(|to| to.partition() == tollgate_config::OutputPartition::Same);
    let few = |topic: &str| existing.get(topic).copied().filter(|target| target < source);
    let mut short = same.filter_map(|to| Some((to.topic()?, few(to.topic()?)?)));
    short.next().map(|(topic, target)| {
        format!(
            "topic {topic} has {target} partitions, the source has {source}: `partition: same` needs at least as many"
        )
    })
}

/// Returns what the database lacks of Tollgate's own tables in this release.
pub async fn missing_schema(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let there: bool = sqlx::query_scalar("SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest($1::text[]) name")
        .bind(schema::TABLES)
        .fetch_one(&mut *connection)
        .await?;
    let (tables, columns): (Vec<&str>, Vec<&str>) = schema::COLUMNS.iter().copied().unzip();
    let complete: bool = sqlx::query_scalar(
        "SELECT bool_and(EXISTS (SELECT FROM pg_attribute
             WHERE attrelid = to_regclass(c.relation) AND attname = c.name AND NOT attisdropped))
         FROM unnest($1::text[], $2::text[]) c(relation, name)",
    )
    .bind(tables)
    .bind(columns)
    .fetch_one(connection)
    .await?;
    Ok(if there && complete {
        Vec::new()
    } else {
        vec!["some or all of Tollgate's own tables are missing: `tollgate setup` creates them".into()]
    })
}
