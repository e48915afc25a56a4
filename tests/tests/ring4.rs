//! Ring 4: the delivery guarantee under load, while the engine is killed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's own failure ends the test, and prints what it saw"
)]

mod ring4 {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    mod ambiguous;
    mod crashes;
    mod guards;
    mod members;
    mod swaps;
    mod upgrade;

    /// The rate of every load in events per second.
    const RATE: u32 = 20_000;

    /// Loads take turns: two at once would overload two cores and make the results meaningless.
    fn one_at_a_time() -> MutexGuard<'static, ()> {
        static ONE: Mutex<()> = Mutex::new(());
        ONE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
