//! Produces whole inputs: reads events, checks them, sends them and accounts for each of them.

mod ledger;
mod skew;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tollgate_contract::visible;

pub use ledger::{Acks, Counts, Loss, Place};
pub use skew::Skew;

use crate::input::{self, Body, Chunk, Format, Item, Message, Source};
use crate::limits;
use crate::{
    Event, Original, Payload, Producer, Ready, Rejected, Rejects, SendError, Transaction, TransactionError, Violation,
};
use ledger::{Ledger, Sent};

/// The number of rejected events that are reported one by one; further ones are only counted.
const SHOWN: u64 = 10;

/// Settings of a run.
pub struct Options {
    /// Whether to check every event and send none.
    pub dry: bool,
    /// The number of events to skip from the beginning.
    pub skip: u64,
    /// The file of rejected events.
    pub rejects: Option<Rejects<Box<dyn Write + Send>>>,
    /// Whether rejected events are sent to the producer's dead letter topic.
    pub dead_letters: bool,
    /// The number of rejected events above which the run ends.
    pub max_rejects: Option<u64>,
    /// The number of events in a transaction. `None` is no transactions, and `u64::MAX` is one for the whole input.
    pub transaction_size: Option<u64>,
    /// The rate in events per second.
    pub rate: Option<f64>,
    /// The writer of the acknowledgements.
    pub acks: Option<Acks>,
    /// Counts how many partitions the keys of a dry run are spread over.
    pub skew: Option<Skew>,
}

/// Asks a run to stop, from another thread.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
}

impl Stop {
    /// Asks the run to stop. Returns whether that was asked before.
    pub fn ask(&self) -> bool {
        self.asked.swap(true, Ordering::AcqRel)
    }

    fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// Observes a run.
pub trait Watch {
    /// Called with the number of bytes of the inputs that have been read.
    fn position(&mut self, bytes: u64);
    /// Called at least every 100 ms with the events so far.
    fn progress(&mut self, acknowledged: u64, rejected: u64);
    /// Called with text about rejected events: lines with line ends.
    fn rejected(&mut self, text: &str);
}

/// The reason why a run ended.
#[derive(Debug)]
pub enum Ended {
    /// At the end of the inputs.
    Complete,
    Interrupted,
    TooManyRejects,
    Undelivered,
    /// The acknowledgements cannot be written; [`Finished::acks_error`] has the error, unless their reader went away.
    Unwatched,
    /// The client accepts no more records.
    Refused(String),
    RolledBack(String),
    /// Reading failed.
    Unreadable(String),
    /// An input has a different format than the caller named.
    WrongFormat(String),
    /// The file of rejected events cannot be written.
    RejectsUnwritten(io::Error),
}

/// The result of a run.
pub struct Finished {
    pub ended: Ended,
    pub counts: Counts,
    /// The number of events from the beginning that are settled. A later run skips these.
    pub settled: u64,
    /// For each code, the number of events whose first violation has it.
    pub reasons: BTreeMap<String, u64>,
    pub skew: Option<Skew>,
    pub loss: Option<Loss>,
    pub acks_error: Option<io::Error>,
    pub elapsed: Duration,
}

/// Runs the inputs through the producer's first route until they end, or something ends the run. Blocks. Closes the
/// producer.
///
/// # Errors
/// Fails if the reading thread cannot be started.
pub fn run(
    producer: Producer,
    sources: Vec<Source>,
    options: Options,
    stop: &Stop,
    watch: &mut dyn Watch,
) -> io::Result<Finished> {
    let begun = Instant::now();
    let Options { dry, skip, rejects, dead_letters, max_rejects, transaction_size, rate, acks, skew } = options;
    let ledger = Arc::new(Ledger::new(skip, acks));
    let names = sources.iter().map(|source| (source.name.clone(), source.format)).collect();
    let messages = match producer.gate(None) {
        Some(gate) => {
            let message = gate.input().clone();
            Some(input::start(sources, input::Options { message, most: gate.max_bytes(), skip })?.0)
        }
        None => None,
    };
    let mut run = Run {
        producer: &producer,
        dry,
        ledger: Arc::clone(&ledger),
        stop,
        watch,
        sources: names,
        rejects,
        letters: dead_letters && !dry,
        max_rejects,
        transaction_size: transaction_size.filter(|_| !dry),
        transaction: None,
        pace: rate.map(Pace::new),
        reasons: BTreeMap::new(),
        rejected: 0,
        skew,
    };
    let ended = messages.map_or(Ended::Complete, |messages| run.take(&messages));
    let ended = run.finish(ended);
    let (reasons, skew) = (std::mem::take(&mut run.reasons), run.skew.take());
    drop(run);
    // Events that are still in flight come back as undelivered.
    _ = producer.close(Duration::ZERO);
    Ok(Finished {
        ended,
        counts: ledger.counts(),
        settled: ledger.settled(),
        reasons,
        skew,
        loss: ledger.loss(),
        acks_error: ledger.trouble(),
        elapsed: begun.elapsed(),
    })
}

/// Spreads events evenly over time.
struct Pace {
    per_second: f64,
    begun: Instant,
    taken: f64,
}

impl Pace {
    fn new(per_second: f64) -> Pace {
        Pace { per_second, begun: Instant::now(), taken: 0.0 }
    }

    /// Returns how long the next event has to wait. The rate is not exceeded to catch up after a time without events.
    fn wait(&mut self) -> Duration {
        let due = Duration::from_secs_f64(self.taken / self.per_second);
        let passed = self.begun.elapsed();
        if passed > due + limits::RATE_GAP {
            *self = Pace::new(self.per_second);
            return Duration::ZERO;
        }
        due.saturating_sub(passed)
    }
}

struct Run<'p> {
    producer: &'p Producer,
    dry: bool,
    ledger: Arc<Ledger>,
    stop: &'p Stop,
    watch: &'p mut dyn Watch,
    /// Names and formats of the inputs.
    sources: Vec<(String, Format)>,
    rejects: Option<Rejects<Box<dyn Write + Send>>>,
    letters: bool,
    max_rejects: Option<u64>,
    transaction_size: Option<u64>,
    transaction: Option<Open<'p>>,
    pace: Option<Pace>,
    reasons: BTreeMap<String, u64>,
    rejected: u64,
    skew: Option<Skew>,
}

struct Open<'p> {
    transaction: Transaction<'p>,
    events: u64,
    begun: Instant,
}

impl Run<'_> {
    /// Takes events until the input ends or something ends the run.
    fn take(&mut self, messages: &Receiver<Message>) -> Ended {
        loop {
            if let Some(ended) = self.must_stop() {
                return ended;
            }
            let message = match messages.recv_timeout(limits::STOP_LOOK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.ledger.flush();
                    self.show();
                    if self.transaction.as_ref().is_some_and(|open| open.begun.elapsed() > limits::IDLE_TRANSACTION)
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
                    self.watch.position(chunk.position);
                    self.show();
                }
                Message::Unreadable(message) => return Ended::Unreadable(message),
                Message::Wrong(message) => return Ended::WrongFormat(message),
            }
        }
    }

    fn must_stop(&self) -> Option<Ended> {
        if self.stop.asked() {
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
            std::thread::sleep(wait.min(limits::STOP_LOOK));
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
        self.settle(place, || producer.enqueue(ready, Some(limits::STOP_LOOK), ledger.report(place, Sent::Event)))?;
        self.count()
    }

    /// Enqueues, waiting for room in the buffer as long as nothing ends the run.
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

    /// Stores a rejected event as configured, and reports it if it is one of the first.
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
        self.report(&name, item.line, &rejected);
        if let Some(rejects) = &mut self.rejects
            && let Err(error) = rejects.write(&rejected, &original)
        {
            self.ledger.put_back(place);
            return Err(Ended::RejectsUnwritten(error));
        }
        if self.letters {
            self.begin(place)?;
            let (producer, ledger) = (self.producer, Arc::clone(&self.ledger));
            self.settle(place, || {
                producer.enqueue_letter(
                    &rejected,
                    &original,
                    Some(limits::STOP_LOOK),
                    ledger.report(place, Sent::Letter),
                )
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

    fn report(&mut self, name: &str, line: u64, rejected: &Rejected) {
        if self.rejected > SHOWN {
            return;
        }
        let text = if self.rejected == SHOWN {
            "further rejected events are only counted\n".to_owned()
        } else {
            rejected.violations.iter().fold(String::new(), |text, violation| {
                let shown = format!("{name}:{line}: {violation}");
                text + &shown.chars().map(visible).collect::<String>() + "\n"
            })
        };
        self.watch.rejected(&text);
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

    /// Counts an event of the open transaction, and commits a full one.
    fn count(&mut self) -> Result<(), Ended> {
        let Some(open) = &mut self.transaction else { return Ok(()) };
        open.events += 1;
        if self.transaction_size.is_some_and(|size| open.events >= size) { self.commit() } else { Ok(()) }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
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
                    other => format!("{other}; it may be visible nevertheless"),
                }))
            }
        }
    }

    /// Returns how long events in flight may take: each is reported before that.
    fn patience(&self) -> Duration {
        self.producer.delivery_timeout() + limits::STOP_PATIENCE
    }

    /// Waits for events in flight.
    fn finish(&mut self, ended: Ended) -> Ended {
        let ended = match (ended, self.transaction.is_some()) {
            (Ended::Complete, true) => self.commit().err().unwrap_or(Ended::Complete),
            (ended, true) => {
                let aborted = self.transaction.take().map(|open| open.transaction.abort());
                if let Some(Err(error)) = aborted {
                    tracing::warn!(%error, "the transaction could not be rolled back; the broker will abort it");
                }
                self.ledger.roll_back();
                ended
            }
            (ended, false) => ended,
        };
        let mut until = Instant::now() + self.patience();
        if !matches!(ended, Ended::Complete) {
            until = Instant::now() + limits::STOP_PATIENCE;
        }
        while self.producer.flush(limits::STOP_LOOK).is_err() && Instant::now() < until {
            self.ledger.flush();
            self.show();
            if self.stop.asked() {
                until = until.min(Instant::now() + limits::STOP_PATIENCE);
            }
        }
        self.ledger.flush();
        if let Some(Err(error)) = self.rejects.as_mut().map(Rejects::flush) {
            return Ended::RejectsUnwritten(error);
        }
        match (ended, self.ledger.lost()) {
            (Ended::Complete, true) => Ended::Undelivered,
            (ended, _) => ended,
        }
    }

    fn show(&mut self) {
        self.watch.progress(self.ledger.acknowledged(), self.rejected);
    }
}
