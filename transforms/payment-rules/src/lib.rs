//! Refuses payment events that break a rule of the domain, each with a code of its own.

use serde::Deserialize;
use tollgate::Rejection;

tollgate::include_protos!();

use payments::v1::{PaymentEvent, PaymentStatus};

/// See `config` in transform.yaml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Currencies that are accepted.
    currencies: Vec<Currency>,
    /// Whether an amount may have no more decimals than its currency.
    check_minor_units: bool,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Currency {
    /// In capitals.
    code: [u8; 3],
    minor_per_major: f64,
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        let letters = <[u8; 3]>::try_from(code.as_bytes()).ok();
        let capitals = letters.filter(|letters| letters.iter().all(u8::is_ascii_uppercase));
        let minor_per_major = iso4217::minor_per_major(&code);
        capitals
            .map(|letters| Self { code: letters, minor_per_major })
            .ok_or_else(|| format!("`{code}` is no currency code: three capitals, such as EUR"))
    }
}

/// In the order of the fields; the first rule that an event breaks is the reason.
#[tollgate::transform]
fn check(event: &PaymentEvent, _: &tollgate::Context, config: &Config) -> Result<(), Rejection> {
    transaction_id(&event.transaction_id)?;
    amount(event.amount)?;
    currency(event, config)?;
    if !matches!(PaymentStatus::try_from(event.status), Ok(status) if status != PaymentStatus::StatusUnspecified) {
        return Err(Rejection::new("status-unknown", "status", format!("{} is no payment status", event.status)));
    }
    if event.created_at <= 0 {
        let message = format!("{} is no time in Unix milliseconds", event.created_at);
        return Err(Rejection::new("created-at-not-positive", "created_at", message));
    }
    trace_id(&event.trace_id)?;
    if event.tenant_id.is_empty() {
        return Err(Rejection::new("tenant-missing", "tenant_id", "no tenant"));
    }
    Ok(())
}

/// The 8-4-4-4-12 form of a UUID of any version.
fn transaction_id(id: &str) -> Result<(), Rejection> {
    // No early end: a good id is the rule, and one sum over all bytes is the cheapest way to see it.
    if let Ok(bytes) = <&[u8; 36]>::try_from(id.as_bytes()) {
        let dashes = [8, 13, 18, 23].iter().all(|&at| bytes[at] == b'-');
        let digits = bytes.iter().map(|&byte| HEX_DIGIT[usize::from(byte)]).sum::<u8>();
        if dashes && digits == 32 {
            return Ok(());
        }
    }
    Err(Rejection::new("transaction-id-not-uuid", "transaction_id", format!("`{}` is no UUID", shown(id))))
}

/// 1 where a byte is a hexadecimal digit.
static HEX_DIGIT: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_hexdigit() as u8;
        byte += 1;
    }
    table
};

fn amount(amount: f64) -> Result<(), Rejection> {
    let code = if !amount.is_finite() {
        "amount-not-finite"
    } else if amount <= 0.0 {
        "amount-not-positive"
    } else {
        return Ok(());
    };
    Err(Rejection::new(code, "amount", format!("{amount} is not above zero")))
}

fn currency(event: &PaymentEvent, config: &Config) -> Result<(), Rejection> {
    let code = event.currency.as_str();
    let Some(currency) = config.currencies.iter().find(|known| known.code == code.as_bytes()) else {
        return Err(Rejection::new("currency-unknown", "currency", format!("`{}` is not accepted here", shown(code))));
    };
    if config.check_minor_units && !iso4217::fits(event.amount, currency.minor_per_major) {
        let (amount, decimals) = (event.amount, iso4217::exponent(code));
        let message = format!("{amount} {code} has more than {decimals} decimals");
        return Err(Rejection::new("amount-minor-units", "amount", message));
    }
    Ok(())
}

fn trace_id(id: &str) -> Result<(), Rejection> {
    if id.len() == 32 && id.is_ascii() || id.chars().count() == 32 {
        return Ok(());
    }
    Err(Rejection::new("trace-id-length", "trace_id", format!("`{}` has not 32 characters", shown(id))))
}

/// Enough of a text to know it by, whatever somebody put into the field.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate::{Verdict, testing};

    fn config() -> Config {
        testing::config(r#"{"currencies": ["EUR", "JPY", "USD"], "check_minor_units": true}"#).unwrap()
    }

    fn good() -> PaymentEvent {
        PaymentEvent {
            transaction_id: "0e8f1c5a-93b1-4c55-8d0a-5f3f3b1f9d21".into(),
            amount: 12.5,
            currency: "EUR".into(),
            status: PaymentStatus::Captured.into(),
            created_at: 1_767_225_600_000,
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            tenant_id: "tenant-0001".into(),
        }
    }

    fn outcome(event: &PaymentEvent, config: &Config) -> testing::Outcome {
        testing::event(event).run(|event, ctx| check(event, ctx, config))
    }

    #[test]
    fn a_good_event_passes() {
        assert_eq!(outcome(&good(), &config()).verdict, Verdict::Pass);
        let upper = PaymentEvent { transaction_id: good().transaction_id.to_uppercase(), ..good() };
        assert_eq!(outcome(&upper, &config()).verdict, Verdict::Pass);
    }

    #[test]
    fn each_rule_has_its_code_and_names_its_field() {
        type Spoil = fn(&mut PaymentEvent);
        let rules: [(&str, &str, Spoil); 14] = [
            ("transaction-id-not-uuid", "transaction_id", |e| e.transaction_id.clear()),
            ("transaction-id-not-uuid", "transaction_id", |e| e.transaction_id = "0".repeat(36)),
            ("transaction-id-not-uuid", "transaction_id", |e| e.transaction_id.replace_range(35.., "g")),
            ("amount-not-finite", "amount", |e| e.amount = f64::NAN),
            ("amount-not-finite", "amount", |e| e.amount = f64::INFINITY),
            ("amount-not-positive", "amount", |e| e.amount = -0.0),
            ("amount-not-positive", "amount", |e| e.amount = -3.0),
            ("currency-unknown", "currency", |e| e.currency = "eur".into()),
            ("amount-minor-units", "amount", |e| e.amount = 12.345),
            ("status-unknown", "status", |e| e.status = 0),
            ("status-unknown", "status", |e| e.status = 6),
            ("created-at-not-positive", "created_at", |e| e.created_at = 0),
            ("trace-id-length", "trace_id", |e| e.trace_id = "ü".repeat(33)),
            ("tenant-missing", "tenant_id", |e| e.tenant_id.clear()),
        ];
        for (code, field, spoil) in rules {
            let mut event = good();
            spoil(&mut event);
            let outcome = outcome(&event, &config());
            let rejection = outcome.rejection().unwrap_or_else(|| panic!("{code}: {outcome:?}"));
            assert_eq!((rejection.code.as_ref(), rejection.field.as_ref()), (code, field));
        }
    }

    #[test]
    fn minor_units_are_the_currencys_and_can_be_left_alone() {
        let yen = PaymentEvent { amount: 100.5, currency: "JPY".into(), ..good() };
        assert_eq!(outcome(&yen, &config()).code(), "amount-minor-units");
        let lenient = Config { check_minor_units: false, ..config() };
        assert_eq!(outcome(&yen, &lenient).verdict, Verdict::Pass);
    }

    #[test]
    fn a_long_text_does_not_make_a_long_message() {
        let event = PaymentEvent { currency: "é".repeat(100_000), ..good() };
        assert!(outcome(&event, &config()).rejection().unwrap().message.len() < 120);
    }

    #[test]
    fn bytes_that_are_no_event_are_refused() {
        let outcome = testing::bytes(*b"\x0a\xff").run(|event, ctx| check(event, ctx, &config()));
        assert_eq!(outcome.code(), "guest-undecodable");
    }

    #[test]
    fn a_wrong_configuration_names_its_key() {
        let error = testing::config::<Config>(r#"{"currencies": ["EUR", "euro"], "check_minor_units": true}"#);
        assert!(error.unwrap_err().starts_with("config.currencies[1]: `euro` is no currency code"));
        let error = testing::config::<Config>(r#"{"currencies": [], "check_minor_unit": true}"#).unwrap_err();
        assert!(error.starts_with("config.check_minor_unit: unknown field"), "{error}");
    }
}
