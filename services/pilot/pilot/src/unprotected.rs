//! What proxies without a certificate mean for policies that ask for mutual TLS: seen only by who knows the proxies that are connected.

use std::collections::BTreeMap;

use mesh_model::{Mesh, PeerMode, PeerModes, Proxy, ProxyKind};
use mesh_types::{Code, FieldPath, Finding, Key};

/// Proxies named in one finding; the others are counted.
const NAMED: usize = 3;

/// One finding per PeerAuthentication that asks mutual TLS of proxies that have no certificate: their ports are closed.
pub fn findings<'a>(
    mesh: &Mesh,
    proxies: impl Iterator<Item = (&'a Proxy, &'a PeerModes)>,
) -> Vec<Finding> {
    let mut by_policy: BTreeMap<Key, Vec<&Proxy>> = BTreeMap::new();
    for (proxy, modes) in proxies {
        let strict = modes.workload == PeerMode::Strict
            || modes.ports.values().any(|mode| *mode == PeerMode::Strict);
        let bare = proxy.kind == ProxyKind::Sidecar && !proxy.agent && proxy.server_files.is_none();
        if !strict || !bare {
            continue;
        }
        let followed = mesh.peer_authentications(&proxy.namespace, &proxy.labels);
        if let Some(narrowest) = followed.into_iter().last() {
            by_policy.entry(narrowest).or_default().push(proxy);
        }
    }
    let tell = |(key, proxies): (Key, Vec<&Proxy>)| {
        let mut names: Vec<&str> = proxies.iter().map(|proxy| &*proxy.id).collect();
        names.sort_unstable();
        names.dedup();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let message = format!(
            "mutual TLS is asked of {}{more}, which run without an agent and have no certificate: their ports are closed",
            names.join(", ")
        );
        Finding::new(&key, FieldPath::root().field("spec"), Code::Risky, message)
    };
    by_policy.into_iter().map(tell).collect()
}

#[cfg(test)]
mod tests {
    use mesh_config::{Origin, decode_text};
    use mesh_model::{Change, Node};
    use mesh_types::Revision;
    use serde_json::json;

    use super::*;

    fn proxy(name: &str, agent: bool) -> Proxy {
        let version = if agent { "1.29.0" } else { "" };
        Proxy::parse(&Node {
            id: format!("sidecar~10.0.0.1~{name}.n~n.svc.cluster.local"),
            metadata: json!({ "ISTIO_VERSION": version }),
            ..Node::default()
        })
        .unwrap()
    }

    #[test]
    fn a_policy_is_told_of_proxies_that_cannot_follow_it() {
        let text = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: n}, spec: {mtls: {mode: STRICT}}}";
        let objects = decode_text(text, &Origin::default()).objects;
        let changes: Vec<Change> = objects
            .into_iter()
            .map(|(object, _)| Change::Upsert(object.into()))
            .collect();
        let (mesh, _) = Mesh::default().apply(Revision(1), &changes);
        let proxies: Vec<Proxy> = ["e", "d", "c", "b", "a"]
            .iter()
            .map(|name| proxy(name, *name == "b"))
            .collect();
        let modes = |proxy: &Proxy| mesh.view(&mesh.view_key(proxy)).peers;
        let all: Vec<_> = proxies.iter().map(|p| (p, modes(p))).collect();
        let found = findings(&mesh, all.iter().map(|(p, m)| (*p, &**m)));
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .message
                .contains("asked of a.n, c.n, d.n and 1 more, which run without"),
            "{found:?}"
        );
        let with_agent = proxy("a", true);
        let modes = modes(&with_agent);
        assert!(findings(&mesh, std::iter::once((&with_agent, &*modes))).is_empty());
    }
}
