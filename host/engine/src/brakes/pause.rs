//! This process's view of whether the pipeline is paused. The authoritative state is stored in PostgreSQL and shared by
//! all members; this module follows what the process reads there.

use crate::progress::halts;

/// The pause as this process knows it. Each change has its own number, so that an answer to an earlier query is
/// recognized as stale.
#[derive(Debug, Default)]
pub struct Pause {
    stored: Option<halts::Pause>,
    changes: u64,
}

/// A mark taken before PostgreSQL is queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// The effect of applying an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    Unchanged,
    Paused,
    Resumed,
}

impl Pause {
    pub fn reason(&self) -> Option<&str> {
        self.stored.as_ref().map(|pause| pause.reason.as_str())
    }

    pub fn mark(&self) -> Mark {
        Mark(self.changes)
    }

    pub fn begin(&mut self, pause: halts::Pause) {
        self.stored = Some(pause);
        self.changes += 1;
    }

    /// Ends the pause. Returns whether there was one.
    pub fn end(&mut self) -> bool {
        self.changes += 1;
        self.stored.take().is_some()
    }

    /// Applies PostgreSQL's answer to a query made after `mark`. A pause is stored before it begins and deleted before
    /// it ends, so an answer from before one of our own changes may be wrong; the next one is current.
    pub fn sync(&mut self, mark: Mark, stored: Option<halts::Pause>) -> Synced {
        match (stored, &self.stored) {
            _ if mark != self.mark() => Synced::Unchanged,
            (Some(pause), None) => {
                self.begin(pause);
                Synced::Paused
            }
            (None, Some(_)) => {
                self.end();
                Synced::Resumed
            }
            (Some(_), Some(_)) | (None, None) => Synced::Unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(reason: &str) -> halts::Pause {
        halts::Pause { code: halts::LIMIT.into(), event: None, reason: reason.into() }
    }

    #[test]
    fn follows_what_another_process_stored_and_deleted() {
        let mut pause = Pause::default();
        assert_eq!(pause.sync(pause.mark(), None), Synced::Unchanged);
        assert_eq!(pause.sync(pause.mark(), Some(paused("a"))), Synced::Paused);
        assert_eq!(pause.reason(), Some("a"));
        assert_eq!(pause.sync(pause.mark(), Some(paused("a"))), Synced::Unchanged);
        assert_eq!(pause.sync(pause.mark(), None), Synced::Resumed);
        assert_eq!(pause.reason(), None);
    }

    #[test]
    fn an_answer_from_before_a_pause_does_not_lift_it() {
        let mut pause = Pause::default();
        let asked = pause.mark();
        // A lane crosses the limit while the answer "none" is in flight.
        pause.begin(paused("dead letters"));
        assert_eq!(pause.sync(asked, None), Synced::Unchanged);
        assert_eq!(pause.reason(), Some("dead letters"));
    }

    #[test]
    fn an_answer_from_before_a_resume_does_not_pause_again() {
        let mut pause = Pause::default();
        pause.begin(paused("dead letters"));
        let asked = pause.mark();
        assert!(pause.end(), "a swap");
        assert_eq!(pause.sync(asked, Some(paused("dead letters"))), Synced::Unchanged);
        assert_eq!(pause.reason(), None);
        // The same holds for a pause that ended before it began here.
        let asked = pause.mark();
        assert!(!pause.end());
        assert_eq!(pause.sync(asked, Some(paused("dead letters"))), Synced::Unchanged);
    }
}
