//! Places where the tests of the guarantee end the process, and guards that they take off.
//!
//! The feature `hazards` alone brings them in: the rings build `tollgate-hazards` with it. `tollgate` itself contains none of it, and
//! refuses to run where one of the [`VARIABLES`] is set.

#[cfg(feature = "hazards")]
mod armed;

#[cfg(feature = "hazards")]
pub use armed::hazards;

/// What sets them.
pub const VARIABLES: [&str; 2] = ["TOLLGATE_FAILPOINT", "TOLLGATE_UNSAFE"];

/// A place in a lane where the process can end or be stopped: each one is just before or after a wait, and holds something
/// else at the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A batch has come through the channel; nothing is open.
    Received,
    /// Before the transforms; nothing is open.
    Sandbox,
    /// A Kafka transaction is open for a partition's first offset.
    Establishing,
    /// A PostgreSQL transaction has locked the progress rows, and waits for the next statement.
    Begun,
    /// Inside COPY: PostgreSQL waits for data, and counts the session as active.
    Copy,
    /// Step 1: both transactions are open.
    Produced,
    /// Step 2: Kafka has acknowledged.
    Prepared,
    /// Step 3: PostgreSQL has committed, and Kafka's transaction is open.
    Decided,
    /// Step 4: both have committed.
    Concluded,
    /// A scratch transaction looks for the row that PostgreSQL refuses.
    Searching,
}

/// The guards that are off.
#[derive(Debug, Default)]
pub struct Hazards {
    pub no_compare_and_swap: bool,
    pub no_transaction: bool,
    pub no_redo_plan: bool,
    #[cfg(feature = "hazards")]
    failpoint: Option<armed::Failpoint>,
}

#[cfg(not(feature = "hazards"))]
impl Hazards {
    /// Does nothing: no place ends this program.
    #[inline(always)]
    pub fn pass(&self, _place: Place) {}
}

/// Every guard is on.
#[cfg(not(feature = "hazards"))]
#[inline(always)]
pub fn hazards() -> &'static Hazards {
    static NONE: Hazards = Hazards { no_compare_and_swap: false, no_transaction: false, no_redo_plan: false };
    &NONE
}

/// The variable that is set for a program without hazards.
pub fn refused() -> Option<&'static str> {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    VARIABLES.into_iter().find(set).filter(|_| !cfg!(feature = "hazards"))
}
