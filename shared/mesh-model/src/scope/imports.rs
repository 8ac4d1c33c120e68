//! What an egress listener asks for: the host entries of a Sidecar, read (XDS-TRAFFIC 10.2, 10.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_types::Hostname;

use crate::{Service, VirtualService};

/// Hosts asked for in one namespace (or in any).
#[derive(Debug, Default)]
struct Hosts {
    plain: BTreeSet<Hostname>,
    wild: Vec<Hostname>,
}

impl Hosts {
    fn covers(&self, host: &Hostname) -> bool {
        self.plain.contains(host) || self.wild.iter().any(|entry| host.is_subset_of(entry))
    }

    /// Whether some name is meant by both.
    fn touches(&self, host: &Hostname) -> bool {
        if host.is_wildcard() {
            self.plain
                .iter()
                .chain(&self.wild)
                .any(|entry| entry.matches(host))
        } else {
            self.covers(host)
        }
    }
}

/// The host entries of one egress listener.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    /// `*/*` without exclusions.
    everything: bool,
    any: Hosts,
    by_namespace: BTreeMap<Arc<str>, Hosts>,
    /// Exclusions; no namespace means any.
    excluded: Vec<(Option<Arc<str>>, Hostname)>,
}

impl Imports {
    /// Everything there is.
    pub(crate) fn everything() -> Imports {
        Imports {
            everything: true,
            ..Imports::default()
        }
    }

    /// Reads `namespace/host` entries; none at all asks for everything. An entry that is neither is left out.
    pub(crate) fn read(entries: &[String], own: &Arc<str>) -> Imports {
        if entries.is_empty() {
            return Imports::everything();
        }
        let mut imports = Imports::default();
        for entry in entries {
            let Some((namespace, host)) = entry.split_once('/') else {
                continue;
            };
            let Ok(host) = Hostname::new(host) else {
                continue;
            };
            let name = |text: &str| {
                if text == "." {
                    own.clone()
                } else {
                    Arc::from(text)
                }
            };
            if let Some(excluded) = namespace.strip_prefix('~') {
                let namespace = (!excluded.is_empty() && excluded != "*").then(|| name(excluded));
                imports.excluded.push((namespace, host));
                continue;
            }
            let hosts = match namespace {
                "*" => &mut imports.any,
                _ => imports.by_namespace.entry(name(namespace)).or_default(),
            };
            if host.is_wildcard() {
                hosts.wild.push(host);
            } else {
                hosts.plain.insert(host);
            }
        }
        imports.everything =
            imports.excluded.is_empty() && imports.any.wild.iter().any(|host| host.as_str() == "*");
        imports
    }

    /// Whether everything that is asked for is asked for by its namespace, or by its whole host.
    pub(crate) fn names_all(&self) -> bool {
        !self.everything && self.any.wild.is_empty()
    }

    /// Whole hosts that are asked for in any namespace.
    pub(crate) fn any_plain(&self) -> impl Iterator<Item = &Hostname> {
        self.any.plain.iter()
    }

    /// The namespaces that are named, each with the hosts asked for there, or `None` if wildcards are among them.
    pub(crate) fn namespaces(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, Option<impl Iterator<Item = &Hostname>>)> {
        self.by_namespace
            .iter()
            .map(|(name, hosts)| (name, hosts.wild.is_empty().then(|| hosts.plain.iter())))
    }

    /// Whether a service is asked for.
    pub(crate) fn service(&self, service: &Service) -> bool {
        let (namespace, host) = (&service.key.namespace, &service.hostname);
        self.everything
            || !self.excludes(namespace, host)
                && (self.any.covers(host)
                    || self
                        .by_namespace
                        .get(namespace)
                        .is_some_and(|hosts| hosts.covers(host)))
    }

    /// Whether a VirtualService is asked for: by any one of its hosts, and then with all of them. A wildcard host is asked for by any name
    /// below it, unless the object comes from the Gateway API.
    pub(crate) fn virtual_service(&self, item: &VirtualService) -> bool {
        let own = self.by_namespace.get(&item.key.namespace);
        let asked = |hosts: &Hosts, host| {
            if item.gateway_semantics {
                hosts.covers(host)
            } else {
                hosts.touches(host)
            }
        };
        self.everything
            || item.hosts.iter().any(|host| {
                !self.excludes(&item.key.namespace, host)
                    && (asked(&self.any, host) || own.is_some_and(|hosts| asked(hosts, host)))
            })
    }

    fn excludes(&self, namespace: &Arc<str>, host: &Hostname) -> bool {
        self.excluded.iter().any(|(excluded, entry)| {
            excluded
                .as_ref()
                .is_none_or(|excluded| excluded == namespace)
                && host.is_subset_of(entry)
        })
    }
}
