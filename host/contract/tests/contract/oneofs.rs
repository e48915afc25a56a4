//! Compares the name of a oneof's set branch with a dynamic message.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, ReflectMessage as _};
use tollgate_contract::{Contract, FieldPath, Fields, Policies, Slot, Value};

use super::common::{bytes, int, pool, text};

const MESSAGE: &str = "rich.v1.Rich";

fn contract(paths: &[FieldPath]) -> Contract {
    Contract::compile(&pool(), MESSAGE, Policies::default(), paths).unwrap()
}

/// Returns the name of the branch in a slot.
fn branch<'c>(contract: &'c Contract, fields: &Fields<'_>, slot: usize) -> Option<&'c str> {
    match fields.get(Slot(slot)) {
        Value::Absent => None,
        Value::Enum(number) => Some(contract.enum_name(Slot(slot), number).unwrap()),
        other => panic!("{other:?}"),
    }
}

/// Generates one field of a message that has the oneof: a branch, or another field.
fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(text(27, "")),
        Just(text(27, "paid")),
        Just(bytes(28, &[])),
        Just(bytes(28, &text(2, "Ada"))),
        Just(int(29, 0)),
        Just(int(2, 7)),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(field(), 0..5).prop_map(|fields| fields.concat())
}

proptest! {
    /// Branches replace each other, messages come in parts, and the empty values of branches count.
    #[test]
    fn the_branch_that_is_set_is_named(parts in prop::collection::vec((message(), prop::option::of(message())), 0..4)) {
        let payload: Vec<u8> = parts
            .iter()
            .flat_map(|(own, child)| [own.clone(), child.as_ref().map_or_else(Vec::new, |child| bytes(300, child))])
            .flatten()
            .collect();
        // The branches' own fields are wanted too, or not; they share their slots.
        for wanted in [&[][..], &["choice_number", "child.choice_payer.name"]] {
            let oneofs = ["choice", "child.choice", "choice"].map(FieldPath::oneof);
            let paths: Vec<FieldPath> = oneofs.into_iter().chain(wanted.iter().map(|path| FieldPath::new(*path))).collect();
            let contract = contract(&paths);
            let mut fields = Fields::new();
            contract.check(&payload, &mut fields).unwrap();
            let whole = DynamicMessage::decode(contract.message().clone(), &*payload).unwrap();
            let set = |message: &DynamicMessage| {
                let descriptor = message.descriptor();
                let oneof = descriptor.oneofs().find(|oneof| oneof.name() == "choice").unwrap();
                oneof.fields().find(|field| message.has_field(field)).map(|field| field.name().to_owned())
            };
            let child = whole.has_field_by_name("child").then(|| whole.get_field_by_name("child").unwrap().into_owned());
            let in_child = child.and_then(|child| set(child.as_message().unwrap()));
            let in_whole = set(&whole);
            prop_assert_eq!(branch(&contract, &fields, 0), in_whole.as_deref());
            prop_assert_eq!(branch(&contract, &fields, 1), in_child.as_deref());
            prop_assert_eq!(branch(&contract, &fields, 2), in_whole.as_deref());
        }
    }
}

#[test]
fn a_path_that_is_no_oneof_is_refused() {
    let problem = |path: &str| {
        Contract::compile(&pool(), MESSAGE, Policies::default(), &[FieldPath::oneof(path)]).unwrap_err().to_string()
    };
    assert_eq!(problem("choise"), "oneof choise: rich.v1.Rich has no oneof choise; did you mean choice?");
    assert_eq!(
        problem("child.text"),
        "oneof child.text: rich.v1.Rich has no oneof text, but a field of that name: use `field` instead"
    );
    assert_eq!(problem("_maybe"), "oneof _maybe: rich.v1.Rich has no oneof _maybe", "it stands for one optional field");
    assert!(
        problem("chil.choice").starts_with("field chil.choice: rich.v1.Rich has no field chil; did you mean child")
    );
    assert!(problem("payers.choice").contains("payers is repeated"));
}
