//! `tollgate offsets adopt pipeline.yaml`: lets partitions continue that halt because the group's offset and the
//! progress row do not belong together.
//!
//! The row is written before the token. A crash between the two leaves an offset that does not belong to the row, so
//! the partition halts again and the command can be repeated. The other order could leave a token ahead of its row,
//! which would mean that PostgreSQL has lost commits.

mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use sqlx::postgres::PgConnection;
use tollgate_protocol::adoption::{self, Adoption, Facts, From, Refused};

use crate::cli::Success;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_config::{Pipeline, Start};
use tollgate_engine::kafka::client;
use tollgate_engine::kafka::look::{self, Quiet, ReadOnlyConsumer};
use tollgate_engine::position::{Epoch, Partition};
use tollgate_engine::progress::halts;
use tollgate_engine::progress::store::{self, Found, Owner};
use tollgate_engine::progress::{self, Group, Halt, Mark, Place, Takeover, Token, Writer};
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::postgres::connect;
use tollgate_engine::source::{authorised, start};

/// Lets halted partitions continue: sets the consumer group's offset and the progress row to the same position.
///
/// Without --yes, shows only what would be skipped or repeated. Partitions that can continue as they are stay
/// unchanged. Stop the pipeline first: no process of it and no other member of the group may be running.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Position to continue from: the group's committed offset, the progress rows, or source.start.
    #[arg(long, value_enum, default_value_t = Origin::Group)]
    pub from: Origin,
    /// Only these partitions, such as 3 or 0,3. Default: all partitions of the topic.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub partition: Vec<i32>,
    /// Write the new positions.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Origin {
    Group,
    Progress,
    Start,
}

impl Origin {
    fn means(self) -> From {
        match self {
            Origin::Group => From::Group,
            Origin::Progress => From::Progress,
            Origin::Start => From::Start,
        }
    }
}

/// A partition, its problem, and what is to be written.
struct Judged {
    partition: Partition,
    group: Option<Group>,
    row: Option<Found>,
    /// The pipeline's former name, if the offset belongs to a row of that name.
    renamed: Option<String>,
    halt: Option<Halt>,
    adoption: Result<Option<Adoption>, Refused>,
}

/// # Errors
/// Fails with exit code 2 for the configuration, 3 if a server does not answer, 1 if the pipeline is running or an
/// offset is refused.
pub(super) fn run(args: &Args) -> Result<Success, Failure> {
    let pipeline = Pipeline::load(&args.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    runtime.block_on(adopt(args, &pipeline))
}

async fn adopt(args: &Args, pipeline: &Pipeline) -> Result<Success, Failure> {
    let until = Instant::now() + limits::VERB_PATIENCE;
    let mut connection = build::postgres(pipeline, until).await?;
    let missing = build::missing_schema(&mut connection).await.map_err(postgres)?;
    if !missing.is_empty() {
        return Err(Failure::configuration("environment.incomplete", missing.join("\n")));
    }
    let topics = build::kafka(pipeline, until)?;
    let count = topics.get(&pipeline.source.topic).copied().unwrap_or_default();
    let partitions = chosen(args, pipeline, count)?;
    let consumer: ReadOnlyConsumer =
        look::config(pipeline).create_with_context(Quiet::default()).map_err(|error| kafka(&error))?;
    nobody_runs(pipeline, &mut connection, &consumer).await?;
    let cluster = consumer.client().fetch_cluster_id(limits::KAFKA_CALL);
    let topic = authorised::topic_id(consumer.client(), &pipeline.source.topic, limits::KAFKA_CALL);
    let here = Place { group: Some(pipeline.source.group_id.clone()), cluster: cluster.clone(), topic };
    let writer = Writer::new(&pipeline.name, cluster.as_deref());
    let mut verb = Verb { pipeline, from: args.from.means(), connection, consumer, here, writer };
    let judged = verb.judge(&partitions).await?;
    if let Some(refusal) = show::refusal(pipeline, &judged) {
        return Err(Failure::failed("offsets.refused", refusal));
    }
    if args.yes {
        verb.write(&judged).await?;
    }
    Ok(show::success(pipeline, &judged, args.yes))
}

fn chosen(args: &Args, pipeline: &Pipeline, count: usize) -> Result<Vec<Partition>, Failure> {
    let topic = &pipeline.source.topic;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    if let Some(unknown) = args.partition.iter().find(|partition| !(0..count).contains(partition)) {
        let message = format!("--partition: topic {topic} has no partition {unknown}; it has {count}");
        return Err(Failure::configuration("offsets.partition", message));
    }
    let mut partitions: Vec<Partition> = args.partition.iter().copied().map(Partition::new).collect();
    if partitions.is_empty() {
        partitions = (0..count).map(Partition::new).collect();
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// Returns an error if the pipeline is running: writes of a running member would be lost, or would undo the ones made
/// here.
async fn nobody_runs(
    pipeline: &Pipeline,
    connection: &mut PgConnection,
    consumer: &ReadOnlyConsumer,
) -> Result<(), Failure> {
    let name = &pipeline.name;
    let running = store::running(connection, name).await.map_err(postgres)?;
    if !running.is_empty() {
        let message = format!("{name} is running ({}): stop it first", running.join(", "));
        return Err(Failure::failed("offsets.running", message));
    }
    let group = &pipeline.source.group_id;
    let groups = consumer.fetch_group_list(Some(group), limits::KAFKA_CALL).map_err(|error| kafka(&error))?;
    let members: Vec<&str> = groups.groups().iter().flat_map(|group| group.members()).map(|m| m.client_id()).collect();
    if members.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the consumer group {group} has active members ({}): stop them first; Kafka removes a killed member after \
         source.session_timeout",
        members.join(", ")
    );
    Err(Failure::failed("offsets.group_active", message))
}

fn postgres(error: sqlx::Error) -> Failure {
    Failure::environment("environment.postgres", format!("PostgreSQL: {}", connect::describe(&error)))
}

fn kafka(error: &KafkaError) -> Failure {
    Failure::environment("environment.kafka", format!("Kafka: {error}"))
}

struct Verb<'p> {
    pipeline: &'p Pipeline,
    from: From,
    connection: PgConnection,
    consumer: ReadOnlyConsumer,
    here: Place,
    writer: Writer,
}

impl Verb<'_> {
    fn owner(&self, pipeline: &str) -> Owner {
        let topic = self.pipeline.source.topic.clone();
        Owner { pipeline: pipeline.to_owned(), topic, name: tollgate_engine::runtime::owner(self.pipeline).name }
    }

    async fn judge(&mut self, partitions: &[Partition]) -> Result<Vec<Judged>, Failure> {
        let source = &self.pipeline.source;
        let topic = &source.topic;
        let mut groups = client::committed(&self.consumer, topic, partitions.iter().copied(), limits::KAFKA_CALL)
            .map_err(|error| kafka(&error))?;
        let owner = self.owner(&self.pipeline.name);
        let mut rows = store::rows(&mut self.connection, &owner, partitions).await.map_err(postgres)?;
        let mut judged = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            let bounds =
                start::bounds(&self.consumer, source, partition, limits::KAFKA_CALL).map_err(|error| kafka(&error))?;
            let (group, mut row) = (groups.remove(&partition), rows.remove(&partition));
            let verdict = self.verdict(group.as_ref(), row.as_ref());
            let mut renamed = None;
            if let (None, Err(Halt::OtherPipeline { pipeline, .. })) = (&row, &verdict) {
                let owner = self.owner(pipeline);
                let theirs = store::rows(&mut self.connection, &owner, &[partition]).await.map_err(postgres)?;
                (row, renamed) = (theirs.into_values().next(), Some(pipeline.clone()));
            }
            let facts = Facts {
                group: group.as_ref(),
                row: row.as_ref().map(|found| found.row),
                first: bounds.first,
                end: bounds.end,
                start: bounds.start,
            };
            let adoption = adoption::adoption(facts, &verdict, self.from);
            judged.push(Judged { partition, group, row, renamed, halt: verdict.err(), adoption });
        }
        Ok(judged)
    }

    /// Returns the result of a takeover at this position.
    fn verdict(&self, group: Option<&Group>, row: Option<&Found>) -> Result<Takeover, Halt> {
        if let Some(found) = row {
            progress::same_place(&found.place, &self.here)?;
        }
        match group {
            Some(group) if row.is_none() && self.pipeline.source.start == Start::Committed => {
                progress::adopt(group, &self.writer)
            }
            group => progress::takeover(group, row.map(|found| found.row), &self.writer),
        }
    }

    async fn write(&mut self, judged: &[Judged]) -> Result<(), Failure> {
        let owner = self.owner(&self.pipeline.name);
        let mut epochs: BTreeMap<Partition, Epoch> =
            judged.iter().filter_map(|one| Some((one.partition, one.row.as_ref()?.epoch))).collect();
        for Judged { partition, adoption, .. } in judged {
            let Ok(Some(Adoption { row: Some(side), .. })) = adoption else { continue };
            let written = store::adopt(&mut self.connection, &owner, *partition, *side, &self.here);
            epochs.insert(*partition, written.await.map_err(postgres)?);
        }
        let mut list = TopicPartitionList::new();
        for Judged { partition, adoption, .. } in judged {
            let Ok(Some(Adoption { token: Some(side), .. })) = adoption else { continue };
            let epoch = epochs.get(partition).copied().unwrap_or(Epoch::NONE);
            let (hi, number) = (side.next, side.number);
            let token = Token { writer: self.writer.clone(), epoch, lo: hi, hi, number };
            let mut element = list.add_partition(&self.pipeline.source.topic, partition.get());
            element.set_offset(KafkaOffset::Offset(hi.get())).map_err(|error| kafka(&error))?;
            element.set_metadata(token.text());
        }
        if list.count() > 0 {
            // The broker rejects this while the group has members, so no member can have joined meanwhile.
            self.consumer.commit(&list, CommitMode::Sync).map_err(|error| {
                let why = format!("Kafka rejected the group's offsets: {error}");
                Failure::failed("offsets.commit", format!("{why}; the partitions still halt: try again"))
            })?;
        }
        let adopted = judged.iter().filter(|one| matches!(one.adoption, Ok(Some(_)))).map(|one| one.partition);
        let adopted: Vec<Partition> = adopted.collect();
        let ended = halts::end_halts(&mut self.connection, &owner.pipeline, &owner.topic, &adopted).await;
        ended.map(drop).map_err(postgres)
    }
}

impl Judged {
    /// Describes for people who committed the group's offset.
    fn written_by(&self) -> String {
        match self.group.as_ref().map(|group| &group.mark) {
            None => "none".to_owned(),
            Some(Mark::Token(token)) => format!("by the pipeline {}", token.writer.pipeline()),
            Some(Mark::Newer { format }) => format!("by a newer release ({format})"),
            Some(Mark::Foreign { shown }) if shown.is_empty() => "not by Tollgate".to_owned(),
            Some(Mark::Foreign { shown }) => format!("not by Tollgate: \"{shown}\""),
        }
    }
}
