//! The contract of the tests, and messages of it.

use std::sync::OnceLock;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;

pub const PROTO: &str = include_str!("events.proto");
pub const MESSAGE: &str = "test.v1.Event";

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.proto"), PROTO).unwrap();
        let files = protox::compile(["events.proto"], [folder.path()]).unwrap();
        DescriptorPool::from_file_descriptor_set(files).unwrap()
    })
}

fn descriptor(message: &str) -> MessageDescriptor {
    pool().get_message_by_name(message).unwrap()
}

/// Encodes an event that is given in Protobuf's JSON format.
pub fn encode(event: &Value) -> Vec<u8> {
    encode_as(MESSAGE, event)
}

/// Encodes any message of the contract's file.
pub fn encode_as(message: &str, json: &Value) -> Vec<u8> {
    DynamicMessage::deserialize(descriptor(message), json).unwrap().encode_to_vec()
}

/// Returns an event in Protobuf's JSON format.
pub fn decode(bytes: &[u8]) -> Value {
    let message = DynamicMessage::decode(descriptor(MESSAGE), bytes).unwrap();
    serde_json::to_value(&message).unwrap()
}
