//! The kinds of scalars: each function turns a text into a value or a [`Complaint`].

use crate::secret::Secret;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The reason why a text is not of a kind. The message continues the text itself (`30 is not a duration; …`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub message: String,
    /// The nearest valid value.
    pub nearest: Option<String>,
    /// Whether the text is a secret; messages then say "the value" instead.
    pub hide: bool,
}

impl Complaint {
    pub fn new(message: impl Into<String>) -> Complaint {
        Complaint { message: message.into(), nearest: None, hide: false }
    }

    /// Creates a complaint that never shows the text.
    pub fn hidden(message: impl Into<String>) -> Complaint {
        Complaint { message: message.into(), nearest: None, hide: true }
    }
}

/// Accepts any text that is not empty.
pub fn text(text: &str) -> Result<String, Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("is empty; set a value or remove the key"));
    }
    Ok(text.to_owned())
}

/// Accepts a text that is never printed.
pub fn secret(text: &str) -> Result<Secret, Complaint> {
    if text.is_empty() {
        return Err(Complaint::hidden("is empty"));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Accepts a path, as written; relative paths start in the file's folder.
pub fn path(text: &str) -> Result<PathBuf, Complaint> {
    if text.is_empty() || text.contains('\0') {
        return Err(Complaint::new("is not a path"));
    }
    Ok(PathBuf::from(text))
}

/// Accepts `true` or `false`.
pub fn boolean(text: &str) -> Result<bool, Complaint> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => {
            let nearest = match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "1" => Some("true".to_owned()),
                "no" | "off" | "n" | "0" => Some("false".to_owned()),
                _ => None,
            };
            Err(Complaint { nearest, ..Complaint::new("is neither true nor false") })
        }
    }
}

/// Accepts a whole number that is not negative.
pub fn whole(text: &str) -> Result<u64, Complaint> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Complaint::new("is not a whole number; write digits only"));
    }
    text.parse().map_err(|_| Complaint::new("is too large"))
}

/// Accepts a whole number within bounds, both inclusive.
pub fn within<T>(low: T, high: T) -> impl Fn(&str) -> Result<T, Complaint>
where
    T: TryFrom<u64> + PartialOrd + fmt::Display + Copy,
{
    move |text| {
        let value = T::try_from(whole(text)?).ok();
        value
            .filter(|value| (low..=high).contains(value))
            .ok_or_else(|| Complaint::new(format!("is out of range; it must be {low} to {high}")))
    }
}

/// Accepts a whole number with an optional sign.
pub fn signed(text: &str) -> Result<i64, Complaint> {
    text.parse().map_err(|_| Complaint::new("is not a whole number"))
}

/// Accepts a number within bounds, both inclusive.
pub fn number_within(low: f64, high: f64) -> impl Fn(&str) -> Result<f64, Complaint> {
    move |text| {
        let value: f64 = text.parse().map_err(|_| Complaint::new("is not a number"))?;
        if value.is_nan() || value < low || value > high {
            return Err(Complaint::new(format!("is out of range; it must be {low} to {high}")));
        }
        Ok(value)
    }
}

/// Accepts a whole number and its unit: `25ms`, `5s`, `1m`, `1h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, Complaint> {
    let (digits, unit) = number_and_unit(text);
    let complaint = || Complaint::new("is not a duration; write a whole number and a unit: 25ms, 5s, 1m, 1h, 7d");
    let number: u64 = digits.parse().map_err(|_| complaint())?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => {
            return Err(Complaint {
                nearest: Some(format!("{digits}ms or {digits}s")),
                ..Complaint::new("is a duration without a unit")
            });
        }
        _ => return Err(complaint()),
    };
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(|| Complaint::new("is too long"))
}

/// Accepts a plain number of milliseconds, for keys that end in `_ms`.
pub fn milliseconds(text: &str) -> Result<Duration, Complaint> {
    let number =
        whole(text).map_err(|_| Complaint::new("is not a number of milliseconds; the key's suffix _ms is the unit"))?;
    Ok(Duration::from_millis(number))
}

/// Accepts a duration within bounds, both inclusive.
pub fn duration_within(low: Duration, high: Duration) -> impl Fn(&str) -> Result<Duration, Complaint> {
    move |text| bounded(duration(text)?, low, high)
}

/// Accepts milliseconds within bounds, both inclusive.
pub fn milliseconds_within(low: Duration, high: Duration) -> impl Fn(&str) -> Result<Duration, Complaint> {
    move |text| bounded(milliseconds(text)?, low, high)
}

fn bounded(value: Duration, low: Duration, high: Duration) -> Result<Duration, Complaint> {
    if value < low || value > high {
        let (low, high) = (show_duration(low), show_duration(high));
        return Err(Complaint::new(format!("is out of range; it must be {low} to {high}")));
    }
    Ok(value)
}

/// Returns a duration as written in a file: `30s`.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// Accepts `1MiB`, `64KiB`, `500kB`; a plain number is bytes.
pub fn bytes(text: &str) -> Result<usize, Complaint> {
    let (digits, unit) = number_and_unit(text);
    let complaint = || Complaint::new("is not a size; write a whole number and a unit: 500kB, 64KiB, 1MiB");
    let number: usize = digits.parse().map_err(|_| complaint())?;
    let factor: usize = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(complaint()),
    };
    number.checked_mul(factor).ok_or_else(|| Complaint::new("is too large"))
}

/// Accepts a size within bounds, both inclusive.
pub fn bytes_within(low: usize, high: usize) -> impl Fn(&str) -> Result<usize, Complaint> {
    move |text| {
        let value = bytes(text)?;
        if value < low || value > high {
            let (low, high) = (show_bytes(low), show_bytes(high));
            return Err(Complaint::new(format!("is out of range; it must be {low} to {high}")));
        }
        Ok(value)
    }
}

/// Returns a size as written in a file: `1MiB`.
pub fn show_bytes(bytes: usize) -> String {
    for (unit, size) in [("GiB", 1_usize << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// Accepts one of the given words.
pub fn choice<T: Copy>(options: &[(&str, T)]) -> impl Fn(&str) -> Result<T, Complaint> {
    move |text| {
        if let Some((_, value)) = options.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
        let nearest = super::nearest(text, words.iter().copied());
        Err(Complaint { nearest, ..Complaint::new(format!("is none of {}", words.join(", "))) })
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}
