//! `tollgate test`: runs golden cases. Each is an event with its expected outcome. It runs alone in the real sandbox,
//! and the engine's contract checks apply before and after the transform.
//!
//! A case is one YAML file in the transform's folder `cases/`. Its last key, `expect`, is the golden part: `--update`
//! rewrites it and leaves every line above it unchanged.

mod case;
mod diff;
mod gate;
mod outcome;
mod yaml;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost_reflect::{DescriptorPool, MessageDescriptor};
use serde_json::Value;
use tollgate_sandbox::{Chain, Digest, LoadError, Manifest, Overrides, Results, RunError, Sandbox, Transform};

use super::Spec;
use case::Case;
pub use diff::Difference;
use gate::Gate;
use tollgate_config::ConfigErrors;
use tollgate_config::error::Exit;
use tollgate_decide::types::{self, Stale};
use tollgate_protos::ProtosError;

/// The folder of cases within the transform's.
pub const CASES: &str = "cases";
/// The ratio of a suggested limit to the highest fuel that any case used: production events are larger than test
/// events.
const HEADROOM: u64 = 4;

/// The options of a test run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether to write the actual outcome into the cases whose expectation differs.
    pub update: bool,
    /// If set, runs only cases whose name contains this text.
    pub filter: Option<String>,
}

/// The results of the cases of one transform.
#[derive(Debug, Clone)]
pub struct Report {
    pub name: String,
    pub component: PathBuf,
    pub digest: Digest,
    pub cases: Vec<CaseReport>,
    /// The compatible differences between the types that it was compiled with and those of its `.proto` files.
    pub notices: Vec<String>,
    /// The effective limit.
    pub fuel_limit: u64,
}

/// The result of one case.
#[derive(Debug, Clone)]
pub struct CaseReport {
    pub name: String,
    pub file: PathBuf,
    pub fuel: u64,
    /// Whether it never reached the transform, or the sandbox ended it. Its fuel then tells nothing about what events
    /// need.
    pub failed: bool,
    pub differences: Vec<Difference>,
    /// Whether its expectation was rewritten.
    pub updated: bool,
}

impl CaseReport {
    /// Returns whether the outcome was as expected, or is now the expectation.
    pub fn ok(&self) -> bool {
        self.differences.is_empty() || self.updated
    }
}

impl Report {
    pub fn ok(&self) -> bool {
        self.cases.iter().all(CaseReport::ok)
    }

    /// Returns the most fuel used by a case that the sandbox did not end.
    pub fn highest_fuel(&self) -> u64 {
        self.cases.iter().filter(|case| !case.failed).map(|case| case.fuel).max().unwrap_or(0)
    }

    /// Returns a limit derived from the cases, rounded to two digits.
    pub fn suggested_fuel(&self) -> u64 {
        let limit = self.highest_fuel().saturating_mul(HEADROOM);
        let mut unit = 1_u64;
        while limit / unit >= 100 {
            unit *= 10;
        }
        limit.div_ceil(unit) * unit
    }
}

/// The reason why cases could not be run or written.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// Errors of transform.yaml, or of all cases at once.
    #[error("{}", lines(.0))]
    Files(Vec<ConfigErrors>),
    #[error("{}: {message}", file.display())]
    File { file: PathBuf, message: String },
    #[error("{} cannot be read: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} cannot be written: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Protos(#[from] ProtosError),
    #[error("{} is rejected: {source}", component.display())]
    Load { component: PathBuf, source: LoadError },
    #[error("{} {source}", component.display())]
    Stale { component: PathBuf, source: Stale },
    #[error("{}: {source}", file.display())]
    Run { file: PathBuf, source: RunError },
}

fn lines(errors: &[ConfigErrors]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl GoldenError {
    /// Returns the exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            GoldenError::Files(_)
            | GoldenError::File { .. }
            | GoldenError::Read { .. }
            | GoldenError::Protos(_)
            | GoldenError::Load { .. }
            | GoldenError::Stale { .. } => Exit::Configuration,
            GoldenError::Run { .. } => Exit::Failed,
            GoldenError::Write { .. } => Exit::Environment,
        }
    }
}

/// The message types in a transform's cases.
struct Types {
    input: MessageDescriptor,
    /// The type of the main output, followed by that of each route.
    outputs: Vec<MessageDescriptor>,
}

impl Types {
    /// Returns the type of an output on this route; 0 is the main output.
    fn output(&self, route: u32) -> Option<&MessageDescriptor> {
        usize::try_from(route).ok().and_then(|route| self.outputs.get(route))
    }
}

/// Runs the cases of the transform in `folder` on `component`. The calling thread needs a stack of
/// [`tollgate_sandbox::limits::THREAD_STACK`].
///
/// # Errors
/// Fails if files are invalid (all errors are reported at once), the component is rejected, or a case cannot be
/// written.
pub fn test(sandbox: &Sandbox, folder: &Path, component: &Path, options: &Options) -> Result<Report, GoldenError> {
    let spec = Spec::read(folder).map_err(|errors| GoldenError::Files(vec![errors]))?;
    let wasm = read(component)?;
    let mut transforms = Transforms { sandbox, component, wasm, loaded: HashMap::new() };
    let transform = transforms.with(None)?;
    let manifest = transform.manifest();
    let pool = tollgate_protos::load(&[spec.protos])?;
    let outputs = manifest.emitted().map(|name| message(&pool, folder, name)).collect::<Result<_, _>>()?;
    let types = Types { input: message(&pool, folder, &manifest.input)?, outputs };
    let gate = Gate::new(&pool, manifest).map_err(|source| GoldenError::File {
        file: folder.join(super::SPEC_FILE),
        message: format!("its contracts do not compile: {source}"),
    })?;
    let notices = types::compare(&transform, &pool)
        .map_err(|source| GoldenError::Stale { component: component.to_path_buf(), source })?;
    let cases = read_cases(folder, (&types, manifest), options)?;
    let mut reports = Vec::with_capacity(cases.len());
    for case in cases {
        let transform = transforms.with(case.config.clone())?;
        reports.push(run(&case, &transform, &types, &gate, options.update)?);
    }
    Ok(Report {
        name: manifest.name.clone(),
        component: component.to_path_buf(),
        digest: transform.digest(),
        cases: reports,
        notices,
        fuel_limit: transform.limits().fuel,
    })
}

fn message(pool: &DescriptorPool, folder: &Path, name: &str) -> Result<MessageDescriptor, GoldenError> {
    pool.get_message_by_name(name).ok_or_else(|| GoldenError::File {
        file: folder.join(super::SPEC_FILE),
        message: format!("there is no message type `{name}` in the folder that `protos` names"),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, GoldenError> {
    std::fs::read(file).map_err(|source| GoldenError::Read { file: file.to_path_buf(), source })
}

/// One component for each configuration that cases use. They are cached, because compiling is slow.
struct Transforms<'a> {
    sandbox: &'a Sandbox,
    component: &'a Path,
    wasm: Vec<u8>,
    loaded: HashMap<String, Transform>,
}

impl Transforms<'_> {
    fn with(&mut self, config: Option<Value>) -> Result<Transform, GoldenError> {
        let key = config.as_ref().map(Value::to_string).unwrap_or_default();
        if let Some(transform) = self.loaded.get(&key) {
            return Ok(transform.clone());
        }
        let overrides = Overrides { config, ..Overrides::default() };
        let transform = self
            .sandbox
            .load(&self.wasm, &overrides)
            .map_err(|source| GoldenError::Load { component: self.component.to_path_buf(), source })?;
        self.loaded.insert(key, transform.clone());
        Ok(transform)
    }
}

/// Reads all cases, ordered by name.
fn read_cases(folder: &Path, types: (&Types, &Manifest), options: &Options) -> Result<Vec<Case>, GoldenError> {
    let cases = folder.join(CASES);
    let unreadable = |source| GoldenError::Read { file: cases.clone(), source };
    let mut files = Vec::new();
    for entry in cases.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let wanted = options.filter.as_ref().is_none_or(|part| case::name_of(&path).contains(part.as_str()));
        if yaml && wanted {
            files.push(path);
        }
    }
    if files.is_empty() {
        let message = match &options.filter {
            Some(part) => format!("no case has `{part}` in its name"),
            None => "no cases: write one as NAME.yaml, with an event and the expected result".to_owned(),
        };
        return Err(GoldenError::File { file: cases, message });
    }
    files.sort();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for file in files {
        match Case::read(&file, types, options.update) {
            Ok(case) => good.push(case),
            Err(errors) => bad.push(errors),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(GoldenError::Files(bad)) }
}

fn run(
    case: &Case,
    transform: &Transform,
    types: &Types,
    gate: &Gate,
    update: bool,
) -> Result<CaseReport, GoldenError> {
    let (got, fuel) = match gate.admit(case) {
        Ok(()) => outcome_of(case, transform, types, gate)?,
        Err(reason) => (outcome::refusal(&reason), 0),
    };
    // An event that never reached the transform, or was ended in it, does not show how much fuel is enough.
    let failed = fuel == 0 || got.get("verdict").is_some_and(|verdict| verdict == "fail");
    let differences = diff::compare(&case.expect, &got, case.fuel_tolerance);
    let updated = update && !differences.is_empty();
    if updated {
        let text = case
            .rewritten(&got)
            .map_err(|misplaced| GoldenError::File { file: case.file.clone(), message: misplaced.to_string() })?;
        std::fs::write(&case.file, text).map_err(|source| GoldenError::Write { file: case.file.clone(), source })?;
    }
    Ok(CaseReport { name: case::name_of(&case.file), file: case.file.clone(), fuel, failed, differences, updated })
}

/// Returns the outcome of an event that its contract accepts, and the fuel it took: the chain's outcome, unless the
/// contract of an output rejects it.
fn outcome_of(case: &Case, transform: &Transform, types: &Types, gate: &Gate) -> Result<(Value, u64), GoldenError> {
    let chain = Chain::new(vec![transform.clone()]);
    let events = Arc::new(case.events());
    let mut results = Results::default();
    chain
        .run(&case.meta, &events, &mut results)
        .map_err(|source| GoldenError::Run { file: case.file.clone(), source })?;
    let fuel = results.fuel.first().copied().unwrap_or(0);
    let mut got = match gate.emit(case, &results, &events) {
        Ok(()) => outcome::describe(&results, &events, transform.manifest(), types),
        Err(reason) => outcome::refusal(&reason),
    };
    got["fuel"] = fuel.into();
    Ok((got, fuel))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_suggested_limit_is_four_times_the_highest_in_two_digits() {
        for (fuel, suggested) in [(0, 0), (1, 4), (24, 96), (25, 100), (1_234, 5_000), (4_900, 20_000), (4_379, 18_000)]
        {
            let case = CaseReport {
                name: String::new(),
                file: PathBuf::new(),
                fuel,
                failed: false,
                differences: Vec::new(),
                updated: false,
            };
            let report = Report {
                name: String::new(),
                component: PathBuf::new(),
                digest: Digest::of(b""),
                cases: vec![case],
                notices: Vec::new(),
                fuel_limit: 1,
            };
            assert_eq!(report.suggested_fuel(), suggested, "{fuel}");
        }
    }
}
