//! Numbers as people read and write them.

use serde_json::Value;

/// A number in six significant digits, like C's `%g`: `0.000123`, `1.5`, `1e+10`.
pub(super) fn short(value: f64) -> String {
    const DIGITS: i32 = 6;
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    // Rounding may reach the next power of ten, so the exponent is that of the rounded number.
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent).max(0) as usize;
        return trimmed(&format!("{value:.decimals$}")).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// A time in milliseconds with at most four digits: `0.0512`, `12.34`, `1234`.
pub(super) fn milliseconds(value: f64) -> String {
    let decimals = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        _ => 4,
    };
    trimmed(&format!("{value:.decimals$}")).to_string()
}

/// A number in JSON. What JSON has no numbers for is a text.
pub(super) fn json(value: f64) -> Value {
    if value.is_finite() { value.into() } else { short(value).into() }
}

/// A measured number without the digits that only arithmetic has made.
pub(super) fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

/// Reads a whole number of at least `LEAST`.
pub(super) fn whole<const LEAST: u64>(text: &str) -> Result<u64, String> {
    let number = text.trim().parse().ok().filter(|number| *number >= LEAST);
    number.ok_or_else(|| format!("is no whole number of at least {LEAST}"))
}

/// Reads a finite number.
pub(super) fn real(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| "is no number".to_string())
}

/// Reads how far numbers may be apart.
pub(super) fn tolerance(text: &str) -> Result<f64, String> {
    let number = real(text).ok().filter(|number| *number >= 0.0);
    number.ok_or_else(|| "is no number of at least 0, as 1e-3 is".to_string())
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_four_digits() {
        let cases = [
            (0.05123, "0.0512"),
            (0.0, "0"),
            (1.23456, "1.235"),
            (12.3, "12.3"),
            (528.21, "528.2"),
            (1192.4, "1192"),
        ];
        for (value, expected) in cases {
            assert_eq!(milliseconds(value), expected);
        }
    }

    #[test]
    fn json_has_texts_where_it_has_no_numbers() {
        assert_eq!(json(rounded(0.7041810000000001)).to_string(), "0.704181");
        assert_eq!(json(f64::NAN).to_string(), "\"NaN\"");
        assert_eq!(json(f64::NEG_INFINITY).to_string(), "\"-inf\"");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert_eq!((whole::<0>("0"), whole::<1>(" 7 ")), (Ok(0), Ok(7)));
        assert!(["0", "-1", "1e3", "x", ""].iter().all(|text| whole::<1>(text).is_err()));
        assert_eq!((real("-1.5"), tolerance("1e-3")), (Ok(-1.5), Ok(1e-3)));
        assert!(["nan", "inf", "x"].iter().all(|text| real(text).is_err()));
        assert!(["nan", "-1", "-1e-9"].iter().all(|text| tolerance(text).is_err()));
    }

    #[test]
    fn numbers_are_as_c_prints_them() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.000001, "1e-06"),
            (0.00001234567, "1.23457e-05"),
            (0.0001234567, "0.000123457"),
            (123456.0, "123456"),
            (1234567.0, "1.23457e+06"),
            (999999.5, "1e+06"),
            (0.1 + 0.2, "0.3"),
            (1e300, "1e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected, "{value}");
        }
    }
}
