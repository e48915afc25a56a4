//! Creates time partitions ahead of the events that need them.
//!
//! The wanted partitions follow from the calendar, in UTC. The catalogue shows by their bounds which ones are missing,
//! so partitions with other names count as well.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tollgate_contract::iso;

use tollgate_config::limits;
use tollgate_config::{Every, Partitions, TableName};
use tollgate_decide::postgres::quote::{quote, quoted_table};

/// The maximum length of an identifier in bytes; PostgreSQL truncates longer ones, and two names could become equal.
const NAME: usize = 63;
/// The number of hexadecimal digits that distinguish long names.
const DIGITS: usize = 8;

/// A wanted partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub name: TableName,
    table: TableName,
    /// The first day; the next field is the day after the last one.
    from: i64,
    to: i64,
}

impl Partition {
    /// Returns the statement that creates it.
    pub fn statement(&self) -> String {
        let Partition { name, table, from, to } = self;
        let (name, table) = (quoted_table(name), quoted_table(table));
        format!(
            // I13: the only statement of a running engine that creates anything but rows.
            "CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{}') TO ('{}');",
            moment(*from),
            moment(*to)
        )
    }
}

/// Formats the beginning of a day in UTC. Dates, and timestamps without a time zone, ignore the parts that they lack.
fn moment(day: i64) -> String {
    format!("{} 00:00:00+00", iso::show_date(day))
}

/// Returns the day of a time, in UTC, counted from 1970-01-01.
pub fn day_of(time: SystemTime) -> i64 {
    let days = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / limits::DAY.as_secs();
    i64::try_from(days).unwrap_or(i64::MAX)
}

/// Returns the wanted partitions, starting with that of `today`.
pub fn wanted(table: &TableName, partitions: &Partitions, today: i64) -> Vec<Partition> {
    let mut from = begin(partitions.every, today);
    let mut wanted = Vec::new();
    for _ in 0..=partitions.ahead {
        let to = next(partitions.every, from);
        wanted.push(Partition { name: name(table, partitions.every, from), table: table.clone(), from, to });
        from = to;
    }
    wanted
}

/// Returns the first day of the span that contains a day.
fn begin(every: Every, day: i64) -> i64 {
    let (year, month, _) = iso::civil(day);
    match every {
        Every::Day => day,
        Every::Week => day - weekday(day),
        Every::Month => first(year, month),
        Every::Year => first(year, 1),
    }
}

/// Returns the first day of the span after the one that begins with `day`.
fn next(every: Every, day: i64) -> i64 {
    let (year, month, _) = iso::civil(day);
    match every {
        Every::Day => day + 1,
        Every::Week => day + 7,
        Every::Month if month == 12 => first(year + 1, 1),
        Every::Month => first(year, month + 1),
        Every::Year => first(year + 1, 1),
    }
}

fn first(year: i64, month: i64) -> i64 {
    iso::days_of(year, month, 1).unwrap_or(i64::MAX / 2)
}

/// Returns the days since Monday. 1970-01-01 was a Thursday.
fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

/// Returns the partition's name, such as `orders_p20260131`, `orders_p2026w05`, `orders_p202601` or `orders_p2026`.
fn name(table: &TableName, every: Every, from: i64) -> TableName {
    let (year, month, day) = iso::civil(from);
    let span = match every {
        Every::Day => format!("{year:04}{month:02}{day:02}"),
        Every::Week => {
            // A week belongs to the year of its Thursday.
            let (year, _, _) = iso::civil(from + 3);
            let week = (from + 3 - first(year, 1)) / 7 + 1;
            format!("{year:04}w{week:02}")
        }
        Every::Month => format!("{year:04}{month:02}"),
        Every::Year => format!("{year:04}"),
    };
    let plain = format!("{}_p{span}", table.name);
    let name = if plain.len() <= NAME {
        plain
    } else {
        let digest = Sha256::digest(table.name.as_bytes());
        let digits: String = digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
        let mut room = NAME - "_".len() - DIGITS - "_p".len() - span.len();
        while !table.name.is_char_boundary(room) {
            room -= 1;
        }
        format!("{}_{digits}_p{span}", &table.name[..room])
    };
    TableName { schema: table.schema.clone(), name }
}

/// Tests whether a partition of the table contains the first moment of a wanted one. Times are in UTC, which is also
/// used to show the bounds.
const COVERED: &str = r"SELECT EXISTS (
    SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
           LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid),
               'FROM \((?:''([^'']*)''|MINVALUE)\) TO \((?:''([^'']*)''|MAXVALUE)\)') AS bounds) b
     WHERE i.inhparent = to_regclass($1) AND b.bounds IS NOT NULL
       AND coalesce(b.bounds[1]::timestamptz, '-infinity') <= $2::text::timestamptz
       AND $2::text::timestamptz < coalesce(b.bounds[2]::timestamptz, 'infinity'))";

/// Returns the wanted partitions that the table lacks.
pub async fn missing(connection: &mut PgConnection, wanted: Vec<Partition>) -> Result<Vec<Partition>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let mut missing = Vec::new();
    for partition in wanted {
        if !covered(&mut transaction, &partition).await? {
            missing.push(partition);
        }
    }
    transaction.rollback().await?;
    Ok(missing)
}

async fn covered(transaction: &mut PgConnection, partition: &Partition) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql("SET LOCAL TimeZone = 'UTC'").execute(&mut *transaction).await?;
    let query = sqlx::query_scalar(COVERED).bind(quoted_table(&partition.table)).bind(moment(partition.from));
    query.fetch_one(transaction).await
}

/// Creates a partition, unless another member is doing so. Returns whether it did.
///
/// The statement locks the table against all other use. So it waits only briefly for that lock: all writers to the
/// table queue behind it.
pub async fn create(connection: &mut PgConnection, partition: &Partition) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let patience = limits::PARTITION_LOCK.as_millis();
    sqlx::raw_sql(AssertSqlSafe(format!("SET LOCAL lock_timeout = '{patience}ms'"))).execute(&mut *transaction).await?;
    let ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('tollgate.partitions.' || $1))")
        .bind(partition.table.to_string())
        .fetch_one(&mut *transaction)
        .await?;
    // A previous holder of the lock may have created it since we checked.
    let creates = ours && !covered(&mut transaction, partition).await?;
    if creates {
        sqlx::raw_sql(AssertSqlSafe(partition.statement())).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(creates)
}

/// Creates the wanted partitions that the table lacks. Returns the result of each by its name, and nothing for those
/// that exist or that another member creates.
pub async fn ahead(connection: &mut PgConnection, wanted: Vec<Partition>) -> Vec<(String, Result<(), sqlx::Error>)> {
    let table = wanted.first().map(|partition| partition.table.to_string()).unwrap_or_default();
    let lacking = match missing(connection, wanted).await {
        Ok(lacking) => lacking,
        Err(error) => return vec![(table, Err(error))],
    };
    let mut made = Vec::new();
    for partition in lacking {
        match create(connection, &partition).await {
            Ok(true) => made.push((partition.name.to_string(), Ok(()))),
            Ok(false) => {}
            Err(error) => made.push((partition.name.to_string(), Err(error))),
        }
    }
    made
}

/// Returns an error about a table whose partitions are to be created, if it is not partitioned by range of this column.
pub async fn unfit(
    connection: &mut PgConnection,
    table: &TableName,
    partitions: &Partitions,
) -> Result<Option<String>, sqlx::Error> {
    let Partitions { column, .. } = partitions;
    let found: Option<(bool, String)> = sqlx::query_as(
        "SELECT p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = $2, format_type(a.atttypid, NULL)
           FROM pg_partitioned_table p
           LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
          WHERE p.partrelid = to_regclass($1)",
    )
    .bind(quoted_table(table))
    .bind(column)
    .fetch_optional(connection)
    .await?;
    let times = ["timestamp with time zone", "timestamp without time zone", "date"];
    Ok(match found {
        Some((true, kind)) if times.contains(&kind.as_str()) => None,
        Some((true, kind)) => Some(format!(
            "column {column} has type {kind}, but postgres.partitions needs timestamptz, timestamp or date"
        )),
        Some((false, _)) | None => Some(format!(
            "table {table} is not partitioned by range of {column}, as postgres.partitions requires: PostgreSQL cannot change \
             that of an existing table; create a new one (`tollgate setup --dry-run --sql` prints it), or remove \
             postgres.partitions"
        )),
    })
}

/// Returns the clause that declares the table.
pub fn clause(partitions: &Partitions) -> String {
    format!(" PARTITION BY RANGE ({})", quote(&partitions.column))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn table(name: &str) -> TableName {
        TableName { schema: None, name: name.to_owned() }
    }

    fn spans(every: Every, ahead: u32, today: (i64, i64, i64)) -> Vec<(String, String, String)> {
        let partitions = Partitions { column: "at".to_owned(), every, ahead };
        let today = iso::days_of(today.0, today.1, today.2).unwrap_or_default();
        let show = |partition: Partition| {
            (partition.name.to_string(), iso::show_date(partition.from), iso::show_date(partition.to))
        };
        wanted(&table("t"), &partitions, today).into_iter().map(show).collect()
    }

    fn owned(spans: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        spans.iter().map(|(name, from, to)| ((*name).to_owned(), (*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn each_span_follows_the_calendar_over_the_end_of_the_year() {
        let days = [("t_p20241231", "2024-12-31", "2025-01-01"), ("t_p20250101", "2025-01-01", "2025-01-02")];
        assert_eq!(spans(Every::Day, 1, (2024, 12, 31)), owned(&days));
        let leap = [("t_p20240228", "2024-02-28", "2024-02-29"), ("t_p20240229", "2024-02-29", "2024-03-01")];
        assert_eq!(spans(Every::Day, 1, (2024, 2, 28)), owned(&leap));
        let months = [
            ("t_p202511", "2025-11-01", "2025-12-01"),
            ("t_p202512", "2025-12-01", "2026-01-01"),
            ("t_p202601", "2026-01-01", "2026-02-01"),
        ];
        assert_eq!(spans(Every::Month, 2, (2025, 11, 30)), owned(&months));
        let years = [("t_p2025", "2025-01-01", "2026-01-01"), ("t_p2026", "2026-01-01", "2027-01-01")];
        assert_eq!(spans(Every::Year, 1, (2025, 12, 31)), owned(&years));
    }

    #[test]
    fn weeks_are_counted_as_iso_8601_counts_them() {
        // 2020 has 53 weeks, and the last days of 2024 belong to the first week of 2025.
        let long = [("t_p2020w53", "2020-12-28", "2021-01-04"), ("t_p2021w01", "2021-01-04", "2021-01-11")];
        assert_eq!(spans(Every::Week, 1, (2021, 1, 3)), owned(&long));
        assert_eq!(spans(Every::Week, 0, (2024, 12, 30)), owned(&[("t_p2025w01", "2024-12-30", "2025-01-06")]));
        assert_eq!(spans(Every::Week, 0, (2025, 1, 5)), owned(&[("t_p2025w01", "2024-12-30", "2025-01-06")]));
        assert_eq!(spans(Every::Week, 0, (1970, 1, 1)), owned(&[("t_p1970w01", "1969-12-29", "1970-01-05")]));
    }

    #[test]
    fn a_day_is_utcs() {
        assert_eq!(day_of(UNIX_EPOCH + limits::DAY - Duration::from_secs(1)), 0);
        assert_eq!(day_of(UNIX_EPOCH + limits::DAY), 1);
        let partitions = Partitions { column: "at".to_owned(), every: Every::Month, ahead: 0 };
        let table = TableName { schema: Some("s".to_owned()), name: "t\"t".to_owned() };
        let statement = wanted(&table, &partitions, 0)[0].statement();
        let expected = "CREATE TABLE \"s\".\"t\"\"t_p197001\" PARTITION OF \"s\".\"t\"\"t\" FOR VALUES FROM \
                        ('1970-01-01 00:00:00+00') TO ('1970-02-01 00:00:00+00');";
        assert_eq!(statement, expected);
    }

    #[test]
    fn long_names_stay_apart() {
        let long = |last: &str| name(&table(&format!("{}{last}", "ü".repeat(31))), Every::Day, 0).name;
        assert!(long("a").len() <= NAME && long("a").ends_with("_p19700101"), "{}", long("a"));
        assert_ne!(long("a"), long("b"));
        let fits = "x".repeat(NAME - "_p19700101".len());
        assert_eq!(name(&table(&fits), Every::Day, 0).name, format!("{fits}_p19700101"));
    }

    proptest::proptest! {
        /// The spans are consecutive, without gaps, and the first contains today.
        #[test]
        fn spans_have_no_gaps(today in 0_i64..100_000, ahead in 0_u32..20, every in 0_usize..4) {
            let partitions = Partitions { column: "at".to_owned(), every: Every::ALL[every].1, ahead };
            let wanted = wanted(&table("t"), &partitions, today);
            proptest::prop_assert!(wanted[0].from <= today && today < wanted[0].to);
            proptest::prop_assert!(wanted.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].name != pair[1].name));
        }
    }
}
