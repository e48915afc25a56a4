//! Pipelines for every path through the contract stage: one type, types by header, types in envelopes, change events.

use std::path::Path;

use tollgate::compiler;
use tollgate_config::{Column, From, Pipeline};
use tollgate_contract::Slot;
use tollgate_decide::postgres::cell::PgColumn;
use tollgate_engine::lane::trial::Trial;

const PROTO: &str = r#"
syntax = "proto3";
package f.v1;
import "buf/validate/validate.proto";
import "google/protobuf/timestamp.proto";

message Event {
  string id = 1 [(buf.validate.field).string.max_len = 64];
  int64 amount = 2;
  double ratio = 3;
  float small = 4;
  bytes raw = 5;
  Kind kind = 6;
  google.protobuf.Timestamp at = 7;
  repeated string tags = 8;
  map<string, int32> counts = 9;
  uint64 big = 10;
  bool flag = 11;
  Event inner = 12;
}
message Other {
  string id = 1;
  int64 at_ms = 2;
}
enum Kind {
  KIND_UNSPECIFIED = 0;
  KIND_ONE = 1;
}
"#;

const HEAD: &str = "\
pipeline: trial
source: { brokers: 'localhost:9092', topic: trial, group_id: g, start: earliest }
dead_letter: { topic: trial.dlq }
output: { topic: trial.out }
";

const POSTGRES: &str = "\
postgres:
  url: postgres://app@localhost/app
  table: trial
  key: [id]
  columns:
    id: {}
    h_int: { header: h_int, as: int }
    h_text: { header: h_text }
    h_uuid: { header: h_uuid, as: uuid }
    stamp: { record: timestamp }
    off: { record: offset }
    part: { record: partition }
    k: { record: key }
    dig: { record: digest }
    seen: { now: true }
";

/// The columns that only `Event` has.
const EVENT: &str = "    amount: {}
    cents: { field: amount, as: 'numeric(18,2)' }
    at_s: { field: amount, as: unix_s }
    ratio: {}
    small: {}
    raw: {}
    kind: { as: enum_name, strip_prefix: KIND_ }
    at: {}
    tags: { as: jsonb }
    counts: { as: jsonb }
    inner: { as: jsonb }
    big: {}
    flag: {}
";

/// Returns all of them, in the order in which a target's first byte selects them.
pub fn all() -> Vec<Trial> {
    let single = format!(
        "{HEAD}contract: {{ protos: proto, message: f.v1.Event, encoding: auto, tombstones: delete }}\n{POSTGRES}{EVENT}"
    );
    let typed = format!(
        "{HEAD}contract: {{ protos: proto, type_header: event-type, encoding: auto, accept_versions: {{ accept: [1] }} }}\n\
         {POSTGRES}types: {{ event: {{ message: f.v1.Event }}, other: {{ message: f.v1.Other }} }}\n"
    );
    let wrapped = format!(
        "{HEAD}contract:\n  protos: proto\n  encoding: auto\n  envelope:\n    message: tollgate.envelope.v1.DomainEvent\n\
         {POSTGRES}types: {{ event: {{ message: f.v1.Event }}, other: {{ message: f.v1.Other }} }}\n"
    );
    let changes =
        format!("{HEAD}contract: {{ protos: proto, message: f.v1.Event, envelope: debezium }}\n{POSTGRES}{EVENT}");
    [single, typed, wrapped, changes].iter().map(|text| trial(text)).collect()
}

fn trial(text: &str) -> Trial {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let proto = folder.path().join("proto");
    let written = std::fs::create_dir(&proto).and_then(|()| std::fs::write(proto.join("f.proto"), PROTO));
    written.unwrap_or_else(|error| panic!("{error}"));
    let file = folder.path().join("pipeline.yaml");
    let pipeline = Pipeline::parse(&file, text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    let columns = columns(&pipeline, &file);
    let pools = tollgate_protos::pools(&pipeline).unwrap_or_else(|failure| panic!("{failure}"));
    Trial::new(pipeline, &pools, &columns).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Returns the columns of the tables that `setup` creates, as PostgreSQL's catalogue would describe them.
fn columns(pipeline: &Pipeline, file: &Path) -> Vec<PgColumn> {
    let contracts = compiler::contracts(pipeline).unwrap_or_else(|failure| panic!("{}: {failure}", file.display()));
    let mut columns: Vec<PgColumn> = Vec::new();
    for (kind, contracts) in pipeline.types.iter().zip(&contracts) {
        let mut slot = 0;
        for column in &kind.mapping.columns {
            let this = Slot(slot);
            slot += usize::from(matches!(column.from, From::Field(_)));
            if !columns.iter().any(|known| known.name == column.name) {
                columns.push(described(
                    column,
                    &tollgate_decide::postgres::ddl::sql_type(column, &contracts.output.contract, this),
                ));
            }
        }
    }
    columns
}

fn described(column: &Column, sql_type: &str) -> PgColumn {
    let (type_name, oid, array_oid, typmod) = match sql_type {
        "bigint" => ("int8", 20, 1016, -1),
        "boolean" => ("bool", 16, 1000, -1),
        "bytea" => ("bytea", 17, 1001, -1),
        "double precision" => ("float8", 701, 1022, -1),
        "integer" => ("int4", 23, 1007, -1),
        "jsonb" => ("jsonb", 3802, 3807, -1),
        "numeric(18,2)" => ("numeric", 1700, 1231, (18 << 16 | 2) + 4),
        "numeric(20)" => ("numeric", 1700, 1231, (20 << 16) + 4),
        "real" => ("float4", 700, 1021, -1),
        "text" => ("text", 25, 1009, -1),
        "timestamptz" => ("timestamptz", 1184, 1185, -1),
        "uuid" => ("uuid", 2950, 2951, -1),
        other => panic!("column {} is of {other}, which the catalogue here does not have", column.name),
    };
    PgColumn {
        name: column.name.clone(),
        type_name: type_name.to_owned(),
        sql_type: sql_type.to_owned(),
        oid,
        array_sql_type: format!("{sql_type}[]"),
        array_oid,
        typmod,
        base_sql_type: sql_type.split('(').next().unwrap_or_default().to_owned(),
        ..PgColumn::default()
    }
}
