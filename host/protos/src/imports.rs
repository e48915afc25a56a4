//! Reads a `.proto` file together with its imports, for registering it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tollgate_contract::{ProtoFile, Source};

use crate::{ProtosError, from_above, invalid, resolver};

/// The folder of the files that are built into every registry and client.
const BUILT_IN: &str = "google/protobuf/";

/// Reads a file and its imports; each comes after its own imports, and the file itself is the last. `roots` are the
/// folders that imports are relative to; without any, the nearest folder above the file from which all imports are
/// found.
///
/// # Errors
/// Fails if a file cannot be read or compiled.
pub fn with_imports(path: &Path, roots: &[PathBuf]) -> Result<Vec<ProtoFile>, ProtosError> {
    let unreadable = |path: &Path, source| ProtosError::Unreadable { path: path.to_owned(), source };
    std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let compiler =
        if roots.is_empty() { from_above(path, |root| compile(&[root], path))? } else { compile(roots, path)? };
    let pool = compiler.descriptor_pool();
    let mut files = Vec::new();
    for meta in compiler.files().filter(|meta| !meta.name().starts_with(BUILT_IN)) {
        let Some(file) = pool.get_file_by_name(meta.name()) else { continue };
        let place = meta.path().map(Path::to_path_buf).or_else(|| below(roots, path, meta.name()));
        let text = match place {
            Some(path) => std::fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?,
            // The file is built into this program, so there is no text. Registries accept descriptors too.
            None => BASE64_STANDARD.encode(file.encode_to_vec()),
        };
        let imports = file.dependencies().map(|import| import.name().to_owned());
        let imports = imports.filter(|name| !name.starts_with(BUILT_IN)).collect();
        files.push(ProtoFile { source: Source { name: meta.name().to_owned(), text }, imports });
    }
    Ok(files)
}

/// Finds a file that the compiler has read from a different text, such as one of an edition.
fn below(roots: &[PathBuf], path: &Path, name: &str) -> Option<PathBuf> {
    let roots = roots.iter().map(PathBuf::as_path).chain(path.ancestors().skip(1));
    roots.map(|root| root.join(name)).find(|file| file.is_file())
}

fn compile(roots: &[impl AsRef<Path>], path: &Path) -> Result<protox::Compiler, ProtosError> {
    let mut compiler = protox::Compiler::with_file_resolver(resolver(roots));
    compiler.include_imports(true).open_file(path).map_err(|error| invalid(&error))?;
    Ok(compiler)
}
