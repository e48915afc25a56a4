//! Pauses of a pipeline, halts of its partitions, and the allowances of a resume, in PostgreSQL. Each function is one
//! statement.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::store::Owner;
use crate::position::{Epoch, NextOffset, Offset, Partition};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// The partition in `tollgate.resume` if the pause did not name an event.
const NO_EVENT: i32 = -1;

/// A pause of the whole pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// [`LIMIT`], [`BROKEN`], [`TABLE`], or the code with which the contract rejected the event.
    pub code: String,
    /// The event that an operator must look at, if the pause is about one.
    pub event: Option<(Partition, Offset)>,
    /// The cause, as text.
    pub reason: String,
}

/// The code of a pause caused by `dead_letter.limit`.
pub const LIMIT: &str = "dead-letter-limit";
/// The code of a pause for a transform that fails before its first event, whatever the event.
pub const BROKEN: &str = "transform-broken";
/// The code of a pause for something that the target table lacks.
pub const TABLE: &str = "table-incomplete";

/// A halted partition, which only an operator can resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    pub partition: Partition,
    /// A code of docs/halts.md.
    pub code: String,
    /// The next offset to read.
    pub offset: NextOffset,
    /// The epoch at which the partition was held; 0 if the takeover itself was rejected.
    pub epoch: Epoch,
    /// A text that describes what happened and what to do.
    pub message: String,
}

/// The allowances of `tollgate resume`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resumed {
    /// The time since the dead letter limit was suspended for one window.
    pub unlimited: Option<Duration>,
    /// The last event of a partition that no longer pauses the pipeline.
    pub acknowledged: Vec<(Partition, Offset)>,
}

/// Returns the stored pause, if there is one.
pub async fn paused(connection: &mut PgConnection, pipeline: &str) -> Result<Option<Pause>> {
    let row = sqlx::query("SELECT code, partition, event_off, reason FROM tollgate.pause WHERE pipeline = $1")
        .bind(pipeline)
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        let (partition, offset): (Option<i32>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
        let event = partition.map(Partition::new).zip(offset.map(Offset::new));
        Ok(Pause { code: row.try_get(0)?, event, reason: row.try_get(3)? })
    })
    .transpose()
}

/// Stores a pause. An existing one stays.
pub async fn pause(connection: &mut PgConnection, pipeline: &str, pause: &Pause, digest: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO tollgate.pause (pipeline, reason, digest, code, partition, event_off) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (pipeline) DO NOTHING",
    )
    .bind(pipeline)
    .bind(&pause.reason)
    .bind(digest)
    .bind(&pause.code)
    .bind(pause.event.map(|(partition, _)| partition.get()))
    .bind(pause.event.map(|(_, offset)| offset.get()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the pause for an operator who has seen its reason, and stores what that allows. Returns whether there was a
/// pause.
pub async fn resume(connection: &mut PgConnection, pipeline: &str, topic: &str) -> Result<bool> {
    let done = sqlx::query(
        "WITH ended AS (DELETE FROM tollgate.pause WHERE pipeline = $1 RETURNING partition, event_off)
         INSERT INTO tollgate.resume AS r (pipeline, topic, partition, event_off)
         SELECT $1, $2, COALESCE(partition, $3), COALESCE(event_off, 0) FROM ended
         ON CONFLICT (pipeline, topic, partition) DO UPDATE
            SET event_off = GREATEST(r.event_off, excluded.event_off), resumed_at = now(), used_at = NULL",
    )
    .bind(pipeline)
    .bind(topic)
    .bind(NO_EVENT)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends the pause because the revision that caused it was replaced: the limit is in force at once.
pub async fn end_pause(connection: &mut PgConnection, pipeline: &str) -> Result<()> {
    sqlx::query(
        "WITH ended AS (DELETE FROM tollgate.pause WHERE pipeline = $1)
         DELETE FROM tollgate.resume WHERE pipeline = $1 AND partition = $2",
    )
    .bind(pipeline)
    .bind(NO_EVENT)
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the allowances of resumes and marks them as used.
pub async fn resumed(connection: &mut PgConnection, owner: &Owner) -> Result<Resumed> {
    let rows = sqlx::query(
        "UPDATE tollgate.resume SET used_at = COALESCE(used_at, now()) WHERE pipeline = $1 AND topic = $2
         RETURNING partition, event_off, extract(epoch FROM now() - used_at)::float8",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .fetch_all(connection)
    .await?;
    let mut resumed = Resumed::default();
    for row in rows {
        let partition: i32 = row.try_get(0)?;
        if partition == NO_EVENT {
            let seconds: f64 = row.try_get(2)?;
            resumed.unlimited = Some(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        } else {
            resumed.acknowledged.push((Partition::new(partition), Offset::new(row.try_get(1)?)));
        }
    }
    Ok(resumed)
}

/// Stores a halt. An existing one stays, since it has the first cause.
pub async fn halt(connection: &mut PgConnection, owner: &Owner, halt: &Halt) -> Result<()> {
    sqlx::query(
        "INSERT INTO tollgate.halt (pipeline, topic, partition, code, next_off, epoch, message, owner)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (pipeline, topic, partition) DO NOTHING",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(halt.partition.get())
    .bind(&halt.code)
    .bind(halt.offset.get())
    .bind(halt.epoch.get())
    .bind(&halt.message)
    .bind(&owner.name)
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the halted partitions of a pipeline, in order.
pub async fn halts(connection: &mut PgConnection, pipeline: &str, topic: &str) -> Result<Vec<Halt>> {
    let rows = sqlx::query(
        "SELECT partition, code, next_off, epoch, message FROM tollgate.halt
         WHERE pipeline = $1 AND topic = $2 ORDER BY partition",
    )
    .bind(pipeline)
    .bind(topic)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Halt> {
    Ok(Halt {
        partition: Partition::new(row.try_get(0)?),
        code: row.try_get(1)?,
        offset: NextOffset::new(row.try_get(2)?),
        epoch: Epoch::new(row.try_get(3)?),
        message: row.try_get(4)?,
    })
}

/// Ends the halts of these partitions, and returns the halts that existed.
pub async fn end_halts(
    connection: &mut PgConnection,
    pipeline: &str,
    topic: &str,
    partitions: &[Partition],
) -> Result<Vec<Halt>> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.get()).collect();
    let rows = sqlx::query(
        "DELETE FROM tollgate.halt WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($3)
         RETURNING partition, code, next_off, epoch, message",
    )
    .bind(pipeline)
    .bind(topic)
    .bind(partitions)
    .fetch_all(connection)
    .await?;
    let mut ended = rows.iter().map(read).collect::<Result<Vec<Halt>>>()?;
    ended.sort_by_key(|halt| halt.partition);
    Ok(ended)
}
