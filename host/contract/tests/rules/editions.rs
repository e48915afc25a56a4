//! Tests files of editions, as in descriptor sets.

use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tollgate_contract::{Contract, Fields, Policies, ReasonCode, lower_editions};

fn field(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(kind as i32),
        ..FieldDescriptorProto::default()
    }
}

/// Encodes a field with `options.features` set: field 21 of FieldOptions, in which `feature` is set to `value`.
fn with_feature(field: &FieldDescriptorProto, feature: u8, value: u8) -> Vec<u8> {
    let mut bytes = field.encode_to_vec();
    // options (8): { features (21): { feature: value } }
    bytes.extend([0x42, 0x05, 0xaa, 0x01, 0x02, feature << 3, value]);
    bytes
}

fn delimited(tag: u8, inner: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(inner.len()).unwrap()], inner].concat()
}

#[test]
fn features_become_presence_and_groups() {
    let mut file = FileDescriptorProto {
        name: Some("a.proto".into()),
        package: Some("a".into()),
        syntax: Some("editions".into()),
        ..FileDescriptorProto::default()
    }
    .encode_to_vec();
    // edition (14): EDITION_2023
    file.extend([0x70, 0xe8, 0x07]);
    let mut message = DescriptorProto { name: Some("M".into()), ..DescriptorProto::default() }.encode_to_vec();
    let inner = FieldDescriptorProto { type_name: Some(".a.M".into()), ..field("inner", 4, Type::Message) };
    for field in [
        field("explicit", 1, Type::Int32).encode_to_vec(),
        with_feature(&field("implicit", 2, Type::Int32), 1, 2),
        with_feature(&field("required", 3, Type::Int32), 1, 3),
        with_feature(&inner, 5, 2),
    ] {
        message.extend(delimited(0x12, &field));
    }
    file.extend(delimited(0x22, &message));
    let set = delimited(0x0a, &file);

    let pool = DescriptorPool::decode(&*lower_editions(&set).unwrap()).unwrap();
    let message = pool.get_message_by_name("a.M").unwrap();
    let presence = |name: &str| message.get_field_by_name(name).unwrap().supports_presence();
    assert!(presence("explicit") && !presence("implicit") && presence("required"));
    let contract = Contract::compile(&pool, "a.M", Policies::default(), &[]).unwrap();
    let code = |bytes: &[u8]| contract.check(bytes, &mut Fields::new()).map_err(|rejection| rejection.code);
    assert_eq!(code(&[0x08, 0x01]), Err(ReasonCode::MissingRequired));
    assert_eq!(code(&[0x18, 0x01]), Ok(()));
    assert_eq!(code(&[0x18, 0x01, 0x23, 0x24]), Err(ReasonCode::GroupField));
}

#[test]
fn other_sets_stay_as_they_are() {
    let file = FileDescriptorProto {
        name: Some("editions.proto".into()),
        syntax: Some("proto3".into()),
        ..FileDescriptorProto::default()
    };
    let set = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    assert_eq!(*lower_editions(&set).unwrap(), *set);
    assert!(lower_editions(b"\x0aeditions").is_err());
}
