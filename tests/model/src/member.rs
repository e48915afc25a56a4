//! A member without its lane: the process, its slot, the group, and takeovers.

use tollgate_protocol::position::{CommitNumber, Epoch, NextOffset};
use tollgate_protocol::token::{Group, Mark, Token, Writer};
use tollgate_protocol::{Last, Position, Row, Takeover, takeover};

use crate::guards::{Guard, Guards};
use crate::model::Next;
use crate::world::{Committed, Decided, Fault, Member, Owned, Progress, Taking, World};

fn other(member: usize) -> usize {
    1 - member
}

impl World {
    /// Ends the process. The broker and PostgreSQL notice it later; the lock of its slot is released with its session.
    pub fn exit(&mut self, member: usize) {
        self.members[member] = Member::default();
        for slot in self.postgres.slots.iter_mut().filter(|slot| **slot == Some(member)) {
            *slot = None;
        }
        if let Some(open) = self.postgres.open.as_mut().filter(|open| open.member == member) {
            open.orphan = true;
        }
    }

    /// Removes a member from the group.
    fn put_out(&mut self, member: usize) {
        self.kafka.joined[member] = false;
        self.kafka.moving = false;
        if self.kafka.owner == Some(member) {
            self.kafka.owner = Some(other(member)).filter(|other| self.kafka.joined[*other]);
        }
        self.regenerate();
    }

    /// Cancels a takeover in progress. Its statement may still arrive.
    fn void(&mut self, member: usize) {
        let member = &mut self.members[member];
        let raises = |taking: &Taking| !matches!(taking, Taking::Begun | Taking::Group(_));
        if let Some(taking) = member.taking.take().filter(raises) {
            member.late = Some(taking);
        }
    }

    fn revoke(&mut self, member: usize) {
        self.void(member);
        let member = &mut self.members[member];
        member.assigned = false;
        member.revoked = member.owned.is_some() || member.attempt.is_some();
    }
}

/// Adds the steps of a member's process and its keeper.
pub(crate) fn process(next: &mut Next<'_>, member: usize) {
    let world = next.world;
    let own = &world.members[member];
    if !own.alive {
        let free = world.postgres.slots.iter().position(Option::is_none);
        if let Some(slot) = free {
            next.step("starts", member, |world| {
                world.postgres.slots[slot] = Some(member);
                let producers = Some(world.initialise(slot));
                let new = Member { alive: true, slot, held: true, producers, connected: true, ..Member::default() };
                world.members[member] = new;
            });
        }
        return;
    }
    let die = if world.faults.may(Fault::Die) { Fault::Die } else { Fault::DieAgain };
    next.fault(die, "dies", member, |world| world.exit(member));
    let holder = world.postgres.slots[own.slot];
    match (own.held, holder == Some(member)) {
        (true, true) => next.fault(Fault::SlotSession, "loses the session of its slot", member, |world| {
            world.postgres.slots[world.members[member].slot] = None;
        }),
        (true, false) => next.step("notices that its slot is lost", member, |world| world.members[member].held = false),
        (false, _) if holder.is_none() => next.step("takes its slot again", member, |world| {
            let own = &mut world.members[member];
            world.postgres.slots[own.slot] = Some(member);
            own.held = true;
            // Another process may have used its names in the meantime without its knowledge.
            own.attempt.iter_mut().for_each(|attempt| attempt.excused = true);
        }),
        (false, _) => next.step("ends: its slot is another's", member, |world| world.exit(member)),
    }
}

/// Adds the steps between a member and the group.
pub(crate) fn group(next: &mut Next<'_>, member: usize) {
    let world = next.world;
    let (own, kafka) = (&world.members[member], &world.kafka);
    if own.out {
        next.step("tells its lane", member, |world| {
            world.members[member].out = false;
            world.revoke(member);
        });
    }
    match (kafka.joined[member], own.generation) {
        (true, None) => next.step("is missed by the group", member, |world| world.put_out(member)),
        (true, Some(generation)) => {
            next.fault(Fault::PutOut, "is put out of the group", member, |world| world.put_out(member));
            if generation != kafka.generation {
                // The member does not answer the group while its lane still holds the partition that it must release.
                if !own.revoked || !next.guards.has(Guard::ReleaseFirst) {
                    learns(next, member);
                }
            } else if kafka.moving && kafka.owner == Some(member) {
                moves(next, member);
            }
        }
        (false, Some(_)) => next.step("hears that it is out", member, |world| {
            (world.members[member].generation, world.members[member].out) = (None, true);
        }),
        (false, None) => {
            let released = !own.out && own.owned.is_none() && own.attempt.is_none();
            if own.alive && (released || !next.guards.has(Guard::ReleaseFirst)) {
                joins(next, member);
            }
        }
    }
}

fn joins(next: &mut Next<'_>, member: usize) {
    let join = |world: &mut World| {
        world.kafka.joined[member] = true;
        world.regenerate();
        world.members[member].generation = Some(world.kafka.generation);
    };
    if next.world.kafka.owner.is_none() {
        next.step("joins, and gets the partition", member, |world| {
            join(world);
            world.kafka.owner = Some(member);
            world.members[member].assigned = true;
            world.members[member].taking = Some(Taking::Begun);
        });
        return;
    }
    next.step("joins", member, join);
    if !next.world.kafka.moving {
        next.step("joins, and shall have the partition", member, |world| {
            join(world);
            world.kafka.moving = true;
        });
    }
}

/// A member learns of a new generation: with its present partition, or as before.
fn learns(next: &mut Next<'_>, member: usize) {
    let again = next.guards.has(Guard::RequestAgain);
    next.step("learns of the new generation", member, |world| {
        world.members[member].generation = Some(world.kafka.generation);
        let void = world.members[member].taking.is_some();
        world.void(member);
        let own = &mut world.members[member];
        let new = world.kafka.owner == Some(member) && !own.assigned && !world.kafka.moving;
        if new || (void && again && own.assigned) {
            own.assigned = true;
            own.taking = Some(Taking::Begun);
        }
    });
}

/// The owner releases the partition for the other member, and joins again when its lane has done so.
fn moves(next: &mut Next<'_>, member: usize) {
    let own = &next.world.members[member];
    if own.assigned {
        next.step("is asked to let the partition go", member, |world| world.revoke(member));
    } else if own.owned.is_none() && own.attempt.is_none() {
        next.step("joins again without the partition", member, |world| {
            world.kafka.moving = false;
            world.kafka.owner = Some(other(member));
            world.regenerate();
            world.members[member].generation = Some(world.kafka.generation);
        });
    }
}

/// Raises the epoch, or inserts the row if a takeover found none. Returns the row, or `None` if there is none.
fn raise(world: &mut World, insert: bool) -> Option<Progress> {
    world.postgres.autocommit(|tables| match &mut tables.progress {
        Some(row) => row.epoch += 1,
        None if insert => {
            tables.progress = Some(Progress { epoch: 1, next: 0, prev: 0, number: 1, plan: Decided::default() })
        }
        None => {}
    });
    world.postgres.now.progress
}

/// Adds the steps of the takeover thread.
pub(crate) fn takes_over(next: &mut Next<'_>, member: usize) {
    let world = next.world;
    let own = &world.members[member];
    let unlocked = world.postgres.open.is_none();
    let guards = next.guards;
    if let Some(late) = own.late.filter(|_| unlocked) {
        next.step("raises the epoch too late", member, |world| {
            world.members[member].late = None;
            raise(world, late == Taking::Missing);
        });
    }
    match own.taking {
        None => {}
        Some(Taking::Begun) => {
            let mut after = *world;
            for slot in 0..after.postgres.slots.len() {
                if slot != own.slot && after.postgres.slots[slot].is_none() {
                    // A dead member's transactions are aborted first.
                    after.initialise(slot);
                }
            }
            if after.kafka.stable() || !next.guards.has(Guard::StableOffset) {
                after.members[member].taking = Some(Taking::Group(after.kafka.committed));
                next.push("reads K", member, after);
            }
        }
        Some(Taking::Group(group)) if guards.has(Guard::DecideFirst) => {
            next.step("reads D", member, |world| decides_first(world, guards, member, group));
        }
        Some(Taking::Group(group) | Taking::Decided(group)) if !guards.has(Guard::RaiseEpoch) => {
            let row = world.postgres.now.progress;
            next.step("reads D, and takes the partition", member, |world| decides(world, guards, member, group, row));
        }
        Some(Taking::Group(group) | Taking::Decided(group)) if unlocked => {
            next.step("raises the epoch and reads D", member, |world| {
                let row = raise(world, false);
                decides(world, guards, member, group, row);
                world.fenced |= world.halted && row.is_some();
            });
        }
        Some(Taking::Missing) if unlocked => next.step("inserts the row", member, |world| {
            let row = raise(world, true).unwrap_or_default();
            if row.next == 0 {
                let owned =
                    Owned { epoch: row.epoch, rows: 0, outputs: 0, numbers: (1, 1), establish: true, plan: row.plan };
                hand_over(world, member, owned);
            } else {
                // Another member was faster and has committed since.
                world.members[member].taking = Some(Taking::Begun);
            }
        }),
        Some(Taking::Group(_) | Taking::Decided(_) | Taking::Missing) => {}
    }
}

/// Gives the partition to the lane. A release that was requested before is done.
fn hand_over(world: &mut World, member: usize, owned: Owned) {
    let own = &mut world.members[member];
    (own.owned, own.taking, own.revoked) = (Some(owned), None, false);
}

/// Returns the identity in tokens. There is one pipeline on one cluster.
pub(crate) fn writer() -> Writer {
    Writer::new("pipeline", Some("cluster"))
}

pub(crate) fn group_offset(committed: Committed) -> Group {
    let next = NextOffset::new(committed.next.into());
    let foreign = || Mark::Foreign { shown: String::new() };
    let token = |number: u8| {
        let number = CommitNumber::new(number.into());
        Mark::Token(Token { writer: writer(), epoch: Epoch::NONE, lo: next, hi: next, number })
    };
    Group { next, mark: committed.number.map_or_else(foreign, token) }
}

pub(crate) fn small(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Returns the decision of the engine's own table about K and D, or `None` if K has changed since it was read, because
/// the two then do not belong together.
fn decision(
    world: &World,
    guards: Guards,
    group: Option<Committed>,
    row: Option<Progress>,
) -> Option<Result<Takeover, tollgate_protocol::Halt>> {
    let last = if guards.has(Guard::ReadToken) { Last::Token } else { Last::Unknown };
    let offset = |next: u8| NextOffset::new(next.into());
    let row = row.map(|row| Row {
        next: offset(row.next),
        prev: offset(row.prev),
        number: CommitNumber::new(row.number.into()),
        last,
    });
    let decision = takeover(group.map(group_offset).as_ref(), row, &writer());
    let moved = guards.has(Guard::LookTwice) && world.kafka.committed != group;
    if decision.is_err() && moved { None } else { Some(decision) }
}

/// Reads the row without changing it, and halts if the table says so. This fences nobody.
fn decides_first(world: &mut World, guards: Guards, member: usize, group: Option<Committed>) {
    world.members[member].taking = match decision(world, guards, group, world.postgres.now.progress) {
        None => Some(Taking::Begun),
        Some(Ok(_)) => Some(Taking::Decided(group)),
        Some(Err(_)) => {
            world.halted = true;
            return;
        }
    };
}

fn decides(world: &mut World, guards: Guards, member: usize, group: Option<Committed>, row: Option<Progress>) {
    let (Position { resume, numbers }, establish) = match decision(world, guards, group, row) {
        Some(Ok(Takeover::Start)) => {
            world.members[member].taking = Some(Taking::Missing);
            return;
        }
        Some(Ok(Takeover::Resume(position))) => (position, false),
        Some(Ok(Takeover::Establish(position))) => (position, true),
        None => {
            world.members[member].taking = Some(Taking::Begun);
            return;
        }
        Some(Err(_)) => {
            world.halted = true;
            return;
        }
    };
    let (epoch, plan) = row.map_or_else(Default::default, |row| (row.epoch, row.plan));
    let (rows, outputs) = (small(resume.rows.get()), small(resume.outputs.get()));
    let numbers = (small(numbers.rows.get()), small(numbers.outputs.get()));
    hand_over(world, member, Owned { epoch, rows, outputs, numbers, establish, plan });
}
