//! The progress rows and the slots in PostgreSQL. Each function is one statement or one transaction.

use std::collections::BTreeMap;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use tollgate_protocol::adoption::Side;

use super::{Last, Place, Row};
use crate::position::{CommitNumber, Epoch, NextOffset, Partition};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// The owner of progress rows.
#[derive(Debug, Clone)]
pub struct Owner {
    pub pipeline: String,
    pub topic: String,
    /// Host and process id, for an operator who reads the table.
    pub name: String,
}

/// The way in which a commit is delivered, as stored in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The group's offset carries a token.
    Token,
    AtLeastOnce,
}

impl Delivery {
    fn text(self) -> &'static str {
        match self {
            Delivery::Token => "token",
            Delivery::AtLeastOnce => "at_least_once",
        }
    }
}

/// A progress row as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub epoch: Epoch,
    pub row: Row,
    pub place: Place,
}

/// The columns that [`found`] reads, in its order. An owner of an older release changes only the epoch, so the delivery
/// is valid only if its epoch is the row's.
macro_rules! columns {
    () => {
        "p.epoch, p.next_off, p.prev_off, p.commit_no, CASE WHEN p.delivery_epoch = p.epoch THEN p.delivery END, \
         p.group_id, p.cluster_id, p.topic_id"
    };
}

fn found(row: &PgRow) -> Result<Found> {
    let delivery: Option<String> = row.try_get(4)?;
    let last = match delivery.as_deref() {
        Some("token") => Last::Token,
        Some("at_least_once") => Last::AtLeastOnce,
        _ => Last::Unknown,
    };
    let (next, prev) = (NextOffset::new(row.try_get(1)?), NextOffset::new(row.try_get(2)?));
    let row_found = Row { next, prev, number: CommitNumber::new(row.try_get(3)?), last };
    let place = Place { group: row.try_get(5)?, cluster: row.try_get(6)?, topic: row.try_get(7)? };
    Ok(Found { epoch: Epoch::new(row.try_get(0)?), row: row_found, place })
}

/// Returns the current progress rows of these partitions, without locking or changing anything.
pub async fn rows(
    connection: &mut PgConnection,
    owner: &Owner,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, Found>> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.get()).collect();
    let statement = concat!(
        "SELECT ",
        columns!(),
        ", p.partition FROM tollgate.progress p WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($3)"
    );
    let rows =
        sqlx::query(statement).bind(&owner.pipeline).bind(&owner.topic).bind(partitions).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((Partition::new(row.try_get(8)?), found(row)?))).collect()
}

/// Takes the partition over: raises the epoch, so that older owners can no longer commit, and returns the row.
/// `None` if there is no row yet. Waits for an older owner's commit in progress. A row without a stored place gets
/// this one.
pub async fn raise_epoch(
    connection: &mut PgConnection,
    owner: &Owner,
    partition: Partition,
    place: &Place,
) -> Result<Option<Found>> {
    let statement = concat!(
        "UPDATE tollgate.progress p SET epoch = p.epoch + 1, owner = $4, owner_pid = pg_backend_pid(), updated_at = now(),
            delivery_epoch = CASE WHEN p.delivery_epoch = p.epoch THEN p.epoch + 1 END,
            group_id = coalesce(p.group_id, $5), cluster_id = coalesce(p.cluster_id, $6),
            topic_id = coalesce(p.topic_id, $7)
         WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = $3 RETURNING ",
        columns!()
    );
    let row = sqlx::query(statement)
        .bind(&owner.pipeline)
        .bind(&owner.topic)
        .bind(partition.get())
        .bind(&owner.name)
        .bind(&place.group)
        .bind(&place.cluster)
        .bind(&place.topic)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(found).transpose()
}

/// Creates the first row of a partition. If another member was faster, its row stays and is returned with a new epoch.
/// `delivery` is `None` if the group already has an offset that carries no token yet.
pub async fn begin(
    connection: &mut PgConnection,
    owner: &Owner,
    partition: Partition,
    start: NextOffset,
    place: &Place,
    delivery: Option<Delivery>,
) -> Result<Found> {
    let statement = concat!(
        "INSERT INTO tollgate.progress AS p (pipeline, topic, partition, epoch, next_off, prev_off, owner, owner_pid,
            commit_no, delivery, delivery_epoch, group_id, cluster_id, topic_id)
         VALUES ($1, $2, $3, 1, $4, $4, $5, pg_backend_pid(), $6, $7, 1, $8, $9, $10)
         ON CONFLICT (pipeline, topic, partition) DO UPDATE
            SET epoch = p.epoch + 1, owner = excluded.owner, owner_pid = excluded.owner_pid,
                delivery_epoch = CASE WHEN p.delivery_epoch = p.epoch THEN p.epoch + 1 END
         RETURNING ",
        columns!()
    );
    let row = sqlx::query(statement)
        .bind(&owner.pipeline)
        .bind(&owner.topic)
        .bind(partition.get())
        .bind(start.get())
        .bind(&owner.name)
        .bind(CommitNumber::FIRST.get())
        .bind(delivery.map(Delivery::text))
        .bind(&place.group)
        .bind(&place.cluster)
        .bind(&place.topic)
        .fetch_one(connection)
        .await?;
    found(&row)
}

/// Sets a partition's row to this position, whoever owned it, with an unused epoch. Returns the epoch.
pub async fn adopt(
    connection: &mut PgConnection,
    owner: &Owner,
    partition: Partition,
    side: Side,
    place: &Place,
) -> Result<Epoch> {
    let epoch = sqlx::query_scalar(
        "INSERT INTO tollgate.progress AS p (pipeline, topic, partition, epoch, next_off, prev_off, owner, owner_pid,
            commit_no, delivery, delivery_epoch, group_id, cluster_id, topic_id)
         VALUES ($1, $2, $3, 1, $4, $4, $5, pg_backend_pid(), $6, $7, 1, $8, $9, $10)
         ON CONFLICT (pipeline, topic, partition) DO UPDATE
            SET epoch = p.epoch + 1, next_off = excluded.next_off, prev_off = excluded.prev_off, plan = NULL,
                owner = excluded.owner, owner_pid = excluded.owner_pid, updated_at = now(),
                commit_no = excluded.commit_no, delivery = excluded.delivery, delivery_epoch = p.epoch + 1,
                group_id = excluded.group_id, cluster_id = excluded.cluster_id, topic_id = excluded.topic_id
         RETURNING epoch",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(partition.get())
    .bind(side.next.get())
    .bind(&owner.name)
    .bind(side.number.get())
    .bind(Delivery::Token.text())
    .bind(&place.group)
    .bind(&place.cluster)
    .bind(&place.topic)
    .fetch_one(connection)
    .await?;
    Ok(Epoch::new(epoch))
}

/// Returns the owners of the slots that running processes of the pipeline hold.
pub async fn running(connection: &mut PgConnection, pipeline: &str) -> Result<Vec<String>> {
    let slots: Vec<(i32, String)> =
        sqlx::query_as("SELECT slot, owner FROM tollgate.slot WHERE pipeline = $1 ORDER BY slot")
            .bind(pipeline)
            .fetch_all(&mut *connection)
            .await?;
    let mut owners = Vec::new();
    for (slot, owner) in slots {
        match try_lock(connection, pipeline, slot).await? {
            true => unlock(connection, pipeline, slot).await?,
            false => owners.push(owner),
        }
    }
    Ok(owners)
}

/// Records that the group's offsets of these partitions carry tokens now. Returns how many rows still had their epoch.
pub async fn note_tokens(connection: &mut PgConnection, owner: &Owner, partitions: &[(Partition, i64)]) -> Result<u64> {
    let (partitions, epochs): (Vec<i32>, Vec<i64>) =
        partitions.iter().map(|(partition, epoch)| (partition.get(), *epoch)).unzip();
    let done = sqlx::query(
        "UPDATE tollgate.progress p SET delivery = $5, delivery_epoch = p.epoch
         FROM unnest($3::int[], $4::bigint[]) b(partition, epoch)
         WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = b.partition AND p.epoch = b.epoch",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(partitions)
    .bind(epochs)
    .bind(Delivery::Token.text())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// One partition's step of a batch, on either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub partition: Partition,
    pub epoch: Epoch,
    pub lo: NextOffset,
    pub hi: NextOffset,
    pub number: CommitNumber,
}

/// Compares and swaps lo → hi at our epoch for all partitions of the batch, inside the caller's transaction, with the
/// redo plan of each. Returns how many rows matched. If these are fewer than `steps`, a partition has another owner,
/// and the caller must roll back.
pub async fn advance(
    connection: &mut PgConnection,
    owner: &Owner,
    steps: &[Step],
    plans: &[Option<Vec<u8>>],
    delivery: Delivery,
    guarded: bool,
) -> Result<u64> {
    let partitions: Vec<i32> = steps.iter().map(|step| step.partition.get()).collect();
    let epochs: Vec<i64> = steps.iter().map(|step| step.epoch.get()).collect();
    let lows: Vec<i64> = steps.iter().map(|step| step.lo.get()).collect();
    let highs: Vec<i64> = steps.iter().map(|step| step.hi.get()).collect();
    let numbers: Vec<i64> = steps.iter().map(|step| step.number.get()).collect();
    // I1: the row moves only from lo to hi at our epoch, in the transaction of the rows.
    // The unguarded form exists to prove that the tests can fail; see `hazards`.
    let statement = if guarded {
        "UPDATE tollgate.progress p SET prev_off = p.next_off, next_off = b.hi, plan = b.plan, updated_at = now(),
            commit_no = b.number, delivery = $9, delivery_epoch = p.epoch
         FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bigint[])
            b(partition, epoch, lo, hi, plan, number)
         WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = b.partition AND p.epoch = b.epoch AND p.next_off = b.lo"
    } else {
        "UPDATE tollgate.progress p SET prev_off = p.next_off, next_off = b.hi, plan = b.plan, updated_at = now(),
            commit_no = b.number, delivery = $9, delivery_epoch = p.epoch
         FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bigint[])
            b(partition, epoch, lo, hi, plan, number)
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
        .bind(numbers)
        .bind(delivery.text())
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Returns the redo plan of a partition's last batch, or `None` if its transaction wrote none.
pub async fn plan(connection: &mut PgConnection, owner: &Owner, partition: Partition) -> Result<Option<Vec<u8>>> {
    let plan: Option<Option<Vec<u8>>> =
        sqlx::query_scalar("SELECT plan FROM tollgate.progress WHERE pipeline = $1 AND topic = $2 AND partition = $3")
            .bind(&owner.pipeline)
            .bind(&owner.topic)
            .bind(partition.get())
            .fetch_optional(connection)
            .await?;
    Ok(plan.flatten())
}

/// Returns the position of a partition after any commit in progress has ended: this resolves an ambiguous COMMIT.
pub async fn settled(connection: &mut PgConnection, owner: &Owner, partition: Partition) -> Result<Option<Found>> {
    let mut transaction = connection.begin().await?;
    let statement = concat!(
        "SELECT ",
        columns!(),
        " FROM tollgate.progress p WHERE pipeline = $1 AND topic = $2 AND partition = $3 FOR UPDATE"
    );
    let row = sqlx::query(statement)
        .bind(&owner.pipeline)
        .bind(&owner.topic)
        .bind(partition.get())
        .fetch_optional(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    row.as_ref().map(found).transpose()
}

/// A slot that a process of this pipeline has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub number: i32,
    pub lanes: i32,
}

/// Tries the lock that gives a slot to one process at a time. The session holds it, so it is free once the process is
/// gone.
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

/// Takes the lowest free slot below `bound` on this session, and returns how many lanes its last holder had.
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

/// Returns the slots that were used but are not held now, locked for this session until [`bury`].
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

/// Returns the slots of the members that own these partitions according to the rows, except our own.
pub async fn owners(
    connection: &mut PgConnection,
    owner: &Owner,
    partitions: &[Partition],
    own: i32,
) -> Result<Vec<Slot>> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.get()).collect();
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

/// Locks the rows of these partitions until the caller's transaction ends. By these locks a takeover finds the
/// transactions of an unresponsive member ([`end_stuck`]), even one that writes no progress.
pub async fn lock(connection: &mut PgConnection, owner: &Owner, partitions: &[Partition]) -> Result<()> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.get()).collect();
    sqlx::query(
        "SELECT 1 FROM tollgate.progress WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($3)
         ORDER BY partition FOR UPDATE",
    )
    .bind(&owner.pipeline)
    .bind(&owner.topic)
    .bind(partitions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends lanes' sessions that hold the lock of one of these rows and have waited for their client for a second. No other
/// session can use the row until the client continues, or until the server's own timeout. Returns how many it ended.
/// `lane` is the `application_name` of such a session.
///
/// Between two statements such a session is `idle in transaction`. During COPY, or when its response fills the socket,
/// it is `active` and waits for its client, and no PostgreSQL timeout applies. A healthy lane can be ended this way
/// too, during a COPY of more than a second; another member owns its partitions by now, so it loses only an attempt.
pub async fn end_stuck(
    connection: &mut PgConnection,
    owner: &Owner,
    partitions: &[Partition],
    lane: &str,
) -> Result<u64> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.get()).collect();
    let ended = sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = $4 AND state_change < clock_timestamp() - interval '1 s'
           AND (state LIKE 'idle in transaction%' OR (state = 'active' AND wait_event_type = 'Client'))
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

/// Deletes a slot whose transactions have ended, and releases its lock.
pub async fn bury(connection: &mut PgConnection, pipeline: &str, slot: Slot) -> Result<()> {
    sqlx::query("DELETE FROM tollgate.slot WHERE pipeline = $1 AND slot = $2")
        .bind(pipeline)
        .bind(slot.number)
        .execute(&mut *connection)
        .await?;
    unlock(connection, pipeline, slot.number).await
}
