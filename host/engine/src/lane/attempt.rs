//! Reacts to a failed attempt at a batch.

use std::time::Duration;

use tollgate_sandbox::RunError;

use super::{Current, Error, Lane};
use crate::brakes::halt::code;
use crate::brakes::sink::{Sink, State};
use crate::classes::Meaning;
use crate::position::{Epoch, NextOffset, Partition};
use crate::progress::halts::{self, Halt};
use crate::sinks::kafka;
use crate::sinks::postgres::connect;
use tollgate_config::Backoff;
use tollgate_config::error::Class;
use tollgate_config::limits;
use tollgate_decide::batch::Record;

/// The way in which a lane continues with a batch: how soon, and with how many of its records.
pub(super) struct Pace {
    backoff: Backoff,
    /// The maximum number of records in the next attempt.
    pub most: usize,
    /// Whether the last attempt succeeded. A conflict in the next one is then retried immediately.
    fresh: bool,
}

impl Pace {
    pub(super) fn new(backoff: Backoff) -> Pace {
        Pace { backoff, most: usize::MAX, fresh: true }
    }

    /// Records a successful attempt.
    pub(super) fn through(&mut self, backoff: Backoff) {
        *self = Pace { backoff, most: self.most.saturating_mul(2), fresh: true };
    }
}

impl Lane {
    /// Handles a failed attempt with `size` records: waits, or ends the process if retrying cannot help.
    pub(super) fn failed(
        &mut self,
        error: Error,
        size: usize,
        current: &mut Current<'_>,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        match (&error, error.class()) {
            (Error::Sandbox(RunError::BatchOutput { .. }), _) if size > 1 => {
                pace.most = size / 2;
                return Ok(());
            }
            (Error::Paused(_), _) => {
                self.stand_still(current);
                return Ok(());
            }
            // The process must not end: another type's chain may be healthy, and a swap can deploy a fixed transform.
            (Error::Sandbox(broken @ RunError::Revision { .. }), _) => {
                let reason = format!("{broken}; deploy a fixed transform, or run `tollgate resume` to try again");
                return self.broken(reason, size, current, pace);
            }
            (Error::Sandbox(interrupted), _) if current.overdue.count(interrupted).is_some() => {
                self.metrics.retry();
                tracing::warn!(lane = self.number, "{interrupted}; retrying");
                return Ok(());
            }
            (Error::Halt(halt), _) => {
                self.halted(halt);
                return Ok(());
            }
            (Error::Kafka(kafka::Error::NoPartition { mark, topic }), _)
                if current.tried >= self.pipeline.retry.max_retries =>
            {
                let halt = self.no_partition(current.batch.records[*mark].partition, topic);
                return self.failed(halt, size, current, pace);
            }
            (_, Class::Fatal) => return Err(error),
            // Try fewer records at a time, in the end one event.
            (Error::Indivisible(_), _) if size > 1 => {
                *pace = Pace { most: size / 2, ..Pace::new(self.brakes.backoff()) };
            }
            (Error::Late(_), _) if size > 1 => pace.most = size / 2,
            (Error::Postgres(slow), _) if size > 1 && connect::timed_out(slow) => pace.most = size / 2,
            (_, Class::Poison) if current.tried >= self.pipeline.retry.max_retries => {
                return self.unexplained(&error, size, current, pace);
            }
            (_, Class::Poison | Class::Unknown) => current.tried = current.tried.saturating_add(1),
            (_, Class::Transient) => {}
        }
        if let Some((Sink::Kafka, Meaning::Outage)) = error.server_error()
            && let Some(found) = self.investigate(&error, size, current, pace)
        {
            return self.failed(found, size, current, pace);
        }
        self.metrics.retry();
        self.lifecycle.trouble("lane", &error.to_string());
        match error.server_error() {
            // All lanes meet the same outage.
            Some((sink, Meaning::Outage | Meaning::Login)) => self.brakes.outage(sink, &error),
            _ => tracing::warn!(lane = self.number, %error, "batch failed, retrying"),
        }
        let spread = self.window(&error).map(|window| window / self.pipeline.retry.max_retries.max(1));
        if let Some(wait) = spread.or_else(|| self.until_the_next(&error, pace)) {
            self.wait(wait);
        }
        pace.fresh = false;
        Ok(())
    }

    /// Drops a halted partition. The other partitions are unaffected: the failure is recorded as the halt's own state.
    fn halted(&mut self, halt: &Halt) {
        self.partitions.remove(&halt.partition);
        self.brakes.halt(Halt::clone(halt));
        self.lifecycle.no_trouble("lane");
    }

    /// Handles a batch that is rejected repeatedly although no single event is found to cause it. Halts the partition
    /// of the smallest rejected part, so that the others continue.
    fn unexplained(
        &mut self,
        error: &Error,
        size: usize,
        current: &mut Current<'_>,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        if size > 1 {
            *pace = Pace { most: size / 2, ..Pace::new(self.brakes.backoff()) };
            return Ok(());
        }
        let first = self.select(current.batch).first().map(|index| &current.batch.records[*index]);
        let Some(Record { partition, .. }) = first else { return Ok(()) };
        let refused = current.tried.saturating_add(1);
        let message = format!(
            "an event was rejected {refused} times, but accepted when it was tried alone: {error}; look at the table's triggers"
        );
        let halt = self.halt(*partition, code::REFUSAL_UNEXPLAINED, message);
        current.tried = 0;
        self.failed(halt, size, current, pace)
    }

    fn no_partition(&self, partition: Partition, topic: &str) -> Error {
        let message = format!(
            "topic {topic} has no partition {partition}, and output.partition: same needs one: add partitions \
             (kafka-topics.sh --alter --topic {topic} --partitions {} or more)",
            partition.get() + 1
        );
        self.halt(partition, code::OUTPUT_PARTITION_MISSING, message)
    }

    /// Returns the error that halts one of this lane's partitions at its current position.
    pub(super) fn halt(&self, partition: Partition, code: &str, message: String) -> Error {
        let owned = self.partitions.get(&partition);
        Error::Halt(Box::new(Halt {
            partition,
            code: code.to_owned(),
            offset: owned.map_or(NextOffset::new(0), |owned| owned.resume.begin()),
            epoch: owned.map_or(Epoch::NONE, |owned| owned.epoch),
            message,
        }))
    }

    /// Pauses the pipeline for a transform that fails independently of any event.
    fn broken(&mut self, reason: String, size: usize, current: &mut Current<'_>, pace: &mut Pace) -> Result<(), Error> {
        let pause = halts::Pause { code: halts::BROKEN.to_owned(), event: None, reason };
        match self.pause(current, pause) {
            Err(Error::Paused(_)) => self.stand_still(current),
            // The pause could not be stored. The batch will meet the same trap again and then retry storing it.
            Err(error) => return self.failed(error, size, current, pace),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Waits for the end of a pause. Unless one side is ahead, nothing of this batch is visible, so the next revision
    /// may decide it.
    fn stand_still(&mut self, current: &mut Current<'_>) {
        self.wait(limits::PAUSE_LOOK);
        if self.level() {
            (current.revision, current.time) = (self.revision.load_full(), super::now());
        }
    }

    /// Returns the wait before the next attempt, or `None` if the breaker imposes the wait or a conflict is gone.
    fn until_the_next(&mut self, error: &Error, pace: &mut Pace) -> Option<Duration> {
        match error.server_error() {
            // The keeper takes the slot again, or ends the process.
            None if matches!(error, Error::SlotLost) => return Some(limits::PAUSE_LOOK),
            Some((_, Meaning::Conflict)) if pace.fresh => return None,
            Some((sink, Meaning::Outage | Meaning::Login)) => {
                if sink == Sink::Postgres {
                    // After a failover the same address may be a different server.
                    (self.connection, self.rows_in_doubt) = (None, true);
                }
                if self.brakes.breakers.state(sink) != State::Closed {
                    return None;
                }
            }
            _ => {}
        }
        Some(pace.backoff.next_wait())
    }
}
