//! An exhaustive breadth-first search. The first violation that it finds has the shortest possible path.
//!
//! For each state it keeps a fingerprint of 64 bits and that of the preceding state. Among some million states two
//! share a fingerprint with a probability below 10⁻⁵. This would hide a state, not invent one. `stateright` does the
//! same and more, but it does not check that no state is a dead end (`Report::stuck`).

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// A system whose states can be enumerated.
pub trait System {
    type State: Clone + Hash;
    type Step: Debug;

    fn start(&self) -> Self::State;
    /// Appends all steps that can happen next.
    fn steps(&self, state: &Self::State, next: &mut Vec<(Self::Step, Self::State)>);
    /// Returns the name of an invariant that does not hold, if there is one.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// Returns whether nothing is left to do. From every state, such a state must be reachable.
    fn done(&self, state: &Self::State) -> bool;
}

/// The result of a search.
#[derive(Debug)]
pub struct Report {
    pub states: usize,
    /// The number of steps to the state that is farthest from the start.
    pub depth: usize,
    pub took: Duration,
    pub violation: Option<Violation>,
    /// A path to a state from which no finished state can be reached.
    pub stuck: Option<Vec<String>>,
}

/// A broken invariant, and a shortest path to it.
#[derive(Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub way: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, depth {}, {:.1} s", self.states, self.depth, self.took.as_secs_f64())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken after {} steps:\n  {}", self.invariant, self.way.len(), self.way.join("\n  "))
    }
}

/// A hasher that returns its input, because fingerprints are already hashes.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only fingerprints are hashed");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A hasher that mixes each number in by a multiplication to 128 bits, folded. SipHash would take most of a search's
/// time.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        fold(self.0 ^ 0x2d35_8dcc_aa6c_78a5)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0.rotate_left(23) ^ value ^ 0x9e37_79b9_7f4a_7c15);
    }
}

fn fold(value: u64) -> u64 {
    let wide = u128::from(value) * 0xe703_7ed1_a0b4_28db;
    (wide >> 64) as u64 ^ wide as u64
}

type Seen = HashMap<u64, u32, BuildHasherDefault<Same>>;

fn fingerprint(state: &impl Hash) -> u64 {
    BuildHasherDefault::<Mix>::default().hash_one(state)
}

/// A state that was visited.
struct Visit {
    fingerprint: u64,
    /// The number of the state that it was first reached from.
    before: u32,
    done: bool,
}

/// Explores every reachable state. Stops at the first violation; searches for dead ends only if there is none.
pub fn search<S: System>(system: &S) -> Report {
    let began = Instant::now();
    let mut seen = Seen::default();
    let mut visits: Vec<Visit> = Vec::new();
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let first = system.start();
    seen.insert(fingerprint(&first), 0);
    visits.push(Visit { fingerprint: fingerprint(&first), before: 0, done: system.done(&first) });
    let (mut layer, mut next, mut depth) = (vec![(0, first)], Vec::new(), 0);
    let mut steps = Vec::new();
    while !layer.is_empty() {
        for (number, state) in layer.drain(..) {
            if let Some(invariant) = system.broken(&state) {
                let violation = Some(Violation { invariant, way: way(system, &visits, number) });
                return Report { states: visits.len(), depth, took: began.elapsed(), violation, stuck: None };
            }
            system.steps(&state, &mut steps);
            for (_, state) in steps.drain(..) {
                let fresh = u32::try_from(visits.len()).unwrap_or(u32::MAX);
                let fingerprint = fingerprint(&state);
                let known = *seen.entry(fingerprint).or_insert(fresh);
                edges.push((known, number));
                if known == fresh {
                    visits.push(Visit { fingerprint, before: number, done: system.done(&state) });
                    next.push((fresh, state));
                }
            }
        }
        std::mem::swap(&mut layer, &mut next);
        depth += usize::from(!layer.is_empty());
    }
    let stuck = first_stuck(edges, &visits).map(|number| way(system, &visits, number));
    Report { states: visits.len(), depth, took: began.elapsed(), violation: None, stuck }
}

/// Returns the lowest-numbered state from which no finished state can be reached. `edges` lead backwards.
fn first_stuck(mut edges: Vec<(u32, u32)>, visits: &[Visit]) -> Option<u32> {
    edges.sort_unstable();
    let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let mut good: Vec<bool> = visits.iter().map(|visit| visit.done).collect();
    let mut open: Vec<u32> = (0..good.len()).filter(|index| good[*index]).map(number).collect();
    while let Some(state) = open.pop() {
        let from = edges.partition_point(|(to, _)| *to < state);
        for (_, before) in edges[from..].iter().take_while(|(to, _)| *to == state) {
            let before = *before as usize;
            if !good[before] {
                good[before] = true;
                open.push(number(before));
            }
        }
    }
    good.iter().position(|good| !good).map(number)
}

/// Returns the steps from the start to a state. They are computed again, because only the fingerprints of the states
/// were kept.
fn way<S: System>(system: &S, visits: &[Visit], to: u32) -> Vec<String> {
    let mut wanted = Vec::new();
    let mut at = to;
    while at != 0 {
        wanted.push(visits[at as usize].fingerprint);
        at = visits[at as usize].before;
    }
    let (mut state, mut told, mut steps) = (system.start(), Vec::new(), Vec::new());
    for wanted in wanted.into_iter().rev() {
        system.steps(&state, &mut steps);
        let Some((step, next)) = steps.drain(..).find(|(_, next)| fingerprint(next) == wanted) else { break };
        told.push(format!("{step:?}"));
        state = next;
    }
    told
}
