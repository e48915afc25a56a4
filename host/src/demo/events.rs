//! Generates payment events: new payments, later steps of earlier ones, and occasional corrupted events. The same seed
//! gives the same events.

use prost::Message as _;

/// The wire form of a payment event: `payments.v1.PaymentEvent`.
#[derive(Clone, PartialEq, prost::Message)]
struct Payment {
    #[prost(string, tag = "1")]
    transaction_id: String,
    #[prost(double, tag = "2")]
    amount: f64,
    #[prost(string, tag = "3")]
    currency: String,
    #[prost(int32, tag = "4")]
    status: i32,
    #[prost(int64, tag = "5")]
    created_at: i64,
    #[prost(string, tag = "6")]
    trace_id: String,
    #[prost(string, tag = "7")]
    tenant_id: String,
}

/// A record to produce.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub key: String,
    pub value: Option<Vec<u8>>,
    pub json: bool,
    /// How it was corrupted, if it was.
    pub spoilt: Option<Spoilt>,
}

/// The ways in which an event is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spoilt {
    /// A refund booked as a negative payment. The contract allows it, but the rules do not.
    NegativeAmount,
    /// An unsupported currency. The contract allows it, but the rules do not.
    UnknownCurrency,
    /// An event whose last bytes are missing.
    Truncated,
    /// JSON with a string in place of a number.
    JsonWrongType,
    /// A record without a value.
    Tombstone,
    /// A status that the contract does not know.
    UnknownStatus,
}

const SPOILT: [Spoilt; 6] = [
    Spoilt::NegativeAmount,
    Spoilt::UnknownCurrency,
    Spoilt::Truncated,
    Spoilt::JsonWrongType,
    Spoilt::Tombstone,
    Spoilt::UnknownStatus,
];

/// The code, the decimals, and a usual price in major units.
const CURRENCIES: [(&str, i32, f64); 6] =
    [("EUR", 2, 40.0), ("USD", 2, 45.0), ("GBP", 2, 35.0), ("JPY", 0, 6_000.0), ("CHF", 2, 50.0), ("SEK", 2, 420.0)];
const TENANTS: [&str; 8] = [
    "bookshop-berlin",
    "cafe-lyon",
    "cinema-osaka",
    "florist-leeds",
    "garage-boston",
    "hotel-zurich",
    "market-malmo",
    "records-lisbon",
];
const STATUSES: [&str; 6] = ["STATUS_UNSPECIFIED", "PENDING", "AUTHORIZED", "CAPTURED", "FAILED", "REFUNDED"];
/// The steps that may follow each status. Statuses without a step are final.
const NEXT: [&[i32]; 6] = [&[], &[2, 4], &[3, 3, 3, 4], &[5], &[], &[]];
/// A status that a newer version of the contract may define.
const UNKNOWN_STATUS: i32 = 17;
/// The maximum number of payments with a next step to come.
const OPEN: usize = 400;
/// The number of later steps per thousand events. The next constants are those of bad events and of good events in
/// JSON.
const STEPS: u64 = 300;
const BAD: u64 = 40;
const JSON: u64 = 60;

pub struct Events {
    random: SplitMix,
    /// The time in Unix milliseconds.
    clock: i64,
    open: Vec<Payment>,
}

impl Events {
    /// Creates a generator. `clock` is the time of the first event in Unix milliseconds.
    pub fn new(seed: u64, clock: i64) -> Events {
        Events { random: SplitMix(seed), clock, open: Vec::new() }
    }

    fn payment(&mut self) -> Payment {
        let random = &mut self.random;
        if !self.open.is_empty() && random.below(1_000) < STEPS {
            let index = random.index(self.open.len());
            let mut payment = self.open.swap_remove(index);
            let steps = NEXT[usize::try_from(payment.status).unwrap_or_default()];
            payment.status = steps[random.index(steps.len())];
            payment.created_at = self.clock;
            payment.trace_id = random.hex(32);
            return payment;
        }
        let (currency, decimals, usual) = random.pick(&CURRENCIES);
        // The product of uniform numbers gives many small amounts and few large ones.
        let (a, b, c) = (random.share(), random.share(), random.share());
        let unit = 10_f64.powi(decimals);
        let amount = ((usual * 12.0 * a * b * c * (1.0 + 4.0 * a * a)) * unit).round().max(1.0) / unit;
        let id = random.hex(32);
        Payment {
            transaction_id: format!("{}-{}-4{}-8{}-{}", &id[..8], &id[8..12], &id[13..16], &id[17..20], &id[20..]),
            amount,
            currency: currency.to_owned(),
            status: i32::from(random.below(4) > 0) + 1,
            created_at: self.clock,
            trace_id: random.hex(32),
            tenant_id: random.pick(&TENANTS).to_owned(),
        }
    }

    fn spoil(&mut self, mut payment: Payment) -> Event {
        let spoilt = self.random.pick(&SPOILT);
        let key = payment.transaction_id.clone();
        let (mut value, mut json) = (None, false);
        match spoilt {
            Spoilt::NegativeAmount => payment.amount = -payment.amount,
            Spoilt::UnknownCurrency => payment.currency = self.random.pick(&["ZZZ", "eur", "BTC"]).to_owned(),
            Spoilt::UnknownStatus => payment.status = UNKNOWN_STATUS,
            Spoilt::Truncated | Spoilt::JsonWrongType | Spoilt::Tombstone => {}
        }
        match spoilt {
            Spoilt::Tombstone => {}
            Spoilt::JsonWrongType => {
                json = true;
                value = Some(json_of(&payment, "\"a lot\"").into_bytes());
            }
            Spoilt::Truncated => {
                let mut bytes = payment.encode_to_vec();
                // The cut is within the last field, so that its declared length exceeds the data.
                bytes.truncate(bytes.len() - 3);
                value = Some(bytes);
            }
            Spoilt::NegativeAmount | Spoilt::UnknownCurrency | Spoilt::UnknownStatus => {
                value = Some(payment.encode_to_vec());
            }
        }
        Event { key, value, json, spoilt: Some(spoilt) }
    }
}

impl Iterator for Events {
    type Item = Event;

    /// Always returns an event.
    fn next(&mut self) -> Option<Event> {
        self.clock += i64::try_from(self.random.below(700)).unwrap_or_default();
        let payment = self.payment();
        if self.random.below(1_000) < BAD {
            return Some(self.spoil(payment));
        }
        let json = self.random.below(1_000) < JSON;
        let value =
            if json { json_of(&payment, &payment.amount.to_string()).into_bytes() } else { payment.encode_to_vec() };
        let event = Event { key: payment.transaction_id.clone(), value: Some(value), json, spoilt: None };
        let goes_on = !NEXT[usize::try_from(payment.status).unwrap_or_default()].is_empty();
        if goes_on && self.open.len() < OPEN {
            self.open.push(payment);
        }
        Some(event)
    }
}

/// Returns Protobuf's JSON mapping of a payment, with this as its amount.
fn json_of(payment: &Payment, amount: &str) -> String {
    let Payment { transaction_id, currency, status, created_at, trace_id, tenant_id, .. } = payment;
    let status = STATUSES[usize::try_from(*status).unwrap_or_default()];
    format!(
        r#"{{"transactionId":"{transaction_id}","amount":{amount},"currency":"{currency}","status":"{status}","createdAt":"{created_at}","traceId":"{trace_id}","tenantId":"{tenant_id}"}}"#
    )
}

/// splitmix64 (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// Returns a number from 0 to below 1.
    fn share(&mut self) -> f64 {
        // 32 bits are enough for an amount.
        f64::from(u32::try_from(self.draw() >> 32).unwrap_or_default()) / 4_294_967_296.0
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap_or(1))).unwrap_or_default()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.draw()));
        }
        text.truncate(digits);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashMap};
    use tollgate_contract::{Contract, FieldPath, Policies};

    fn some(count: usize) -> Vec<Event> {
        Events::new(7, 1_767_225_600_000).take(count).collect()
    }

    #[test]
    fn a_seed_gives_the_same_events() {
        assert_eq!(some(500), some(500));
        assert_ne!(some(500), Events::new(8, 1_767_225_600_000).take(500).collect::<Vec<_>>());
    }

    #[test]
    fn every_way_of_being_bad_comes_and_most_are_good() {
        let mut counts = BTreeMap::new();
        for event in some(5_000) {
            *counts.entry(event.spoilt).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), SPOILT.len() + 1, "{counts:?}");
        let good = counts[&None];
        assert!((4_700..4_900).contains(&good), "{counts:?}");
        assert!(counts.values().all(|count| *count > 10), "{counts:?}");
    }

    #[test]
    fn good_ones_are_plausible_and_later_steps_carry_the_same_key() {
        let mut last: HashMap<String, Payment> = HashMap::new();
        let mut steps = 0;
        for event in some(5_000).into_iter().filter(|event| event.spoilt.is_none() && !event.json) {
            let payment = Payment::decode(event.value.as_deref().unwrap()).unwrap();
            assert_eq!(payment.transaction_id, event.key);
            assert!(payment.amount > 0.0 && payment.amount < 2_000_000.0, "{payment:?}");
            let (_, decimals, _) = CURRENCIES.into_iter().find(|(code, ..)| *code == payment.currency).unwrap();
            let minor = payment.amount * 10_f64.powi(decimals);
            assert!((minor - minor.round()).abs() < 1e-6, "{payment:?}");
            assert!((1..=5).contains(&payment.status), "{payment:?}");
            if let Some(before) = last.insert(event.key, payment.clone()) {
                steps += 1;
                assert_eq!(before.amount, payment.amount);
                assert!(before.created_at <= payment.created_at);
            }
        }
        assert!(steps > 500, "{steps}");
    }

    #[test]
    fn those_that_the_contract_must_refuse_are_refused_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("payment.proto");
        std::fs::write(&file, super::super::files::PROTO).unwrap();
        let pool = tollgate_protos::load(&[folder.path().to_path_buf()]).unwrap();
        let message = pool.get_message_by_name("payments.v1.PaymentEvent").unwrap();
        for event in some(5_000) {
            let Some(value) = event.value else { continue };
            let decoded = if event.json {
                let mut deserializer = serde_json::Deserializer::from_slice(&value);
                prost_reflect::DynamicMessage::deserialize(message.clone(), &mut deserializer).is_ok()
            } else {
                prost_reflect::DynamicMessage::decode(message.clone(), value.as_slice()).is_ok()
            };
            let bad = matches!(event.spoilt, Some(Spoilt::Truncated | Spoilt::JsonWrongType));
            assert_eq!(decoded, !bad, "{:?}", event.spoilt);
        }
        let compiled =
            Contract::compile(&pool, "payments.v1.PaymentEvent", Policies::default(), &[FieldPath::new("amount")]);
        assert!(compiled.is_ok());
    }
}
