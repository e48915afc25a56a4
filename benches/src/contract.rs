//! Measures the contract stage alone, from an event's wire bytes to its row, and the libraries that it is compared
//! with.
//!
//! Each [`Way`] handles the same events in memory, batch by batch, and reuses its memory for each batch as a lane does.

pub mod figures;
pub mod instructions;

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use cpu_time::ThreadTime;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tollgate::compiler;
use tollgate_config::Pipeline;
use tollgate_contract::{Contract, Fields};
use tollgate_decide::postgres::Rows;
use tollgate_decide::postgres::Table;
use tollgate_decide::postgres::cell::PgColumn;
use tollgate_decide::postgres::table::RecordView;

use crate::payment::PaymentEvent;
use crate::recipe::{FILL_EPOCH_MS, Recipe};
use crate::rounds::SEED;

/// These events take about 2 MB, more than the L1 and L2 caches hold, so that each event is read from memory, as it is
/// when a topic is consumed.
pub const EVENTS: usize = 20_000;
/// The default of a pipeline.
const BATCH: usize = 4_000;

/// The contract with its rules, and the bench's table.
const PIPELINE: &str = "pipeline: bench-contract
source: { brokers: \"nowhere:9092\", topic: payment-events, group_id: bench-contract, start: earliest }
contract: { protos: PROTOS, message: bench.v1.PaymentEvent }
dead_letter: { topic: dead-letters }
postgres:
  url: postgres://nowhere
  table: payment_events
  key: [transaction_id]
  columns:
    transaction_id: { field: transaction_id }
    amount: { field: amount, as: \"numeric(18,2)\" }
    currency: { field: currency }
    status: { field: status, as: enum_name }
    created_at: { field: created_at, as: unix_ms }
    schema_version: { header: schema-version, as: int }
delivery: { mode: effectively_once }
";

/// Ways to handle an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Decode, rules, and the row in PostgreSQL's binary form. The others are compared with this.
    Tollgate,
    /// The first half of [`Way::Tollgate`]: decode and rules.
    Check,
    /// [`Way::Tollgate`], and then the batch folded and each column encoded as PostgreSQL's array.
    Arrays,
    /// Decodes and drops the struct that prost generates. There are no rules.
    Prost,
    /// Decodes and drops prost-reflect's `DynamicMessage`. There are no rules.
    ProstReflect,
    /// The Node baseline's protobufjs decode and zod schema.
    Zod,
}

impl Way {
    pub const ALL: [Way; 6] = [Way::Tollgate, Way::Check, Way::Arrays, Way::Prost, Way::ProstReflect, Way::Zod];

    pub fn name(self) -> &'static str {
        match self {
            Way::Tollgate => "tollgate",
            Way::Check => "tollgate_check",
            Way::Arrays => "tollgate_arrays",
            Way::Prost => "prost",
            Way::ProstReflect => "prost_reflect",
            Way::Zod => "zod",
        }
    }

    /// Returns the way with this name.
    pub fn named(name: &str) -> Option<Way> {
        Way::ALL.into_iter().find(|way| way.name() == name)
    }

    /// Returns the description for the report.
    pub fn title(self) -> &'static str {
        match self {
            Way::Tollgate => "Tollgate: decode, rules, columns",
            Way::Check => "  of which decode and rules",
            Way::Arrays => "  and fold, arrays for PostgreSQL",
            Way::Prost => "prost: generated decode",
            Way::ProstReflect => "prost-reflect: dynamic decode",
            Way::Zod => "Node: protobufjs decode, zod",
        }
    }
}

/// Events, contract and table, and the memory that a lane would reuse.
pub struct Stage {
    values: Vec<Vec<u8>>,
    contract: Contract,
    table: Table,
    rows: Rows,
    node: Option<Node>,
}

impl Stage {
    /// Prepares the events. `protos` is the folder of the contract with rules; `node` is the folder of the built
    /// baseline and one for its events.
    pub fn new(protos: &Path, node: Option<(&Path, &Path)>) -> anyhow::Result<Stage> {
        let text = PIPELINE.replace("PROTOS", &format!("{:?}", protos.display().to_string()));
        let file = std::env::current_dir()?.join("contract.yaml");
        let pipeline = Pipeline::parse(&file, &text, &|_| None)
            .map_err(|errors| anyhow!("the bench's pipeline is refused: {errors}"))?;
        let mut contracts = compiler::contracts(&pipeline).map_err(|failure| anyhow!(failure.message))?;
        let (Some(only), [event]) = (contracts.pop(), pipeline.types.as_slice()) else {
            bail!("the bench's pipeline holds one type of event");
        };
        let contract = only.output.contract;
        let table = Table::of(&event.mapping, &columns(), &contract)?;
        let values = valid_events();
        let node = node.map(|(folder, work)| Node::start(folder, work, &values)).transpose()?;
        Ok(Stage { values, contract, table, rows: Rows::default(), node })
    }

    pub fn ways(&self) -> impl Iterator<Item = Way> {
        let node = self.node.is_some();
        Way::ALL.into_iter().filter(move |way| node || *way != Way::Zod)
    }

    /// Returns the average size of an event in bytes.
    pub fn event_bytes(&self) -> usize {
        self.values.iter().map(Vec::len).sum::<usize>() / self.values.len()
    }

    /// Returns the CPU time of handling all events `times` times.
    pub fn run(&mut self, way: Way, times: u64) -> anyhow::Result<Duration> {
        if way == Way::Zod {
            return self.node.as_mut().context("there is no Node to ask")?.run(times);
        }
        let start = ThreadTime::try_now()?;
        for _ in 0..times {
            match way {
                Way::Tollgate => self.rows(false)?,
                Way::Arrays => self.rows(true)?,
                Way::Check => self.check()?,
                Way::Prost => self.prost()?,
                Way::ProstReflect => self.prost_reflect()?,
                Way::Zod => {}
            }
        }
        Ok(start.try_elapsed()?)
    }

    fn rows(&mut self, arrays: bool) -> anyhow::Result<()> {
        let Stage { values, contract, table, rows, .. } = self;
        let header = |name: &str| (name == "schema-version").then_some(&b"1"[..]);
        let record = RecordView {
            topic: "payment-events",
            partition: 0,
            offset: 0,
            timestamp: FILL_EPOCH_MS,
            key: None,
            digest: "",
            header: &header,
        };
        let mut fields = Fields::new();
        for batch in values.chunks(BATCH) {
            rows.clear();
            for value in batch {
                contract.check_at(value, &mut fields, UNIX_EPOCH).map_err(|r| anyhow!("an event is refused: {r:?}"))?;
                let mut row = rows.begin();
                table.write(contract, &fields, &record, &mut row)?;
                row.finish();
            }
            if arrays {
                let folded = rows.fold(&table.shape);
                for column in 0..table.arrays.len() {
                    black_box(rows.array(&table.shape, &folded, column));
                }
            }
            black_box(&*rows);
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut fields = Fields::new();
        for value in &self.values {
            self.contract
                .check_at(value, &mut fields, UNIX_EPOCH)
                .map_err(|r| anyhow!("an event is refused: {r:?}"))?;
            black_box(&fields);
        }
        Ok(())
    }

    fn prost(&self) -> anyhow::Result<()> {
        for value in &self.values {
            black_box(PaymentEvent::decode(value.as_slice())?);
        }
        Ok(())
    }

    fn prost_reflect(&self) -> anyhow::Result<()> {
        for value in &self.values {
            black_box(DynamicMessage::decode(self.contract.message().clone(), value.as_slice())?);
        }
        Ok(())
    }
}

/// Returns the recipe's valid events, so that decoders with and without rules handle the same ones.
fn valid_events() -> Vec<Vec<u8>> {
    let mut recipe = Recipe::new(SEED);
    let events = (FILL_EPOCH_MS..).map(|now| recipe.next(now).message());
    events.filter(|event| event.check().is_ok()).map(|event| event.encode_to_vec()).take(EVENTS).collect()
}

/// Returns the columns of `payment_events` as the catalogue describes them.
fn columns() -> Vec<PgColumn> {
    let column = |name: &str, type_name: &str, sql_type: &str, oid, array_oid, typmod| PgColumn {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        sql_type: sql_type.to_owned(),
        oid,
        array_sql_type: format!("{sql_type}[]"),
        array_oid,
        typmod,
        not_null: name == "transaction_id",
        base_sql_type: sql_type.split('(').next().unwrap_or(sql_type).to_owned(),
        ..PgColumn::default()
    };
    // The type modifier of numeric(18,2): precision and scale in one number, plus four bytes for a header.
    let money = (18 << 16 | 2) + 4;
    vec![
        column("transaction_id", "text", "text", 25, 1009, -1),
        column("amount", "numeric", "numeric(18,2)", 1700, 1231, money),
        column("currency", "text", "text", 25, 1009, -1),
        column("status", "text", "text", 25, 1009, -1),
        column("created_at", "timestamptz", "timestamp with time zone", 1184, 1185, -1),
        column("schema_version", "int4", "integer", 23, 1007, -1),
    ]
}

/// The baseline's consumer functions in their own process. It runs during the whole bench, so that its JIT compiler
/// stays warm.
struct Node {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Node {
    fn start(folder: &Path, work: &Path, values: &[Vec<u8>]) -> anyhow::Result<Node> {
        let events = work.join("contract-events.bin");
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend_from_slice(&u32::try_from(value.len())?.to_le_bytes());
            bytes.extend_from_slice(value);
        }
        std::fs::write(&events, bytes).with_context(|| format!("{} cannot be written", events.display()))?;
        let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "node", "contract.js"].iter().collect();
        let mut command = Command::new("node");
        command.arg(script).arg(folder).arg(&events).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("node cannot be started")?;
        let (questions, answers) = (process.stdin.take(), process.stdout.take());
        let questions = questions.context("node has no stdin")?;
        let answers = BufReader::new(answers.context("node has no stdout")?);
        Ok(Node { process, questions, answers })
    }

    fn run(&mut self, times: u64) -> anyhow::Result<Duration> {
        writeln!(self.questions, "{times}").context("node has ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let parsed = answer
            .trim()
            .split_once(' ')
            .and_then(|(micros, accepted)| Some((micros.parse::<u64>().ok()?, accepted.parse::<u64>().ok()?)));
        let Some((micros, accepted)) = parsed else { bail!("node answered {answer:?}; see its output above") };
        let sent = times * EVENTS as u64;
        if accepted != sent {
            bail!("node's schema accepts {accepted} of {sent} events that the contract accepts");
        }
        Ok(Duration::from_micros(micros))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The process may already have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        let protos: PathBuf = [env!("CARGO_MANIFEST_DIR"), "proto"].iter().collect();
        Stage::new(&protos, None).unwrap()
    }

    #[test]
    fn every_way_handles_every_event() {
        let mut stage = stage();
        assert_eq!(stage.event_bytes(), 108);
        for way in stage.ways().collect::<Vec<_>>() {
            stage.run(way, 1).unwrap();
        }
        assert_eq!(stage.rows.len(), BATCH);
        assert!(stage.run(Way::Zod, 1).is_err());
    }

    #[test]
    fn the_contract_refuses_what_the_native_checks_refuse() {
        let stage = stage();
        let mut recipe = Recipe::new(SEED);
        let (mut refused, mut fields) = (0, Fields::new());
        for now in (FILL_EPOCH_MS..).take(5_000) {
            let event = recipe.next(now).message();
            let bytes = event.encode_to_vec();
            let accepted = stage.contract.check_at(&bytes, &mut fields, UNIX_EPOCH).is_ok();
            fields.clear();
            assert_eq!(accepted, event.check().is_ok(), "{event:?}");
            refused += usize::from(!accepted);
            fields = fields.recycle();
        }
        assert!(refused > 20, "the recipe brought too few invalid events to tell: {refused}");
    }
}
