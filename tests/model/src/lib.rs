//! Ring 5: a model of the delivery protocol. It explores every order of events.
//!
//! # What it is
//!
//! PostgreSQL (the progress row, its lock, one table), Kafka (transactions, the coordinator's offsets, one consumer
//! group) and two members. Each member has a process, a takeover thread and a lane, and there is one partition with two
//! records.
//!
//! Every statement and every request is a separate step, and between two steps of one party all others may take steps.
//! A process that is paused for minutes is therefore just one of these orders. Takeovers and lanes decide with the
//! engine's own functions (`tollgate_protocol`), not with a copy of them.
//!
//! There are also faults ([`Fault`]): a process dies, a member is removed from the group, a session or a reply is lost,
//! a transaction expires, PostgreSQL restarts or loses its last commits, and an operator or a foreign member commits an
//! offset for the group. A search specifies which faults may happen, and how many.
//!
//! # What it shows
//!
//! The invariants I1 to I6 (`world::World::broken`) hold in every state, and from every state all records can still be
//! processed. Each of the guards ([`guards::Guard`]) can be disabled, and tests/model.rs tests what breaks then.
//!
//! # What it does not show
//!
//! It does not show that the engine takes exactly these steps; rings 3 and 4 test that. It does not cover more than one
//! partition in a transaction, or more than two batches. It also excludes what neither server promises: to recover an
//! acknowledged commit that did not survive a failover.
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
