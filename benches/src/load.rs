//! Sends the recipe's events to a topic: as fast as possible, or at a rate.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;
use rdkafka::message::Header;

use crate::broker::{Sender, event_headers};
use crate::payment::format_uuid;
use crate::recipe::{FILL_EPOCH_MS, Recipe};

/// Records wait this long for company: throughput counts when filling, latency at a rate (it is part of what is measured,
/// for every engine alike).
const FILL_LINGER_MS: u32 = 20;
const RATE_LINGER_MS: u32 = 5;
/// A tick of the rate: 5 events at 5,000/s.
const TICK: Duration = Duration::from_millis(1);
/// The load counts as late when it is further behind than this.
const LATE: Duration = Duration::from_millis(20);

/// How well the rate was kept.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub events: u64,
    pub seconds: f64,
    /// Ticks at which more than [`LATE`] of events was due at once: the machine was too busy for the load itself.
    pub late_ticks: u64,
}

/// The first `events` of the recipe in event time from [`FILL_EPOCH_MS`] on; only counted, not sent, without a sender.
pub fn fill(recipe: &mut Recipe, events: u64, sender: Option<&Sender>) -> anyhow::Result<()> {
    let mut value = Vec::with_capacity(256);
    for i in 0..i64::try_from(events)? {
        let event = recipe.next(FILL_EPOCH_MS + i);
        if let Some(sender) = sender {
            value.clear();
            event.message().encode(&mut value)?;
            sender.send(format_uuid(event.id).as_bytes(), &value, event_headers())?;
        }
    }
    Ok(())
}

pub fn fill_sender(brokers: &str, topic: &str) -> anyhow::Result<Sender> {
    Sender::new(brokers, topic, FILL_LINGER_MS)
}

pub fn rate_sender(brokers: &str, topic: &str) -> anyhow::Result<Sender> {
    Sender::new(brokers, topic, RATE_LINGER_MS)
}

/// `per_second` events a second for `seconds`, event time = now, header `produced-us` = now in microseconds.
pub fn rate(recipe: &mut Recipe, per_second: u64, seconds: u64, sender: &Sender) -> anyhow::Result<Pace> {
    let total = per_second * seconds;
    let late = per_second * u64::try_from(LATE.as_millis())? / 1_000;
    let start = Instant::now();
    let (mut sent, mut late_ticks) = (0, 0);
    let mut value = Vec::with_capacity(256);
    while sent < total {
        let nanos = u128::from(per_second) * start.elapsed().as_nanos();
        let due = u64::try_from(nanos / 1_000_000_000)?.min(total);
        late_ticks += u64::from(due > sent + late);
        for _ in sent..due {
            let micros = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
            let event = recipe.next(micros / 1_000);
            value.clear();
            event.message().encode(&mut value)?;
            let stamp = micros.to_string();
            let headers = event_headers().insert(Header { key: "produced-us", value: Some(&stamp) });
            sender.send(format_uuid(event.id).as_bytes(), &value, headers)?;
        }
        sent = due;
        std::thread::sleep(TICK);
    }
    Ok(Pace { events: sent, seconds: start.elapsed().as_secs_f64(), late_ticks })
}
