//! Tests that the protocol holds in every order of events, and that each of its guards is needed.
#![allow(clippy::print_stdout, reason = "a search tells how much it has seen")]

use tollgate_model::guards::Guard::*;
use tollgate_model::guards::{Guard, Guards};
use tollgate_model::search::Report;
use tollgate_model::{Fault, Faults, Protocol, search};

fn run(guards: Guards, faults: Faults, from_nothing: bool) -> Report {
    search(&Protocol { guards, faults, from_nothing })
}

fn holds(what: &str, faults: Faults, from_nothing: bool) {
    let report = run(Guards::all(), faults, from_nothing);
    println!("{what}: {report}");
    if let Some(violation) = report.violation {
        panic!("{what}: {violation}");
    }
    if let Some(way) = report.stuck {
        panic!("{what}: after these steps nothing can get through any more:\n  {}", way.join("\n  "));
    }
}

fn any_one() -> Faults {
    Faults::of(&Faults::KINDS).at_most(1)
}

#[test]
fn it_holds_with_any_one_fault_at_any_time() {
    holds("any one fault", any_one(), false);
}

#[test]
fn it_holds_from_the_first_start_on() {
    let faults =
        Faults::of(&[Fault::Die, Fault::PutOut, Fault::CommitReply, Fault::OffsetsReply, Fault::EndReply]).at_most(1);
    holds("from nothing, one fault", faults, true);
}

#[test]
fn it_holds_with_two_faults_of_these_kinds() {
    for pair in [
        [Fault::Die, Fault::DieAgain],
        [Fault::Die, Fault::CommitReply],
        [Fault::Die, Fault::EndReply],
        [Fault::Die, Fault::OffsetsReply],
        [Fault::PutOut, Fault::OffsetsReply],
        [Fault::Die, Fault::Expire],
        [Fault::Die, Fault::LaneSession],
        [Fault::PutOut, Fault::CommitReply],
        [Fault::PutOut, Fault::LaneSession],
        [Fault::CommitReply, Fault::EndReply],
        [Fault::Die, Fault::OperatorMoves],
        [Fault::Die, Fault::ForeignCommit],
        [Fault::EndReply, Fault::ForeignCommit],
        [Fault::Failover, Fault::OperatorMoves],
    ] {
        holds(&format!("{pair:?}"), Faults::of(&pair), false);
    }
}

/// Any one fault of servers and processes. Nobody else commits for the group.
fn any_one_of_ours() -> Faults {
    let ours = |fault: &Fault| !matches!(fault, Fault::OperatorMoves | Fault::ForeignCommit);
    Faults::of(&Faults::KINDS.into_iter().filter(ours).collect::<Vec<_>>()).at_most(1)
}

/// Asserts that without these guards the invariant breaks, with any one fault.
fn breaks(without: &[Guard], invariant: &str) {
    breaks_with(any_one(), without, invariant);
}

fn breaks_with(faults: Faults, without: &[Guard], invariant: &str) {
    let report = run(Guards::without(without), faults, false);
    match (&report.violation, &report.stuck) {
        (Some(violation), _) => {
            println!("without {without:?} {violation}\n");
            assert!(violation.invariant.starts_with(invariant), "not {invariant}, but {violation}");
        }
        (None, Some(way)) => {
            println!("without {without:?} nothing gets through after:\n  {}\n", way.join("\n  "));
            assert_eq!(invariant, "stuck");
        }
        (None, None) => panic!("without {without:?} the model still holds: {report:?}"),
    }
}

#[test]
fn each_guard_is_needed() {
    breaks_with(any_one_of_ours(), &[SwapAtEpoch, SwapFromOffset, ReadToken], "I1");
    breaks(&[RaiseEpoch, SwapFromOffset], "I1");
    breaks(&[AbortOnMismatch], "I3");
    breaks(&[PrepareFirst], "I5");
    breaks(&[HoldSlot], "I5");
    breaks(&[StableOffset], "I2");
    breaks(&[PinGeneration], "I2");
    breaks(&[KnowGeneration], "I2");
    breaks(&[ReleaseFirst], "I2");
    breaks(&[KeepPlan], "I4");
    breaks(&[OneBatchApart], "I2");
    breaks(&[CutAtLevel], "I3");
    breaks(&[AskRows], "I3");
    breaks(&[AskOutputs], "I2");
    breaks(&[FreshProducer], "I2");
    breaks(&[LookTwice], "I3");
    breaks(&[RequestAgain], "stuck");
    breaks(&[ReadToken], "I2");
    breaks(&[DecideFirst], "I6");
}

/// The row is fenced twice: by its epoch, and by its expected offset. With a Kafka transaction, which the group's
/// generation fences, either of the two is enough. The token is enough too, because a zombie that reads its position
/// finds its successor's. Without a transaction (`at_least_once`) only the epoch keeps a zombie out.
#[test]
fn either_half_of_the_compare_and_swap_is_enough_beside_the_other_fences() {
    for guards in [&[SwapAtEpoch] as &[Guard], &[SwapFromOffset], &[SwapAtEpoch, SwapFromOffset]] {
        let report = run(Guards::without(guards), any_one(), false);
        assert!(report.violation.is_none() && report.stuck.is_none(), "{guards:?}: {report:?}");
    }
}
