//! Produces to Kafka only events that satisfy a Protobuf contract.
//!
//! An event is checked where it is created: [`Producer::check`] returns a [`Ready`] or all violations, and only a
//! `Ready` can be sent. A sent event is acknowledged with its partition and offset, or reported as [`Undelivered`];
//! nothing is dropped silently. The buffer is limited in records and in bytes, and when it is full the sender waits.
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
//! librdkafka's threads do the work, and one thread of this crate processes their reports. In an async program
//! [`Producer::send_async`] waits for room without blocking, and a [`Delivery`] is a future. It depends on no runtime.
//!
//! # What is guaranteed and what is not
//! Producing is always idempotent: a retry never creates a second record, and a partition keeps the order of the sends.
//! A process that dies between a send and its acknowledgement cannot know the outcome. Sending again after that may
//! duplicate events, unless both attempts were a [`Transaction`] of the same transactional id.

mod config;
mod delivery;
pub mod envelope;
mod error;
mod event;
mod gate;
pub mod input;
mod limits;
mod producer;
mod reject;
mod reports;
mod room;
pub mod run;
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
