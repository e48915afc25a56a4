//! The poll thread: records into batches, batches to lanes, rebalances to their end.
//!
//! One loop. Each turn handles what the other threads said, polls once, and hands over what is due.

mod backpressure;
mod company;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use self::company::Company;
use super::batch::RecordBatch;
use super::rebalance::{Callbacks, Rebalance};
use super::takeover::{Answer, Request, Taken};
use crate::engine::Shared;
use crate::lane::{Control, Inbox, Said};
use crate::limits;
use crate::position::{NextOffset, Offset, Partition};
use crate::sinks::classes::{self, Meaning};

/// How the poll loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and the lanes have let go of their partitions.
    Drained,
    /// It cannot go on.
    Halted(String),
}

/// What the other threads say to this one.
enum Event {
    Rebalance(Rebalance),
    Takeover(Answer),
    Lane(Said),
}

pub struct Poll {
    pub shared: Arc<Shared>,
    pub consumer: Arc<BaseConsumer<Callbacks>>,
    pub rebalances: Receiver<Rebalance>,
    pub takeovers: Sender<Request>,
    pub taken: Receiver<Answer>,
    pub lanes: Vec<Inbox>,
    pub said: Receiver<Said>,
    pub state: State,
}

/// What the poll thread knows.
#[derive(Default)]
pub struct State {
    tracked: BTreeMap<Partition, Tracked>,
    filling: Vec<Filling>,
    assignment: u64,
    /// Counts what was fetched under one owner: every takeover begins anew.
    stamp: u64,
    revoking: Option<Revoking>,
    /// Assigned, and not taken over yet.
    requested: BTreeSet<Partition>,
    /// Since when something is.
    wanting: Option<Instant>,
    /// The ends that a drain waits for are known, and each partition's end is met anew since.
    ending: bool,
    /// Since when all batches together have more memory than they may.
    brimful: Option<Instant>,
    halted: Option<String>,
}

/// A partition of ours.
struct Tracked {
    /// The next offset to take.
    position: NextOffset,
    assignment: u64,
    /// A gap before the first record after an assign, a resume or a seek has been looked at twice.
    confirmed: bool,
    /// Nothing lies at the position or beyond it, as far as librdkafka has said.
    exhausted: bool,
}

/// A lane's batch in the making.
#[derive(Default)]
struct Filling {
    batch: RecordBatch,
    since: Option<Instant>,
    company: Company,
    /// The lane did not take this batch in time: its partitions are paused until it does and the backlog is down.
    stalled: bool,
}

/// A revocation that waits for the lanes.
struct Revoking {
    list: TopicPartitionList,
    token: u64,
    waiting: usize,
}

impl Poll {
    /// Runs until the process drains or must halt. The consumer is still open afterwards, and so are the channels: the other
    /// threads end with them, and what ended this one is to be told first.
    pub fn run(&mut self) -> Ended {
        self.state.filling.resize_with(self.lanes.len(), Filling::default);
        let topic = self.shared.pipeline.source.topic.clone();
        if let Err(error) = self.consumer.subscribe(&[&topic]) {
            return Ended::Halted(format!("cannot subscribe to {topic}: {error}"));
        }
        let mut drain_sent = false;
        loop {
            while let Some(event) = self.next_event() {
                self.handle(event);
            }
            if let Some(message) = self.state.halted.take() {
                return Ended::Halted(message);
            }
            if self.shared.ends().is_some()
                && let Some(reason) = self.shared.paused()
            {
                return Ended::Halted(format!("the drain cannot end, the pipeline is paused: {reason}"));
            }
            if !self.shared.draining() && self.all_through() {
                tracing::info!("everything that was in the topic is through");
                self.shared.drain();
            }
            if self.shared.draining() {
                // A revocation that is under way is finished first.
                if self.state.revoking.is_none() {
                    if drain_sent {
                        return Ended::Drained;
                    }
                    self.release_all();
                    drain_sent = true;
                }
            }
            self.poll_once(drain_sent);
            self.dispatch();
        }
    }

    /// Whether a drain has come to its end: all that was fetched is through, and nothing is left to fetch.
    fn all_through(&mut self) -> bool {
        let Some(ends) = self.shared.ends() else { return false };
        if !self.state.ending {
            self.state.ending = true;
            // An end that was met before may have been the beginning of an open transaction: meet it again.
            let positions: Vec<_> = self.state.tracked.iter().map(|(key, value)| (*key, value.position)).collect();
            positions.into_iter().for_each(|(partition, position)| self.seek(partition, position));
            return false;
        }
        let state = &self.state;
        let at_rest = state.requested.is_empty()
            && state.revoking.is_none()
            && state.filling.iter().all(|filling| filling.batch.is_empty() && !filling.stalled)
            && self.lanes.iter().all(Inbox::idle)
            // In this order: a lane says that it was fenced before it is idle.
            && self.said.is_empty()
            && self.rebalances.is_empty();
        // A member without partitions waits: the group may yet give it some.
        at_rest
            && !state.tracked.is_empty()
            && state.tracked.iter().all(|(key, value)| ends.reached(*key, value.position, value.exhausted))
    }

    fn next_event(&self) -> Option<Event> {
        if let Ok(rebalance) = self.rebalances.try_recv() {
            return Some(Event::Rebalance(rebalance));
        }
        if let Ok(answer) = self.taken.try_recv() {
            return Some(Event::Takeover(answer));
        }
        self.said.try_recv().ok().map(Event::Lane)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Rebalance(Rebalance::Assign(partitions)) => self.assign(partitions),
            Event::Rebalance(Rebalance::Revoke { partitions, lost }) => self.revoke(&partitions, lost),
            Event::Takeover(Answer::Taken { partitions, assignment }) => self.taken(&partitions, assignment),
            Event::Takeover(Answer::Halt(message)) => self.state.halted = Some(message),
            Event::Lane(Said::Released(token)) => self.released(token),
            Event::Lane(Said::Fenced { partition, assignment }) => self.fenced(partition, assignment),
        }
    }

    fn assign(&mut self, partitions: Vec<Partition>) {
        self.state.assignment += 1;
        self.shared.assigned(self.state.assignment);
        self.shared.joined();
        if partitions.is_empty() {
            // A spare member: it has joined, and gets nothing until somebody leaves.
            self.answer(self.consumer.incremental_assign(&TopicPartitionList::new()));
        }
        self.state.requested.extend(partitions);
        self.request_again();
    }

    /// A takeover that is under way has become void with the assignment that it belongs to. What of it is still ours is
    /// asked for once more: the group will not name it again.
    fn request_again(&mut self) {
        if !self.state.requested.is_empty() && !self.shared.draining() {
            self.request(self.state.requested.iter().copied().collect());
        }
    }

    fn request(&mut self, partitions: Vec<Partition>) {
        self.state.requested.extend(&partitions);
        self.state.wanting.get_or_insert_with(Instant::now);
        let request = Request { partitions, assignment: self.state.assignment };
        if self.takeovers.send(request).is_err() {
            self.state.halted = Some("the takeover thread has ended".into());
        }
    }

    fn taken(&mut self, partitions: &[Taken], assignment: u64) {
        if assignment != self.state.assignment || self.shared.draining() {
            return;
        }
        self.state.stamp += 1;
        let stamp = self.state.stamp;
        let mut list = TopicPartitionList::new();
        let mut again = Vec::new();
        for taken in partitions {
            let begin = taken.resume.begin();
            self.state.requested.remove(&taken.partition);
            let tracked = Tracked { position: begin, assignment: stamp, confirmed: false, exhausted: false };
            if self.state.tracked.insert(taken.partition, tracked).is_some() {
                again.push((taken.partition, begin));
                continue;
            }
            let offset = KafkaOffset::Offset(begin.0);
            let topic = &self.shared.pipeline.source.topic;
            if let Err(error) = list.add_partition_offset(topic, taken.partition.0, offset) {
                self.state.halted = Some(format!("offset {begin} of partition {}: {error}", taken.partition));
                return;
            }
        }
        for (lane, inbox) in self.lanes.iter().enumerate() {
            let theirs: Vec<Taken> =
                partitions.iter().copied().filter(|taken| self.lane_of(taken.partition) == lane).collect();
            let control = Control::Assign { taken: theirs, assignment: stamp };
            if inbox.control.send(control).is_err() {
                self.state.halted = Some(format!("lane {lane} has ended"));
                return;
            }
        }
        for (partition, position) in again {
            self.seek(partition, position);
        }
        if let Some(since) = self.state.wanting.take_if(|_| self.state.requested.is_empty()) {
            self.shared.metrics.takeover(since.elapsed());
            tracing::info!(partitions = partitions.len(), seconds = since.elapsed().as_secs_f64(), "takeover complete");
        }
        if list.count() == 0 {
            return;
        }
        self.answer(self.consumer.incremental_assign(&list));
        // librdkafka keeps a pause beyond the assignment: what was paused when it was lost would come back paused, and
        // the lane that resumes its partitions did not have it then.
        if let Err(error) = self.consumer.resume(&list) {
            tracing::warn!(%error, "resume failed");
        }
        for lane in 0..self.lanes.len() {
            if self.state.filling[lane].stalled {
                self.pause(lane);
            }
        }
        self.shared.metrics.partitions(self.state.tracked.len());
    }

    /// Lanes finish (past the decision) or abort what they have of these partitions; then they are let go.
    fn revoke(&mut self, partitions: &[Partition], lost: bool) {
        // A takeover that is still under way has become void.
        self.state.assignment += 1;
        self.shared.assigned(self.state.assignment);
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            self.state.tracked.remove(partition);
            self.state.requested.remove(partition);
            list.add_partition(&self.shared.pipeline.source.topic, partition.0);
        }
        self.state.wanting = self.state.wanting.filter(|_| !self.state.requested.is_empty());
        self.shared.metrics.partitions(self.state.tracked.len());
        let token = self.state.assignment;
        let mut waiting = 0;
        for (lane, inbox) in self.lanes.iter().enumerate() {
            let theirs: BTreeSet<Partition> =
                partitions.iter().copied().filter(|partition| self.lane_of(*partition) == lane).collect();
            if !theirs.is_empty() && inbox.control.send(Control::Revoke { partitions: theirs, lost, token }).is_ok() {
                waiting += 1;
            }
        }
        self.state.revoking = Some(Revoking { list, token, waiting });
        if waiting == 0 {
            self.unassign();
        }
        self.request_again();
    }

    fn released(&mut self, token: u64) {
        if let Some(revoking) = self.state.revoking.as_mut().filter(|revoking| revoking.token == token) {
            revoking.waiting -= 1;
            if revoking.waiting == 0 {
                self.unassign();
            }
        }
    }

    /// A lane met another owner's epoch on a partition that the group says is ours: a takeover that came too late has
    /// raised it. Take it over again, and fetch it again from where the rows stand.
    fn fenced(&mut self, partition: Partition, assignment: u64) {
        if self.state.tracked.get(&partition).is_some_and(|tracked| tracked.assignment == assignment) {
            self.request(vec![partition]);
        }
    }

    fn unassign(&mut self) {
        if let Some(revoking) = self.state.revoking.take()
            && !self.shared.draining()
        {
            self.answer(self.consumer.incremental_unassign(&revoking.list));
        }
    }

    fn release_all(&mut self) {
        let partitions: Vec<Partition> = self.state.tracked.keys().copied().collect();
        self.revoke(&partitions, false);
    }

    fn answer(&mut self, done: Result<(), KafkaError>) {
        if let Err(error) = done {
            // The group has moved on already; it will say so in the next rebalance.
            tracing::warn!(%error, "the group did not take our answer to a rebalance");
        }
    }

    /// Each partition always meets the same lane, so order within it needs no coordination.
    fn lane_of(&self, partition: Partition) -> usize {
        usize::try_from(partition.0).unwrap_or_default() % self.lanes.len()
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
                consumer.context().heard();
                self.take(&message);
                // What is fetched already costs no wait: fill up before looking at the rest of the world.
                for _ in 0..limits::POLL_RUN {
                    if self.filled() > room || self.state.filling.iter().any(|filling| self.full(filling)) {
                        break;
                    }
                    match consumer.poll(Duration::ZERO) {
                        Some(Ok(message)) => self.take(&message),
                        Some(Err(KafkaError::PartitionEOF(partition))) => self.exhausted(Partition(partition)),
                        Some(Err(error)) => return self.consumer_error(&error),
                        None => break,
                    }
                }
            }
            Some(Ok(_)) => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                consumer.context().heard();
                self.exhausted(Partition(partition));
            }
            Some(Err(error)) => self.consumer_error(&error),
        }
    }

    fn full(&self, filling: &Filling) -> bool {
        let batch = &self.shared.pipeline.delivery.batch;
        filling.batch.records.len() >= batch.max_events || filling.batch.bytes() >= batch.max_bytes
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let partition = Partition(message.partition());
        let offset = Offset(message.offset());
        let lane = self.lane_of(partition);
        let Some(tracked) = self.state.tracked.get_mut(&partition) else { return };
        if self.state.filling[lane].stalled || tracked.position.is_past(offset) {
            return;
        }
        if tracked.position < NextOffset(offset.0) {
            // A gap. Transaction markers and compaction leave them; a record that librdkafka skipped must not.
            if !tracked.confirmed {
                tracked.confirmed = true;
                let position = tracked.position;
                self.seek(partition, position);
                return;
            }
            self.shared.metrics.gap();
        }
        tracked.confirmed = true;
        tracked.position = offset.next();
        if std::mem::take(&mut tracked.exhausted) {
            self.shared.metrics.exhausted(partition, None);
        }
        let assignment = tracked.assignment;
        let filling = &mut self.state.filling[lane];
        if filling.batch.is_empty() {
            filling.since = Some(Instant::now());
        }
        filling.batch.push(message, assignment);
        self.shared.metrics.fetched(message.payload_len());
    }

    /// The fetch has come to the partition's end, and all before it was delivered.
    fn exhausted(&mut self, partition: Partition) {
        let stalled = self.state.filling[self.lane_of(partition)].stalled;
        // What a stalled lane's partitions deliver is thrown away: their position is not where the end was met.
        let Some(tracked) = self.state.tracked.get_mut(&partition).filter(|_| !stalled) else { return };
        tracked.exhausted = true;
        self.shared.metrics.exhausted(partition, Some(tracked.position));
    }

    fn seek(&mut self, partition: Partition, position: NextOffset) {
        if let Some(tracked) = self.state.tracked.get_mut(&partition) {
            tracked.exhausted = false;
            self.shared.metrics.exhausted(partition, None);
        }
        let topic = &self.shared.pipeline.source.topic;
        if let Err(error) =
            self.consumer.seek(topic, partition.0, KafkaOffset::Offset(position.0), limits::SEEK_TIMEOUT)
        {
            tracing::warn!(%partition, %position, %error, "seek failed");
            if let Some(tracked) = self.state.tracked.get_mut(&partition) {
                tracked.confirmed = false;
            }
        }
    }

    /// Which partitions lack their next offset: the error itself does not say.
    fn missing_offsets(&self) -> Option<String> {
        let topic = &self.shared.pipeline.source.topic;
        let lacking = self.state.tracked.iter().filter_map(|(partition, tracked)| {
            let (low, high) = self.consumer.fetch_watermarks(topic, partition.0, limits::SEEK_TIMEOUT).ok()?;
            let next = tracked.position.0;
            (next < low || next > high)
                .then(|| format!("partition {partition} goes on at {next}, the topic has {low} to {high}"))
        });
        let lacking: Vec<String> = lacking.collect();
        (!lacking.is_empty()).then(|| lacking.join("; "))
    }

    fn consumer_error(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::AutoOffsetReset) || code == Some(RDKafkaErrorCode::OffsetOutOfRange) {
            self.state.halted = Some(format!(
                "the next offset is not in topic {} any more: {}; records were deleted before they were read, and only you \
                 can say that they may be skipped (docs/halts.md)",
                self.shared.pipeline.source.topic,
                self.missing_offsets().unwrap_or_else(|| error.to_string())
            ));
        } else if classes::kafka(error) == Meaning::Fatal {
            self.state.halted = Some(format!("the consumer cannot go on: {error}"));
        } else if code == Some(RDKafkaErrorCode::PollExceeded) {
            tracing::error!(%error, "this member did not poll in time and was put out of the group");
        } else {
            tracing::warn!(%error, "consumer");
        }
    }

    /// Hands over every batch that is due: full, or old enough while its lane has nothing to do.
    fn dispatch(&mut self) {
        let wait = self.shared.pipeline.delivery.batch.wait;
        for lane in 0..self.lanes.len() {
            let filling = &mut self.state.filling[lane];
            if filling.stalled {
                self.unstall(lane);
                continue;
            }
            let Some(since) = filling.since else { continue };
            let wait = filling.company.wait(wait, self.lanes[lane].through());
            // While nothing may be taken there is no company to wait for.
            let waited = since.elapsed() >= wait || self.state.brimful.is_some();
            if self.full(&self.state.filling[lane]) || (self.lanes[lane].idle() && waited) {
                self.shared.metrics.waited(lane, wait);
                self.hand_over(lane);
            }
        }
    }

    fn partitions_of(&self, lane: usize) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in self.state.tracked.keys().filter(|partition| self.lane_of(**partition) == lane) {
            list.add_partition(&self.shared.pipeline.source.topic, partition.0);
        }
        list
    }
}
