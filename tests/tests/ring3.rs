//! Ring 3: the product processes real events with a real Kafka and a real PostgreSQL.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's own failure ends the test, and prints what it saw"
)]

mod ring3 {
    mod conversions;
    mod debezium;
    mod edges;
    mod halts;
    mod happy;
    mod headers;
    mod identity;
    mod journey;
    mod limits;
    mod memory;
    mod offsets;
    mod outage;
    mod outside;
    mod policies;
    mod pooler;
    mod produce;
    mod refused;
    mod registry;
    mod repeated;
    mod routes;
    mod scenarios;
    mod secure;
    mod stage;
    mod start;
    mod target;
    mod topics;
    mod types;
}
