//! The PostgreSQL side of the bench: the target table, its contents, and the commit times of its rows.

use anyhow::{Context, bail};
use futures_util::TryStreamExt;
use md5::{Digest, Md5};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

use crate::oracle::Truth;
use crate::payment::hex;

const CREATE: &str = "create table if not exists payment_events (
    transaction_id text primary key, amount numeric(18,2), currency text, status text,
    created_at timestamptz, schema_version int)";

/// Selects the lines that are hashed for [`Truth::table_md5`].
const LINES: &str = "copy (select transaction_id || '|' || amount || '|' || currency || '|' || status || '|'
    || (extract(epoch from created_at) * 1000)::bigint
    from payment_events order by transaction_id collate \"C\") to stdout";

/// When PostgreSQL committed the rows, by its own clock. So an engine without metrics is timed like the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Seconds from the first commit to the last.
    pub seconds: f64,
    /// The share of the rows that came after the first commit. Only these were written within `seconds`.
    pub share_after_first: f64,
}

/// Quantiles of commit time minus event time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    pub rows: i64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

pub struct Table {
    connection: PgConnection,
}

impl Table {
    pub async fn connect(url: &str) -> anyhow::Result<Table> {
        let connection = PgConnection::connect(url).await.context("PostgreSQL cannot be reached")?;
        Ok(Table { connection })
    }

    /// Creates the table if it is missing, empties it, and writes dirty pages, so that no run is slowed by the one
    /// before.
    pub async fn reset(&mut self) -> anyhow::Result<()> {
        for statement in [CREATE, "truncate payment_events", "checkpoint"] {
            self.connection.execute(statement).await.with_context(|| format!("{statement:?} failed"))?;
        }
        Ok(())
    }

    /// Returns the table's contents; the part of the dead letters is left empty.
    pub async fn content(&mut self) -> anyhow::Result<Truth> {
        let totals = sqlx::query("select count(*), coalesce(sum(amount), 0.00)::text from payment_events");
        let totals = totals.fetch_one(&mut self.connection).await?;
        let (rows, sum_amount): (i64, String) = (totals.try_get(0)?, totals.try_get(1)?);
        let mut hash = Md5::new();
        let mut lines = self.connection.copy_out_raw(LINES).await?;
        while let Some(chunk) = lines.try_next().await? {
            hash.update(&chunk);
        }
        let table_md5 = hex(&hash.finalize());
        let rows = u64::try_from(rows)?;
        Ok(Truth { rows, sum_amount, table_md5, dead_letters: 0, dead_letters_md5: String::new() })
    }

    /// Returns the time span of the commits of the present rows.
    pub async fn span(&mut self) -> anyhow::Result<Span> {
        let row = sqlx::query(
            "with c as (select pg_xact_commit_timestamp(xmin) t from payment_events),
                  s as (select min(t) a, max(t) b from c)
             select extract(epoch from b - a)::float8, (select avg((t > a)::int)::float8 from c) from s",
        );
        let row = row
            .fetch_one(&mut self.connection)
            .await
            .context("commit times cannot be read; is track_commit_timestamp on?")?;
        let (seconds, share): (Option<f64>, Option<f64>) = (row.try_get(0)?, row.try_get(1)?);
        match (seconds, share) {
            (Some(seconds), Some(share_after_first)) if seconds > 0.0 => Ok(Span { seconds, share_after_first }),
            _ => bail!("the table holds the rows of one commit at most: no rate can be told"),
        }
    }

    /// Returns latencies of the rows whose event time is at least `skip_s` seconds after the first one's.
    pub async fn latency(&mut self, skip_s: f64) -> anyhow::Result<Latency> {
        let query = sqlx::query(
            "with c as (select extract(epoch from pg_xact_commit_timestamp(xmin) - created_at)::float8 * 1000 ms
                        from payment_events
                        where created_at >= (select min(created_at) from payment_events) + make_interval(secs => $1))
             select count(*), percentile_cont(array[0.5, 0.9, 0.99, 0.999, 1]) within group (order by ms) from c",
        );
        let row = query.bind(skip_s).fetch_one(&mut self.connection).await?;
        let (rows, quantiles): (i64, Option<Vec<f64>>) = (row.try_get(0)?, row.try_get(1)?);
        let Some([p50, p90, p99, p999, max]) = quantiles.and_then(|q| <[f64; 5]>::try_from(q).ok()) else {
            bail!("no row is younger than the first {skip_s} s: no latency can be told");
        };
        Ok(Latency { rows, p50, p90, p99, p999, max })
    }
}
