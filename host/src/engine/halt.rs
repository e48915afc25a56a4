//! `contract.mode: halt`: the pause that names the event which the contract refused, and the pardon that a resume gives it.

use crate::position::{Offset, Partition};
use crate::sinks::dead_letter::Reason;

const BEGIN: &str = "halted at ";

/// Why the pipeline stands still, in words that [`coordinates`] reads.
pub fn words(topic: &str, partition: Partition, offset: Offset, reason: &Reason) -> String {
    let Reason { code, field, message, .. } = reason;
    let place = if field.is_empty() { String::new() } else { format!(" in {field}") };
    format!(
        "{BEGIN}{topic}/{partition}/{offset}: {code}{place}: {message} (contract.mode: halt); nothing of its batch is out; \
         `tollgate resume` dead-letters this event and goes on to the next, or start again with a contract that takes it"
    )
}

/// The event that a stored pause names, if it is one of ours: the process that resumes need not be the one that halted.
pub fn coordinates(reason: &str) -> Option<(Partition, Offset)> {
    // A topic's name has neither slash nor blank.
    let (place, _) = reason.strip_prefix(BEGIN)?.split_once(": ")?;
    let mut parts = place.rsplit('/');
    let (offset, partition) = (parts.next()?, parts.next()?);
    Some((Partition(partition.parse().ok()?), Offset(offset.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::dead_letter::Stage;

    #[test]
    fn what_is_written_is_read_again() {
        let reason = Reason::new(Stage::Contract, "version-missing", "must not be: a/1/2: this (double.gt)").field("a");
        let words = words("payments.in", Partition(3), Offset(4711), &reason);
        assert!(words.starts_with("halted at payments.in/3/4711: version-missing in a: must not be"), "{words}");
        assert_eq!(coordinates(&words), Some((Partition(3), Offset(4711))));
    }

    #[test]
    fn other_pauses_name_no_event() {
        for reason in ["", "3 of the last 4 events", "halted at ", "halted at x: y", "halted at a/b/c: d"] {
            assert_eq!(coordinates(reason), None, "{reason}");
        }
    }
}
