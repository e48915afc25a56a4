//! Ids → compiled schemas, for lanes that ask at every frame.
//!
//! The map's lock is held for a look only. Who finds nothing there puts a *flight* in the map and fetches; who finds a
//! flight waits for its end and takes its outcome, good or bad, so that an outage costs one round of tries and not one for
//! each lane. What is certain stays (a schema, one that does not compile, for a while an id that does not exist); an
//! outage leaves nothing behind, so the next one to ask tries again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tollgate_contract::frame::SchemaId;

use super::cache::Cache;
use super::{Client, ConfigFault, Schema, SchemaError};
use tollgate_config::registry::Config;

type Outcome = Result<Arc<Schema>, SchemaError>;

/// Compiled schemas by id. Share it in an `Arc`.
pub struct SchemaStore {
    client: Client,
    cache: Option<Cache>,
    entries: Mutex<HashMap<SchemaId, Entry>>,
    /// Counts looks, for the choice of what has to go.
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

/// A fetch under way.
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

/// What the store has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Schemas that came from the registry.
    pub fetched: u64,
    /// Schemas that came from the disk.
    pub read: u64,
    /// Times that the registry said it does not know an id.
    pub missing: u64,
    /// Fetches that ended in an outage or a refusal.
    pub failed: u64,
    /// Schemas and faults in memory now.
    pub kept: usize,
}

impl SchemaStore {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// As [`Client::new`], and where the cache folder cannot be made.
    pub fn new(config: Config) -> Result<SchemaStore, ConfigFault> {
        let client = Client::new(config)?;
        let config = client.config();
        let cache = match (&config.cache_dir, config.urls.first()) {
            (Some(folder), Some(url)) => Some(Cache::open(folder, url)?),
            _ => None,
        };
        Ok(SchemaStore {
            client,
            cache,
            entries: Mutex::default(),
            clock: AtomicU64::new(0),
            counts: Counts::default(),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The schema of an id. A look into a map where it is known; else this blocks for the registry, `patience` at most.
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
        let pilot = Pilot { store: self, id, flight };
        let outcome = self.obtain(id);
        pilot.land(outcome.clone());
        outcome
    }

    pub fn stats(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let entries = locked(&self.entries);
        let kept = entries.values().filter(|entry| matches!(entry, Entry::Kept { .. })).count();
        let Counts { fetched, read, missing, failed } = &self.counts;
        Stats { fetched: count(fetched), read: count(read), missing: count(missing), failed: count(failed), kept }
    }

    /// From disk, else from the registry.
    fn obtain(&self, id: SchemaId) -> Outcome {
        let roots = &self.client.config().import_roots;
        if let Some((schema, files)) = self.cache.as_ref().and_then(|cache| cache.read(id)) {
            self.counts.read.fetch_add(1, Ordering::Relaxed);
            return Schema::build(id, &schema, &files, None, roots).map(Arc::new);
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
        Schema::build(id, &schema, &files, None, roots).map(Arc::new)
    }

    fn fetch(&self, id: SchemaId) -> Result<(super::api::Registered, Vec<super::Source>), SchemaError> {
        let ask = || self.client.schema(id).map_err(|error| SchemaError::of(id, error, false));
        let schema = match ask() {
            // A producer registers at the leader and writes at once; the replica that we ask may be a moment behind, and
            // a dead letter is not taken back.
            Err(SchemaError::NotFound(_)) => {
                thread::sleep(self.client.config().confirm_missing);
                ask()?
            }
            other => other?,
        };
        let files = self.client.references(&schema).map_err(|error| SchemaError::of(id, error, true))?;
        Ok((schema, files))
    }

    /// Puts a flight's outcome in its place, or removes it where the next one to ask shall try again.
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

/// Whoever fetches. Should it panic, those who wait must not wait for ever.
struct Pilot<'a> {
    store: &'a SchemaStore,
    id: SchemaId,
    flight: Arc<Flight>,
}

impl Pilot<'_> {
    fn land(self, outcome: Outcome) {
        self.store.settle(self.id, &outcome);
        self.flight.land(outcome);
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        if locked(&self.flight.outcome).is_none() {
            let outcome = Err(SchemaError::Unavailable { id: self.id, detail: "its fetch broke off".to_owned() });
            self.store.settle(self.id, &outcome);
            self.flight.land(outcome);
        }
    }
}

/// What a panicking thread leaves behind is whole: each value is replaced in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
