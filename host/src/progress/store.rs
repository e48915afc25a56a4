//! The progress rows and the slots in PostgreSQL. Each function is one statement or one transaction.

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::Row;
use crate::position::{NextOffset, Partition};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Whose rows these are.
#[derive(Debug, Clone)]
pub struct Owner {
    pub pipeline: String,
    pub topic: String,
    /// Host and process id, for the operator who looks at the table.
    pub name: String,
}

/// Takes the partition over: raises the epoch, so that no older owner can commit any more, and returns the row.
/// `None` if there is no row yet. Waits for an older owner's commit that is under way.
pub async fn raise_epoch(
    connection: &mut PgConnection,
    owner: &Owner,
    partition: Partition,
) -> Result<Option<(i64, Row)>> {
    let row = sqlx::query(
        "UPDATE tollgate.progress SET epoch = epoch + 1, owner = $4, owner_pid = pg_backend_pid(), updated_at = now()
         WHERE pipeline = $1 AND topic = $2 AND partition = $3 RETURNING epoch, next_off, prev_off",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(partition.0)
    .bind(&owner.name)
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((row.try_get(0)?, Row { next: NextOffset(row.try_get(1)?), prev: NextOffset(row.try_get(2)?) })))
        .transpose()
}

/// The first row of a partition. If another member was quicker, its row stands and is returned with a new epoch.
pub async fn begin(
    connection: &mut PgConnection,
    owner: &Owner,
    partition: Partition,
    start: NextOffset,
) -> Result<(i64, Row)> {
    let row = sqlx::query(
        "INSERT INTO tollgate.progress AS p (pipeline, topic, partition, epoch, next_off, prev_off, owner, owner_pid)
         VALUES ($1, $2, $3, 1, $4, $4, $5, pg_backend_pid())
         ON CONFLICT (pipeline, topic, partition) DO UPDATE
            SET epoch = p.epoch + 1, owner = excluded.owner, owner_pid = excluded.owner_pid
         RETURNING epoch, next_off, prev_off",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(partition.0)
    .bind(start.0)
    .bind(&owner.name)
    .fetch_one(connection)
    .await?;
    Ok((row.try_get(0)?, Row { next: NextOffset(row.try_get(1)?), prev: NextOffset(row.try_get(2)?) }))
}

/// One partition's step of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub partition: Partition,
    pub epoch: i64,
    pub lo: NextOffset,
    pub hi: NextOffset,
}

/// Compare-and-swap lo → hi at our epoch for all partitions of the batch, inside the caller's transaction, with the redo
/// plan of each. Returns how many rows matched: fewer than `steps` means that somebody else owns one, and the caller must
/// roll back.
pub async fn advance(
    connection: &mut PgConnection,
    owner: &Owner,
    steps: &[Step],
    plans: &[Option<Vec<u8>>],
    guarded: bool,
) -> Result<u64> {
    let partitions: Vec<i32> = steps.iter().map(|step| step.partition.0).collect();
    let epochs: Vec<i64> = steps.iter().map(|step| step.epoch).collect();
    let lows: Vec<i64> = steps.iter().map(|step| step.lo.0).collect();
    let highs: Vec<i64> = steps.iter().map(|step| step.hi.0).collect();
    // The unguarded form exists so that the tests can show that they notice; see `lane::hazards`.
    let statement = if guarded {
        "UPDATE tollgate.progress p SET prev_off = p.next_off, next_off = b.hi, plan = b.plan, updated_at = now()
         FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]) b(partition, epoch, lo, hi, plan)
         WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = b.partition AND p.epoch = b.epoch AND p.next_off = b.lo"
    } else {
        "UPDATE tollgate.progress p SET prev_off = p.next_off, next_off = b.hi, plan = b.plan, updated_at = now()
         FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]) b(partition, epoch, lo, hi, plan)
         WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = b.partition"
    };
    let done = sqlx::query(statement)
        .bind(&owner.pipeline)
        .bind(&owner.topic)
        .bind(partitions)
        .bind(epochs)
        .bind(lows)
        .bind(highs)
        .bind(plans)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// The redo plan of a partition's last batch. `None`: its transaction wrote none.
pub async fn plan(connection: &mut PgConnection, owner: &Owner, partition: Partition) -> Result<Option<Vec<u8>>> {
    let plan: Option<Option<Vec<u8>>> =
        sqlx::query_scalar("SELECT plan FROM tollgate.progress WHERE pipeline = $1 AND topic = $2 AND partition = $3")
            .bind(&owner.pipeline)
            .bind(&owner.topic)
            .bind(partition.0)
            .fetch_optional(connection)
            .await?;
    Ok(plan.flatten())
}

/// Where a partition stands, waiting for whoever is committing it: how an ambiguous COMMIT is resolved.
pub async fn settled(connection: &mut PgConnection, owner: &Owner, step: &Step) -> Result<Option<(i64, NextOffset)>> {
    let mut transaction = connection.begin().await?;
    let row = sqlx::query(
        "SELECT epoch, next_off FROM tollgate.progress WHERE pipeline = $1 AND topic = $2 AND partition = $3 FOR UPDATE",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(step.partition.0)
    .fetch_optional(&mut *transaction)
    .await?;
    transaction.rollback().await?;
    row.map(|row| Ok((row.try_get(0)?, NextOffset(row.try_get(1)?)))).transpose()
}

/// A slot that some process of this pipeline has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub number: i32,
    pub lanes: i32,
}

/// The lock that hands a slot to one process at a time: the session holds it, so it is free once the process is gone.
async fn try_lock(connection: &mut PgConnection, pipeline: &str, slot: i32) -> Result<bool> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext('tollgate.slot.' || $1), $2)")
        .bind(pipeline)
        .bind(slot)
        .fetch_one(connection)
        .await
}

async fn unlock(connection: &mut PgConnection, pipeline: &str, slot: i32) -> Result<()> {
    sqlx::query("SELECT pg_advisory_unlock(hashtext('tollgate.slot.' || $1), $2)")
        .bind(pipeline)
        .bind(slot)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the lowest free slot below `bound` on this session, and says how many lanes its last holder had.
pub async fn take_slot(
    connection: &mut PgConnection,
    owner: &Owner,
    lanes: i32,
    bound: i32,
    only: Option<i32>,
) -> Result<Option<Slot>> {
    for number in only.map_or(0..bound, |slot| slot..slot + 1) {
        if !try_lock(connection, &owner.pipeline, number).await? {
            continue;
        }
        let before: Option<i32> =
            sqlx::query_scalar("SELECT lanes FROM tollgate.slot WHERE pipeline = $1 AND slot = $2")
                .bind(&owner.pipeline)
                .bind(number)
                .fetch_optional(&mut *connection)
                .await?;
        let lanes = lanes.max(before.unwrap_or(0));
        sqlx::query(
            "INSERT INTO tollgate.slot (pipeline, slot, lanes, owner) VALUES ($1, $2, $3, $4)
             ON CONFLICT (pipeline, slot) DO UPDATE SET lanes = excluded.lanes, owner = excluded.owner, started_at = now()",
        )
        .bind(&owner.pipeline)
        .bind(number)
        .bind(lanes)
        .bind(&owner.name)
        .execute(connection)
        .await?;
        return Ok(Some(Slot { number, lanes }));
    }
    Ok(None)
}

/// Slots that a process used and nobody holds now, locked for this session until [`bury`].
pub async fn dead_slots(connection: &mut PgConnection, pipeline: &str, own: i32) -> Result<Vec<Slot>> {
    let rows = sqlx::query("SELECT slot, lanes FROM tollgate.slot WHERE pipeline = $1 AND slot <> $2 ORDER BY slot")
        .bind(pipeline)
        .bind(own)
        .fetch_all(&mut *connection)
        .await?;
    let mut dead = Vec::new();
    for row in rows {
        let slot = Slot { number: row.try_get(0)?, lanes: row.try_get(1)? };
        if try_lock(connection, pipeline, slot.number).await? {
            dead.push(slot);
        }
    }
    Ok(dead)
}

/// Slots of the members that the rows name as owners of these partitions, except our own.
pub async fn owners(
    connection: &mut PgConnection,
    owner: &Owner,
    partitions: &[Partition],
    own: i32,
) -> Result<Vec<Slot>> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.0).collect();
    let rows = sqlx::query(
        "SELECT DISTINCT slot.slot, slot.lanes FROM tollgate.progress JOIN tollgate.slot USING (pipeline, owner)
         WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($3) AND slot.slot <> $4 ORDER BY 1",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(partitions)
    .bind(own)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(Slot { number: row.try_get(0)?, lanes: row.try_get(1)? })).collect()
}

/// Ends lanes' sessions that have stood still for a second inside a transaction which has moved one of these rows: nobody
/// else could touch it until the server's own timeout. Says how many. `lane`: what such a session calls itself.
pub async fn end_stuck(
    connection: &mut PgConnection,
    owner: &Owner,
    partitions: &[Partition],
    lane: &str,
) -> Result<u64> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.0).collect();
    let ended = sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = $4 AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '1 s'
           AND backend_xid IN
               (SELECT xmax FROM tollgate.progress WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($3))",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(partitions)
    .bind(lane)
    .execute(connection)
    .await?;
    Ok(ended.rows_affected())
}

/// The slot's transactions are ended: forget it and let its lock go.
pub async fn bury(connection: &mut PgConnection, pipeline: &str, slot: Slot) -> Result<()> {
    sqlx::query("DELETE FROM tollgate.slot WHERE pipeline = $1 AND slot = $2")
        .bind(pipeline)
        .bind(slot.number)
        .execute(&mut *connection)
        .await?;
    unlock(connection, pipeline, slot.number).await
}
