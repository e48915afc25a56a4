//! Ring 5: a model of the delivery protocol, of which every order of events is explored.
//!
//! # What it is
//!
//! PostgreSQL (the progress row, its lock, one table), Kafka (transactions, the coordinator's offsets, one consumer group)
//! and two members, each with a process, a takeover thread and a lane, around one partition with two records. Every
//! statement and every request is a step of its own, and between any two of one party every other may do what it can: a
//! process that stands still for minutes and goes on is nothing but such an order. What a takeover and a lane make of what
//! they have read is decided by the engine's own functions (`tollgate_protocol`), not by a copy of them.
//!
//! Beside the orders there are faults ([`Fault`]): a process dies, a member is put out of the group, a session or a reply
//! is lost, a transaction expires, PostgreSQL restarts or loses its last commits, and an operator or a foreign member commits
//! an offset for the group. A search says which may happen and how
//! many.
//!
//! # What it shows
//!
//! The invariants I1 to I6 (`world::World::broken`) in every state, and that from every state all records can still get
//! through. Each of the guards ([`guards::Guard`]) can be taken away, and tests/model.rs holds what happens then.
//!
//! # What it does not show
//!
//! That the engine takes these steps and no others (rings 3 and 4 look at that), anything about more than one partition in
//! a transaction or more than two batches, and what neither server promises: that a commit which was acknowledged and
//! survived no failover can be had again.
#![allow(clippy::cast_possible_truncation, reason = "the model counts to three")]

pub mod guards;
mod lane;
mod member;
mod model;
pub mod search;
mod servers;
mod world;

pub use model::Protocol;
pub use search::search;
pub use world::{Fault, Faults};
