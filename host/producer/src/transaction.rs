//! Sends several events, possibly to several topics, so that all of them are visible or none.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};

use crate::limits;
use crate::reports::is_refusal;
use crate::{ConnectError, Delivery, Event, Producer, SendError, TransactionError};

/// An open transaction. After [`Transaction::commit`], readers with `isolation.level=read_committed` see all of it.
/// Dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction<'p> {
    producer: &'p Producer,
    /// The number of undelivered records before it began.
    failed: u64,
    ended: bool,
}

impl Producer {
    /// Opens a transaction. Everything that this producer sends until its end is part of it.
    ///
    /// # Errors
    /// Fails if there is no transactional id, if a transaction is already open, or if the broker rejects it.
    pub fn transaction(&self) -> Result<Transaction<'_>, TransactionError> {
        if self.config.transactional_id.is_none() {
            return Err(TransactionError::NotTransactional);
        }
        if self.open.swap(true, Ordering::AcqRel) {
            return Err(TransactionError::Open);
        }
        let begun = self
            .initialise(Instant::now() + self.config.transaction_timeout)
            .map_err(|error| TransactionError::Fatal(error.to_string()))
            .and_then(|()| self.client.begin_transaction().map_err(|error| fatal(&error)));
        match begun {
            Ok(()) => {
                let failed = self.reports().failed.load(Ordering::Acquire);
                Ok(Transaction { producer: self, failed, ended: false })
            }
            Err(error) => {
                self.open.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Ends transactions that an earlier producer of this id left open, once.
    pub(crate) fn initialise(&self, until: Instant) -> Result<(), ConnectError> {
        if self.initialised.load(Ordering::Acquire) {
            return Ok(());
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.client.init_transactions(limits::TRANSACTION_CALL.min(left).max(limits::TRANSACTION_CALL_LEAST))
            {
                Ok(()) => {
                    self.initialised.store(true, Ordering::Release);
                    return Ok(());
                }
                Err(error) if error.rdkafka_error_code().is_some_and(is_refusal) => {
                    return Err(ConnectError::Refused { why: error.to_string() });
                }
                Err(KafkaError::Transaction(error)) if error.is_retriable() && !left.is_zero() => {}
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
    }
}

impl Transaction<'_> {
    /// Checks an event and sends it as part of this transaction.
    ///
    /// # Errors
    /// Fails as [`Producer::send`] does.
    pub fn send(&self, event: &Event<'_>) -> Result<Delivery, SendError> {
        self.producer.send(event)
    }

    /// Waits for every acknowledgement and makes all events visible.
    ///
    /// # Errors
    /// Returns [`TransactionError::RolledBack`] if nothing is visible and the producer can try again, and
    /// [`TransactionError::Fatal`] if it cannot.
    pub fn commit(mut self, patience: Duration) -> Result<(), TransactionError> {
        let until = Instant::now() + patience;
        if let Err(waiting) = self.producer.flush(patience) {
            return self.roll_back(waiting.to_string());
        }
        if self.producer.reports().failed.load(Ordering::Acquire) > self.failed {
            return self.roll_back("one of its events was not delivered".to_owned());
        }
        // An event stays counted until its report is processed; a commit with one left would take 100 ms longer.
        while self.producer.client.in_flight_count() > 0 && Instant::now() < until {
            std::thread::sleep(limits::FLIGHT_LOOK);
        }
        // From here on the broker decides the outcome, whatever this call returns.
        match self.retried(until, || self.producer.client.commit_transaction(limits::TRANSACTION_CALL)) {
            Ok(()) => {
                self.finish();
                Ok(())
            }
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => self.roll_back(error.string()),
            Err(error) => {
                self.finish();
                Err(fatal(&error))
            }
        }
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    /// Fails if the broker has not confirmed the rollback. It will then roll back by itself after the transaction's
    /// timeout.
    pub fn abort(mut self) -> Result<(), TransactionError> {
        self.end()
    }

    fn roll_back(&mut self, why: String) -> Result<(), TransactionError> {
        self.end()?;
        Err(TransactionError::RolledBack(why))
    }

    fn end(&mut self) -> Result<(), TransactionError> {
        if self.ended {
            return Ok(());
        }
        // The abort waits for every report, so queued records are removed first.
        self.producer.client.purge(PurgeConfig::default().queue());
        let until = Instant::now() + limits::ABORT;
        let aborted = self.retried(until, || self.producer.client.abort_transaction(limits::TRANSACTION_CALL));
        self.finish();
        aborted.map_err(|error| fatal(&error))
    }

    fn finish(&mut self) {
        self.ended = true;
        self.producer.open.store(false, Ordering::Release);
    }

    fn retried(&self, until: Instant, call: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
        loop {
            match call() {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < until => {}
                other => return other,
            }
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "a dropped transaction could not be rolled back");
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn fatal(error: &KafkaError) -> TransactionError {
    let fenced = error.rdkafka_error_code().is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch
        )
    });
    if fenced {
        return TransactionError::Fatal("another producer has started with the same transactional id".to_owned());
    }
    match error {
        KafkaError::Transaction(inner) => TransactionError::Fatal(inner.string()),
        other => TransactionError::Fatal(other.to_string()),
    }
}
