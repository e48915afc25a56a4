//! Failpoints where the tests of the delivery guarantee end the process, and switches that disable its guards.
//!
//! Only the feature `hazards` compiles them in: the test rings build `tollgate-hazards` with it. `tollgate` itself
//! contains none of them, and refuses to run if one of the [`VARIABLES`] is set.

#[cfg(feature = "hazards")]
mod armed;

#[cfg(feature = "hazards")]
pub use armed::hazards;

/// The environment variables that set them.
pub const VARIABLES: [&str; 2] = ["TOLLGATE_FAILPOINT", "TOLLGATE_UNSAFE"];

/// A place in a lane where the process can end or be stopped: each is just before or after a wait, and leaves a
/// different state at the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A batch was received from the channel; nothing is open.
    Received,
    /// Before the transforms; nothing is open.
    Sandbox,
    /// A Kafka transaction is open for a partition's first offset.
    Establishing,
    /// A PostgreSQL transaction has locked the progress rows and waits for the next statement.
    Begun,
    /// Inside COPY: PostgreSQL waits for data, and counts the session as active.
    Copy,
    /// After step 1: both transactions are open.
    Produced,
    /// After step 2: Kafka has acknowledged.
    Prepared,
    /// After step 3: PostgreSQL has committed, and Kafka's transaction is open.
    Decided,
    /// After step 4: both have committed.
    Concluded,
    /// A scratch transaction searches for the row that PostgreSQL rejects.
    Searching,
}

/// The guards that are disabled.
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
    /// Does nothing: this program has no failpoints.
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

/// Returns the variable that is set although this program has no hazards.
pub fn refused() -> Option<&'static str> {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    VARIABLES.into_iter().find(set).filter(|_| !cfg!(feature = "hazards"))
}
