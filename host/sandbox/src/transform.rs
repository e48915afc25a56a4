//! A transform that lanes can run.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::guest::Guest;
use crate::limits::Limits;
use crate::manifest::{Digest, Manifest};
use crate::terms::Terms;

/// A checked, compiled, linked and tested component. Cheap to clone.
#[derive(Clone)]
pub struct Transform(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub terms: Arc<Terms>,
    pub pre: InstancePre<Guest>,
    pub init: ComponentExportIndex,
    pub process: ComponentExportIndex,
    /// The component's message types; see [`crate::TYPES_SECTION`].
    pub types: Option<Vec<u8>>,
    pub digest: Digest,
    pub revision: Digest,
}

impl Transform {
    /// Returns the SHA-256 of the component's file.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Returns the SHA-256 of everything that a verdict depends on: the component, its effective limits and
    /// configuration, and the engine's release, since the engine defines the fuel of an instruction.
    pub fn revision_digest(&self) -> Digest {
        self.0.revision
    }

    pub fn manifest(&self) -> &Manifest {
        &self.0.terms.manifest
    }

    /// Returns the message types that the component was compiled with, as written by `tollgate build`.
    pub fn types(&self) -> Option<&[u8]> {
        self.0.types.as_deref()
    }

    /// Returns the effective limits.
    pub fn limits(&self) -> &Limits {
        &self.0.terms.limits
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({} {}, {})", self.0.terms.manifest.name, self.0.terms.manifest.version, self.0.digest)
    }
}
