//! Rules on values from outside: what they say of events, what compiling them says, and both tiers against each other.
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

/// The pool keeps options that are extensions only if it is made of bytes.
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
    // Unknown enum numbers are the rules' business here.
    let policies = Policies { unknown_enums: UnknownEnums::Keep, ..Policies::default() };
    Contract::compile(&pool(), message, policies, &[]).unwrap()
}

/// A contract of a file's text, for message `a.M`.
fn contract_of(text: &str) -> Result<Contract, CompileError> {
    let folder = tempfile::tempdir().unwrap();
    let head = r#"syntax = "proto3"; package a; import "buf/validate/validate.proto";"#;
    std::fs::write(folder.path().join("a.proto"), format!("{head}\n{text}")).unwrap();
    let pool = pool_of("a.proto", folder.path().to_str().unwrap());
    Contract::compile(&pool, "a.M", Policies::default(), &[])
}

/// Wire bytes from the text form of JSON.
fn payload(message: &str, json: &str) -> Vec<u8> {
    let descriptor = pool().get_message_by_name(message).unwrap();
    let mut json = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(descriptor, &mut json).unwrap().encode_to_vec()
}
