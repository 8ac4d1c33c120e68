//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use crate::certificate::hex;

/// A certificate's serial number: not negative, without leading zeros, at most 32 bytes.
///
/// Displayed as lower-case hexadecimal, two digits a byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

/// A text that is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 1 to 64 hexadecimal digits, with or without colons")]
pub struct SerialError;

impl Serial {
    /// A serial number of random bytes: positive, and of the same length whatever the bytes are.
    pub fn from_random(mut bytes: [u8; 16]) -> Serial {
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Serial(bytes.into())
    }

    /// A serial number that begins with the time, in milliseconds, and goes on with the last ten of `bytes`, which are random: whoever keeps
    /// certificates by their serial numbers adds at the end. It tells no more than the certificate's validity does. Positive, and of the
    /// same length until the year 4199.
    pub fn at(now: OffsetDateTime, mut bytes: [u8; 16]) -> Serial {
        let millis = (now.unix_timestamp_nanos() / 1_000_000).clamp(0, (1 << 46) - 1) as u64;
        bytes[..6].copy_from_slice(&(1 << 46 | millis).to_be_bytes()[2..]);
        Serial(bytes.into())
    }

    /// A serial number of big-endian bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Serial, SerialError> {
        let skip = bytes.iter().take_while(|b| **b == 0).count();
        if bytes.len() - skip > 32 {
            return Err(SerialError);
        }
        Ok(Serial(bytes[skip..].into()))
    }

    /// Big-endian bytes; none for zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("00");
        }
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Reads hexadecimal digits, also as openssl prints them: in capitals, or with colons.
    fn from_str(text: &str) -> Result<Serial, SerialError> {
        let mut digits = Vec::with_capacity(64);
        for c in text.chars().filter(|c| *c != ':') {
            digits.push(c.to_digit(16).ok_or(SerialError)? as u8);
        }
        if digits.is_empty() || digits.len() > 64 {
            return Err(SerialError);
        }
        if digits.len() % 2 == 1 {
            digits.insert(0, 0);
        }
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        Serial::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ones_are_greater_whatever_their_random_bytes_are() {
        let at = |seconds, random| {
            let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            Serial::at(at, [random; 16])
        };
        assert_eq!(
            at(1_800_000_000, 0xab).to_string(),
            "41a3185c5000abababababababababab"
        );
        assert!(at(1_800_000_000, 0xff) < at(1_800_000_001, 0));
        // A clock that is wrong still gives numbers of the same form.
        for (seconds, random) in [(-1, 0), (0, 0xff), (253_402_300_799, 0xff)] {
            let bytes = at(seconds, random);
            assert_eq!(bytes.as_bytes().len(), 16);
            assert!((0x40..0x80).contains(&bytes.as_bytes()[0]), "{bytes}");
        }
    }

    #[test]
    fn prints_as_it_is_read() {
        let serial = Serial::from_random([0xff; 16]);
        assert_eq!(serial.to_string(), "7fffffffffffffffffffffffffffffff");
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert_eq!("0A:bc".parse::<Serial>().unwrap().to_string(), "0abc");
        assert_eq!("abc".parse::<Serial>().unwrap().to_string(), "0abc");
        assert_eq!("00".parse::<Serial>().unwrap().to_string(), "00");
        assert_eq!(Serial::from_random([0; 16]).as_bytes().len(), 16);
        for bad in ["", "xy", &"1".repeat(65), ":"] {
            assert!(bad.parse::<Serial>().is_err(), "{bad}");
        }
    }
}
