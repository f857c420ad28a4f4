//! Durations in Go's notation: `300ms`, `1.5h`, `1m30s`.

use std::time::Duration;

/// The units of Go's `time.ParseDuration`, in nanoseconds. Unicode has two signs for micro.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Parses `text`. Returns `None` if Go would refuse it or if it is negative.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (amount, unit, after) = part(rest)?;
        total = total.checked_add(nanos(amount, unit)?)?;
        rest = after;
    }
    // Go's range, some 292 years: an int64 of nanoseconds.
    u64::try_from(total).ok().filter(|nanos| i64::try_from(*nanos).is_ok()).map(Duration::from_nanos)
}

/// Splits off the first number and its unit. Returns them and the rest.
fn part(text: &str) -> Option<(&str, u128, &str)> {
    let (amount, rest) = text.split_at(text.find(|char: char| !char.is_ascii_digit() && char != '.')?);
    let (unit, after) = match rest.find(|char: char| char.is_ascii_digit() || char == '.') {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some((amount, *nanos, after))
}

/// Multiplies `amount` by `unit`, and drops fractions of a nanosecond.
fn nanos(amount: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // Further digits are below a nanosecond for every unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = if fraction.is_empty() { 0 } else { u128::from(fraction.parse::<u64>().ok()?) };
    u128::from(whole).checked_mul(unit)?.checked_add(part * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_go_parses_them() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("30s", 30_000_000_000),
            ("0.5m", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("+1ms", 1_000_000),
            ("1.9ns", 1),
            ("0.000000000000000000000000000001h", 0),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn negative_and_malformed_durations_are_refused() {
        for text in [
            "",
            "+",
            "-",
            "3",
            "s",
            ".s",
            ".",
            "1.2.3s",
            "1 s",
            "-1s",
            "1d",
            "1S",
            "1m30",
            "９s",
            "1e3s",
            "--0",
            "++0",
            "00",
            "9223372036854775808ns",
            "99999999999999999999h",
            "3000000h",
            "1msms",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
