//! Revocation: which certificates one takes back, what is refused meanwhile, and what every proxy is told.
//!
//! Two things follow from a revocation. Certificates that were issued before go on the list (CRL) that proxies check; who they are is
//! resolved once, when the revocation is made, from the journal. And as long as it is in force, nothing new is issued to whoever it
//! means. An identity as a whole is besides denied by every proxy, also under certificates that the list does not know.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh_types::{SpiffeError, SpiffeId, TrustDomain};
use time::OffsetDateTime;

/// Longest reason, in bytes.
pub const MAX_REASON: usize = 1024;

/// Most certificates on the list at once: a bigger list would not fit into what proxies are sent. Beyond, rotate the root.
pub const MAX_CERTIFICATES: usize = 20_000;

/// Most revocations in force at once.
pub const MAX_IN_FORCE: usize = 2_000;

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An identity: every certificate of it, and every new one.
    SpiffeId(String),
    /// One certificate, by its serial number.
    Serial {
        /// As [`serial_form`] writes it.
        serial: String,
        /// Whether it may be put in force again.
        hold: bool,
    },
    /// A node: every certificate that was issued to it, and every new one.
    Node(String),
    /// Everything issued in a span of time. Unit: seconds since 1970.
    Issued {
        /// Inclusive.
        from: i64,
        /// Exclusive.
        to: i64,
    },
}

/// A revocation that was asked for and makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No reason was given.
    #[error("a reason is required, at most {MAX_REASON} bytes")]
    Reason,
    /// Not a SPIFFE ID of a workload.
    #[error("not the SPIFFE ID of a workload: {0}")]
    SpiffeId(String),
    /// Not a serial number.
    #[error("a serial number has 1 to 40 hexadecimal digits")]
    Serial,
    /// Not a node.
    #[error("a node has a name of 1 to 253 bytes without control characters")]
    Node,
    /// An empty span, or one that has not ended.
    #[error("a span begins before it ends, and has begun: later certificates are not known yet")]
    Span,
}

/// Checks what was asked for, and brings it into the form of the journal: a serial number by [`serial_form`], an identity of
/// `trust_domain` in the spelling of that.
///
/// # Errors
/// See [`Invalid`].
pub fn check(
    target: Target,
    reason: &str,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Target, Invalid> {
    check_reason(reason)?;
    match target {
        Target::SpiffeId(id) => {
            let id =
                spelt(&id, trust_domain).map_err(|error| Invalid::SpiffeId(error.to_string()))?;
            Ok(Target::SpiffeId(id))
        }
        Target::Serial { serial, hold } => {
            let serial = serial_form(&serial).ok_or(Invalid::Serial)?;
            Ok(Target::Serial { serial, hold })
        }
        Target::Node(node) => {
            if node.is_empty() || node.len() > 253 || node.contains(char::is_control) {
                return Err(Invalid::Node);
            }
            Ok(Target::Node(node))
        }
        Target::Issued { from, to } => {
            if from >= to || from > now.unix_timestamp() {
                return Err(Invalid::Span);
            }
            Ok(Target::Issued { from, to })
        }
    }
}

/// The SPIFFE ID of a workload, in the spelling that certificates and proxies have.
fn spelt(id: &str, trust_domain: &TrustDomain) -> Result<String, SpiffeError> {
    let id: SpiffeId = id.parse()?;
    let workload = id.workload().ok_or(SpiffeError::NoWorkload)?;
    if *workload.trust_domain() == *trust_domain {
        Ok(SpiffeId::new(trust_domain.clone(), id.path())?.to_string())
    } else {
        Ok(id.to_string())
    }
}

/// Whether these words are a reason.
///
/// # Errors
/// [`Invalid::Reason`] if they are empty or too long.
pub fn check_reason(reason: &str) -> Result<(), Invalid> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        Err(Invalid::Reason)
    } else {
        Ok(())
    }
}

/// A serial number as the journal writes it: lower case, no colons or spaces, no leading zeros. `None`: it is none.
pub fn serial_form(text: &str) -> Option<String> {
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let digits = digits.strip_prefix("0x").unwrap_or(&digits);
    let digits = digits.trim_start_matches('0');
    let fits = (1..=40).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
    fits.then(|| digits.to_owned())
}

/// A certificate of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Whose it is.
    pub spiffe_id: String,
    /// Node it was issued to, if known.
    pub node: String,
    /// Which key signed it: [`Entry::issuer`](crate::journal::Entry::issuer).
    pub issuer: String,
    /// Unit: seconds since 1970.
    pub at: i64,
    /// Unit: seconds since 1970.
    pub not_after: i64,
}

impl Target {
    /// Whether the target means this certificate. Whether it has expired is another question.
    pub fn means(&self, certificate: &Certificate) -> bool {
        match self {
            Self::SpiffeId(id) => certificate.spiffe_id == *id,
            Self::Serial { serial, .. } => certificate.serial == *serial,
            Self::Node(node) => certificate.node == *node,
            Self::Issued { from, to } => (*from..*to).contains(&certificate.at),
        }
    }

    /// Whether a revocation of it can be lifted.
    pub fn can_be_lifted(&self) -> bool {
        !matches!(self, Self::Serial { hold: false, .. })
    }
}

/// A certificate on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Which key signed it, and signs the list it is on.
    pub issuer: String,
    /// When it ends, and leaves the list. Unit: seconds since 1970.
    pub not_after: i64,
}

/// A revocation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// 1, 2, 3...
    pub id: u64,
    /// What is taken back.
    pub target: Target,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub requester: String,
    /// Unit: seconds since 1970.
    pub at: i64,
    /// Unit: seconds since 1970; 0 while it is in force.
    pub lifted_at: i64,
    /// The certificates it means, that were live when it was made.
    pub certificates: Vec<Listed>,
}

/// Who asks for a certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// The identity the certificate would be for.
    pub spiffe_id: &'a str,
    /// The node that was attested, or empty.
    pub node: &'a str,
    /// Serial number of the certificate that is shown, in any usual spelling, or empty.
    pub serial: &'a str,
}

/// One certificate's line of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// When it was revoked. Unit: seconds since 1970.
    pub at: i64,
    /// Whether it may come back: reason `certificateHold` instead of none.
    pub hold: bool,
}

/// The revocations in force, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// As they are compared; as they are spelt.
    ids: HashMap<String, (u64, String)>,
    nodes: HashMap<String, u64>,
    serials: HashMap<String, u64>,
    lines: BTreeMap<String, BTreeMap<String, (Line, i64)>>,
}

/// A serial number as it is compared.
fn form(serial: &str) -> String {
    serial_form(serial).unwrap_or_else(|| serial.to_owned())
}

/// An identity as it is compared: the trust domain is the same in either case.
fn folded(id: &str) -> String {
    let end = id
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.find('/'))
        .map_or(0, |n| n + "spiffe://".len());
    id[..end].to_ascii_lowercase() + &id[end..]
}

impl InForce {
    /// Of all these, those that were not lifted.
    pub fn new<'a>(all: impl IntoIterator<Item = &'a Revocation>) -> Self {
        let mut found = Self::default();
        for revocation in all.into_iter().filter(|r| r.lifted_at == 0) {
            let id = revocation.id;
            match &revocation.target {
                Target::SpiffeId(name) => drop(found.ids.insert(folded(name), (id, name.clone()))),
                Target::Node(node) => drop(found.nodes.insert(node.clone(), id)),
                Target::Serial { serial, .. } => drop(found.serials.insert(form(serial), id)),
                Target::Issued { .. } => {}
            }
            for listed in &revocation.certificates {
                found.serials.insert(form(&listed.serial), id);
                let line = Line {
                    serial: listed.serial.clone(),
                    at: revocation.at,
                    hold: revocation.target.can_be_lifted(),
                };
                let lines = found.lines.entry(listed.issuer.clone()).or_default();
                let (known, _) = lines
                    .entry(listed.serial.clone())
                    .or_insert((line.clone(), listed.not_after));
                // Of several, the first one tells the time, and the final one the kind.
                known.at = known.at.min(line.at);
                known.hold &= line.hold;
            }
        }
        found
    }

    /// The revocation because of which this caller gets no certificate; `None`: it may have one.
    pub fn refuses(&self, caller: Caller<'_>) -> Option<u64> {
        let serial = serial_form(caller.serial).and_then(|serial| self.serials.get(&serial));
        let id = self.ids.get(&folded(caller.spiffe_id)).map(|(id, _)| id);
        let node = self.nodes.get(caller.node);
        // An empty text is nobody's.
        let known = |text: &str, found: Option<&u64>| found.copied().filter(|_| !text.is_empty());
        known(caller.spiffe_id, id)
            .or_else(|| known(caller.node, node))
            .or_else(|| known(caller.serial, serial))
    }

    /// Identities that every proxy denies, sorted.
    pub fn denied(&self) -> Vec<String> {
        let spelt: BTreeSet<&String> = self.ids.values().map(|(_, name)| name).collect();
        spelt.into_iter().cloned().collect()
    }

    /// The lists by issuer, each in the order of serial numbers, without certificates that have expired by `now`. An issuer without
    /// lines is not there.
    pub fn lists(&self, now: OffsetDateTime) -> BTreeMap<String, Vec<Line>> {
        let now = now.unix_timestamp();
        let mut lists = BTreeMap::new();
        for (issuer, lines) in &self.lines {
            let live = lines.values().filter(|(_, not_after)| *not_after >= now);
            let live: Vec<Line> = live.map(|(line, _)| line.clone()).collect();
            if !live.is_empty() {
                lists.insert(issuer.clone(), live);
            }
        }
        lists
    }

    /// Certificates listed, expired ones too.
    pub fn len(&self) -> usize {
        self.lines.values().map(BTreeMap::len).sum()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.nodes.is_empty() && self.serials.is_empty()
    }
}

#[cfg(test)]
mod tests;
