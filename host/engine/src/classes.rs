//! The meaning of the errors of both servers: one table for all code that must react to one.
//!
//! The question is always what is at fault, since the reactions exclude each other: a bad event must not hold up the
//! others, and a failing server must not cost an event. docs/delivery.md shows the same table.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use tollgate_config::error::Class;

use crate::brakes::sink::Observation;

/// The meaning of a server's error for its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// This data is always rejected, whoever sends it.
    Poison,
    /// The data or the server may be at fault: `retry_policy.max_retries` attempts decide.
    Unknown,
    /// Another session was in the way and is gone: retry once immediately, then with backoff.
    Conflict,
    /// The server is unavailable for now: retry with backoff, without a limit.
    Outage,
    /// The table lacks something that no event can supply: the pipeline pauses and reports what to create.
    Pause,
    /// The server rejects our credentials. At startup that is a configuration error; to a running process it is an
    /// outage, since certificates and accounts are fixed on the server.
    Login,
    /// An operator must look at one partition; the others continue.
    Halt,
    /// An operator must act.
    Fatal,
}

impl Meaning {
    pub fn as_str(self) -> &'static str {
        match self {
            Meaning::Poison => "poison",
            Meaning::Unknown => "unknown",
            Meaning::Conflict => "conflict",
            Meaning::Outage => "outage",
            Meaning::Pause => "pause",
            Meaning::Login => "login",
            Meaning::Halt => "halt",
            Meaning::Fatal => "fatal",
        }
    }

    /// Returns the class for a running process.
    pub fn class(self) -> Class {
        match self {
            Meaning::Poison => Class::Poison,
            // Attempts with fresh metadata show whether a partition has been added meanwhile.
            Meaning::Unknown | Meaning::Halt => Class::Unknown,
            Meaning::Conflict | Meaning::Outage | Meaning::Pause | Meaning::Login => Class::Transient,
            Meaning::Fatal => Class::Fatal,
        }
    }
}

impl Meaning {
    /// Returns what the error shows about the server itself.
    pub fn observation(self) -> Observation {
        match self {
            Meaning::Poison | Meaning::Conflict | Meaning::Pause | Meaning::Halt => Observation::Answer,
            Meaning::Outage | Meaning::Login => Observation::Outage,
            Meaning::Unknown | Meaning::Fatal => Observation::Nothing,
        }
    }
}

/// Codes that share one meaning.
pub struct Row<C: 'static> {
    pub codes: &'static [C],
    pub meaning: Meaning,
    pub why: &'static str,
}

/// The parts of the server's error besides the SQLSTATE that do not depend on its language.
#[derive(Debug, Clone, Copy, Default)]
pub struct ErrorInfo<'a> {
    pub code: &'a str,
    /// The server's internal routine that raised the error.
    pub routine: Option<&'a str>,
    /// The functions and statements within which the error was raised.
    pub context: Option<&'a str>,
}

impl ErrorInfo<'_> {
    fn by(&self, code: &str, routine: &str) -> bool {
        self.code == code && self.routine == Some(routine)
    }

    /// Returns whether PL/pgSQL's RAISE raised the error. Its author then chose to reject this row, and chose the code.
    fn raised(&self) -> bool {
        self.routine == Some("exec_stmt_raise")
    }

    /// Returns whether it was raised inside a function called by a trigger, a default, a constraint or a policy. COPY
    /// also adds its line as context.
    fn in_function(&self) -> bool {
        // The names of languages are the same in every locale: PL/pgSQL function, SQL statement, PL/Python function.
        let names_one = |context: &str| context.contains("SQL") || context.contains("PL/");
        self.context.is_some_and(|context| names_one(context) && !context.starts_with("COPY "))
    }
}

/// A special case of a SQLSTATE that has several meanings.
type Case = (&'static str, fn(&ErrorInfo<'_>) -> bool);

const ROW_SECURITY: &str = "42501 (row-level security)";
const NO_PARTITION: &str = "23514 (no partition)";
const REPLICA_IDENTITY: &str = "55000 (replica identity)";
const RAISED: &str = "any fatal one (by RAISE)";
const UNSUPPORTED_IN_FUNCTION: &str = "0A (in a function)";
const WRONG_IN_FUNCTION: &str = "42 (in a function)";

/// The special cases; the first matching one overrides the SQLSTATE. A privilege that is missing inside a function is
/// missing for every row.
const CASES: &[Case] = &[
    (ROW_SECURITY, |said| said.by("42501", "ExecWithCheckOptions")),
    (NO_PARTITION, |said| said.by("23514", "ExecFindPartition")),
    (REPLICA_IDENTITY, |said| said.by("55000", "CheckCmdReplicaIdentity")),
    (RAISED, |said| said.raised() && matches!(by_code(said.code), Meaning::Fatal | Meaning::Login)),
    (UNSUPPORTED_IN_FUNCTION, |said| said.in_function() && said.code.starts_with("0A")),
    (WRONG_IN_FUNCTION, |said| said.in_function() && said.code.starts_with("42") && said.code != "42501"),
];

/// SQLSTATEs, as two-character classes or whole codes; the longest match wins. Cases in brackets are checked first.
pub const SQLSTATES: &[Row<&str>] = &[
    Row {
        codes: &["21", "22", "23", "44", ROW_SECURITY],
        meaning: Meaning::Poison,
        why: "a value, a constraint, a view or a policy rejects the row. For 23503 and 23505 see `retry_policy.foreign_key_window` and `unique_window`",
    },
    Row {
        codes: &["09", "20", "27", "P0", RAISED],
        meaning: Meaning::Poison,
        why: "a trigger rejects the row: RAISE, an assertion, a CASE without a match",
    },
    Row {
        codes: &[NO_PARTITION, "2200H", REPLICA_IDENTITY],
        meaning: Meaning::Pause,
        why: "the table lacks a partition, its sequence is exhausted, or it is published without a replica identity: the cause is the table, not an event. The same applies to a NOT NULL column without a mapping (23502) and a sequence beyond its column's type (22003)",
    },
    Row { codes: &["54"], meaning: Meaning::Poison, why: "a value is too long for its index, or nested too deep" },
    Row {
        codes: &["XX", "2F", "38", "39", "55000", UNSUPPORTED_IN_FUNCTION, WRONG_IN_FUNCTION],
        meaning: Meaning::Unknown,
        why: "an internal error, or a failure of a function that a trigger, a default or a constraint calls: for this row, or for any row",
    },
    Row {
        codes: &["40", "55P03", "55006"],
        meaning: Meaning::Conflict,
        why: "a deadlock, a serialization failure, a lock that was held too long",
    },
    Row {
        codes: &["25"],
        meaning: Meaning::Conflict,
        why: "the transaction was ended by a timeout, or had failed before",
    },
    Row {
        codes: &["25006"],
        meaning: Meaning::Outage,
        why: "the server does not accept writes: a standby, or a failover in progress",
    },
    Row {
        codes: &["08", "HV00N"],
        meaning: Meaning::Outage,
        why: "the connection broke, or a foreign server cannot be reached",
    },
    Row {
        codes: &["26"],
        meaning: Meaning::Outage,
        why: "a prepared statement is gone because a pooler switched to another session: a new connection prepares it again",
    },
    Row { codes: &["53"], meaning: Meaning::Outage, why: "no disk, no memory, no free connection" },
    Row {
        codes: &["55", "57", "58"],
        meaning: Meaning::Outage,
        why: "the server is starting or stopping, an administrator ended the session, or its file system fails",
    },
    Row {
        codes: &["57014"],
        meaning: Meaning::Outage,
        why: "a statement took longer than two thirds of `delivery.transaction_timeout`; smaller batches are tried meanwhile",
    },
    Row {
        codes: &["28"],
        meaning: Meaning::Login,
        why: "the server rejects the login: for example, the password was changed or the account locked",
    },
    Row {
        codes: &["0A", "0L", "0P", "2B", "3D", "3F", "42", "57P04"],
        meaning: Meaning::Fatal,
        why: "a privilege, a database, a table (42P01), a column (42703) or a function (42883) has changed since startup. The columns' types were read then, so they must be read again even if it comes back",
    },
    Row {
        codes: &["54011", "54023", "55P02"],
        meaning: Meaning::Fatal,
        why: "the statement itself is rejected, whatever its rows",
    },
    Row {
        codes: &["XX001", "XX002"],
        meaning: Meaning::Fatal,
        why: "the server's data or an index is damaged: further writes could spread the damage",
    },
];

/// The meaning of a SQLSTATE that is not in the table: one chosen by a trigger, or one that a later server introduces.
pub const OTHER_SQLSTATES: Meaning = Meaning::Unknown;

/// Kafka's codes, by librdkafka's names. None has the meaning "unknown": a transaction is rejected as a whole, so
/// retrying it would reveal nothing about a single record.
pub const KAFKA: &[Row<RDKafkaErrorCode>] = &[
    Row {
        codes: &[
            RDKafkaErrorCode::MessageSizeTooLarge,
            RDKafkaErrorCode::MessageBatchTooLarge,
            RDKafkaErrorCode::InvalidRecord,
            RDKafkaErrorCode::InvalidDifferentRecord,
        ],
        meaning: Meaning::Poison,
        why: "the topic rejects a record that its settings allowed at startup",
    },
    Row {
        codes: &[
            RDKafkaErrorCode::IllegalGeneration,
            RDKafkaErrorCode::UnknownMemberId,
            RDKafkaErrorCode::RebalanceInProgress,
            RDKafkaErrorCode::UnstableOffsetCommit,
        ],
        meaning: Meaning::Conflict,
        why: "the group has rebalanced, or another client's transaction is still open",
    },
    Row {
        codes: &[
            RDKafkaErrorCode::ConcurrentTransactions,
            RDKafkaErrorCode::Fenced,
            RDKafkaErrorCode::ProducerFenced,
            RDKafkaErrorCode::InvalidProducerEpoch,
            RDKafkaErrorCode::InvalidProducerIdMapping,
            RDKafkaErrorCode::InvalidTransactionalState,
            RDKafkaErrorCode::UnknownProducerId,
            RDKafkaErrorCode::OutOfOrderSequenceNumber,
            RDKafkaErrorCode::TransactionCoordinatorFenced,
            RDKafkaErrorCode::PurgeQueue,
            RDKafkaErrorCode::PurgeInflight,
            RDKafkaErrorCode::State,
        ],
        meaning: Meaning::Conflict,
        why: "the broker no longer accepts this producer: a new one resolves its open transaction. Whether this process still holds its slot is checked separately",
    },
    Row {
        codes: &[
            RDKafkaErrorCode::Authentication,
            RDKafkaErrorCode::SaslAuthenticationFailed,
            RDKafkaErrorCode::SSL,
            RDKafkaErrorCode::UnsupportedSASLMechanism,
            RDKafkaErrorCode::IllegalSASLState,
        ],
        meaning: Meaning::Login,
        why: "the brokers reject the login",
    },
    Row {
        codes: &[
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::GroupAuthorizationFailed,
            RDKafkaErrorCode::ClusterAuthorizationFailed,
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
        ],
        meaning: Meaning::Fatal,
        why: "a permission is missing",
    },
    Row {
        codes: &[
            RDKafkaErrorCode::InconsistentGroupProtocol,
            RDKafkaErrorCode::InvalidGroupId,
            RDKafkaErrorCode::InvalidSessionTimeout,
            RDKafkaErrorCode::InvalidTransactionTimeout,
            RDKafkaErrorCode::FencedInstanceId,
            RDKafkaErrorCode::InvalidCommitOffsetSize,
            RDKafkaErrorCode::InvalidRequiredAcks,
            RDKafkaErrorCode::PolicyViolation,
        ],
        meaning: Meaning::Fatal,
        why: "the group or the broker rejects Tollgate's settings",
    },
    Row {
        codes: &[RDKafkaErrorCode::OffsetMetadataTooLarge],
        meaning: Meaning::Fatal,
        why: "the broker's `offset.metadata.max.bytes` (4096 by default) is below the 400 bytes that a token may take",
    },
    Row {
        codes: &[
            RDKafkaErrorCode::UnsupportedCompressionType,
            RDKafkaErrorCode::UnsupportedForMessageFormat,
            RDKafkaErrorCode::UnsupportedVersion,
            RDKafkaErrorCode::UnsupportedFeature,
        ],
        meaning: Meaning::Fatal,
        why: "the broker is too old, or uses a format or codec for a topic that is",
    },
    Row {
        codes: &[RDKafkaErrorCode::UnknownTopic, RDKafkaErrorCode::InvalidTopic],
        meaning: Meaning::Fatal,
        why: "a topic is gone: the client has been looking for it for 30 s. `tollgate setup` creates it again",
    },
    Row {
        codes: &[RDKafkaErrorCode::UnknownPartition],
        meaning: Meaning::Halt,
        why: "with `output.partition: same` the output topic lacks the source's partition, after `max_retries` attempts with fresh metadata ([halts](halts.md))",
    },
    Row {
        codes: &[RDKafkaErrorCode::BadMessage, RDKafkaErrorCode::BadCompression, RDKafkaErrorCode::NotImplemented],
        meaning: Meaning::Halt,
        why: "a batch of records in the topic's log is damaged, or compressed by a codec that this build does not read ([halts](halts.md))",
    },
    Row {
        codes: &[RDKafkaErrorCode::OffsetOutOfRange, RDKafkaErrorCode::AutoOffsetReset],
        meaning: Meaning::Halt,
        why: "records were deleted before they were read ([halts](halts.md))",
    },
];

/// The meaning of a Kafka code that is not in the table: unavailable brokers, leaders or coordinators, timeouts, too
/// few replicas, a topic being created. If the broker responds meanwhile, `lane::stuck` investigates.
pub const OTHER_KAFKA: Meaning = Meaning::Outage;

/// Returns the meaning of PostgreSQL's error.
pub fn sqlstate(said: ErrorInfo<'_>) -> Meaning {
    let case = CASES.iter().find(|(_, applies)| applies(&said));
    case.map_or_else(|| by_code(said.code), |(name, _)| by_code(name))
}

fn by_code(code: &str) -> Meaning {
    let matches = SQLSTATES.iter().flat_map(|row| {
        row.codes.iter().filter(|known| code.starts_with(**known)).map(|known| (known.len(), row.meaning))
    });
    matches.max_by_key(|(length, _)| *length).map_or(OTHER_SQLSTATES, |(_, meaning)| meaning)
}

/// Returns the meaning of one of Kafka's codes.
pub fn kafka_code(code: RDKafkaErrorCode) -> Meaning {
    KAFKA.iter().find(|row| row.codes.contains(&code)).map_or(OTHER_KAFKA, |row| row.meaning)
}

/// Returns the meaning of an error of a consumer, or of a producer without a transaction.
pub fn kafka(error: &KafkaError) -> Meaning {
    match (error, error.rdkafka_error_code()) {
        // The client itself is unusable, which is fatal for a consumer. A producer's client is rebuilt.
        (KafkaError::MessageConsumptionFatal(_), _) | (_, Some(RDKafkaErrorCode::Fatal)) => Meaning::Fatal,
        (_, Some(code)) => kafka_code(code),
        (_, None) => Meaning::Outage,
    }
}

#[cfg(test)]
mod tests;
