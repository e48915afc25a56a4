//! Turns the module compiled by cargo into a component for the sandbox: checked, stripped, stamped.
//!
//! The order of sections is fixed and nothing in them depends on the machine, so the same module and manifest give the
//! same bytes. Stripping is a plain walk over the sections: a component is a list of them, some of which contain a
//! module.

use memchr::memmem;
use tollgate_sandbox::{Manifest, SECTION, TYPES_SECTION, limits};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use tollgate_decide::types::MessageTypes;

/// The interfaces that the sandbox provides.
const ALLOWED: [&str; 2] = ["tollgate:transform/host@0.1.0", "tollgate:transform/log@0.1.0"];
/// The section in which the SDK's attribute lists its routes, one per line.
const ROUTES: &str = "tollgate:routes";
/// The section that wit-component needs in the module.
const WORLD: &str = "component-type";

/// The reason why a module could not become a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("the module is malformed: {0}")]
    Malformed(String),
    #[error("it imports {}, which the sandbox does not have{}", list(.imports), hint(.imports))]
    Imports { imports: Vec<String> },
    #[error(
        "it asks for the time (SystemTime::now or Instant::now, in its own code or a dependency's), but a transform has no \
         clock: use ctx.batch_time(), which is the same when a batch is run again, or ctx.timestamp()"
    )]
    Clock,
    #[error("it does not export a transform: mark its function with #[tollgate::transform]")]
    NoTransform,
    #[error(
        "#[transform(routes(…))] has {code:?}, but transform.yaml has {spec:?}: write the same routes in the same order"
    )]
    Routes { code: Vec<String>, spec: Vec<String> },
    #[error("it writes log lines: add the capability in transform.yaml, capabilities: [log]")]
    LogNotGranted,
    #[error("its message types have {bytes} bytes as text, but a component may have {most}: use smaller ones")]
    Types { bytes: usize, most: usize },
    #[error("cannot build a component from the module: {0}")]
    Encode(String),
}

fn list(imports: &[String]) -> String {
    let shown: Vec<_> = imports.iter().take(8).map(|import| format!("`{import}`")).collect();
    let more = imports.len().saturating_sub(shown.len());
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// Returns the likely cause, by the name of the module that is imported from.
fn hint(imports: &[String]) -> &'static str {
    let from = |prefix: &str| imports.iter().any(|import| import.starts_with(prefix));
    if from("__wbindgen") {
        "; that is wasm-bindgen, for browsers: a dependency uses it (getrandom, chrono, uuid or instant with a feature \
         such as js or wasmbind): turn that feature off"
    } else if from("wasi") {
        "; that is WASI (std::time, getrandom, println or files): a transform has none of it: remove it from the code, or \
         from the dependency that uses it"
    } else if from("env") {
        "; that is a symbol that no crate defines, usually from a C library: such a dependency cannot run here"
    } else if from("tollgate:") {
        "; the SDK has another version than this program: use the same release of both"
    } else {
        ""
    }
}

/// Makes a component from a module and adds the manifest and the message types. With `names`, function names stay, for
/// stack traces.
///
/// # Errors
/// Fails if the module imports something that the sandbox lacks, is not a transform, or does not match the manifest.
pub fn componentize(
    module: &[u8],
    manifest: &Manifest,
    types: &MessageTypes,
    names: bool,
) -> Result<Vec<u8>, ComponentError> {
    let seen = look(module)?;
    let foreign: Vec<_> = seen.imports.iter().filter(|import| !allowed(import)).cloned().collect();
    if !foreign.is_empty() {
        return Err(ComponentError::Imports { imports: foreign });
    }
    if seen.clock {
        return Err(ComponentError::Clock);
    }
    if !seen.world {
        return Err(ComponentError::NoTransform);
    }
    if seen.routes != manifest.routes {
        return Err(ComponentError::Routes { code: seen.routes, spec: manifest.routes.clone() });
    }
    let logs = seen.imports.iter().any(|import| import.starts_with(ALLOWED[1]));
    if logs && !manifest.capabilities.iter().any(|granted| granted == "log") {
        return Err(ComponentError::LogNotGranted);
    }
    let keep = |section: &str| section.starts_with(WORLD) || (names && section == "name");
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&strip(module, &keep)?)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| ComponentError::Encode(format!("{error:#}")))?;
    let mut component = strip(&component, &|section| names && section == "name")?;
    stamp(&mut component, manifest, types)?;
    Ok(component)
}

fn allowed(import: &str) -> bool {
    ALLOWED.iter().any(|interface| import.strip_prefix(interface).is_some_and(|rest| rest.starts_with('#')))
}

/// The panic message of Rust's standard library when a program without an operating system asks for the time. The
/// optimizer removes it from a module that never does.
const NO_CLOCK: &[u8] = b"time not implemented on this platform";

#[derive(Default)]
struct Seen {
    /// The imports as `module#name`, in the module's order.
    imports: Vec<String>,
    routes: Vec<String>,
    world: bool,
    clock: bool,
}

fn look(module: &[u8]) -> Result<Seen, ComponentError> {
    let mut seen = Seen::default();
    for payload in Parser::new(0).parse_all(module) {
        #[allow(clippy::wildcard_enum_match_arm, reason = "only these kinds of section matter here")]
        match payload.map_err(malformed)? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(malformed)?;
                    seen.imports.push(format!("{}#{}", import.module, import.name));
                }
            }
            Payload::CustomSection(section) if section.name() == ROUTES => {
                let text = String::from_utf8_lossy(section.data());
                seen.routes = text.lines().map(str::to_owned).collect();
            }
            Payload::DataSection(section) => {
                for segment in section {
                    seen.clock |= memmem::find(segment.map_err(malformed)?.data, NO_CLOCK).is_some();
                }
            }
            Payload::CustomSection(section) => seen.world |= section.name().starts_with(WORLD),
            _ => {}
        }
    }
    Ok(seen)
}

#[allow(clippy::needless_pass_by_value, reason = "map_err passes it by value")]
fn malformed(error: wasmparser::BinaryReaderError) -> ComponentError {
    ComponentError::Malformed(error.to_string())
}

/// Copies a module or component without the custom sections that `keep` rejects, including nested ones.
fn strip(wasm: &[u8], keep: &dyn Fn(&str) -> bool) -> Result<Vec<u8>, ComponentError> {
    const HEADER: usize = 8;
    const CUSTOM: u8 = 0;
    const CORE_MODULE: u8 = 1;
    const NESTED_COMPONENT: u8 = 4;

    let short = || ComponentError::Malformed("it ends within a section".into());
    let header = wasm.get(..HEADER).ok_or_else(short)?;
    // The last two bytes of the header distinguish them: 0 is a module, 1 a component.
    let component = header[6] == 1;
    let mut out = header.to_vec();
    let mut rest = &wasm[HEADER..];
    while let Some((&id, after)) = rest.split_first() {
        let (size, length) = leb(after).ok_or_else(short)?;
        let body = after.get(length..length + size).ok_or_else(short)?;
        rest = &after[length + size..];
        if id == CUSTOM {
            let (size, length) = leb(body).ok_or_else(short)?;
            let name = body.get(length..length + size).ok_or_else(short)?;
            if keep(&String::from_utf8_lossy(name)) {
                section(&mut out, id, body)?;
            }
        } else if component && matches!(id, CORE_MODULE | NESTED_COMPONENT) {
            section(&mut out, id, &strip(body, keep)?)?;
        } else {
            section(&mut out, id, body)?;
        }
    }
    Ok(out)
}

/// Decodes an unsigned LEB128 of 32 bits. Returns its value and its length in bytes.
fn leb(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, at + 1));
        }
    }
    None
}

fn section(out: &mut Vec<u8>, id: u8, body: &[u8]) -> Result<(), ComponentError> {
    let mut size = u32::try_from(body.len()).map_err(|_| ComponentError::Malformed("a section beyond 4 GiB".into()))?;
    out.push(id);
    loop {
        let [low, ..] = (size & 0x7f).to_le_bytes();
        size >>= 7;
        out.push(if size == 0 { low } else { low | 0x80 });
        if size == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    Ok(())
}

/// Appends the message types and the manifest as the component's last sections.
fn stamp(component: &mut Vec<u8>, manifest: &Manifest, types: &MessageTypes) -> Result<(), ComponentError> {
    let text = types.to_section().map_err(|error| ComponentError::Encode(error.to_string()))?;
    if text.len() > limits::TYPES_BYTES {
        return Err(ComponentError::Types { bytes: text.len(), most: limits::TYPES_BYTES });
    }
    custom(component, TYPES_SECTION, &text)?;
    let json = serde_json::to_vec(manifest).map_err(|error| ComponentError::Encode(error.to_string()))?;
    Manifest::parse(&json).map_err(|error| ComponentError::Encode(format!("transform.yaml: {error}")))?;
    custom(component, SECTION, &json)
}

/// Appends a custom section; its name is shorter than 128 bytes.
fn custom(component: &mut Vec<u8>, name: &str, data: &[u8]) -> Result<(), ComponentError> {
    let [length, ..] = name.len().to_le_bytes();
    section(component, 0, &[&[length], name.as_bytes(), data].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use wasm_encoder::{CustomSection, EntityType, ImportSection, Module, TypeSection};

    fn manifest() -> Manifest {
        let json = r#"{"name": "rules", "version": "1", "input": "a.B", "limits": {"fuel": 1}}"#;
        Manifest::parse(json.as_bytes()).unwrap()
    }

    fn module(imports: &[(&str, &str)], sections: &[(&str, &str)]) -> Vec<u8> {
        let (mut types, mut imported) = (TypeSection::new(), ImportSection::new());
        types.ty().function([], []);
        for (from, name) in imports {
            imported.import(from, name, EntityType::Function(0));
        }
        let mut module = Module::new();
        module.section(&types).section(&imported);
        for (name, data) in sections {
            module.section(&CustomSection { name: (*name).into(), data: data.as_bytes().into() });
        }
        module.finish()
    }

    fn refusal(module: &[u8], manifest: &Manifest) -> String {
        componentize(module, manifest, &MessageTypes::of([]), false).unwrap_err().to_string()
    }

    #[test]
    fn a_foreign_import_is_named_with_whom_to_suspect() {
        for (from, suspect) in [
            ("__wbindgen_placeholder__", "wasm-bindgen"),
            ("wasi_snapshot_preview1", "WASI"),
            ("env", "C library"),
            ("tollgate:transform/host@9.0.0", "same release"),
        ] {
            let error =
                refusal(&module(&[("tollgate:transform/host@0.1.0", "next"), (from, "thing")], &[]), &manifest());
            assert!(error.contains(&format!("imports `{from}#thing`, which")) && error.contains(suspect), "{error}");
        }
        let many: Vec<_> = (0..10).map(|at| format!("f{at}")).collect();
        let many: Vec<_> = many.iter().map(|name| ("env", name.as_str())).collect();
        assert!(refusal(&module(&many, &[]), &manifest()).contains("`env#f7` and 2 more, which"));
    }

    #[test]
    fn what_the_module_and_transform_yaml_disagree_on_is_said() {
        assert!(refusal(&module(&[], &[]), &manifest()).contains("does not export a transform"));
        let routes = module(&[], &[("component-type:x", ""), (ROUTES, "audit\nlate")]);
        assert!(refusal(&routes, &manifest()).contains(r#"has ["audit", "late"], but transform.yaml has []"#));
        let logs = module(&[("tollgate:transform/log@0.1.0", "write")], &[("component-type:x", "")]);
        assert!(refusal(&logs, &manifest()).contains("capabilities: [log]"));
    }

    #[test]
    fn what_is_no_module_is_an_error_at_every_length() {
        let whole = module(&[("env", "a")], &[("name", "xyz")]);
        for length in 0..whole.len() {
            assert!(componentize(&whole[..length], &manifest(), &MessageTypes::of([]), false).is_err(), "{length}");
            // Truncated at a section's end it is still a module, only shorter.
            let _ = strip(&whole[..length], &|_| true);
        }
        assert_eq!(strip(&whole, &|_| true).unwrap(), whole);
    }

    #[test]
    fn sections_that_are_not_wanted_go_nested_ones_too() {
        let inner = module(&[], &[("name", "functions"), ("keep", "1")]);
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        section(&mut component, 1, &inner).unwrap();
        section(&mut component, 0, b"\x09producers").unwrap();
        let stripped = strip(&component, &|name| name == "keep").unwrap();
        let mut expected = b"\0asm\x0d\0\x01\0".to_vec();
        section(&mut expected, 1, &module(&[], &[("keep", "1")])).unwrap();
        assert_eq!(stripped, expected);
    }
}
