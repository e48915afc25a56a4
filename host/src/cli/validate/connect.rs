//! The checks that need the servers. They find what is missing, does not fit or is not allowed. They change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::compiler;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tollgate_contract::Contract;
use tollgate_decide::contracts::Contracts;

use super::partitions;
use super::report::{Report, Severity};
use super::rights;
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Destination, Mapping, Mode, Pipeline};
use tollgate_decide::postgres::cell::PgColumn;
use tollgate_decide::postgres::quote;
use tollgate_decide::postgres::table::UnfitTable;
use tollgate_engine::kafka::look::{self, Quiet, ReadOnlyConsumer};
use tollgate_engine::runtime::build::{self, Unreachable};
use tollgate_engine::sinks::postgres::connect;
use tollgate_engine::sinks::postgres::table;
use tollgate_engine::source::authorised::{self, Operation};

/// The time limit of a query on a table, because verifying that a column has no NULL requires reading all of it.
const LOOK: &str = "SET LOCAL statement_timeout = 2000";

const KAFKA_AWAY: &str = "kafka.unreachable";
const POSTGRES_AWAY: &str = "postgres.unreachable";

/// Adds the findings about both servers. Each server is checked even if the other does not answer.
pub(super) async fn connected(pipeline: &Pipeline, report: &mut Report) {
    if check_kafka(pipeline, report)
        && let Ok(targets) = build::targets(pipeline).await
        && let Some(message) = build::compacted_letters(pipeline, &targets)
    {
        report.error(pipeline, "kafka.compacted", "dead_letter.topic", message);
    }
    check_postgres(pipeline, report).await;
}

/// Returns whether unreachable servers are the only errors.
pub(super) fn only_unreachable(report: &Report) -> bool {
    let mut errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error).peekable();
    errors.peek().is_some() && errors.all(|finding| [KAFKA_AWAY, POSTGRES_AWAY].contains(&finding.code))
}

/// Returns whether Kafka responded.
fn check_kafka(pipeline: &Pipeline, report: &mut Report) -> bool {
    // A consumer is used, because a producer's metadata request may create the topic. It reads no records. With
    // read_uncommitted it can fetch a group's offsets even while they are in an open transaction.
    let mut config = look::config(pipeline);
    let made: Result<ReadOnlyConsumer, KafkaError> =
        config.set("isolation.level", "read_uncommitted").create_with_context(Quiet::default());
    let consumer = match made {
        Ok(consumer) => consumer,
        Err(error) => {
            let message = format!("cannot create the Kafka client: {error}");
            report.error(pipeline, "kafka.setting", "source", message);
            return false;
        }
    };
    let Err(error) = ask_kafka(pipeline, &consumer, report) else { return true };
    let trouble = look::call_error(&consumer, &error);
    if trouble.refused.is_some() {
        let message = format!("Kafka refuses this client: {}", trouble.why);
        report.error(pipeline, "kafka.refused", "source.security", message);
    } else {
        let message = format!("Kafka at {} cannot be reached: {}", pipeline.source.brokers, trouble.why);
        report.error(pipeline, KAFKA_AWAY, "source.brokers", message);
    }
    false
}

fn ask_kafka(pipeline: &Pipeline, consumer: &ReadOnlyConsumer, report: &mut Report) -> Result<(), KafkaError> {
    let mut there = BTreeMap::new();
    // Two keys may name the same topic, and each needs different rights.
    for (topic, key) in build::topics(pipeline) {
        let key = place(key);
        let metadata = consumer.fetch_metadata(Some(&topic), limits::VALIDATE_CALL)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.and_then(|found| found.error()).map(RDKafkaErrorCode::from) {
            None if found.is_some() => {
                there.entry(topic).or_insert_with(Vec::new).push(key);
            }
            None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                let message = format!("topic {topic} does not exist: `tollgate setup` creates it");
                report.error(pipeline, "kafka.topic_missing", key, message);
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                let needed: Vec<String> = needs(key).iter().map(Operation::to_string).collect();
                let message = format!(
                    "topic {topic} is not visible to this client, if it exists: grant {}",
                    needed.join(" and ")
                );
                report.error(pipeline, "kafka.acl", key, message);
            }
            Some(code) => report.error(pipeline, "kafka.topic", key, format!("topic {topic}: {code}")),
        }
    }
    let restricted = check_topic_rights(pipeline, &there, report);
    check_group(pipeline, consumer, &there, report)?;
    if restricted && pipeline.delivery.mode == DeliveryMode::EffectivelyOnce {
        let message =
            format!("cannot check whether this client may use transactional ids that start with {}-", pipeline.name);
        let suggestion = "make sure that a prefixed ACL grants WRITE and DESCRIBE on them";
        report.warn(pipeline, "kafka.acl_unknown", "delivery.mode", &message, suggestion);
    }
    Ok(())
}

/// Returns the key's place in the file. For a route, [`build::topics`] returns a phrase instead of a key.
fn place(key: &'static str) -> &'static str {
    if key.contains('.') { key } else { "transforms" }
}

/// Returns the operations on a topic that a run needs.
fn needs(key: &str) -> Vec<Operation> {
    vec![if key == "source.topic" { Operation::Read } else { Operation::Write }, Operation::Describe]
}

/// Returns whether the broker restricts this client, as far as it reports that.
fn check_topic_rights(pipeline: &Pipeline, there: &BTreeMap<String, Vec<&'static str>>, report: &mut Report) -> bool {
    let topics: Vec<&str> = there.keys().map(String::as_str).collect();
    let told = build::admin(pipeline)
        .ok()
        .and_then(|client| authorised::topics(client.inner(), &topics, limits::VALIDATE_CALL).ok());
    let mut told: BTreeMap<String, Option<BTreeSet<Operation>>> =
        told.unwrap_or_default().into_iter().map(|topic| (topic.name, topic.allowed)).collect();
    let mut restricted = false;
    for (topic, keys) in there {
        // An old broker does not know this request, and the embedded broker does not answer it.
        let Some(allowed) = told.remove(topic).flatten() else {
            let message = format!("the broker does not report which operations on topic {topic} are allowed");
            let suggestion = "make sure that this client has READ on the source and WRITE on the other topics";
            report.warn(pipeline, "kafka.acl_unknown", keys[0], &message, suggestion);
            continue;
        };
        restricted |= !allowed.contains(&Operation::Alter);
        for key in keys {
            for operation in needs(key).into_iter().filter(|operation| !allowed.contains(operation)) {
                let message =
                    format!("this client lacks {operation} on topic {topic}: grant it to the client's principal");
                report.error(pipeline, "kafka.acl", key, message);
            }
        }
    }
    restricted
}

/// Checks the rights on the group by reading its offsets. That needs only DESCRIBE, which READ implies; READ itself
/// cannot be checked without joining the group.
fn check_group(
    pipeline: &Pipeline,
    consumer: &ReadOnlyConsumer,
    there: &BTreeMap<String, Vec<&'static str>>,
    report: &mut Report,
) -> Result<(), KafkaError> {
    let (topic, group) = (&pipeline.source.topic, &pipeline.source.group_id);
    if !there.contains_key(topic) {
        return Ok(());
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Invalid)?;
    let Err(error) = consumer.committed_offsets(list, limits::VALIDATE_CALL) else { return Ok(()) };
    // If the broker refuses, librdkafka keeps asking for the coordinator until the call times out.
    let trouble = look::call_error(consumer, &error);
    if trouble.refused == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
        let message = format!("this client lacks READ on group {group}: grant it to the client's principal");
        report.error(pipeline, "kafka.acl", "source.group_id", message);
    } else {
        let message = format!("the offsets of group {group} cannot be read: {}", trouble.why);
        report.error(pipeline, "kafka.group", "source.group_id", message);
    }
    Ok(())
}

async fn check_postgres(pipeline: &Pipeline, report: &mut Report) {
    let mut connection = match build::postgres(pipeline, Instant::now()).await {
        Ok(connection) => connection,
        Err(Unreachable::Away(message)) => return report.error(pipeline, POSTGRES_AWAY, "postgres.url", message),
        Err(Unreachable::Refused(message)) => {
            return report.error(pipeline, "postgres.refused", "postgres.url", message);
        }
    };
    if let Err(error) = ask_postgres(pipeline, &mut connection, report).await {
        let message = format!("PostgreSQL: {}", connect::describe(&error));
        report.error(pipeline, "postgres.refused", "postgres.url", message);
    }
}

async fn ask_postgres(
    pipeline: &Pipeline,
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    let read_only: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean")
            .fetch_one(&mut *connection)
            .await?;
    if read_only {
        let message = "this server is read-only: it is a standby, or default_transaction_read_only is on";
        report.error(pipeline, "postgres.read_only", "postgres.url", message);
    }
    check_age(pipeline, connection, report).await?;
    for problem in rights::own_tables(connection).await? {
        report.error(pipeline, problem.code, "postgres.url", problem.message);
    }
    // If the contracts do not compile, another finding reports that.
    let contracts = compiler::contracts(pipeline).unwrap_or_default();
    let mut outgoing = contracts.iter().flat_map(Contracts::outgoing);
    for to in pipeline.destinations() {
        let emitted = outgoing.next().map(|outgoing| &outgoing.contract);
        let Some(mapping) = to.mapping() else { continue };
        ask_table(pipeline, (to, mapping), emitted, connection, report).await?;
    }
    Ok(())
}

/// Warns if a session of Tollgate holds an old transaction, because PostgreSQL can then remove or freeze nothing
/// younger in the whole database. A lane renews its temporary table long before this limit. So the session belongs to a
/// member of an older release, or to one that hangs.
async fn check_age(pipeline: &Pipeline, connection: &mut PgConnection, report: &mut Report) -> Result<(), sqlx::Error> {
    let (tables, snapshots, most): (i64, i64, i64) = sqlx::query_as(
        r"SELECT
            (SELECT coalesce(max(age(relfrozenxid)), 0)::bigint FROM pg_class
             WHERE relname LIKE 'tollgate\_stage\_%' AND relpersistence = 't'),
            (SELECT coalesce(max(age(backend_xmin)), 0)::bigint FROM pg_stat_activity
             WHERE application_name LIKE 'tollgate %' AND datname = current_database()),
            least($1, current_setting('autovacuum_freeze_max_age')::bigint / 2)",
    )
    .bind(limits::STAGE_AGE * 2)
    .fetch_one(connection)
    .await?;
    let held = [(tables, "a temporary table"), (snapshots, "an open transaction")];
    for (age, what) in held.into_iter().filter(|(age, _)| *age > most) {
        let message = format!(
            "{what} of a Tollgate session is {age} transactions old: PostgreSQL can freeze nothing younger in this database"
        );
        let suggestion = "restart members of an older release, and stop a member that hangs; pg_stat_activity shows its \
                          sessions, application_name 'tollgate …'";
        report.warn(pipeline, "postgres.transaction_age", "postgres.url", &message, suggestion);
    }
    Ok(())
}

/// Checks the table of a destination against its mapping and the message type of its rows.
async fn ask_table(
    pipeline: &Pipeline,
    (to, mapping): (Destination<'_>, &Mapping),
    emitted: Option<&Contract>,
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    let (name, place) = (&mapping.table, to.place("postgres.table"));
    // A role that may not use the schema cannot see the table either.
    if let Some(problem) = rights::schema_of(connection, name).await? {
        report.error(pipeline, problem.code, &place, problem.message);
        return Ok(());
    }
    let Some(columns) = table::describe(connection, name).await? else {
        let message = format!(
            "table {name} does not exist: `tollgate setup` creates it, `tollgate setup --dry-run` shows what it would do"
        );
        report.error(pipeline, "postgres.table_missing", &place, message);
        return Ok(());
    };
    for problem in rights::target(connection, pipeline, mapping, &columns).await? {
        report.error(pipeline, problem.code, &place, problem.message);
    }
    check_sums(pipeline, (to, mapping), &columns, connection, report).await?;
    partitions::rights(pipeline, (to, mapping), connection, report).await?;
    let Some(emitted) = emitted else { return Ok(()) };
    match table::check(connection, mapping, emitted).await {
        Ok(_) => {}
        Err(table::Error::Unfit(UnfitTable(problems))) => {
            for problem in problems {
                report.error(pipeline, "postgres.table_unfit", &column_key(to, mapping, &problem), problem);
            }
        }
        Err(table::Error::Postgres(error)) => return Err(error),
    }
    Ok(())
}

/// Warns about `add` columns that contain NULL. An addition counts NULL as 0, but readers see NULL until then.
async fn check_sums(
    pipeline: &Pipeline,
    (to, mapping): (Destination<'_>, &Mapping),
    columns: &[PgColumn],
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    let name = quote::quoted_table(&mapping.table);
    for mapped in mapping.columns.iter().filter(|column| column.mode == Mode::Add) {
        let nullable = columns.iter().any(|column| column.name == mapped.name && !column.not_null);
        if !nullable {
            continue;
        }
        let quoted = quote::quote(&mapped.name);
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(LOOK).execute(&mut *transaction).await?;
        let statement = format!("SELECT EXISTS (SELECT 1 FROM {name} WHERE {quoted} IS NULL)");
        // On an error the check is skipped: a large table takes too long, and another finding reports a missing right.
        let found: bool =
            sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut *transaction).await.unwrap_or(false);
        transaction.rollback().await?;
        if found {
            let message =
                format!("some rows of {name} hold NULL; an addition counts that as 0, but readers see NULL until then");
            let suggestion = format!("UPDATE {name} SET {quoted} = 0 WHERE {quoted} IS NULL");
            let place = to.place(&format!("postgres.columns.{}", mapped.name));
            report.warn(pipeline, "postgres.null_sum", &place, &message, &suggestion);
        }
    }
    Ok(())
}

/// Returns the key of the column that a problem is about, to find its line in the file. The column's name is the
/// message's second word.
fn column_key(to: Destination<'_>, mapping: &Mapping, problem: &str) -> String {
    let named = problem.strip_prefix("column ").and_then(|rest| rest.split([' ', ':', ',']).next());
    let mapped = named.filter(|name| mapping.columns.iter().any(|column| column.name == **name));
    mapped.map_or_else(|| to.place("postgres.table"), |name| to.place(&format!("postgres.columns.{name}")))
}
