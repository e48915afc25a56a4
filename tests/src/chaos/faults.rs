//! The faults of a bout, and what each does.

use std::time::{Duration, Instant};

use xtask::process::Signal;

use super::{ENGINES, EXPIRY, LEAVE, Ring, Running, STILL, TRANSACTION};
use crate::guests::{self, Guest};

/// The source topic never gets more partitions than this.
const MOST_PARTITIONS: i32 = 6;
/// An engine that stood still for this long has more than 2,000 rows to write, and takes them by COPY.
const BACKLOG: Duration = Duration::from_millis(1_500);
/// How often an engine is stopped and looked at until a lane of it is inside a COPY.
const LOOKS: u32 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    KillBroker,
    KillPostgres,
    Stop,
    StopInCopy,
    Join,
    Leave,
    Swap,
    AddPartition,
}

impl Fault {
    const ALL: [Fault; 9] = [
        Fault::Kill,
        Fault::KillBroker,
        Fault::KillPostgres,
        Fault::Stop,
        Fault::StopInCopy,
        Fault::Join,
        Fault::Leave,
        Fault::Swap,
        Fault::AddPartition,
    ];

    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9 of an engine",
            Fault::KillBroker => "kill -9 of the broker",
            Fault::KillPostgres => "immediate stop of PostgreSQL",
            Fault::Stop => "SIGSTOP of an engine",
            Fault::StopInCopy => "SIGSTOP of an engine inside a COPY",
            Fault::Join => "a member joins",
            Fault::Leave => "a member leaves",
            Fault::Swap => "transforms are swapped",
            Fault::AddPartition => "the source gets another partition",
        }
    }
}

impl Ring {
    /// The next fault of a shuffled deck: within a round each kind comes once, so that a short bout has all of them.
    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = Fault::ALL.to_vec();
            for last in (1..self.deck.len()).rev() {
                let other = self.seed.below(last as u64 + 1);
                self.deck.swap(last, usize::try_from(other).unwrap());
            }
        }
        self.deck.pop().unwrap()
    }

    pub(super) fn fault(&mut self) {
        // What has ended by now had nothing to do with it.
        self.look();
        // There is always one to go on, and never a fourth.
        let fault = match self.draw() {
            Fault::Join if self.engines.len() == ENGINES => Fault::Leave,
            Fault::Leave if self.engines.len() == 1 => Fault::Join,
            Fault::AddPartition if self.spread.partitions() == MOST_PARTITIONS => Fault::Swap,
            fault => fault,
        };
        let name = fault.name();
        *self.faults.entry(name).or_default() += 1;
        let count = u64::try_from(self.engines.len()).unwrap();
        let target = usize::try_from(self.seed.below(count)).unwrap();
        let number = self.engines[target].number;
        match fault {
            Fault::Kill => {
                self.tell(&format!("{name}: {number}"));
                self.remove(target).engine.kill();
                self.start("takes its place");
            }
            Fault::KillBroker => {
                self.tell(name);
                self.restart_broker();
                self.tell("the broker is back");
            }
            Fault::KillPostgres => {
                self.tell(name);
                self.restart_postgres();
                self.tell("PostgreSQL is back");
            }
            Fault::Stop => {
                self.engines[target].engine.signal(Signal::STOP);
                self.stands_still(target, name);
            }
            Fault::StopInCopy => self.stop_in_copy(target, name),
            Fault::Join => {
                self.tell(name);
                self.start("joins");
            }
            Fault::Leave => {
                self.tell(&format!("{name}: {number}"));
                let gone = self.remove(target);
                self.leave(&gone);
            }
            Fault::Swap => self.swap(name),
            Fault::AddPartition => self.add_partition(name),
        }
    }

    /// The engine has been stopped: it goes on after a while that is drawn.
    fn stands_still(&mut self, target: usize, name: &str) {
        let still = self.between(STILL);
        self.tell(&format!("{name}: {}, for {:.1} s", self.engines[target].number, still.as_secs_f64()));
        let wakes = Instant::now() + still;
        self.engines[target].wakes = Some(wakes);
        self.takeovers.stands_still(wakes, TRANSACTION + EXPIRY);
    }

    /// Stops the engine at the moment when PostgreSQL waits for it inside a COPY: it gets a backlog first, and is then stopped
    /// and let go until one of its lanes is found there.
    fn stop_in_copy(&mut self, target: usize, name: &str) {
        let engine = |ring: &Ring, signal| ring.engines[target].engine.signal(signal);
        engine(self, Signal::STOP);
        std::thread::sleep(BACKLOG);
        for _ in 0..LOOKS {
            engine(self, Signal::CONT);
            std::thread::sleep(Duration::from_millis(3));
            engine(self, Signal::STOP);
            if self.inside_copy(self.engines[target].engine.id()) {
                return self.stands_still(target, name);
            }
        }
        engine(self, Signal::CONT);
        self.tell("no lane was found inside a COPY");
        *self.faults.entry("no lane found inside a COPY").or_default() += 1;
    }

    /// Whether a lane of this process holds progress rows and owes PostgreSQL the rest of a COPY.
    fn inside_copy(&self, process: i32) -> bool {
        let owners = self.case.database.texts(
            "SELECT DISTINCT p.owner FROM tollgate.progress p JOIN pg_stat_activity a ON a.backend_xid = p.xmax
             WHERE a.state = 'active' AND a.wait_event = 'ClientRead' AND a.query LIKE 'COPY %'",
        );
        owners.iter().any(|owner| owner.ends_with(&format!("/{process}")))
    }

    fn add_partition(&mut self, name: &str) {
        let partitions = self.spread.partitions() + 1;
        self.tell(&format!("{name}: {partitions} now"));
        self.case.kafka.create_partitions(&self.case.source(), partitions);
        self.spread.raise(partitions);
    }

    pub(super) fn leave(&mut self, gone: &Running) {
        gone.engine.signal(Signal::CONT);
        gone.engine.signal(Signal::TERM);
        let status = gone.engine.wait_within(LEAVE);
        if !status.success() {
            let text = format!("engine {} left with {status}", gone.number);
            self.tell(&text);
            self.ended.push(text);
        }
    }

    fn swap(&mut self, name: &str) {
        self.revision = self.revision % 120 + 1;
        self.tell(&format!("{name}: revision {}", self.revision));
        self.case.put("guest.wasm", &guests::component(&Guest::revision(self.revision)));
        for running in &self.engines {
            running.engine.signal(Signal::HUP);
        }
    }
}
