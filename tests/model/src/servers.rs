//! The behaviour of PostgreSQL and Kafka that the protocol relies on.

use crate::world::{
    Committed, Decided, Effect, Id, Kafka, MEMBERS, Postgres, RowsTransaction, Tables, Transaction, World,
};

/// Applies a batch to one side.
fn apply(effects: &mut [Effect], batch: Decided, alone: bool) {
    for (effect, revision) in effects.iter_mut().zip(batch).filter(|(_, revision)| *revision > 0) {
        // Applying it twice is already an error; a larger count would only add states.
        *effect = Effect { times: (effect.times + 1).min(2), revision, alone };
    }
}

/// Returns the smallest number that is not taken.
fn fresh(taken: impl Iterator<Item = u8> + Clone) -> u8 {
    (0..u8::MAX).find(|number| !taken.clone().any(|other| other == *number)).unwrap_or(u8::MAX)
}

impl Postgres {
    fn commit(&mut self, tables: Tables) {
        self.before = [Some(self.now), self.before[0]];
        self.now = tables;
    }

    /// Changes the progress row in a separate transaction.
    pub fn autocommit(&mut self, change: impl FnOnce(&mut Tables)) {
        let mut tables = self.now;
        change(&mut tables);
        self.commit(tables);
    }

    /// Commits the open transaction.
    pub fn land(&mut self) {
        let Some(RowsTransaction { hi, number, rows, alone, .. }) = self.open.take() else { return };
        self.autocommit(|tables| {
            apply(&mut tables.rows, rows, alone);
            if let Some(row) = &mut tables.progress {
                (row.prev, row.next, row.number, row.plan) = (row.next, hi, number, rows);
            }
        });
    }

    /// Returns whether this member's transaction is still open and can be committed.
    pub fn is_open_for(&self, member: usize) -> bool {
        self.open.is_some_and(|open| open.member == member && !open.orphan)
    }
}

impl Kafka {
    /// Returns whether no open transaction contains an offset for the group.
    pub fn stable(&self) -> bool {
        !self.ids.iter().flatten().any(|id| id.open.is_some_and(|open| open.offset.is_some()))
    }

    /// Adds the group's offset to a transaction, unless the generation is outdated or the member is not in the group.
    /// Without a generation the offset is accepted from anybody.
    pub fn prepare(
        &mut self,
        slot: usize,
        name: usize,
        offset: Committed,
        member: usize,
        generation: Option<u8>,
    ) -> bool {
        if generation.is_some_and(|generation| generation != self.generation || !self.joined[member]) {
            return false;
        }
        for (at, id) in self.ids.iter_mut().flatten().enumerate() {
            if let Some(open) = &mut id.open {
                open.outdated |= at != slot * 2 + name && open.offset.is_some();
            }
        }
        let open = self.ids[slot][name].open.get_or_insert_default();
        (open.offset, open.outdated) = (Some(offset), false);
        true
    }

    /// Commits an offset for the group without a token. It overrides the offsets in open transactions, because it is
    /// the later one.
    pub fn commit_foreign(&mut self, next: u8) {
        for open in self.ids.iter_mut().flatten().filter_map(|id| id.open.as_mut()) {
            open.outdated |= open.offset.is_some();
        }
        self.committed = Some(Committed { next, number: None });
    }

    /// Commits the open transaction of an id.
    pub fn end(&mut self, slot: usize, name: usize) {
        let Some(Transaction { outputs, offset, outdated }) = self.ids[slot][name].open.take() else { return };
        apply(&mut self.outputs, outputs, false);
        if let Some(offset) = offset.filter(|_| !outdated) {
            self.committed = Some(offset);
        }
    }
}

impl World {
    /// `init_transactions` with a slot's names: aborts open transactions and fences older producers.
    pub fn initialise(&mut self, slot: usize) -> [u8; 2] {
        [0, 1].map(|name| {
            let known = self.members.iter().filter(|member| member.slot == slot);
            let known = known.filter_map(|member| Some(member.producers?[name]));
            let epoch = fresh(known.chain(self.kafka.ids[slot][name].wire));
            self.kafka.ids[slot][name].open = None;
            self.kafka.ids[slot][name].epoch = epoch;
            epoch
        })
    }

    /// Aborts a transaction that took too long, and fences its producer.
    pub fn expire(&mut self, slot: usize, name: usize) {
        let known = self.members.iter().filter(|member| member.slot == slot);
        let known = known.filter_map(|member| Some(member.producers?[name]));
        let epoch = fresh(known.chain(self.kafka.ids[slot][name].wire));
        let id: &mut Id = &mut self.kafka.ids[slot][name];
        (id.open, id.epoch) = (None, epoch);
    }

    /// Begins a new generation of the group.
    pub fn regenerate(&mut self) {
        let known = self.members.iter().flat_map(|member| {
            [member.generation, member.attempt.and_then(|attempt| attempt.generation)].into_iter().flatten()
        });
        self.kafka.generation = fresh(known);
    }

    /// Ends all sessions and loses the last `commits`.
    pub fn fail_over(&mut self, commits: usize) -> bool {
        match commits {
            0 => {}
            _ => match self.postgres.before[commits - 1] {
                Some(tables) => (self.postgres.now, self.lost) = (tables, true),
                None => return false,
            },
        }
        self.postgres.before = [None; 2];
        self.postgres.open = None;
        self.postgres.slots = [None; MEMBERS];
        for member in &mut self.members {
            member.connected = false;
            if member.taking.is_some() {
                // Its statement fails, and it begins again by reading K.
                member.taking = Some(crate::world::Taking::Begun);
            }
        }
        true
    }
}
