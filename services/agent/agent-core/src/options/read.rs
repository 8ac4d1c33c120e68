//! Reading variables, gathering everything that is wrong with them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// A variable that cannot be acted on, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct OptionError {
    /// The variable or the setting.
    pub name: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

/// Variables by name, and what was wrong with those that were read.
pub(super) struct Reader<'a> {
    vars: &'a BTreeMap<String, String>,
    pub(super) errors: Vec<OptionError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(vars: &'a BTreeMap<String, String>) -> Reader<'a> {
        Reader {
            vars,
            errors: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, name: &str, reason: impl Display) {
        self.errors.push(OptionError {
            name: name.to_owned(),
            reason: reason.to_string(),
        });
    }

    /// The text of a variable; empty is as good as not set.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let text = self.vars.get(name)?.trim();
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn text_or(&self, name: &str, default: &str) -> String {
        self.text(name).unwrap_or(default).to_owned()
    }

    /// Words as Go's `strconv.ParseBool` takes them.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.text(name) {
            None => default,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some(other) => {
                self.refuse(name, format!("{other:?} is neither true nor false"));
                default
            }
        }
    }

    pub(super) fn duration(&mut self, name: &str, default: Duration) -> Duration {
        let Some(text) = self.text(name) else {
            return default;
        };
        match duration(text) {
            Some(found) => found,
            None => {
                self.refuse(
                    name,
                    format!("{text:?} is no duration; write for example 100ms, 10s or 1h30m"),
                );
                default
            }
        }
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        let Some(text) = self.text(name) else {
            return default;
        };
        match text.parse() {
            Ok(found) => found,
            Err(error) => {
                self.refuse(name, format!("{text:?}: {error}"));
                default
            }
        }
    }

    /// A number in 0.0..=1.0.
    pub(super) fn ratio(&mut self, name: &str, default: f64) -> f64 {
        let found = self.parsed(name, default);
        if (0.0..=1.0).contains(&found) {
            return found;
        }
        self.refuse(name, format!("{found} is outside 0..=1"));
        default
    }

    /// `IP:PORT`, `localhost:PORT`, `:PORT` (every interface) or a bare `PORT` at the default's address.
    pub(super) fn address(&mut self, name: &str, default: SocketAddr) -> SocketAddr {
        let Some(text) = self.text(name) else {
            return default;
        };
        let found = match text.rsplit_once(':') {
            None => text
                .parse()
                .ok()
                .map(|port| SocketAddr::new(default.ip(), port)),
            Some(("localhost", port)) => port
                .parse()
                .ok()
                .map(|port: u16| ([127, 0, 0, 1], port).into()),
            Some(("", port)) => port
                .parse()
                .ok()
                .map(|port: u16| ([0, 0, 0, 0], port).into()),
            Some(_) => text.parse().ok(),
        };
        match found {
            Some(found) => found,
            None => {
                self.refuse(
                    name,
                    format!("{text:?} is no address; write 127.0.0.1:15020, :15020 or 15020"),
                );
                default
            }
        }
    }

    /// Members of a comma-separated list, without empty ones.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        split(self.text(name).unwrap_or_default())
    }

    /// Variables whose name begins so, without that beginning.
    pub(super) fn prefixed(&self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let prefix = prefix.to_owned();
        self.vars
            .range(prefix.clone()..)
            .map_while(move |(name, value)| Some((name.strip_prefix(&prefix)?, value.as_str())))
            .filter(|(name, _)| !name.is_empty())
    }
}

/// Members of a comma-separated list, without empty ones.
pub(super) fn split(text: &str) -> Vec<String> {
    let members = text.split(',').map(str::trim);
    members
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A duration in Go's notation, not below zero.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let found = mesh_config::resource::Duration::parse(text)?;
    let seconds = u64::try_from(found.seconds()).ok()?;
    Some(Duration::new(
        seconds,
        u32::try_from(found.subsec_nanos()).ok()?,
    ))
}
