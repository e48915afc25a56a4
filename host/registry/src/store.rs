//! Maps ids to compiled schemas, for lanes that look up every frame.
//!
//! The map's lock is held only for a lookup. A thread that finds nothing puts a *flight* into the map and fetches; a
//! thread that finds a flight waits for it and takes its outcome, good or bad, so that an outage costs one round of
//! attempts and not one per lane. Certain outcomes are kept (a schema, one that does not compile, for a while an id
//! that does not exist). An outage leaves nothing behind, so the next caller tries again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tollgate_contract::frame::SchemaId;
use tollgate_contract::{CompileSchema, Source};

use super::cache::Cache;
use super::{Client, ConfigFault, Schema, SchemaError};
use tollgate_config::registry::Config;

type Outcome = Result<Arc<Schema>, SchemaError>;

/// Compiled schemas by id. Share it in an `Arc`.
pub struct SchemaStore {
    client: Client,
    compile: CompileSchema,
    cache: Option<Cache>,
    entries: Mutex<HashMap<SchemaId, Entry>>,
    /// Counts lookups, to choose which entry to evict.
    clock: AtomicU64,
    counts: Counts,
}

enum Entry {
    Flying(Arc<Flight>),
    Kept {
        outcome: Outcome,
        /// Until when an id counts as unknown.
        until: Option<Instant>,
        used: u64,
    },
}

/// A fetch in progress.
#[derive(Default)]
struct Flight {
    outcome: Mutex<Option<Outcome>>,
    landed: Condvar,
}

#[derive(Default)]
struct Counts {
    fetched: AtomicU64,
    read: AtomicU64,
    missing: AtomicU64,
    failed: AtomicU64,
}

/// Statistics of the store since its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// The number of schemas from the registry.
    pub fetched: u64,
    /// The number of schemas from the disk.
    pub read: u64,
    /// The number of times that the registry did not know an id.
    pub missing: u64,
    /// The number of fetches that ended in an outage or a rejection.
    pub failed: u64,
    /// The number of schemas and errors in memory now.
    pub kept: usize,
}

impl SchemaStore {
    /// Creates a store. It makes no request yet. `compile` compiles the schemas' text.
    ///
    /// # Errors
    /// Fails as [`Client::new`] does, and if the cache folder cannot be created.
    pub fn new(config: Config, compile: CompileSchema) -> Result<SchemaStore, ConfigFault> {
        let client = Client::new(config)?;
        let config = client.config();
        let cache = match (&config.cache_dir, config.urls.first()) {
            (Some(folder), Some(url)) => Some(Cache::open(folder, url)?),
            _ => None,
        };
        Ok(SchemaStore {
            client,
            compile,
            cache,
            entries: Mutex::default(),
            clock: AtomicU64::new(0),
            counts: Counts::default(),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the schema of an id. A known id is a map lookup; otherwise this blocks for the registry, at most
    /// `patience`.
    ///
    /// # Errors
    /// See [`SchemaError::class`] for what to do about each.
    pub fn schema(&self, id: SchemaId) -> Outcome {
        let flight = {
            let mut entries = locked(&self.entries);
            match entries.get_mut(&id) {
                Some(Entry::Kept { outcome, until, used }) if until.is_none_or(|until| Instant::now() < until) => {
                    *used = self.clock.fetch_add(1, Ordering::Relaxed);
                    return outcome.clone();
                }
                Some(Entry::Flying(flight)) => {
                    let flight = Arc::clone(flight);
                    drop(entries);
                    return flight.wait();
                }
                Some(Entry::Kept { .. }) | None => {
                    let flight = Arc::new(Flight::default());
                    entries.insert(id, Entry::Flying(Arc::clone(&flight)));
                    flight
                }
            }
        };
        let guard = FetchGuard { store: self, id, flight };
        let outcome = self.obtain(id);
        guard.land(outcome.clone());
        outcome
    }

    pub fn stats(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let entries = locked(&self.entries);
        let kept = entries.values().filter(|entry| matches!(entry, Entry::Kept { .. })).count();
        let Counts { fetched, read, missing, failed } = &self.counts;
        Stats { fetched: count(fetched), read: count(read), missing: count(missing), failed: count(failed), kept }
    }

    /// Loads from disk, else from the registry.
    fn obtain(&self, id: SchemaId) -> Outcome {
        let roots = &self.client.config().import_roots;
        if let Some((schema, files)) = self.cache.as_ref().and_then(|cache| cache.read(id)) {
            self.counts.read.fetch_add(1, Ordering::Relaxed);
            return Schema::build(id, &schema, &files, None, roots, self.compile).map(Arc::new);
        }
        let fetched = self.fetch(id);
        let counter = match &fetched {
            Ok(_) => &self.counts.fetched,
            Err(SchemaError::NotFound(_)) => &self.counts.missing,
            Err(_) => &self.counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let (schema, files) = fetched?;
        if let Some(cache) = &self.cache {
            cache.write(id, &schema, &files);
        }
        Schema::build(id, &schema, &files, None, roots, self.compile).map(Arc::new)
    }

    fn fetch(&self, id: SchemaId) -> Result<(super::api::Registered, Vec<Source>), SchemaError> {
        let ask = || self.client.schema(id).map_err(|error| SchemaError::of(id, error, false));
        let schema = match ask() {
            // A producer registers at the leader and writes at once; the replica that we ask may lag for a moment, and
            // a dead letter cannot be taken back.
            Err(SchemaError::NotFound(_)) => {
                thread::sleep(self.client.config().confirm_missing);
                ask()?
            }
            other => other?,
        };
        let files = self.client.references(&schema).map_err(|error| SchemaError::of(id, error, true))?;
        Ok((schema, files))
    }

    /// Stores a flight's outcome in its place, or removes it if the next caller should try again.
    fn settle(&self, id: SchemaId, outcome: &Outcome) {
        let mut entries = locked(&self.entries);
        let until = match outcome {
            Ok(_) | Err(SchemaError::Unusable { .. }) => None,
            Err(SchemaError::NotFound(_)) => Some(Instant::now() + self.client.config().negative_for),
            Err(SchemaError::Unavailable { .. } | SchemaError::Refused(_) | SchemaError::Subject(_)) => {
                entries.remove(&id);
                return;
            }
        };
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        entries.insert(id, Entry::Kept { outcome: outcome.clone(), until, used });
        let kept = entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Kept { used, .. } => Some((*used, *id)),
            Entry::Flying(_) => None,
        });
        let (count, oldest) = kept.fold((0, None), |(count, oldest), this| {
            (count + 1, Some(oldest.map_or(this, |oldest: (u64, SchemaId)| oldest.min(this))))
        });
        if count > self.client.config().schemas.max(1)
            && let Some((_, oldest)) = oldest
        {
            entries.remove(&oldest);
        }
    }
}

impl std::fmt::Debug for SchemaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaStore")
            .field("client", &self.client)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Flight {
    fn wait(&self) -> Outcome {
        let mut outcome = locked(&self.outcome);
        loop {
            if let Some(outcome) = outcome.as_ref() {
                return outcome.clone();
            }
            outcome = self.landed.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn land(&self, outcome: Outcome) {
        *locked(&self.outcome) = Some(outcome);
        self.landed.notify_all();
    }
}

/// The fetching thread's guard. If the thread panics, waiting threads must not wait forever.
struct FetchGuard<'a> {
    store: &'a SchemaStore,
    id: SchemaId,
    flight: Arc<Flight>,
}

impl FetchGuard<'_> {
    fn land(self, outcome: Outcome) {
        self.store.settle(self.id, &outcome);
        self.flight.land(outcome);
    }
}

impl Drop for FetchGuard<'_> {
    fn drop(&mut self) {
        if locked(&self.flight.outcome).is_none() {
            let outcome = Err(SchemaError::Unavailable { id: self.id, detail: "its fetch was interrupted".to_owned() });
            self.store.settle(self.id, &outcome);
            self.flight.land(outcome);
        }
    }
}

/// Locks a mutex, even after a panic. A panicking thread leaves consistent data, because each value is replaced in one
/// step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
