//! The producer. A record first takes room in the buffer, then enters librdkafka's queue, and ends with a report.

use std::fs::{File, OpenOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use crate::gate::{Gate, Ready, Route};
use crate::limits;
use crate::reject::{self, Original, Rejected, Rejects};
use crate::reports::{Pending, Reports, is_refusal};
use crate::room::{Budget, Load};
use crate::{
    Config, ConnectError, Delivery, Event, Invalid, Outcome, SendError, SetupError, Unacknowledged, Violation,
};

/// Called once with the outcome of an event, on the thread that processes reports. It must return quickly and not wait
/// for this producer.
pub type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// The memory of a record besides key, value and headers. This is a generous estimate of librdkafka's own structures.
const RECORD_OVERHEAD: usize = 256;

/// A producer of events that have passed their contracts. Share it by reference or in an `Arc`.
pub struct Producer {
    pub(crate) client: Arc<BaseProducer<Reports>>,
    pub(crate) config: Config,
    gates: Vec<Gate>,
    rejects: Option<Mutex<Rejects<File>>>,
    pub(crate) letters: Option<Arc<str>>,
    /// Whether a transaction is open.
    pub(crate) open: AtomicBool,
    /// Whether `init_transactions` has succeeded.
    pub(crate) initialised: AtomicBool,
    poller: Option<Poller>,
}

struct Poller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Producer {
    /// Creates the client and starts the thread that processes reports, without contacting a broker. Events that name
    /// no topic go to the first route.
    ///
    /// # Errors
    /// Fails if a route, a key or a setting is invalid, or if the file for rejected events cannot be opened.
    pub fn new(config: Config, routes: impl IntoIterator<Item = Route>) -> Result<Producer, SetupError> {
        let gates = routes.into_iter().map(Gate::new).collect::<Result<Vec<_>, _>>()?;
        Producer::with_gates(config, gates)
    }

    /// Works like [`Producer::new`], but with compiled routes.
    ///
    /// # Errors
    /// Fails as [`Producer::new`] does.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    pub fn with_gates(config: Config, gates: Vec<Gate>) -> Result<Producer, SetupError> {
        if gates.is_empty() {
            return Err(SetupError::NoRoute);
        }
        for (index, gate) in gates.iter().enumerate() {
            if gates[..index].iter().any(|other| other.topic == gate.topic) {
                return Err(SetupError::TwoRoutes { topic: gate.topic.to_string() });
            }
        }
        let rejects = match &config.invalid {
            Invalid::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path).map_err(SetupError::Rejects)?;
                Some(Mutex::new(Rejects::new(file)))
            }
            Invalid::Return | Invalid::Topic(_) => None,
        };
        let letters = match &config.invalid {
            Invalid::Topic(topic) => Some(topic.as_str().into()),
            Invalid::Return | Invalid::File(_) => None,
        };
        let reports = Reports::new(Budget::new(config.buffer));
        let client =
            BaseProducer::from_config_and_context(&config.settings(), reports).map_err(|error| match error {
                KafkaError::ClientConfig(_, _, setting, _) => SetupError::Setting { setting },
                other => SetupError::Client(other.to_string()),
            })?;
        let client = Arc::new(client);
        let poller = Poller::start(&client).map_err(SetupError::Thread)?;
        let (open, initialised) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Producer { client, config, gates, rejects, letters, open, initialised, poller: Some(poller) })
    }

    pub(crate) fn reports(&self) -> &Reports {
        self.client.context()
    }

    /// Returns the gate of a topic, or the first gate if no topic is named.
    #[must_use]
    pub fn gate(&self, topic: Option<&str>) -> Option<&Gate> {
        match topic {
            None => self.gates.first(),
            Some(topic) => self.gates.iter().find(|gate| gate.topic() == topic),
        }
    }

    /// Returns the time within which every event has an outcome.
    #[must_use]
    pub fn delivery_timeout(&self) -> Duration {
        self.config.delivery_timeout
    }

    /// Returns the number and size of the records in flight.
    #[must_use]
    pub fn in_flight(&self) -> Load {
        self.reports().room.load()
    }

    /// Connects to the brokers, checks that every topic exists, and ends transactions that an earlier producer with the
    /// same transactional id left open. It is optional, and reports errors before the first event meets them.
    ///
    /// # Errors
    /// Fails if no broker responds in time, if one rejects us, or if a topic is missing.
    pub fn connect(&self, patience: Duration) -> Result<(), ConnectError> {
        let until = Instant::now() + patience;
        let topics = self.gates.iter().map(|gate| &gate.topic).chain(&self.letters);
        for topic in topics {
            self.find(topic, until)?;
        }
        if self.config.transactional_id.is_some() {
            self.initialise(until)?;
        }
        Ok(())
    }

    fn find(&self, topic: &str, until: Instant) -> Result<(), ConnectError> {
        let mut seen = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self
                .client
                .client()
                .fetch_metadata(Some(topic), limits::METADATA_CALL.min(left).max(limits::REPORTS_POLL))
            {
                Ok(metadata) => {
                    let error = metadata.topics().first().map(|topic| topic.error().map(RDKafkaErrorCode::from));
                    match error {
                        Some(None) => return Ok(()),
                        // Other brokers learn of a topic a moment after its creation, so check once more.
                        None
                        | Some(Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
                            if seen {
                                return Err(ConnectError::TopicMissing { topic: topic.to_owned() });
                            }
                            seen = true;
                            std::thread::sleep(limits::REJECTION_EVENT);
                        }
                        Some(Some(RDKafkaErrorCode::LeaderNotAvailable)) if !left.is_zero() => {
                            std::thread::sleep(limits::REPORTS_POLL)
                        }
                        Some(Some(code)) => {
                            return Err(ConnectError::Topic { topic: topic.to_owned(), why: code.to_string() });
                        }
                    }
                }
                Err(error) => {
                    if let Some(code) = error.rdkafka_error_code().filter(|code| is_refusal(*code)) {
                        return Err(ConnectError::Refused { why: code.to_string() });
                    }
                    self.unless_refused()?;
                    if left.is_zero() {
                        return Err(self.unreachable(&error));
                    }
                }
            }
        }
    }

    fn unless_refused(&self) -> Result<(), ConnectError> {
        let until = Instant::now() + limits::REJECTION_EVENT;
        loop {
            if let Some(why) = self.reports().refusal() {
                return Err(ConnectError::Refused { why });
            }
            if Instant::now() >= until {
                return Ok(());
            }
            std::thread::sleep(limits::REPORTS_POLL);
        }
    }

    pub(crate) fn unreachable(&self, error: &KafkaError) -> ConnectError {
        let why = self.reports().complaint().unwrap_or_else(|| error.to_string());
        ConnectError::Unreachable { brokers: self.config.brokers(), why }
    }

    /// Checks an event against the contract of its topic.
    ///
    /// # Errors
    /// Returns [`SendError::Rejected`] with all violations, or [`SendError::NoRoute`].
    pub fn check<'a>(&'a self, event: &Event<'a>) -> Result<Ready<'a>, SendError> {
        let gate = self.gate(event.topic).ok_or_else(|| no_route(event))?;
        let ready = gate.check(event)?;
        let (bytes, most) = (size(&ready) - RECORD_OVERHEAD, self.config.record_bytes);
        if bytes > most {
            let message = format!("the record has {bytes} bytes with key and headers; {most} are allowed");
            return Err(gate.reject(vec![Violation::new("record-too-large", "", message)]).into());
        }
        Ok(ready)
    }

    /// Checks an event and sends it. Waits for room without a limit. [`Config::invalid`] determines what happens to
    /// rejected events.
    ///
    /// # Errors
    /// Fails if the event is rejected, or if the producer accepts no more events.
    pub fn send(&self, event: &Event<'_>) -> Result<Delivery, SendError> {
        let ready = self.check(event).map_err(|error| self.keep(error, event))?;
        let (delivery, cell) = Delivery::new();
        self.enqueue(&ready, None, Box::new(move |outcome| cell.settle(outcome)))?;
        Ok(delivery)
    }

    /// Works like [`Producer::send`] in async programs: waits for room without blocking the thread.
    ///
    /// # Errors
    /// Fails as [`Producer::send`] does.
    pub async fn send_async(&self, event: &Event<'_>) -> Result<Delivery, SendError> {
        let ready = self.check(event).map_err(|error| self.keep(error, event))?;
        let bytes = size(&ready);
        std::future::poll_fn(|context| self.reports().room.poll_take(bytes, context)).await;
        let (delivery, cell) = Delivery::new();
        self.place(&ready, bytes, Box::new(move |outcome| cell.settle(outcome)))?;
        Ok(delivery)
    }

    /// Sends a checked event. Waits for room for `patience`, or forever if it is `None`. `report` is called exactly
    /// once if this returns `Ok`, and never otherwise.
    ///
    /// # Errors
    /// Returns [`SendError::Full`] if there was no room in time, or [`SendError::Refused`] if the client accepts
    /// nothing.
    pub fn enqueue(&self, ready: &Ready<'_>, patience: Option<Duration>, report: Callback) -> Result<(), SendError> {
        let bytes = size(ready);
        self.take(bytes, patience)?;
        self.place(ready, bytes, report)
    }

    /// Sends a rejected event to the dead letter topic, with room as for an event.
    ///
    /// # Errors
    /// Fails as [`Producer::enqueue`] does, and with [`SendError::NoRoute`] if there is no such topic.
    pub fn enqueue_letter(
        &self,
        rejected: &Rejected,
        original: &Original<'_>,
        patience: Option<Duration>,
        report: Callback,
    ) -> Result<(), SendError> {
        let topic = self.letters.as_ref().ok_or(SendError::NoRoute { topic: "for dead letters".to_owned() })?;
        let headers = rejected.headers(original);
        let bytes = RECORD_OVERHEAD
            + original.bytes.len()
            + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.take(bytes, patience)?;
        let pending = Pending::new(topic, bytes, report);
        let record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, pending)
            .payload(original.bytes)
            .headers(reject::owned(&headers));
        self.hand_over(record, bytes)
    }

    fn take(&self, bytes: usize, patience: Option<Duration>) -> Result<(), SendError> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        if self.reports().room.take(bytes, deadline) {
            return Ok(());
        }
        let Load { records, bytes } = self.in_flight();
        Err(SendError::Full { records, bytes })
    }

    /// Puts the event into librdkafka's queue. Its room is already taken, and is returned if this fails.
    fn place(&self, ready: &Ready<'_>, bytes: usize, report: Callback) -> Result<(), SendError> {
        let own = ready.gate.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let count = ready.gate.headers.len() + ready.headers.len();
        let headers = own
            .chain(ready.headers.iter().copied())
            .fold(OwnedHeaders::new_with_capacity(count), |list, (key, value)| {
                list.insert(Header { key, value: Some(value) })
            });
        let pending = Pending::new(&ready.gate.topic, bytes, report);
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&ready.gate.topic, pending)
            .payload(&*ready.value)
            .headers(headers);
        record.key = ready.key.as_deref();
        record.timestamp = ready.timestamp;
        self.hand_over(record, bytes)
    }

    fn hand_over(&self, mut record: BaseRecord<'_, [u8], [u8], Box<Pending>>, bytes: usize) -> Result<(), SendError> {
        loop {
            let error = match self.client.send(record) {
                Ok(()) => return Ok(()),
                // librdkafka's limits are above ours, but it counts differently.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(limits::QUEUE_WAIT);
                    continue;
                }
                Err((error, _)) => error,
            };
            self.reports().room.give(bytes);
            return Err(SendError::Refused(self.why(&error)));
        }
    }

    fn why(&self, error: &KafkaError) -> String {
        if let Some((_, reason)) = self.client.client().fatal_error() {
            return reason;
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                format!("the record has more than {} bytes", self.config.record_bytes)
            }
            Some(RDKafkaErrorCode::State) => "no transaction is open".to_owned(),
            _ => error.to_string(),
        }
    }

    /// Stores a rejected event in the configured place.
    fn keep(&self, error: SendError, event: &Event<'_>) -> SendError {
        let SendError::Rejected(mut rejected) = error else { return error };
        let original = Original {
            bytes: event.payload.bytes(),
            content_type: event.payload.content_type(),
            ..Original::default()
        };
        if let Some(rejects) = &self.rejects {
            let mut rejects = rejects.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = rejects.write(&rejected, &original) {
                return SendError::Rejects(error);
            }
        }
        if self.letters.is_some() {
            let (delivery, cell) = Delivery::new();
            let report: Callback = Box::new(move |outcome| cell.settle(outcome));
            match self.enqueue_letter(&rejected, &original, None, report) {
                Ok(()) => rejected.letter = Some(delivery),
                Err(error) => return error,
            }
        }
        SendError::Rejected(rejected)
    }

    /// Waits until every sent event has an outcome.
    ///
    /// # Errors
    /// Returns the number of records in flight at the deadline. They stay in flight.
    pub fn flush(&self, patience: Duration) -> Result<(), Unacknowledged> {
        match self.reports().room.wait_empty(Instant::now() + patience) {
            0 => Ok(()),
            records => Err(Unacknowledged { records }),
        }
    }

    /// Flushes, then drops the remaining events. Each of these is reported as undelivered before this returns.
    ///
    /// # Errors
    /// Returns the number of dropped records.
    pub fn close(mut self, patience: Duration) -> Result<(), Unacknowledged> {
        let flushed = self.flush(patience);
        self.end(flushed.is_err());
        flushed
    }

    fn end(&mut self, purge: bool) {
        let Some(poller) = self.poller.take() else { return };
        if purge {
            self.client.purge(PurgeConfig::default().queue().inflight());
            // The reports of dropped records need no broker.
            self.reports().room.wait_empty(Instant::now() + limits::REJECTION_EVENT * 10);
        }
        poller.stop.store(true, Ordering::Release);
        if poller.thread.join().is_err() {
            tracing::error!("the thread for delivery reports panicked");
        }
    }
}

impl Drop for Producer {
    /// Drops everything in flight; use [`Producer::close`] to wait for it.
    fn drop(&mut self) {
        self.end(true);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("config", &self.config)
            .field("gates", &self.gates)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl Poller {
    fn start(client: &Arc<BaseProducer<Reports>>) -> std::io::Result<Poller> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, client) = (Arc::clone(&stop), Arc::clone(client));
        let thread = std::thread::Builder::new().name("producer-reports".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                client.poll(limits::REPORTS_POLL);
            }
        })?;
        Ok(Poller { stop, thread })
    }
}

fn no_route(event: &Event<'_>) -> SendError {
    SendError::NoRoute { topic: event.topic.unwrap_or_default().to_owned() }
}

/// Returns the room that the record takes.
fn size(ready: &Ready<'_>) -> usize {
    let own = ready.gate.headers.iter().map(|(name, value)| name.len() + value.len());
    let further = ready.headers.iter().map(|(name, value)| name.len() + value.len());
    RECORD_OVERHEAD + ready.key().map_or(0, <[u8]>::len) + ready.value.len() + own.chain(further).sum::<usize>()
}
