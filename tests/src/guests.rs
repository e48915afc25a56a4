//! A transform in WAT that treats each event as the event's header `act` tells it. It writes its own revision number
//! into every event that passes: into the payload's field `revision` and into the header `revision`.
//!
//! It is written by hand, because no SDK would allow most of its behaviour.

use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../wit/transform.wit");
/// The name of the section that `tollgate build` writes. It is repeated here, so that a change of it breaks a test.
const SECTION: &str = "tollgate:transform";

/// The properties of the guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// A number from 0 to 127.
    pub revision: u8,
    /// The error message of `init`, if it fails.
    pub init_fails: Option<&'static str>,
    /// Whether it rejects events with `act: r`.
    pub rejects: bool,
    /// Iterations of an empty loop for each event; a hundred thousand take some 0.1 ms.
    pub spins: u32,
    /// Whether it traps before it asks for its first event.
    pub traps: bool,
    /// Members that replace those of the manifest.
    pub manifest: Value,
}

impl Guest {
    pub fn revision(revision: u8) -> Guest {
        Guest { revision, init_fails: None, rejects: true, spins: 0, traps: false, manifest: json!({}) }
    }
}

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

/// The verdicts are 0 start, 1 pass, 2 replace, 3 drop, 4 reject. In memory, 16 is the result of `init`, 128 that of
/// `header`; texts start at 256, the heap at 4096.
const CODE: &str = r#"
  (memory (export "memory") 2)
  (data (i32.const 256) "act")
  (data (i32.const 264) "revision")
  (data (i32.const 288) "amount.too-large")
  (data (i32.const 320) "amount")
  (data (i32.const 336) "the amount is too large")
  (data (i32.const 368) "index out of bounds in rule 7")
  (data (i32.const 400) "i0")
  (data (i32.const 404) "k")
  (global $heap (mut i32) (i32.const 4096))
  (global $arena (mut i32) (i32.const 0))
  (global $offsets (mut i32) (i32.const 0))
  (global $early (mut i32) (i32.const 0))
  (func $alloc (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (loop $grow
        (br_if $enough (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        (br $grow)))
    (local.get $at))
  (func $bound (param $at i32) (result i32)
    (i32.load (i32.add (global.get $offsets) (i32.shl (local.get $at) (i32.const 2)))))
  (func $value (param $i i32) (result i32)
    (i32.add (global.get $arena) (call $bound (i32.add (i32.shl (local.get $i) (i32.const 1)) (i32.const 1)))))
  (func $length (param $i i32) (result i32)
    (i32.sub (call $bound (i32.add (i32.shl (local.get $i) (i32.const 1)) (i32.const 2)))
             (call $bound (i32.add (i32.shl (local.get $i) (i32.const 1)) (i32.const 1)))))
  (func $recurse (param i32) (result i32)
    (i32.add (local.get 0) (call $recurse (i32.add (local.get 0) (i32.const 1)))))
  ;; the payload with the field `revision` behind it
  (func $stamp (param $i i32)
    (local $at i32) (local $length i32)
    (local.set $length (call $length (local.get $i)))
    (local.set $at (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.add (local.get $length) (i32.const 2))))
    (memory.copy (local.get $at) (call $value (local.get $i)) (local.get $length))
    (i32.store8 (i32.add (local.get $at) (local.get $length)) (i32.const 0x28))
    (i32.store8 offset=1 (i32.add (local.get $at) (local.get $length)) (i32.const REVISION))
    (call $set_header (i32.const 264) (i32.const 8) (i32.const 280) (i32.const DIGITS))
    (call $emit (i32.const 0) (local.get $at) (i32.add (local.get $length) (i32.const 2))))
  ;; what the headers i0, i1 … hold, on the first route
  (func $items
    (local $n i32)
    (loop $more
      (i32.store8 (i32.const 401) (i32.add (i32.const 0x30) (local.get $n)))
      (call $header (i32.const 400) (i32.const 2) (i32.const 128))
      (if (i32.load8_u (i32.const 128)) (then
        (call $emit (i32.const 1) (i32.load (i32.const 132)) (i32.load (i32.const 136)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $more)))))
  ;; the key in header k is gone on the first route
  (func $gone_item
    (call $header (i32.const 404) (i32.const 1) (i32.const 128))
    (call $set_key (i32.load (i32.const 132)) (i32.load (i32.const 136)))
    (call $delete (i32.const 1)))
  (func $event (param $i i32) (result i32)
    (local $act i32) (local $spins i32)
    (local.set $spins (i32.const SPINS))
    (loop $spin
      (if (local.get $spins) (then (local.set $spins (i32.sub (local.get $spins) (i32.const 1))) (br $spin))))
    (call $header (i32.const 256) (i32.const 3) (i32.const 128))
    (if (i32.load8_u (i32.const 128)) (then (local.set $act (i32.load8_u (i32.load (i32.const 132))))))
    (block $unknown (block $explained (block $panic (block $trap (block $loop (block $memory (block $stack (block $output
    (block $return (block $emit_and_pass (block $empty (block $started (block $verdict (block $drop (block $gone
      (br_if $explained (i32.and (i32.const REJECTS) (i32.eq (local.get $act) (i32.const 0x72 (; r ;)))))
      (br_if $panic (i32.eq (local.get $act) (i32.const 0x66 (; f ;))))
      (br_if $trap (i32.eq (local.get $act) (i32.const 0x74 (; t ;))))
      (br_if $loop (i32.eq (local.get $act) (i32.const 0x6c (; l ;))))
      (br_if $memory (i32.eq (local.get $act) (i32.const 0x6d (; m ;))))
      (br_if $stack (i32.eq (local.get $act) (i32.const 0x73 (; s ;))))
      (br_if $output (i32.eq (local.get $act) (i32.const 0x4f (; O ;))))
      (br_if $return (i32.eq (local.get $act) (i32.const 0x62 (; b ;))))
      (br_if $emit_and_pass (i32.eq (local.get $act) (i32.const 0x42 (; B ;))))
      (br_if $empty (i32.eq (local.get $act) (i32.const 0x43 (; C ;))))
      (br_if $started (i32.eq (local.get $act) (i32.const 0x41 (; A ;))))
      (br_if $verdict (i32.eq (local.get $act) (i32.const 0x56 (; V ;))))
      (br_if $drop (i32.eq (local.get $act) (i32.const 0x64 (; d ;))))
      (br_if $gone (i32.eq (local.get $act) (i32.const 0x78 (; x ;))))
      (br $unknown))
      (; gone ;) (call $delete (i32.const 0)) (return (i32.const 2)))
      (; drop ;) (return (i32.const 3)))
      (; verdict ;) (return (i32.const 99)))
      (; started ;) (return (i32.const 0)))
      (; empty ;) (return (i32.const 2)))
      (; emit and pass ;) (call $stamp (local.get $i)) (return (i32.const 1)))
      (; return ;) (global.set $early (i32.const 1)) (return (i32.const 1)))
      (; output ;) (loop $ever (call $emit (i32.const 0) (i32.const 0) (i32.const 65536)) (br $ever)))
      (; stack ;) (return (call $recurse (i32.const 0))))
      (; memory ;) (loop $ever (drop (memory.grow (i32.const 1))) (br $ever)))
      (; loop ;) (loop $ever (br $ever)))
      (; trap ;) unreachable)
      (; panic ;) (call $fail (i32.const 368) (i32.const 29)) unreachable)
      (; explained ;)
      (call $explain (i32.const 288) (i32.const 16) (i32.const 320) (i32.const 6) (i32.const 336) (i32.const 23))
      (return (i32.const 4)))
    (if (i32.eq (local.get $act) (i32.const 0x49 (; I ;))) (then (call $items) (return (i32.const 2))))
    (if (i32.eq (local.get $act) (i32.const 0x69 (; i ;))) (then (call $items)))
    (if (i32.eq (local.get $act) (i32.const 0x79 (; y ;))) (then (call $gone_item)))
    (call $stamp (local.get $i))
    (i32.const 2))
  (func (export "tollgate:transform/guest@0.1.0#process")
    (param i32 i32 i32 i32 i64 i64) (param $arena i32) (param i32) (param $offsets i32) (param i32 i32 i32 i32 i32 i32 i32)
    (local $i i32)
    (global.set $arena (local.get $arena))
    (global.set $offsets (local.get $offsets))
    (if (i32.const TRAPS) (then unreachable))
    (local.set $i (call $next (i32.const 0)))
    (block $done
      (loop $again
        (br_if $done (i32.eq (local.get $i) (i32.const -1)))
        (local.set $i (call $event (local.get $i)))
        (br_if $done (global.get $early))
        (local.set $i (call $next (local.get $i)))
        (br $again))))
"#;

/// Returns a component of the world in `wit/` with its manifest, as `tollgate build` creates it.
pub fn component(guest: &Guest) -> Vec<u8> {
    let digits = guest.revision.to_string();
    let code = CODE.replace("REVISION", &digits).replace("DIGITS", &digits.len().to_string());
    let code = code.replace("REJECTS", &u8::from(guest.rejects).to_string()).replace("SPINS", &guest.spins.to_string());
    let code = code.replace("TRAPS", &u8::from(guest.traps).to_string());
    let init = match guest.init_fails {
        Some(message) => format!(
            r#"(data (i32.const 512) "{message}")
               (func (export "tollgate:transform/guest@0.1.0#init") (param i32 i32) (result i32)
                 (i32.store8 (i32.const 16) (i32.const 1))
                 (i32.store (i32.const 20) (i32.const 512))
                 (i32.store (i32.const 24) (i32.const {}))
                 (i32.const 16))"#,
            message.len()
        ),
        None => r#"(func (export "tollgate:transform/guest@0.1.0#init") (param i32 i32) (result i32) (i32.const 16))"#
            .to_owned(),
    };
    let module = format!(r#"(module {IMPORTS} {code} (data (i32.const 280) "{digits}") {init})"#);
    let mut manifest = json!({
        "name": "actor", "version": format!("0.1.{digits}"), "input": crate::events::MESSAGE,
        "limits": { "fuel": 1_000_000, "memory": "8MiB", "output_bytes": "256KiB" },
    });
    for (key, value) in guest.manifest.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    stamp(encode(&wat::parse_str(module).unwrap(), WIT, "transform"), manifest.to_string().as_bytes())
}

/// Turns a core module into a component of a world.
pub fn encode(module: &[u8], wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("world.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// Appends the manifest's custom section.
pub fn stamp(component: Vec<u8>, json: &[u8]) -> Vec<u8> {
    with_custom_section(component, SECTION, json)
}

/// Marks a component as compiled with the message types of another `.proto` file.
pub fn compiled_with(component: Vec<u8>, proto: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.proto"), proto).unwrap();
    let pool = tollgate_protos::load(&[folder.path().to_path_buf()]).unwrap();
    let message = pool.get_message_by_name(crate::events::MESSAGE).unwrap();
    let types = tollgate_decide::types::MessageTypes::of([&message]);
    with_custom_section(component, "tollgate:types", &types.to_section().unwrap())
}

/// Returns a component with instance types nested a hundred thousand deep: 300 kB that overflow the stack of a
/// recursive reader.
pub fn nested_types(guest: &Guest) -> Vec<u8> {
    let body = [&[1][..], &[0x42, 1, 1].repeat(100_000), &[0x42, 0]].concat();
    with_section(component(guest), 7, &body)
}

/// Returns a component with loops nested 24,000 deep: 72 kB that take minutes to compile.
pub fn nested_loops(guest: &Guest) -> Vec<u8> {
    let code = [&[0][..], &[0x03, 0x40].repeat(24_000), &[0x20, 0, 0x0d, 0], &[0x0b].repeat(24_001)].concat();
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, body) in [(1, vec![1, 0x60, 1, 0x7f, 0]), (3, vec![1, 0]), (10, [vec![1], leb(code.len()), code].concat())]
    {
        module = with_section(module, id, &body);
    }
    with_section(component(guest), 1, &module)
}

fn with_custom_section(component: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    with_section(component, 0, &[&leb(name.len()), name.as_bytes(), data].concat())
}

fn with_section(mut wasm: Vec<u8>, id: u8, body: &[u8]) -> Vec<u8> {
    wasm.push(id);
    wasm.extend(leb(body.len()));
    wasm.extend_from_slice(body);
    wasm
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}
