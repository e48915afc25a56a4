//! The benchmark's message, `payments.v1.PaymentEvent`, and the checks that make an event valid.

/// A payment as encoded on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PaymentEvent {
    /// A UUID of version 4 with its 36 characters, which is also the record's key.
    #[prost(string, tag = "1")]
    pub transaction_id: String,
    /// A positive amount with two decimals.
    #[prost(double, tag = "2")]
    pub amount: f64,
    /// One of [`CURRENCIES`].
    #[prost(string, tag = "3")]
    pub currency: String,
    /// An index into [`STATUSES`], never 0.
    #[prost(int32, tag = "4")]
    pub status: i32,
    /// Unix milliseconds.
    #[prost(int64, tag = "5")]
    pub created_at: i64,
    /// 32 hex digits.
    #[prost(string, tag = "6")]
    pub trace_id: String,
    /// `tenant-0000` to `tenant-0199`.
    #[prost(string, tag = "7")]
    pub tenant_id: String,
}

pub const CURRENCIES: [&str; 10] = ["USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "SEK", "PLN", "BRL"];
pub const STATUSES: [&str; 6] = ["STATUS_UNSPECIFIED", "PENDING", "AUTHORIZED", "CAPTURED", "FAILED", "REFUNDED"];

/// The reason why an event is invalid. The Node consumer's schema and the rules component make the same checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    TransactionId,
    Amount,
    Currency,
    Status,
    CreatedAt,
    TraceId,
    TenantId,
}

impl Refusal {
    pub fn code(self) -> &'static str {
        match self {
            Refusal::TransactionId => "transaction-id",
            Refusal::Amount => "amount",
            Refusal::Currency => "currency",
            Refusal::Status => "status",
            Refusal::CreatedAt => "created-at",
            Refusal::TraceId => "trace-id",
            Refusal::TenantId => "tenant-id",
        }
    }
}

/// The parts of a valid event that the table needs besides its strings: the parsed key, and the names of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Valid {
    pub id: u128,
    pub currency: &'static str,
    pub status: &'static str,
}

impl PaymentEvent {
    /// Runs all checks in field order. The first one that fails is the reason.
    pub fn check(&self) -> Result<Valid, Refusal> {
        let id = parse_uuid(&self.transaction_id).ok_or(Refusal::TransactionId)?;
        if !(self.amount.is_finite() && self.amount > 0.0) {
            return Err(Refusal::Amount);
        }
        let currency = CURRENCIES.into_iter().find(|c| *c == self.currency).ok_or(Refusal::Currency)?;
        let status = usize::try_from(self.status).ok().filter(|s| *s > 0).and_then(|s| STATUSES.get(s));
        let status = status.ok_or(Refusal::Status)?;
        if self.created_at <= 0 {
            return Err(Refusal::CreatedAt);
        }
        if self.trace_id.len() != 32 {
            return Err(Refusal::TraceId);
        }
        if self.tenant_id.is_empty() {
            return Err(Refusal::TenantId);
        }
        Ok(Valid { id, currency, status })
    }
}

/// Parses the 8-4-4-4-12 form with lower or upper case digits, and no other.
pub fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut id = 0u128;
    for (at, &b) in bytes.iter().enumerate() {
        let digit = match (at, b) {
            (8 | 13 | 18 | 23, b'-') => continue,
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9') => b - b'0',
            (_, b'a'..=b'f') => b - b'a' + 10,
            (_, b'A'..=b'F') => b - b'A' + 10,
            _ => return None,
        };
        id = id << 4 | u128::from(digit);
    }
    Some(id)
}

/// Formats a UUID in lower case; the inverse of [`parse_uuid`].
pub fn format_uuid(id: u128) -> String {
    let digits = hex(&id.to_be_bytes());
    let mut text = String::with_capacity(36);
    for (part, range) in [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().enumerate() {
        if part > 0 {
            text.push('-');
        }
        text.push_str(&digits[range]);
    }
    text
}

/// Returns the bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> PaymentEvent {
        PaymentEvent {
            transaction_id: "0e8f1c5a-93b1-4c55-8d0a-5f3f3b1f9d21".into(),
            amount: 12.5,
            currency: "EUR".into(),
            status: 3,
            created_at: 1_767_225_600_000,
            trace_id: "0".repeat(32),
            tenant_id: "tenant-0001".into(),
        }
    }

    #[test]
    fn a_uuid_survives_the_way_there_and_back() {
        let text = good().transaction_id;
        assert_eq!(parse_uuid(&text).map(format_uuid), Some(text));
        assert_eq!(parse_uuid("0e8f1c5a-93b1-4c55-8d0a-5f3f3b1f9d2"), None);
        assert_eq!(parse_uuid("0e8f1c5a093b1-4c55-8d0a-5f3f3b1f9d21"), None);
        assert_eq!(parse_uuid("0e8f1c5a-93b1-4c55-8d0a-5f3f3b1f9dg1"), None);
    }

    #[test]
    fn every_check_refuses_its_own_fault() {
        assert_eq!(good().check().map(|v| (v.currency, v.status)), Ok(("EUR", "CAPTURED")));
        type Spoil = fn(&mut PaymentEvent);
        let faults: [(Refusal, Spoil); 11] = [
            (Refusal::TransactionId, |e| e.transaction_id.clear()),
            (Refusal::Amount, |e| e.amount = 0.0),
            (Refusal::Amount, |e| e.amount = -1.0),
            (Refusal::Amount, |e| e.amount = f64::NAN),
            (Refusal::Currency, |e| e.currency = "eur".into()),
            (Refusal::Status, |e| e.status = 0),
            (Refusal::Status, |e| e.status = 6),
            (Refusal::Status, |e| e.status = -1),
            (Refusal::CreatedAt, |e| e.created_at = 0),
            (Refusal::TraceId, |e| e.trace_id.push('0')),
            (Refusal::TenantId, |e| e.tenant_id.clear()),
        ];
        for (refusal, spoil) in faults {
            let mut event = good();
            spoil(&mut event);
            assert_eq!(event.check(), Err(refusal));
        }
    }
}
