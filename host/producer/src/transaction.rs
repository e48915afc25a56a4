//! Several events, over several topics, all or none.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};

use crate::reports::is_refusal;
use crate::{ConnectError, Delivery, Event, Producer, SendError, TransactionError};

/// One blocking call; it is repeated while librdkafka says that it may be.
const CALL: Duration = Duration::from_secs(5);
/// How long an abort may wait for the broker.
const ABORT: Duration = Duration::from_secs(10);

/// An open transaction. Readers with `isolation.level=read_committed` see all of it after [`Transaction::commit`], or nothing.
/// Dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction<'p> {
    producer: &'p Producer,
    /// Undelivered records before it began.
    failed: u64,
    ended: bool,
}

impl Producer {
    /// Opens a transaction; everything that this producer sends until its end is part of it.
    ///
    /// # Errors
    /// No transactional id, one is open already, or the broker does not let us.
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

    /// Settles what an earlier producer of this id left open, once.
    pub(crate) fn initialise(&self, until: Instant) -> Result<(), ConnectError> {
        if self.initialised.load(Ordering::Acquire) {
            return Ok(());
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.client.init_transactions(CALL.min(left).max(Duration::from_millis(1))) {
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
    /// Checks an event and sends it as a part of this.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn send(&self, event: &Event<'_>) -> Result<Delivery, SendError> {
        self.producer.send(event)
    }

    /// Waits for every acknowledgement and makes all visible.
    ///
    /// # Errors
    /// [`TransactionError::RolledBack`]: nothing is visible, and the producer is good for another try;
    /// [`TransactionError::Fatal`]: it is not.
    pub fn commit(mut self, patience: Duration) -> Result<(), TransactionError> {
        let until = Instant::now() + patience;
        if let Err(waiting) = self.producer.flush(patience) {
            return self.roll_back(waiting.to_string());
        }
        if self.producer.reports().failed.load(Ordering::Acquire) > self.failed {
            return self.roll_back("an event of it was not delivered".to_owned());
        }
        // A report's event is counted until it is taken apart; a commit with one left would take 100 ms longer.
        while self.producer.client.in_flight_count() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
        }
        // Whatever comes now: the decision is with the broker.
        match self.retried(until, || self.producer.client.commit_transaction(CALL)) {
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

    /// Gives all of it up.
    ///
    /// # Errors
    /// The broker has not confirmed it; it will do so by itself after the transaction's timeout.
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
        // The abort waits for every report, so what is queued is taken out first.
        self.producer.client.purge(PurgeConfig::default().queue());
        let until = Instant::now() + ABORT;
        let aborted = self.retried(until, || self.producer.client.abort_transaction(CALL));
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
            tracing::warn!(%error, "a transaction that was let go of could not be rolled back");
        }
    }
}

fn fatal(error: &KafkaError) -> TransactionError {
    let fenced = error.rdkafka_error_code().is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch
        )
    });
    if fenced {
        return TransactionError::Fatal("another producer has begun with the same transactional id".to_owned());
    }
    match error {
        KafkaError::Transaction(inner) => TransactionError::Fatal(inner.string()),
        other => TransactionError::Fatal(other.to_string()),
    }
}
