//! Components that are small but costly to validate or compile: an ordinary guest with additional sections.

use crate::guests::{self, INIT, LOOP, PROCESS, stamp};

/// Returns an ordinary guest to which sections are appended.
fn base() -> Vec<u8> {
    let pass = "(func $event (param i32) (result i32) (i32.const 1))";
    guests::encode(&guests::module("", &[INIT, PROCESS, LOOP, pass]))
}

fn with_section(mut component: Vec<u8>, id: u8, body: &[u8]) -> Vec<u8> {
    component.push(id);
    component.extend(leb(body.len()));
    component.extend_from_slice(body);
    component
}

fn stamped(component: Vec<u8>) -> Vec<u8> {
    stamp(component, guests::manifest("hostile").to_string().as_bytes())
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

/// Returns instance types that are nested in each other, three bytes per level.
pub(crate) fn nested_types(levels: usize) -> Vec<u8> {
    let mut body = vec![1];
    for _ in 0..levels {
        body.extend([0x42, 1, 1]);
    }
    body.extend([0x42, 0]);
    stamped(with_section(base(), 7, &body))
}

/// Returns nested components; each contains only the next one.
pub(crate) fn nested_components(levels: usize) -> Vec<u8> {
    const HEADER: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    let innermost = HEADER.to_vec();
    let nested = (1..levels).fold(innermost, |inner, _| with_section(HEADER.to_vec(), 4, &inner));
    stamped(with_section(base(), 4, &nested))
}

/// Returns components of which each has two instances of the previous one.
pub(crate) fn doubling_instances(levels: usize) -> Vec<u8> {
    let mut text = String::from("(component (component $c0 (core module $m) (core instance (instantiate $m)))");
    for level in 1..=levels {
        let below = level - 1;
        text += &format!("(component $c{level} (instance (instantiate $c{below})) (instance (instantiate $c{below})))");
    }
    text += &format!("(instance (instantiate $c{levels})))");
    instantiated(&wat::parse_str(text).unwrap())
}

/// Returns one function with nested loops, three bytes per level.
pub(crate) fn nested_loops(levels: usize) -> Vec<u8> {
    let mut code = vec![0];
    code.extend([0x03, 0x40].repeat(levels));
    // A value that is alive through all loops.
    code.extend([0x20, 0, 0x0d, 0]);
    code.extend([0x0b].repeat(levels));
    code.push(0x0b);
    let function = [leb(code.len()), code].concat();
    module_of(&[1, 0x60, 1, 0x7f, 0], &[0], &function, 1)
}

/// Returns functions that each compute a little.
pub(crate) fn many_functions(count: usize) -> Vec<u8> {
    let code = [0x00, 0x41, 0x05, 0x41, 0x07, 0x6a, 0x1a, 0x0b];
    let function = [leb(code.len()), code.to_vec()].concat();
    module_of(&[1, 0x60, 0, 0], &vec![0; count], &function.repeat(count), count)
}

/// Returns a function whose result has the wrong type, which only validation of the code detects.
pub(crate) fn invalid_code() -> Vec<u8> {
    module_of(&[1, 0x60, 0, 1, 0x7f], &[0], &[4, 0, 0x42, 0, 0x0b], 1)
}

/// Returns an unused core module in the component with these types and functions.
fn module_of(types: &[u8], functions: &[u8], code: &[u8], count: usize) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module = with_section(module, 1, types);
    module = with_section(module, 3, &[leb(count), functions.to_vec()].concat());
    module = with_section(module, 10, &[leb(count), code.to_vec()].concat());
    stamped(with_section(base(), 1, &module))
}

/// Returns two inner components, of which one passes a string to the other.
pub(crate) fn transcoding() -> Vec<u8> {
    let text = r#"(component
        (component $callee
          (core module $m (memory (export "m") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
            (func (export "f") (param i32 i32)))
          (core instance $i (instantiate $m))
          (func (export "f") (param "s" string)
            (canon lift (core func $i "f") (memory $i "m") (realloc (func $i "realloc")))))
        (component $caller
          (import "f" (func $f (param "s" string)))
          (core module $memory (memory (export "m") 1))
          (core instance $memory (instantiate $memory))
          (core func $lowered (canon lower (func $f) (memory $memory "m")))
          (core module $m (import "" "f" (func $f (param i32 i32)))
            (func (export "go") (call $f (i32.const 0) (i32.const 60000))))
          (core instance $i (instantiate $m (with "" (instance (export "f" (func $lowered))))))
          (func (export "go") (canon lift (core func $i "go"))))
        (instance $callee (instantiate $callee))
        (instance $caller (instantiate $caller (with "f" (func $callee "f")))))"#;
    instantiated(&wat::parse_str(text).unwrap())
}

/// Embeds a component in the guest and instantiates it.
fn instantiated(inner: &[u8]) -> Vec<u8> {
    let base = base();
    let own = inner_components(&base);
    // This is one instance: it instantiates the component with this index, without arguments.
    stamped(with_section(with_section(base, 4, inner), 5, &[vec![1, 0], leb(own), vec![0]].concat()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn inner_components(component: &[u8]) -> usize {
    let mut depth = 0;
    let mut found = 0;
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            wasmparser::Payload::Version { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth -= 1,
            wasmparser::Payload::ComponentSection { .. } if depth == 1 => found += 1,
            _ => {}
        }
    }
    found
}
