//! The faults of a chaos run, and their effects.

use std::time::{Duration, Instant};

use xtask::process::Signal;

use super::{ENGINES, EXPIRY, LEAVE, Ring, Running, STILL, TRANSACTION};
use crate::guests::{self, Guest};
use crate::wait_for;

/// The maximum number of partitions of the source topic.
const MOST_PARTITIONS: i32 = 6;
/// An engine that was paused for this time has more than 2,000 rows to write, and writes them by COPY.
const BACKLOG: Duration = Duration::from_millis(1_500);
/// The number of times that an engine is stopped and inspected until one of its lanes is inside a COPY.
const LOOKS: u32 = 300;
/// The maximum distance by which an operator moves an offset.
const MOST_MOVED: u64 = 3_000;

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
    MoveOffset,
}

impl Fault {
    const ALL: [Fault; 10] = [
        Fault::Kill,
        Fault::KillBroker,
        Fault::KillPostgres,
        Fault::Stop,
        Fault::StopInCopy,
        Fault::Join,
        Fault::Leave,
        Fault::Swap,
        Fault::AddPartition,
        Fault::MoveOffset,
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
            Fault::MoveOffset => "an operator moves the group's offset",
        }
    }
}

impl Ring {
    /// Draws the next fault from a shuffled deck. Each kind comes once a round, so that a short run has all of them.
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

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    pub(super) fn fault(&mut self) {
        // Engines that have ended before are not a consequence of this fault.
        self.look();
        // One engine always keeps running, and there are at most three.
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
            Fault::MoveOffset => self.move_offset(name),
        }
    }

    /// Pauses an engine that was stopped, for a random time.
    fn stands_still(&mut self, target: usize, name: &str) {
        let still = self.between(STILL);
        self.tell(&format!("{name}: {}, for {:.1} s", self.engines[target].number, still.as_secs_f64()));
        let wakes = Instant::now() + still;
        self.engines[target].wakes = Some(wakes);
        self.takeovers.stands_still(wakes, TRANSACTION + EXPIRY);
    }

    /// Stops the engine at a moment when PostgreSQL waits for it inside a COPY. It gets a backlog first, and is then
    /// repeatedly stopped and continued until one of its lanes is inside a COPY.
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

    /// Returns whether a lane of this process holds progress rows while PostgreSQL waits for the rest of a COPY.
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

    /// Moves the group's offset of a partition while no engine runs. An engine that starts then must halt the
    /// partition, and the command in the halt's message must let it continue.
    fn move_offset(&mut self, name: &str) {
        let engines = self.engines.len();
        self.leave_all();
        match self.level() {
            None => self.tell("no partition is level"),
            Some((partition, at)) => {
                let by = 1 + i64::try_from(self.seed.below(MOST_MOVED)).unwrap();
                let to = if self.seed.below(2) == 0 { (at - by).max(0) } else { at + by };
                self.tell(&format!("{name}: {partition} from {at} to {to}"));
                let (group, source) = (self.case.name.clone(), self.case.source());
                let kafka = self.case.kafka.clone();
                wait_for("the group to be empty", || kafka.try_commit(&group, &source, partition, to));
                self.start("finds the offset moved");
                self.halted(partition);
                self.leave_all();
                self.adopt(partition);
            }
        }
        for _ in 0..engines {
            self.start("continues after the moved offset");
        }
    }

    fn leave_all(&mut self) {
        while !self.engines.is_empty() {
            let gone = self.remove(0);
            self.leave(&gone);
        }
    }

    /// Returns a partition whose rows and outputs are at the same offset, so that continuing at its rows is right, and
    /// the offset.
    fn level(&mut self) -> Option<(i32, i64)> {
        let partitions = self.spread.partitions();
        let committed = self.case.kafka.committed(&self.case.name, &self.case.source(), partitions).ok()?;
        let first = i32::try_from(self.seed.below(u64::try_from(partitions).unwrap())).unwrap();
        let mut order = (first..partitions).chain(0..first);
        order.find_map(|partition| {
            let rows = format!("SELECT max(next_off) FROM tollgate.progress WHERE partition = {partition}");
            let at = committed[usize::try_from(partition).unwrap()]?;
            (self.case.database.number(&rows) == at).then_some((partition, at))
        })
    }

    fn halted(&self, partition: i32) {
        let stored = format!(
            "SELECT count(*) FROM tollgate.halt WHERE partition = {partition} AND code = 'group-offset-foreign'"
        );
        wait_for("the partition to halt", || (self.case.database.number(&stored) == 1).then_some(()));
    }

    /// Runs the command of the halt's message that continues at the rows.
    fn adopt(&self, partition: i32) {
        let message = format!("SELECT message FROM tollgate.halt WHERE partition = {partition}");
        let message = self.case.database.texts(&message).remove(0);
        let mut commands = message.split('`').filter(|part| part.starts_with("tollgate offsets adopt "));
        let command = commands.find(|command| command.ends_with("--from progress")).unwrap();
        let arguments: Vec<&str> = command.split(' ').skip(1).chain(["--yes"]).collect();
        wait_for("the printed command", || self.case.tollgate(&arguments, &[]).wait().success().then_some(()));
        self.tell(&format!("{command} --yes"));
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
