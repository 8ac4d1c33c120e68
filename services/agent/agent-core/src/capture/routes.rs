//! Addresses and routes that rules rely on, as commands of `ip`.

use super::rule::Family;
use super::settings::{Inbound, Mode, Settings};

/// What has to be there beside rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routes {
    /// Mark and routing table of packets that TPROXY takes, for each version of IP; `None` without TPROXY.
    tproxy: Option<(u32, u32)>,
    v6: bool,
}

/// Arguments of `ip`.
pub type IpCommand = Vec<String>;

impl Routes {
    /// What settings need; `v6` says whether IPv6 is captured.
    pub fn of(settings: &Settings, v6: bool) -> Routes {
        let captures = !matches!(&settings.inbound, Inbound::Only(ports) if ports.is_empty());
        Routes {
            tproxy: (settings.mode == Mode::Tproxy && captures)
                .then_some((settings.tproxy_mark, settings.tproxy_table)),
            v6,
        }
    }

    /// Everything that runs of these settings may have left, whatever their mode and version of IP.
    pub fn of_any(settings: &Settings) -> Routes {
        Routes {
            tproxy: Some((settings.tproxy_mark, settings.tproxy_table)),
            v6: true,
        }
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.tproxy.is_none() && !self.v6
    }

    /// Whether routes of TPROXY are needed.
    pub fn has_tproxy(&self) -> bool {
        self.tproxy.is_some()
    }

    /// Versions of IP that have routes.
    pub fn families(&self) -> &'static [Family] {
        match self.v6 {
            true => &[Family::V4, Family::V6],
            false => &[Family::V4],
        }
    }

    /// All of these that `needed` lacks.
    pub fn without(self, needed: &Routes) -> Routes {
        Routes {
            tproxy: self.tproxy.filter(|_| needed.tproxy.is_none()),
            v6: self.v6 && !needed.v6,
        }
    }

    /// Every command that puts them there, in order.
    pub fn added(&self) -> Vec<IpCommand> {
        let address = self.add_address().into_iter();
        let of = |&family: &Family| [self.add_rule(family), self.add_route(family)];
        address
            .chain(self.families().iter().flat_map(of).flatten())
            .collect()
    }

    /// Every command that takes them away, in order.
    pub fn removed(&self) -> Vec<IpCommand> {
        let address = self.remove_address().into_iter();
        let of = |&family: &Family| [self.remove_rule(family), self.remove_route(family)];
        address
            .chain(self.families().iter().flat_map(of).flatten())
            .collect()
    }

    /// Gives loopback the address.
    pub fn add_address(&self) -> Option<IpCommand> {
        self.v6
            .then(|| command("-6 address add ::6/128 dev lo nodad"))
    }

    /// Takes the address away.
    pub fn remove_address(&self) -> Option<IpCommand> {
        self.v6.then(|| command("-6 address del ::6/128 dev lo"))
    }

    /// Sends marked packets to the table. Told twice, the system adds it twice.
    pub fn add_rule(&self, family: Family) -> Option<IpCommand> {
        let (mark, table) = self.tproxy?;
        let flag = flag(family);
        Some(command(&format!(
            "{flag} rule add fwmark {mark} lookup {table}"
        )))
    }

    /// No longer does.
    pub fn remove_rule(&self, family: Family) -> Option<IpCommand> {
        let (mark, table) = self.tproxy?;
        let flag = flag(family);
        Some(command(&format!(
            "{flag} rule del fwmark {mark} lookup {table}"
        )))
    }

    /// Takes everything in the table for this system's own; may be repeated.
    pub fn add_route(&self, family: Family) -> Option<IpCommand> {
        let (_, table) = self.tproxy?;
        let flag = flag(family);
        Some(command(&format!(
            "{flag} route replace local default dev lo table {table}"
        )))
    }

    /// No longer does.
    pub fn remove_route(&self, family: Family) -> Option<IpCommand> {
        let (_, table) = self.tproxy?;
        let flag = flag(family);
        Some(command(&format!(
            "{flag} route del local default dev lo table {table}"
        )))
    }

    /// How many rules of `ip -j rule show` are ours: the mark leads to the table.
    pub fn rules_in(&self, shown: &str) -> usize {
        let Some((mark, table)) = self.tproxy else {
            return 0;
        };
        let rules: Vec<serde_json::Value> = serde_json::from_str(shown).unwrap_or_default();
        let ours = rules.iter().filter(|rule| {
            let fwmark = rule["fwmark"].as_str().and_then(number);
            let lookup = rule["table"].as_str().and_then(number);
            fwmark == Some(mark) && lookup == Some(table) && rule["src"] == "all"
        });
        ours.count()
    }

    /// Whether `ip -j route show table all` lists our route.
    pub fn has_route(&self, shown: &str) -> bool {
        let Some((_, table)) = self.tproxy else {
            return false;
        };
        let routes: Vec<serde_json::Value> = serde_json::from_str(shown).unwrap_or_default();
        routes.iter().any(|route| {
            route["type"] == "local"
                && route["dst"] == "default"
                && route["dev"] == "lo"
                && route["table"].as_str().and_then(number) == Some(table)
        })
    }
}

fn flag(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

fn command(text: &str) -> IpCommand {
    text.split(' ').map(str::to_owned).collect()
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_routes_are_known_again() {
        let routes = Routes {
            tproxy: Some((1337, 133)),
            v6: false,
        };
        let rules = r#"[{"priority":0,"src":"all","table":"local"},
            {"priority":32764,"src":"10.0.0.0","srclen":8,"fwmark":"0x539","table":"133"},
            {"priority":32765,"src":"all","fwmark":"0x539","table":"133"},
            {"priority":32766,"src":"all","table":"main"}]"#;
        assert_eq!(routes.rules_in(rules), 1);
        assert_eq!(routes.rules_in("[]"), 0);
        assert_eq!(routes.rules_in("broken"), 0);
        let shown = r#"[{"type":"local","dst":"default","dev":"lo","table":"133","flags":[]},{"dst":"10.0.0.0/8","dev":"eth0"}]"#;
        assert!(routes.has_route(shown));
        assert!(!routes.has_route(r#"[{"dst":"default","dev":"lo","table":"133"}]"#));
    }
}
