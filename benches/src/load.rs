//! Sends the recipe's events to a topic: as fast as possible, or at a rate.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::broker::{EVENT_HEADERS, Sender, event_headers};
use crate::payment::format_uuid;
use crate::recipe::{FILL_EPOCH_MS, Recipe};
use crate::wire::Wire;

/// Filling a topic needs throughput, not latency.
const FILL_LINGER_MS: u32 = 20;
/// Events that became due since the last tick are sent together. This acts as a producer's linger, and it is part of
/// every engine's measured latency.
const TICK: Duration = Duration::from_millis(5);
/// A larger request could hold a batch that is too large for the topic, if the load was late.
const REQUEST_EVENTS: u64 = 2_000;
/// The load counts as late if it is further behind than this.
const LATE: Duration = Duration::from_millis(20);

/// The accuracy of the load's rate.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub events: u64,
    pub seconds: f64,
    /// The ticks at which more than [`LATE`] of events was due at once, because the machine was too busy for the load
    /// itself.
    pub late_ticks: u64,
}

/// Sends the first `events` of the recipe, whose event times start at [`FILL_EPOCH_MS`]. Without a sender they are only
/// counted.
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

/// Sends `per_second` events a second for `seconds`, regardless of the broker's answers. An event's time is when it was
/// due, so a late load shows as latency, not as fewer events.
pub fn rate(recipe: &mut Recipe, per_second: u64, seconds: u64, wire: &mut Wire) -> anyhow::Result<Pace> {
    let total = per_second * seconds;
    let late = per_second * u64::try_from(LATE.as_millis())? / 1_000;
    let epoch = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let start = Instant::now();
    let (mut sent, mut late_ticks, mut tick) = (0, 0, start);
    let mut value = Vec::with_capacity(256);
    while sent < total {
        tick = (tick + TICK).max(Instant::now());
        std::thread::sleep(tick - Instant::now());
        let nanos = u128::from(per_second) * start.elapsed().as_nanos();
        let due = u64::try_from(nanos / 1_000_000_000)?.min(total);
        late_ticks += u64::from(due > sent + late);
        for number in sent..due {
            let event = recipe.next(epoch + i64::try_from(number * 1_000 / per_second)?);
            let message = event.message();
            value.clear();
            message.encode(&mut value)?;
            wire.queue(event.id, message.transaction_id.as_bytes(), &value, &EVENT_HEADERS)?;
            if (number + 1 - sent) % REQUEST_EVENTS == 0 {
                wire.send(event.created_at)?;
            }
        }
        wire.send(epoch + i64::try_from(start.elapsed().as_millis())?)?;
        sent = due;
    }
    Ok(Pace { events: sent, seconds: start.elapsed().as_secs_f64(), late_ticks })
}
