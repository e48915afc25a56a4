//! Sends two orders and prints their partitions and offsets: `cargo run -p tollgate-producer --example send --
//! localhost:9092 orders`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use tollgate_contract::{Contract, Policies};
use tollgate_producer::{Config, Event, Invalid, Producer, Route, SendError};

const PROTO: &str = "syntax = \"proto3\"; package shop.v1; message Order { string id = 1; int64 total = 2; }";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(brokers), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: send BROKERS TOPIC".into());
    };
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("order.proto"), PROTO)?;
    let pool = protox::Compiler::new([folder.path()])?.open_file("order.proto")?.descriptor_pool();
    let contract = Contract::compile(&pool, "shop.v1.Order", Policies::default(), &[])?;

    let config = Config { invalid: Invalid::File("rejects.ndjson".into()), ..Config::new(&brokers) };
    let producer = Producer::new(config, [Route::new(topic, contract).key("id").schema_version("1.0.0")])?;
    producer.connect(Duration::from_secs(10))?;
    for json in [r#"{"id": "o-1", "total": "999"}"#, r#"{"id": "o-2", "total": "a lot"}"#] {
        match producer.send(&Event::json(json.as_bytes())) {
            Ok(delivery) => {
                let acknowledged = delivery.wait()?;
                println!("{json}: partition {}, offset {}", acknowledged.partition, acknowledged.offset);
            }
            Err(SendError::Rejected(rejected)) => println!("{json}: {rejected}"),
            Err(error) => return Err(error.into()),
        }
    }
    producer.close(Duration::from_secs(10))?;
    Ok(())
}
