//! Ring 4: the guarantee, under load, while the engine is killed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's own trouble ends the test, and it tells what it saw"
)]

mod ring4 {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    mod ambiguous;
    mod crashes;
    mod guards;
    mod members;
    mod swaps;
    mod upgrade;

    /// Events a second of every load.
    const RATE: u32 = 20_000;

    /// Loads take turns: two at once on two cores would say nothing about either.
    fn one_at_a_time() -> MutexGuard<'static, ()> {
        static ONE: Mutex<()> = Mutex::new(());
        ONE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
