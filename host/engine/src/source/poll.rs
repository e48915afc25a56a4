//! The poll thread. It collects records into batches, hands batches to lanes, and completes rebalances.
//!
//! It is one loop. Each turn handles the other threads' messages, polls once, and hands over what is due.

mod assignment;
mod backpressure;
mod halted;
mod linger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use self::assignment::{Revoking, Unanswered};
use self::linger::Linger;
use super::rebalance::{Callbacks, Rebalance};
use super::takeover::{Answer, Request};
use crate::brakes::Brakes;
use crate::brakes::halt::Mark;
use crate::classes::{self, Meaning};
use crate::kafka::headers;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::position::{Epoch, NextOffset, Offset, Partition};
use crate::source::handoff::{LaneEvent, LaneSender};
use tollgate_config::Pipeline;
use tollgate_config::limits;
use tollgate_decide::batch::{Raw, RecordBatch};

/// The way in which the poll loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// A drain was requested, and the lanes have released their partitions.
    Drained,
    /// It cannot continue.
    Halted(String),
}

/// Messages from the other threads.
enum Event {
    Rebalance(Rebalance),
    Takeover(Answer),
    Lane(LaneEvent),
}

pub struct Poll {
    pub pipeline: Arc<Pipeline>,
    pub lifecycle: Arc<Lifecycle>,
    pub brakes: Arc<Brakes>,
    pub metrics: Arc<Metrics>,
    pub consumer: Arc<BaseConsumer<Callbacks>>,
    pub rebalances: Receiver<Rebalance>,
    pub takeovers: Sender<Request>,
    pub taken: Receiver<Answer>,
    pub lanes: Vec<LaneSender>,
    pub lane_events: Receiver<LaneEvent>,
    pub state: State,
}

/// The state of the poll thread.
#[derive(Default)]
pub struct State {
    tracked: BTreeMap<Partition, Tracked>,
    filling: Vec<Filling>,
    assignment: u64,
    /// CommitNumbers the ownerships, so that records fetched under an earlier one are recognized. Every takeover begins a new
    /// one.
    stamp: u64,
    /// The partitions that are assigned to us, but not read.
    halted: BTreeSet<Partition>,
    /// The known halts at the last check.
    halts: Option<Mark>,
    /// The partitions that librdkafka fetches, as we last set them.
    fetched: BTreeSet<Partition>,
    /// The group's decision that has not been answered yet.
    unanswered: Option<Unanswered>,
    revoking: Option<Revoking>,
    /// The partitions that are assigned, but not taken over yet.
    requested: BTreeSet<Partition>,
    /// The time since which the set above has not been empty.
    wanting: Option<Instant>,
    /// Whether a drain knows the ends that it waits for. Each partition's end must then be reached again.
    ending: bool,
    /// The time since which all batches together have exceeded the memory limit.
    brimful: Option<Instant>,
    /// The reason why the process cannot continue.
    fatal: Option<String>,
    /// The partitions that a drain has left because they are halted.
    left: Option<String>,
}

/// A partition of ours.
struct Tracked {
    /// The next offset to take.
    position: NextOffset,
    assignment: u64,
    epoch: Epoch,
    /// Whether a gap before the first record after an assign, a resume or a seek has been confirmed by a second fetch.
    confirmed: bool,
    /// Whether there is no record at the position or beyond, as last reported by librdkafka.
    exhausted: bool,
}

/// A lane's batch that is being filled.
#[derive(Default)]
struct Filling {
    batch: RecordBatch,
    since: Option<Instant>,
    linger: Linger,
    /// Whether the lane did not accept this batch in time. Its partitions are then paused until it does and the backlog
    /// has shrunk.
    stalled: bool,
}

/// Copies a message into a batch. librdkafka's own buffer is freed at once, so that its queue limits hold.
fn copy(message: &BorrowedMessage<'_>, assignment: u64, batch: &mut RecordBatch) {
    let raw = Raw {
        partition: Partition::new(message.partition()),
        offset: Offset::new(message.offset()),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key(),
        value: message.payload(),
    };
    batch.push(&raw, headers::of(message), assignment);
}

impl Poll {
    /// Runs until the process drains or must halt. The consumer and the channels are still open afterwards: the other
    /// threads end with the channels, and the reason why this one ended must be reported first.
    pub fn run(&mut self) -> Ended {
        let ended = self.run_on();
        self.answer();
        self.settle();
        ended
    }

    /// Waits for the group's answer to a join request, for at most half of `shutdown`. The broker serves the requests
    /// of a connection one by one: a LeaveGroup behind a JoinGroup that waits for other members would be lost with the
    /// connection, and the group would wait for this member until its session times out.
    fn settle(&self) {
        let until = Instant::now() + self.pipeline.shutdown / 2;
        let callbacks = self.consumer.context();
        callbacks.close();
        while callbacks.owed() != Some(false) && callbacks.connected() && Instant::now() < until {
            // Records that are delivered now no longer belong to any lane.
            drop(self.consumer.poll(limits::POLL_BUSY));
        }
    }

    fn run_on(&mut self) -> Ended {
        self.state.filling.resize_with(self.lanes.len(), Filling::default);
        let topic = self.pipeline.source.topic.clone();
        if let Err(error) = self.consumer.subscribe(&[&topic]) {
            return Ended::Halted(format!("cannot subscribe to {topic}: {error}"));
        }
        let mut drain_sent = false;
        loop {
            while let Some(event) = self.next_event() {
                self.handle(event);
            }
            self.follow_halts();
            if let Some(message) = self.state.fatal.take() {
                return Ended::Halted(message);
            }
            if self.lifecycle.ends().is_some()
                && let Some(reason) = self.brakes.paused()
            {
                return Ended::Halted(format!("the drain cannot finish because the pipeline is paused: {reason}"));
            }
            if !self.lifecycle.draining() && self.all_through() {
                self.state.left = self.halts_left();
                tracing::info!(halted = self.state.halted.len(), "all records that were in the topic are processed");
                self.lifecycle.drain();
            }
            if self.lifecycle.draining() {
                // A revocation in progress is completed first.
                if self.state.revoking.is_none() {
                    if drain_sent {
                        return self.state.left.take().map_or(Ended::Drained, Ended::Halted);
                    }
                    self.release_all();
                    drain_sent = true;
                }
            }
            self.poll_once(drain_sent);
            self.dispatch();
        }
    }

    /// Returns whether a drain is complete: everything fetched is committed, and nothing is left to fetch.
    fn all_through(&mut self) -> bool {
        let Some(ends) = self.lifecycle.ends() else { return false };
        if !self.state.ending {
            self.state.ending = true;
            // An end that was reached earlier may have been the beginning of an open transaction: reach it again.
            let positions: Vec<_> = self.state.tracked.iter().map(|(key, value)| (*key, value.position)).collect();
            positions.into_iter().for_each(|(partition, position)| self.seek(partition, position));
            return false;
        }
        let state = &self.state;
        let at_rest = state.requested.is_empty()
            && state.revoking.is_none()
            && state.filling.iter().all(|filling| filling.batch.is_empty() && !filling.stalled)
            && self.lanes.iter().all(LaneSender::idle)
            // The order matters: a lane reports that it was fenced before it is idle.
            && self.lane_events.is_empty()
            && self.rebalances.is_empty();
        // A member without partitions waits: the group may still assign some.
        at_rest
            && !(state.tracked.is_empty() && state.halted.is_empty())
            // The next start must find the halts stored.
            && self.brakes.unstored_halts().is_empty()
            && state.tracked.iter().all(|(key, value)| ends.reached(*key, value.position, value.exhausted))
    }

    fn next_event(&self) -> Option<Event> {
        if let Ok(rebalance) = self.rebalances.try_recv() {
            return Some(Event::Rebalance(rebalance));
        }
        if let Ok(answer) = self.taken.try_recv() {
            return Some(Event::Takeover(answer));
        }
        self.lane_events.try_recv().ok().map(Event::Lane)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Rebalance(rebalance) => self.rebalance(rebalance),
            Event::Takeover(Answer::Taken { partitions, halted, assignment }) => {
                self.taken(&partitions, &halted, assignment);
            }
            Event::Takeover(Answer::Fatal(message)) => self.state.fatal = Some(message),
            Event::Lane(LaneEvent::Released(token)) => self.released(token),
            Event::Lane(LaneEvent::Fenced { partition, assignment }) => self.fenced(partition, assignment),
        }
    }

    /// Returns a partition's lane. A partition always goes to the same lane, so its order needs no coordination.
    fn lane_of(&self, partition: Partition) -> usize {
        usize::try_from(partition.get()).unwrap_or_default() % self.lanes.len()
    }

    fn poll_once(&mut self, draining: bool) {
        if !draining && self.held_back() {
            return;
        }
        let room = self.room();
        let waiting = self.state.filling.iter().any(|filling| !filling.batch.is_empty());
        let timeout = if waiting || draining { limits::POLL_BUSY } else { limits::POLL_IDLE };
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(timeout) {
            None => {}
            Some(Ok(message)) if !draining => {
                consumer.context().answered();
                self.take(&message);
                // Fetched records need no wait: fill the batches before handling anything else.
                for _ in 0..limits::POLL_RUN {
                    if self.filled() > room || self.state.filling.iter().any(|filling| self.full(filling)) {
                        break;
                    }
                    match consumer.poll(Duration::ZERO) {
                        Some(Ok(message)) => self.take(&message),
                        Some(Err(KafkaError::PartitionEOF(partition))) => self.exhausted(Partition::new(partition)),
                        Some(Err(error)) => return self.consumer_error(&error),
                        None => break,
                    }
                }
            }
            Some(Ok(_)) => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                consumer.context().answered();
                self.exhausted(Partition::new(partition));
            }
            Some(Err(error)) => self.consumer_error(&error),
        }
    }

    fn full(&self, filling: &Filling) -> bool {
        let batch = &self.pipeline.delivery.batch;
        filling.batch.records.len() >= batch.max_events || filling.batch.bytes() >= batch.max_bytes
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let partition = Partition::new(message.partition());
        let offset = Offset::new(message.offset());
        let lane = self.lane_of(partition);
        let Some(tracked) = self.state.tracked.get_mut(&partition) else { return };
        if self.state.filling[lane].stalled || tracked.position.is_past(offset) {
            return;
        }
        if tracked.position < NextOffset::new(offset.get()) {
            // This is a gap. Transaction markers and compaction leave gaps, but a record that librdkafka skipped must
            // not be mistaken for one.
            if !tracked.confirmed {
                tracked.confirmed = true;
                let position = tracked.position;
                self.seek(partition, position);
                return;
            }
            self.metrics.gap();
        }
        tracked.confirmed = true;
        tracked.position = offset.next();
        if std::mem::take(&mut tracked.exhausted) {
            self.metrics.exhausted(partition, None);
        }
        let assignment = tracked.assignment;
        let filling = &mut self.state.filling[lane];
        if filling.batch.is_empty() {
            filling.since = Some(Instant::now());
        }
        copy(message, assignment, &mut filling.batch);
        self.metrics.fetched(message.payload_len());
    }

    /// Records that the fetch has reached the partition's end, and that everything before it was delivered.
    fn exhausted(&mut self, partition: Partition) {
        let stalled = self.state.filling[self.lane_of(partition)].stalled;
        // Deliveries for a stalled lane's partitions are discarded, so their position is not where the end was reached.
        let Some(tracked) = self.state.tracked.get_mut(&partition).filter(|_| !stalled) else { return };
        tracked.exhausted = true;
        self.metrics.exhausted(partition, Some(tracked.position));
    }

    fn seek(&mut self, partition: Partition, position: NextOffset) {
        if let Some(tracked) = self.state.tracked.get_mut(&partition) {
            tracked.exhausted = false;
            self.metrics.exhausted(partition, None);
        }
        let topic = &self.pipeline.source.topic;
        if let Err(error) =
            self.consumer.seek(topic, partition.get(), KafkaOffset::Offset(position.get()), limits::SEEK_TIMEOUT)
        {
            tracing::warn!(%partition, %position, %error, "seek failed");
            if let Some(tracked) = self.state.tracked.get_mut(&partition) {
                tracked.confirmed = false;
            }
        }
    }

    fn consumer_error(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::AutoOffsetReset) || code == Some(RDKafkaErrorCode::OffsetOutOfRange) {
            self.halt_missing(error);
        } else if classes::kafka(error) == Meaning::Halt {
            self.halt_unreadable(error);
        } else if classes::kafka(error) == Meaning::Fatal {
            self.state.fatal = Some(format!("the consumer cannot continue: {error}"));
        } else if code == Some(RDKafkaErrorCode::PollExceeded) {
            tracing::error!(%error, "this member did not poll in time and was removed from the group");
        } else if classes::kafka(error) == Meaning::Outage {
            // The callback was notified as well, and the keeper checks the brokers.
            tracing::debug!(%error, "consumer");
        } else {
            tracing::warn!(%error, "consumer");
        }
    }

    /// Hands over every due batch: a full one, or one that is old enough while its lane is idle.
    fn dispatch(&mut self) {
        let wait = self.pipeline.delivery.batch.wait;
        for lane in 0..self.lanes.len() {
            let filling = &mut self.state.filling[lane];
            if filling.stalled {
                self.unstall(lane);
                continue;
            }
            let Some(since) = filling.since else { continue };
            let wait = filling.linger.wait(wait, self.lanes[lane].through());
            // While no records may be taken, there is nothing to wait for.
            let waited = since.elapsed() >= wait || self.state.brimful.is_some();
            if self.full(&self.state.filling[lane]) || (self.lanes[lane].idle() && waited) {
                self.metrics.waited(lane, wait);
                self.hand_over(lane);
            }
        }
    }

    fn partitions_of(&self, lane: usize) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in self.state.tracked.keys().filter(|partition| self.lane_of(**partition) == lane) {
            list.add_partition(&self.pipeline.source.topic, partition.get());
        }
        list
    }
}
