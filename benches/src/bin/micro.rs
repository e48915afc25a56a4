//! Measures the cost of single stages in memory, on the payments of the recipe.
//!
//!     micro --component WASM --protos DIR [--database URL] [--brokers B]
//!
//! Prints one object:
//! - `contract.ns_per_event`: one pass over the wire bytes that checks the contract and reads the five fields of the
//!   table.
//! - `transform.wasm_ns`: the rules component on batches, with a new instance for each and all limits on.
//! - `transform.native_ns`: prost decode and the same checks as native code.
//! - `sink.rows_per_s`: fold, arrays and upsert of checked rows over one connection with a commit for each batch. The
//!   database bounds it.
//!
//! The first three are CPU time of the thread, the median of passes that take turns. The last one is wall time.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use prost::Message as _;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use tollgate::compiler;
use tollgate_bench::args::Args;
use tollgate_bench::engine::{Engine, Job, pipeline};
use tollgate_bench::payment::PaymentEvent;
use tollgate_bench::recipe::{FILL_EPOCH_MS, Recipe};
use tollgate_bench::report::median;
use tollgate_bench::rounds::SEED;
use tollgate_bench::{machine, output, table};
use tollgate_config::Pipeline;
use tollgate_contract::Fields;
use tollgate_decide::contracts::Contracts;
use tollgate_decide::postgres::Rows;
use tollgate_decide::postgres::table::RecordView;
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::postgres::{self, table as target};
use tollgate_sandbox::{BatchMeta, Chain, Events, Outcome, Results, limits};

/// Enough that the CPU caches do not hold the events, and that a pass takes some 50 ms.
const EVENTS: usize = 200_000;
/// The default of a pipeline.
const BATCH: usize = 4_000;
const PASSES: usize = 9;

struct Options {
    component: PathBuf,
    protos: PathBuf,
    database: Option<String>,
}

fn main() -> ExitCode {
    output::exit(run())
}

fn run() -> anyhow::Result<()> {
    let mut args = Args::new(std::env::args().skip(1).collect());
    let options = Options {
        component: args.text("--component", None)?.context("--component is missing: a built payment-rules")?.into(),
        protos: args
            .text("--protos", None)?
            .context("--protos is missing: the folder of the payments contract")?
            .into(),
        database: args.text("--database", Some("DATABASE_URL"))?,
    };
    args.finish()?;
    // Guests run on the stack of the calling thread.
    let measuring = std::thread::Builder::new().stack_size(2 * limits::THREAD_STACK);
    let told =
        measuring.spawn(move || measure(&options))?.join().map_err(|_| anyhow!("the measurement panicked"))??;
    output::line(&told)
}

/// Returns the pipeline of the drain as `tollgate run` would parse it.
fn pipeline_of(options: &Options) -> anyhow::Result<Pipeline> {
    let job = Job::drain(Engine::Tollgate, "micro", 1);
    let text = pipeline(Engine::Tollgate, &options.protos, &options.component, &job, "127.0.0.1:0");
    let database = options.database.clone().unwrap_or_else(|| "postgres://nowhere".to_owned());
    let environment = |name: &str| match name {
        "DATABASE_URL" => Some(database.clone()),
        "KAFKA_BROKERS" => Some("nowhere:9092".to_owned()),
        _ => None,
    };
    let file = std::env::current_dir()?.join("micro.yaml");
    Pipeline::parse(&file, &text, &environment).map_err(|errors| anyhow!("the bench's pipeline is refused: {errors}"))
}

fn measure(options: &Options) -> anyhow::Result<Value> {
    let pipeline = pipeline_of(options)?;
    let all = compiler::contracts(&pipeline).map_err(|failure| anyhow!(failure.message))?;
    let [contracts] = all.as_slice() else { bail!("the bench's pipeline holds one type of event") };
    let sandbox = build::sandbox(&pipeline).map_err(|failure| anyhow!(failure.message))?;
    let revision = build::revision(&pipeline, all.iter().map(Contracts::of_revision), None, &sandbox, 0);
    let chain = revision.map_err(|error| anyhow!(error))?.chains.remove(0).chain;
    let mut recipe = Recipe::new(SEED);
    let start = FILL_EPOCH_MS..;
    let values: Vec<Vec<u8>> = start.take(EVENTS).map(|now| recipe.next(now).message().encode_to_vec()).collect();
    let batches: Vec<Arc<Events>> = values.chunks(BATCH).map(|chunk| Arc::new(events(chunk))).collect();
    let invalid = recipe.mix().invalid;

    let (mut contract, mut wasm, mut native) = (Vec::new(), Vec::new(), Vec::new());
    let mut fuel = 0;
    for _ in 0..PASSES {
        contract.push(timed(|| check_all(contracts, &values))?);
        wasm.push(timed(|| {
            fuel = transform_all(&chain, &batches, invalid)?;
            Ok(())
        })?);
        native.push(timed(|| native_all(&values, invalid))?);
    }
    let mut told = json!({
        "contract": {"ns_per_event": median(contract)},
        "transform": {"wasm_ns": median(wasm), "native_ns": median(native), "fuel_per_event": fuel / EVENTS as u64},
    });
    if let Some(database) = &options.database {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let rows_per_s = runtime.block_on(sink(database, &pipeline, contracts, &values))?;
        told["sink"] = json!({"rows_per_s": rows_per_s});
    }
    Ok(told)
}

/// Returns the CPU time per event in nanoseconds.
fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let before = machine::thread_cpu_ms()?;
    work()?;
    Ok((machine::thread_cpu_ms()? - before) * 1e6 / EVENTS as f64)
}

fn events(values: &[Vec<u8>]) -> Events {
    let mut events = Events::default();
    for (offset, value) in (0..).zip(values) {
        events.push(Some(b"key"), Some(value), offset, FILL_EPOCH_MS);
        events.headers.push("schema-version", Some(b"1"));
        events.headers.end_record();
    }
    events
}

fn check_all(contracts: &Contracts, values: &[Vec<u8>]) -> anyhow::Result<()> {
    let mut fields = Fields::new();
    for value in values {
        contracts
            .output
            .contract
            .check(value, &mut fields)
            .map_err(|r| anyhow!("the contract refuses an event: {r:?}"))?;
        black_box(&fields);
    }
    Ok(())
}

/// Returns the fuel used.
fn transform_all(chain: &Chain, batches: &[Arc<Events>], invalid: u64) -> anyhow::Result<u64> {
    let meta = BatchMeta {
        topic: "payment-events".into(),
        partition: 0,
        schema_id: 0,
        batch_time: FILL_EPOCH_MS,
        seed: 1,
        overdue: Vec::new(),
    };
    let mut results = Results::default();
    let (mut rejected, mut fuel) = (0, 0);
    for batch in batches {
        chain.run(&meta, batch, &mut results).map_err(|error| anyhow!("the chain failed: {error}"))?;
        rejected += results.outcomes.iter().filter(|o| matches!(o, Outcome::Rejected(_))).count() as u64;
        fuel += results.fuel.iter().sum::<u64>();
    }
    agree(rejected, invalid).map(|()| fuel)
}

fn native_all(values: &[Vec<u8>], invalid: u64) -> anyhow::Result<()> {
    let mut rejected = 0;
    for value in values {
        let event = PaymentEvent::decode(&value[..])?;
        rejected += u64::from(black_box(&event).check().is_err());
    }
    agree(rejected, invalid)
}

/// Fails if the rules reject other events than the invalid ones; the measurement would then be meaningless.
fn agree(rejected: u64, invalid: u64) -> anyhow::Result<()> {
    if rejected != invalid {
        bail!("{rejected} events were rejected, {invalid} are invalid");
    }
    Ok(())
}

/// Returns rows per second, measured from the checked fields to the commit.
async fn sink(database: &str, pipeline: &Pipeline, contracts: &Contracts, values: &[Vec<u8>]) -> anyhow::Result<f64> {
    table::Table::connect(database).await?.reset().await?;
    let mut connection = PgConnection::connect(database).await?;
    let contract = &contracts.output.contract;
    let table = target::check(&mut connection, &pipeline.types[0].mapping, contract).await?;
    let header = |name: &str| (name == "schema-version").then_some(&b"1"[..]);
    let record = RecordView {
        topic: "payment-events",
        partition: 0,
        offset: 0,
        timestamp: 0,
        key: None,
        digest: "",
        header: &header,
    };
    let mut seconds = 0.0;
    for chunk in values.chunks(BATCH) {
        let mut checked = Vec::with_capacity(chunk.len());
        for value in chunk {
            let mut fields = Fields::new();
            contract.check(value, &mut fields).map_err(|r| anyhow!("the contract refuses an event: {r:?}"))?;
            checked.push(fields);
        }
        let start = Instant::now();
        let mut rows = Rows::default();
        for fields in &checked {
            let mut row = rows.begin();
            table.write(contract, fields, &record, &mut row)?;
            row.finish();
        }
        connection.execute("begin").await?;
        postgres::apply(&mut connection, &table, &rows).await?;
        connection.execute("commit").await?;
        seconds += start.elapsed().as_secs_f64();
    }
    connection.close().await?;
    Ok(values.len() as f64 / seconds)
}
