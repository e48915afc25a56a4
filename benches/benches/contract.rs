//! Measures with criterion what a payment event costs in the contract stage. Ratios are taken within one run.
//!
//!     contract --figures FILE [--protos DIR] [--node DIR --work DIR] [--rounds 5] [--output json]
//!
//! `cargo xtask bench contract` calls it. A round measures every way once, so that a slow minute of the machine affects
//! all of them. Ratios are taken within a round, and the median over the rounds counts. Time is CPU time: of the
//! measuring thread, and of Node's whole process. Criterion's output goes to stdout; the figures go to FILE. If
//! valgrind is installed, the instructions per event are counted too, by this program under callgrind: `contract
//! --count WAY --times N`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tollgate_bench::args::Args;
use tollgate_bench::contract::figures::{Figures, Round};
use tollgate_bench::contract::{EVENTS, Stage, Way, instructions};
use tollgate_bench::report::median;
use tollgate_bench::{machine, output};

struct Options {
    figures: PathBuf,
    protos: PathBuf,
    /// The folder of the built baseline, and a folder for its events.
    node: Option<(PathBuf, PathBuf)>,
    rounds: u32,
    json: bool,
}

fn main() -> ExitCode {
    output::exit(run())
}

fn run() -> anyhow::Result<()> {
    let mut args = Args::new(std::env::args().skip(1).collect());
    // `cargo bench` adds this flag.
    args.flag("--bench");
    if let Some(way) = args.text(instructions::OPTION, None)? {
        return count(&way, args);
    }
    let options = Options::read(args)?;
    let node = options.node.as_ref().map(|(folder, work)| (folder.as_path(), work.as_path()));
    let mut stage = Stage::new(&options.protos, node)?;
    let ways: Vec<Way> = stage.ways().collect();
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let mut measured = Round::default();
        for way in &ways {
            measured.set(*way, measure(&mut stage, *way, round)?);
        }
        rounds.push(measured);
    }
    let instructions = if instructions::available() { counts(&options.protos)? } else { BTreeMap::new() };
    let figures = Figures { machine: machine::describe()?, event_bytes: stage.event_bytes(), rounds, instructions };
    let text = if options.json { figures.to_json().to_string() } else { figures.to_string() };
    std::fs::write(&options.figures, format!("{}\n", text.trim_end()))
        .with_context(|| format!("{} cannot be written", options.figures.display()))
}

/// Handles all events `--times` times, for callgrind, which counts this process's instructions.
fn count(way: &str, mut args: Args) -> anyhow::Result<()> {
    let way = Way::named(way).with_context(|| format!("{} {way:?}: unknown way", instructions::OPTION))?;
    let protos = protos(&mut args)?;
    let times: u64 = args.number("--times", 1)?;
    args.finish()?;
    Stage::new(&protos, None)?.run(way, times).map(drop)
}

/// Returns the instructions per event of each way that runs in this process.
fn counts(protos: &Path) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let program = std::env::current_exe()?;
    let ways = Way::ALL.into_iter().filter(|way| *way != Way::Zod);
    ways.map(|way| Ok((way.name(), instructions::per_event(&program, protos, way)?))).collect()
}

fn protos(args: &mut Args) -> anyhow::Result<PathBuf> {
    let given = args.text("--protos", None)?.map(PathBuf::from);
    Ok(given.unwrap_or_else(|| [env!("CARGO_MANIFEST_DIR"), "proto"].iter().collect()))
}

/// Returns the CPU time per event in nanoseconds: the median of criterion's samples.
fn measure(stage: &mut Stage, way: Way, round: u32) -> anyhow::Result<f64> {
    // The measurements are short, because the rounds repeat them.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .nresamples(2_000);
    let (mut samples, mut failure) = (Vec::new(), None);
    let mut group = criterion.benchmark_group("contract");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function(BenchmarkId::new(way.name(), round), |bencher| {
        bencher.iter_custom(|times| match stage.run(way, times) {
            Ok(took) => {
                samples.push(took.as_secs_f64() * 1e9 / (times as f64 * EVENTS as f64));
                took
            }
            Err(error) => {
                failure.get_or_insert(error);
                Duration::from_millis(1)
            }
        });
    });
    group.finish();
    match failure {
        Some(error) => Err(error.context(way.title())),
        // The samples include those of the warm-up, which are few.
        None => median(samples).context("criterion took no sample"),
    }
}

impl Options {
    fn read(mut args: Args) -> anyhow::Result<Options> {
        let path = |text: Option<String>| text.map(PathBuf::from);
        let work = path(args.text("--work", None)?);
        let node = match (path(args.text("--node", None)?), work) {
            (Some(node), Some(work)) => Some((node, work)),
            (Some(_), None) => bail!("--node wants --work, a folder for its events"),
            (None, _) => None,
        };
        let options = Options {
            figures: path(args.text("--figures", None)?).context("--figures is missing: the file for the result")?,
            protos: protos(&mut args)?,
            node,
            rounds: args.number("--rounds", 5)?,
            json: match args.text("--output", None)?.as_deref() {
                None | Some("text") => false,
                Some("json") => true,
                Some(other) => bail!("--output {other:?}: text and json are known"),
            },
        };
        args.finish()?;
        if options.rounds == 0 {
            bail!("--rounds 0: at least one is needed");
        }
        Ok(options)
    }
}
