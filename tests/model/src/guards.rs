//! The guards of the protocol, each of which can be taken away.

/// What keeps the invariants. A mutation leaves one out, and the model must find what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The progress row moves only at the lane's own epoch.
    SwapAtEpoch,
    /// The progress row moves only from where the lane left it.
    SwapFromOffset,
    /// A takeover raises the epoch, and waits for a commit that is under way; else it only reads the row.
    RaiseEpoch,
    /// A lane whose row did not match gives the Kafka transaction up.
    AbortOnMismatch,
    /// Kafka is prepared before PostgreSQL's COMMIT.
    PrepareFirst,
    /// No decision under names that are known to be another's.
    HoldSlot,
    /// K is read only when no transaction holds it open.
    StableOffset,
    /// The group's generation is that of the attempt's start.
    PinGeneration,
    /// No attempt without a generation: the broker takes −1 from anybody.
    KnowGeneration,
    /// A member that was put out joins again only after its lane has let go.
    ReleaseFirst,
    /// What is repeated is decided by the plan that was stored with the rows.
    KeepPlan,
    /// A batch does not begin before the one before it is concluded in Kafka.
    OneBatchApart,
    /// Where the sides are not level, an attempt ends where they are.
    CutAtLevel,
    /// A COMMIT without a reply is asked about; else it is taken for done.
    AskRows,
    /// An EndTxn without a reply is asked about; else it is taken for done.
    AskOutputs,
    /// After an open outcome the producer is a new one, which fences what is still on the wire; else it only aborts.
    FreshProducer,
    /// A takeover halts only if K has not moved since it was read.
    LookTwice,
    /// A takeover that a rebalance has made void is asked for again while the partition is ours.
    RequestAgain,
    /// An offset of the group counts only with the token of its commit; else offsets alone are compared.
    ReadToken,
    /// A takeover decides before it raises the epoch, and again after it.
    DecideFirst,
}

/// Those that are in place.
#[derive(Debug, Clone, Copy)]
pub struct Guards(u32);

impl Guards {
    pub fn all() -> Guards {
        Guards(u32::MAX)
    }

    pub fn without(guards: &[Guard]) -> Guards {
        Guards(guards.iter().fold(u32::MAX, |left, guard| left & !(1 << *guard as u32)))
    }

    pub fn has(self, guard: Guard) -> bool {
        self.0 & (1 << guard as u32) != 0
    }
}
