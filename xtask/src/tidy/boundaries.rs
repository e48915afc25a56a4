//! Dependencies that crates of the product must not have, directly or through others.

use std::collections::BTreeSet;

use xtask::Result;

use crate::project::{Project, capture};

const NO_IO: &[&str] = &["tokio", "rdkafka", "sqlx", "wasmtime", "ureq"];

/// A crate and the packages that must not be in its dependency tree, test dependencies included.
const BOUNDARIES: &[(&str, &[&str])] = &[
    ("tollgate-protocol", NO_IO),
    ("tollgate-contract", NO_IO),
    ("tollgate-compat", &["tollgate-engine", "wasmtime", "rdkafka"]),
    ("tollgate-config", &["rdkafka", "sqlx", "wasmtime"]),
    ("tollgate-protos", &["tollgate-engine", "wasmtime"]),
    ("tollgate-registry", &["tollgate-engine"]),
    ("tollgate-decide", &["tollgate-registry", "ureq", "rdkafka", "sqlx", "tokio"]),
    ("tollgate-sandbox", &["rdkafka", "sqlx"]),
    ("tollgate-guests", &["rdkafka", "sqlx"]),
    ("tollgate-producer", &["tollgate-engine", "wasmtime", "sqlx"]),
    ("tollgate-engine", &["clap", "indicatif", "protox"]),
];

/// Returns a line for each dependency that crosses a boundary.
pub(super) fn crossed(project: &Project) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (name, forbidden) in BOUNDARIES {
        let tree = capture(&mut project.cargo(&["tree", "--locked", "--package", name, "--prefix", "none"]))?;
        let packages = packages(&tree);
        let crossed = forbidden.iter().filter(|package| packages.contains(**package));
        faults.extend(crossed.map(|package| {
            format!("{name} must not depend on {package}; see `cargo tree --package {name} --invert {package}`")
        }));
    }
    Ok(faults)
}

/// Reads the package names from lines of `cargo tree`: `name v1.2.3 (path)`.
fn packages(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_with_their_marks() {
        let tree = "tollgate-engine v0.1.0 (/w/host/engine)\nserde v1.0.0 (*)\n[dev-dependencies]\nproptest v1.9.0\n";
        let found = packages(tree);
        assert!(["tollgate-engine", "serde", "proptest"].into_iter().all(|name| found.contains(name)), "{found:?}");
    }
}
