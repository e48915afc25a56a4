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
//! The sandbox's limits and fuel do not apply here: golden cases (`tollgate test`) cover those.

use std::marker::PhantomData;

use prost::Message;
use serde::de::DeserializeOwned;

use crate::batch::Batch;
use crate::context::Context;
use crate::guest;
use crate::level::Level;
pub use crate::recorder::Output;
use crate::recorder::{RECORDER, Recorder};
use crate::settled::Settled;
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

/// Creates an event with this message.
pub fn event<E: Message + Default>(message: &E) -> Event<E> {
    bytes(message.encode_to_vec())
}

/// Creates an event with these bytes, which need not be a valid message.
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

/// Creates an event without a value.
pub fn tombstone<E: Message + Default>() -> Event<E> {
    Event { value: None, ..bytes(Vec::new()) }
}

/// Parses a configuration as passed by the host.
///
/// # Errors
/// Returns the message that the operator would see; it names the key.
pub fn config<C: DeserializeOwned>(json: &str) -> Result<C, String> {
    crate::config::read(json.as_bytes())
}

impl<E: Message + Default> Event<E> {
    /// Sets the key; there is none by default.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Adds a header after the existing ones.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sets the timestamp in Unix milliseconds; there is none by default.
    #[must_use]
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = millis;
        self
    }

    /// Sets partition and offset; both are 0 by default.
    #[must_use]
    pub fn at(mut self, partition: i32, offset: i64) -> Self {
        (self.partition, self.offset) = (partition, offset);
        self
    }

    /// Sets the batch's time (Unix milliseconds) and seed; both are 0 by default.
    #[must_use]
    pub fn batch(mut self, time: i64, seed: u64) -> Self {
        (self.batch_time, self.seed) = (time, seed);
        self
    }

    /// Sets the routes, as listed in `#[transform(routes(…))]`.
    #[must_use]
    pub fn routes(mut self, routes: &'static [&'static str]) -> Self {
        self.routes = routes;
        self
    }

    /// Runs the function: `run(check)`, or `run(|event, ctx| check(event, ctx, &config))`.
    ///
    /// # Panics
    /// If the function panics, breaks a rule for which the sandbox would end it, or changes the event and then lets it
    /// pass: the change would not be sent.
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
        RECORDER.with(|cell| cell.borrow_mut().take()).expect("set above").into()
    }
}

/// The result of a function for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict; a rejection as in the dead letter.
    pub verdict: Verdict,
    /// The outputs in the event's place, in order.
    pub outputs: Vec<Output>,
    /// The key set on an event that passed.
    pub key: Option<Vec<u8>>,
    /// The headers set on an event that passed.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The logged lines.
    pub logs: Vec<(Level, String)>,
}

impl Outcome {
    /// Returns the reason of a rejection.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        if let Verdict::Reject(reason) = &self.verdict { Some(reason) } else { None }
    }

    /// Returns the code of a rejection, empty for any other verdict.
    #[must_use]
    pub fn code(&self) -> &str {
        self.rejection().map_or("", |reason| &reason.code)
    }

    /// Returns the only output, decoded.
    ///
    /// # Panics
    /// If there is not exactly one output, or it is not such a message.
    #[must_use]
    pub fn output<M: Message + Default>(&self) -> M {
        let [only] = self.outputs.as_slice() else { panic!("{} outputs instead of one: {self:?}", self.outputs.len()) };
        let payload = only.payload.as_deref().expect("a message, not a tombstone");
        M::decode(payload).expect("an output of the asked type")
    }
}

impl From<Recorder> for Outcome {
    fn from(recorder: Recorder) -> Outcome {
        let verdict = match recorder.settled {
            Some(Settled::Pass) => Verdict::Pass,
            Some(Settled::Replace) => Verdict::Replace,
            Some(Settled::Emitted) => Verdict::Emitted,
            Some(Settled::Drop) => Verdict::Drop,
            Some(Settled::Reject) => {
                Verdict::Reject(recorder.reason.unwrap_or_else(|| Rejection::new("rejected", "", "")))
            }
            None | Some(Settled::Start) => panic!("the event was not settled"),
        };
        let kept = if matches!(verdict, Verdict::Replace | Verdict::Emitted) { recorder.outputs } else { Vec::new() };
        Outcome { verdict, outputs: kept, key: recorder.key, headers: recorder.set, logs: recorder.logs }
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

/// The attribute's warning as an error.
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
