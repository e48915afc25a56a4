//! From the bytes of a component to a transform that lanes can run: looked at, compiled, linked, tried once.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use crate::chain::panic_message;
use crate::engine::Sandbox;
use crate::error::LoadError;
use crate::guest::Guest;
use crate::imports::{self, GUEST, HOST, LOG};
use crate::limits::{self, Limits, LimitsSpec};
use crate::manifest::{Digest, Manifest, SECTION, canonical};
use crate::run;

/// What a pipeline says about one of its transforms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Upper bounds: the smaller of these and the manifest's holds.
    pub ceiling: LimitsSpec,
    /// An object, laid over the manifest's configuration.
    pub config: Option<Value>,
}

/// A component that was checked, compiled, linked and tried. Cheap to clone.
#[derive(Clone)]
pub struct Transform(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub manifest: Manifest,
    pub limits: Limits,
    /// JSON, for `init`.
    pub config: Vec<u8>,
    pub pre: InstancePre<Guest>,
    pub init: ComponentExportIndex,
    pub process: ComponentExportIndex,
    /// Epochs that an event may last, and those that starting may.
    pub ticks: u64,
    pub start_ticks: u64,
    digest: Digest,
    revision: Digest,
}

impl Transform {
    /// The SHA-256 of the component's file.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The SHA-256 of all that a verdict depends on: the component, its effective limits and configuration, and the
    /// engine's release, since the fuel of an instruction is the engine's to say.
    pub fn revision_digest(&self) -> Digest {
        self.0.revision
    }

    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// The limits that hold.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({} {}, {})", self.0.manifest.name, self.0.manifest.version, self.0.digest)
    }
}

impl Sandbox {
    /// Checks a component, compiles and links it, and starts one instance to see that it does start.
    ///
    /// # Errors
    /// Says what the component is, imports, exports or does that it may not.
    pub fn load(&self, wasm: &[u8], overrides: &Overrides) -> Result<Transform, LoadError> {
        let looked = look(wasm)?;
        let manifest = looked.manifest.ok_or(LoadError::NoManifest)?;
        let manifest = Manifest::parse(manifest).map_err(LoadError::Manifest)?;
        check_imports(&looked.imports, &manifest)?;
        if !looked.exports_guest {
            return Err(LoadError::World(format!("it lacks `{GUEST}`")));
        }
        let mut limits = Limits::effective(&manifest.limits, &overrides.ceiling)?;
        limits.memory = limits.memory.min(self.settings.memory);
        limits.deadline = self.deadline(limits.deadline, limits.fuel);
        let config = config(&manifest, overrides.config.as_ref())?;

        let component = compile(&self.engine, wasm)?;
        let pre = imports::linker(&self.engine, manifest.capabilities.iter().any(|granted| granted == "log"))
            .and_then(|linker| linker.instantiate_pre(&component))
            .map_err(|error| LoadError::World(format!("{error:#}")))?;
        let digest = Digest::of(wasm);
        let loaded = Loaded {
            init: export(&component, "init")?,
            process: export(&component, "process")?,
            ticks: ticks(limits.deadline),
            start_ticks: ticks(self.deadline(limits.deadline, limits::START_FUEL)),
            revision: revision(digest, &limits, &config),
            manifest,
            limits,
            config,
            pre,
            digest,
        };
        let transform = Transform(Arc::new(loaded));
        run::try_start(&transform)?;
        Ok(transform)
    }
}

/// Compiles in this process, on a thread whose stack and panics are its own. A child process with limits of its own
/// takes this function's place: nothing else compiles.
fn compile(engine: &Engine, wasm: &[u8]) -> Result<Component, LoadError> {
    let compiled = thread::scope(|scope| {
        let thread = thread::Builder::new().name("compile".into()).stack_size(limits::COMPILER_STACK);
        let compiling = thread.spawn_scoped(scope, || Component::from_binary(engine, wasm));
        compiling
            .map_err(|error| LoadError::Compile(format!("no thread to compile on: {error}")))?
            .join()
            .map_err(|panic| LoadError::Compile(format!("the compiler panicked: {}", panic_message(&*panic))))
    });
    compiled?.map_err(|error| LoadError::Compile(format!("{error:#}")))
}

fn export(component: &Component, name: &str) -> Result<ComponentExportIndex, LoadError> {
    component
        .get_export_index(None, GUEST)
        .and_then(|guest| component.get_export_index(Some(&guest), name))
        .ok_or_else(|| LoadError::World(format!("it lacks `{GUEST}#{name}`")))
}

fn config(manifest: &Manifest, over: Option<&Value>) -> Result<Vec<u8>, LoadError> {
    match over {
        Some(over) if !over.is_object() => Err(LoadError::Config(over.to_string())),
        over => Ok(canonical(&manifest.config_under(over))),
    }
}

/// Calibrated on this machine, the deadline is not in here.
fn revision(component: Digest, limits: &Limits, config: &[u8]) -> Digest {
    let limits = serde_json::to_value(limits).map(|limits| canonical(&limits)).unwrap_or_default();
    Digest::of_parts(&[b"tollgate revision 1, wasmtime 48", component.as_bytes(), &limits, config])
}

fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / limits::TICK.as_nanos()).unwrap_or(u64::MAX / 2) + 1
}

/// What can be seen of a component without compiling it.
#[derive(Default)]
struct Looked<'a> {
    manifest: Option<&'a [u8]>,
    imports: Vec<&'a str>,
    exports_guest: bool,
}

fn look(wasm: &[u8]) -> Result<Looked<'_>, LoadError> {
    if wasm.len() > limits::COMPONENT_BYTES {
        return Err(LoadError::TooLarge { bytes: wasm.len(), most: limits::COMPONENT_BYTES });
    }
    if Engine::detect_precompiled(wasm).is_some() {
        return Err(LoadError::Precompiled);
    }
    if !wasm.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm);
    }
    let malformed = |error: wasmparser::BinaryReaderError| LoadError::Malformed(error.to_string());
    let mut looked = Looked::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        match look_at(payload, &mut looked, &mut depth)? {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(()) => break,
        }
    }
    Ok(looked)
}

/// Only the outermost component speaks for the file; what is nested in it is its own affair.
fn look_at<'a>(payload: Payload<'a>, looked: &mut Looked<'a>, depth: &mut usize) -> Result<ControlFlow<()>, LoadError> {
    let malformed = |error: wasmparser::BinaryReaderError| LoadError::Malformed(error.to_string());
    #[allow(clippy::wildcard_enum_match_arm, reason = "sections of which only these four matter before compilation")]
    match payload {
        Payload::Version { encoding: Encoding::Module, .. } if *depth == 0 => return Err(LoadError::CoreModule),
        Payload::Version { .. } => *depth += 1,
        Payload::End(_) => {
            *depth -= 1;
            if *depth == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Payload::CustomSection(section) if *depth == 1 && section.name() == SECTION => {
            let before = looked.manifest.replace(section.data());
            if before.is_some() {
                return Err(LoadError::Manifest("there are two of it".into()));
            }
        }
        Payload::ComponentImportSection(section) if *depth == 1 => {
            for import in section {
                looked.imports.push(import.map_err(malformed)?.name.name);
            }
        }
        Payload::ComponentExportSection(section) if *depth == 1 => {
            for export in section {
                looked.exports_guest |= export.map_err(malformed)?.name.name == GUEST;
            }
        }
        _ => {}
    }
    Ok(ControlFlow::Continue(()))
}

fn check_imports(imports: &[&str], manifest: &Manifest) -> Result<(), LoadError> {
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
