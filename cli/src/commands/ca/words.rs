//! Times and names as people read them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `2026-11-28T12:00:00Z`; `-` for zero.
pub fn at(seconds: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) if seconds != 0 => at.format(&Rfc3339).unwrap_or_else(|_| seconds.to_string()),
        _ => "-".into(),
    }
}

/// `-` for nothing.
pub fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// The first 16 digits of a fingerprint or hash: enough to tell them apart.
pub fn short(text: &str) -> String {
    dash(text.get(..16).unwrap_or(text))
}

/// Seconds since 1970 of `2026-11-28T12:00:00Z`, or of a number.
pub fn seconds(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    OffsetDateTime::parse(text, &Rfc3339)
        .map(OffsetDateTime::unix_timestamp)
        .map_err(|_| {
            format!("{text:?} is no time, want 2026-11-28T12:00:00Z or seconds since 1970")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_printed() {
        assert_eq!(at(0), "-");
        assert_eq!(at(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(seconds(&at(1_800_000_000)), Ok(1_800_000_000));
        assert_eq!(seconds("2027-01-15T09:00:00+01:00"), Ok(1_800_000_000));
        assert_eq!(seconds("17"), Ok(17));
        assert!(seconds("yesterday").is_err());
    }

    #[test]
    fn fingerprints_are_cut() {
        assert_eq!(short(""), "-");
        assert_eq!(short("ab"), "ab");
        assert_eq!(short(&"0".repeat(64)).len(), 16);
    }
}
