//! Tests that a check allocates nothing once its `Fields` is warm. This is a separate binary, because it counts the
//! allocations of the whole process.
#![allow(unsafe_code, reason = "allocations can be counted only by replacing the allocator")]
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tollgate_contract::{Contract, FieldPath, Fields, Policies, Slot, Value};

struct Counting;

thread_local! {
    // The count is per thread, so that the test harness's own threads do not disturb it.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a plain thread-local cell only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_check_allocates_nothing() {
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemas");
    let pool = protox::Compiler::new([schemas]).unwrap().open_file("rich.proto").unwrap().descriptor_pool();
    let wanted = ["text", "tags", "payer", "payer.name", "choice_text", "counts", "packed"].map(FieldPath::from);
    let contract = Contract::compile(&pool, "rich.v1.Rich", Policies::default(), &wanted).unwrap();
    let json = r#"{"text":"t","tags":["a","b"],"payer":{"name":"n","past":[{"city":"c"}]},"choiceText":"x",
        "counts":{"k":1,"l":2},"packed":[1,2,3],"child":{"byId":{"1":{"name":"m"}}}}"#;
    let mut payload = Vec::new();
    contract.transcode_json(json.as_bytes(), &mut payload).unwrap();
    // The payer occurs again in a second part: merging must not allocate either.
    payload.extend_from_within(..);

    let mut fields = Fields::new();
    contract.check(&payload, &mut fields).unwrap();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        contract.check(&payload, &mut fields).unwrap();
        fields = fields.recycle();
    }
    assert_eq!(ALLOCATIONS.get(), before, "a warm check allocated");
    contract.check(&payload, &mut fields).unwrap();
    assert_eq!(fields.get(Slot(3)), Value::Str("n".into()));
    assert!(matches!(fields.get(Slot(2)), Value::Split(_)));
}

#[test]
fn rules_that_hold_allocate_nothing() {
    let here = env!("CARGO_MANIFEST_DIR");
    let mut compiler = protox::Compiler::new([format!("{here}/tests/schemas"), format!("{here}/../../proto")]).unwrap();
    compiler.include_imports(true).open_file("ruled.proto").unwrap();
    let pool = prost_reflect::DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap();
    let wanted = ["text", "tags"].map(FieldPath::from);
    let contract = Contract::compile(&pool, "ruled.v1.Fast", Policies::default(), &wanted).unwrap();
    let json = r#"{"tags":["a","b"],"text":"t","small":2,"maybe":2,"ratio":1.5,"color":"RED","numbers":[1,2],
        "counts":{"k":1,"l":2},"inner":{"id":1,"name":"abc","few":[1,2],"next":{"id":2}},"plain":{"next":{}},"one":"ab",
        "blob":"AAA=","at":"2026-01-01T00:00:00Z","took":"1.5s","ignored":{"name":"A"},"inners":[{"id":1}],
        "byId":{"1":{"id":1}},"agreed":true,"signed":"7","single":1.5}"#;
    let mut payload = Vec::new();
    contract.transcode_json(json.as_bytes(), &mut payload).unwrap();
    let mut fields = Fields::new();
    contract.check(&payload, &mut fields).unwrap();
    // A pattern keeps its matcher's memory for the thread after its first use.
    contract.check(&payload, &mut fields).unwrap();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        contract.check(&payload, &mut fields).unwrap();
    }
    // No allocation proves that the walk tested them: judging the message as a whole would decode it.
    assert_eq!(ALLOCATIONS.get(), before, "a check of rules that hold allocated");
}
