//! The state of both servers, the group and two members, and the invariants.
//!
//! There is one partition with two records, so one or two batches. CommitNumbers that are only compared (generations,
//! producers' epochs) are reused as soon as nobody holds them, which keeps the states finite and few.

use tollgate_protocol::position::{CommitNumber, NextOffset};
use tollgate_protocol::{CommitNumbers, Position, Resume};

/// The number of records in the partition.
pub(crate) const RECORDS: usize = 2;
pub(crate) const MEMBERS: usize = 2;

/// The faults that may happen. A member that is paused for any time is not a fault but an order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process dies.
    Die,
    DieAgain,
    /// The group removes a member without its knowledge.
    PutOut,
    /// The session that holds a slot's lock ends.
    SlotSession,
    /// A lane's session ends.
    LaneSession,
    /// There is no reply to COMMIT: it took effect, it is on the way, or it is lost.
    CommitReply,
    /// There is no reply to the call that adds the group's offsets. They are in the transaction or not, and no other
    /// call can change that.
    OffsetsReply,
    /// There is no reply to EndTxn: it took effect, it is on the way, or it is lost.
    EndReply,
    /// A transaction takes longer than its timeout.
    Expire,
    /// PostgreSQL ends all sessions and restarts.
    Restart,
    /// PostgreSQL ends all sessions and has lost one or two commits.
    Failover,
    /// An operator's tool sets the offset of a group without members.
    OperatorMoves,
    /// Another program commits an offset for the group.
    ForeignCommit,
}

/// The faults that may happen, and their maximum number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    kinds: u16,
    most: u8,
}

impl Faults {
    pub const KINDS: [Fault; 13] = [
        Fault::Die,
        Fault::DieAgain,
        Fault::PutOut,
        Fault::SlotSession,
        Fault::LaneSession,
        Fault::CommitReply,
        Fault::OffsetsReply,
        Fault::EndReply,
        Fault::Expire,
        Fault::Restart,
        Fault::Failover,
        Fault::OperatorMoves,
        Fault::ForeignCommit,
    ];

    pub fn of(kinds: &[Fault]) -> Faults {
        Faults { kinds: kinds.iter().fold(0, |set, kind| set | 1 << *kind as u16), most: kinds.len() as u8 }
    }

    /// Limits the number of faults in one run.
    #[must_use]
    pub fn at_most(self, most: u8) -> Faults {
        Faults { most, ..self }
    }

    pub fn may(self, kind: Fault) -> bool {
        self.most > 0 && self.kinds & 1 << kind as u16 != 0
    }

    /// Returns the remaining faults after this one, or `None` if it may not happen.
    fn take(self, kind: Fault) -> Option<Faults> {
        let most = self.most.checked_sub(1).filter(|_| self.may(kind))?;
        Some(Faults { kinds: if most == 0 { 0 } else { self.kinds & !(1 << kind as u16) }, most })
    }
}

/// The stored effect of one record on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Effect {
    /// The number of times that it was applied.
    pub times: u8,
    /// The revision that decided it the last time.
    pub revision: u8,
    /// It was written again to PostgreSQL alone, after PostgreSQL had lost commits. Rows and outputs need not agree
    /// then.
    pub alone: bool,
}

/// For each record the revision that decides about it, or 0 if the batch does not contain it.
pub(crate) type Decided = [u8; RECORDS];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Progress {
    pub epoch: u8,
    pub next: u8,
    pub prev: u8,
    /// The number of the last commit.
    pub number: u8,
    /// The redo plan: the revisions that decided the last batch.
    pub plan: Decided,
}

/// The committed state of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tables {
    pub progress: Option<Progress>,
    pub rows: [Effect; RECORDS],
}

/// A transaction that holds the lock of the progress row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowsTransaction {
    pub member: usize,
    pub hi: u8,
    pub number: u8,
    pub rows: Decided,
    pub alone: bool,
    /// Whether its client is gone or does not wait for it any more.
    pub orphan: bool,
    /// Whether COMMIT is on its way and may still take effect.
    pub committing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Postgres {
    pub now: Tables,
    /// The states before the last commits, the newest first, to which a failover may return.
    pub before: [Option<Tables>; 2],
    pub open: Option<RowsTransaction>,
    /// The holder of each slot's lock.
    pub slots: [Option<usize>; MEMBERS],
}

/// A committed offset of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Committed {
    pub next: u8,
    /// The number in its token, or `None` if another program committed it.
    pub number: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Transaction {
    pub outputs: Decided,
    /// The group's offset in this transaction. The transaction is prepared once there is one.
    pub offset: Option<Committed>,
    /// Whether another transaction has committed a later offset, so that this one no longer counts.
    pub outdated: bool,
}

/// The coordinator's state of one transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Id {
    pub epoch: u8,
    pub open: Option<Transaction>,
    /// The epoch of an EndTxn on the wire that nobody waits for any more.
    pub wire: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kafka {
    /// K, the group's committed offset.
    pub committed: Option<Committed>,
    /// The outputs that readers of committed records see.
    pub outputs: [Effect; RECORDS],
    /// By slot and by name (a, b).
    pub ids: [[Id; 2]; MEMBERS],
    pub generation: u8,
    pub joined: [bool; MEMBERS],
    /// The member to which the group has assigned the partition.
    pub owner: Option<usize>,
    /// Whether the owner was asked to release it for the other member.
    pub moving: bool,
}

/// A takeover in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taking {
    Begun,
    /// K was read.
    Group(Option<Committed>),
    /// K and D were read, and the decision was to continue.
    Decided(Option<Committed>),
    /// There was no progress row.
    Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owned {
    pub epoch: u8,
    pub rows: u8,
    pub outputs: u8,
    /// The number of the last commit of each side.
    pub numbers: (u8, u8),
    pub establish: bool,
    /// The row's redo plan as it was last read or written.
    pub plan: Decided,
}

impl Owned {
    pub fn resume(self) -> Resume {
        Resume { rows: NextOffset::new(self.rows.into()), outputs: NextOffset::new(self.outputs.into()) }
    }

    pub fn position(self) -> Position {
        let (rows, outputs) = (CommitNumber::new(self.numbers.0.into()), CommitNumber::new(self.numbers.1.into()));
        Position { resume: self.resume(), numbers: CommitNumbers { rows, outputs } }
    }
}

/// The state that a lane keeps between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Carried {
    pub hi: u8,
    pub revision: u8,
}

/// The progress of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Pinned,
    Produced,
    Swapped,
    Prepared,
    /// Only if it decides before it prepares.
    Decided,
    /// Only the commit is left.
    Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub phase: Phase,
    pub epoch: u8,
    pub generation: Option<u8>,
    /// The offset from which the rows advance, or `None` if they already contain the batch.
    pub lo: Option<u8>,
    pub hi: u8,
    pub number: u8,
    pub rows: Decided,
    /// Whether the attempt needs a Kafka transaction.
    pub kafka: bool,
    pub outputs: Decided,
    /// Whether Kafka was prepared before the row was updated.
    pub prepared: bool,
    /// Whether it only commits the group's first offset.
    pub establish: bool,
    /// Whether a fault has happened since the attempt passed its guards, or an unnoticed one before.
    pub excused: bool,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Member {
    pub alive: bool,
    pub slot: usize,
    /// Whether it believes that it holds its slot.
    pub held: bool,
    /// The group's generation as its client knows it, or `None` if the client believes that it is not a member.
    pub generation: Option<u8>,
    /// Whether it believes that it owns the partition.
    pub assigned: bool,
    pub taking: Option<Taking>,
    /// A cancelled takeover that may still raise the epoch or insert the row.
    pub late: Option<Taking>,
    pub owned: Option<Owned>,
    /// Whether its client knows that it was removed, and its poll thread does not yet.
    pub out: bool,
    /// Whether the lane was told to release the partition.
    pub revoked: bool,
    pub carried: Option<Carried>,
    /// The epochs of its two producers, or `None` after it gave up.
    pub producers: Option<[u8; 2]>,
    pub turn: usize,
    /// Whether the lane's connection is alive.
    pub connected: bool,
    pub in_doubt: bool,
    pub attempt: Option<Attempt>,
    /// A transaction whose end is postponed, which happens only if the guard is disabled.
    pub postponed: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub postgres: Postgres,
    pub kafka: Kafka,
    pub members: [Member; MEMBERS],
    /// The faults that may still happen.
    pub faults: Faults,
    /// Whether PostgreSQL has lost commits.
    pub lost: bool,
    /// Whether a takeover found a state that no run leaves behind.
    pub halted: bool,
    /// Whether it had raised the epoch before it halted.
    pub fenced: bool,
    /// Whether somebody else has committed an offset for the group.
    pub moved: bool,
    /// Whether Kafka refused to conclude a decided batch although nothing had failed.
    pub refused: bool,
}

fn count(effects: &[Effect], below: u8, wrong: impl Fn(&Effect, bool) -> bool) -> bool {
    effects.iter().enumerate().any(|(offset, effect)| wrong(effect, offset < usize::from(below)))
}

impl World {
    /// Returns the state before any member has started.
    pub fn new(faults: Faults) -> World {
        World {
            postgres: Postgres::default(),
            kafka: Kafka::default(),
            members: [Member::default(); MEMBERS],
            faults,
            lost: false,
            halted: false,
            fenced: false,
            moved: false,
            refused: false,
        }
    }

    /// Returns a state in which one member has the partition and has done nothing yet. The other runs and has not
    /// joined.
    pub fn running(faults: Faults) -> World {
        let mut world = World::new(faults);
        world.kafka.committed = Some(Committed { next: 0, number: Some(1) });
        world.postgres.now.progress =
            Some(Progress { epoch: 1, next: 0, prev: 0, number: 1, plan: Decided::default() });
        for (slot, member) in world.members.iter_mut().enumerate() {
            world.postgres.slots[slot] = Some(slot);
            *member = Member { alive: true, slot, held: true, producers: Some([0; 2]), connected: true, ..*member };
        }
        world.kafka.joined[0] = true;
        world.kafka.owner = Some(0);
        let owned =
            Owned { epoch: 1, rows: 0, outputs: 0, numbers: (1, 1), establish: false, plan: Decided::default() };
        let owner = &mut world.members[0];
        (owner.generation, owner.assigned, owner.owned) = (Some(0), true, Some(owned));
        world
    }

    /// Returns D and the offset before it, or 0 if there is no row.
    fn progress(&self) -> (u8, u8) {
        self.postgres.now.progress.map_or((0, 0), |row| (row.next, row.prev))
    }

    /// Returns the name of an invariant that does not hold.
    pub fn broken(&self) -> Option<&'static str> {
        let (next, prev) = self.progress();
        let miscounted = |effect: &Effect, below: bool| effect.times != u8::from(below);
        let repeated = |effect: &Effect, _: bool| effect.times > 1;
        if count(&self.postgres.now.rows, next, miscounted) {
            return Some("I1 (rows are exactly those below D)");
        }
        let group = match self.kafka.committed {
            // A foreign offset tells nothing about the outputs, except that none of them may be repeated.
            Some(Committed { number: None, .. }) if count(&self.kafka.outputs, 0, repeated) => {
                return Some("I2 (no output is repeated)");
            }
            Some(Committed { number: None, .. }) => None,
            committed => Some(committed.map_or(0, |committed| committed.next)),
        };
        if self.halted && self.fenced && !self.lost {
            return Some("I6 (a takeover that halts has fenced nobody)");
        }
        if self.halted && !self.lost && !self.moved {
            return Some("I3 (nothing halts unless commits were lost or offsets moved)");
        }
        let group = group?;
        if count(&self.kafka.outputs, group, miscounted) {
            return Some("I2 (outputs are exactly those below K)");
        }
        if !self.lost && (group > next || group < prev) {
            return Some("I3 (K is D, or lies within the last batch)");
        }
        let both = usize::from(next.min(group));
        let pairs = self.postgres.now.rows.iter().zip(&self.kafka.outputs).take(both);
        if pairs.into_iter().any(|(row, output)| !row.alone && row.revision != output.revision) {
            return Some("I4 (row and output agree)");
        }
        self.refused.then_some("I5 (once decided, Kafka concludes, unless something fails)")
    }

    /// Replaces the state by an equivalent canonical one: forgets commits that can no longer be lost, and renumbers
    /// epochs. Epochs are compared and raised by one, so only their order counts, and whether two are adjacent.
    pub fn canonical(&mut self) {
        if !self.faults.may(Fault::Failover) {
            self.postgres.before = [None; 2];
        }
        let mut used = 0_u64;
        self.epochs(|epoch| used |= 1 << *epoch);
        let (mut anew, mut last, mut number) = ([0_u8; 64], None::<u8>, 0);
        for epoch in (0..64).filter(|epoch| used & 1 << epoch != 0) {
            number += last.map_or(1, |last| (epoch - last).min(2));
            anew[usize::from(epoch)] = number;
            last = Some(epoch);
        }
        self.epochs(|epoch| *epoch = anew[usize::from(*epoch)]);
        // For the two revisions only equality counts, so the first one is renamed to 1.
        let mut first = 0;
        self.revisions(|revision| first = if first == 0 { *revision } else { first });
        if first == 2 {
            self.revisions(|revision| *revision = [0, 2, 1][usize::from(*revision)]);
        }
    }

    fn revisions(&mut self, mut each: impl FnMut(&mut u8)) {
        for member in &mut self.members {
            member.owned.iter_mut().for_each(|owned| owned.plan.iter_mut().for_each(&mut each));
            member.carried.iter_mut().for_each(|carried| each(&mut carried.revision));
            let decided = member.attempt.iter_mut().flat_map(|attempt| [&mut attempt.rows, &mut attempt.outputs]);
            decided.flatten().for_each(&mut each);
        }
        let before = self.postgres.before.iter_mut().flatten();
        for tables in before.chain([&mut self.postgres.now]) {
            tables.progress.iter_mut().for_each(|row| row.plan.iter_mut().for_each(&mut each));
            tables.rows.iter_mut().for_each(|row| each(&mut row.revision));
        }
        self.postgres.open.iter_mut().for_each(|open| open.rows.iter_mut().for_each(&mut each));
        self.kafka.outputs.iter_mut().for_each(|output| each(&mut output.revision));
        let open = self.kafka.ids.iter_mut().flatten().filter_map(|id| id.open.as_mut());
        open.for_each(|open| open.outputs.iter_mut().for_each(&mut each));
    }

    fn epochs(&mut self, mut each: impl FnMut(&mut u8)) {
        let before = self.postgres.before.iter_mut().flatten();
        for tables in before.chain([&mut self.postgres.now]) {
            tables.progress.iter_mut().for_each(|row| each(&mut row.epoch));
        }
        for member in &mut self.members {
            member.owned.iter_mut().for_each(|owned| each(&mut owned.epoch));
            member.attempt.iter_mut().for_each(|attempt| each(&mut attempt.epoch));
        }
    }

    /// Returns whether everything is processed, or whether only a person can decide how to continue.
    pub fn done(&self) -> bool {
        let end = RECORDS as u8;
        // If a foreign offset came between the last batch's offset and its end, K keeps the foreign value.
        let level = self.kafka.committed.is_some_and(|committed| committed.next == end)
            || (self.moved && self.kafka.outputs.iter().all(|output| output.times == 1));
        self.halted || (self.progress().0 == end && level)
    }

    /// Applies a fault if another one may happen. All attempts that have passed a guard are excused from now on.
    pub fn fault(&self, kind: Fault) -> Option<World> {
        let mut world = World { faults: self.faults.take(kind)?, ..*self };
        for member in &mut world.members {
            if let Some(attempt) = &mut member.attempt {
                attempt.excused = true;
            }
        }
        Some(world)
    }
}
