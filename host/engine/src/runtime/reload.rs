//! Hot swap: the changed components are loaded, checked and compiled here, outside the lanes; every lane switches to
//! the new revision at its next batch. After any failure the old revision keeps running.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tollgate_sandbox::Sandbox;

use super::build::{self, ProtoCompiler, RevisionError};
use crate::brakes::Brakes;
use crate::metrics::Metrics;
use crate::progress::halts::{self, Resumed};
use crate::sinks::postgres::connect;
use tollgate_config::error::Failure;
use tollgate_config::{ConfigErrors, EventType as TypeSpec, Pipeline};
use tollgate_decide::contracts::{changes, contracts, envelope};
use tollgate_decide::gate::change::Changes;
use tollgate_decide::gate::envelope::Envelope;
use tollgate_decide::gate::{EventType, Gate, Revision};

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "swap")]
pub enum Reloaded {
    /// The files match the running revision.
    Unchanged {
        digest: String,
    },
    Taken {
        number: u64,
        digest: String,
    },
}

/// The reason why a reload was rejected. The old revision stays active.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("restart needed: `{section}` has changed, and only transforms can be replaced while the pipeline runs")]
    Restart { section: &'static str },
    #[error("restart needed: the contract's .proto files have changed")]
    ContractChanged,
    #[error(transparent)]
    Contract(#[from] Failure),
    #[error(transparent)]
    Revision(#[from] RevisionError),
    #[error("the compilation did not finish: {0}")]
    Unfinished(#[from] tokio::task::JoinError),
    /// The new revision is active, but the pause that it ends is still stored.
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] sqlx::Error),
}

/// A reload that was rejected.
#[derive(Debug, Clone)]
pub struct Refused {
    pub error: Arc<ReloadError>,
    pub at: SystemTime,
}

/// Creates new revisions for the lanes.
pub struct Reloader {
    gate: Arc<Gate>,
    revision: Arc<ArcSwap<Revision>>,
    sandbox: Sandbox,
    compiler: ProtoCompiler,
    brakes: Arc<Brakes>,
    metrics: Arc<Metrics>,
    /// A lock that allows one reload at a time.
    one: Mutex<()>,
    /// The last reload, if it was rejected.
    refused: std::sync::Mutex<Option<Refused>>,
}

impl Reloader {
    pub fn new(
        gate: Arc<Gate>,
        revision: Arc<ArcSwap<Revision>>,
        sandbox: Sandbox,
        compiler: ProtoCompiler,
        brakes: Arc<Brakes>,
        metrics: Arc<Metrics>,
    ) -> Reloader {
        Reloader {
            gate,
            revision,
            sandbox,
            compiler,
            brakes,
            metrics,
            one: Mutex::default(),
            refused: std::sync::Mutex::default(),
        }
    }

    /// Returns the last reload if it was rejected.
    pub fn refused(&self) -> Option<Refused> {
        self.refused.lock().ok().and_then(|last| last.clone())
    }

    /// Reads pipeline.yaml and the components again.
    ///
    /// # Errors
    /// After an error the old revision stays in use.
    pub async fn reload(self: &Arc<Reloader>) -> Result<Reloaded, Arc<ReloadError>> {
        let _one = self.one.lock().await;
        let result = self.attempt().await.map_err(Arc::new);
        if let Ok(mut last) = self.refused.lock() {
            *last = result.as_ref().err().map(|error| Refused { error: Arc::clone(error), at: SystemTime::now() });
        }
        match &result {
            Ok(Reloaded::Unchanged { .. }) => tracing::info!("reload: nothing has changed"),
            Ok(Reloaded::Taken { number, digest }) => {
                self.metrics.swapped(true, *number);
                self.metrics.describe(&self.gate.pipeline.name, digest);
                tracing::info!(number, digest, "a new revision is active");
            }
            Err(error) => {
                self.metrics.swapped(false, self.revision.load().number);
                tracing::error!(%error, "reload rejected, the old revision stays active");
            }
        }
        result
    }

    async fn attempt(self: &Arc<Reloader>) -> Result<Reloaded, ReloadError> {
        let new = Pipeline::load(&self.gate.pipeline.file)?;
        if let Some(section) = needs_restart(&self.gate.pipeline, &new) {
            return Err(ReloadError::Restart { section });
        }
        let old = self.revision.load_full();
        let compile = {
            let reloader = Arc::clone(self);
            let number = old.number + 1;
            tokio::task::spawn_blocking(move || {
                let pools = (reloader.compiler.pools)(&new)?;
                let contracts = contracts(&new, &pools)?;
                let types = &reloader.gate.types;
                let envelope = envelope(&new, &pools)?;
                let digest_of =
                    |envelope: &Option<_>| envelope.as_ref().map(|outer: &Envelope| outer.contract_digest.clone());
                let changed = digest_of(&envelope) != digest_of(&reloader.gate.envelope);
                let changes = changes(&new, &pools)?;
                let changed = changed || changes_digest(&changes) != changes_digest(&reloader.gate.changes);
                let changed = changed
                    || contracts.iter().zip(types).any(|(new, old)| !new.of_revision().same(&old.of_revision()));
                if changed {
                    return Err(ReloadError::ContractChanged);
                }
                let contracts = types.iter().map(EventType::of_revision);
                let envelope = reloader.gate.envelope.as_ref();
                Ok(build::revision(&new, contracts, envelope, &reloader.sandbox, number)?)
            })
        };
        let revision = compile.await??;
        if revision.digest == old.digest {
            return Ok(Reloaded::Unchanged { digest: revision.digest });
        }
        let taken = Reloaded::Taken { number: revision.number, digest: revision.digest.clone() };
        self.revision.store(Arc::new(revision));
        if self.brakes.paused().is_some() {
            // A swap ends the pause that a bad revision caused.
            let mut connection = connect::open(&self.gate.pipeline, "reload").await?;
            halts::end_pause(&mut connection, &self.gate.pipeline.name).await?;
        }
        self.brakes.unpause(&Resumed::default());
        Ok(taken)
    }
}

/// Returns the digest of the change event's message type, if there is one.
fn changes_digest(changes: &Option<Changes>) -> Option<&str> {
    changes.as_ref()?.proto.as_ref().map(|proto| proto.digest.as_str())
}

/// Returns a section other than the transforms that has changed.
fn needs_restart(old: &Pipeline, new: &Pipeline) -> Option<&'static str> {
    // The sandbox's pool was sized at startup.
    if new.transforms().count() > old.transforms().count().max(1) {
        return Some("transforms (more of them)");
    }
    // Routes may name topics whose sizes were never queried.
    if !old.transforms().map(|transform| &transform.routes).eq(new.transforms().map(|transform| &transform.routes)) {
        return Some("transforms.routes");
    }
    let of_types = |same: fn(&TypeSpec, &TypeSpec) -> bool| {
        old.types.len() == new.types.len() && old.types.iter().zip(&new.types).all(|(old, new)| same(old, new))
    };
    let sections = [
        ("pipeline", old.name == new.name),
        ("source", old.source == new.source),
        ("contract", old.contract == new.contract),
        ("types", of_types(same_type)),
        ("output", of_types(|old, new| old.output == new.output)),
        ("postgres", of_types(|old, new| old.mapping == new.mapping) && old.postgres == new.postgres),
        ("dead_letter", old.dead_letter == new.dead_letter),
        ("delivery", old.delivery == new.delivery),
        ("retry", old.retry == new.retry),
        ("backpressure", old.backpressure == new.backpressure),
        ("lanes", old.lanes == new.lanes),
        ("admin", old.admin == new.admin),
    ];
    sections.into_iter().find(|(_, same)| !same).map(|(section, _)| section)
}

/// Returns whether two types are read in the same way.
fn same_type(old: &TypeSpec, new: &TypeSpec) -> bool {
    old.name == new.name
        && old.message == new.message
        && old.versions == new.versions
        && old.idempotency_of == new.idempotency_of
}
