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
}

/// A value for each server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerSink<T> {
    pub postgres: T,
    pub kafka: T,
}

impl<T> PerSink<T> {
    pub fn new(mut value: impl FnMut(Sink) -> T) -> PerSink<T> {
        PerSink { postgres: value(Sink::Postgres), kafka: value(Sink::Kafka) }
    }

    pub fn get(&self, sink: Sink) -> &T {
        match sink {
            Sink::Postgres => &self.postgres,
            Sink::Kafka => &self.kafka,
        }
    }

    pub fn get_mut(&mut self, sink: Sink) -> &mut T {
        match sink {
            Sink::Postgres => &mut self.postgres,
            Sink::Kafka => &mut self.kafka,
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
pub enum Observation {
    /// The server responded, possibly with a rejection.
    Answer,
    /// The server was unavailable.
    Outage,
    /// The attempt did not reach the server, or its error says nothing about it.
    Nothing,
}

impl PerSink<Observation> {
    /// An attempt that learned nothing.
    pub const NOTHING: PerSink<Observation> = PerSink { postgres: Observation::Nothing, kafka: Observation::Nothing };

    /// An attempt that both servers answered.
    pub const ANSWERS: PerSink<Observation> = PerSink { postgres: Observation::Answer, kafka: Observation::Answer };

    /// Returns the result of an attempt that failed at this server and so learned nothing about the other one.
    pub fn only(sink: Sink, observation: Observation) -> PerSink<Observation> {
        let mut observed = PerSink::NOTHING;
        *observed.get_mut(sink) = observation;
        observed
    }
}
