//! A transform that lanes can run.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::guest::Guest;
use crate::limits::Limits;
use crate::manifest::{Digest, Manifest};
use crate::terms::Terms;

/// A component that was checked, compiled, linked and tried. Cheap to clone.
#[derive(Clone)]
pub struct Transform(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub terms: Arc<Terms>,
    pub pre: InstancePre<Guest>,
    pub init: ComponentExportIndex,
    pub process: ComponentExportIndex,
    /// See [`crate::TYPES_SECTION`].
    pub types: Option<Vec<u8>>,
    pub digest: Digest,
    pub revision: Digest,
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
        &self.0.terms.manifest
    }

    /// The message types that the component was compiled with, as `tollgate build` wrote them.
    pub fn types(&self) -> Option<&[u8]> {
        self.0.types.as_deref()
    }

    /// The limits that hold.
    pub fn limits(&self) -> &Limits {
        &self.0.terms.limits
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({} {}, {})", self.0.terms.manifest.name, self.0.terms.manifest.version, self.0.digest)
    }
}
