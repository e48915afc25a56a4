//! The consumer's callbacks. They record what happened and return: no I/O, no held locks, no decisions.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;
use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use crate::classes::{self, Meaning};
use crate::kafka::words;
use crate::position::Partition;
use tollgate_config::limits;

/// The group's decision. The poll thread must answer each with an (un)assign call; until then librdkafka delivers
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    Assign(Vec<Partition>),
    /// The partitions are revoked. If `lost`, other members may own them already, so nothing may be committed any more.
    Revoke {
        partitions: Vec<Partition>,
        lost: bool,
    },
}

/// The consumer's context: it passes events out of the callbacks.
pub struct Callbacks {
    events: Sender<Rebalance>,
    /// Set while the consumer closes. Nothing polls the events then, so the callback releases partitions by itself.
    closing: AtomicBool,
    /// Whether any broker is reachable, as last reported by librdkafka.
    connected: AtomicBool,
    /// Whether the broker owes the member a response, according to librdkafka's last statistics. `None` before the
    /// first.
    owed: Mutex<Option<bool>>,
}

/// The parts of librdkafka's statistics that are read.
#[derive(serde::Deserialize)]
struct Statistics {
    cgrp: Option<Group>,
}

#[derive(serde::Deserialize)]
struct Group {
    join_state: String,
}

impl Callbacks {
    pub fn new(events: Sender<Rebalance>) -> Callbacks {
        let (closing, connected) = (AtomicBool::new(false), AtomicBool::new(true));
        Callbacks { events, closing, connected, owed: Mutex::default() }
    }

    /// Makes the callback answer rebalances by itself from now on. Newly assigned partitions are not accepted.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Returns whether the broker owes this member the response to a JoinGroup or SyncGroup request. Known only some
    /// time after [`Callbacks::close`].
    pub fn owed(&self) -> Option<bool> {
        self.owed.lock().map_or(Some(false), |owed| *owed)
    }

    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Records that a broker sent something.
    pub fn answered(&self) {
        self.connected.store(true, Ordering::Release);
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        words::log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        // Only the shutdown needs them, and parsing is expensive.
        if !self.closing.load(Ordering::Acquire) {
            return;
        }
        let group = serde_json::from_slice::<Statistics>(statistics).ok().and_then(|statistics| statistics.cgrp);
        let owed = group.is_some_and(|group| ["wait-join", "wait-sync"].contains(&group.join_state.as_str()));
        if let Ok(mut known) = self.owed.lock() {
            *known = Some(owed);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // This is not an error: rdkafka reports it here as well as to the polling thread.
            Some(RDKafkaErrorCode::PartitionEOF) => return,
            Some(RDKafkaErrorCode::AllBrokersDown) => self.connected.store(false, Ordering::Release),
            _ => {}
        }
        // Each lost connection causes one; the keeper notices when no broker is left.
        if classes::kafka(&error) == Meaning::Outage {
            tracing::debug!(%error, reason, "kafka consumer");
        } else {
            tracing::warn!(%error, reason, "kafka consumer");
        }
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> =
            list.elements().iter().map(|element| Partition::new(element.partition())).collect();
        let assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let done = if assign {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                fetched(consumer, list).and_then(|list| consumer.incremental_unassign(&list))
            };
            if let Err(error) = done {
                tracing::debug!(%error, "rebalance while closing");
            }
            return;
        }
        let event = if assign {
            Rebalance::Assign(partitions)
        } else {
            Rebalance::Revoke { partitions, lost: consumer.assignment_lost() }
        };
        // The channel can hold more events than the group can have pending; the receiver lives as long as the consumer.
        if self.events.try_send(event).is_err() {
            tracing::error!("a rebalance could not be recorded; the group will revoke the partitions");
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(limits::MAIN_QUEUE_POLL)
    }
}

/// Returns those of the partitions that librdkafka fetches. It rejects an unassignment that names another, and closing
/// waits for one that it accepts: halted partitions are assigned by the group, but not fetched.
fn fetched(consumer: &BaseConsumer<Callbacks>, list: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    let assigned = consumer.assignment()?;
    let mut fetched = TopicPartitionList::new();
    for element in list.elements() {
        if assigned.find_partition(element.topic(), element.partition()).is_some() {
            fetched.add_partition(element.topic(), element.partition());
        }
    }
    Ok(fetched)
}
