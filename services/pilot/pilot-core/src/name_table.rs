//! The name table that an agent's DNS proxy answers from: hosts in scope, and the addresses that proxies of a class dial them at.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_config::resource::normal::{Health, Registry, ServiceResolution};
use mesh_model::{Service, View};
use mesh_types::Hostname;
use prost::Message;
use xds_core::{Encoded, TypeId};

use crate::OutboundKey;
use crate::listeners::Vips;

/// Name of the one resource.
const NAME: &str = "default";

/// `istio.networking.nds.v1.NameTable`, whose map keeps an order: equal tables are equal bytes.
#[derive(Clone, PartialEq, Message)]
struct NameTable {
    #[prost(btree_map = "string, message", tag = "1")]
    table: BTreeMap<String, NameInfo>,
}

/// What is known of one name.
#[derive(Clone, PartialEq, Message)]
struct NameInfo {
    #[prost(string, repeated, tag = "1")]
    ips: Vec<String>,
    #[prost(string, tag = "2")]
    registry: String,
    #[prost(string, tag = "3")]
    shortname: String,
    #[prost(string, tag = "4")]
    namespace: String,
}

/// The table of a class; nothing for proxies whose agent does not answer DNS.
///
/// A service is in it with its own addresses, or the one that the plane allotted; a Kubernetes service without any (headless) with those of its
/// healthy endpoints. Whatever has no address then is left to the DNS servers of the machine, and so is another name of a service
/// (ExternalName).
pub fn name_table(view: &View, key: &OutboundKey) -> Vec<Arc<Encoded>> {
    if !key.dns_capture {
        return Vec::new();
    }
    let entries = view.services.iter().filter_map(|(host, service)| {
        let ips = addresses(view, key, host, service);
        (!ips.is_empty()).then(|| (host.to_string(), info(service, ips)))
    });
    let table = NameTable {
        table: entries.collect(),
    };
    vec![Arc::new(Encoded::new(
        NAME,
        TypeId::Nds,
        &table.encode_to_vec(),
    ))]
}

/// Whether the table of a class may be another one when the endpoints of this host are.
pub fn follows_endpoints(view: &View, host: &Hostname) -> bool {
    view.services
        .get(host)
        .is_some_and(|service| is_headless(service))
}

fn is_headless(service: &Service) -> bool {
    service.registry == Registry::Kubernetes && service.resolution == ServiceResolution::Passthrough
}

fn addresses(view: &View, key: &OutboundKey, host: &Hostname, service: &Service) -> Vec<String> {
    if service.resolution == ServiceResolution::Alias {
        return Vec::new();
    }
    let vips = Vips::of(service, key);
    let mut ips: Vec<String> = vips.ips.iter().map(ToString::to_string).collect();
    if ips.is_empty()
        && is_headless(service)
        && let Some(endpoints) = view.endpoints.get(host)
    {
        let healthy = endpoints.spec.endpoints.iter();
        let first = healthy
            .filter(|endpoint| endpoint.health == Health::Healthy)
            .filter_map(|endpoint| endpoint.addresses.first());
        ips.extend(first.filter(|a| is_ip(a)).map(ToString::to_string));
        ips.sort();
        ips.dedup();
    }
    ips
}

fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

fn info(service: &Service, ips: Vec<String>) -> NameInfo {
    match service.registry {
        Registry::Kubernetes => NameInfo {
            ips,
            registry: "Kubernetes".into(),
            shortname: service.name.to_string(),
            namespace: service.key.namespace.to_string(),
        },
        Registry::External => NameInfo {
            ips,
            registry: "External".into(),
            shortname: String::new(),
            namespace: String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::generate::Generator;
    use crate::testing::{World, sidecar};

    const WORLD: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: other, namespace: shop}, spec: {type: ExternalName, externalName: example.com, ports: [{name: tcp, port: 1}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}, addressType: IPv4, ports: [{name: tcp, port: 5432}], endpoints: [{addresses: [10.1.0.2]}, {addresses: [10.1.0.1]}, {addresses: [10.1.0.3], conditions: {ready: false}}]}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: api, namespace: shop}, spec: {hosts: [api.example.com], resolution: DNS, addresses: [240.1.1.1], ports: [{number: 443, name: tls, protocol: TLS}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: net, namespace: shop}, spec: {hosts: ['*.net.example.com'], resolution: NONE, addresses: [10.9.0.0/16], ports: [{number: 443, name: tls, protocol: TLS}]}}
";

    fn render(world: &World, capture: bool) -> String {
        let mut proxy = sidecar("shop");
        proxy.dns_capture = capture;
        let (view, key) = world.class(&proxy);
        let made = name_table(&view, &key);
        let sets = Generator::default().outbound(&view, &key);
        assert_eq!(sets.nds.len(), made.len());
        let Some(resource) = made.first() else {
            return "nothing".into();
        };
        let any = prost_types::Any::decode(resource.any()).unwrap();
        let table = NameTable::decode(&*any.value).unwrap();
        let lines = table.table.into_iter().map(|(host, info)| {
            format!(
                "{host} {} {} {}.{}\n",
                info.ips.join(","),
                info.registry,
                info.shortname,
                info.namespace
            )
        });
        lines.collect()
    }

    #[track_caller]
    fn check(world: &World, want: Expect) {
        want.assert_eq(&render(world, true));
    }

    #[test]
    fn services_have_their_addresses_and_headless_ones_those_of_their_endpoints() {
        let world = World::new(WORLD);
        check(
            &world,
            expect![[r#"
                api.example.com 240.1.1.1 External .
                db.shop.svc.cluster.local 10.1.0.1,10.1.0.2 Kubernetes db.shop
                web.shop.svc.cluster.local 10.96.0.7 Kubernetes web.shop
            "#]],
        );
        assert_eq!(render(&world, false), "nothing");
    }

    #[test]
    fn an_endpoint_changes_the_table_if_it_is_of_a_headless_service() {
        let mut world = World::new(WORLD);
        let mut proxy = sidecar("shop");
        proxy.dns_capture = true;
        let generator = Generator::default();
        let (view, key) = world.class(&proxy);
        let before = generator.outbound(&view, &key);
        let slice = |name: &str, address: &str| {
            format!(
                "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-2, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{{name: tcp, port: 5432}}], endpoints: [{{addresses: [{address}]}}]}}"
            )
        };
        let delta = world.apply(&slice("web", "10.1.0.8"));
        let (view, key) = world.class(&proxy);
        let same = generator.outbound_update(&before, &view, &key, &delta);
        assert!(Arc::ptr_eq(&same.nds, &before.nds));
        let delta = world.apply(&slice("db", "10.1.0.9"));
        let (view, key) = world.class(&proxy);
        let after = generator.outbound_update(&same, &view, &key, &delta);
        assert!(!Arc::ptr_eq(&after.nds, &before.nds));
        assert!(after.nds.same(&generator.outbound(&view, &key).nds));
        assert!(render(&world, true).contains("10.1.0.1,10.1.0.2,10.1.0.9"));
    }
}
