//! The events that a caller passes in.

/// The bytes of an event, in the caller's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// The message's wire bytes. They are sent unchanged if they pass the checks.
    Protobuf(&'a [u8]),
    /// The message in Protobuf's JSON mapping. The record is sent as Protobuf.
    Json(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// Returns the original bytes, for dead letters.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Payload::Protobuf(bytes) | Payload::Json(bytes) => bytes,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Payload::Protobuf(_) => "application/protobuf",
            Payload::Json(_) => "application/json",
        }
    }
}

/// An event to check against its contract.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub payload: Payload<'a>,
    /// The route's topic, or `None` for the first route.
    pub topic: Option<&'a str>,
    /// The key, which replaces the one built from the route's fields.
    pub key: Option<&'a [u8]>,
    /// Headers that are added after the route's own.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The timestamp in Unix milliseconds, or `None` for the time of the send.
    pub timestamp: Option<i64>,
}

impl<'a> Event<'a> {
    #[must_use]
    pub fn new(payload: Payload<'a>) -> Event<'a> {
        Event { payload, topic: None, key: None, headers: &[], timestamp: None }
    }

    #[must_use]
    pub fn protobuf(bytes: &'a [u8]) -> Event<'a> {
        Event::new(Payload::Protobuf(bytes))
    }

    #[must_use]
    pub fn json(text: &'a [u8]) -> Event<'a> {
        Event::new(Payload::Json(text))
    }

    /// Selects the route of that topic.
    #[must_use]
    pub fn to(mut self, topic: &'a str) -> Event<'a> {
        self.topic = Some(topic);
        self
    }

    #[must_use]
    pub fn key(mut self, key: &'a [u8]) -> Event<'a> {
        self.key = Some(key);
        self
    }

    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, &'a [u8])]) -> Event<'a> {
        self.headers = headers;
        self
    }

    /// Sets the timestamp in Unix milliseconds.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Event<'a> {
        self.timestamp = Some(timestamp);
        self
    }
}
