//! Inspects a component without compiling it: its manifest, imports, exports and nesting depth.
//!
//! Nothing here recurses over the component, so that no component can exhaust the stack of the thread that inspects it.

use std::ops::{ControlFlow, Range};

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentAlias, ComponentExternName, ComponentImport, ComponentType,
    ComponentTypeRef, CoreType, Encoding, FromReader, Parser, Payload,
};
use wasmtime::Engine;

use crate::error::LoadError;
use crate::imports::{GUEST, HOST, LOG};
use crate::limits;
use crate::manifest::{Manifest, ManifestError, SECTION, TYPES_SECTION};

/// The properties of a component that are visible without compiling it.
#[derive(Default)]
pub(crate) struct Inspected<'a> {
    pub manifest: Option<&'a [u8]>,
    pub types: Option<&'a [u8]>,
    pub imports: Vec<&'a str>,
    pub exports_guest: bool,
}

/// Inspects the sections of a component. Nested sections are inspected only for their depth.
///
/// # Errors
/// Returns why the bytes are not a component that this sandbox loads.
pub(crate) fn inspect(wasm: &[u8]) -> Result<Inspected<'_>, LoadError> {
    if wasm.len() > limits::COMPONENT_BYTES {
        return Err(LoadError::TooLarge { bytes: wasm.len(), most: limits::COMPONENT_BYTES });
    }
    if Engine::detect_precompiled(wasm).is_some() {
        return Err(LoadError::Precompiled);
    }
    if !wasm.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm);
    }
    let mut seen = Inspected::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        match inspect_section(wasm, payload, &mut seen, &mut depth)? {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(()) => break,
        }
    }
    Ok(seen)
}

/// Only the outermost component describes the file; the sections of nested ones are ignored.
fn inspect_section<'a>(
    wasm: &'a [u8],
    payload: Payload<'a>,
    seen: &mut Inspected<'a>,
    depth: &mut usize,
) -> Result<ControlFlow<()>, LoadError> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the other sections do not matter before compilation")]
    match payload {
        Payload::Version { encoding: Encoding::Module, .. } if *depth == 0 => return Err(LoadError::CoreModule),
        Payload::Version { .. } => {
            *depth += 1;
            if *depth > limits::COMPONENT_DEPTH {
                return Err(LoadError::Nested { what: "components", most: limits::COMPONENT_DEPTH });
            }
        }
        Payload::End(_) => {
            *depth -= 1;
            if *depth == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Payload::ComponentTypeSection(section) => check_type_depth(wasm, section.range())?,
        Payload::CustomSection(section) if *depth == 1 && section.name() == SECTION => {
            let before = seen.manifest.replace(section.data());
            if before.is_some() {
                return Err(LoadError::Manifest(ManifestError::Twice));
            }
        }
        Payload::CustomSection(section) if *depth == 1 && section.name() == TYPES_SECTION => {
            if section.data().len() > limits::TYPES_BYTES {
                let (bytes, most) = (section.data().len(), limits::TYPES_BYTES);
                return Err(LoadError::Malformed(format!(
                    "section `{TYPES_SECTION}` has {bytes} bytes; the limit is {most}"
                )));
            }
            seen.types = Some(section.data());
        }
        Payload::ComponentImportSection(section) if *depth == 1 => {
            for import in section {
                seen.imports.push(import.map_err(malformed)?.name.name);
            }
        }
        Payload::ComponentExportSection(section) if *depth == 1 => {
            for export in section {
                seen.exports_guest |= export.map_err(malformed)?.name.name == GUEST;
            }
        }
        _ => {}
    }
    Ok(ControlFlow::Continue(()))
}

fn malformed(error: BinaryReaderError) -> LoadError {
    LoadError::Malformed(error.to_string())
}

/// Reads a section of component types declaration by declaration. wasmparser reads nested instance types recursively
/// and checks the depth only afterwards, so this must run before anything else reads the types.
fn check_type_depth(wasm: &[u8], section: Range<usize>) -> Result<(), LoadError> {
    const COMPONENT_TYPE: u8 = 0x41;
    const INSTANCE_TYPE: u8 = 0x42;
    let bytes = wasm.get(section.clone()).unwrap_or_default();
    let mut reader = BinaryReader::new(bytes, section.start);
    // The number of declarations left in the section and in each open type; a type takes at least three bytes.
    let mut open = vec![reader.read_var_u32().map_err(malformed)?];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        // The section itself contains only types.
        let kind = if open.len() == 1 { DECLARED_TYPE } else { reader.read_u8().map_err(malformed)? };
        if kind != DECLARED_TYPE {
            skip_declaration(&mut reader, kind)?;
            continue;
        }
        match wasm.get(reader.original_position()) {
            Some(&(COMPONENT_TYPE | INSTANCE_TYPE)) => {
                if open.len() > limits::TYPE_DEPTH {
                    return Err(LoadError::Nested { what: "types", most: limits::TYPE_DEPTH });
                }
                reader.read_u8().map_err(malformed)?;
                open.push(reader.read_var_u32().map_err(malformed)?);
            }
            _ => skip::<ComponentType<'_>>(&mut reader)?,
        }
    }
    Ok(())
}

/// The byte before a type among the declarations of a component type or an instance type.
const DECLARED_TYPE: u8 = 0x01;

/// Reads a declaration that is not a component type; none of them contains another declaration.
fn skip_declaration(reader: &mut BinaryReader<'_>, kind: u8) -> Result<(), LoadError> {
    match kind {
        0x00 => skip::<CoreType<'_>>(reader),
        0x02 => skip::<ComponentAlias<'_>>(reader),
        0x03 => skip::<ComponentImport<'_>>(reader),
        0x04 => skip::<(ComponentExternName<'_>, ComponentTypeRef)>(reader),
        other => Err(LoadError::Malformed(format!("0x{other:02x} does not begin a declaration of a component type"))),
    }
}

fn skip<'a, T: FromReader<'a>>(reader: &mut BinaryReader<'a>) -> Result<(), LoadError> {
    reader.read::<T>().map(|_| ()).map_err(malformed)
}

pub(crate) fn check_imports(imports: &[&str], manifest: &Manifest) -> Result<(), LoadError> {
    // I7: any other import is refused before the component is compiled.
    for import in imports {
        let capability = match *import {
            HOST => continue,
            LOG => "log",
            other => {
                return Err(LoadError::Import { import: other.to_owned(), allowed: format!("`{HOST}` and `{LOG}`") });
            }
        };
        if !manifest.capabilities.iter().any(|granted| granted == capability) {
            return Err(LoadError::Capability { import: (*import).to_owned(), capability: capability.to_owned() });
        }
    }
    Ok(())
}
