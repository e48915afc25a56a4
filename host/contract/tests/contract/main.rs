//! Tests the contract engine from outside: wire corpus, JSON, compilation, and the comparison with a reference parser.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod coerce;
mod common;
mod compile;
mod conformance;
mod corpus;
mod differential;
mod json;
mod oneofs;
mod policies;
mod reference;
