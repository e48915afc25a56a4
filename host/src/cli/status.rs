//! `tollgate status pipeline.yaml`: shows what runs, its progress, and what blocks it.
//!
//! The status comes from three sources, and each may fail to answer: the process (its revision, its troubles),
//! PostgreSQL (progress of all members, the stored pause) and Kafka (the ends of the partitions, for the lag).

mod peek;
mod show;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::Success;
use sources::{admin_url, ask, base_url, ends, stored};
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;
use tollgate_engine::status::{self, Status};

/// Shows the state of a pipeline: revision, transforms, positions, lag, troubles, pause.
///
/// Asks the running process on its admin address. If no process answers, shows what PostgreSQL and Kafka report.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Admin address of the process, http://host:port. Default: admin.listen of the pipeline file.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Exit with code 1 unless a process is running and ready, nothing is paused, and no partition is halted.
    #[arg(long)]
    pub check: bool,
}

/// The answers of the sources. An `Err` holds the reason why a source did not answer.
struct Known {
    process: Result<Status, String>,
    stored: Result<Stored, String>,
    ends: Result<BTreeMap<i32, i64>, String>,
    /// The partitions without a record at or after their next offset, although their end is higher.
    exhausted: BTreeSet<i32>,
}

/// The state that PostgreSQL holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Stored {
    partitions: Vec<Progress>,
    pause: Option<Pause>,
    halts: Vec<Halted>,
}

/// A halted partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Halted {
    #[serde(flatten)]
    halt: status::Halted,
    #[serde(flatten)]
    stored: Option<StoredHalt>,
}

/// What PostgreSQL knows of a halt besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct StoredHalt {
    /// Host and process id of the member that halted the partition.
    owner: String,
    since: String,
}

/// What is known of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Partition {
    partition: i32,
    /// The offset after the last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    lag: Option<u64>,
}

/// The progress row of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Progress {
    partition: i32,
    next_offset: i64,
    epoch: i64,
    /// Host and process id of the member that took the partition over last.
    owner: String,
    updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Pause {
    reason: String,
    digest: String,
    since: String,
}

/// # Errors
/// Fails with exit code 2 for the configuration, 3 if neither the process nor PostgreSQL answers. With `--check` 1 if
/// the pipeline needs attention.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let pipeline = Pipeline::load(&args.pipeline).map_err(|errors| Failure::configuration("config.invalid", errors))?;
    let url = match &args.url {
        Some(url) => Ok(base_url(url)?),
        None => admin_url(pipeline.admin.listen.as_deref()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment("environment.runtime", error))?;
    let mut known = Known {
        process: url.and_then(|url| ask(&url, &pipeline.name)),
        stored: runtime.block_on(stored(&pipeline)),
        ends: ends(&pipeline),
        exhausted: BTreeSet::new(),
    };
    known.exhausted = peek::exhausted(&pipeline, &known.behind());
    if let (Err(process), Err(database)) = (&known.process, &known.stored) {
        let message =
            format!("neither a process nor PostgreSQL reports the state of {}\n{process}\n{database}", pipeline.name);
        return Err(Failure::environment("status.unknown", message));
    }
    let (object, text) = (show::object(&pipeline, &known), show::text(&pipeline, &known));
    match show::ill(&known) {
        Some(ill) if args.check => {
            Err(Failure::failed("status.check", format!("{}: {ill}", pipeline.name)).with(object, text))
        }
        _ => Ok(Success::new(show::summary(&pipeline, &known), object, text)),
    }
}

impl Known {
    /// Returns an entry for each partition that any source knows, with the lag if end and position are known.
    fn partitions(&self) -> Vec<Partition> {
        let mut all: BTreeMap<i32, Partition> = BTreeMap::new();
        let entry = |all: &mut BTreeMap<i32, Partition>, partition: i32, change: &dyn Fn(&mut Partition)| {
            change(all.entry(partition).or_insert_with(|| Partition { partition, ..Partition::default() }));
        };
        for (partition, end) in self.ends.iter().flatten() {
            entry(&mut all, *partition, &|known| known.end = Some(*end));
        }
        for (partition, next) in self.process.iter().flat_map(|process| &process.positions) {
            entry(&mut all, *partition, &|known| known.next_offset = Some(*next));
        }
        for row in self.stored.iter().flat_map(|stored| &stored.partitions) {
            entry(&mut all, row.partition, &|known| {
                (known.next_offset, known.epoch) = (Some(row.next_offset), Some(row.epoch));
                (known.owner, known.updated_at) = (Some(row.owner.clone()), Some(row.updated_at.clone()));
            });
        }
        for known in all.values_mut() {
            let behind = known.end.zip(known.next_offset).map(|(end, next)| u64::try_from(end - next).unwrap_or(0));
            known.lag = if self.exhausted.contains(&known.partition) { Some(0) } else { behind };
        }
        all.into_values().collect()
    }

    /// Returns the next offset of each partition that has a lag.
    fn behind(&self) -> BTreeMap<i32, i64> {
        let behind = self.partitions().into_iter().filter(|known| known.lag.is_some_and(|lag| lag > 0));
        behind.filter_map(|known| Some((known.partition, known.next_offset?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::sources::read;
    use super::*;

    #[test]
    fn the_address_is_found_from_what_is_typed_or_configured() {
        for typed in
            ["127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/status"]
        {
            assert_eq!(base_url(typed).unwrap(), "http://127.0.0.1:8080");
        }
        assert!(base_url("https://gate:443").is_err());
        assert_eq!(admin_url(Some("0.0.0.0:9000")).unwrap(), "http://127.0.0.1:9000");
        assert_eq!(admin_url(Some("[::]:9000")).unwrap(), "http://[::1]:9000");
        assert_eq!(admin_url(Some("gate.internal:9000")).unwrap(), "http://gate.internal:9000");
        assert!(admin_url(Some("127.0.0.1:0")).unwrap_err().contains("--url"));
        assert!(admin_url(None).unwrap_err().contains("off"));
    }

    fn process() -> Status {
        read("u", ANSWER, "p").unwrap()
    }

    const ANSWER: &str = r#"{"format":1,"pipeline":"p","version":"0.2.0","delivery":"effectively_once","slot":0,"owner":"h/7",
        "revision":{"number":0,"digest":"aa","transforms":[]},"ready":true,"troubles":[],"paused":null,
        "refused_reload":null,"halted":[],"breakers":{},"positions":{}}"#;

    #[test]
    fn an_answer_of_something_else_is_named() {
        assert_eq!(process().owner, "h/7");
        for (answer, why) in [
            ("<html>".to_owned(), "the server at u is not a tollgate process"),
            (ANSWER.replace(r#""p""#, r#""q""#), "the process at u runs pipeline q; pass another address with --url"),
            (
                ANSWER.replace(r#""format":1"#, r#""format":2"#).replace("true", "7"),
                "the process at u is tollgate 0.2.0, which this release cannot read; use that release",
            ),
            (ANSWER.replace("true", "7"), "the status of the process at u cannot be read: invalid type: integer `7`"),
        ] {
            let found = read("u", &answer, "p").unwrap_err();
            assert!(found.starts_with(why), "{found}");
        }
    }

    #[test]
    fn a_partition_is_what_all_sources_say_of_it() {
        let row = Progress { partition: 1, next_offset: 90, epoch: 3, owner: "h/1".into(), updated_at: String::new() };
        let known = Known {
            process: Ok(Status { positions: [(0, 50), (1, 80)].into(), ..process() }),
            stored: Ok(Stored { partitions: vec![row], ..Stored::default() }),
            ends: Ok([(0, 60), (1, 100), (2, 7)].into()),
            exhausted: BTreeSet::new(),
        };
        assert_eq!(known.behind(), [(0, 50), (1, 90)].into());
        let seen: Vec<_> = known.partitions().iter().map(|p| (p.next_offset, p.lag)).collect();
        assert_eq!(seen, [(Some(50), Some(10)), (Some(90), Some(10)), (None, None)]);
        let known = Known { exhausted: [1].into(), ..known };
        assert_eq!(known.partitions()[1].lag, Some(0), "only markers follow");
    }
}
