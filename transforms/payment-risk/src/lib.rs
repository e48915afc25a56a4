//! Rates payment events: a risk tier by amount, the currency as everybody writes it, the amount as an integer.

use std::mem::take;

use serde::Deserialize;
use tollgate::{Context, Rejection, Verdict};

tollgate::include_protos!();

use payments::v1::{PaymentEvent, RatedPayment};

/// See `config` in transform.yaml.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Thresholds")]
struct Config {
    medium_above: f64,
    high_above: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    medium_above: f64,
    high_above: f64,
}

impl TryFrom<Thresholds> for Config {
    type Error = String;

    fn try_from(Thresholds { medium_above, high_above }: Thresholds) -> Result<Self, String> {
        // NaN is neither, and is refused with the rest.
        if 0.0 <= medium_above && medium_above <= high_above {
            return Ok(Self { medium_above, high_above });
        }
        Err(format!("medium_above ({medium_above}) must lie between 0 and high_above ({high_above})"))
    }
}

#[tollgate::transform]
fn rate(event: &mut PaymentEvent, ctx: &Context, config: &Config) -> Result<Verdict, Rejection> {
    let code = event.currency.trim();
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        let message = "no currency code: three letters of ISO 4217 are wanted";
        return Err(Rejection::new("currency-malformed", "currency", message));
    }
    let currency = code.to_ascii_uppercase();
    let Some(amount_minor) = iso4217::to_minor(event.amount, &currency) else {
        let message = format!("{} {currency} cannot be counted in minor units", event.amount);
        return Err(Rejection::new("amount-out-of-range", "amount", message));
    };
    ctx.emit(&RatedPayment {
        transaction_id: take(&mut event.transaction_id),
        amount: event.amount,
        status: event.status,
        created_at: event.created_at,
        trace_id: take(&mut event.trace_id),
        tenant_id: take(&mut event.tenant_id),
        risk_tier: tier(event.amount, config).to_owned(),
        amount_minor,
        currency_exponent: iso4217::exponent(&currency).into(),
        currency,
    });
    Ok(Verdict::Replace)
}

fn tier(amount: f64, config: &Config) -> &'static str {
    if amount > config.high_above {
        "high"
    } else if amount > config.medium_above {
        "medium"
    } else {
        "low"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate::testing;

    fn config() -> Config {
        testing::config(r#"{"medium_above": 100, "high_above": 1000}"#).unwrap()
    }

    fn outcome(amount: f64, currency: &str) -> testing::Outcome {
        let event = PaymentEvent {
            transaction_id: "id".into(),
            amount,
            currency: currency.into(),
            status: 3,
            created_at: 7,
            trace_id: "trace".into(),
            tenant_id: "tenant".into(),
        };
        testing::event(&event).run(|event, ctx| rate(event, ctx, &config()))
    }

    #[test]
    fn everything_else_is_carried_over() {
        let outcome = outcome(12.34, " eur ");
        assert_eq!(outcome.verdict, Verdict::Replace);
        let expected = RatedPayment {
            transaction_id: "id".into(),
            amount: 12.34,
            currency: "EUR".into(),
            status: 3,
            created_at: 7,
            trace_id: "trace".into(),
            tenant_id: "tenant".into(),
            risk_tier: "low".into(),
            amount_minor: 1234,
            currency_exponent: 2,
        };
        assert_eq!(outcome.output::<RatedPayment>(), expected);
    }

    #[test]
    fn a_tier_begins_above_its_threshold() {
        for (amount, tier) in [(100.0, "low"), (100.01, "medium"), (1000.0, "medium"), (1000.01, "high")] {
            assert_eq!(outcome(amount, "EUR").output::<RatedPayment>().risk_tier, tier, "{amount}");
        }
    }

    #[test]
    fn minor_units_are_the_currencys_half_to_even() {
        for (amount, currency, minor, exponent) in
            [(2.675, "EUR", 268, 2), (2.5, "JPY", 2, 0), (1.2345, "KWD", 1234, 3), (1.0, "CLF", 10_000, 4)]
        {
            let rated: RatedPayment = outcome(amount, currency).output();
            assert_eq!((rated.amount_minor, rated.currency_exponent), (minor, exponent), "{amount} {currency}");
        }
    }

    #[test]
    fn what_cannot_be_rated_is_refused() {
        for currency in ["", "EURO", "E1R", "é1"] {
            assert_eq!(outcome(1.0, currency).code(), "currency-malformed", "{currency}");
        }
        for amount in [f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(outcome(amount, "EUR").code(), "amount-out-of-range", "{amount}");
        }
    }

    #[test]
    fn thresholds_must_be_in_order() {
        let error = testing::config::<Config>(r#"{"medium_above": 10, "high_above": 1}"#).unwrap_err();
        assert!(error.contains("medium_above (10) must lie between 0 and high_above (1)"), "{error}");
    }
}
