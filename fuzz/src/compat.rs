//! Compares two versions. There must be no panic and no finding between equal versions, and the categories and modes
//! must include each other as documented.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, OneofDescriptorProto, descriptor_proto::ReservedRange,
};
use tollgate_compat::{Category, Mode, Options, compare, fingerprint};
use tollgate_contract::lower_editions;

use crate::choices::Choices;

const LEVELS: [Category; 4] = [Category::Wire, Category::WireJson, Category::Package, Category::File];

/// Runs one comparison. The first byte selects the meaning of the rest: a descriptor set's bytes, or decisions from
/// which two versions are generated.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    if choices.byte() == 0 {
        let Some(pool) = set(choices.rest()) else { return };
        equal(&pool);
        return;
    }
    let mut file = file(&mut choices);
    let Some(old) = pool(&file) else { return };
    equal(&old);
    edit(&mut file, &mut choices);
    let Some(new) = pool(&file) else { return };
    different(&old, &new);
    different(&new, &old);
}

fn set(bytes: &[u8]) -> Option<DescriptorPool> {
    DescriptorPool::decode(&*lower_editions(bytes).ok()?).ok()
}

fn pool(file: &FileDescriptorProto) -> Option<DescriptorPool> {
    DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: vec![file.clone()] }).ok()
}

fn equal(pool: &DescriptorPool) {
    let options = Options { level: Category::File, mode: Mode::Full };
    let found = compare(pool, pool, options);
    assert!(found.is_empty(), "{found:?}");
    for message in pool.all_messages() {
        assert_eq!(fingerprint(&message), fingerprint(&message));
    }
}

fn different(old: &DescriptorPool, new: &DescriptorPool) {
    let found = |level, mode| -> BTreeSet<(&str, String)> {
        let findings = compare(old, new, Options { level, mode });
        findings.into_iter().map(|finding| (finding.rule.id, finding.element)).collect()
    };
    let mut narrower = BTreeSet::new();
    for level in LEVELS {
        let full = found(level, Mode::Full);
        let sides: BTreeSet<_> = &found(level, Mode::Backward) | &found(level, Mode::Forward);
        assert_eq!(full, sides, "{level:?}: full is both sides");
        assert!(narrower.is_subset(&full), "{level:?} lacks {:?}", &narrower - &full);
        narrower = full;
    }
}

fn name(choices: &mut Choices<'_>, head: &str) -> Option<String> {
    Some(format!("{head}{}", choices.below(12)))
}

fn file(choices: &mut Choices<'_>) -> FileDescriptorProto {
    let syntax = if choices.byte() & 1 == 0 { "proto3" } else { "proto2" };
    let mut file = FileDescriptorProto {
        name: Some("t.proto".into()),
        package: Some("t".into()),
        syntax: Some(syntax.into()),
        ..FileDescriptorProto::default()
    };
    file.enum_type = (0..choices.below(3)).map(|at| enumeration(choices, at)).collect();
    let messages = choices.below(3) + 1;
    file.message_type = (0..messages).map(|at| message(choices, at, 0)).collect();
    file
}

fn enumeration(choices: &mut Choices<'_>, at: usize) -> EnumDescriptorProto {
    let value = |choices: &mut Choices<'_>, place: usize| EnumValueDescriptorProto {
        name: Some(format!("E{at}V{}", if place == 0 { 0 } else { 1 + choices.below(5) })),
        number: Some(if place == 0 { 0 } else { i32::from(choices.byte()) - 8 }),
        ..EnumValueDescriptorProto::default()
    };
    EnumDescriptorProto {
        name: Some(format!("E{at}")),
        value: (0..=choices.below(4)).map(|place| value(choices, place)).collect(),
        ..EnumDescriptorProto::default()
    }
}

fn message(choices: &mut Choices<'_>, at: usize, depth: usize) -> DescriptorProto {
    let mut message = DescriptorProto { name: Some(format!("M{at}")), ..DescriptorProto::default() };
    if choices.byte() & 3 == 3 {
        message
            .oneof_decl
            .push(OneofDescriptorProto { name: Some("choice".into()), ..OneofDescriptorProto::default() });
    }
    message.field = (0..choices.below(6)).map(|_| field(choices, !message.oneof_decl.is_empty())).collect();
    message.reserved_range = (0..choices.below(2)).map(|_| reserved(choices)).collect();
    message.reserved_name = (0..choices.below(2)).filter_map(|_| name(choices, "f")).collect();
    if depth < 2 {
        message.nested_type = (0..choices.below(2)).map(|at| self::message(choices, at + 5, depth + 1)).collect();
    }
    message
}

fn reserved(choices: &mut Choices<'_>) -> ReservedRange {
    let start = i32::from(choices.byte()) + 1;
    ReservedRange { start: Some(start), end: Some(start + 1 + i32::from(choices.byte())) }
}

fn field(choices: &mut Choices<'_>, oneof: bool) -> FieldDescriptorProto {
    let mut field = FieldDescriptorProto {
        name: name(choices, "f"),
        number: Some(i32::from(choices.byte()) + 1),
        label: Some(*choices.of(&[Label::Optional, Label::Optional, Label::Repeated, Label::Required]) as i32),
        ..FieldDescriptorProto::default()
    };
    kind(&mut field, choices);
    if oneof && choices.byte() & 1 == 1 {
        field.label = Some(Label::Optional as i32);
        field.oneof_index = Some(0);
    }
    if choices.byte() & 7 == 7 {
        field.json_name = name(choices, "j");
    }
    field
}

fn kind(field: &mut FieldDescriptorProto, choices: &mut Choices<'_>) {
    let kind = i32::from(choices.byte() % 18) + 1;
    field.r#type = Some(kind);
    field.type_name = match kind {
        kind if kind == Type::Message as i32 || kind == Type::Group as i32 => name(choices, ".t.M"),
        kind if kind == Type::Enum as i32 => name(choices, ".t.E"),
        _ => None,
    };
}

/// Makes a few changes of every kind.
fn edit(file: &mut FileDescriptorProto, choices: &mut Choices<'_>) {
    for _ in 0..=choices.below(4) {
        let what = choices.byte();
        if what & 15 == 15 {
            file.enum_type = (0..choices.below(3)).map(|at| enumeration(choices, at)).collect();
            continue;
        }
        let count = file.message_type.len();
        if count == 0 {
            return;
        }
        let message = &mut file.message_type[choices.below(count)];
        let fields = message.field.len();
        let at = if fields == 0 { 0 } else { choices.below(fields) };
        let oneof = !message.oneof_decl.is_empty();
        match what & 15 {
            0 if fields > 0 => drop(message.field.remove(at)),
            1 => message.field.push(field(choices, oneof)),
            2 if fields > 0 => message.field[at].name = name(choices, "f"),
            3 if fields > 0 => message.field[at].number = Some(i32::from(choices.byte()) + 1),
            4 if fields > 0 => kind(&mut message.field[at], choices),
            5 if fields > 0 => message.field[at].label = Some(i32::from(choices.byte() % 3) + 1),
            6 if fields > 0 && oneof => message.field[at].oneof_index = (choices.byte() & 1 == 1).then_some(0),
            7 if fields > 0 => message.field[at].json_name = name(choices, "j"),
            8 => message.reserved_range.push(reserved(choices)),
            9 => message.reserved_range.clear(),
            10 => message.name = name(choices, "M"),
            11 => drop(file.message_type.pop()),
            12 if fields > 1 => message.field.swap(0, at),
            13 => file.syntax = Some(if choices.byte() & 1 == 0 { "proto3" } else { "proto2" }.into()),
            _ => message.nested_type.push(self::message(choices, 5, 2)),
        }
    }
}
