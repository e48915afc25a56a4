//! The host on every target other than the sandbox's: it records a transform's actions. [`crate::testing`] reads the
//! record.

use std::cell::RefCell;

use crate::level::Level;
use crate::settled::Settled;
use crate::verdict::Rejection;

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 0 is the pipeline's output, n the n-th route.
    pub route: u32,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The key set by the transform, or `None` for the event's own key.
    pub key: Option<Vec<u8>>,
    /// The headers set by the transform, in addition to the event's own.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Output {
    /// Returns the header set under this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_slice())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) settled: Option<Settled>,
    pub(crate) current: bool,
    pub(crate) outputs: Vec<Output>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) set: Vec<(String, Vec<u8>)>,
    pub(crate) reason: Option<Rejection>,
    pub(crate) logs: Vec<(Level, String)>,
}

impl Recorder {
    fn push(&mut self, route: u32, payload: Option<Vec<u8>>) {
        let (key, headers) = (self.key.take(), std::mem::take(&mut self.set));
        self.outputs.push(Output { route, payload, key, headers });
    }
}

thread_local! {
    pub(crate) static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut Recorder) -> T) -> T {
    RECORDER.with(|cell| {
        let mut recorder = cell.borrow_mut();
        act(recorder.as_mut().expect("a Context can only be used inside tollgate::testing"))
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
        "header `{name}`: names that begin with `{}` are reserved for the host",
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
    assert!((1..=64).contains(&code.len()) && code.bytes().all(legal), "`{code}` is not a valid reason code");
    let reason = Rejection::new(code.to_owned(), field.to_owned(), message.to_owned());
    with(|host| host.reason = Some(reason));
}

pub(crate) fn log(level: Level, message: &str) {
    with(|host| host.logs.push((level, message.to_owned())));
}
