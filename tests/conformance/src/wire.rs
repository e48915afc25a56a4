//! The messages between the harness and the executor, with only the fields that the executor needs
//! (`buf/validate/conformance/harness/harness.proto`, and the violations of `buf/validate/validate.proto`).

use std::collections::HashMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    /// A `FileDescriptorSet` as bytes, so that the extensions in its options are not lost.
    #[prost(bytes = "vec", tag = "2")]
    pub descriptors: Vec<u8>,
    #[prost(map = "string, message", tag = "3")]
    pub cases: HashMap<String, prost_types::Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(map = "string, message", tag = "1")]
    pub results: HashMap<String, TestResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TestResult {
    #[prost(oneof = "Outcome", tags = "1, 2, 3, 4, 5")]
    pub outcome: Option<Outcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Outcome {
    #[prost(bool, tag = "1")]
    Success(bool),
    #[prost(message, tag = "2")]
    Violations(Violations),
    #[prost(string, tag = "3")]
    CompilationError(String),
    #[prost(string, tag = "4")]
    RuntimeError(String),
    #[prost(string, tag = "5")]
    UnexpectedError(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Violations {
    #[prost(message, repeated, tag = "1")]
    pub violations: Vec<Violation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Violation {
    #[prost(message, optional, tag = "5")]
    pub field: Option<Path>,
    #[prost(message, optional, tag = "6")]
    pub rule: Option<Path>,
    #[prost(string, optional, tag = "2")]
    pub rule_id: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub message: Option<String>,
    #[prost(bool, optional, tag = "4")]
    pub for_key: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Path {
    #[prost(message, repeated, tag = "1")]
    pub elements: Vec<Element>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Element {
    #[prost(int32, optional, tag = "1")]
    pub field_number: Option<i32>,
    #[prost(string, optional, tag = "2")]
    pub field_name: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub field_type: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub key_type: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub value_type: Option<i32>,
    #[prost(oneof = "Subscript", tags = "6, 7, 8, 9, 10")]
    pub subscript: Option<Subscript>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Subscript {
    #[prost(uint64, tag = "6")]
    Index(u64),
    #[prost(bool, tag = "7")]
    BoolKey(bool),
    #[prost(int64, tag = "8")]
    IntKey(i64),
    #[prost(uint64, tag = "9")]
    UintKey(u64),
    #[prost(string, tag = "10")]
    StringKey(String),
}
