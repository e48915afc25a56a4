//! Guards a time against silent cast corruption: shops send seconds, milliseconds, microseconds, nanoseconds or text, and
//! a number that is read in the wrong unit is still a number, only of the year 1970 or 55,000.
//!
//! The units are told apart by magnitude. Within a window of plausible times no number is plausible in two units, as
//! long as the window's end lies less than a thousand times as far from 1970 as its beginning: the configuration is
//! checked for that.

mod iso8601;

use serde::Deserialize;
use tollgate::{Context, Level, Rejection, Verdict};

tollgate::include_protos!();

use orders::v1::OrderEvent;

/// See `config` in transform.yaml.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Settings")]
struct Config {
    /// Unix milliseconds.
    earliest: i64,
    /// Unix milliseconds.
    latest: i64,
    on_mismatch: OnMismatch,
    zone: iso8601::Zone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    earliest: String,
    latest: String,
    on_mismatch: OnMismatch,
    text_without_zone: WithoutZone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnMismatch {
    Repair,
    Reject,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WithoutZone {
    Utc,
    Reject,
}

impl TryFrom<Settings> for Config {
    type Error = String;

    fn try_from(settings: Settings) -> Result<Self, String> {
        let time = |key: &str, text: &str| {
            let zone = iso8601::Zone::AssumeUtc;
            iso8601::millis(text, zone)
                .ok_or_else(|| format!("{key}: `{text}` is no time such as 2000-01-01T00:00:00Z"))
        };
        let (earliest, latest) = (time("earliest", &settings.earliest)?, time("latest", &settings.latest)?);
        if earliest <= 0 || latest <= earliest || latest / 1000 >= earliest {
            let rule = "earliest must lie after 1970, latest after it and less than 1000 times as far from 1970";
            return Err(format!("{rule}: otherwise a number could be a time in two units"));
        }
        let zone = match settings.text_without_zone {
            WithoutZone::Utc => iso8601::Zone::AssumeUtc,
            WithoutZone::Reject => iso8601::Zone::Demand,
        };
        Ok(Self { earliest, latest, on_mismatch: settings.on_mismatch, zone })
    }
}

/// What a time was given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    Text,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
            Self::Text => "text",
        }
    }
}

#[tollgate::transform]
fn guard(event: &mut OrderEvent, ctx: &Context, config: &Config) -> Result<Verdict, Rejection> {
    let text = event.placed_at_text.trim();
    let (millis, form) = match (event.placed_at, text) {
        (0, "") => return Err(Rejection::new("timestamp-missing", "placed_at", "neither a number nor a text")),
        (0, text) => (read(text, config)?, Form::Text),
        (number, "") => of_number(number, "placed_at", config)?,
        (number, text) => {
            let (millis, form) = of_number(number, "placed_at", config)?;
            agree(millis, form, read(text, config)?)?;
            (millis, form)
        }
    };
    if form == Form::Milliseconds {
        return Ok(Verdict::Pass);
    }
    if config.on_mismatch == OnMismatch::Reject {
        let message = format!("{} where milliseconds belong", form.name());
        return Err(Rejection::new("timestamp-unit", "placed_at", message));
    }
    ctx.log(Level::Debug, format!("order {}: placed_at came as {}", event.order_id, form.name()));
    ctx.set_header("timestamp-repaired-from", form.name());
    event.placed_at = millis;
    Ok(Verdict::Replace)
}

/// The one unit in which a number is a plausible time.
fn of_number(number: i64, field: &'static str, config: &Config) -> Result<(i64, Form), Rejection> {
    let readings = [
        (Some(number), Form::Milliseconds),
        (number.checked_mul(1000), Form::Seconds),
        (Some(number.div_euclid(1000)), Form::Microseconds),
        (Some(number.div_euclid(1_000_000)), Form::Nanoseconds),
    ];
    let plausible = |millis: &i64| (config.earliest..=config.latest).contains(millis);
    let reading = readings.into_iter().find_map(|(millis, form)| Some((millis.filter(plausible)?, form)));
    reading.ok_or_else(|| {
        Rejection::new("timestamp-implausible", field, format!("{number} is no plausible time in any unit"))
    })
}

/// A text as Unix milliseconds: ISO 8601, or a number after all.
fn read(text: &str, config: &Config) -> Result<i64, Rejection> {
    const FIELD: &str = "placed_at_text";
    if let Ok(number) = text.parse() {
        return of_number(number, FIELD, config).map(|(millis, _)| millis);
    }
    let shown = text.get(..text.floor_char_boundary(64)).unwrap_or_default();
    let Some(millis) = iso8601::millis(text, config.zone) else {
        return Err(Rejection::new(
            "timestamp-unreadable",
            FIELD,
            format!("`{shown}` is no ISO 8601 time with its zone"),
        ));
    };
    if (config.earliest..=config.latest).contains(&millis) {
        return Ok(millis);
    }
    Err(Rejection::new("timestamp-implausible", FIELD, format!("`{shown}` is no plausible time")))
}

/// Number and text must be the same time, as far as the coarser of the two goes.
fn agree(number: i64, form: Form, text: i64) -> Result<(), Rejection> {
    let grain = if form == Form::Seconds { 1000 } else { 1 };
    // A text may have been written without its fraction.
    let same = number / grain == text / grain || (text % 1000 == 0 && number / 1000 == text / 1000);
    if same {
        return Ok(());
    }
    let message = format!("{number} and {text} (Unix milliseconds) are {} ms apart", number.abs_diff(text));
    Err(Rejection::new("timestamp-conflict", "placed_at_text", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate::testing;

    const MILLIS: i64 = 1_767_225_600_123;

    fn config(on_mismatch: &str) -> Config {
        let json = r#"{"earliest": "2000-01-01", "latest": "2100-01-01", "text_without_zone": "reject", "on_mismatch": "MODE"}"#;
        testing::config(&json.replace("MODE", on_mismatch)).unwrap()
    }

    fn outcome(number: i64, text: &str, on_mismatch: &str) -> testing::Outcome {
        let event =
            OrderEvent { order_id: "o".into(), placed_at: number, placed_at_text: text.into(), shop_id: "s".into() };
        testing::event(&event).run(|event, ctx| guard(event, ctx, &config(on_mismatch)))
    }

    #[test]
    fn milliseconds_pass_untouched() {
        for text in ["", "2026-01-01T00:00:00.123Z", "2026-01-01T01:00:00+01:00"] {
            assert_eq!(outcome(MILLIS, text, "reject").verdict, Verdict::Pass, "{text}");
        }
    }

    #[test]
    fn every_other_form_is_repaired_and_named() {
        for (number, text, form, millis) in [
            (MILLIS / 1000, "", "seconds", MILLIS / 1000 * 1000),
            (MILLIS * 1000 + 999, "", "microseconds", MILLIS),
            (MILLIS * 1_000_000 + 1, "", "nanoseconds", MILLIS),
            (0, "2026-01-01T00:00:00.123Z", "text", MILLIS),
            (0, " 1767225600123 ", "text", MILLIS),
            (0, "1767225600", "text", MILLIS / 1000 * 1000),
            (MILLIS / 1000, "2026-01-01T00:00:00.123Z", "seconds", MILLIS / 1000 * 1000),
        ] {
            let outcome = outcome(number, text, "repair");
            assert_eq!(outcome.output::<OrderEvent>().placed_at, millis, "{number} {text}");
            assert_eq!(outcome.outputs[0].header("timestamp-repaired-from"), Some(form.as_bytes()));
            assert_eq!(outcome.logs.len(), 1);
        }
    }

    #[test]
    fn a_mismatch_is_refused_where_the_configuration_says_so() {
        let outcome = outcome(MILLIS / 1000, "", "reject");
        assert_eq!(outcome.code(), "timestamp-unit");
        assert_eq!(outcome.rejection().unwrap().message, "seconds where milliseconds belong");
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_reason() {
        for (number, text, code, field) in [
            (0, "", "timestamp-missing", "placed_at"),
            (42, "", "timestamp-implausible", "placed_at"),
            (-MILLIS, "", "timestamp-implausible", "placed_at"),
            (i64::MAX, "", "timestamp-implausible", "placed_at"),
            (i64::MIN, "", "timestamp-implausible", "placed_at"),
            (0, "yesterday", "timestamp-unreadable", "placed_at_text"),
            (0, "2026-01-01T00:00:00", "timestamp-unreadable", "placed_at_text"),
            (0, "1999-12-31T23:59:59Z", "timestamp-implausible", "placed_at_text"),
            (MILLIS, "2026-01-01T00:00:01Z", "timestamp-conflict", "placed_at_text"),
        ] {
            let outcome = outcome(number, text, "repair");
            let rejection = outcome.rejection().unwrap_or_else(|| panic!("{number} {text}: {outcome:?}"));
            assert_eq!((rejection.code.as_ref(), rejection.field.as_ref()), (code, field), "{number} {text}");
        }
    }

    #[test]
    fn a_window_in_which_units_overlap_is_refused() {
        for (earliest, latest) in
            [("1970-01-02", "2100-01-01"), ("2000-01-01", "1999-01-01"), ("1960-01-01", "1961-01-01")]
        {
            let json = r#"{"earliest": "A", "latest": "B", "text_without_zone": "utc", "on_mismatch": "repair"}"#;
            let error = testing::config::<Config>(&json.replace('A', earliest).replace('B', latest)).unwrap_err();
            assert!(error.contains("two units"), "{earliest} {latest}: {error}");
        }
    }
}
