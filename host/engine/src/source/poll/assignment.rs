//! The group's assignments and revocations: partitions are taken over before they are assigned, and the lanes release
//! them before they are unassigned.
//!
//! librdkafka waits for the answer to each of the group's decisions, also while the consumer closes: a decision without
//! an answer would block the process for the whole of `shutdown`.

use std::collections::BTreeSet;
use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::{Poll, Tracked};
use crate::lifecycle::TypeContracts;
use crate::position::Partition;
use crate::source::handoff::{Control, Taken};
use crate::source::rebalance::Rebalance;
use crate::source::takeover::Request;

/// A decision of the group that has not been answered.
pub(super) enum Unanswered {
    Assign,
    Revoke(Vec<Partition>),
}

/// A revocation, by the group or by us, that waits for the lanes.
pub(super) struct Revoking {
    token: u64,
    waiting: usize,
}

impl Poll {
    pub(super) fn rebalance(&mut self, rebalance: Rebalance) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.state.unanswered = Some(Unanswered::Assign);
                self.assign(partitions);
            }
            Rebalance::Revoke { partitions, lost } => {
                self.state.unanswered = Some(Unanswered::Revoke(partitions.clone()));
                self.revoke(&partitions, lost);
            }
        }
    }

    fn assign(&mut self, partitions: Vec<Partition>) {
        self.state.assignment += 1;
        self.lifecycle.assigned(self.state.assignment);
        self.lifecycle.joined(true);
        if partitions.is_empty() {
            // This is a spare member: it has joined, and gets nothing until another member leaves.
            self.answer();
        }
        self.state.requested.extend(partitions);
        self.hold();
        self.request_again();
    }

    /// Handles a takeover in progress that became void with its assignment. Its partitions that are still ours are
    /// requested again, because the group will not name them again.
    fn request_again(&mut self) {
        if !self.state.requested.is_empty() && !self.lifecycle.draining() {
            self.request(self.state.requested.iter().copied().collect());
        }
    }

    pub(super) fn request(&mut self, partitions: Vec<Partition>) {
        self.state.requested.extend(&partitions);
        self.state.wanting.get_or_insert_with(Instant::now);
        let request = Request { partitions, assignment: self.state.assignment };
        if self.takeovers.send(request).is_err() {
            self.state.fatal = Some("the takeover thread has ended".into());
        }
    }

    /// Publishes the partitions that the group has assigned to us, for the other threads.
    pub(super) fn hold(&self) {
        let state = &self.state;
        let tracked = state.tracked.keys();
        self.lifecycle.hold(TypeContracts {
            partitions: tracked.chain(&state.requested).chain(&state.halted).copied().collect(),
            read: state.tracked.len(),
            requested: state.requested.len(),
            spare: false,
        });
        self.metrics.partitions(state.tracked.len());
    }

    pub(super) fn taken(&mut self, partitions: &[Taken], halted: &[Partition], assignment: u64) {
        if assignment != self.state.assignment || self.lifecycle.draining() {
            return;
        }
        self.state.stamp += 1;
        let stamp = self.state.stamp;
        let mut list = TopicPartitionList::new();
        let mut again = Vec::new();
        for partition in halted {
            self.state.requested.remove(partition);
            self.put_aside(*partition);
            // A resume may have happened meanwhile.
            self.state.halts = None;
        }
        for taken in partitions {
            let begin = taken.position.resume.begin();
            let epoch = taken.epoch;
            self.state.requested.remove(&taken.partition);
            let tracked = Tracked { position: begin, assignment: stamp, epoch, confirmed: false, exhausted: false };
            self.state.tracked.insert(taken.partition, tracked);
            if self.state.fetched.contains(&taken.partition) {
                again.push((taken.partition, begin));
                continue;
            }
            let offset = KafkaOffset::Offset(begin.get());
            let topic = &self.pipeline.source.topic;
            if let Err(error) = list.add_partition_offset(topic, taken.partition.get(), offset) {
                self.state.fatal = Some(format!("offset {begin} of partition {}: {error}", taken.partition));
                return;
            }
        }
        for (lane, inbox) in self.lanes.iter().enumerate() {
            let theirs: Vec<Taken> =
                partitions.iter().copied().filter(|taken| self.lane_of(taken.partition) == lane).collect();
            let control = Control::Assign { taken: theirs, assignment: stamp };
            if inbox.control.send(control).is_err() {
                self.state.fatal = Some(format!("lane {lane} has ended"));
                return;
            }
        }
        for (partition, position) in again {
            self.seek(partition, position);
        }
        if let Some(since) = self.state.wanting.take_if(|_| self.state.requested.is_empty()) {
            self.metrics.takeover(since.elapsed());
            tracing::info!(partitions = partitions.len(), seconds = since.elapsed().as_secs_f64(), "takeover complete");
        }
        // If all assigned partitions are halted, the answer is empty; without a pending decision no answer is needed.
        if list.count() == 0 && !matches!(self.state.unanswered, Some(Unanswered::Assign)) {
            self.hold();
            return;
        }
        self.assign_all(&list);
        // librdkafka keeps a pause across assignments: a partition that was paused when it was lost would come back
        // paused, and the lane that resumes its partitions did not have it then.
        if let Err(error) = self.consumer.resume(&list) {
            tracing::warn!(%error, "resume failed");
        }
        for lane in 0..self.lanes.len() {
            if self.state.filling[lane].stalled {
                self.pause(lane);
            }
        }
        self.hold();
    }

    /// Starts to release partitions. Lanes finish (past the decision) or abort their work on them first.
    fn revoke(&mut self, partitions: &[Partition], lost: bool) {
        // I5: no batch of these partitions begins from here on, and the group waits for those in progress.
        // A takeover in progress is void now.
        self.state.assignment += 1;
        self.lifecycle.assigned(self.state.assignment);
        for partition in partitions {
            self.state.tracked.remove(partition);
            self.state.requested.remove(partition);
            self.state.halted.remove(partition);
        }
        self.state.wanting = self.state.wanting.filter(|_| !self.state.requested.is_empty());
        self.hold();
        // This holds until the group's next decision, because there is a rebalance, or the member was excluded.
        self.lifecycle.joined(
            !(self.state.tracked.is_empty() && self.state.requested.is_empty() && self.state.halted.is_empty()),
        );
        let token = self.state.assignment;
        let mut waiting = 0;
        for (lane, inbox) in self.lanes.iter().enumerate() {
            let theirs: BTreeSet<Partition> =
                partitions.iter().copied().filter(|partition| self.lane_of(*partition) == lane).collect();
            if !theirs.is_empty() && inbox.control.send(Control::Revoke { partitions: theirs, lost, token }).is_ok() {
                waiting += 1;
            }
        }
        self.state.revoking = Some(Revoking { token, waiting });
        self.let_go();
        self.request_again();
    }

    pub(super) fn released(&mut self, token: u64) {
        if let Some(revoking) = self.state.revoking.as_mut().filter(|revoking| revoking.token == token) {
            revoking.waiting -= 1;
            self.let_go();
        }
    }

    /// Handles a lane that met another owner's epoch on a partition that is assigned to us, because a takeover that
    /// came too late has raised it. The partition is taken over again, and fetched again from the rows' position.
    pub(super) fn fenced(&mut self, partition: Partition, assignment: u64) {
        if self.state.tracked.get(&partition).is_some_and(|tracked| tracked.assignment == assignment) {
            self.request(vec![partition]);
        }
    }

    /// Completes the revocation once every lane has released its partitions.
    fn let_go(&mut self) {
        if self.state.revoking.take_if(|revoking| revoking.waiting == 0).is_some() {
            self.answer();
        }
    }

    pub(super) fn release_all(&mut self) {
        let partitions: Vec<Partition> = self.state.tracked.keys().chain(&self.state.halted).copied().collect();
        self.revoke(&partitions, false);
    }

    /// Answers the group's decision, if there is one. Partitions that are not taken over by then are not read.
    pub(super) fn answer(&mut self) {
        match self.state.unanswered.take() {
            None => {}
            Some(Unanswered::Assign) => self.assign_all(&TopicPartitionList::new()),
            Some(Unanswered::Revoke(partitions)) => {
                // librdkafka rejects a list with a partition that it does not fetch, and keeps waiting; halted ones
                // were never assigned.
                let mut list = TopicPartitionList::new();
                for partition in partitions.iter().filter(|partition| self.state.fetched.remove(partition)) {
                    list.add_partition(&self.pipeline.source.topic, partition.get());
                }
                told(self.consumer.incremental_unassign(&list));
            }
        }
    }

    fn assign_all(&mut self, list: &TopicPartitionList) {
        self.state.unanswered = None;
        self.state.fetched.extend(list.elements().iter().map(|element| Partition::new(element.partition())));
        told(self.consumer.incremental_assign(list));
    }
}

pub(super) fn told(done: Result<(), KafkaError>) {
    if let Err(error) = done {
        // The group has already moved on, as the next rebalance will show.
        tracing::warn!(%error, "the group did not accept the reply to a rebalance");
    }
}
