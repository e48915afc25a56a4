//! The state: both servers, the group, two members; and the invariants.
//!
//! One partition with two records, so one or two batches. Numbers that are only compared (generations, producers' epochs)
//! are given anew as soon as nobody remembers them, which keeps the states finite and few.

use tollgate_protocol::position::{CommitNumber, NextOffset};
use tollgate_protocol::{Numbers, Position, Resume};

/// Records of the partition.
pub(crate) const RECORDS: usize = 2;
pub(crate) const MEMBERS: usize = 2;

/// What may go wrong. A member that stands still for as long as anybody likes is no fault: it is an order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process is gone.
    Die,
    DieAgain,
    /// The group does without a member that does not know it.
    PutOut,
    /// The session that holds a slot's lock ends.
    SlotSession,
    /// A lane's session ends.
    LaneSession,
    /// No reply to COMMIT: it took effect, it is on the way, or it is lost.
    CommitReply,
    /// No answer of the call for the group's offsets: they are in the transaction, or not, and no other call can end that.
    OffsetsReply,
    /// No reply to EndTxn: it took effect, it is on the way, or it is lost.
    EndReply,
    /// A transaction takes longer than its timeout.
    Expire,
    /// PostgreSQL ends all sessions and starts again.
    Restart,
    /// And has lost one or two commits.
    Failover,
    /// An operator's tool sets the offset of a group without members.
    OperatorMoves,
    /// Another program commits for the group.
    ForeignCommit,
}

/// The faults that may happen, and how many of them.
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

    /// At most so many of them, in one run.
    #[must_use]
    pub fn at_most(self, most: u8) -> Faults {
        Faults { most, ..self }
    }

    pub fn may(self, kind: Fault) -> bool {
        self.most > 0 && self.kinds & 1 << kind as u16 != 0
    }

    /// What is left after it, if it may happen.
    fn take(self, kind: Fault) -> Option<Faults> {
        let most = self.most.checked_sub(1).filter(|_| self.may(kind))?;
        Some(Faults { kinds: if most == 0 { 0 } else { self.kinds & !(1 << kind as u16) }, most })
    }
}

/// What a side holds of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Effect {
    /// How often it was applied.
    pub times: u8,
    /// By which revision, at last.
    pub revision: u8,
    /// Repeated to PostgreSQL alone, after it had lost commits: agreement is not promised.
    pub alone: bool,
}

/// For each record of a batch the revision that decides about it; 0: not in it.
pub(crate) type Decided = [u8; RECORDS];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Progress {
    pub epoch: u8,
    pub next: u8,
    pub prev: u8,
    /// Of the last commit.
    pub number: u8,
    /// The redo plan: what decided about the last batch.
    pub plan: Decided,
}

/// What PostgreSQL has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tables {
    pub progress: Option<Progress>,
    pub rows: [Effect; RECORDS],
}

/// A transaction that holds the progress row's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowsTransaction {
    pub member: usize,
    pub hi: u8,
    pub number: u8,
    pub rows: Decided,
    pub alone: bool,
    /// Its client is gone or has stopped listening.
    pub orphan: bool,
    /// COMMIT is on its way; it may still take effect.
    pub committing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Postgres {
    pub now: Tables,
    /// The last commits, the newest first: what a failover may lose.
    pub before: [Option<Tables>; 2],
    pub open: Option<RowsTransaction>,
    /// Who holds the lock of each slot.
    pub slots: [Option<usize>; MEMBERS],
}

/// An offset of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Committed {
    pub next: u8,
    /// The number in its token; none: somebody else committed it.
    pub number: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Transaction {
    pub outputs: Decided,
    /// The group's offset within it; prepared once there is one.
    pub offset: Option<Committed>,
    /// Another transaction put a later offset in: this one's no longer counts.
    pub outdated: bool,
}

/// The coordinator's view of one transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Id {
    pub epoch: u8,
    pub open: Option<Transaction>,
    /// An EndTxn of this epoch is on the wire, and nobody waits for it any more.
    pub wire: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kafka {
    /// K.
    pub committed: Option<Committed>,
    /// What readers of committed records see.
    pub outputs: [Effect; RECORDS],
    /// Slot × (a, b).
    pub ids: [[Id; 2]; MEMBERS],
    pub generation: u8,
    pub joined: [bool; MEMBERS],
    /// Whose the partition is.
    pub owner: Option<usize>,
    /// The owner has been asked to let it go, for the other.
    pub moving: bool,
}

/// A takeover under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taking {
    Begun,
    /// K was read.
    Group(Option<Committed>),
    /// So was D, and nothing spoke against going on.
    Decided(Option<Committed>),
    /// There was no row.
    Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owned {
    pub epoch: u8,
    pub rows: u8,
    pub outputs: u8,
    /// The last commit of each side.
    pub numbers: (u8, u8),
    pub establish: bool,
    /// The row's redo plan, as it was read or written last.
    pub plan: Decided,
}

impl Owned {
    pub fn resume(self) -> Resume {
        Resume { rows: NextOffset(self.rows.into()), outputs: NextOffset(self.outputs.into()) }
    }

    pub fn position(self) -> Position {
        let (rows, outputs) = (CommitNumber(self.numbers.0.into()), CommitNumber(self.numbers.1.into()));
        Position { resume: self.resume(), numbers: Numbers { rows, outputs } }
    }
}

/// What a lane carries from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Carried {
    pub hi: u8,
    pub revision: u8,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Pinned,
    Produced,
    Swapped,
    Prepared,
    /// Only where it decides before it prepares.
    Decided,
    /// Only its end is left.
    Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub phase: Phase,
    pub epoch: u8,
    pub generation: Option<u8>,
    /// Rows move from here; none: they have it.
    pub lo: Option<u8>,
    pub hi: u8,
    pub number: u8,
    pub rows: Decided,
    /// Whether Kafka needs any of it.
    pub kafka: bool,
    pub outputs: Decided,
    /// Kafka was prepared before the row's swap.
    pub prepared: bool,
    /// Only the group's first offset.
    pub establish: bool,
    /// Something failed since it passed its guards, or before and nobody has noticed.
    pub excused: bool,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Member {
    pub alive: bool,
    pub slot: usize,
    /// It believes that it holds its slot.
    pub held: bool,
    /// The group's generation as its client knows it; none: it is no member, as far as it knows.
    pub generation: Option<u8>,
    /// The partition is its own, as far as it has been told.
    pub assigned: bool,
    pub taking: Option<Taking>,
    /// A takeover that has become void may still raise the epoch, or insert the row.
    pub late: Option<Taking>,
    pub owned: Option<Owned>,
    /// Its client knows that it was put out, and its poll thread does not yet.
    pub out: bool,
    /// The lane has been told to let go.
    pub revoked: bool,
    pub carried: Option<Carried>,
    /// The epochs of its two producers; none: given up.
    pub producers: Option<[u8; 2]>,
    pub turn: usize,
    /// The lane's connection is alive.
    pub connected: bool,
    pub in_doubt: bool,
    pub attempt: Option<Attempt>,
    /// A transaction that is to be ended later: only without its guard.
    pub postponed: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub postgres: Postgres,
    pub kafka: Kafka,
    pub members: [Member; MEMBERS],
    /// Faults that may still happen, each once.
    pub faults: Faults,
    /// PostgreSQL has lost commits.
    pub lost: bool,
    /// A takeover found what no run leaves behind.
    pub halted: bool,
    /// And had raised the epoch before.
    pub fenced: bool,
    /// Somebody else has committed an offset for the group.
    pub moved: bool,
    /// Kafka refused to conclude what was decided, and nothing had failed.
    pub refused: bool,
}

fn count(effects: &[Effect], below: u8, wrong: impl Fn(&Effect, bool) -> bool) -> bool {
    effects.iter().enumerate().any(|(offset, effect)| wrong(effect, offset < usize::from(below)))
}

impl World {
    /// Nothing has begun.
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

    /// One member has the partition and has done nothing yet; the other runs, and has not joined.
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

    /// D and the offset before it; 0 while there is no row.
    fn progress(&self) -> (u8, u8) {
        self.postgres.now.progress.map_or((0, 0), |row| (row.next, row.prev))
    }

    /// The invariant that does not hold.
    pub fn broken(&self) -> Option<&'static str> {
        let (next, prev) = self.progress();
        let miscounted = |effect: &Effect, below: bool| effect.times != u8::from(below);
        let repeated = |effect: &Effect, _: bool| effect.times > 1;
        if count(&self.postgres.now.rows, next, miscounted) {
            return Some("I1 (rows are exactly those below D)");
        }
        let group = match self.kafka.committed {
            // What somebody else committed says nothing about the outputs, except that none of them may be repeated.
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

    /// The same state for all that is to come, written in one way: commits that nothing can lose any more are forgotten, and
    /// epochs are numbered anew. They are compared and raised by one, so their order counts, and whether two are
    /// neighbours; between others nobody can tell how many lie.
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
        // Of the two revisions only whether they are the same counts: the first that is met is called 1.
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

    /// All is through, or nobody but a person can say how to go on.
    pub fn done(&self) -> bool {
        let end = RECORDS as u8;
        // Where somebody else's offset came between the last batch's and its end, K stays what they wrote.
        let level = self.kafka.committed.is_some_and(|committed| committed.next == end)
            || (self.moved && self.kafka.outputs.iter().all(|output| output.times == 1));
        self.halted || (self.progress().0 == end && level)
    }

    /// A fault, if there may be another one: everybody who has passed a guard is excused from now on.
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
