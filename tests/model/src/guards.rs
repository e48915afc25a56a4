//! The guards of the protocol. Each can be disabled.

/// A mechanism that keeps the invariants. A mutation disables one, and the model must find the damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The progress row changes only if it has the lane's own epoch.
    SwapAtEpoch,
    /// The progress row changes only if it has the offset that the lane left there.
    SwapFromOffset,
    /// A takeover raises the epoch, and so waits for a commit in progress. Without this guard it only reads the row.
    RaiseEpoch,
    /// A lane whose row did not match aborts the Kafka transaction.
    AbortOnMismatch,
    /// Kafka is prepared before PostgreSQL's COMMIT.
    PrepareFirst,
    /// A lane does not decide while it knows that another process has its slot, and so its producers' names.
    HoldSlot,
    /// K is read only if no open transaction contains an offset for the group.
    StableOffset,
    /// An attempt uses the group's generation of the time when it began.
    PinGeneration,
    /// No attempt without a generation: the broker accepts generation −1 from anybody.
    KnowGeneration,
    /// A member that was removed from the group joins again only after its lane has released the partition.
    ReleaseFirst,
    /// The plan that was stored with the rows decides about repeated events.
    KeepPlan,
    /// A batch begins only when the previous one is concluded in Kafka.
    OneBatchApart,
    /// If rows and outputs are at different offsets, an attempt ends where they become equal.
    CutAtLevel,
    /// A COMMIT without a reply is checked in PostgreSQL. Without this guard it is assumed to have succeeded.
    AskRows,
    /// An EndTxn without a reply is checked in Kafka. Without this guard it is assumed to have succeeded.
    AskOutputs,
    /// After an unknown outcome a new producer is created, which fences requests still on the wire. Without this guard
    /// the transaction is only aborted.
    FreshProducer,
    /// A takeover halts only if K has not changed since it was read.
    LookTwice,
    /// A takeover that a rebalance cancelled is requested again while the member owns the partition.
    RequestAgain,
    /// An offset of the group counts only with the token of its commit. Without this guard only offsets are compared.
    ReadToken,
    /// A takeover decides before it raises the epoch, and again afterwards.
    DecideFirst,
}

/// The set of enabled guards.
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
