//! What a domain developer does with a transform before it runs anywhere: make a component of it, hold it against its
//! golden cases.
//!
//! transform.yaml → [`spec`] → cargo ([`toolchain`]) → module → [`component`] → one `.wasm` ([`build`]) → [`golden`] cases.

pub mod build;
pub mod component;
pub mod spec;
pub mod toolchain;

pub use build::{Built, build};
pub use spec::{SPEC_FILE, Spec};
