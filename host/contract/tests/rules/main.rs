//! Tests rules on values from outside: violations, errors at compilation, and the agreement of both tiers.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod agreement;
mod compile;
mod editions;
mod tiers;
mod violations;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tollgate_contract::{CompileError, Contract, Policies, UnknownEnums};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Compiles a file to a pool. A pool keeps options that are extensions only if it is decoded from bytes.
fn pool_of(file: &str, folder: &str) -> DescriptorPool {
    let roots = [folder.to_owned(), format!("{HERE}/../../proto")];
    let mut compiler = protox::Compiler::new(roots).unwrap();
    compiler.include_imports(true).open_file(file).unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

fn pool() -> DescriptorPool {
    pool_of("ruled.proto", &format!("{HERE}/tests/schemas"))
}

fn contract(message: &str) -> Contract {
    // These tests let the rules decide about unknown enum numbers.
    let policies = Policies { unknown_enums: UnknownEnums::Keep, ..Policies::default() };
    Contract::compile(&pool(), message, policies, &[]).unwrap()
}

/// Compiles a contract for the message `a.M` of a file's text.
fn contract_of(text: &str) -> Result<Contract, CompileError> {
    let folder = tempfile::tempdir().unwrap();
    let head = r#"syntax = "proto3"; package a; import "buf/validate/validate.proto";"#;
    std::fs::write(folder.path().join("a.proto"), format!("{head}\n{text}")).unwrap();
    let pool = pool_of("a.proto", folder.path().to_str().unwrap());
    Contract::compile(&pool, "a.M", Policies::default(), &[])
}

/// Encodes a message that is given as JSON.
fn payload(message: &str, json: &str) -> Vec<u8> {
    let descriptor = pool().get_message_by_name(message).unwrap();
    let mut json = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(descriptor, &mut json).unwrap().encode_to_vec()
}
