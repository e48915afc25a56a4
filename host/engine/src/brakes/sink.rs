//! The servers to which batches are written, and what attempts learn about them.

/// A server that a batch is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    Postgres,
    Kafka,
}

impl Sink {
    pub const ALL: [Sink; 2] = [Sink::Postgres, Sink::Kafka];

    pub fn as_str(self) -> &'static str {
        match self {
            Sink::Postgres => "postgres",
            Sink::Kafka => "kafka",
        }
    }

    /// Returns the index in [`Sink::ALL`].
    pub fn index(self) -> usize {
        match self {
            Sink::Postgres => 0,
            Sink::Kafka => 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    HalfOpen,
    Open,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::HalfOpen => "half-open",
            State::Open => "open",
        }
    }

    /// Returns the value of the metric.
    pub fn number(self) -> i64 {
        match self {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        }
    }
}

/// The information that an attempt gained about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The server responded, possibly with a rejection.
    Answer,
    /// The server was unavailable.
    Outage,
    /// The attempt did not reach the server, or its error says nothing about it.
    Nothing,
}

/// Returns the result of an attempt that failed at this server and so learned nothing about the other one.
pub fn only(sink: Sink, heard: Heard) -> [Heard; 2] {
    Sink::ALL.map(|each| if each == sink { heard } else { Heard::Nothing })
}
