//! A bout of chaos: a load, two or three engines, and every few seconds a fault, all of it drawn from a seed and told as it
//! happens. When it is over, everything must become quiet, and the oracle says what the faults have cost.
//!
//! A supervisor starts again what ends by itself, as any deployment would; that is told too.

mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use xtask::process::{Signal, delete_at_end};
use xtask::servers::{Kafka, KafkaOptions, Postgres, PostgresOptions};

use crate::case::{Case, PARTITIONS};
use crate::engine::Engine;
use crate::guests::Guest;
use crate::load::{Load, Spread};
use crate::oracle::{self, Violations};
use crate::seed::Seed;
use crate::servers::{self, Servers};
use crate::takeovers::Takeovers;
use crate::wait_for;
use faults::Fault;

/// Between two faults, ms: seven seconds on average.
const PAUSE: (u64, u64) = (5_000, 9_000);
/// How long an engine stands still, ms: the shortest is twice the session's timeout, the longest beyond the transaction's.
const STILL: (u64, u64) = (3_000, 6_000);
/// `delivery.transaction_timeout`.
const TRANSACTION: Duration = Duration::from_secs(4);
/// How often the broker looks for transactions that are past their timeout (its default).
const EXPIRY: Duration = Duration::from_secs(10);
/// Between two looks into the engines' logs.
const LOOK: Duration = Duration::from_millis(500);
const ENGINES: usize = 3;
/// From the end of the load until all is through: on a busy machine the engines may be minutes behind.
const QUIET: Duration = Duration::from_secs(600);
/// An engine that is told to go drains within this.
const LEAVE: Duration = Duration::from_secs(60);
/// Events of a batch: beyond 2,000 rows it goes to PostgreSQL by COPY, as it does whenever an engine is behind.
const BATCH: u32 = 4_000;
/// More ends than this are no bad luck.
const ENDS: usize = 40;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Bout {
    pub length: Duration,
    pub seed: u64,
    /// Events a second.
    pub rate: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// By kind.
    pub faults: BTreeMap<&'static str, u32>,
    /// Engines that ended by themselves, with the last they said.
    pub ended: Vec<String>,
    pub events: i64,
    /// Events a second that were produced.
    pub rate: f64,
    pub lost: usize,
    pub duplicated: usize,
    pub disagreeing: usize,
    /// All that the oracle found, these three included.
    pub found: Violations,
    /// From a fault that met the only engine to its next commit, seconds, by fault.
    pub recovery: BTreeMap<&'static str, f64>,
    pub takeovers: Takeovers,
    /// From the end of the load until all was through; none: it never was.
    pub quiet: Option<Duration>,
    /// Where the engines' logs were kept.
    pub logs: PathBuf,
}

/// An engine of the bout, with a number that no other has.
struct Running {
    number: usize,
    engine: Engine,
    /// Its log has been read up to there.
    read: usize,
    /// When it goes on, where it stands still.
    wakes: Option<Instant>,
}

struct Ring {
    began: Instant,
    seed: Seed,
    kafka: Kafka,
    postgres: Postgres,
    case: Case,
    spread: Spread,
    engines: Vec<Running>,
    started: usize,
    revision: u8,
    /// Faults that are still to come before each kind comes again.
    deck: Vec<Fault>,
    faults: BTreeMap<&'static str, u32>,
    ended: Vec<String>,
    recovery: BTreeMap<&'static str, f64>,
    takeovers: Takeovers,
    looked: Instant,
}

/// Runs a bout on servers of its own. What happens is told on stderr.
pub fn run(bout: Bout, logs: &Path) -> Outcome {
    let (kafka, postgres) = servers::own(&KafkaOptions::default(), &PostgresOptions::default());
    let servers = Servers { brokers: kafka.brokers(), postgres: postgres.url() };
    let delivery =
        json!({ "batch": { "max_events": BATCH }, "transaction_timeout": format!("{}s", TRANSACTION.as_secs()) });
    let case = Case::on(&servers, "chaos").guest(&Guest::revision(1)).set("/delivery", delivery);
    // A group that its broker loads anew may wait this long for a member that is no more.
    let case = case.set("/source/max_poll_interval", json!("20s")).setup();
    delete_at_end(case.folder()).unwrap();
    let load = Load::start(&servers.brokers, &case.source(), PARTITIONS, bout.rate);
    let mut ring = Ring {
        began: Instant::now(),
        seed: Seed::new(bout.seed),
        kafka,
        postgres,
        case,
        spread: load.spread(),
        engines: Vec::new(),
        started: 0,
        revision: 1,
        deck: Vec::new(),
        faults: BTreeMap::new(),
        ended: Vec::new(),
        recovery: BTreeMap::new(),
        takeovers: Takeovers::default(),
        looked: Instant::now(),
    };
    ring.start("starts");
    ring.alone();
    ring.start("starts");
    let mut next = ring.pause();
    while ring.began.elapsed() < bout.length {
        ring.attend();
        if ring.began.elapsed() >= next {
            ring.fault();
            next = ring.began.elapsed() + ring.pause();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ring.conclude(load, logs)
}

impl Ring {
    fn tell(&self, text: &str) {
        eprintln!("{:7.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    fn between(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_millis(least + self.seed.below(most - least))
    }

    fn pause(&mut self) -> Duration {
        self.between(PAUSE)
    }

    fn start(&mut self, why: &str) {
        self.started += 1;
        let engine = self.case.run();
        self.tell(&format!("engine {} {why} (process {})", self.started, engine.id()));
        self.engines.push(Running { number: self.started, engine, read: 0, wakes: None });
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        for running in &mut self.engines {
            self.takeovers.read(&running.engine, &mut running.read);
        }
    }

    /// An engine that is not among the others any more, with its last words heard.
    fn remove(&mut self, at: usize) -> Running {
        let mut gone = self.engines.remove(at);
        self.takeovers.read(&gone.engine, &mut gone.read);
        gone
    }

    fn restart_broker(&mut self) {
        let began = Instant::now();
        self.kafka.restart().unwrap();
        self.takeovers.server_away(began);
    }

    fn restart_postgres(&mut self) {
        let began = Instant::now();
        self.postgres.restart().unwrap();
        self.takeovers.server_away(began);
    }

    /// Wakes who has stood still for long enough, and starts again what has ended.
    fn attend(&mut self) {
        if self.looked.elapsed() > LOOK {
            self.look();
        }
        for running in &mut self.engines {
            if running.wakes.is_some_and(|wakes| wakes <= Instant::now()) {
                running.wakes = None;
                running.engine.signal(Signal::CONT);
                eprintln!("{:7.1} s  engine {} goes on", self.began.elapsed().as_secs_f64(), running.number);
            }
        }
        while let Some(at) = self.engines.iter().position(|running| !running.engine.running()) {
            let gone = self.remove(at);
            let status = gone.engine.wait();
            let said =
                gone.engine.log().lines().rev().find(|line| line.contains("ERROR")).unwrap_or("nothing").to_owned();
            let text = format!("engine {} ended by itself ({status}): {said}", gone.number);
            self.tell(&text);
            self.ended.push(text);
            assert!(self.ended.len() < ENDS, "the engines do not stay up");
            self.start("takes its place");
        }
    }

    /// What hits the only engine, one after the other, and how long nothing is committed then. A server's time counts from its
    /// return on.
    fn alone(&mut self) {
        self.committed("starts", Instant::now());
        let began = Instant::now();
        self.remove(0).engine.kill();
        self.start("takes the place of one that was killed");
        self.committed("kill -9 of the engine", began);
        self.restart_postgres();
        self.committed("a restart of PostgreSQL", Instant::now());
        self.restart_broker();
        self.committed("a restart of the broker", Instant::now());
    }

    /// Waits for the next commit after now.
    fn committed(&mut self, what: &'static str, since: Instant) {
        let position = "SELECT coalesce(sum(next_off), 0)::bigint FROM tollgate.progress";
        let before = self.case.database.number(position);
        wait_for(&format!("a commit after {what}"), || (self.case.database.number(position) > before).then_some(()));
        self.tell(&format!("commits again {:.1} s after {what}", since.elapsed().as_secs_f64()));
        self.recovery.insert(what, since.elapsed().as_secs_f64());
    }

    fn conclude(mut self, load: Load, logs: &Path) -> Outcome {
        let (ends, rate) = load.stop();
        self.tell("the load has ended");
        for running in self.engines.iter_mut().filter(|running| running.wakes.is_some()) {
            running.wakes = Some(Instant::now());
        }
        let began = Instant::now();
        let mut quiet = None;
        let partitions = i32::try_from(ends.len()).unwrap();
        while quiet.is_none() && began.elapsed() < QUIET {
            self.attend();
            let now = self.case.kafka.committed(&self.case.name, &self.case.source(), partitions).unwrap_or_default();
            if now == ends.iter().copied().map(Some).collect::<Vec<_>>() {
                quiet = Some(began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.tell(if quiet.is_some() { "all is through" } else { "it does not become quiet" });
        self.look();
        for gone in std::mem::take(&mut self.engines) {
            self.leave(&gone);
        }
        let found = oracle::check(&self.case, &ends);
        let logs = if found.is_empty() && quiet.is_some() { PathBuf::new() } else { self.keep(logs) };
        Outcome {
            faults: self.faults,
            ended: self.ended,
            events: ends.iter().sum(),
            rate,
            lost: found.count("lost row") + found.count("lost record"),
            duplicated: found.count("row counted again") + found.count("record produced again"),
            disagreeing: found.count(oracle::DISAGREEING),
            found,
            recovery: self.recovery,
            takeovers: self.takeovers,
            quiet,
            logs,
        }
    }

    /// Copies the engines' and the servers' logs.
    fn keep(&self, to: &Path) -> PathBuf {
        fs::create_dir_all(to).unwrap();
        let own = fs::read_dir(self.case.folder()).unwrap().map(|entry| entry.unwrap().path());
        let logs = own.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")));
        for path in logs.chain([self.kafka.log().to_owned(), self.postgres.log().to_owned()]) {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        to.to_owned()
    }
}
