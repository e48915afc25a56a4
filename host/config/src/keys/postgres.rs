//! The keys of `postgres:`.

use super::Fallback::{Nothing, Required, RequiredOnce, Value};
use super::Kind::{
    Addend, Boolean, Choice, ChoiceOrNull, Map, Names, Null, Path, Scalar, Secret, Signed, Table, TableOr, Text, Whole,
    WordOrNames, WordOrText,
};
use super::{Key, key};

pub(super) const KEYS: &[Key] = &[
    key("postgres", Table, Required, "The target table, and where progress is kept."),
    key(
        "postgres.url",
        Secret,
        Required,
        "`postgres://user:password@host:5432/database?sslmode=verify-full`. `sslmode` says how strict TLS is. With several hosts (`a:5432,b:5432`) the first one that takes writes is used, unless `target_session_attrs` is `any`.",
    ),
    key("postgres.tls_ca", Path, Nothing, "PEM file of the authority that signed the server's certificate."),
    key("postgres.table", Text, RequiredOnce, "`table` or `schema.table`."),
    key(
        "postgres.key",
        Names,
        RequiredOnce,
        "Columns of the primary key or of a unique index. One without an entry under `columns` takes the field of its own name.",
    ),
    key("postgres.columns", Map, RequiredOnce, "The columns that are written, by name."),
    key(
        "postgres.columns.*",
        TableOr(&Null),
        Nothing,
        "Where its value comes from. Nothing: the field of the same name.",
    ),
    key(
        "postgres.columns.*.field",
        Text,
        Nothing,
        "Dotted path in the message (of the output contract where there is one).",
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
        "The source record's metadata. `digest`: the revision that the event passed, hex.",
    ),
    key("postgres.columns.*.now", Boolean, Nothing, "`true`: PostgreSQL's transaction time."),
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
        "The forms in which a text or a number may say a time; the first that fits is taken.",
    ),
    key(
        "postgres.columns.*.as.between",
        Names,
        Nothing,
        "The first time that is taken, and the first after it that is not: `[2000-01-01, 2100-01-01]`. Required where several forms take numbers.",
    ),
    key("postgres.columns.*.as.enum_name", TableOr(&Null), Nothing, "The long form of `as: enum_name`."),
    key("postgres.columns.*.as.enum_name.strip_prefix", Text, Nothing, "Prefix that is cut off the enum's name."),
    key("postgres.columns.*.strip_prefix", Text, Nothing, "The same, beside `as: enum_name`."),
    key("postgres.columns.*.insert_only", Boolean, Value("false"), "Only the insert sets it."),
    key(
        "postgres.columns.*.absent",
        ChoiceOrNull(&["default", "null", "reject"]),
        Nothing,
        "As `contract.absent`, for this column alone.",
    ),
    key(
        "postgres.columns.*.default",
        Scalar,
        Nothing,
        "What the column gets where its field is not set or its header is absent, written as PostgreSQL writes the column's type. `tollgate setup` declares it as the column's DEFAULT too.",
    ),
    key(
        "postgres.columns.*.not_null",
        Boolean,
        Value("false"),
        "`tollgate setup` declares the column NOT NULL. An event without a value for it is a dead letter.",
    ),
    key(
        "postgres.columns.*.identity",
        Choice(&["override"]),
        Nothing,
        "`override`: the event's value is inserted into a column that is GENERATED ALWAYS AS IDENTITY.",
    ),
    key(
        "postgres.columns.*.add",
        Addend,
        Nothing,
        "The column grows by this: a whole number, a field's path, or `true` for what the other keys say.",
    ),
    key(
        "postgres.only_if_newer",
        Text,
        Nothing,
        "Column that must grow for an update to happen: an older event does not overwrite a newer row. Does not go with `add`.",
    ),
    key(
        "postgres.nul",
        Choice(&["reject", "strip", "replace"]),
        Value("reject"),
        "What becomes of a NUL character in a text, which PostgreSQL cannot store: the event is a dead letter, the NUL is left out, or it becomes U+FFFD. Counted in `tollgate_nul_texts_total`.",
    ),
    key(
        "postgres.partitions",
        Table,
        Nothing,
        "The table is partitioned by range of a time: `tollgate setup` creates it so, and a running pipeline creates partitions ahead.",
    ),
    key(
        "postgres.partitions.column",
        Text,
        Required,
        "A column of the key: timestamptz, timestamp or date. Two events of one key with different values of it are two rows.",
    ),
    key(
        "postgres.partitions.every",
        Choice(&["day", "week", "month", "year"]),
        Required,
        "How much time a partition holds, in UTC; weeks begin on Monday.",
    ),
    key(
        "postgres.partitions.ahead",
        Whole,
        Value("2"),
        "How many partitions there are after the one of now; 1 to 366.",
    ),
    key("postgres.delete", Table, Nothing, "How rows are deleted."),
    key(
        "postgres.delete.key",
        TableOr(&Choice(&["text", "json"])),
        Nothing,
        "How a tombstone's record key names its row: as the one key column's value, as a JSON object with a member for each key column, or as a Protobuf message. Default: `text` for a key of one column, `json` for several.",
    ),
    key(
        "postgres.delete.key.message",
        Text,
        Required,
        "Full name of the message that the record key is. It has a field for each key column, which is called as the column or as the column's field.",
    ),
    key(
        "postgres.delete.when",
        Table,
        Nothing,
        "Events with a value that delete the row of their key. With `only_if_newer` it needs `soft`.",
    ),
    key("postgres.delete.when.field", Text, Required, "Dotted path of a text, enum or bool."),
    key("postgres.delete.when.is", Names, Required, "The values that delete; of an enum its names."),
    key(
        "postgres.delete.soft",
        Text,
        Nothing,
        "Column of the table that marks a deleted row, which stays: boolean, or a time that is NULL otherwise. The next event of its key takes the mark off.",
    ),
];
