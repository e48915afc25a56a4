//! Helpers of the tests: the schemas, and functions that write wire bytes.

use prost_reflect::DescriptorPool;
use tollgate_contract::{Contract, FieldPath, Policies};

const FILES: [&str; 6] =
    ["rich.proto", "legacy.proto", "policies.proto", "every.proto", "every2.proto", "payments/v1/payment.proto"];

pub(crate) fn pool() -> DescriptorPool {
    let here = env!("CARGO_MANIFEST_DIR");
    let mut compiler = protox::Compiler::new([format!("{here}/tests/schemas"), format!("{here}/../../proto")]).unwrap();
    compiler.open_files(FILES).unwrap();
    compiler.descriptor_pool()
}

pub(crate) fn contract(message: &str, policies: Policies, fields: &[&str]) -> Contract {
    let fields: Vec<FieldPath> = fields.iter().map(|path| FieldPath::from(*path)).collect();
    Contract::compile(&pool(), message, policies, &fields).unwrap()
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// Encodes a tag; `wire` is the wire type's number.
pub(crate) fn tag(number: u64, wire: u64) -> Vec<u8> {
    varint(number << 3 | wire)
}

pub(crate) fn int(number: u64, value: u64) -> Vec<u8> {
    [tag(number, 0), varint(value)].concat()
}

pub(crate) fn bytes(number: u64, inner: &[u8]) -> Vec<u8> {
    [tag(number, 2), varint(inner.len() as u64), inner.to_vec()].concat()
}

pub(crate) fn text(number: u64, inner: &str) -> Vec<u8> {
    bytes(number, inner.as_bytes())
}

/// Encodes a group: start tag, content, end tag.
pub(crate) fn group(number: u64, inner: &[u8]) -> Vec<u8> {
    [tag(number, 3), inner.to_vec(), tag(number, 4)].concat()
}
