//! The servers that batches are written to, and what attempts learn about them.

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

    /// In [`Sink::ALL`].
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

    /// As the metric says it.
    pub fn number(self) -> i64 {
        match self {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        }
    }
}

/// What an attempt heard of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It answered, be it with a refusal.
    Answer,
    /// An outage.
    Outage,
    /// The attempt did not get so far, or what it met says nothing.
    Nothing,
}

/// What an attempt says that met an error of this server's: of the other one, nothing.
pub fn only(sink: Sink, heard: Heard) -> [Heard; 2] {
    Sink::ALL.map(|each| if each == sink { heard } else { Heard::Nothing })
}
