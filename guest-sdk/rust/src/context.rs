//! The context of the current event besides its message, and the actions on it.

use std::borrow::Cow;
use std::cell::Cell;

use prost::Message;

use crate::batch::Batch;
use crate::host;
use crate::level::Level;
use crate::verdict::{Rejection, Verdict};

const NULL_KEY: u8 = 1;
const NULL_VALUE: u8 = 2;

/// The current event: its origin, key and headers, and the destination of outputs.
pub struct Context {
    batch: Batch,
    routes: &'static [&'static str],
    index: Cell<usize>,
    /// Whether something has been emitted in the event's place on the main output.
    replaced: Cell<bool>,
    /// Outputs are encoded in this buffer, so that a warm transform does not allocate.
    scratch: Cell<Vec<u8>>,
}

impl Context {
    pub(crate) fn new(batch: Batch, routes: &'static [&'static str]) -> Self {
        Self { batch, routes, index: Cell::new(0), replaced: Cell::new(false), scratch: Cell::default() }
    }

    pub(crate) fn enter(&self, index: usize) {
        self.index.set(index);
        self.replaced.set(false);
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.get()
    }

    /// Returns the record's key; `None` if it has none, which differs from an empty key.
    pub fn key(&self) -> Option<&[u8]> {
        let at = self.index.get();
        (self.batch.flags[at] & NULL_KEY == 0).then(|| self.bytes(2 * at))
    }

    /// Returns the record's value unchanged; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        self.bytes(2 * self.index.get() + 1)
    }

    /// Returns whether the record has no value at all. A transform receives such events only if it requests them with
    /// `#[transform(tombstones)]`; otherwise they pass unchanged.
    pub fn is_tombstone(&self) -> bool {
        self.batch.flags[self.index.get()] & NULL_VALUE != 0
    }

    fn bytes(&self, bound: usize) -> &[u8] {
        let (from, to) = (self.batch.offsets[bound], self.batch.offsets[bound + 1]);
        &self.batch.arena[from as usize..to as usize]
    }

    /// Returns the last header of this name that has a value. Each call goes to the host, so read only what you need.
    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        host::header(name)
    }

    /// Returns the header as text; `None` also if it is not UTF-8.
    pub fn header_text(&self, name: &str) -> Option<String> {
        self.header(name).and_then(|value| String::from_utf8(value).ok())
    }

    /// Returns the record's timestamp in Unix milliseconds, if it has one.
    pub fn timestamp(&self) -> Option<i64> {
        Some(self.batch.timestamps[self.index.get()]).filter(|&at| at >= 0)
    }

    /// Returns the topic of the record.
    pub fn topic(&self) -> &str {
        &self.batch.topic
    }

    /// Returns the partition of the record.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// Returns the record's offset in its partition.
    pub fn offset(&self) -> i64 {
        self.batch.record_offsets[self.index.get()]
    }

    /// Returns the schema registry's id of the payload's schema; 0 without a registry.
    pub fn schema_id(&self) -> u32 {
        self.batch.schema_id
    }

    /// Returns when the batch was taken, in Unix milliseconds. It is the same when the batch is run again, so use it in
    /// place of a clock.
    pub fn batch_time(&self) -> i64 {
        self.batch.batch_time
    }

    /// Returns a number that differs from batch to batch and is the same when a batch is run again.
    pub fn seed(&self) -> u64 {
        self.batch.seed
    }

    /// Emits a message of the output's type in the event's place; then return [`Verdict::Replace`].
    pub fn emit<M: Message>(&self, output: &M) {
        self.replaced.set(true);
        self.emit_at(0, output);
    }

    /// Emits a message to a route, by its name in transform.yaml, which also sets the route's message type.
    ///
    /// This does not replace the event on the main output: [`Verdict::Replace`] sends the event there too, and
    /// [`Verdict::Emitted`] does not.
    ///
    /// # Panics
    /// If the attribute does not list that route: `#[transform(routes("audit"))]`.
    #[track_caller]
    pub fn emit_to<M: Message>(&self, route: &str, output: &M) {
        self.emit_at(self.route(route), output);
    }

    /// Emits a tombstone: a record that deletes its key.
    pub fn delete(&self) {
        self.replaced.set(true);
        host::delete(0);
    }

    /// Emits a tombstone to a route.
    ///
    /// # Panics
    /// Panics as [`Context::emit_to`] does.
    #[track_caller]
    pub fn delete_to(&self, route: &str) {
        host::delete(self.route(route));
    }

    fn emit_at<M: Message>(&self, route: u32, output: &M) {
        let mut buffer = self.scratch.take();
        buffer.clear();
        output.encode_raw(&mut buffer);
        host::emit(route, &buffer);
        self.scratch.set(buffer);
    }

    /// Emits the event's own bytes.
    pub(crate) fn emit_value(&self) {
        host::emit(0, self.value());
    }

    #[track_caller]
    fn route(&self, name: &str) -> u32 {
        let at = self.routes.iter().position(|&route| route == name);
        match at.and_then(|at| u32::try_from(at + 1).ok()) {
            Some(number) => number,
            None => panic!("no route `{name}`: #[transform(routes(…))] has {:?}", self.routes),
        }
    }

    /// Sets the key of the next output, or of the event itself before [`Verdict::Pass`].
    pub fn set_key(&self, key: impl AsRef<[u8]>) {
        host::set_key(key.as_ref());
    }

    /// Sets a header of the next output, or of the event itself before [`Verdict::Pass`], replacing any with that name.
    /// Names that begin with `tollgate.` are reserved for the host.
    pub fn set_header(&self, name: &str, value: impl AsRef<[u8]>) {
        host::set_header(name, value.as_ref());
    }

    /// Logs a message for the operator. Needs the capability `log`; text beyond the limit `log` is cut.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        host::log(level, message.as_ref());
    }

    /// Rejects the event. `code` is for programs and dashboards, `field` is the path of the field at fault (may be
    /// empty), `message` is a sentence for a person.
    pub fn reject(
        &self,
        code: impl Into<Cow<'static, str>>,
        field: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Verdict {
        Verdict::Reject(Rejection::new(code, field, message))
    }
}
