//! Which VirtualService of a listener speaks for which service (XDS-TRAFFIC 6.8).

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_types::Hostname;

use crate::VirtualService;

/// For each service host that some VirtualService names, the index of the most specific one: the host itself, else the longest wildcard;
/// the first among equals.
pub(crate) fn most_specific<'a>(
    virtual_services: &[Arc<VirtualService>],
    hosts: impl Iterator<Item = &'a Hostname>,
    has: impl Fn(&Hostname) -> bool,
) -> BTreeMap<Hostname, usize> {
    let mut best = BTreeMap::new();
    let mut wild: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, item) in virtual_services.iter().enumerate() {
        for host in &item.hosts {
            if has(host) {
                best.entry(host.clone()).or_insert(index);
            }
            if host.is_wildcard() {
                wild.entry(host.as_str()).or_insert(index);
            }
        }
    }
    if wild.is_empty() {
        return best;
    }
    let mut pattern = String::new();
    for host in hosts {
        if best.contains_key(host) {
            continue;
        }
        let mut rest = host.as_str().trim_start_matches("*.");
        let mut found = None;
        while let Some((_, suffix)) = rest.split_once('.') {
            pattern.clear();
            pattern.push_str("*.");
            pattern.push_str(suffix);
            found = wild.get(pattern.as_str());
            if found.is_some() {
                break;
            }
            rest = suffix;
        }
        if let Some(index) = found.or_else(|| wild.get("*")) {
            best.insert(host.clone(), *index);
        }
    }
    best
}
