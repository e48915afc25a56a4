//! `contract.envelope: debezium`: change events from Debezium.

/// Change events of a table, with the row before and after the change and the kind of the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debezium {
    /// `message:` full name of the change event's message type. Without it change events are JSON.
    pub message: Option<String>,
    /// `type:` the part of a change event that names its type, with `types`.
    pub kind: Option<String>,
    /// `headers:` header → field of the change event. `None`: those of [`Debezium::HEADERS`] that are present.
    pub headers: Option<Vec<(String, String)>>,
    /// `truncates:` the handling of a truncate of the table.
    pub truncates: WithoutRow,
    /// `messages:` the handling of a logical decoding message.
    pub messages: WithoutRow,
}

impl Debezium {
    /// Returns the settings of the short form, which are the defaults of the long form.
    pub fn usual(typed: bool) -> Debezium {
        Debezium {
            message: None,
            kind: typed.then(|| "source.table".to_owned()),
            headers: None,
            truncates: WithoutRow::DeadLetter,
            messages: WithoutRow::DeadLetter,
        }
    }

    /// The names of headers that Debezium's own `ExtractNewRecordState` adds, and their fields.
    pub const HEADERS: [(&str, &str); 5] = [
        ("__op", "op"),
        ("__ts_ms", "ts_ms"),
        ("__source_lsn", "source.lsn"),
        ("__source_ts_ms", "source.ts_ms"),
        ("__source_table", "source.table"),
    ];

    /// Returns the headers of an event and their fields in the change event.
    pub fn headers(&self) -> Vec<(String, String)> {
        let usual = || Self::HEADERS.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
        self.headers.clone().unwrap_or_else(usual)
    }
}

/// The handling of a change that does not concern a single row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutRow {
    DeadLetter,
    /// The change is counted and has no effect.
    Drop,
}

impl WithoutRow {
    pub const ALL: [(&'static str, WithoutRow); 2] =
        [("dead_letter", WithoutRow::DeadLetter), ("drop", WithoutRow::Drop)];

    /// Returns the word used in the file.
    pub fn name(self) -> &'static str {
        match self {
            WithoutRow::DeadLetter => "dead_letter",
            WithoutRow::Drop => "drop",
        }
    }
}
