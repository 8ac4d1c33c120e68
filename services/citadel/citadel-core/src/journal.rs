//! The journal: what Citadel did, each entry bound to all before it by a chain of hashes.
//!
//! The hash of an entry is SHA-256 over the hash before it and the entry in one canonical encoding, so whoever changes, drops, adds or
//! reorders entries must also change every hash after them. The chain has no key: it shows tampering to whoever has kept a later hash
//! (an operator's log, another replica's memory, a backup), not to somebody who has nothing to compare with.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

use crate::revocation::serial_form;

/// Longest text of one field, in bytes: a SPIFFE ID has up to 2048.
pub const MAX_TEXT: usize = 2048;

/// First bytes of every encoding: another form of entry would begin otherwise.
const FORM: &[u8] = b"flotilla journal 1\0";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A certificate was issued.
    Issued,
    /// A request was refused for a reason worth keeping: a revoked identity, a used token.
    Refused,
    /// Certificates or an identity were revoked.
    Revoked,
    /// A revocation was lifted.
    Lifted,
    /// A join token was made.
    Token,
    /// A step of the life of the roots: made, reissued, a phase of a rotation, a new bundle.
    Rotation,
    /// A gate was passed by force.
    Forced,
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 7] = [
        Self::Issued,
        Self::Refused,
        Self::Revoked,
        Self::Lifted,
        Self::Token,
        Self::Rotation,
        Self::Forced,
    ];

    /// The word for it, in the API, in the database and in the encoding.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused => "refused",
            Self::Revoked => "revoked",
            Self::Lifted => "lifted",
            Self::Token => "token",
            Self::Rotation => "rotation",
            Self::Forced => "forced",
        }
    }
}

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        let found = Self::ALL.into_iter().find(|event| event.as_str() == text);
        found.ok_or(UnknownEvent)
    }
}

/// A word that names no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event of the journal")]
pub struct UnknownEvent;

/// One entry, without its place in the chain. What does not apply is empty or zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unit: seconds since 1970.
    pub at: i64,
    /// What happened.
    pub event: Event,
    /// Serial number of the certificate: hexadecimal, lower case.
    pub serial: String,
    /// The identity it is about.
    pub spiffe_id: String,
    /// Who asked: SPIFFE ID, token id or "socket".
    pub requester: String,
    /// How that was shown: "client-certificate", "jwt", "kubernetes", "join-token", "socket".
    pub attestation: String,
    /// Node of the requester, if known.
    pub node: String,
    /// When the certificate ends. Unit: seconds since 1970.
    pub not_after: i64,
    /// Reason, step, or other words.
    pub detail: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) that signed the certificate: hexadecimal, lower case.
    pub issuer: String,
    /// Serial number of the certificate that was shown to renew.
    pub replaces: String,
}

impl Entry {
    /// An entry that says nothing but when and what.
    pub fn new(at: i64, event: Event) -> Self {
        Self {
            at,
            event,
            serial: String::new(),
            spiffe_id: String::new(),
            requester: String::new(),
            attestation: String::new(),
            node: String::new(),
            not_after: 0,
            detail: String::new(),
            issuer: String::new(),
            replaces: String::new(),
        }
    }

    fn texts(&self) -> [&str; 8] {
        [
            &self.serial,
            &self.spiffe_id,
            &self.requester,
            &self.attestation,
            &self.node,
            &self.detail,
            &self.issuer,
            &self.replaces,
        ]
    }

    /// The entry with serial numbers as [`serial_form`] writes them, and each text at most [`MAX_TEXT`] bytes long and free of control characters, as every entry is kept: texts of
    /// callers can neither fill a database nor break a line of a log.
    #[must_use]
    pub fn tidy(mut self) -> Self {
        for serial in [&mut self.serial, &mut self.replaces] {
            if let Some(form) = serial_form(serial) {
                *serial = form;
            }
        }
        for text in [
            &mut self.serial,
            &mut self.spiffe_id,
            &mut self.requester,
            &mut self.attestation,
            &mut self.node,
            &mut self.detail,
            &mut self.issuer,
            &mut self.replaces,
        ] {
            if text.contains(char::is_control) {
                *text = text.replace(char::is_control, " ");
            }
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        self
    }
}

/// A link of the chain. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first entry is bound to.
    pub const START: Hash = Hash([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotAHash);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NotAHash)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(bytes))
    }
}

/// A text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct NotAHash;

impl TryFrom<&[u8]> for Hash {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(bytes.try_into()?))
    }
}

/// The hash of `entry` at place `sequence` (1, 2, 3...), after `previous`.
///
/// The encoding: a word that names the form, the previous hash, then numbers as eight bytes, most significant first (sequence, at, not
/// after), then texts, each with its length in bytes as such a number before it: event, serial, SPIFFE ID, requester, attestation, node,
/// detail, issuer, replaces.
pub fn link(previous: &Hash, sequence: u64, entry: &Entry) -> Hash {
    let texts = entry.texts();
    let length: usize = texts.iter().map(|text| text.len()).sum();
    let mut bytes = Vec::with_capacity(FORM.len() + 32 + 12 * 8 + 8 + length);
    bytes.extend_from_slice(FORM);
    bytes.extend_from_slice(&previous.0);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&entry.at.to_be_bytes());
    bytes.extend_from_slice(&entry.not_after.to_be_bytes());
    for text in std::iter::once(entry.event.as_str()).chain(texts) {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    let digest = digest::digest(&digest::SHA256, &bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    Hash(hash)
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its place: 1, 2, 3...
    pub sequence: u64,
    /// What it says.
    pub entry: Entry,
    /// Its hash, as kept.
    pub hash: Hash,
}

/// How far a chain was found whole: the last sequence number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// 0 before the first entry.
    pub sequence: u64,
    /// The hash at that place.
    pub hash: Hash,
}

impl Position {
    /// Before the first entry.
    pub const START: Position = Position {
        sequence: 0,
        hash: Hash::START,
    };
}

/// The journal was tampered with, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is broken at entry {sequence}: {why}")]
pub struct Broken {
    /// The first entry that does not follow from those before.
    pub sequence: u64,
    /// In words.
    pub why: &'static str,
}

/// Puts `entries` behind `position`, and says where the chain stands then.
pub fn chain(position: Position, entries: impl IntoIterator<Item = Entry>) -> Vec<Linked> {
    let mut last = position;
    let link_one = |entry: Entry| {
        let sequence = last.sequence + 1;
        let hash = link(&last.hash, sequence, &entry);
        last = Position { sequence, hash };
        Linked {
            sequence,
            entry,
            hash,
        }
    };
    entries.into_iter().map(link_one).collect()
}

/// Verifies that a page of the journal, oldest first, follows `position` without a gap; where the chain stands after it.
///
/// # Errors
/// [`Broken`] at the first entry that does not follow.
pub fn verify(position: Position, page: &[Linked]) -> Result<Position, Broken> {
    let mut last = position;
    for found in page {
        let sequence = last.sequence + 1;
        let broken = |why| Err(Broken { sequence, why });
        if found.sequence != sequence {
            return broken("it is missing");
        }
        if link(&last.hash, sequence, &found.entry) != found.hash {
            return broken("its hash is not that of its content and what came before");
        }
        last = Position {
            sequence,
            hash: found.hash,
        };
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(n: i64) -> Entry {
        Entry {
            serial: format!("{n:032x}"),
            spiffe_id: "spiffe://cluster.local/ns/default/sa/app".into(),
            not_after: n + 86_400,
            ..Entry::new(n, Event::Issued)
        }
    }

    fn journal(n: i64) -> Vec<Linked> {
        chain(Position::START, (1..=n).map(entry))
    }

    #[test]
    fn the_encoding_never_changes() {
        // What is stored must verify with every later version.
        expect_test::expect!["a5b05e1b68bb"]
            .assert_eq(&link(&Hash::START, 1, &entry(1)).to_string()[..12]);
    }

    #[test]
    fn a_chain_verifies_by_pages_and_as_a_whole() {
        let all = journal(10);
        let end = verify(Position::START, &all).unwrap();
        assert_eq!(end.sequence, 10);
        let half = verify(Position::START, &all[..5]).unwrap();
        assert_eq!(verify(half, &all[5..]), Ok(end));
        assert_eq!(
            verify(Position::START, &[]),
            Ok(Position::START),
            "an empty journal is whole"
        );
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let mut a = entry(1);
        let mut b = entry(1);
        (a.requester, a.node) = ("xy".into(), "z".into());
        (b.requester, b.node) = ("x".into(), "yz".into());
        assert_ne!(link(&Hash::START, 1, &a), link(&Hash::START, 1, &b));
    }

    #[test]
    fn texts_of_callers_are_cut_and_cleaned() {
        let mut wild = entry(1);
        wild.node = "a\0b\nc".into();
        wild.detail = "ü".repeat(MAX_TEXT);
        let tidy = wild.tidy();
        assert_eq!(tidy.node, "a b c");
        assert_eq!(tidy.detail.len(), MAX_TEXT);
    }

    #[test]
    fn serial_numbers_are_written_in_one_form() {
        let mut wild = entry(1);
        (wild.serial, wild.replaces) = ("0A:3F".into(), String::new());
        let tidy = wild.tidy();
        assert_eq!((tidy.serial.as_str(), tidy.replaces.as_str()), ("a3f", ""));
    }

    #[test]
    fn hashes_are_read_back() {
        let hash = link(&Hash::START, 1, &entry(1));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "+f", &"ü".repeat(32), &"g".repeat(64)] {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash), "{wrong}");
        }
    }

    #[test]
    fn words_of_events_are_read_back() {
        for event in Event::ALL {
            assert_eq!(event.as_str().parse(), Ok(event));
        }
        assert_eq!("else".parse::<Event>(), Err(UnknownEvent));
    }

    #[derive(Clone, Debug)]
    enum Tampering {
        Change(usize, String),
        Later(usize),
        Drop(usize),
        Swap(usize),
        Repeat(usize),
        Relink(usize, String),
    }

    fn tampering(len: usize) -> impl Strategy<Value = Tampering> {
        prop_oneof![
            (0..len, "[a-z]{1,8}").prop_map(|(n, text)| Tampering::Change(n, text)),
            (0..len).prop_map(Tampering::Later),
            // The last one can be dropped unseen by whoever has nothing to compare with.
            (0..len - 1).prop_map(Tampering::Drop),
            (0..len - 1).prop_map(Tampering::Swap),
            (0..len).prop_map(Tampering::Repeat),
            (0..len - 1, "[a-z]{1,8}").prop_map(|(n, text)| Tampering::Relink(n, text)),
        ]
    }

    proptest! {
        #[test]
        fn tampering_is_found(tampering in tampering(20)) {
            let mut all = journal(20);
            match tampering {
                Tampering::Change(n, text) => all[n].entry.spiffe_id = text,
                Tampering::Later(n) => all[n].entry.not_after += 1,
                Tampering::Drop(n) => drop(all.remove(n)),
                Tampering::Swap(n) => all.swap(n, n + 1),
                Tampering::Repeat(n) => all.insert(n, all[n].clone()),
                // The entry with its own hash made right: the next one gives it away.
                Tampering::Relink(n, text) => {
                    let before = if n == 0 { Hash::START } else { all[n - 1].hash };
                    all[n].entry.requester = text;
                    all[n].hash = link(&before, all[n].sequence, &all[n].entry);
                }
            }
            prop_assert!(verify(Position::START, &all).is_err());
        }
    }
}
