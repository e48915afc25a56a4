//! `tollgate build`: builds a folder with a crate and a transform.yaml into one `.wasm`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tollgate_sandbox::{Digest, Manifest};

use super::component::{self, ComponentError};
use super::spec::{SPEC_FILE, Spec};
use super::toolchain::{self, ToolchainError};
use tollgate_config::ConfigErrors;
use tollgate_config::error::Exit;
use tollgate_decide::types::MessageTypes;
use tollgate_protos::ProtosError;

/// A component and its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    pub file: PathBuf,
    pub bytes: usize,
    pub digest: Digest,
    pub manifest: Manifest,
    /// SHA-256 of the message types that it was compiled with.
    pub types: String,
    /// Whether the file has changed. A file that already has the same bytes is not written, to avoid a needless reload.
    pub changed: bool,
}

/// The reason why a folder could not be built into a component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Spec(#[from] ConfigErrors),
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    #[error("{package}: {source}{}", via(.culprit.as_deref()))]
    Component { package: String, source: ComponentError, culprit: Option<String> },
    #[error(transparent)]
    Protos(#[from] ProtosError),
    #[error("{}: there is no message type `{message}` in {}, which `protos` names", file.display(), protos.display())]
    Message { file: PathBuf, message: String, protos: PathBuf },
    #[error("cannot write {}: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
}

fn via(culprit: Option<&str>) -> String {
    culprit.map(|chain| format!("; it is pulled in by {chain}")).unwrap_or_default()
}

impl BuildError {
    /// Returns the exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            BuildError::Spec(_)
            | BuildError::Toolchain(ToolchainError::Package(_))
            | BuildError::Protos(_)
            | BuildError::Message { .. } => Exit::Configuration,
            BuildError::Toolchain(ToolchainError::Start { .. } | ToolchainError::NoStd)
            | BuildError::Write { .. }
            | BuildError::Read { .. } => Exit::Environment,
            BuildError::Toolchain(ToolchainError::Compile { .. }) | BuildError::Component { .. } => Exit::Failed,
        }
    }
}

/// Builds the transform in `folder` into `output`, or `folder`/`name`.wasm. With `names`, function names are kept.
/// The file is written atomically: to a temporary file, which is then renamed.
///
/// # Errors
/// Returns the error of the part that failed; an existing file is untouched then.
pub fn build(folder: &Path, output: Option<&Path>, names: bool) -> Result<Built, BuildError> {
    let Spec { mut manifest, protos } = Spec::read(folder)?;
    let package = toolchain::package(folder)?;
    let types = message_types(folder, &manifest, &protos)?;
    manifest.version.clone_from(&package.version);
    manifest.commit = toolchain::commit(folder, &protos);

    let module = toolchain::compile(folder, &package)?;
    let bytes = std::fs::read(&module).map_err(|source| BuildError::Read { file: module.clone(), source })?;
    let component = component::componentize(&bytes, &manifest, &types, names).map_err(|source| {
        let foreign = matches!(source, ComponentError::Imports { .. });
        let suspects = ["wasm-bindgen", "wasi", "getrandom", "libc"];
        let culprit = foreign.then(|| toolchain::culprit(folder, &suspects)).flatten();
        BuildError::Component { package: package.name.clone(), source, culprit }
    })?;

    let file = output.map_or_else(|| folder.join(format!("{}.wasm", manifest.name)), Path::to_path_buf);
    let changed = std::fs::read(&file).ok().as_deref() != Some(component.as_slice());
    if changed {
        write(&file, &component).map_err(|source| BuildError::Write { file: file.clone(), source })?;
    }
    Ok(Built {
        file,
        bytes: component.len(),
        digest: Digest::of(&component),
        manifest,
        types: types.digest().to_owned(),
        changed,
    })
}

/// Returns the types that the transform takes and emits, as defined in its `.proto` files.
fn message_types(folder: &Path, manifest: &Manifest, protos: &Path) -> Result<MessageTypes, BuildError> {
    let pool = tollgate_protos::load(&[protos.to_path_buf()])?;
    let message = |name: &str| {
        pool.get_message_by_name(name).ok_or_else(|| BuildError::Message {
            file: folder.join(SPEC_FILE),
            message: name.to_owned(),
            protos: protos.to_path_buf(),
        })
    };
    let named = std::iter::once(manifest.input.as_str()).chain(manifest.emitted());
    Ok(MessageTypes::of(&named.map(message).collect::<Result<Vec<_>, _>>()?))
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = tollgate_config::reader::folder_of(file);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tollgate-build-");
    // A temporary file is private; a component must be readable by others.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut temporary = builder.tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    Ok(())
}
