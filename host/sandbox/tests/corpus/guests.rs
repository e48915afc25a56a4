//! Guests in WAT. The encoder of `tollgate build` turns them into components with a manifest.

use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The name that `tollgate build` writes. It is a separate string, so that renaming the section breaks a test.
const SECTION: &str = "tollgate:transform";
const WIT: &str = include_str!("../../../../wit/transform.wit");

/// The functions that every guest may call; `log` is in [`LOG_IMPORT`].
const IMPORTS: &str = r#"
  (import "tollgate:transform/host@0.1.0" "next" (func $next (param i32) (result i32)))
  (import "tollgate:transform/host@0.1.0" "emit" (func $emit (param i32 i32 i32)))
  (import "tollgate:transform/host@0.1.0" "delete" (func $delete (param i32)))
  (import "tollgate:transform/host@0.1.0" "set-key" (func $set_key (param i32 i32)))
  (import "tollgate:transform/host@0.1.0" "set-header" (func $set_header (param i32 i32 i32 i32)))
  (import "tollgate:transform/host@0.1.0" "header" (func $header (param i32 i32 i32)))
  (import "tollgate:transform/host@0.1.0" "explain" (func $explain (param i32 i32 i32 i32 i32 i32)))
  (import "tollgate:transform/host@0.1.0" "fail" (func $fail (param i32 i32)))
"#;

/// The common beginning of all guests: a bump allocator, the batch in globals and below 2048, and functions that read
/// it.
const PRELUDE: &str = r#"
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 4096))
  (global $arena (mut i32) (i32.const 0))
  (global $arena_len (mut i32) (i32.const 0))
  (global $topic (mut i32) (i32.const 0))
  (global $topic_len (mut i32) (i32.const 0))
  (global $records (mut i32) (i32.const 0))
  (global $times (mut i32) (i32.const 0))
  (global $offsets (mut i32) (i32.const 0))
  (global $flags (mut i32) (i32.const 0))
  (global $config (mut i32) (i32.const 0))
  (global $config_len (mut i32) (i32.const 0))
  (func $alloc (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (local.set $end (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (local.get $end) (i32.shl (memory.size) (i32.const 16)))
      (then (drop (memory.grow (i32.add (i32.const 1)
        (i32.shr_u (i32.sub (local.get $end) (i32.shl (memory.size) (i32.const 16))) (i32.const 16)))))))
    (global.set $heap (local.get $end))
    (local.get $at))
  (func $bound (param $at i32) (result i32)
    (i32.load (i32.add (global.get $offsets) (i32.shl (local.get $at) (i32.const 2)))))
  (func $value (param $i i32) (result i32)
    (i32.add (global.get $arena) (call $bound (i32.add (i32.shl (local.get $i) (i32.const 1)) (i32.const 1)))))
  (func $length (param $i i32) (result i32)
    (i32.sub (call $bound (i32.add (i32.shl (local.get $i) (i32.const 1)) (i32.const 2)))
             (call $bound (i32.add (i32.shl (local.get $i) (i32.const 1)) (i32.const 1)))))
  (func (export "tollgate:transform/guest@0.1.0#process")
    (param $topic i32) (param $topic_len i32) (param $partition i32) (param $schema i32) (param $time i64)
    (param $seed i64) (param $arena i32) (param $arena_len i32) (param $offsets i32) (param i32)
    (param $flags i32) (param i32) (param $records i32) (param i32) (param $times i32) (param i32)
    (global.set $topic (local.get $topic))
    (global.set $topic_len (local.get $topic_len))
    (i32.store (i32.const 1024) (local.get $partition))
    (i32.store (i32.const 1028) (local.get $schema))
    (i64.store (i32.const 1032) (local.get $time))
    (i64.store (i32.const 1040) (local.get $seed))
    (global.set $records (local.get $records))
    (global.set $times (local.get $times))
    (global.set $arena (local.get $arena))
    (global.set $arena_len (local.get $arena_len))
    (global.set $offsets (local.get $offsets))
    (global.set $flags (local.get $flags))
    (call $process))
  (func (export "tollgate:transform/guest@0.1.0#init") (param $at i32) (param $len i32) (result i32)
    (global.set $config (local.get $at))
    (global.set $config_len (local.get $len))
    (call $init)
    (i32.const 16))
"#;

/// A function `init` that succeeds: the result area at 16 is zero.
pub(crate) const INIT: &str = "(func $init)";

/// A function `process` that only runs the loop.
pub(crate) const PROCESS: &str = "(func $process (call $loop))";

/// The loop of an SDK; `$event` returns the verdict.
pub(crate) const LOOP: &str = r#"
  (func $loop (local $i i32)
    (local.set $i (call $next (i32.const 0)))
    (loop $again
      (if (i32.ne (local.get $i) (i32.const -1)) (then
        (local.set $i (call $next (call $event (local.get $i))))
        (br_if $again (i32.eqz (global.get $early)))))))
  (global $early (mut i32) (i32.const 0))
"#;

/// A guest that does what the first byte of an event's value tells it. An empty value passes.
pub(crate) const ACTOR: &str = r#"
  (data (i32.const 256) "amount.too-large")
  (data (i32.const 288) "payment.amount")
  (data (i32.const 320) "the amount\n\1b[31mis too large")
  (data (i32.const 352) "key")
  (data (i32.const 368) "trace")
  (data (i32.const 384) "tollgate.digest")
  (data (i32.const 400) "Bad Code")
  (data (i32.const 416) "index out of bounds\nat rule 7")
  (data (i32.const 448) "\ff\fe")
  (data (i32.const 464) "valued")
  (data (i32.const 480) "__connect.errors.stage")
  (global $poisoned (mut i32) (i32.const 0))
  (func $is (param $i i32) (param $letter i32) (result i32)
    (i32.eq (i32.load8_u (call $value (local.get $i))) (local.get $letter)))
  (func $rest (param $route i32) (param $i i32)
    (call $emit (local.get $route) (i32.add (call $value (local.get $i)) (i32.const 1))
      (i32.sub (call $length (local.get $i)) (i32.const 1))))
  (func $recurse (param i32) (result i32)
    (i32.add (local.get 0) (call $recurse (i32.add (local.get 0) (i32.const 1)))))
  (func $explained (call $explain (i32.const 256) (i32.const 16) (i32.const 288) (i32.const 14) (i32.const 320) (i32.const 28)))
  (func $edit
    (call $set_key (i32.const 352) (i32.const 3))
    (call $set_header (i32.const 368) (i32.const 5) (i32.const 464) (i32.const 6)))
  (func $event (param $i i32) (result i32)
    (if (i32.and (i32.load8_u (i32.add (global.get $flags) (local.get $i))) (i32.const 2))
      (then (call $delete (i32.const 0)) (return (i32.const 2))))
    (if (i32.eqz (call $length (local.get $i))) (then (return (i32.const 1))))
    ;; verdicts
    (if (call $is (local.get $i) (i32.const 0x70 (; p ;))) (then (return (i32.const 1))))
    (if (call $is (local.get $i) (i32.const 0x64 (; d ;))) (then (call $rest (i32.const 0) (local.get $i)) (return (i32.const 3))))
    (if (call $is (local.get $i) (i32.const 0x72 (; r ;))) (then
      (call $rest (i32.const 0) (local.get $i)) (call $explained) (return (i32.const 4))))
    (if (call $is (local.get $i) (i32.const 0x52 (; R ;))) (then (return (i32.const 4))))
    (if (call $is (local.get $i) (i32.const 0x65 (; e ;))) (then
      (call $edit) (call $rest (i32.const 0) (local.get $i)) (call $rest (i32.const 0) (local.get $i)) (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x31 (; 1 ;))) (then
      (call $rest (i32.const 1) (local.get $i)) (call $rest (i32.const 0) (local.get $i)) (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x6b (; k ;))) (then (call $edit) (return (i32.const 1))))
    (if (call $is (local.get $i) (i32.const 0x78 (; x ;))) (then (call $edit) (call $delete (i32.const 0)) (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x68 (; h ;))) (then
      (call $header (i32.const 368) (i32.const 5) (i32.const 128))
      (if (i32.eqz (i32.load8_u (i32.const 128))) (then (return (i32.const 3))))
      (call $emit (i32.const 0) (i32.load (i32.const 132)) (i32.load (i32.const 136)))
      (return (i32.const 2))))
    ;; what it was given
    (if (call $is (local.get $i) (i32.const 0x4b (; K ;))) (then
      (call $emit (i32.const 0) (i32.add (global.get $arena) (call $bound (i32.shl (local.get $i) (i32.const 1))))
        (i32.sub (call $bound (i32.add (i32.shl (local.get $i) (i32.const 1)) (i32.const 1)))
                 (call $bound (i32.shl (local.get $i) (i32.const 1)))))
      (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x49 (; I ;))) (then
      (call $emit (i32.const 0) (global.get $config) (global.get $config_len)) (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x4d (; M ;))) (then
      (call $emit (i32.const 0) (i32.const 1024) (i32.const 24))
      (call $emit (i32.const 0) (global.get $topic) (global.get $topic_len))
      (call $emit (i32.const 0) (i32.add (global.get $records) (i32.shl (local.get $i) (i32.const 3))) (i32.const 8))
      (call $emit (i32.const 0) (i32.add (global.get $times) (i32.shl (local.get $i) (i32.const 3))) (i32.const 8))
      (call $emit (i32.const 0) (i32.add (global.get $flags) (local.get $i)) (i32.const 1))
      (return (i32.const 2))))
    ;; faults
    (if (call $is (local.get $i) (i32.const 0x66 (; f ;))) (then (call $fail (i32.const 416) (i32.const 29))))
    (if (call $is (local.get $i) (i32.const 0x74 (; t ;))) (then unreachable))
    (if (call $is (local.get $i) (i32.const 0x2f (; / ;))) (then (return (i32.div_u (i32.const 1) (i32.const 0)))))
    (if (call $is (local.get $i) (i32.const 0x6f (; o ;))) (then (return (i32.load (i32.const -8)))))
    (if (call $is (local.get $i) (i32.const 0x6c (; l ;))) (then (loop $for_ever (br $for_ever))))
    (if (call $is (local.get $i) (i32.const 0x6d (; m ;))) (then
      (loop $for_ever (drop (memory.grow (i32.const 1))) (br $for_ever))))
    (if (call $is (local.get $i) (i32.const 0x73 (; s ;))) (then (return (call $recurse (i32.const 0)))))
    (if (call $is (local.get $i) (i32.const 0x4f (; O ;))) (then
      (loop $for_ever (call $emit (i32.const 0) (i32.const 0) (i32.const 65536)) (br $for_ever))))
    (if (call $is (local.get $i) (i32.const 0x4e (; N ;))) (then
      (loop $for_ever (call $delete (i32.const 0)) (br $for_ever))))
    (if (call $is (local.get $i) (i32.const 0x57 (; W ;))) (then
      (loop $for_ever (call $header (i32.const 368) (i32.const 5) (i32.const 128)) (br $for_ever))))
    ;; against the verdict table
    (if (call $is (local.get $i) (i32.const 0x47 (; G ;))) (then
      (call $emit (i32.const 0) (i32.const 0) (i32.const 0x40000000)) (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x42 (; B ;))) (then (call $rest (i32.const 0) (local.get $i)) (return (i32.const 1))))
    (if (call $is (local.get $i) (i32.const 0x43 (; C ;))) (then (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x41 (; A ;))) (then (return (i32.const 0))))
    (if (call $is (local.get $i) (i32.const 0x56 (; V ;))) (then (return (i32.const 99))))
    (if (call $is (local.get $i) (i32.const 0x44 (; D ;))) (then (call $rest (i32.const 2) (local.get $i)) (return (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x48 (; H ;))) (then
      (call $set_header (i32.const 384) (i32.const 15) (i32.const 352) (i32.const 3)) (return (i32.const 1))))
    (if (call $is (local.get $i) (i32.const 0x4a (; J ;))) (then
      (call $set_header (i32.const 480) (i32.const 22) (i32.const 352) (i32.const 3)) (return (i32.const 1))))
    (if (call $is (local.get $i) (i32.const 0x58 (; X ;))) (then
      (call $explain (i32.const 400) (i32.const 8) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (return (i32.const 4))))
    (if (call $is (local.get $i) (i32.const 0x55 (; U ;))) (then (call $fail (i32.const 448) (i32.const 2))))
    (if (call $is (local.get $i) (i32.const 0x62 (; b ;))) (then (global.set $early (i32.const 1)) (return (i32.const 1))))
    ;; an event that harms the ones after it
    (if (call $is (local.get $i) (i32.const 0x50 (; P ;))) (then (global.set $poisoned (i32.const 1)) (return (i32.const 1))))
    (if (call $is (local.get $i) (i32.const 0x51 (; Q ;))) (then (if (global.get $poisoned) (then unreachable)) (return (i32.const 1))))
    (return (i32.const 1)))
"#;

/// The import of the capability `log`.
pub(crate) const LOG_IMPORT: &str =
    r#"(import "tollgate:transform/log@0.1.0" "write" (func $write (param i32 i32 i32)))"#;

/// Returns a core module with the prelude and some definitions. Its own imports come first.
pub(crate) fn module(imports: &str, parts: &[&str]) -> Vec<u8> {
    wat::parse_str(format!("(module {IMPORTS} {imports} {PRELUDE} {})", parts.concat())).unwrap()
}

/// Returns the manifest of the corpus' guests.
pub(crate) fn manifest(name: &str) -> Value {
    json!({
        "name": name, "version": "0.1.0", "input": "test.v1.Event", "routes": ["side"],
        "limits": {"fuel": 100_000, "memory": "1MiB", "max_outputs": 8, "output_bytes": "64KiB"},
    })
}

/// Turns a core module into a component of the sandbox's world.
pub(crate) fn encode(module: &[u8]) -> Vec<u8> {
    encode_in(module, WIT, "transform")
}

/// Turns a core module into a component of any world.
pub(crate) fn encode_in(module: &[u8], wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("world.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// Appends a custom section, as `tollgate build` does.
pub(crate) fn stamp(mut component: Vec<u8>, json: &[u8]) -> Vec<u8> {
    let leb = |mut number: usize| {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(number & 0x7f).unwrap();
            number >>= 7;
            bytes.push(if number == 0 { low } else { low | 0x80 });
            if number == 0 {
                return bytes;
            }
        }
    };
    let mut section = leb(SECTION.len());
    section.extend_from_slice(SECTION.as_bytes());
    section.extend_from_slice(json);
    component.push(0);
    component.extend(leb(section.len()));
    component.extend(section);
    component
}

/// Returns a whole component.
pub(crate) fn component(parts: &[&str], manifest: &Value) -> Vec<u8> {
    stamp(encode(&module("", parts)), manifest.to_string().as_bytes())
}

/// Returns the guest that does what its events tell it.
pub(crate) fn actor() -> Vec<u8> {
    component(&[INIT, PROCESS, LOOP, ACTOR], &manifest("actor"))
}
