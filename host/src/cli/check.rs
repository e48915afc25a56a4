//! `tollgate check`: checks whether contracts are compatible with an earlier version. It is made for CI: findings have
//! a file and line.
//!
//! The steps:
//!
//! - [`versions`] loads the two versions.
//! - [`compare`](versions::Earlier::compare) finds what changed.
//! - [`sink`] finds what the changes break in a pipeline.
//! - [`lock`] finds released versions that changed silently.
//! - [`notice`] finds elements that were removed without having been deprecated.
//! - [`suppress`] removes the findings that the project suppresses.
//! - [`report`] shows the rest.

pub mod git;
pub mod lock;
pub mod notice;
pub mod pipelines;
pub mod report;
pub mod sink;
pub mod strictness;
pub mod suppress;
pub mod versions;

use std::path::PathBuf;

use prost_reflect::DescriptorPool;
use tollgate_compat::{Finding, Options, Severity};

use super::{Format, Success};
pub use strictness::{Direction, Level};
use tollgate_config::error::{Exit, Failure};

use report::Report;
use suppress::Settings;
use versions::{Against, Asked, Version};

/// Checks whether contracts are compatible with an earlier version. Exit code 0: they are; 1: they are not; 2: the
/// check itself failed. For CI, --output also accepts sarif (code scanning) and github (annotations).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Contracts to check: folders of .proto files, .proto files, descriptor sets, or pipeline files, which name their
    /// protos.
    #[arg(value_name = "PATH", default_value = "proto")]
    pub paths: Vec<PathBuf>,
    /// Earlier version: a git ref (origin/main, v1.2, HEAD~1), a folder, a descriptor set, or registry:SUBJECT. May be
    /// given several times. Write git:REF if a folder has the same name as the ref.
    #[arg(long, required = true, value_name = "VERSION")]
    pub against: Vec<String>,
    /// Pipeline file whose table and transforms must keep working with the contracts.
    #[arg(long, value_name = "FILE")]
    pub pipeline: Vec<PathBuf>,
    /// What must stay compatible: binary events (wire), JSON events too (wire-json), code generated from a package, or
    /// from a file. Default: wire-json.
    #[arg(long, value_enum, value_name = "CATEGORY")]
    pub category: Option<Level>,
    /// Which consumers must keep working. backward: new ones with old events; forward: old ones with new events; full:
    /// both. With _transitive, all versions of a registry's subject count, not only the last. Default: full.
    #[arg(long, value_enum, value_name = "MODE")]
    pub mode: Option<Direction>,
    /// Fail on warnings too.
    #[arg(long)]
    pub strict: bool,
    /// File with suppressions and settings. Default: tollgate-check.yaml, if it exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File with the released versions. Default: the first contracts.lock that exists in the current directory, in the
    /// folder of a PATH, or in that folder's parent.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// The registry for `registry:SUBJECT`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RegistryArgs {
    /// URL of the schema registry for registry:SUBJECT and registry:SUBJECT:VERSION; separate several by commas.
    #[arg(long, env = "TOLLGATE_REGISTRY", value_name = "URL", value_delimiter = ',')]
    pub registry: Vec<String>,
    /// User name for the registry; its password is in TOLLGATE_REGISTRY_PASSWORD. Or set a bearer token in
    /// TOLLGATE_REGISTRY_TOKEN.
    #[arg(long, env = "TOLLGATE_REGISTRY_USER", value_name = "NAME")]
    pub registry_user: Option<String>,
    /// PEM file of the certificate authorities to trust for the registry instead of the default ones.
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Option<PathBuf>,
}

/// # Errors
/// Fails with exit code 1 if the contracts are not compatible, 2 if the check itself failed.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
pub fn run(args: &Args, format: Format) -> Result<Success, Failure> {
    check(args, format).map_err(|failure| match failure.exit {
        // A CI job distinguishes "incompatible" from "not checked" by the exit code, so nothing else may be 1.
        Exit::Failed if failure.code == report::INCOMPATIBLE => failure,
        _ => Failure { exit: Exit::Configuration, ..failure },
    })
}

fn check(args: &Args, format: Format) -> Result<Success, Failure> {
    let settings = Settings::load(args.config.as_deref())?;
    let level = args.category.or(settings.category).unwrap_or(Level::WireJson);
    let direction = args.mode.or(settings.mode).unwrap_or(Direction::Full);
    let options = Options { level: level.category(), mode: direction.mode() };
    let pipelines = pipelines::pipelines(args)?;
    let paths = versions::proto_paths(&args.paths, &pipelines)?;
    let new = Version::compile(&paths).map_err(|(error, places)| report::uncompiled(&error, &places, format))?;
    let lock_file = args.lock.clone().or_else(|| lock::find(&paths));

    let mut findings: Vec<Finding> = Vec::new();
    let mut notes = Vec::new();
    for against in &args.against {
        let against = Against::parse(against)?;
        let asked = Asked {
            paths: &paths,
            lock: lock_file.as_deref(),
            transitive: direction.is_transitive(),
            new: &new.pool,
            registry: &args.registry,
        };
        for old in versions::load(&against, &asked)? {
            notes.extend(old.note.clone());
            let Some(pool) = &old.pool else { continue };
            let mut found = old.compare(&new.pool, options);
            for pipeline in &pipelines {
                found.extend(sink::compare(pipeline, pool, &new.pool, &mut notes));
            }
            if let Some(releases) = settings.deprecate_for {
                found.extend(notice::removed(releases, lock_file.as_deref(), pool, &new.pool)?);
            }
            found.retain(|finding| !findings.iter().any(|known| same(known, finding)));
            findings.extend(found);
            findings.extend(lock::history(lock_file.as_deref(), old.lock.as_deref())?);
        }
    }
    findings.extend(lock::current(lock_file.as_deref(), &new.pool)?);
    let today = suppress::today();
    let (findings, suppressed) = suppress::apply(&settings, findings, &today);
    let report = Report {
        against: args.against.clone(),
        category: level.category().as_str(),
        mode: direction.name(),
        strict: args.strict || settings.strict,
        findings,
        suppressed,
        notes,
        places: new.places,
    };
    report.conclude(format)
}

/// Returns whether two findings report the same change: several versions of a registry may yield it.
fn same(a: &Finding, b: &Finding) -> bool {
    a.rule == b.rule && a.element == b.element && a.message == b.message
}

/// Returns the number of findings of a severity.
fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

/// Returns the top-level message types of the project itself, sorted by name.
pub fn messages(pool: &DescriptorPool) -> Vec<prost_reflect::MessageDescriptor> {
    let mut messages: Vec<_> = pool
        .all_messages()
        .filter(|message| message.parent_message().is_none())
        .filter(|message| tollgate_compat::is_own(&message.parent_file()))
        .collect();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    messages
}
