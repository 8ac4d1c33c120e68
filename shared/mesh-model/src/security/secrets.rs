//! Credentials of gateways: which Secrets a router may have (SECURITY-INJECTION B.12).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::{Body, Object};
use mesh_types::{Key, Kind};

use crate::{DestinationRule, MergedServer, Mesh};

/// Secrets by name.
pub type Secrets = BTreeMap<Arc<str>, Arc<Object>>;

/// What ends the name of a credential's CA part.
const AUTHORITY: &str = "-cacert";

/// A credential by the name of its resource: `kubernetes://[NAMESPACE/]NAME[-cacert]` or `kubernetes-gateway://NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    /// Namespace of the Secret.
    pub namespace: Arc<str>,
    /// Secrets that may hold it, the first that is there does.
    pub names: Vec<Arc<str>>,
    /// Whether the CA part is meant, or certificate and key.
    pub authority: bool,
}

impl SecretRef {
    /// Reads the name of a resource as a proxy of namespace `own` means it; `None` for one that no Secret holds.
    pub fn parse(resource: &str, own: &str) -> Option<SecretRef> {
        let (scheme, path) = resource.split_once("://")?;
        if !matches!(scheme, "kubernetes" | "kubernetes-gateway") {
            return None;
        }
        let (namespace, name) = path.split_once('/').unwrap_or((own, path));
        if name.is_empty() || name.contains('/') {
            return None;
        }
        let bare = name.strip_suffix(AUTHORITY);
        // The CA part may have a Secret of its own.
        let names = std::iter::once(name).chain(bare);
        Some(SecretRef {
            namespace: namespace.into(),
            names: names.map(Arc::from).collect(),
            authority: bare.is_some(),
        })
    }
}

/// The Secrets of a namespace that its router refers to.
pub(crate) fn of_router<'a>(
    mesh: &Mesh,
    namespace: &str,
    servers: &[MergedServer],
    rules: impl Iterator<Item = &'a Arc<DestinationRule>>,
) -> Secrets {
    let servers = servers.iter().flat_map(|merged| &merged.servers);
    let of_servers = servers.filter_map(|s| s.spec.tls.as_ref()).flat_map(|tls| {
        let one = [&tls.credential_name, &tls.ca_cert_credential_name];
        one.into_iter().chain(&tls.credential_names)
    });
    let of_rules = rules
        .flat_map(|rule| rule.client_tls())
        .map(|tls| &tls.credential_name);
    let written: BTreeSet<&String> = of_servers
        .chain(of_rules)
        .filter(|n| !n.is_empty())
        .collect();
    let mut out = Secrets::new();
    for name in written {
        let resource = match name.contains("://") {
            true => name.clone(),
            false => format!("kubernetes://{name}"),
        };
        for resource in [format!("{resource}{AUTHORITY}"), resource] {
            let Some(wanted) = SecretRef::parse(&resource, namespace) else {
                continue;
            };
            // Nobody is given what belongs to another namespace.
            if *wanted.namespace != *namespace {
                continue;
            }
            for name in wanted.names {
                let key = Key::new(Kind::Secret, namespace, name.clone());
                if let Some(object) = mesh.object(&key)
                    && matches!(object.body, Body::Secret(_))
                {
                    out.insert(name, object.clone());
                }
            }
        }
    }
    out
}
