//! Measures the engines in turn. `cargo xtask bench` starts the servers, builds the programs and runs this one.
//!
//!     rounds [drain] [latency] [micro]                 what to measure; default: all three
//!     rounds delivery                                  what the guarantee costs
//!         [--rounds 3] [--n 1000000] [--pairs 5] [--latency-secs 30] [--idle-wait 90] [--output json]
//!         [--engines node,tollgate,tollgate-output,floor]
//!         --work DIR --postmaster PID --broker-pid PID [--brokers B] [--database URL]
//!         [--node DIR] [--tollgate PROGRAM --component WASM --protos DIR] --floor PROGRAM [--micro PROGRAM]
//!
//! An engine without a program is left out, and the report shows that. The exit code is 1 if the oracle disagrees.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::Value;
use tollgate_bench::args::Args;
use tollgate_bench::engine::{Engine, Setting, Tollgate};
use tollgate_bench::report::Report;
use tollgate_bench::rounds::{Plan, RATE, drain, fill, paced};
use tollgate_bench::{delivery, machine, output};

struct Options {
    setting: Setting,
    plan: Plan,
    micro: Option<PathBuf>,
    what: What,
    json: bool,
}

struct What {
    drain: bool,
    latency: bool,
    micro: bool,
    delivery: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    output::exit(run().await)
}

async fn run() -> anyhow::Result<()> {
    let options = Options::read()?;
    let mut report = Report { machine: machine::describe()?, ..Report::default() };
    left_out(&options, &mut report);
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string();
    if options.what.delivery {
        let told = delivery::measure(&options.setting, &options.plan, &stamp, &report.machine, &note).await?;
        return if options.json { output::line(&told.to_json()) } else { output::line(&told) };
    }
    if options.what.drain {
        drains(&options, &stamp, &mut report).await?;
    }
    if options.what.latency {
        latencies(&options, &stamp, &mut report).await?;
    }
    if let Some(program) = options.micro.as_ref().filter(|_| options.what.micro) {
        let told = micro(program, &options.setting)?;
        report.micro.extend(told.as_object().cloned().unwrap_or_default());
    }
    if options.json { output::line(&report.to_json()) } else { output::line(&report) }
}

fn left_out(options: &Options, report: &mut Report) {
    let Options { setting, micro, what, .. } = options;
    if setting.node.is_none() {
        report.left_out.push("Node: the baseline is missing, so there are no ratios".to_owned());
    }
    if setting.tollgate.is_none() {
        report.left_out.push("Tollgate: no program was given".to_owned());
    }
    if what.micro && micro.is_none() {
        report.left_out.push("micro figures: no program was given".to_owned());
    }
}

async fn drains(options: &Options, stamp: &str, report: &mut Report) -> anyhow::Result<()> {
    let Options { setting, plan, .. } = options;
    note(&format!("filling the topic with {} events", plan.events));
    let truth = fill(setting, plan.events).await?;
    for round in 1..=plan.rounds {
        for engine in &plan.engines {
            note(&format!("drain, round {round} of {}: {}", plan.rounds, engine.name()));
            report.drains.push(drain(*engine, setting, plan, &truth, stamp, round).await?);
        }
    }
    Ok(())
}

async fn latencies(options: &Options, stamp: &str, report: &mut Report) -> anyhow::Result<()> {
    let Options { setting, plan, .. } = options;
    for pair in 1..=plan.pairs {
        for engine in plan.engines.iter().filter(|e| matches!(e, Engine::Node | Engine::Tollgate)) {
            note(&format!("latency, pair {pair} of {}: {}", plan.pairs, engine.name()));
            report.paced.push(paced(*engine, setting, plan, stamp, pair, RATE).await?);
        }
    }
    Ok(())
}

/// Runs the micro-benches, which are a separate program: they link the engine's crates, which this one does not need.
fn micro(program: &PathBuf, setting: &Setting) -> anyhow::Result<Value> {
    note("micro-benches");
    let mut command = Command::new(program);
    command.env("KAFKA_BROKERS", &setting.brokers).env("DATABASE_URL", &setting.database);
    if let Some(tollgate) = &setting.tollgate {
        command.arg("--component").arg(&tollgate.component).arg("--protos").arg(&tollgate.protos);
    }
    let done = command.stderr(Stdio::inherit()).output().context("the micro-benches cannot be started")?;
    if !done.status.success() {
        bail!("the micro-benches ended with {}", done.status);
    }
    serde_json::from_slice(&done.stdout).context("the micro-benches did not print one JSON object")
}

fn note(text: &str) {
    eprintln!("bench: {text}");
}

impl Options {
    fn read() -> anyhow::Result<Options> {
        let mut args = Args::new(std::env::args().skip(1).collect());
        let (delivery, drain, latency) = (args.flag("delivery"), args.flag("drain"), args.flag("latency"));
        let mut what = What { drain, latency, micro: args.flag("micro"), delivery };
        if delivery && (what.drain || what.latency || what.micro) {
            bail!("`delivery` is measured by itself");
        }
        if !(delivery || what.drain || what.latency || what.micro) {
            what = What { drain: true, latency: true, micro: true, delivery };
        }
        let path = |text: Option<String>| text.map(PathBuf::from);
        let node = path(args.text("--node", None)?);
        let (tollgate, earlier) = (tollgate(&mut args)?, path(args.text("--against", None)?));
        let setting = Setting {
            brokers: args.required("--brokers", "KAFKA_BROKERS")?,
            database: args.required("--database", "DATABASE_URL")?,
            postmaster: args.text("--postmaster", None)?.context("--postmaster is missing")?.parse()?,
            broker: args.text("--broker-pid", None)?.context("--broker-pid is missing")?.parse()?,
            floor: path(args.text("--floor", None)?).context("--floor is missing")?,
            work: path(args.text("--work", None)?).context("--work is missing")?,
            node,
            tollgate,
            earlier,
        };
        let plan = Plan {
            events: args.number("--n", 1_000_000)?,
            rounds: args.number("--rounds", 3)?,
            pairs: args.number("--pairs", 5)?,
            latency_s: args.number("--latency-secs", 30)?,
            patience: Duration::from_secs(args.number("--idle-wait", 90)?),
            engines: engines(&mut args, &setting)?,
        };
        let micro = path(args.text("--micro", None)?);
        let json = match args.text("--output", None)?.as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => bail!("--output {other:?}: text and json are known"),
        };
        args.finish()?;
        Ok(Options { setting, plan, micro, what, json })
    }
}

fn tollgate(args: &mut Args) -> anyhow::Result<Option<Tollgate>> {
    let Some(program) = args.text("--tollgate", None)? else { return Ok(None) };
    let component = args.text("--component", None)?.context("--tollgate wants --component")?.into();
    let protos = args.text("--protos", None)?.context("--tollgate wants --protos")?.into();
    Ok(Some(Tollgate { program: program.into(), component, protos }))
}

/// Returns the engines that were requested and have a program, in the order of a round.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn engines(args: &mut Args, setting: &Setting) -> anyhow::Result<Vec<Engine>> {
    let all = [Engine::Node, Engine::Earlier, Engine::Tollgate, Engine::Floor, Engine::TollgateOutput];
    let asked = args.text("--engines", None)?.map(|t| t.split(',').map(str::to_owned).collect::<Vec<_>>());
    if let Some(unknown) = asked.iter().flatten().find(|name| all.iter().all(|e| e.name() != **name)) {
        bail!("--engines {unknown:?}: node, earlier, tollgate, tollgate-output and floor are known");
    }
    let there = |engine: &Engine| match engine {
        Engine::Node => setting.node.is_some(),
        Engine::Earlier => setting.earlier.is_some(),
        Engine::Floor => true,
        _ => setting.tollgate.is_some(),
    };
    let wanted = |engine: &Engine| asked.as_ref().is_none_or(|names| names.iter().any(|n| n == engine.name()));
    Ok(all.into_iter().filter(|e| there(e) && wanted(e)).collect())
}
