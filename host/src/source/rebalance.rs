//! The consumer's callbacks. They record what happened and return: no I/O, no locks held, no decisions.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;
use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use crate::position::Partition;

/// What the group decided. The poll thread must answer each with an (un)assign call; until then librdkafka delivers nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    Assign(Vec<Partition>),
    /// `lost`: others may own them already; nothing may be committed any more.
    Revoke {
        partitions: Vec<Partition>,
        lost: bool,
    },
}

/// The consumer's context: the way out of the callbacks.
pub struct Callbacks {
    events: Sender<Rebalance>,
    /// Set while the consumer closes: nobody polls the events then, so the callback lets go by itself.
    closing: AtomicBool,
    /// Whether any broker can be reached, as librdkafka last said.
    connected: AtomicBool,
}

impl Callbacks {
    pub fn new(events: Sender<Rebalance>) -> Callbacks {
        Callbacks { events, closing: AtomicBool::new(false), connected: AtomicBool::new(true) }
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Something was heard from a broker.
    pub fn heard(&self) {
        self.connected.store(true, Ordering::Release);
    }
}

impl ClientContext for Callbacks {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // No trouble: rdkafka tells it here, and to whoever polls.
            Some(RDKafkaErrorCode::PartitionEOF) => return,
            Some(RDKafkaErrorCode::AllBrokersDown) => self.connected.store(false, Ordering::Release),
            _ => {}
        }
        tracing::warn!(%error, reason, "kafka consumer");
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> = list.elements().iter().map(|element| Partition(element.partition())).collect();
        let assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let done = if assign {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.incremental_unassign(list)
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
        // The channel holds more events than the group can have open at once; the receiver lives as long as the consumer.
        if self.events.try_send(event).is_err() {
            tracing::error!("a rebalance could not be recorded; the group will take the partitions back");
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(std::time::Duration::from_millis(500))
    }
}
