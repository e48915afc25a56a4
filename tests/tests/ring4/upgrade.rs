//! Tests a rolling upgrade under load: members of two builds are in one group, and the old ones are replaced one after
//! the other.
//!
//! `TOLLGATE_PREVIOUS` names the binary of the previous release. Without it this build plays both parts: this tests the
//! procedure of an upgrade, but not that two builds understand each other.

use std::path::Path;

use tollgate_tests::case::Case;
use tollgate_tests::engine::{self, Engine};
use tollgate_tests::wait_for;

use super::crashes::{conclude, loaded_by};
use super::members::{alone, share};
use super::one_at_a_time;

/// A member of this build joins the other one and dies between the two commits, so that the other one has to finish the
/// batch from the redo plan.
fn dies_beside(case: &Case, program: &Path, survivor: &Engine) {
    let member = case.run_by(program, &[("TOLLGATE_FAILPOINT", "after-step-3:3")]);
    assert!(!member.wait().success(), "the failpoint after step 3 was not met");
    alone(survivor);
}

#[test]
fn members_of_two_releases_share_the_work_and_finish_what_the_other_left() {
    let _alone = one_at_a_time();
    let new = engine::binary();
    let old = engine::previous().unwrap_or_else(|| {
        println!("TOLLGATE_PREVIOUS is not set: this build plays both parts");
        new.clone()
    });
    println!("from {} to {}", old.display(), new.display());
    let (case, load) = loaded_by(&old, "upgrade");
    let (first, second) = (case.run_by(&old, &[]), case.run_by(&old, &[]));
    share(&case, &first, &second);
    // As in docs/operations.md: the tables are upgraded first, while the old members continue.
    let setup = case.tollgate(&["setup", "pipeline.yaml"], &[]);
    assert!(setup.wait().success(), "{}", setup.log());
    first.stop();
    dies_beside(&case, &new, &second);
    let third = case.run();
    share(&case, &second, &third);
    second.stop();
    let before = third.metric("tollgate_redone_events_total", "");
    dies_beside(&case, &old, &third);
    wait_for("the old member's batch to be finished from its plan", || {
        (third.metric("tollgate_redone_events_total", "") > before).then_some(())
    });
    let fourth = case.run();
    share(&case, &third, &fourth);
    third.stop();
    fourth.stop();
    conclude(&case, load, "a rolling upgrade");
}
