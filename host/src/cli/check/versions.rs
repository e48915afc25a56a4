//! Finds and compiles the two versions that are compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use tollgate_compat::{Finding, Options};

use super::RegistryArgs;
use super::git::Repository;
use crate::cli::contract::registry::Which;
use tollgate_config::error::Failure;
use tollgate_config::{Pipeline, Schema};
use tollgate_protos::ProtosError;
use tollgate_registry::api;

/// The version that `--against` names.
#[derive(Debug)]
pub enum Against {
    Git(String),
    /// A folder of `.proto` files, a `.proto` file or a descriptor set.
    Path(PathBuf),
    Registry {
        subject: String,
        version: Option<u32>,
    },
}

impl Against {
    /// # Errors
    /// Fails for `registry:` without a subject.
    pub fn parse(text: &str) -> Result<Against, Failure> {
        if let Some(subject) = text.strip_prefix("registry:") {
            // A subject may contain any characters; a number after the last colon is a version.
            let versioned = subject.rsplit_once(':').and_then(|(name, number)| Some((name, number.parse().ok()?)));
            let (subject, version) = versioned.map_or((subject, None), |(name, number)| (name, Some(number)));
            if subject.is_empty() {
                let message = "registry: needs a subject, such as registry:payment-events-value";
                return Err(Failure::configuration("check.registry", message));
            }
            return Ok(Against::Registry { subject: subject.to_owned(), version });
        }
        if let Some(reference) = text.strip_prefix("git:") {
            return Ok(Against::Git(reference.to_owned()));
        }
        let path = PathBuf::from(text);
        Ok(if path.exists() { Against::Path(path) } else { Against::Git(text.to_owned()) })
    }
}

/// The check for which an earlier version is loaded.
pub struct Asked<'a> {
    /// The paths under check.
    pub paths: &'a [PathBuf],
    pub lock: Option<&'a Path>,
    /// Whether all versions of a subject are loaded.
    pub transitive: bool,
    /// The version under check.
    pub new: &'a DescriptorPool,
    pub registry: &'a RegistryArgs,
}

/// The version under check.
pub struct Version {
    pub pool: DescriptorPool,
    pub places: Places,
}

/// An earlier version.
pub struct Earlier {
    /// The contracts, or `None` if they did not exist yet.
    pub pool: Option<DescriptorPool>,
    /// The names of its files, if it consists of folders.
    pub files: Option<BTreeSet<String>>,
    /// The text of its lock file.
    pub lock: Option<String>,
    /// A note for people that tells why there is nothing to compare.
    pub note: Option<String>,
}

impl Earlier {
    /// Returns what changed since this version. Returns nothing if the contracts did not exist yet.
    pub fn compare(&self, new: &DescriptorPool, options: Options) -> Vec<Finding> {
        match (&self.pool, &self.files) {
            (None, _) => Vec::new(),
            (Some(old), Some(files)) => tollgate_compat::compare_files(old, files, new, options),
            (Some(old), None) => tollgate_compat::compare(old, new, options),
        }
    }
}

/// Maps the name of a file in a pool to its path.
#[derive(Debug, Clone, Default)]
pub struct Places {
    paths: Vec<PathBuf>,
}

impl Places {
    /// Returns the path of an imported file, relative to the working directory, or the name itself if there is no such
    /// file.
    pub fn find(&self, file: &str) -> PathBuf {
        let roots = self
            .paths
            .iter()
            .flat_map(|path| if path.is_dir() { vec![path.as_path()] } else { path.ancestors().skip(1).collect() });
        let found = roots.map(|root| root.join(file)).find(|path| path.is_file());
        let found = found.map(|path| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path));
        found.unwrap_or_else(|| PathBuf::from(file))
    }
}

pub fn is_pipeline(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

/// Returns the paths of the contracts: the given ones, or those that the given pipelines name.
///
/// # Errors
/// Fails if a path does not exist.
pub fn proto_paths(given: &[PathBuf], pipelines: &[Pipeline]) -> Result<Vec<PathBuf>, Failure> {
    let mut paths: Vec<PathBuf> = given.iter().filter(|path| !is_pipeline(path)).cloned().collect();
    // `proto` is only the default: if it does not exist, the paths of the pipelines are used.
    let guessed = given == [PathBuf::from("proto")] && !paths.iter().all(|path| path.exists());
    if guessed && !pipelines.is_empty() {
        paths.clear();
    }
    if paths.is_empty() {
        for pipeline in pipelines {
            match &pipeline.contract.schema {
                Schema::Protos(named) => paths.extend(named.iter().map(|path| pipeline.resolve(path))),
                Schema::DescriptorSet(path) => paths.push(pipeline.resolve(path)),
            }
        }
        paths.dedup();
    }
    if guessed && !paths.is_empty() {
        let message = "there is no folder `proto` here; name the folder of your .proto files, or a pipeline file";
        return Err(Failure::configuration("check.path", message));
    }
    Ok(paths)
}

pub fn invalid(error: &ProtosError) -> Failure {
    Failure::configuration("check.protos", error)
}

impl Version {
    /// # Errors
    /// Fails if the files cannot be read or compiled.
    pub fn working_tree(paths: &[PathBuf]) -> Result<Version, Failure> {
        Version::compile(paths).map_err(|(error, _)| invalid(&error))
    }

    /// # Errors
    /// Fails if the files cannot be read or compiled. The places of the files are returned too.
    pub fn compile(paths: &[PathBuf]) -> Result<Version, (ProtosError, Places)> {
        let places = Places { paths: paths.to_vec() };
        match tollgate_protos::load_with_sources(paths) {
            Ok(pool) => Ok(Version { pool, places }),
            Err(error) => Err((error, places)),
        }
    }
}

/// Loads the earlier version that `against` names, or with `transitive` all versions of a registry's subject.
///
/// # Errors
/// Fails if a version cannot be found, read or compiled.
pub fn load(against: &Against, asked: &Asked<'_>) -> Result<Vec<Earlier>, Failure> {
    match against {
        Against::Git(reference) => from_git(reference, asked.paths, asked.lock).map(|earlier| vec![earlier]),
        Against::Path(path) => {
            let paths = std::slice::from_ref(path);
            let pool = tollgate_protos::load_with_sources(paths).map_err(|error| invalid(&error))?;
            let files = tollgate_protos::names(paths).map_err(|error| invalid(&error))?;
            let beside = [path.join(super::lock::FILE), path.join("..").join(super::lock::FILE)];
            let lock = beside.iter().filter(|_| path.is_dir()).find_map(|file| std::fs::read_to_string(file).ok());
            Ok(vec![Earlier { pool: Some(pool), files, lock, note: None }])
        }
        Against::Registry { subject, version } => from_registry(subject, *version, asked),
    }
}

fn from_registry(subject: &str, version: Option<u32>, asked: &Asked<'_>) -> Result<Vec<Earlier>, Failure> {
    let RegistryArgs { registry, registry_user, registry_ca } = asked.registry;
    if registry.is_empty() {
        let message = format!("registry:{subject}: no registry is named; give --registry URL or set TOLLGATE_REGISTRY");
        return Err(Failure::configuration("check.registry", message));
    }
    let client = Which {
        registry: registry.clone(),
        user: registry_user.clone(),
        password_env: "TOLLGATE_REGISTRY_PASSWORD".to_owned(),
        token_env: "TOLLGATE_REGISTRY_TOKEN".to_owned(),
        ca: registry_ca.clone(),
        certificate: None,
        key: None,
    };
    let client = client.client()?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::configuration("check.registry", format!("registry:{subject}: {error}"))
    };
    let versions = match version {
        Some(version) => vec![api::Version::Number(version)],
        None if asked.transitive => {
            client.versions(subject).map_err(|error| failed(&error))?.into_iter().map(api::Version::Number).collect()
        }
        None => vec![api::Version::Latest],
    };
    let mut earlier = Vec::new();
    for version in versions {
        let pool = |file: Option<&str>| {
            tollgate_registry::subject_pool(&client, subject, version, file, tollgate_protos::compile_schema)
                .map_err(|error| failed(&error))
        };
        let mut found = pool(None)?;
        // A registry stores no file name, so the name comes from the local file that holds the subject's types.
        let name = found.file.messages().find_map(|message| {
            let here = asked.new.get_message_by_name(message.full_name())?;
            Some(here.parent_file().name().to_owned())
        });
        if let Some(name) = name {
            found = pool(Some(&name))?;
        }
        earlier.push(Earlier { pool: Some(found.pool), files: None, lock: None, note: None });
    }
    Ok(earlier)
}

fn from_git(reference: &str, paths: &[PathBuf], lock: Option<&Path>) -> Result<Earlier, Failure> {
    let start = paths.first().map_or(Path::new("."), PathBuf::as_path);
    let repository = Repository::of(start)?;
    let commit = repository.commit(reference)?;
    let mut inside = Vec::new();
    for path in paths {
        let relative = repository.relative(path).ok_or_else(|| {
            let message = format!("{} is not in the git repository {}", path.display(), repository.top.display());
            Failure::configuration("check.path", message)
        })?;
        inside.push(relative);
    }
    // A single file may import from any folder above it.
    let folders = paths.iter().all(|path| path.is_dir());
    let roots: BTreeSet<String> =
        if folders { inside.iter().cloned().collect() } else { BTreeSet::from([".".to_owned()]) };
    let wanted = |name: &str| name.ends_with(".proto") || inside.iter().any(|path| path == name);
    let files = repository.list(&commit, &roots, &wanted)?;
    let lock = match lock.and_then(|lock| repository.relative(lock)) {
        Some(file) => repository.read(&commit, &[file])?.pop().flatten(),
        None => None,
    };
    let lock = lock.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let folder = tempfile::tempdir().map_err(|error| Failure::environment("environment.disk", error))?;
    write(&repository, &commit, &files, folder.path())?;
    let there: Vec<PathBuf> = inside.iter().map(|path| folder.path().join(path)).filter(|path| path.exists()).collect();
    let empty = there.iter().all(|path| path.is_dir()) && files.is_empty();
    if there.is_empty() || empty {
        let note = format!("{reference} has no {}: everything in it is new", inside.join(" or "));
        return Ok(Earlier { pool: None, files: None, lock, note: Some(note) });
    }
    let pool = tollgate_protos::load_with_sources(&there).map_err(|error| {
        let shown = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        Failure::configuration("check.protos", format!("{reference}: {shown}"))
    })?;
    let files = tollgate_protos::names(&there).map_err(|error| invalid(&error))?;
    Ok(Earlier { pool: Some(pool), files, lock, note: None })
}

fn write(repository: &Repository, commit: &str, files: &[String], folder: &Path) -> Result<(), Failure> {
    let disk = |error: std::io::Error| Failure::environment("environment.disk", error);
    for (name, content) in files.iter().zip(repository.read(commit, files)?) {
        let Some(content) = content else { continue };
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(disk)?;
        }
        std::fs::write(path, content).map_err(disk)?;
    }
    Ok(())
}
