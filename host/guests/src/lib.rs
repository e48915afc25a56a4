//! Tools for developing a transform before it runs in a pipeline: building it into a component, and testing it with
//! golden cases.
//!
//! transform.yaml → [`spec`] → cargo ([`toolchain`]) → module → [`component`] → one `.wasm` ([`build`]) → [`golden`]
//! cases.

pub mod build;
pub mod component;
pub mod golden;
pub mod spec;
pub mod toolchain;

use std::path::PathBuf;

pub use build::{Built, build};
pub use spec::{SPEC_FILE, Spec};

/// Returns the transforms' folders among `given`: a folder without a transform.yaml stands for its subfolders that have
/// one.
pub fn folders(given: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in given {
        let mut inside = Vec::new();
        if !folder.join(SPEC_FILE).exists() {
            let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
            inside.extend(entries.map(|entry| entry.path()).filter(|path| path.join(SPEC_FILE).exists()));
            inside.sort();
        }
        // If there is none at all, reading its transform.yaml reports that.
        if inside.is_empty() {
            inside.push(folder.clone());
        }
        folders.extend(inside);
    }
    folders
}

#[cfg(test)]
mod tests;
