//! The loop: an item, the contract, the producer's buffer, the books.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use indicatif::ProgressBar;
use tollgate_contract::visible;
use tollgate_producer::{
    Event, Original, Payload, Producer, Ready, Rejected, Rejects, SendError, Transaction, TransactionError, Violation,
};

use super::ledger::{Ledger, Place, Sent};
use super::read::{Body, Chunk, Format, Item, Message};
use super::skew::Skew;

/// How soon a wait for room, for input or for the rate hears of a signal.
const TICK: Duration = Duration::from_millis(100);
/// How long a stop waits for what is on its way.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Rejected events that are shown as they come; the rest is counted.
const SHOWN: u64 = 10;
/// A transaction that waits for a slow input is committed before the broker gives it up.
const IDLE_TRANSACTION: Duration = Duration::from_secs(10);

/// What the signals ask for.
#[derive(Debug, Default)]
pub(super) struct Stop {
    pub asked: AtomicBool,
    /// Something may be on its way, so that a signal is to wait for it.
    pub running: AtomicBool,
}

/// Why the loop ended.
#[derive(Debug)]
pub(super) enum Ended {
    Complete,
    Interrupted,
    TooManyRejects,
    Undelivered,
    /// Nobody reads the acknowledgements any more, or they cannot be written.
    Unwatched,
    /// The client takes no more.
    Refused(String),
    RolledBack(String),
    Unreadable(String),
    /// The input is not what it is said to be.
    Wrong(String),
    /// A file of ours cannot be written.
    Unwritten(String),
}

/// At most so many events a second, evenly.
pub(super) struct Pace {
    per_second: f64,
    begun: Instant,
    taken: f64,
}

impl Pace {
    pub(super) fn new(per_second: f64) -> Pace {
        Pace { per_second, begun: Instant::now(), taken: 0.0 }
    }

    /// How long the next event has to wait. Time that passed without events is not made up for.
    fn wait(&mut self) -> Duration {
        let due = Duration::from_secs_f64(self.taken / self.per_second);
        let passed = self.begun.elapsed();
        if passed > due + Duration::from_secs(1) {
            *self = Pace::new(self.per_second);
            return Duration::ZERO;
        }
        due.saturating_sub(passed)
    }
}

pub(super) struct Flow<'p> {
    pub producer: &'p Producer,
    /// Nothing is sent.
    pub dry: bool,
    pub ledger: Arc<Ledger>,
    pub stop: &'p Stop,
    pub bar: ProgressBar,
    /// Names and formats of the inputs.
    pub sources: Vec<(String, Format)>,
    pub rejects: Option<Rejects<BufWriter<File>>>,
    pub letters: bool,
    pub max_rejects: Option<u64>,
    /// Events of a transaction, where there are transactions.
    pub transaction_size: Option<u64>,
    pub transaction: Option<Open<'p>>,
    pub pace: Option<Pace>,
    /// Code → events that it is the first violation of.
    pub reasons: BTreeMap<String, u64>,
    pub rejected: u64,
    /// How the keys of a dry run spread over partitions.
    pub skew: Option<Skew>,
}

pub(super) struct Open<'p> {
    transaction: Transaction<'p>,
    events: u64,
    begun: Instant,
}

impl Flow<'_> {
    /// Takes events until the input ends or something ends it.
    pub(super) fn run(&mut self, messages: &Receiver<Message>) -> Ended {
        loop {
            if let Some(ended) = self.must_stop() {
                return ended;
            }
            let message = match messages.recv_timeout(TICK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.ledger.flush();
                    self.show();
                    if self.transaction.as_ref().is_some_and(|open| open.begun.elapsed() > IDLE_TRANSACTION)
                        && self.transaction_size != Some(u64::MAX)
                        && let Err(ended) = self.commit()
                    {
                        return ended;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ended::Complete,
            };
            match message {
                Message::Chunk(chunk) => {
                    for item in &chunk.items {
                        if let Err(ended) = self.pause().and_then(|()| self.one(&chunk, item)) {
                            return ended;
                        }
                    }
                    self.bar.set_position(chunk.position);
                    self.show();
                }
                Message::Unreadable(message) => return Ended::Unreadable(message),
                Message::Wrong(message) => return Ended::Wrong(message),
            }
        }
    }

    fn must_stop(&self) -> Option<Ended> {
        if self.stop.asked.load(Ordering::Acquire) {
            Some(Ended::Interrupted)
        } else if self.ledger.lost() {
            Some(Ended::Undelivered)
        } else if self.ledger.unwatched() {
            Some(Ended::Unwatched)
        } else {
            None
        }
    }

    /// Waits for the rate.
    fn pause(&mut self) -> Result<(), Ended> {
        loop {
            if let Some(ended) = self.must_stop() {
                return Err(ended);
            }
            let Some(pace) = &mut self.pace else { return Ok(()) };
            let wait = pace.wait();
            if wait.is_zero() {
                pace.taken += 1.0;
                return Ok(());
            }
            std::thread::sleep(wait.min(TICK));
            self.show();
        }
    }

    fn one(&mut self, chunk: &Chunk, item: &Item) -> Result<(), Ended> {
        let place = Place { source: item.source, line: item.line, input: item.input };
        let producer = self.producer;
        self.ledger.take(place);
        let body = |range: &std::ops::Range<usize>| chunk.bytes.get(range.clone()).unwrap_or_default();
        let payload = match &item.body {
            Ok(Body::Json(range)) => Payload::Json(body(range)),
            Ok(Body::Protobuf(range)) => Payload::Protobuf(body(range)),
            Err(violation) => return self.reject(chunk, item, vec![violation.clone()]),
        };
        match producer.check(&Event::new(payload)) {
            Ok(ready) if self.dry => {
                if let (Some(skew), Some(key)) = (&mut self.skew, ready.key()) {
                    skew.take(key);
                }
                self.ledger.accept(place);
                Ok(())
            }
            Ok(ready) => self.send(&ready, place),
            Err(SendError::Rejected(rejected)) => self.reject(chunk, item, rejected.violations),
            Err(error) => {
                self.ledger.lose(place, &error.to_string());
                Err(Ended::Refused(error.to_string()))
            }
        }
    }

    fn send(&mut self, ready: &Ready<'_>, place: Place) -> Result<(), Ended> {
        self.begin(place)?;
        let (producer, ledger) = (self.producer, Arc::clone(&self.ledger));
        self.settle(place, || producer.enqueue(ready, Some(TICK), ledger.report(place, Sent::Event)))?;
        self.count()
    }

    /// Waits for room as long as nothing ends the run.
    fn settle(&mut self, place: Place, mut enqueue: impl FnMut() -> Result<(), SendError>) -> Result<(), Ended> {
        loop {
            match enqueue() {
                Ok(()) => return Ok(()),
                Err(SendError::Full { .. }) => {
                    self.show();
                    if let Some(ended) = self.must_stop() {
                        self.ledger.put_back(place);
                        return Err(ended);
                    }
                }
                Err(error) => {
                    self.ledger.lose(place, &error.to_string());
                    return Err(Ended::Refused(error.to_string()));
                }
            }
        }
    }

    /// Keeps a rejected event where it was asked for, and shows the first ones.
    fn reject(&mut self, chunk: &Chunk, item: &Item, violations: Vec<Violation>) -> Result<(), Ended> {
        let place = Place { source: item.source, line: item.line, input: item.input };
        let Some(gate) = self.producer.gate(None) else { return Ok(()) };
        let rejected = gate.reject(violations);
        let (name, format) = self.sources.get(item.source).cloned().unwrap_or((String::new(), Format::Ndjson));
        let original = Original {
            bytes: chunk.bytes.get(item.original.clone()).unwrap_or_default(),
            whole: item.whole,
            content_type: format.content_type(),
            source: Some(&name),
            line: Some(item.line),
            input: Some(item.input),
        };
        self.tell(&name, item.line, &rejected);
        if let Some(rejects) = &mut self.rejects
            && let Err(error) = rejects.write(&rejected, &original)
        {
            self.ledger.put_back(place);
            return Err(Ended::Unwritten(format!("--rejects cannot be written: {error}")));
        }
        if self.letters && !self.dry {
            self.begin(place)?;
            let (producer, ledger) = (self.producer, Arc::clone(&self.ledger));
            self.settle(place, || {
                producer.enqueue_letter(&rejected, &original, Some(TICK), ledger.report(place, Sent::Letter))
            })?;
        } else {
            self.ledger.reject(place);
        }
        self.rejected += 1;
        let code = rejected.violations.first().map_or("", |violation| &violation.code);
        *self.reasons.entry(code.to_owned()).or_default() += 1;
        if self.max_rejects.is_some_and(|most| self.rejected > most) {
            return Err(Ended::TooManyRejects);
        }
        self.count()
    }

    fn tell(&self, name: &str, line: u64, rejected: &Rejected) {
        if self.rejected > SHOWN {
            return;
        }
        let text = if self.rejected == SHOWN {
            "further rejected events are only counted here\n".to_owned()
        } else {
            rejected.violations.iter().fold(String::new(), |text, violation| {
                let shown = format!("{name}:{line}: {violation}");
                text + &shown.chars().map(visible).collect::<String>() + "\n"
            })
        };
        // Where stderr has gone away the counts still tell.
        self.bar.suspend(|| _ = std::io::stderr().lock().write_all(text.as_bytes()));
    }

    fn begin(&mut self, place: Place) -> Result<(), Ended> {
        if self.transaction_size.is_none() || self.transaction.is_some() {
            return Ok(());
        }
        match self.producer.transaction() {
            Ok(transaction) => {
                self.ledger.begin(place);
                self.transaction = Some(Open { transaction, events: 0, begun: Instant::now() });
                Ok(())
            }
            Err(error) => {
                self.ledger.lose(place, &error.to_string());
                Err(Ended::Refused(error.to_string()))
            }
        }
    }

    /// One event more of the transaction.
    fn count(&mut self) -> Result<(), Ended> {
        let Some(open) = &mut self.transaction else { return Ok(()) };
        open.events += 1;
        if self.transaction_size.is_some_and(|size| open.events >= size) { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Ended> {
        let Some(open) = self.transaction.take() else { return Ok(()) };
        match open.transaction.commit(self.patience()) {
            Ok(()) => {
                self.ledger.commit();
                Ok(())
            }
            Err(error) => {
                self.ledger.roll_back();
                Err(Ended::RolledBack(match error {
                    TransactionError::RolledBack(why) => why,
                    other => format!("{other}; it may be visible all the same"),
                }))
            }
        }
    }

    /// How long what is on its way may take: every event is reported before that.
    fn patience(&self) -> Duration {
        self.producer.delivery_timeout() + STOP_PATIENCE
    }

    /// Brings what is on its way to its end.
    pub(super) fn finish(&mut self, ended: Ended) -> Ended {
        let ended = match (ended, self.transaction.is_some()) {
            (Ended::Complete, true) => self.commit().err().unwrap_or(Ended::Complete),
            (ended, true) => {
                let aborted = self.transaction.take().map(|open| open.transaction.abort());
                if let Some(Err(error)) = aborted {
                    tracing::warn!(%error, "the transaction could not be rolled back; the broker will do it");
                }
                self.ledger.roll_back();
                ended
            }
            (ended, false) => ended,
        };
        let mut until = Instant::now() + self.patience();
        if !matches!(ended, Ended::Complete) {
            until = Instant::now() + STOP_PATIENCE;
        }
        while self.producer.flush(TICK).is_err() && Instant::now() < until {
            self.ledger.flush();
            self.show();
            if self.stop.asked.load(Ordering::Acquire) {
                until = until.min(Instant::now() + STOP_PATIENCE);
            }
        }
        self.ledger.flush();
        if let Some(Err(error)) = self.rejects.as_mut().map(Rejects::flush) {
            return Ended::Unwritten(format!("--rejects cannot be written: {error}"));
        }
        match (ended, self.ledger.lost()) {
            (Ended::Complete, true) => Ended::Undelivered,
            (ended, _) => ended,
        }
    }

    fn show(&self) {
        if !self.bar.is_hidden() {
            let acknowledged = self.ledger.acknowledged();
            self.bar.set_message(message(acknowledged, self.rejected, self.bar.elapsed(), self.dry));
        }
    }
}

fn message(acknowledged: u64, rejected: u64, elapsed: Duration, dry: bool) -> String {
    let what = if dry { "valid" } else { "acknowledged" };
    let rate = rate(acknowledged + rejected, elapsed);
    let count = crate::cli::table::thousands;
    let rejected = if rejected == 0 { String::new() } else { format!(", {} rejected", count(rejected)) };
    format!("{} {what}{rejected}, {}/s", count(acknowledged), count(rate))
}

/// Events a second, rounded.
pub(super) fn rate(events: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(events) * 1_000_000 / micros).unwrap_or(u64::MAX)
}
