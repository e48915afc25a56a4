//! Produces to Kafka what a Protobuf contract lets through, and nothing else.
//!
//! An event is checked where it is made: [`Producer::check`] makes a [`Ready`] of it or says everything that is wrong, and only a
//! `Ready` can be sent. What is sent is acknowledged with its partition and offset, or comes back as [`Undelivered`]; nothing
//! is dropped. The buffer is bounded in records and in bytes, and a full one makes the sender wait.
//!
//! ```no_run
//! use std::time::Duration;
//! use tollgate_contract::{Contract, Policies};
//! use tollgate_producer::{Config, Event, Producer, Route};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = protox::Compiler::new(["proto"])?.open_file("payments/v1/payment.proto")?.descriptor_pool();
//! let contract = Contract::compile(&pool, "payments.v1.PaymentEvent", Policies::default(), &[])?;
//! let route = Route::new("payment-events", contract).key("transaction_id").schema_version("1.0.0");
//! let producer = Producer::new(Config::new("localhost:9092"), [route])?;
//! producer.connect(Duration::from_secs(10))?;
//!
//! let delivery = producer.send(&Event::json(br#"{"transactionId": "t-1", "amount": 9.99, "currency": "EUR"}"#))?;
//! let acknowledged = delivery.wait()?;
//! println!("partition {} offset {}", acknowledged.partition, acknowledged.offset);
//! producer.close(Duration::from_secs(10))?;
//! # Ok(())
//! # }
//! ```
//!
//! The work is done by librdkafka's threads and one of ours that takes its reports. In an async program [`Producer::send_async`]
//! waits for room without blocking, and a [`Delivery`] is a future; no runtime is named.
//!
//! # What is settled and what is not
//! Always idempotent: a retry never makes a second record, and the order of a partition is the order of the sends. A process that
//! dies between a send and its acknowledgement cannot know what became of it; whoever sends again after that may
//! repeat events, unless both attempts were a [`Transaction`] of the same transactional id.

mod config;
mod delivery;
mod error;
mod event;
mod gate;
mod producer;
mod reject;
mod reports;
mod room;
mod transaction;

pub use config::{Config, Invalid, OWNED_SETTINGS};
pub use delivery::{Acknowledged, Delivery, Outcome, Undelivered};
pub use error::{ConnectError, SendError, SetupError, TransactionError, Unacknowledged};
pub use event::{Event, Payload};
pub use gate::{Gate, Ready, Route};
pub use producer::{Callback, Producer};
pub use rdkafka::ClientConfig;
pub use reject::{Original, Rejected, Rejects, Violation};
pub use room::Load;
pub use transaction::Transaction;
