//! How many decimals a currency has, after ISO 4217's list of minor units.

/// The exponent of a currency's minor unit: 2 for EUR, 0 for JPY, 3 for KWD. A code that the standard's exceptions
/// do not name has 2; whether it is a currency at all is not said here.
pub fn exponent(code: &str) -> u8 {
    match code {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// Minor units in a major one: 10 to the [`exponent`].
pub fn minor_per_major(code: &str) -> f64 {
    [1.0, 10.0, 100.0, 1_000.0, 10_000.0][usize::from(exponent(code))]
}

/// Beyond this a double no longer holds every whole number, and minor units cannot be told apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether an amount in major units has no more decimals than its currency, given by its [`minor_per_major`].
///
/// A double is never "12.34" itself but the nearest there is; so it has two decimals exactly when it is the double
/// nearest to some whole number of hundredths, which one correctly rounded division shows.
pub fn fits(amount: f64, minor_per_major: f64) -> bool {
    let scale = minor_per_major;
    let minor = (amount * scale).round();
    minor.abs() >= EXACT || minor / scale == amount
}

/// An amount in minor units, half to even; `None` where it is not finite or too large to be exact.
///
/// Ties are those of the decimal that a person would write: 2.675 is a tie, though the double lies a little below.
pub fn to_minor(amount: f64, code: &str) -> Option<i64> {
    let scale = minor_per_major(code);
    let below = (amount.abs() * scale).floor();
    if !amount.is_finite() || below >= EXACT / 4.0 {
        return None;
    }
    let tie = (2.0 * below + 1.0) / (2.0 * scale);
    let odd = below % 2.0 == 1.0;
    let up = amount.abs() > tie || (amount.abs() == tie && odd);
    let minor = below + f64::from(u8::from(up));
    Some((minor * amount.signum()) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_counted_as_a_person_would() {
        for (amount, code) in [(12.34, "EUR"), (0.07, "USD"), (1.1, "SEK"), (5.0, "JPY"), (1.234, "KWD"), (4e15, "EUR")]
        {
            assert!(fits(amount, minor_per_major(code)), "{amount} {code}");
        }
        for (amount, code) in [(12.345, "EUR"), (0.1, "JPY"), (1.2345, "KWD"), (12.340_000_001, "EUR")] {
            assert!(!fits(amount, minor_per_major(code)), "{amount} {code}");
        }
    }

    #[test]
    fn every_hundredth_up_to_a_million_fits_and_comes_back() {
        for cents in (1..100_000_000_u32).step_by(97) {
            let amount = f64::from(cents) / 100.0;
            assert!(fits(amount, 100.0), "{amount}");
            assert_eq!(to_minor(amount, "EUR"), Some(i64::from(cents)), "{amount}");
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        for (amount, minor) in [(2.675, 268), (2.665, 266), (1.005, 100), (1.015, 102), (0.005, 0), (0.015, 2)] {
            assert_eq!(to_minor(amount, "EUR"), Some(minor), "{amount}");
            assert_eq!(to_minor(-amount, "EUR"), Some(-minor), "-{amount}");
        }
        assert_eq!(to_minor(2.6749, "EUR"), Some(267));
        assert_eq!(to_minor(2.5, "JPY"), Some(2));
        assert_eq!(to_minor(3.5, "JPY"), Some(4));
    }

    #[test]
    fn what_cannot_be_exact_is_none() {
        for amount in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e18] {
            assert_eq!(to_minor(amount, "EUR"), None, "{amount}");
        }
    }
}
