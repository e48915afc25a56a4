//! The environment of one test: a folder with pipeline.yaml, and its own topics and database on the shared servers.

use std::fs;
use std::path::Path;
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::Database;
use crate::engine::{self, Engine};
use crate::guests::{self, Guest};
use crate::kafka::Client;
use crate::servers::{self, Servers};
use crate::{events, wait_for};

/// The number of partitions of every topic.
pub const PARTITIONS: i32 = 4;

pub struct Case {
    /// A unique name. The pipeline and the group have it, and every topic begins with it.
    pub name: String,
    pub kafka: Client,
    pub database: Database,
    /// The contents of `pipeline.yaml` (in JSON, which is YAML too).
    pub pipeline: Value,
    folder: TempDir,
}

impl Case {
    /// Returns a pipeline on the shared servers: source, output, dead letters, and one row for each source record (key
    /// p, o). The column `n` counts how often the row was written. Nothing is created yet.
    pub fn new(name: &str) -> Case {
        Case::on(servers::shared(), name)
    }

    /// Returns the same pipeline on other servers.
    pub fn on(servers: &Servers, name: &str) -> Case {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Database::create(&servers.postgres, &name);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.proto"), events::PROTO).unwrap();
        let pipeline = json!({
            "pipeline": name,
            "source": {
                "brokers": servers.brokers, "topic": format!("{name}.in"), "group_id": name, "start": "earliest",
                // A killed member is removed soon; the broker's minimum session timeout is lowered for this.
                "session_timeout": "1500ms", "heartbeat_interval": "300ms",
            },
            "contract": { "protos": "events.proto", "message": events::MESSAGE },
            "output": { "topic": format!("{name}.out") },
            "dead_letter": { "topic": format!("{name}.dead") },
            "postgres": {
                "url": database.url(), "table": "seen", "key": ["p", "o"],
                "columns": {
                    "p": { "record": "partition" }, "o": { "record": "offset" }, "n": { "add": 1 },
                    "id": { "field": "id" }, "revision": { "field": "revision" }, "digest": { "record": "digest" },
                },
            },
            "retry_policy": { "initial_backoff": "50ms", "max_backoff": "500ms" },
            "admin": { "listen": "127.0.0.1:0" },
            "lanes": 2,
        });
        Case { kafka: Client::new(&servers.brokers), name, database, pipeline, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn source(&self) -> String {
        format!("{}.in", self.name)
    }

    pub fn output(&self) -> String {
        format!("{}.out", self.name)
    }

    pub fn dead(&self) -> String {
        format!("{}.dead", self.name)
    }

    /// Sets a value in the pipeline, for example `/delivery/batch/max_events`. Missing sections are created; null
    /// removes the key.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Case {
        self.change(pointer, value);
        self
    }

    pub fn change(&mut self, pointer: &str, value: Value) {
        let mut place = &mut self.pipeline;
        let mut keys = pointer.split('/').skip(1).peekable();
        while let Some(key) = keys.next() {
            if keys.peek().is_none() && value.is_null() {
                place.as_object_mut().unwrap().remove(key);
                break;
            }
            place = place.as_object_mut().unwrap().entry(key).or_insert_with(|| json!({}));
        }
        if !value.is_null() {
            *place = value;
        }
        self.write();
    }

    /// Returns the same pipeline and database in another folder, with this one's files.
    #[must_use]
    pub fn again(&self) -> Case {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.folder()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let database = self.database.again();
        Case { name: self.name.clone(), kafka: self.kafka.clone(), database, pipeline: self.pipeline.clone(), folder }
    }

    /// Writes pipeline.yaml.
    pub fn write(&self) {
        self.put("pipeline.yaml", self.pipeline.to_string().as_bytes());
    }

    /// Writes a file in the pipeline's folder atomically.
    pub fn put(&self, name: &str, content: &[u8]) {
        let part = self.folder().join(format!("{name}.part"));
        fs::write(&part, content).unwrap();
        fs::rename(part, self.folder().join(name)).unwrap();
    }

    /// Writes the component `guest.wasm` and names it in the pipeline.
    #[must_use]
    pub fn guest(self, guest: &Guest) -> Case {
        self.put("guest.wasm", &guests::component(guest));
        self.set("/transforms", json!([{ "component": "guest.wasm" }]))
    }

    /// Writes pipeline.yaml and runs `tollgate setup`, which creates what is missing.
    #[must_use]
    pub fn setup(self) -> Case {
        self.setup_with(PARTITIONS)
    }

    /// Does the same with this number of partitions.
    #[must_use]
    pub fn setup_with(self, partitions: i32) -> Case {
        self.set_up(&engine::binary(), partitions)
    }

    /// Does the same with another build's binary.
    #[must_use]
    pub fn setup_by(self, program: &Path) -> Case {
        self.set_up(program, PARTITIONS)
    }

    fn set_up(self, program: &Path, partitions: i32) -> Case {
        self.write();
        let partitions = partitions.to_string();
        let setup =
            Engine::start_as(program, self.folder(), &["setup", "pipeline.yaml", "--partitions", &partitions], &[]);
        let status = setup.wait();
        assert!(status.success(), "tollgate setup: {status}\n{}", setup.log());
        // Kafka reports new topics a moment after it has created them.
        for topic in [self.source(), self.output(), self.dead()] {
            wait_for(&format!("topic {topic}"), || (self.kafka.partitions(&topic) > 0).then_some(()));
        }
        self
    }

    /// Starts any command of the binary in the pipeline's folder.
    pub fn tollgate(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Engine {
        Engine::start(self.folder(), arguments, variables)
    }

    /// Starts `tollgate run`.
    pub fn run(&self) -> Engine {
        self.run_with(&[])
    }

    pub fn run_with(&self, variables: &[(&str, &str)]) -> Engine {
        self.tollgate(&["run", "pipeline.yaml"], variables)
    }

    /// Starts `run` of another build's binary.
    pub fn run_by(&self, program: &Path, variables: &[(&str, &str)]) -> Engine {
        Engine::start_as(program, self.folder(), &["run", "pipeline.yaml"], variables)
    }

    /// Runs the pipeline until all records that are now in the topic are processed.
    pub fn drain(&self) -> Engine {
        let engine = self.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
        let status = engine.wait();
        assert!(status.success(), "tollgate run --drain: {status}\n{}", engine.log());
        engine
    }

    /// Waits until the group has committed these offsets.
    pub fn settled(&self, ends: &[i64]) {
        let wanted: Vec<Option<i64>> = ends.iter().copied().map(|end| (end > 0).then_some(end)).collect();
        let partitions = i32::try_from(ends.len()).unwrap();
        crate::wait_within(crate::PATIENCE * 2, &format!("the group of {} to reach {ends:?}", self.name), || {
            let now = self.kafka.committed(&self.name, &self.source(), partitions).ok()?;
            let level = now.iter().zip(&wanted).all(|(now, wanted)| wanted.is_none() || now == wanted);
            level.then_some(())
        });
    }
}
