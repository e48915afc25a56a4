//! The keys of `postgres:`.

use super::Fallback::{Nothing, Required, RequiredOnce, Value};
use super::Kind::{
    Addend, Boolean, Choice, ChoiceOrNull, Map, Names, Null, Path, Scalar, Secret, Signed, Table, TableOr, Text, Whole,
    WordOrNames, WordOrText,
};
use super::{Key, key};

pub(super) const KEYS: &[Key] = &[
    key("postgres", Table, Required, "The target table and the server that stores progress."),
    key(
        "postgres.url",
        Secret,
        Required,
        "`postgres://user:password@host:5432/database?sslmode=verify-full`. `sslmode` sets how strictly TLS is checked. With several hosts (`a:5432,b:5432`) the first one that accepts writes is used, unless `target_session_attrs` is `any`.",
    ),
    key("postgres.tls_ca", Path, Nothing, "PEM file of the authority that signed the server's certificate."),
    key("postgres.table", Text, RequiredOnce, "`table` or `schema.table`."),
    key(
        "postgres.key",
        Names,
        RequiredOnce,
        "Columns of the primary key or of a unique index. A column without an entry in `columns` gets the field of the same name.",
    ),
    key("postgres.columns", Map, RequiredOnce, "The columns to write, by name."),
    key(
        "postgres.columns.*",
        TableOr(&Null),
        Nothing,
        "The source of the column's value. Default: the field of the same name.",
    ),
    key(
        "postgres.columns.*.field",
        Text,
        Nothing,
        "Dotted path in the message (of the output contract, if there is one).",
    ),
    key(
        "postgres.columns.*.oneof",
        Text,
        Nothing,
        "Dotted path of a oneof in the message. The column gets the name of the field that is set, or NULL.",
    ),
    key("postgres.columns.*.header", Text, Nothing, "Header of the source record."),
    key(
        "postgres.columns.*.record",
        Choice(&["topic", "partition", "offset", "timestamp", "key", "digest"]),
        Nothing,
        "Metadata of the source record. `digest`: digest of the revision that processed the event, in hex.",
    ),
    key("postgres.columns.*.now", Boolean, Nothing, "With `true`, PostgreSQL's transaction time."),
    key("postgres.columns.*.value", Signed, Nothing, "A constant, with `add: true`."),
    key(
        "postgres.columns.*.as",
        TableOr(&WordOrText(
            "unix_s|unix_ms|unix_us|unix_days|iso|enum_name|int|numeric|text|jsonb|json_text|uuid|array",
        )),
        Nothing,
        "A declared conversion; also `\"numeric(18,2)\"`, which rounds half to even. Default: the type map of docs/tables.md.",
    ),
    key(
        "postgres.columns.*.as.time",
        WordOrNames("iso|unix_s|unix_ms|unix_us|unix_days"),
        Nothing,
        "The forms in which a text or a number may represent a time; the first that fits is used.",
    ),
    key(
        "postgres.columns.*.as.between",
        Names,
        Nothing,
        "The first accepted time, and the first time after the accepted range: `[2000-01-01, 2100-01-01]`. Required if several forms accept numbers.",
    ),
    key("postgres.columns.*.as.enum_name", TableOr(&Null), Nothing, "The long form of `as: enum_name`."),
    key("postgres.columns.*.as.enum_name.strip_prefix", Text, Nothing, "Prefix to remove from the enum's name."),
    key("postgres.columns.*.strip_prefix", Text, Nothing, "The same, next to `as: enum_name`."),
    key(
        "postgres.columns.*.insert_only",
        Boolean,
        Value("false"),
        "With `true` only an insert sets the column, not an update.",
    ),
    key(
        "postgres.columns.*.absent",
        ChoiceOrNull(&["default", "null", "reject"]),
        Nothing,
        "As `contract.absent`, for this column only.",
    ),
    key(
        "postgres.columns.*.default",
        Scalar,
        Nothing,
        "The column's value if its field is not set or its header is absent, in PostgreSQL's text form of the column's type. `tollgate setup` also declares it as the column's DEFAULT.",
    ),
    key(
        "postgres.columns.*.not_null",
        Boolean,
        Value("false"),
        "With `true`, `tollgate setup` declares the column NOT NULL, and an event without a value for it becomes a dead letter.",
    ),
    key(
        "postgres.columns.*.identity",
        Choice(&["override"]),
        Nothing,
        "`override` inserts the event's value into a column that is GENERATED ALWAYS AS IDENTITY.",
    ),
    key(
        "postgres.columns.*.add",
        Addend,
        Nothing,
        "The amount to add to the column: a whole number, a field's path, or `true` for the value of the other keys.",
    ),
    key(
        "postgres.only_if_newer",
        Text,
        Nothing,
        "Column whose value must increase for an update, so that an older event does not overwrite a newer row. Cannot be combined with `add`.",
    ),
    key(
        "postgres.nul",
        Choice(&["reject", "strip", "replace"]),
        Value("reject"),
        "What happens to a NUL character in a text, which PostgreSQL cannot store: the event becomes a dead letter, the NUL is removed, or it is replaced by U+FFFD. `tollgate_nul_texts_total` counts such texts.",
    ),
    key(
        "postgres.partitions",
        Table,
        Nothing,
        "The table is partitioned by ranges of time. `tollgate setup` creates it this way, and a running pipeline creates partitions in advance.",
    ),
    key(
        "postgres.partitions.column",
        Text,
        Required,
        "A column of the key, of type timestamptz, timestamp or date. Two events that differ only in this key column are two rows.",
    ),
    key(
        "postgres.partitions.every",
        Choice(&["day", "week", "month", "year"]),
        Required,
        "The time span of a partition, in UTC; weeks begin on Monday.",
    ),
    key("postgres.partitions.ahead", Whole, Value("2"), "Number of partitions after the current one; 1 to 366."),
    key("postgres.delete", Table, Nothing, "How rows are deleted."),
    key(
        "postgres.delete.key",
        TableOr(&Choice(&["text", "json"])),
        Nothing,
        "How a tombstone's record key identifies its row: as the value of a single key column, as a JSON object with a member for each key column, or as a Protobuf message. Default: `text` for a key of one column, `json` for several.",
    ),
    key(
        "postgres.delete.key.message",
        Text,
        Required,
        "Full name of the record key's message type. It needs a field for each key column, with the name of the column or of the column's field.",
    ),
    key(
        "postgres.delete.when",
        Table,
        Nothing,
        "Events with a value that delete the row of their key. With `only_if_newer` this needs `soft`.",
    ),
    key("postgres.delete.when.field", Text, Required, "Dotted path of a text, enum or bool."),
    key("postgres.delete.when.is", Names, Required, "The values that delete the row; for an enum, their names."),
    key(
        "postgres.delete.soft",
        Text,
        Nothing,
        "Column that marks a row as deleted instead of deleting it: a boolean, or a time that is NULL otherwise. The next event of the same key removes the mark.",
    ),
];
