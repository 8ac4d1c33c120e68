//! Short names of a VirtualService, completed (XDS-TRAFFIC 0.5).

use mesh_config::resource::virtual_service::{Destination, VirtualService};
use mesh_types::Hostname;

/// A host with its short form completed; a text that is no host stays as it is (the check of the resource has refused it already).
pub(crate) fn full_host(text: &str, namespace: &str, domain: &str) -> String {
    Hostname::resolve(text, namespace, domain)
        .map_or_else(|_| text.to_owned(), |host| host.as_str().to_owned())
}

/// A gateway's name as `namespace/name`; `mesh` stays.
pub(crate) fn gateway_name(text: &str, namespace: &str) -> String {
    if text == "mesh" {
        return text.to_owned();
    }
    match text.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => text.to_owned(),
        // The form of Istio 0.8: name.namespace[.svc.domain].
        None => match text.split_once('.') {
            Some((name, rest)) => format!("{}/{name}", rest.split('.').next().unwrap_or(namespace)),
            None => format!("{namespace}/{text}"),
        },
    }
}

/// Every destination of a VirtualService, mirrors included.
fn destinations_mut(spec: &mut VirtualService) -> impl Iterator<Item = &mut Destination> {
    let http = spec.http.iter_mut().flat_map(|http| {
        let routes = http.route.iter_mut().filter_map(|r| r.destination.as_mut());
        routes.chain(http.mirror.as_mut()).chain(
            http.mirrors
                .iter_mut()
                .filter_map(|m| m.destination.as_mut()),
        )
    });
    let tls = spec
        .tls
        .iter_mut()
        .flat_map(|r| &mut r.route)
        .filter_map(|r| r.destination.as_mut());
    let tcp = spec
        .tcp
        .iter_mut()
        .flat_map(|r| &mut r.route)
        .filter_map(|r| r.destination.as_mut());
    http.chain(tls).chain(tcp)
}

/// Every `match[].gateways` of a VirtualService.
fn match_gateways_mut(spec: &mut VirtualService) -> impl Iterator<Item = &mut Vec<String>> {
    let http = spec
        .http
        .iter_mut()
        .flat_map(|r| &mut r.matches)
        .map(|m| &mut m.gateways);
    let tls = spec
        .tls
        .iter_mut()
        .flat_map(|r| &mut r.matches)
        .map(|m| &mut m.gateways);
    let tcp = spec
        .tcp
        .iter_mut()
        .flat_map(|r| &mut r.matches)
        .map(|m| &mut m.gateways);
    http.chain(tls).chain(tcp)
}

/// The spec with every host and gateway name in full. Hosts are lower case, valid and unique; no gateways means `mesh`.
pub(crate) fn resolve(
    spec: &VirtualService,
    namespace: &str,
    domain: &str,
) -> (VirtualService, Vec<Hostname>) {
    let mut spec = spec.clone();
    let mut hosts: Vec<Hostname> = Vec::with_capacity(spec.hosts.len());
    for host in spec
        .hosts
        .iter()
        .filter_map(|text| Hostname::resolve(text, namespace, domain).ok())
    {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    spec.hosts = hosts.iter().map(|host| host.as_str().to_owned()).collect();
    for destination in destinations_mut(&mut spec) {
        destination.host = full_host(&destination.host, namespace, domain);
    }
    if spec.gateways.is_empty() {
        spec.gateways.push("mesh".to_owned());
    }
    let own = &mut spec.gateways;
    own.iter_mut()
        .for_each(|gateway| *gateway = gateway_name(gateway, namespace));
    for gateways in match_gateways_mut(&mut spec) {
        gateways
            .iter_mut()
            .for_each(|gateway| *gateway = gateway_name(gateway, namespace));
    }
    (spec, hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_names_get_their_namespace() {
        let names = [
            "mesh",
            "gw",
            "other/gw",
            "./gw",
            "gw.other",
            "gw.other.svc.cluster.local",
        ];
        assert_eq!(
            names.map(|name| gateway_name(name, "shop")),
            [
                "mesh", "shop/gw", "other/gw", "shop/gw", "other/gw", "other/gw"
            ]
        );
    }
}
