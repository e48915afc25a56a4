//! Runs a transform's function natively on one message, through the same loop as in the sandbox.
//!
//! ```
//! # #[derive(Clone, PartialEq, tollgate::prost::Message)] #[prost(prost_path = "::tollgate::prost")]
//! # struct Note { #[prost(string, tag = "1")] text: String }
//! use tollgate::{Context, Verdict, testing};
//!
//! fn shout(event: &mut Note, ctx: &Context) -> Verdict {
//!     event.text.make_ascii_uppercase();
//!     ctx.set_header("loud", "yes");
//!     Verdict::Replace
//! }
//!
//! let outcome = testing::event(&Note { text: "ho".into() }).key("k").run(shout);
//! assert_eq!(outcome.verdict, Verdict::Replace);
//! assert_eq!(outcome.outputs[0].header("loud"), Some(&b"yes"[..]));
//! assert_eq!(outcome.output::<Note>(), Note { text: "HO".into() });
//! ```
//!
//! Limits and fuel are the sandbox's business: golden cases (`tollgate test`) show those.

use std::cell::RefCell;
use std::marker::PhantomData;

use prost::Message;
use serde::de::DeserializeOwned;

use crate::context::{Context, Level};
use crate::guest::{self, Batch};
use crate::host::Settled;
use crate::verdict::{Rejection, Verdict};

/// An event to run a function on.
#[derive(Debug, Clone)]
pub struct Event<E> {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    timestamp: i64,
    offset: i64,
    partition: i32,
    batch_time: i64,
    seed: u64,
    routes: &'static [&'static str],
    message: PhantomData<fn() -> E>,
}

/// An event of this message.
pub fn event<E: Message + Default>(message: &E) -> Event<E> {
    bytes(message.encode_to_vec())
}

/// An event of these bytes, which may be no message at all.
pub fn bytes<E: Message + Default>(value: impl Into<Vec<u8>>) -> Event<E> {
    Event {
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
        timestamp: -1,
        offset: 0,
        partition: 0,
        batch_time: 0,
        seed: 0,
        routes: &[],
        message: PhantomData,
    }
}

/// An event without a value.
pub fn tombstone<E: Message + Default>() -> Event<E> {
    Event { value: None, ..bytes(Vec::new()) }
}

/// Reads a configuration as the host would hand it over.
///
/// # Errors
/// What the operator would be told; it names the key.
pub fn config<C: DeserializeOwned>(json: &str) -> Result<C, String> {
    crate::config::read(json.as_bytes())
}

impl<E: Message + Default> Event<E> {
    /// With this key; there is none otherwise.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// With this header, after those before it.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// With this timestamp, Unix milliseconds; there is none otherwise.
    #[must_use]
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = millis;
        self
    }

    /// From this partition and offset; 0 and 0 otherwise.
    #[must_use]
    pub fn at(mut self, partition: i32, offset: i64) -> Self {
        (self.partition, self.offset) = (partition, offset);
        self
    }

    /// In a batch of this time (Unix milliseconds) and seed; 0 and 0 otherwise.
    #[must_use]
    pub fn batch(mut self, time: i64, seed: u64) -> Self {
        (self.batch_time, self.seed) = (time, seed);
        self
    }

    /// With these routes, as `#[transform(routes(…))]` names them.
    #[must_use]
    pub fn routes(mut self, routes: &'static [&'static str]) -> Self {
        self.routes = routes;
        self
    }

    /// Runs the function: `run(check)`, or `run(|event, ctx| check(event, ctx, &config))`.
    ///
    /// # Panics
    /// Where the function panics, breaks a rule that the sandbox would end it for, or changes the event and then lets it pass: the
    /// change would not be sent.
    pub fn run<V: Into<Verdict>>(self, mut function: impl FnMut(&mut E, &Context) -> V) -> Outcome {
        let key = self.key.as_deref().unwrap_or_default();
        let value = self.value.as_deref().unwrap_or_default();
        let bound = |at: usize| u32::try_from(at).expect("a test's event is smaller than 4 GiB");
        let batch = Batch {
            topic: "test".to_owned(),
            partition: self.partition,
            schema_id: 0,
            batch_time: self.batch_time,
            seed: self.seed,
            arena: [key, value].concat(),
            offsets: vec![0, bound(key.len()), bound(key.len() + value.len())],
            flags: vec![u8::from(self.key.is_none()) | u8::from(self.value.is_none()) << 1],
            record_offsets: vec![self.offset],
            timestamps: vec![self.timestamp],
        };
        let recorder = Recorder { headers: self.headers, ..Recorder::default() };
        RECORDER.with(|cell| *cell.borrow_mut() = Some(recorder));
        guest::run(batch, self.routes, true, true, |event: &mut E, ctx| {
            let before = event.encode_to_vec();
            let verdict = function(event, ctx).into();
            assert!(
                verdict != Verdict::Pass || event.encode_to_vec() == before,
                "Pass after the event was changed: the change is not sent; return Replace, or leave the event alone"
            );
            verdict
        });
        RECORDER.with(|cell| cell.borrow_mut().take()).expect("set above").outcome()
    }
}

/// What a function did with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it was settled; a rejection as the dead letter would say it.
    pub verdict: Verdict,
    /// What left in the event's place, in order.
    pub outputs: Vec<Output>,
    /// Key set on an event that passed.
    pub key: Option<Vec<u8>>,
    /// Headers set on an event that passed.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What was logged.
    pub logs: Vec<(Level, String)>,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 0 is the pipeline's output, n the n-th route.
    pub route: u32,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// `None`: the event's own.
    pub key: Option<Vec<u8>>,
    /// Beside the event's own.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Output {
    /// The header set under this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_slice())
    }
}

impl Outcome {
    /// The reason of a rejection.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        if let Verdict::Reject(reason) = &self.verdict { Some(reason) } else { None }
    }

    /// The code of a rejection, empty for any other verdict.
    #[must_use]
    pub fn code(&self) -> &str {
        self.rejection().map_or("", |reason| &reason.code)
    }

    /// The only output, decoded.
    ///
    /// # Panics
    /// Where there is not exactly one, or it is no such message.
    #[must_use]
    pub fn output<M: Message + Default>(&self) -> M {
        let [only] = self.outputs.as_slice() else { panic!("{} outputs, not one: {self:?}", self.outputs.len()) };
        let payload = only.payload.as_deref().expect("a message, not a tombstone");
        M::decode(payload).expect("an output of the asked type")
    }
}

#[derive(Debug, Default)]
struct Recorder {
    headers: Vec<(String, Vec<u8>)>,
    settled: Option<Settled>,
    current: bool,
    outputs: Vec<Output>,
    key: Option<Vec<u8>>,
    set: Vec<(String, Vec<u8>)>,
    reason: Option<Rejection>,
    logs: Vec<(Level, String)>,
}

impl Recorder {
    fn outcome(self) -> Outcome {
        let verdict = match self.settled {
            Some(Settled::Pass) => Verdict::Pass,
            Some(Settled::Replace) => Verdict::Replace,
            Some(Settled::Emitted) => Verdict::Emitted,
            Some(Settled::Drop) => Verdict::Drop,
            Some(Settled::Reject) => Verdict::Reject(self.reason.unwrap_or_else(|| Rejection::new("rejected", "", ""))),
            None | Some(Settled::Start) => panic!("the event was not settled"),
        };
        let kept = if matches!(verdict, Verdict::Replace | Verdict::Emitted) { self.outputs } else { Vec::new() };
        Outcome { verdict, outputs: kept, key: self.key, headers: self.set, logs: self.logs }
    }

    fn push(&mut self, route: u32, payload: Option<Vec<u8>>) {
        let (key, headers) = (self.key.take(), std::mem::take(&mut self.set));
        self.outputs.push(Output { route, payload, key, headers });
    }
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// The recording host: what `crate::host` is where there is no sandbox.
pub(crate) mod host {
    use super::{Level, RECORDER, Recorder, Rejection, Settled};

    fn with<T>(act: impl FnOnce(&mut Recorder) -> T) -> T {
        RECORDER.with(|cell| {
            let mut recorder = cell.borrow_mut();
            act(recorder.as_mut().expect("a Context is only of use inside tollgate::testing"))
        })
    }

    pub(crate) fn next(settled: Settled) -> Option<usize> {
        with(|host| {
            if settled == Settled::Start {
                host.current = true;
                return Some(0);
            }
            let outputs = host.outputs.len();
            assert!(settled != Settled::Pass || outputs == 0, "Pass after {outputs} outputs: return Replace");
            (host.settled, host.current) = (Some(settled), false);
            None
        })
    }

    pub(crate) fn emit(route: u32, payload: &[u8]) {
        with(|host| host.push(route, Some(payload.to_vec())));
    }

    pub(crate) fn delete(route: u32) {
        with(|host| host.push(route, None));
    }

    pub(crate) fn set_key(key: &[u8]) {
        with(|host| host.key = Some(key.to_vec()));
    }

    pub(crate) fn set_header(name: &str, value: &[u8]) {
        let reserved = ["tollgate.", "__connect.errors."].into_iter().find(|prefix| name.starts_with(prefix));
        assert!(
            reserved.is_none(),
            "header `{name}`: names that begin with `{}` are the host's",
            reserved.unwrap_or_default()
        );
        with(|host| {
            host.set.retain(|(set, _)| set != name);
            host.set.push((name.to_owned(), value.to_vec()));
        });
    }

    pub(crate) fn header(name: &str) -> Option<Vec<u8>> {
        with(|host| host.headers.iter().rev().find(|(had, _)| had == name).map(|(_, value)| value.clone()))
    }

    pub(crate) fn explain(code: &str, field: &str, message: &str) {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
        assert!((1..=64).contains(&code.len()) && code.bytes().all(legal), "`{code}` is no reason code");
        let reason = Rejection::new(code.to_owned(), field.to_owned(), message.to_owned());
        with(|host| host.reason = Some(reason));
    }

    pub(crate) fn log(level: Level, message: &str) {
        with(|host| host.logs.push((level, message.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Note {
        #[prost(string, tag = "1")]
        text: String,
    }

    fn change(event: &mut Note, _: &Context) -> Verdict {
        event.text.push('!');
        Verdict::Pass
    }

    #[test]
    #[should_panic(expected = "Pass after the event was changed: the change is not sent; return Replace")]
    fn a_change_that_is_not_sent_fails_the_test() {
        drop(event(&Note { text: "ho".into() }).run(change));
    }

    #[test]
    #[should_panic(expected = "Pass after 1 outputs: return Replace")]
    fn an_output_beside_a_pass_fails_the_test() {
        drop(event(&Note { text: "ho".into() }).run(|event, ctx| {
            ctx.emit(event);
            Verdict::Pass
        }));
    }

    #[test]
    fn an_event_that_was_left_alone_passes() {
        let outcome = event(&Note { text: "ho".into() }).run(|_: &mut Note, _: &Context| Verdict::Pass);
        assert_eq!(outcome.verdict, Verdict::Pass);
    }
}

/// The attribute's warning, made an error.
///
/// ```compile_fail
/// #![deny(deprecated)]
/// # #[derive(Clone, PartialEq, tollgate::prost::Message)] #[prost(prost_path = "::tollgate::prost")]
/// # struct Note { #[prost(string, tag = "1")] text: String }
/// #[tollgate::transform]
/// fn lost(event: &mut Note, ctx: &tollgate::Context) -> tollgate::Verdict {
///     ctx.emit(event);
///     tollgate::Verdict::Pass
/// }
/// ```
///
/// ```
/// #![deny(deprecated)]
/// # #[derive(Clone, PartialEq, tollgate::prost::Message)] #[prost(prost_path = "::tollgate::prost")]
/// # struct Note { #[prost(string, tag = "1")] text: String }
/// #[tollgate::transform]
/// fn sent(event: &mut Note, ctx: &tollgate::Context) -> tollgate::Verdict {
///     ctx.emit(event);
///     tollgate::Verdict::Replace
/// }
/// ```
#[cfg(doctest)]
pub struct Lint;
