//! A lane: reads its position, takes a batch, and either completes steps 1 to 4 or aborts.

use tollgate_protocol::position::{Epoch, NextOffset, Offset};
use tollgate_protocol::{RowStatus, concluded, row_status};

use crate::guards::Guard;
use crate::member;
use crate::model::Next;
use crate::world::{
    Attempt, Carried, Committed, Decided, Fault, Owned, Phase, RECORDS, RowsTransaction, Taking, World,
};

impl World {
    /// Aborts the attempt on both sides, if they can be reached. The next attempt reads the position from both.
    fn give_up(&mut self, member: usize) {
        let own = &mut self.members[member];
        own.attempt = None;
        own.in_doubt = true;
        self.postgres.open = self.postgres.open.filter(|open| open.member != member || open.orphan);
        if let Some(producers) = own.producers.take() {
            let id = &mut self.kafka.ids[own.slot][own.turn];
            if id.epoch == producers[own.turn] && id.wire.is_none() {
                id.open = None;
            }
        }
    }

    /// Gives up with producers that accept no other call, so their transaction stays open.
    fn leave_open(&mut self, member: usize) {
        self.members[member].producers = None;
        self.give_up(member);
    }

    fn advance(&mut self, member: usize) {
        let own = &mut self.members[member];
        let (Some(attempt), Some(owned)) = (own.attempt.take(), own.owned.as_mut()) else { return };
        if attempt.lo.is_some() {
            (owned.rows, owned.numbers.0, owned.plan) = (attempt.hi, attempt.number, attempt.rows);
        }
        if attempt.kafka {
            (owned.outputs, owned.numbers.1) = (attempt.hi, attempt.number);
            owned.establish = false;
            own.turn = 1 - own.turn;
        }
        let begin = begin(*owned);
        own.carried = own.carried.filter(|carried| carried.hi > begin);
    }

    /// Handles a progress row whose epoch is no longer the lane's: another member has taken over.
    fn is_anothers(&mut self, member: usize) {
        let own = &mut self.members[member];
        (own.owned, own.carried) = (None, None);
        if own.assigned && own.taking.is_none() {
            own.taking = Some(Taking::Begun);
        }
    }

    /// Returns whether the broker has fenced the producer that the lane uses next.
    fn is_fenced(&self, member: usize) -> bool {
        let own = &self.members[member];
        own.producers.is_none_or(|producers| producers[own.turn] != self.kafka.ids[own.slot][own.turn].epoch)
    }
}

fn begin(owned: Owned) -> u8 {
    owned.rows.min(owned.outputs)
}

/// Adds the steps that a member's lane can take.
pub(crate) fn lane(next: &mut Next<'_>, member: usize) {
    let own = &next.world.members[member];
    if let Some(name) = own.postponed {
        next.step("ends the transaction of the batch before", member, |world| {
            let own = &mut world.members[member];
            let (slot, epoch) = (own.slot, own.producers.map(|producers| producers[name]));
            own.postponed = None;
            if epoch == Some(world.kafka.ids[slot][name].epoch) {
                world.kafka.end(slot, name);
            }
        });
    }
    match (own.attempt, own.owned) {
        (Some(attempt), _) => goes_on(next, member, attempt),
        (None, _) if own.revoked => next.step("lets the partition go", member, |world| {
            let own = &mut world.members[member];
            (own.owned, own.carried, own.revoked) = (None, None, false);
        }),
        (None, Some(_)) if own.in_doubt => asks_rows(next, member),
        (None, Some(_)) if own.producers.is_none() => asks_outputs(next, member),
        (None, Some(owned)) => begins(next, member, owned, own.carried.filter(|carried| carried.hi > begin(owned))),
        (None, None) => {}
    }
}

/// The first half of `resync`: waits for a commit of the lane that is still in progress.
fn asks_rows(next: &mut Next<'_>, member: usize) {
    if next.world.postgres.open.is_some() {
        return;
    }
    next.step("asks where the rows stand", member, |world| {
        let row = world.postgres.now.progress;
        let own = &mut world.members[member];
        (own.connected, own.in_doubt) = (true, false);
        let Some(owned) = own.owned.as_mut() else { return };
        let found = row.map(|row| (Epoch::new(row.epoch.into()), NextOffset::new(row.next.into())));
        match row_status(Epoch::new(owned.epoch.into()), NextOffset::new(owned.rows.into()), found) {
            RowStatus::WentBack(_) => world.exit(member),
            RowStatus::At(_) => {
                (owned.rows, owned.numbers.0, owned.plan) =
                    row.map_or_else(Default::default, |row| (row.next, row.number, row.plan));
            }
            RowStatus::Fenced => world.is_anothers(member),
        }
    });
}

/// The second half: creates new producers, which abort the transactions of the old ones, and reads K.
fn asks_outputs(next: &mut Next<'_>, member: usize) {
    let mut world = *next.world;
    let slot = world.members[member].slot;
    let producers = if next.guards.has(Guard::FreshProducer) {
        world.initialise(slot)
    } else {
        [0, 1].map(|name| {
            world.kafka.ids[slot][name].open = None;
            world.kafka.ids[slot][name].epoch
        })
    };
    if next.guards.has(Guard::StableOffset) && !world.kafka.stable() {
        return;
    }
    let own = &mut world.members[member];
    own.producers = Some(producers);
    let Some(owned) = own.owned.as_mut().filter(|owned| !owned.establish) else {
        return next.push("takes new producers", member, world);
    };
    let committed = world.kafka.committed;
    if !next.guards.has(Guard::ReadToken) {
        if let Some(group) = committed {
            (owned.outputs, owned.numbers.1) = (group.next, group.number.unwrap_or(owned.numbers.1));
        }
        return next.push("takes new producers and reads K", member, world);
    }
    let group = committed.map(member::group_offset);
    let asked = |owned: &Owned| concluded(group.as_ref(), owned.position(), &member::writer()).ok();
    let mut found = asked(owned);
    if found.is_none() {
        // Another member may have taken the partition over and committed, which the row shows.
        let row = world.postgres.now.progress.filter(|row| row.epoch == owned.epoch);
        match row {
            _ if world.postgres.open.is_some() => return,
            None => {
                world.is_anothers(member);
                return next.push("finds the offset of its successor", member, world);
            }
            Some(row) => (owned.rows, owned.numbers.0, owned.plan) = (row.next, row.number, row.plan),
        }
        found = asked(owned);
    }
    let Some((outputs, number)) = found else {
        world.halted = true;
        return next.push("finds an offset that no member wrote", member, world);
    };
    (owned.outputs, owned.numbers.1) = (member::small(outputs.get()), member::small(number.get()));
    next.push("takes new producers and reads K", member, world);
}

/// Begins an attempt with the current batch or with a new one of one or two records, decided by either revision.
fn begins(next: &mut Next<'_>, member: usize, owned: Owned, carried: Option<Carried>) {
    let own = &next.world.members[member];
    if own.generation.is_none() && next.guards.has(Guard::KnowGeneration) {
        return;
    }
    let generation = own.generation;
    if owned.establish {
        let attempt = Attempt {
            phase: Phase::Pinned,
            epoch: owned.epoch,
            generation,
            lo: None,
            hi: owned.outputs,
            number: owned.numbers.1,
            rows: Decided::default(),
            kafka: true,
            outputs: Decided::default(),
            prepared: false,
            establish: true,
            excused: false,
        };
        next.step("begins to commit the first offset", member, |world| world.members[member].attempt = Some(attempt));
    } else if let Some(carried) = carried {
        let attempt = attempt(next, owned, carried, generation);
        next.step("tries its batch again", member, |world| world.members[member].attempt = Some(attempt));
    } else {
        let begin = begin(owned);
        if usize::from(begin) == RECORDS && !own.connected {
            next.step("finds its connection dead with a later record", member, |world| world.give_up(member));
        }
        for (hi, revision) in (begin + 1..=RECORDS as u8).flat_map(|hi| [(hi, 1), (hi, 2)]) {
            let carried = Carried { hi, revision };
            let attempt = attempt(next, owned, carried, generation);
            let what = match (hi - begin, revision) {
                (1, 1) => "takes a record, revision 1",
                (1, _) => "takes a record, revision 2",
                (_, 1) => "takes two records, revision 1",
                (_, _) => "takes two records, revision 2",
            };
            next.step(what, member, |world| {
                (world.members[member].carried, world.members[member].attempt) = (Some(carried), Some(attempt));
            });
        }
    }
}

/// Returns an attempt: its records, whether they lack rows or outputs, and the revisions that decide them.
fn attempt(next: &Next<'_>, owned: Owned, carried: Carried, generation: Option<u8>) -> Attempt {
    let resume = owned.resume();
    let (mut rows, mut outputs) = (Decided::default(), Decided::default());
    let (mut below, mut last) = (false, Offset::new(0));
    for offset in 0..carried.hi {
        let (index, at) = (usize::from(offset), Offset::new(offset.into()));
        if !resume.takes(at, below && next.guards.has(Guard::CutAtLevel)) {
            continue;
        }
        below |= resume.level().is_past(at);
        last = at;
        let (lacks_rows, lacks_outputs) = (resume.rows.lacks(at), resume.outputs.lacks(at));
        let redone = lacks_outputs && !lacks_rows && next.guards.has(Guard::KeepPlan);
        let revision = if redone { owned.plan[index] } else { carried.revision };
        rows[index] = if lacks_rows { revision } else { 0 };
        outputs[index] = if lacks_outputs { revision } else { 0 };
    }
    let number = owned.position().number(last);
    Attempt {
        phase: Phase::Pinned,
        epoch: owned.epoch,
        generation,
        lo: resume.rows.lacks(last).then_some(owned.rows),
        hi: member::small(last.next().get()),
        number: member::small(number.get()),
        rows,
        kafka: resume.outputs.lacks(last),
        outputs,
        prepared: false,
        establish: false,
        excused: false,
    }
}

fn goes_on(next: &mut Next<'_>, member: usize, attempt: Attempt) {
    match attempt.phase {
        Phase::Pinned => produces(next, member, attempt),
        Phase::Produced => {
            swaps(next, member, attempt);
            if attempt.kafka && !attempt.prepared && next.guards.has(Guard::PrepareFirst) {
                prepares(next, member, attempt);
            }
        }
        Phase::Swapped => match next.guards.has(Guard::PrepareFirst) || attempt.lo.is_none() {
            true => prepares(next, member, attempt),
            false => decides(next, member, attempt),
        },
        Phase::Prepared => decides(next, member, attempt),
        Phase::Decided => prepares(next, member, attempt),
        Phase::Ready => concludes(next, member, attempt),
    }
}

/// Advances to a phase, or past it if there is nothing to do in it.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn reach(world: &mut World, member: usize, phase: Phase) {
    let own = &mut world.members[member];
    let Some(attempt) = &mut own.attempt else { return };
    attempt.phase = match phase {
        Phase::Produced if attempt.lo.is_none() => Phase::Swapped,
        Phase::Swapped if attempt.prepared && attempt.lo.is_none() => Phase::Ready,
        Phase::Swapped if attempt.prepared || !attempt.kafka => Phase::Prepared,
        Phase::Prepared if attempt.lo.is_none() => Phase::Ready,
        phase => phase,
    };
    if attempt.phase == Phase::Ready && !attempt.kafka {
        world.advance(member);
    }
}

/// Step 1 in Kafka.
fn produces(next: &mut Next<'_>, member: usize, attempt: Attempt) {
    if attempt.kafka && next.world.is_fenced(member) {
        next.step("is fenced when it produces, and gives up", member, |world| world.give_up(member));
        return;
    }
    next.step("produces", member, |world| {
        let own = &world.members[member];
        if attempt.kafka {
            world.kafka.ids[own.slot][own.turn].open.get_or_insert_default().outputs = attempt.outputs;
        }
        reach(world, member, Phase::Produced);
    });
}

/// Step 1 in PostgreSQL: the guard, which also locks the row.
fn swaps(next: &mut Next<'_>, member: usize, attempt: Attempt) {
    if !next.world.members[member].connected {
        next.step("finds its connection dead, and gives up", member, |world| world.give_up(member));
        return;
    }
    if next.world.postgres.open.is_some() {
        return;
    }
    let (at_epoch, from) = (next.guards.has(Guard::SwapAtEpoch), next.guards.has(Guard::SwapFromOffset));
    let matches = next
        .world
        .postgres
        .now
        .progress
        .is_some_and(|row| (row.epoch == attempt.epoch || !at_epoch) && (Some(row.next) == attempt.lo || !from));
    let aborts = next.guards.has(Guard::AbortOnMismatch);
    next.step(if matches { "swaps" } else { "finds the row elsewhere" }, member, |world| {
        if matches {
            let Attempt { hi, number, rows, kafka, .. } = attempt;
            world.postgres.open =
                Some(RowsTransaction { member, hi, number, rows, alone: !kafka, orphan: false, committing: false });
        } else if aborts {
            return world.give_up(member);
        } else if let Some(attempt) = &mut world.members[member].attempt {
            attempt.lo = None;
        }
        reach(world, member, Phase::Swapped);
    });
}

/// Step 2. It begins by itself when step 1's records are queued. It comes before the decision, or after it if that
/// guard is disabled.
fn prepares(next: &mut Next<'_>, member: usize, attempt: Attempt) {
    let decided = attempt.phase == Phase::Decided;
    let offset = Committed { next: attempt.hi, number: Some(attempt.number) };
    let mut world = *next.world;
    let own = world.members[member];
    let generation = if next.guards.has(Guard::PinGeneration) { attempt.generation } else { own.generation };
    if !decided && !world.is_fenced(member) {
        next.fault(Fault::OffsetsReply, "prepares Kafka, and hears nothing", member, |world| {
            world.kafka.prepare(own.slot, own.turn, offset, member, generation);
            world.leave_open(member);
        });
        next.fault(Fault::OffsetsReply, "waits in vain to prepare Kafka", member, |world| world.leave_open(member));
    }
    if !world.is_fenced(member) && world.kafka.prepare(own.slot, own.turn, offset, member, generation) {
        match (&mut world.members[member].attempt, attempt.phase) {
            (Some(attempt), Phase::Produced) => attempt.prepared = true,
            _ => reach(&mut world, member, if decided { Phase::Ready } else { Phase::Prepared }),
        }
        next.push("prepares Kafka", member, world);
        return;
    }
    world.refused |= decided && !attempt.excused;
    world.give_up(member);
    next.push("is refused when it prepares, and gives up", member, world);
}

/// Step 3.
fn decides(next: &mut Next<'_>, member: usize, attempt: Attempt) {
    let own = &next.world.members[member];
    if !own.held && next.guards.has(Guard::HoldSlot) {
        next.step("knows that its slot is lost, and gives up", member, |world| world.give_up(member));
        return;
    }
    // If it was already prepared, or if Kafka needs nothing, only the commit is left.
    let then = if attempt.kafka && attempt.phase == Phase::Swapped { Phase::Decided } else { Phase::Ready };
    let excuse = own.held && next.world.postgres.slots[own.slot] != Some(member);
    let reached = move |world: &mut World| {
        if let Some(attempt) = &mut world.members[member].attempt {
            attempt.excused |= excuse;
        }
        reach(world, member, then);
    };
    if !next.world.postgres.is_open_for(member) || !own.connected {
        next.step("finds its transaction gone, and gives up", member, |world| world.give_up(member));
        return;
    }
    next.step("commits", member, |world| {
        world.postgres.land();
        reached(world);
    });
    let asks = next.guards.has(Guard::AskRows);
    let goes_on = move |world: &mut World| if asks { world.give_up(member) } else { reached(world) };
    next.fault(Fault::CommitReply, "commits, and hears nothing", member, |world| {
        world.postgres.land();
        world.members[member].connected = false;
        goes_on(world);
    });
    next.fault(Fault::CommitReply, "sends COMMIT, and hears nothing", member, |world| {
        if let Some(open) = &mut world.postgres.open {
            (open.orphan, open.committing) = (true, true);
        }
        world.members[member].connected = false;
        goes_on(world);
    });
}

/// Step 4.
fn concludes(next: &mut Next<'_>, member: usize, attempt: Attempt) {
    let own = next.world.members[member];
    if next.world.is_fenced(member) {
        next.step("is fenced when it concludes, and gives up", member, |world| {
            world.refused |= attempt.lo.is_some() && !attempt.excused;
            world.give_up(member);
        });
        return;
    }
    next.step("concludes", member, |world| {
        world.kafka.end(own.slot, own.turn);
        world.advance(member);
    });
    if own.postponed.is_none() && !attempt.establish && !next.guards.has(Guard::OneBatchApart) {
        next.step("goes on before it concludes", member, |world| {
            world.members[member].postponed = Some(own.turn);
            world.advance(member);
        });
    }
    let asks = next.guards.has(Guard::AskOutputs);
    let goes_on = move |world: &mut World| if asks { world.give_up(member) } else { world.advance(member) };
    next.fault(Fault::EndReply, "concludes, and hears nothing", member, |world| {
        world.kafka.end(own.slot, own.turn);
        goes_on(world);
    });
    next.fault(Fault::EndReply, "sends EndTxn, and hears nothing", member, |world| {
        let id = &mut world.kafka.ids[own.slot][own.turn];
        id.wire = Some(id.epoch);
        goes_on(world);
    });
}
