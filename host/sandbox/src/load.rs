//! Turns the bytes of a component into a transform that lanes can run: inspects, compiles, links, and starts it once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use wasmtime::component::{Component, ComponentExportIndex};

use crate::compile;
use crate::engine::Sandbox;
use crate::error::LoadError;
use crate::imports::{self, GUEST};
use crate::inspect::{check_imports, inspect};
use crate::limits::{self, Limits, LimitsSpec};
use crate::manifest::{Digest, Manifest, canonical};
use crate::run;
use crate::terms::Terms;
use crate::transform::{Loaded, Transform};

/// A pipeline's settings for one of its transforms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Upper limits: the smaller of these and the manifest's applies.
    pub ceiling: LimitsSpec,
    /// An object that is merged over the manifest's configuration.
    pub config: Option<Value>,
    /// CPU time for the compiler process; `None` for the [`limits::compile_time`] of the component's size.
    pub compile_time: Option<Duration>,
}

impl Sandbox {
    /// Checks a component, compiles and links it, and starts one instance to verify that it starts.
    ///
    /// # Errors
    /// Returns what the component is, imports, exports or does that is not allowed.
    pub fn load(&self, wasm: &[u8], overrides: &Overrides) -> Result<Transform, LoadError> {
        let seen = inspect(wasm)?;
        let types = seen.types.map(<[u8]>::to_vec);
        let manifest = seen.manifest.ok_or(LoadError::NoManifest)?;
        let manifest = Manifest::parse(manifest).map_err(LoadError::Manifest)?;
        check_imports(&seen.imports, &manifest)?;
        if !seen.exports_guest {
            return Err(LoadError::World(format!("it lacks `{GUEST}`")));
        }
        let mut limits = Limits::effective(&manifest.limits, &overrides.ceiling)?;
        limits.memory = limits.memory.min(self.settings.memory);
        limits.deadline = self.deadline(limits.deadline, limits.fuel);
        let config = config(&manifest, overrides.config.as_ref())?;

        let cpu = overrides.compile_time.unwrap_or_else(|| limits::compile_time(wasm.len()));
        let component = compile::component(&self.engine, self.settings.stack, wasm, cpu)?;
        let pre = imports::linker(&self.engine, manifest.capabilities.iter().any(|granted| granted == "log"))
            .and_then(|linker| linker.instantiate_pre(&component))
            .map_err(|error| LoadError::World(format!("{error:#}")))?;
        let digest = Digest::of(wasm);
        let loaded = Loaded {
            init: export(&component, "init")?,
            process: export(&component, "process")?,
            revision: revision(digest, &limits, &config),
            terms: Arc::new(Terms {
                ticks: limits::ticks(limits.deadline),
                start_ticks: limits::ticks(self.deadline(limits.deadline, limits::START_FUEL)),
                manifest,
                limits,
                config,
            }),
            types,
            pre,
            digest,
        };
        let transform = Transform(Arc::new(loaded));
        run::try_start(&transform)?;
        Ok(transform)
    }
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

/// Returns the digest of a revision. It excludes the deadline, because that is calibrated on this machine.
fn revision(component: Digest, limits: &Limits, config: &[u8]) -> Digest {
    let limits = serde_json::to_value(limits).map(|limits| canonical(&limits)).unwrap_or_default();
    Digest::of_parts(&[b"tollgate revision 2, wasmtime 48", component.as_bytes(), &limits, config])
}
