//! Rules that are in force, as `iptables-save` shows them.

use std::collections::BTreeMap;

use super::rule::{NOTE, Rule, Ruleset, Table, TableRules};

/// What our chains' names begin with.
const OWN: &str = "ISTIO_";

/// Rules in force of one version of IP and one variant of iptables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    tables: BTreeMap<Table, Saved>,
    /// Rules of any table, also of tables that never concern us.
    count: usize,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// Chains of ours, in the order shown.
    pub chains: Vec<String>,
    /// Every rule: its chain, and the rest of its line as it stands.
    pub rules: Vec<(String, String)>,
}

impl State {
    /// Reads what `iptables-save` prints; what is not understood is left out.
    pub fn parse(text: &str) -> State {
        let mut state = State::default();
        let mut table = None;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                table = Table::ALL.into_iter().find(|table| table.name() == name);
                continue;
            }
            let rule = line.strip_prefix("-A ").and_then(|r| r.split_once(' '));
            state.count += usize::from(rule.is_some());
            let Some(saved) = table.map(|table| state.tables.entry(table).or_default()) else {
                continue;
            };
            if let Some((chain, body)) = rule {
                saved.rules.push((chain.into(), body.into()));
            } else if let Some(chain) = line.strip_prefix(':')
                && let Some(name) = chain.split(' ').next()
                && is_own(name)
            {
                saved.chains.push(name.into());
            }
        }
        state
    }

    /// How many rules there are in all.
    pub fn rule_count(&self) -> usize {
        self.count
    }

    /// Whether rules of ours, or Istio's, are there.
    pub fn has_ours(&self) -> bool {
        self.tables.values().any(|saved| {
            !saved.chains.is_empty() || saved.rules.iter().any(|(_, body)| is_marked(body))
        })
    }

    /// Whether everything wanted is there, in order, and nothing else of ours.
    pub fn is(&self, wanted: &Ruleset) -> bool {
        self.differences(wanted, 1).is_empty()
    }

    /// What is there and not wanted (`+`), and wanted and not there (`-`); at most `limit` lines.
    pub fn differences(&self, wanted: &Ruleset, limit: usize) -> Vec<String> {
        let mut out = Vec::new();
        let (empty, none) = (Saved::default(), TableRules::default());
        for table in Table::ALL {
            let saved = self.tables.get(&table).unwrap_or(&empty);
            let rules = wanted.0.get(&table).unwrap_or(&none);
            differ(table, saved, rules, &mut out);
        }
        out.truncate(limit);
        out
    }

    pub(super) fn table(&self, table: Table) -> Option<&Saved> {
        self.tables.get(&table)
    }
}

impl Saved {
    /// Rules in the system's chains that are ours: by where they lead, by comment, or because they are the ones wanted.
    pub fn ours_in_system<'a>(
        &'a self,
        wanted: &'a TableRules,
    ) -> impl Iterator<Item = &'a (String, String)> {
        let known: Vec<_> = wanted
            .in_order()
            .filter(|rule| rule.chain.is_system())
            .collect();
        self.rules.iter().filter(move |(chain, body)| {
            let same = |rule: &&&Rule| {
                rule.chain.name() == chain && canonical(&rule.body()) == canonical(body)
            };
            !is_own(chain) && (is_marked(body) || known.iter().any(|rule| same(&rule)))
        })
    }
}

fn differ(table: Table, saved: &Saved, wanted: &TableRules, out: &mut Vec<String>) {
    let name = table.name();
    let chains = wanted.chains();
    for chain in &saved.chains {
        if !chains.contains(chain.as_str()) {
            out.push(format!("+ {name}: chain {chain}"));
        }
    }
    for chain in &chains {
        if !saved.chains.iter().any(|found| found == chain) {
            out.push(format!("- {name}: chain {chain}"));
        }
    }
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let own = saved.rules.iter().filter(|(chain, _)| is_own(chain));
    for (chain, body) in own.chain(saved.ours_in_system(wanted)) {
        found.entry(chain).or_default().push(body);
    }
    let mut want: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for rule in wanted.in_order() {
        want.entry(rule.chain.name()).or_default().push(rule.body());
    }
    let all: std::collections::BTreeSet<&str> = found.keys().chain(want.keys()).copied().collect();
    for chain in all {
        let found = found.get(chain).map(Vec::as_slice).unwrap_or_default();
        let want = want.get(chain).map(Vec::as_slice).unwrap_or_default();
        let (a, b): (Vec<_>, Vec<_>) = (
            found.iter().map(|body| canonical(body)).collect(),
            want.iter().map(|body| canonical(body)).collect(),
        );
        if a == b {
            continue;
        }
        let before = out.len();
        for (body, key) in found.iter().zip(&a) {
            if !b.contains(key) {
                out.push(format!("+ {name}: -A {chain} {body}"));
            }
        }
        for (body, key) in want.iter().zip(&b) {
            if !a.contains(key) {
                out.push(format!("- {name}: -A {chain} {body}"));
            }
        }
        if out.len() == before {
            out.push(format!("! {name}: rules of {chain} are in another order"));
        }
    }
}

fn is_own(chain: &str) -> bool {
    chain.starts_with(OWN)
}

/// Whether a rule leads to a chain of ours or bears our comment.
fn is_marked(body: &str) -> bool {
    let words: Vec<&str> = body.split(' ').collect();
    words.windows(2).any(|pair| match pair {
        ["-j" | "-g", to] => is_own(to),
        ["--comment", note] => note.trim_matches('"') == NOTE,
        _ => false,
    })
}

/// A rule's body in a form that does not depend on who printed it: options in order, numbers in decimal, nothing that is implied.
fn canonical(body: &str) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    let mut not = false;
    for word in body.split_ascii_whitespace() {
        match word {
            "!" => not = true,
            flag if flag.starts_with('-') => {
                let name = match flag {
                    "--set-xmark" => "--set-mark",
                    "--to-port" => "--to-ports",
                    other => other,
                };
                options.push(format!("{}{name}", if not { "! " } else { "" }));
                not = false;
            }
            value => {
                let Some(option) = options.last_mut() else {
                    continue;
                };
                let value = decimal(value);
                let host = option.ends_with("-s") || option.ends_with("-d");
                let value = match value.strip_suffix("/32").or(value.strip_suffix("/128")) {
                    Some(address) if host => address.to_owned(),
                    _ => value,
                };
                option.push(' ');
                option.push_str(&value);
            }
        }
    }
    options.retain(|option| !is_implied(option));
    options.sort();
    options.dedup();
    options
}

fn is_implied(option: &str) -> bool {
    matches!(
        option,
        "-m tcp"
            | "-m udp"
            | "-m comment"
            | "--nfmask 4294967295"
            | "--ctmask 4294967295"
            | "--on-ip 0.0.0.0"
            | "--on-ip ::"
    ) || option == format!("--comment {NOTE}")
        || option == format!("--comment \"{NOTE}\"")
}

/// `0x539/0xffffffff` and `0x539` are 1337.
fn decimal(word: &str) -> String {
    let hex = |text: &str| {
        let digits = text.strip_prefix("0x")?;
        u32::from_str_radix(digits, 16).ok()
    };
    match word.split_once('/') {
        Some((value, mask)) if hex(mask) == Some(u32::MAX) => decimal(value),
        _ => hex(word).map_or_else(|| word.into(), |n| n.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rule_in_other_words_is_the_same() {
        for (a, b) in [
            (
                "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
                "! -d 127.0.0.1 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
            ),
            (
                "-j MARK --set-mark 1337",
                "-j MARK --set-xmark 0x539/0xffffffff",
            ),
            (
                "-p tcp -j TPROXY --tproxy-mark 1337/0xffffffff --on-port 15006",
                "-p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff",
            ),
            (
                "-i eth1 -j RETURN",
                "-i eth1 -m comment --comment flotilla -j RETURN",
            ),
        ] {
            assert_eq!(canonical(a), canonical(b));
        }
        assert_ne!(canonical("! -d 1.1.1.1 -j A"), canonical("-d 1.1.1.1 -j A"));
        assert_ne!(
            canonical("-m mark --mark 1 -j A"),
            canonical("-m connmark --mark 1 -j A")
        );
    }

    #[test]
    fn foreign_rules_are_not_ours() {
        let state = State::parse(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n-A OUTPUT -o eth9 -j RETURN\nCOMMIT\n*security\n-A INPUT -j DROP\nCOMMIT\n",
        );
        assert!(!state.has_ours());
        assert_eq!(state.rule_count(), 3);
        assert!(state.is(&Ruleset::default()));
        let state = State::parse("*nat\n-A PREROUTING -p tcp -j ISTIO_INBOUND\nCOMMIT\n");
        assert!(state.has_ours());
    }
}
