//! The names of the mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_api::istio::nds::NameTable;

/// Most addresses that one name is answered with.
const MAX_ADDRESSES: usize = 256;
/// Registry of names that have short forms.
const KUBERNETES: &str = "Kubernetes";

/// Whose table it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// The proxy's namespace: its services may be called by their first label.
    pub namespace: String,
    /// Domain of the cluster: `cluster.local`.
    pub domain: String,
    /// Search domains of the system's resolver, in order.
    pub search: Vec<String>,
}

/// Names with their addresses, in lower case and without a last dot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    names: BTreeMap<String, Vec<IpAddr>>,
    /// First search domain: programs try it behind names of few dots before the name alone.
    search: Option<String>,
}

/// What a name has.
pub(super) struct Found<'a> {
    pub(super) addresses: &'a [IpAddr],
    /// The name it is another name for.
    pub(super) canonical: Option<&'a str>,
}

impl Table {
    /// From what Pilot sent. Texts that are no addresses are left out.
    pub fn build(table: &NameTable, own: &Own) -> Table {
        let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let mut short: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (host, info) in &table.table {
            let host = plain(host);
            let addresses = info.ips.iter().filter_map(|ip| ip.parse().ok());
            let addresses: Vec<IpAddr> = addresses.take(MAX_ADDRESSES).collect();
            if info.registry == KUBERNETES
                && !info.shortname.is_empty()
                && !info.namespace.is_empty()
            {
                let (name, namespace) = (plain(&info.shortname), plain(&info.namespace));
                let mut forms = vec![
                    format!("{name}.{namespace}"),
                    format!("{name}.{namespace}.svc"),
                ];
                if namespace == own.namespace {
                    forms.push(name);
                }
                for form in forms {
                    short.entry(form).or_insert_with(|| addresses.clone());
                }
            }
            names.insert(host, addresses);
        }
        // A name that somebody gave wins over a form that we made.
        for (form, addresses) in short {
            names.entry(form).or_insert(addresses);
        }
        Table {
            names,
            search: own.search.first().map(|search| plain(search)),
        }
    }

    /// Names, and how many addresses each has.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        self.names
            .iter()
            .map(|(name, addresses)| (name.as_str(), addresses.as_slice()))
    }

    /// A name in lower case, without a last dot.
    pub(super) fn find(&self, name: &str) -> Option<Found<'_>> {
        if let Some(addresses) = self.exact_or_wildcard(name) {
            return Some(Found {
                addresses,
                canonical: None,
            });
        }
        let rest = name
            .strip_suffix(self.search.as_deref()?)?
            .strip_suffix('.')?;
        let (canonical, addresses) = self.names.get_key_value(rest)?;
        Some(Found {
            addresses,
            canonical: Some(canonical),
        })
    }

    fn exact_or_wildcard(&self, name: &str) -> Option<&[IpAddr]> {
        if let Some(addresses) = self.names.get(name) {
            return Some(addresses);
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(addresses) = self.names.get(&format!("*.{parent}")) {
                return Some(addresses);
            }
            rest = parent;
        }
        None
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
