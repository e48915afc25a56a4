//! Enumerates all steps that can happen next.

use std::fmt;

use crate::guards::Guards;
use crate::search::System;
use crate::world::{Fault, Faults, MEMBERS, RECORDS, World};
use crate::{lane, member};

/// The protocol with these guards and these faults.
pub struct Protocol {
    pub guards: Guards,
    pub faults: Faults,
    /// Whether to begin before any member has started. Otherwise one member already has the partition.
    pub from_nothing: bool,
}

/// A description of a step, and the member that takes it.
pub struct Step {
    what: &'static str,
    member: Option<usize>,
    fault: bool,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.member {
            Some(0) => "A ",
            Some(_) => "B ",
            None => "",
        };
        write!(f, "{who}{}{}", self.what, if self.fault { "  [fault]" } else { "" })
    }
}

/// Collects the states that may follow a state.
pub(crate) struct Next<'a> {
    pub world: &'a World,
    pub guards: Guards,
    found: &'a mut Vec<(Step, World)>,
}

impl Next<'_> {
    pub(crate) fn push(&mut self, what: &'static str, member: impl Into<Option<usize>>, world: World) {
        self.found.push((Step { what, member: member.into(), fault: false }, world));
    }

    pub(crate) fn step(
        &mut self,
        what: &'static str,
        member: impl Into<Option<usize>>,
        change: impl FnOnce(&mut World),
    ) {
        let mut world = *self.world;
        change(&mut world);
        self.push(what, member, world);
    }

    /// Adds a step that counts as a fault.
    pub(crate) fn fault(
        &mut self,
        kind: Fault,
        what: &'static str,
        member: impl Into<Option<usize>>,
        change: impl FnOnce(&mut World),
    ) {
        if let Some(mut world) = self.world.fault(kind) {
            change(&mut world);
            self.found.push((Step { what, member: member.into(), fault: true }, world));
        }
    }
}

impl System for Protocol {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        if self.from_nothing { World::new(self.faults) } else { World::running(self.faults) }
    }

    fn steps(&self, world: &World, found: &mut Vec<(Step, World)>) {
        if world.halted {
            return;
        }
        let mut next = Next { world, guards: self.guards, found };
        for member in 0..MEMBERS {
            member::process(&mut next, member);
            member::group(&mut next, member);
            member::takes_over(&mut next, member);
            lane::lane(&mut next, member);
        }
        postgres(&mut next);
        kafka(&mut next);
        strangers(&mut next);
        found.iter_mut().for_each(|(_, world)| world.canonical());
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        world.broken()
    }

    fn done(&self, world: &World) -> bool {
        world.done()
    }
}

/// Adds the steps of PostgreSQL itself.
fn postgres(next: &mut Next<'_>) {
    if let Some(open) = next.world.postgres.open {
        if open.committing {
            next.step("the COMMIT arrives", None, |world| world.postgres.land());
        }
        if open.orphan {
            next.step("PostgreSQL ends an orphan's transaction", None, |world| world.postgres.open = None);
        } else {
            next.fault(Fault::LaneSession, "PostgreSQL ends the session of a lane", open.member, |world| {
                world.postgres.open = None;
                world.members[open.member].connected = false;
            });
        }
    }
    next.fault(Fault::Restart, "PostgreSQL restarts", None, |world| {
        world.fail_over(0);
    });
    for (commits, what) in [(1, "PostgreSQL loses a commit"), (2, "PostgreSQL loses two commits")] {
        let mut possible = *next.world;
        if possible.fail_over(commits) {
            next.fault(Fault::Failover, what, None, |world| {
                world.fail_over(commits);
            });
        }
    }
}

/// Adds offsets of the group that no member committed.
fn strangers(next: &mut Next<'_>) {
    for offset in 0..=RECORDS as u8 {
        let moves = |world: &mut World| {
            world.kafka.commit_foreign(offset);
            world.moved = true;
        };
        if next.world.kafka.joined == [false; MEMBERS] {
            next.fault(Fault::OperatorMoves, "an operator moves K", None, moves);
        }
        next.fault(Fault::ForeignCommit, "a foreign member commits K", None, moves);
    }
}

/// Adds the steps of Kafka itself.
fn kafka(next: &mut Next<'_>) {
    for (slot, ids) in next.world.kafka.ids.into_iter().enumerate() {
        for (name, id) in ids.into_iter().enumerate() {
            if let Some(epoch) = id.wire {
                next.step("a late EndTxn arrives", None, |world| {
                    world.kafka.ids[slot][name].wire = None;
                    if epoch == id.epoch {
                        world.kafka.end(slot, name);
                    }
                });
                next.step("a late EndTxn is lost", None, |world| world.kafka.ids[slot][name].wire = None);
            }
            let owned = |epochs: [u8; 2]| epochs[name] == id.epoch;
            let used = next.world.members.iter().any(|own| own.slot == slot && own.producers.is_some_and(owned));
            match id.open {
                None => {}
                Some(_) if used => {
                    next.fault(Fault::Expire, "a transaction takes too long", None, |world| world.expire(slot, name));
                }
                Some(_) => next.step("a transaction that was given up expires", None, |world| world.expire(slot, name)),
            }
        }
    }
}
