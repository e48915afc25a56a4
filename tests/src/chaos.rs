//! A chaos run: a load, two or three engines, and a fault every few seconds. All of it is drawn from a seed and logged.
//! At the end all records must be processed, and the oracle checks the results.
//!
//! A supervisor restarts engines that end by themselves, as any deployment would; that is logged too.

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

/// The time between two faults in ms, seven seconds on average.
const PAUSE: (u64, u64) = (5_000, 9_000);
/// The time for which an engine is paused, in ms: the shortest pause is twice the session timeout, the longest exceeds
/// the transaction timeout.
const STILL: (u64, u64) = (3_000, 6_000);
/// `delivery.transaction_timeout`.
const TRANSACTION: Duration = Duration::from_secs(4);
/// The interval at which the broker looks for expired transactions (its default).
const EXPIRY: Duration = Duration::from_secs(10);
/// The interval at which the engines' logs are read.
const LOOK: Duration = Duration::from_millis(500);
const ENGINES: usize = 3;
/// The time limit from the end of the load until all records are processed: on a busy machine the engines may be
/// minutes behind.
const QUIET: Duration = Duration::from_secs(600);
/// The time limit of an engine's orderly shutdown.
const LEAVE: Duration = Duration::from_secs(60);
/// The number of events in a batch. Batches above 2,000 rows are written by COPY, which happens whenever an engine is
/// behind.
const BATCH: u32 = 4_000;
/// If more engines than this end by themselves, it is not by chance.
const ENDS: usize = 40;

/// The parameters of a chaos run.
#[derive(Debug, Clone, Copy)]
pub struct Bout {
    pub length: Duration,
    pub seed: u64,
    /// Events per second.
    pub rate: u32,
}

/// The result of a chaos run.
#[derive(Debug)]
pub struct Outcome {
    /// The number of faults of each kind.
    pub faults: BTreeMap<&'static str, u32>,
    /// Engines that ended by themselves, with their last log lines.
    pub ended: Vec<String>,
    pub events: i64,
    /// The reached rate of the producer in events per second.
    pub rate: f64,
    pub lost: usize,
    pub duplicated: usize,
    pub disagreeing: usize,
    /// All findings of the oracle, these three included.
    pub found: Violations,
    /// Seconds from a fault that hit the only engine to its next commit, by fault.
    pub recovery: BTreeMap<&'static str, f64>,
    pub takeovers: Takeovers,
    /// The time from the end of the load until all records were processed, or `None` if they never were.
    pub quiet: Option<Duration>,
    /// The folder with the engines' logs.
    pub logs: PathBuf,
}

/// A running engine with a unique number.
struct Running {
    number: usize,
    engine: Engine,
    /// The position up to which its log has been read.
    read: usize,
    /// When it continues, if it is paused.
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
    /// The faults of this round that have not happened yet. Each kind happens once a round.
    deck: Vec<Fault>,
    faults: BTreeMap<&'static str, u32>,
    ended: Vec<String>,
    recovery: BTreeMap<&'static str, f64>,
    takeovers: Takeovers,
    looked: Instant,
}

/// Performs a chaos run on servers that it starts itself. Events are logged to stderr.
pub fn run(bout: Bout, logs: &Path) -> Outcome {
    let (kafka, postgres) = servers::own(&KafkaOptions::default(), &PostgresOptions::default());
    let servers = Servers { brokers: kafka.brokers(), postgres: postgres.url() };
    let delivery =
        json!({ "batch": { "max_events": BATCH }, "transaction_timeout": format!("{}s", TRANSACTION.as_secs()) });
    let case = Case::on(&servers, "chaos").guest(&Guest::revision(1)).set("/delivery", delivery);
    // After its broker has reloaded a group, the group may wait this long for a member that no longer exists.
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

    /// Removes an engine from the list, after its last log lines were read.
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

    /// Continues engines that were paused long enough, and replaces those that have ended.
    fn attend(&mut self) {
        if self.looked.elapsed() > LOOK {
            self.look();
        }
        for running in &mut self.engines {
            if running.wakes.is_some_and(|wakes| wakes <= Instant::now()) {
                running.wakes = None;
                running.engine.signal(Signal::CONT);
                eprintln!("{:7.1} s  engine {} continues", self.began.elapsed().as_secs_f64(), running.number);
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

    /// Applies faults to the only engine, one after the other, and measures the time to the next commit. For a server
    /// the time starts when it is back.
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

    /// Waits for the next commit.
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
        self.tell(if quiet.is_some() { "all records are processed" } else { "not all records are processed in time" });
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

    /// Copies the logs of the engines and of the servers.
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
