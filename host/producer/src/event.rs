//! What a caller hands over.

/// The bytes of an event, as the caller has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// The message's wire bytes. They go out as they came, once they have passed.
    Protobuf(&'a [u8]),
    /// Protobuf's JSON mapping. What goes out is Protobuf.
    Json(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// As it came, for dead letters.
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

/// One event on its way to the contract.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub payload: Payload<'a>,
    /// The route's topic; `None` for the first route.
    pub topic: Option<&'a str>,
    /// In place of the route's key field.
    pub key: Option<&'a [u8]>,
    /// Beside the route's own; they come after them.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Unix milliseconds; the time of the send, where it says nothing.
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

    /// Into the route of that topic.
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

    /// Unix milliseconds.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Event<'a> {
        self.timestamp = Some(timestamp);
        self
    }
}
