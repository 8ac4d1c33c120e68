//! Durations as Istio's users write them: `100ms`, `10s`, `1h30m`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was written.
    #[error("a duration is empty, want something like 100ms, 10s or 1m30s")]
    Empty,
    /// A number without a unit; only `0` may stand alone.
    #[error("{0:?} has no unit, want one of ns, us, ms, s, m, h, as in 100ms")]
    NoUnit(String),
    /// A unit nobody knows.
    #[error("{0:?} is no unit of time, want one of ns, us, ms, s, m, h")]
    Unit(String),
    /// No number where one should be.
    #[error("{0:?} is no duration, want something like 100ms, 10s or 1m30s")]
    Number(String),
    /// More than 584 years.
    #[error("{0:?} is too long for a duration")]
    TooLong(String),
}

/// Parses a duration in Go's notation, without a sign: numbers (a fraction is allowed) each with a unit of `ns`, `us`,
/// `µs`, `ms`, `s`, `m` or `h`; or a bare `0`. For use as a clap value parser.
///
/// # Errors
/// See [`DurationError`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let trimmed = text.trim();
    match trimmed {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let mut rest = trimmed;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        if number.is_empty() {
            return Err(DurationError::Number(text.to_owned()));
        }
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(DurationError::NoUnit(text.to_owned())),
            _ => return Err(DurationError::Unit(unit.to_owned())),
        };
        let part = scaled(number, scale).ok_or_else(|| DurationError::Number(text.to_owned()))?;
        nanos = nanos.saturating_add(part);
        rest = next;
    }
    let nanos = u64::try_from(nanos).map_err(|_| DurationError::TooLong(text.to_owned()))?;
    Ok(Duration::from_nanos(nanos))
}

/// `number` (digits with at most one dot) times `scale`, rounded down; `None` if it is no number.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| -> Option<u128> {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse().ok()
        }
    };
    // Digits beyond the twelfth are below a nanosecond for every unit.
    let fraction = &fraction[..fraction.len().min(12)];
    let exponent = u32::try_from(fraction.len()).ok()?;
    let whole = digits(whole)?.checked_mul(scale)?;
    let part = digits(fraction)?.checked_mul(scale)? / 10u128.pow(exponent);
    whole.checked_add(part)
}

/// A time as people read it, in whole seconds: `7s`, `1m30s`, `1h0m5s`.
pub fn spell_duration(time: Duration) -> String {
    let (hours, minutes, seconds) = (
        time.as_secs() / 3600,
        time.as_secs() / 60 % 60,
        time.as_secs() % 60,
    );
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_durations() {
        for (text, millis) in [
            ("0", 0),
            ("100ms", 100),
            ("10s", 10_000),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("2m0.25s", 120_250),
            ("1000us", 1),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, want) in [
            (
                "",
                "a duration is empty, want something like 100ms, 10s or 1m30s",
            ),
            (
                "10",
                "\"10\" has no unit, want one of ns, us, ms, s, m, h, as in 100ms",
            ),
            (
                "10 s",
                "\" s\" is no unit of time, want one of ns, us, ms, s, m, h",
            ),
            (
                "1d",
                "\"d\" is no unit of time, want one of ns, us, ms, s, m, h",
            ),
            (
                "-1s",
                "\"-1s\" is no duration, want something like 100ms, 10s or 1m30s",
            ),
            (
                "1..5s",
                "\"1..5s\" is no duration, want something like 100ms, 10s or 1m30s",
            ),
            (
                ".s",
                "\".s\" is no duration, want something like 100ms, 10s or 1m30s",
            ),
            (
                "99999999999999999h",
                "\"99999999999999999h\" is too long for a duration",
            ),
        ] {
            assert_eq!(
                parse_duration(text).unwrap_err().to_string(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn spelled_times_are_read_again() {
        for text in ["0s", "59s", "1m0s", "59m59s", "1h0m5s", "100h0m0s"] {
            assert_eq!(spell_duration(parse_duration(text).unwrap()), text);
        }
    }
}
