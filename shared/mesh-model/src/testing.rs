//! Meshes from short texts, for the tests of this crate.

use std::fmt::Write;
use std::sync::Arc;

use mesh_config::resource::normal::{
    Health, MeshEndpoint, MeshEndpoints, MeshPort, MeshService, MeshWorkload, Registry,
    ServiceResolution,
};
use mesh_config::{Body, Meta, Object, Origin, decode_text};
use mesh_types::{Hostname, Key, Kind, Labels, Locality, Protocol, Revision, Selector};
use serde_json::json;

use crate::{Change, Delta, Mesh, Node, Proxy, View, ViewKey};

/// A mesh that grows by texts.
///
/// A text is a sequence of parts separated by `---`. A part is one of
/// - lines `svc NAME.NS PROTOCOL:PORT[>TARGET].. [se] [export=A,B] [ip=..] [app=..] [alias=HOST]`: a Kubernetes service (`se`: a
///   ServiceEntry, then NAME is the host), here `app=` is its selector;
/// - lines `ep NAME.NS IP:PORT/PORTNAME.. [mtls] [sa=..] [app=..]`, `wl NAME.NS IP app=..`;
/// - `KIND NAMESPACE/NAME [created=SECONDS] [annotation]` and below it the spec in YAML.
///
/// Ports are named after their protocol and number. Objects are created in order, a second apart.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    clock: i64,
}

impl World {
    #[track_caller]
    pub(crate) fn new(text: &str) -> World {
        let mut world = World::default();
        world.apply(text);
        world
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, text: &str) -> Delta {
        let changes: Vec<_> = self.objects(text).into_iter().map(Change::Upsert).collect();
        self.change(&changes)
    }

    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Delta {
        self.change(&[Change::Delete(Key::new(kind, namespace, name))])
    }

    pub(crate) fn change(&mut self, changes: &[Change]) -> Delta {
        let (mesh, delta) = self
            .mesh
            .apply(Revision(self.mesh.revision().0 + 1), changes);
        self.mesh = mesh;
        delta
    }

    #[track_caller]
    pub(crate) fn objects(&mut self, text: &str) -> Vec<Arc<Object>> {
        let mut objects = Vec::new();
        for part in text
            .split("---")
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (first, rest) = part.split_once('\n').unwrap_or((part, ""));
            if first.starts_with(|c: char| c.is_ascii_uppercase()) {
                objects.push(self.resource(first, rest));
            } else {
                objects.extend(
                    part.lines()
                        .map(str::trim)
                        .filter(|l| !l.is_empty())
                        .map(|line| self.record(line)),
                );
            }
        }
        objects.into_iter().map(Arc::new).collect()
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock * 1_000_000
    }

    #[track_caller]
    fn resource(&mut self, first: &str, spec: &str) -> Object {
        let mut words = first.split_whitespace();
        let kind = Kind::parse(words.next().unwrap()).unwrap();
        let (namespace, name) = words
            .next()
            .unwrap_or("istio-system/mesh")
            .split_once('/')
            .unwrap();
        let mut created = self.tick();
        let mut annotations = Labels::default();
        for word in words {
            match word.split_once('=').unwrap() {
                ("created", seconds) => created = seconds.parse::<i64>().unwrap() * 1_000_000,
                (key, value) => annotations.insert(key, value),
            }
        }
        let body = if kind == Kind::MeshConfig {
            let rooted = format!("{{{}}}", spec.trim());
            let value: serde_json::Value = serde_json::from_str(&rooted).unwrap();
            Body::from(
                serde_json::from_value::<mesh_config::resource::mesh::MeshConfig>(value).unwrap(),
            )
        } else {
            let mut spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
            // What the check of the object itself asks for, where a test is about something else.
            let says = |fields: &[&str]| fields.iter().any(|f| spec.contains(&format!("  {f}:")));
            if kind == Kind::VirtualService && !says(&["http", "tcp", "tls"]) {
                spec += "  http: [{redirect: {uri: /}}]\n";
            } else if kind == Kind::Sidecar
                && !says(&["egress", "ingress", "outboundTrafficPolicy"])
            {
                spec += "  egress: [{hosts: ['*/*']}]\n";
            }
            let text = format!(
                "apiVersion: {}/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n{spec}",
                kind.group()
            );
            let decoded = decode_text(&text, &Origin::default());
            assert!(
                !decoded.objects.is_empty(),
                "{text}\n{:#?}",
                decoded.findings
            );
            decoded.objects[0].0.body.clone()
        };
        let meta = Meta {
            key: Key::new(kind, namespace, name),
            created_us: created,
            labels: Labels::default(),
            annotations,
        };
        Object::new(meta, body)
    }

    fn record(&mut self, line: &str) -> Object {
        let mut words = line.split_whitespace();
        let (what, id) = (words.next().unwrap(), words.next().unwrap());
        let (name, namespace) = id.rsplit_once('.').unwrap();
        let words: Vec<&str> = words.collect();
        let option = |key: &str| {
            words
                .iter()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let external = words.contains(&"se");
        let host = if external {
            name.to_owned()
        } else {
            format!("{name}.{namespace}.svc.cluster.local")
        };
        let host = option("host").map_or(host, str::to_owned);
        let hostname = Hostname::new(&host).unwrap();
        let app: Labels = option("app")
            .map(|value| [("app", value)].into_iter().collect())
            .unwrap_or_default();
        let created_us = self.tick();
        let (kind, object_name, body): (_, &str, Body) = match what {
            "svc" => {
                let service = MeshService {
                    hostname: hostname.clone(),
                    name: if external {
                        host.as_str().into()
                    } else {
                        name.into()
                    },
                    registry: if external {
                        Registry::External
                    } else {
                        Registry::Kubernetes
                    },
                    entry: if external { name.into() } else { "".into() },
                    resolution: match option("alias") {
                        Some(_) => ServiceResolution::Alias,
                        None => ServiceResolution::ClientSideLb,
                    },
                    external,
                    addresses: option("ip").into_iter().map(Arc::from).collect(),
                    auto_addresses: Vec::new(),
                    ports: words.iter().filter_map(|word| port(word)).collect(),
                    export_to: option("export")
                        .into_iter()
                        .flat_map(|e| e.split(','))
                        .map(Arc::from)
                        .collect(),
                    labels: Labels::default(),
                    selector: Selector(app),
                    alias_of: option("alias").map(|host| Hostname::new(host).unwrap()),
                    subject_alt_names: Vec::new(),
                    service_accounts: Vec::new(),
                    node_local: false,
                    race_first_connect: false,
                    selects_workloads: false,
                };
                (Kind::MeshService, &*host, service.into())
            }
            "ep" => {
                let mut endpoints: Vec<_> = words
                    .iter()
                    .filter_map(|word| endpoint(word, namespace))
                    .collect();
                for endpoint in &mut endpoints {
                    endpoint.labels = app.clone();
                    endpoint.service_account = option("sa").unwrap_or_default().into();
                    endpoint.mtls = words.contains(&"mtls");
                }
                (
                    Kind::MeshEndpoints,
                    &*host,
                    MeshEndpoints {
                        hostname,
                        endpoints,
                    }
                    .into(),
                )
            }
            "wl" => {
                let workload = MeshWorkload {
                    addresses: vec![words[0].into()],
                    labels: app,
                    locality: Locality::default(),
                    network: "".into(),
                    cluster: "".into(),
                    service_account: "".into(),
                    node: "".into(),
                    workload: "".into(),
                };
                (Kind::MeshWorkload, name, workload.into())
            }
            other => panic!("{other}?"),
        };
        let key = Key::new(kind, namespace, object_name);
        Object::new(
            Meta {
                key,
                created_us,
                labels: Labels::default(),
                annotations: Labels::default(),
            },
            body,
        )
    }

    /// The view of a sidecar of a namespace, labelled `app: p`.
    pub(crate) fn sidecar(&self, namespace: &str) -> View {
        self.mesh
            .view(&self.mesh.view_key(&proxy("sidecar", namespace, "p")))
    }

    /// The view of a router of a namespace, labelled `app: p`.
    pub(crate) fn router(&self, namespace: &str) -> View {
        self.mesh
            .view(&self.mesh.view_key(&proxy("router", namespace, "p")))
    }
}

/// A proxy at 10.0.0.1 with a label `app`.
pub(crate) fn proxy(kind: &str, namespace: &str, app: &str) -> Proxy {
    let id = format!("{kind}~10.0.0.1~{app}.{namespace}~{namespace}.svc.cluster.local");
    Proxy::parse(&Node {
        id,
        metadata: json!({"LABELS": {"app": app}}),
        ..Node::default()
    })
    .unwrap()
}

fn port(word: &str) -> Option<MeshPort> {
    let (protocol, numbers) = word.split_once(':')?;
    let (number, target) = numbers.split_once('>').unwrap_or((numbers, "0"));
    let protocol_known = Protocol::parse(protocol).unwrap_or(Protocol::Auto);
    Some(MeshPort {
        name: format!("{protocol}-{number}").into(),
        number: number.parse().ok()?,
        protocol: protocol_known,
        target_port: target.parse().ok()?,
    })
}

fn endpoint(word: &str, namespace: &str) -> Option<MeshEndpoint> {
    let (at, port_name) = word.split_once('/')?;
    let (address, port) = at.rsplit_once(':')?;
    Some(MeshEndpoint {
        addresses: vec![address.into()],
        port: port.parse().ok()?,
        port_name: port_name.into(),
        labels: Labels::default(),
        weight: 0,
        network: "".into(),
        locality: Locality::default(),
        cluster: "".into(),
        service_account: "".into(),
        mtls: false,
        workload: "".into(),
        namespace: namespace.into(),
        node: "".into(),
        health: Health::Healthy,
    })
}

/// Short form of a host: without the cluster's domain.
pub(crate) fn short(host: &Hostname) -> &str {
    host.as_str().trim_end_matches(".svc.cluster.local")
}

/// What services a view has, with their ports, in order.
pub(crate) fn services(view: &View) -> String {
    let one = |service: &Arc<crate::Service>| {
        let ports: Vec<_> = service
            .ports
            .iter()
            .map(|port| port.number.to_string())
            .collect();
        format!("{}:{}", short(&service.hostname), ports.join(","))
    };
    view.services_in_order
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What each egress listener imports.
pub(crate) fn listeners(view: &View) -> String {
    let mut out = String::new();
    for listener in view.egress.iter() {
        let port = listener
            .port
            .map_or("*".to_owned(), |(port, _)| port.to_string());
        let services: Vec<_> = listener
            .services
            .iter()
            .map(|s| short(&s.hostname))
            .collect();
        let items: Vec<_> = listener
            .virtual_services
            .iter()
            .map(|item| item.key.path())
            .collect();
        let best: Vec<_> = listener
            .most_specific
            .iter()
            .map(|(h, i)| format!("{}={}", short(h), items[*i]))
            .collect();
        let _ = writeln!(
            out,
            "{port}: services {services:?} rules {items:?} best {best:?}"
        );
    }
    out
}

/// The rule of each service.
pub(crate) fn rules(view: &View) -> String {
    let one = |(host, rule): (&Hostname, &Arc<crate::DestinationRule>)| {
        let sources: Vec<_> = rule.sources.iter().map(Key::path).collect();
        let subsets: Vec<_> = rule.spec.subsets.iter().map(|s| s.name.as_str()).collect();
        format!(
            "{}={}[{}]",
            short(host),
            sources.join("+"),
            subsets.join(",")
        )
    };
    view.destination_rules
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The merged servers of a router.
pub(crate) fn servers(view: &View) -> String {
    let mut out = String::new();
    for merged in view.servers.iter() {
        let one = |s: &crate::GatewayServer| {
            let items: Vec<_> = s
                .virtual_services
                .iter()
                .map(|item| item.key.path())
                .collect();
            format!("{} {:?} {items:?}", s.gateway, s.hosts)
        };
        let servers: Vec<_> = merged.servers.iter().map(one).collect();
        let name = &merged.route_name;
        let _ = writeln!(
            out,
            "{}{} {:?} {name:?} {}",
            merged.bind,
            merged.port,
            merged.protocol,
            servers.join(" + ")
        );
    }
    out
}

/// Everything in a view, as text to compare.
pub(crate) fn everything(view: &View) -> String {
    let version =
        |item: &Arc<crate::VirtualService>| format!("{}@{:x}", item.key.path(), item.version);
    let service = |item: &Arc<crate::Service>| format!("{}@{:x}", item.key.path(), item.version);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "sidecar {:?}",
        view.sidecar.as_ref().map(|s| (s.key.path(), s.version))
    );
    for l in view.egress.iter() {
        let services: Vec<_> = l.services.iter().map(service).collect();
        let items: Vec<_> = l.virtual_services.iter().map(version).collect();
        let _ = writeln!(
            out,
            "egress {:?} {} {services:?} {items:?} {:?}",
            l.port, l.bind, l.most_specific
        );
    }
    let _ = writeln!(
        out,
        "order {:?}",
        view.services_in_order
            .iter()
            .map(service)
            .collect::<Vec<_>>()
    );
    let _ = writeln!(
        out,
        "hosts {:?}",
        view.services.values().map(service).collect::<Vec<_>>()
    );
    let _ = writeln!(
        out,
        "endpoints {:?}",
        view.endpoints
            .iter()
            .map(|(h, e)| (h, e.version, &e.peers))
            .collect::<Vec<_>>()
    );
    for map in [&view.destination_rules, &view.inbound_destination_rules] {
        let _ = writeln!(
            out,
            "rules {:?}",
            map.iter()
                .map(|(h, r)| (h, r.version, &r.sources))
                .collect::<Vec<_>>()
        );
    }
    let _ = writeln!(
        out,
        "aliases {:?} policy {:?} ingress {:?}",
        view.aliases, view.outbound_policy, view.ingress
    );
    let policies = &view.policies;
    let _ = writeln!(
        out,
        "policies {:?} {:?} {:?} {:?} {:?}",
        policies
            .authorization
            .iter()
            .map(|p| (p.key.path(), p.version))
            .collect::<Vec<_>>(),
        policies
            .tokens
            .iter()
            .map(|p| (p.key.path(), p.version))
            .collect::<Vec<_>>(),
        policies.keys,
        policies.authorizers,
        policies.denied,
    );
    let _ = writeln!(out, "servers {}", servers(view));
    let _ = writeln!(out, "peers {:?}", view.peers);
    let secrets = view.secrets.iter().map(|(name, o)| (name, o.version));
    let _ = writeln!(out, "secrets {:?}", secrets.collect::<Vec<_>>());
    out
}

/// A view's key with other labels.
pub(crate) fn labelled(key: &ViewKey, app: &str) -> ViewKey {
    ViewKey {
        labels: [("app", app)].into_iter().collect(),
        ..key.clone()
    }
}
