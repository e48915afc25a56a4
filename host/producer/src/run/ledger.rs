//! Counts outcomes. Each event that was taken has exactly one of these outcomes: acknowledged, rejected, undelivered.
//!
//! The reading loop and the thread that processes the broker's reports write to the ledger. It keeps the numbers of the
//! events in flight, which the producer's buffer bounds. A later run continues at the lowest of them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Seek as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Acknowledged, Callback, Outcome};

/// The origin of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The index of the input.
    pub source: usize,
    pub line: u64,
    /// The event's number across all inputs, from 1.
    pub input: u64,
}

/// The record that was sent for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Event,
    /// The dead letter of a rejected event.
    Letter,
}

/// The number of events by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub read: u64,
    pub acknowledged: u64,
    pub rejected: u64,
    pub undelivered: u64,
}

impl Counts {
    /// Returns whether each event has exactly one outcome.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.read == self.acknowledged + self.rejected + self.undelivered
    }
}

/// The first undelivered event.
#[derive(Debug, Clone)]
pub struct Loss {
    pub place: Place,
    pub reason: String,
}

pub(super) struct Ledger {
    books: Mutex<Books>,
    /// Whether an event is undelivered.
    lost: AtomicBool,
    /// Whether the acknowledgements cannot be written any more.
    unwatched: AtomicBool,
}

#[derive(Default)]
struct Books {
    counts: Counts,
    on_their_way: BTreeSet<u64>,
    /// The last event that was taken. Before the first one, the number of skipped events.
    last: u64,
    loss: Option<Loss>,
    /// The outcomes within a transaction, which count at its end.
    staged: Option<Staged>,
    acks: Option<Acks>,
    trouble: Option<io::Error>,
}

#[derive(Default)]
struct Staged {
    acknowledged: u64,
    letters: u64,
    /// The last event before the transaction.
    before: u64,
}

impl Ledger {
    pub(super) fn new(skipped: u64, acks: Option<Acks>) -> Ledger {
        let books = Books { last: skipped, acks, ..Books::default() };
        Ledger { books: Mutex::new(books), lost: AtomicBool::new(false), unwatched: AtomicBool::new(false) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that an event was taken.
    pub(super) fn take(&self, place: Place) {
        let mut books = self.books();
        books.counts.read += 1;
        books.last = place.input;
        books.on_their_way.insert(place.input);
    }

    /// Undoes [`Ledger::take`] for an event that was not sent.
    pub(super) fn put_back(&self, place: Place) {
        let mut books = self.books();
        books.counts.read -= 1;
        books.last = place.input - 1;
        books.on_their_way.remove(&place.input);
    }

    /// Records a valid event that is not sent.
    pub(super) fn accept(&self, place: Place) {
        let mut books = self.books();
        books.on_their_way.remove(&place.input);
        books.counts.acknowledged += 1;
    }

    pub(super) fn reject(&self, place: Place) {
        let mut books = self.books();
        books.on_their_way.remove(&place.input);
        books.counts.rejected += 1;
    }

    pub(super) fn lose(&self, place: Place, reason: &str) {
        let mut books = self.books();
        books.on_their_way.remove(&place.input);
        books.counts.undelivered += 1;
        if books.loss.as_ref().is_none_or(|loss| loss.place.input > place.input) {
            books.loss = Some(Loss { place, reason: reason.to_owned() });
        }
        drop(books);
        self.lost.store(true, Ordering::Release);
    }

    /// Returns the callback that records the outcome when the broker reports it.
    pub(super) fn report(self: &Arc<Self>, place: Place, sent: Sent) -> Callback {
        let ledger = Arc::clone(self);
        Box::new(move |outcome: Outcome| match outcome {
            Ok(acknowledged) => ledger.acknowledge(place, sent, &acknowledged),
            Err(undelivered) => ledger.lose(place, &undelivered.to_string()),
        })
    }

    fn acknowledge(&self, place: Place, sent: Sent, acknowledged: &Acknowledged) {
        let mut books = self.books();
        books.on_their_way.remove(&place.input);
        let Books { counts, staged, acks, trouble, .. } = &mut *books;
        match (staged, sent) {
            (Some(staged), Sent::Event) => staged.acknowledged += 1,
            (Some(staged), Sent::Letter) => staged.letters += 1,
            (None, Sent::Event) => counts.acknowledged += 1,
            (None, Sent::Letter) => counts.rejected += 1,
        }
        if sent == Sent::Event
            && let Some(acks) = acks
            && let Err(error) = acks.write(place, acknowledged)
        {
            self.fail(error, trouble);
        }
    }

    fn fail(&self, error: io::Error, trouble: &mut Option<io::Error>) {
        if error.kind() != ErrorKind::BrokenPipe {
            *trouble = Some(error);
        }
        self.unwatched.store(true, Ordering::Release);
    }

    /// Begins a transaction, which ends with [`Ledger::commit`] or [`Ledger::roll_back`]. `taken` is its first event.
    pub(super) fn begin(&self, taken: Place) {
        self.books().staged = Some(Staged { before: taken.input - 1, ..Staged::default() });
    }

    pub(super) fn commit(&self) {
        let mut books = self.books();
        let Books { counts, staged, acks, trouble, .. } = &mut *books;
        if let Some(staged) = staged.take() {
            counts.acknowledged += staged.acknowledged;
            counts.rejected += staged.letters;
        }
        if let Some(Err(error)) = acks.as_mut().map(Acks::publish) {
            self.fail(error, trouble);
        }
    }

    pub(super) fn roll_back(&self) {
        let mut books = self.books();
        if let Some(staged) = books.staged.take() {
            books.counts.undelivered += staged.acknowledged + staged.letters;
            books.last = staged.before;
            if let Some(Err(error)) = books.acks.as_mut().map(Acks::forget) {
                books.trouble = Some(error);
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.books().counts
    }

    /// Returns the acknowledged events, including those of an open transaction.
    pub(super) fn acknowledged(&self) -> u64 {
        let books = self.books();
        books.counts.acknowledged + books.staged.as_ref().map_or(0, |staged| staged.acknowledged)
    }

    /// Returns how many events from the beginning are settled. A later run skips these.
    pub(super) fn settled(&self) -> u64 {
        let books = self.books();
        let mut settled = books.last;
        if let Some(first) = books.on_their_way.first() {
            settled = settled.min(first - 1);
        }
        if let Some(loss) = &books.loss {
            settled = settled.min(loss.place.input - 1);
        }
        settled
    }

    pub(super) fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(super) fn loss(&self) -> Option<Loss> {
        self.books().loss.clone()
    }

    pub(super) fn unwatched(&self) -> bool {
        self.unwatched.load(Ordering::Acquire)
    }

    /// Flushes the acknowledgements, so that a reader sees them in time.
    pub(super) fn flush(&self) {
        let mut books = self.books();
        let Books { staged, acks, trouble, .. } = &mut *books;
        if staged.is_none()
            && let Some(Err(error)) = acks.as_mut().map(Acks::flush)
        {
            self.fail(error, trouble);
        }
    }

    /// Returns the error with which writing the acknowledgements failed.
    pub(super) fn trouble(&self) -> Option<io::Error> {
        self.books().trouble.take()
    }
}

/// Writes a line for each acknowledged event. Within transactions the lines are kept in a temporary file, because a
/// transaction may be rolled back, and may be larger than memory.
pub struct Acks {
    out: BufWriter<Box<dyn Write + Send>>,
    spool: Option<BufWriter<File>>,
    /// The inputs' names, as JSON.
    names: Vec<String>,
}

impl Acks {
    /// Creates the writer. `names` are the inputs' names.
    ///
    /// # Errors
    /// Fails if a temporary file cannot be created.
    pub fn new(out: Box<dyn Write + Send>, names: &[String], transactional: bool) -> io::Result<Acks> {
        let spool = if transactional { Some(BufWriter::new(tempfile::tempfile()?)) } else { None };
        let names = names.iter().map(|name| serde_json::Value::from(name.as_str()).to_string()).collect();
        Ok(Acks { out: BufWriter::new(out), spool, names })
    }

    fn write(&mut self, place: Place, acknowledged: &Acknowledged) -> io::Result<()> {
        let out: &mut dyn Write = match &mut self.spool {
            Some(spool) => spool,
            None => &mut self.out,
        };
        let Place { source, line, input } = place;
        let name = self.names.get(source).map_or("null", String::as_str);
        let Acknowledged { topic, partition, offset } = acknowledged;
        // A topic's name needs no escapes.
        writeln!(
            out,
            r#"{{"source":{name},"line":{line},"input":{input},"topic":"{topic}","partition":{partition},"offset":{offset}}}"#
        )
    }

    fn publish(&mut self) -> io::Result<()> {
        if let Some(spool) = &mut self.spool {
            spool.flush()?;
            let file = spool.get_mut();
            file.rewind()?;
            io::copy(file, &mut self.out)?;
            self.forget()?;
        }
        self.flush()
    }

    fn forget(&mut self) -> io::Result<()> {
        if let Some(spool) = &mut self.spool {
            spool.flush()?;
            let file = spool.get_mut();
            file.set_len(0)?;
            file.rewind()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(input: u64) -> Place {
        Place { source: 0, line: input + 1, input }
    }

    fn acknowledged(offset: i64) -> Outcome {
        Ok(Acknowledged { topic: "orders".into(), partition: 1, offset })
    }

    /// Holds the output for the test.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_later_run_goes_on_at_the_first_that_is_not_settled() {
        let ledger = Arc::new(Ledger::new(10, None));
        assert_eq!(ledger.settled(), 10);
        (11..=14).for_each(|input| ledger.take(place(input)));
        ledger.report(place(12), Sent::Event)(acknowledged(0));
        assert_eq!(ledger.settled(), 10, "11 is on its way");
        ledger.report(place(11), Sent::Letter)(acknowledged(0));
        assert_eq!(ledger.settled(), 12);
        ledger.put_back(place(14));
        ledger.lose(place(13), "gone");
        assert_eq!((ledger.settled(), ledger.lost()), (12, true));
        let counts = ledger.counts();
        assert_eq!(counts, Counts { read: 3, acknowledged: 1, rejected: 1, undelivered: 1 });
        assert!(counts.add_up());
    }

    #[test]
    fn a_transaction_counts_when_it_is_committed_and_not_before() {
        let out = Shared::default();
        let acks = Acks::new(Box::new(out.clone()), &["a \"b\"".to_owned()], true).unwrap();
        let ledger = Arc::new(Ledger::new(0, Some(acks)));
        for (first, commit) in [(1, false), (3, true)] {
            (first..first + 2).for_each(|input| ledger.take(place(input)));
            ledger.begin(place(first));
            ledger.report(place(first), Sent::Event)(acknowledged(7));
            ledger.report(place(first + 1), Sent::Event)(acknowledged(8));
            if commit { ledger.commit() } else { ledger.roll_back() }
        }
        assert_eq!(ledger.counts(), Counts { read: 4, acknowledged: 2, rejected: 0, undelivered: 2 });
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(
            (&lines[0]["source"], &lines[0]["input"], &lines[1]["offset"]),
            (&"a \"b\"".into(), &3.into(), &8.into())
        );
    }

    #[test]
    fn a_rolled_back_run_starts_over() {
        let ledger = Arc::new(Ledger::new(5, None));
        ledger.take(place(6));
        ledger.begin(place(6));
        ledger.report(place(6), Sent::Event)(acknowledged(0));
        ledger.roll_back();
        assert_eq!(ledger.settled(), 5);
        assert!(ledger.counts().add_up());
    }
}
