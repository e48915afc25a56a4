//! The tests' own contract, and messages of it.

use std::sync::OnceLock;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;

pub const PROTO: &str = include_str!("events.proto");
pub const MESSAGE: &str = "test.v1.Event";

fn descriptor() -> MessageDescriptor {
    static DESCRIPTOR: OnceLock<MessageDescriptor> = OnceLock::new();
    let found = DESCRIPTOR.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.proto"), PROTO).unwrap();
        let files = protox::compile(["events.proto"], [folder.path()]).unwrap();
        DescriptorPool::from_file_descriptor_set(files).unwrap().get_message_by_name(MESSAGE).unwrap()
    });
    found.clone()
}

/// The bytes of an event, written in protobuf's JSON form.
pub fn encode(event: &Value) -> Vec<u8> {
    DynamicMessage::deserialize(descriptor(), event).unwrap().encode_to_vec()
}

/// The JSON form of an event's bytes.
pub fn decode(bytes: &[u8]) -> Value {
    let message = DynamicMessage::decode(descriptor(), bytes).unwrap();
    serde_json::to_value(&message).unwrap()
}
