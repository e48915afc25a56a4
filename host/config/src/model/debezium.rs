//! `contract.envelope: debezium`, Debezium's change events.

/// Change events of a table: what the row was before, what it is after, and what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debezium {
    /// `message:` full name of the change event's message type. Without it the change events are JSON.
    pub message: Option<String>,
    /// `type:` where a change event names its type, with `types`.
    pub kind: Option<String>,
    /// `headers:` header → field of the change event that the event carries on as that header. `None`: those of
    /// [`Debezium::HEADERS`] that there are.
    pub headers: Option<Vec<(String, String)>>,
    /// `truncates:` what a truncate of the table means.
    pub truncates: WithoutRow,
    /// `messages:` what a logical decoding message means.
    pub messages: WithoutRow,
}

impl Debezium {
    /// The short form's, and the defaults of the long one.
    pub fn usual(typed: bool) -> Debezium {
        Debezium {
            message: None,
            kind: typed.then(|| "source.table".to_owned()),
            headers: None,
            truncates: WithoutRow::DeadLetter,
            messages: WithoutRow::DeadLetter,
        }
    }

    /// As Debezium's own `ExtractNewRecordState` names the headers that it adds.
    pub const HEADERS: [(&str, &str); 5] = [
        ("__op", "op"),
        ("__ts_ms", "ts_ms"),
        ("__source_lsn", "source.lsn"),
        ("__source_ts_ms", "source.ts_ms"),
        ("__source_table", "source.table"),
    ];

    /// The headers that an event carries on, and where their values stand in the change event.
    pub fn headers(&self) -> Vec<(String, String)> {
        let usual = || Self::HEADERS.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
        self.headers.clone().unwrap_or_else(usual)
    }
}

/// What becomes of a change that is about no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutRow {
    DeadLetter,
    /// Counted, no effect.
    Drop,
}

impl WithoutRow {
    pub const ALL: [(&'static str, WithoutRow); 2] =
        [("dead_letter", WithoutRow::DeadLetter), ("drop", WithoutRow::Drop)];

    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            WithoutRow::DeadLetter => "dead_letter",
            WithoutRow::Drop => "drop",
        }
    }
}
