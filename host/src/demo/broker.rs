//! The demo's Kafka.

use rdkafka::admin::{AdminOptions, GroupResult};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::files::Names;
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_engine::runtime::build;

/// The number of partitions of the embedded broker's topics, which is the default of `setup`.
const PARTITIONS: i32 = 4;
pub(super) enum Broker {
    /// The embedded broker, which lives as long as this value. It keeps 5 MB per partition and has no transactions.
    Embedded(MockCluster<'static, DefaultProducerContext>),
    /// The `host:port` of the user's broker.
    Real(String),
}

impl Broker {
    /// # Errors
    /// Fails if the embedded broker cannot listen.
    pub(super) fn embedded(names: &Names) -> Result<Broker, Failure> {
        let failed = |error| Failure::environment("demo.broker", format!("cannot start the embedded broker: {error}"));
        let cluster = MockCluster::new(1).map_err(failed)?;
        for topic in [&names.source, &names.output, &names.dead_letters] {
            cluster.create_topic(topic, PARTITIONS, 1).map_err(failed)?;
        }
        Ok(Broker::Embedded(cluster))
    }

    pub(super) fn address(&self) -> String {
        match self {
            Broker::Embedded(cluster) => cluster.bootstrap_servers(),
            Broker::Real(brokers) => brokers.clone(),
        }
    }

    pub(super) fn is_real(&self) -> bool {
        matches!(self, Broker::Real(_))
    }

    /// Deletes what the demo created on a real broker, and reports what could not be deleted.
    pub(super) async fn tidy(&self, pipeline: &Pipeline, names: &Names) {
        let Broker::Real(_) = self else { return };
        let options =
            AdminOptions::new().request_timeout(Some(limits::KAFKA_CALL)).operation_timeout(Some(limits::KAFKA_CALL));
        let topics = [names.source.as_str(), &names.output, &names.dead_letters];
        let done = async {
            let client = build::admin(pipeline).map_err(|error| Failure::from(error).message)?;
            let topics = client.delete_topics(&topics, &options).await.map_err(|error| error.to_string())?;
            let groups: Vec<GroupResult> = client
                .delete_groups(&[&pipeline.source.group_id], &options)
                .await
                .map_err(|error| error.to_string())?;
            let kept = topics.into_iter().chain(groups).filter_map(|result| result.err());
            let kept: Vec<String> = kept.map(|(name, code)| format!("{name}: {code}")).collect();
            if kept.is_empty() { Ok(()) } else { Err(kept.join(", ")) }
        };
        if let Err(why) = done.await {
            tracing::warn!(why, "cannot delete some of the demo's topics or its consumer group");
        }
    }
}
