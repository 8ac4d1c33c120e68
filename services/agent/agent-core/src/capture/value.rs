//! Values of settings: lists of ports, ranges, interfaces and numbers, and what is wrong with one.

use std::fmt;

use ipnet::IpNet;
use mesh_types::Port;

/// Longest list a setting may hold.
const LIST_LIMIT: usize = 1024;
/// How much of a refused value is shown.
const SHOWN: usize = 60;

/// A setting that is refused.
///
/// The value is shown escaped and cut short: it may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {}: {reason}", shown(value))]
pub struct SettingError {
    /// The flag: `--istio-inbound-ports`.
    pub setting: &'static str,
    /// The value, or the entry of a list.
    pub value: String,
    /// What is wrong.
    pub reason: SettingReason,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SettingReason {
    #[error("want a port, 1 to 65535, alone or in a list parted by commas")]
    Port,
    #[error(
        "want an address range such as 10.0.0.0/8 or fd00::/8, alone or in a list parted by commas"
    )]
    Cidr,
    #[error("`*` would exclude everything; leave --istio-service-cidr empty to capture no range")]
    ExcludesEverything,
    #[error(
        "want an interface's name: up to 15 letters, digits, `.`, `_`, `-`, `@` or `:`, with `+` at its end for all that begin so"
    )]
    Interface,
    #[error("want a number, 0 to 4294967294, or the name of a user of this system")]
    User,
    #[error("want a number, 0 to 4294967294, or the name of a group of this system")]
    Group,
    #[error("want a number, 1 to 4294967295, other than {0}, which is taken")]
    Mark(u32),
    #[error("want the number of a routing table, 1 to 4294967295, none of 253 to 255")]
    RoutingTable,
    #[error("want REDIRECT or TPROXY; a pod without interception does not run this command")]
    Mode,
    #[error("want a range inside 127.0.0.0/8, from /8 to /32")]
    Loopback,
    #[error("more than {0} entries")]
    TooMany(usize),
    #[error("groups are either included or excluded; set one of the two")]
    BothGroups,
    #[error("want one of the ports of this list only once: it is also {0}")]
    Taken(&'static str),
}

fn shown(value: &str) -> String {
    let mut text: String = value.chars().take(SHOWN).collect();
    let cut = text.len() < value.len();
    text = format!("{text:?}");
    if cut {
        text.push_str("...");
    }
    text
}

/// A network interface's name as rules match it; may end with `+`, which stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(String);

impl Interface {
    /// Longest name the kernel takes, in bytes.
    const LONGEST: usize = 15;

    /// `None` for what is no name; `+` alone would be every interface and is none either.
    pub fn parse(text: &str) -> Option<Interface> {
        let stem = text.strip_suffix('+').unwrap_or(text);
        let mut bytes = stem.bytes();
        let first = bytes.next()?;
        let well = first.is_ascii_alphanumeric() || first == b'_';
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || b"._-@:".contains(&b));
        (well && rest && text.len() <= Interface::LONGEST).then(|| Interface(text.into()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Collects what is wrong while values are read.
#[derive(Debug, Default)]
pub(super) struct Errors(pub Vec<SettingError>);

impl Errors {
    pub fn push(&mut self, setting: &'static str, value: &str, reason: SettingReason) {
        self.0.push(SettingError {
            setting,
            value: value.into(),
            reason,
        });
    }

    /// Entries between commas without spaces around them, each once, in the order written; empty entries are none.
    pub fn list<T: PartialEq>(
        &mut self,
        setting: &'static str,
        text: &str,
        reason: &SettingReason,
        limit: usize,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let mut out = Vec::new();
        for entry in text.split(',').map(|entry| entry.trim_matches(' ')) {
            if entry.is_empty() {
                continue;
            }
            match parse(entry) {
                None => self.push(setting, entry, reason.clone()),
                Some(value) if out.contains(&value) => {}
                Some(_) if out.len() == limit => {
                    self.push(setting, text, SettingReason::TooMany(limit));
                    return out;
                }
                Some(value) => out.push(value),
            }
        }
        out
    }

    pub fn ports(&mut self, setting: &'static str, text: &str) -> Vec<Port> {
        self.list(setting, text, &SettingReason::Port, LIST_LIMIT, port)
    }

    pub fn port(&mut self, setting: &'static str, text: &str, otherwise: u16) -> u16 {
        match text {
            "" => otherwise,
            text => match port(text) {
                Some(port) => port.get(),
                None => {
                    self.push(setting, text, SettingReason::Port);
                    otherwise
                }
            },
        }
    }

    pub fn interfaces(&mut self, setting: &'static str, text: &str) -> Vec<Interface> {
        let reason = SettingReason::Interface;
        self.list(setting, text, &reason, LIST_LIMIT, Interface::parse)
    }

    pub fn cidrs(&mut self, setting: &'static str, text: &str) -> Vec<IpNet> {
        self.list(setting, text, &SettingReason::Cidr, LIST_LIMIT, cidr)
    }

    pub fn number(
        &mut self,
        setting: &'static str,
        text: &str,
        otherwise: u32,
        reason: SettingReason,
        good: impl Fn(u32) -> bool,
    ) -> u32 {
        match text {
            "" => otherwise,
            text => match decimal(text).filter(|&n| good(n)) {
                Some(n) => n,
                None => {
                    self.push(setting, text, reason);
                    otherwise
                }
            },
        }
    }
}

/// Digits and nothing else: no sign, no space.
pub(super) fn decimal(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn port(text: &str) -> Option<Port> {
    Port::try_from(decimal(text)?).ok()
}

/// A range, without bits below its mask.
pub(super) fn cidr(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_names_and_nothing_else() {
        for good in ["eth0", "veth+", "br-1.100", "eth0:1", "_x", "eth0@if3"] {
            assert!(Interface::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "+",
            "-j",
            "eth0 -j ACCEPT",
            "eth0\n-A",
            "eth0;x",
            "!eth0",
            "a+b",
            "\"eth0\"",
            "sixteen-letters-",
            "éth0",
        ] {
            assert!(Interface::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_refused_value_is_shown_escaped_and_short() {
        let error = SettingError {
            setting: "--x",
            value: format!("80\n{}", "z".repeat(500)),
            reason: SettingReason::Port,
        };
        let text = error.to_string();
        assert!(!text.contains('\n') && text.len() < 200, "{text}");
    }
}
