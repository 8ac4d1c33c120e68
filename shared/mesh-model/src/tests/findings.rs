//! What the mesh tells about objects that do not fit together.

use expect_test::{Expect, expect};

use crate::testing::World;

#[track_caller]
fn check(text: &str, want: Expect) {
    let found: Vec<String> = World::new(text)
        .mesh
        .findings()
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    want.assert_eq(&found.concat());
}

#[test]
fn a_mesh_that_fits_together_has_none() {
    check(
        "svc a.n http:80 tcp:90\n---\nVirtualService n/v\nhosts: [a]\ngateways: [gw, mesh]\nhttp: [{route: [{destination: {host: a, subset: v1, port: {number: 80}}}]}]\n---\n\
         DestinationRule n/d\nhost: a\nsubsets: [{name: v1}]\n---\nGateway n/gw\nselector: {app: p}\nservers: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['./*']}]\n---\n\
         Sidecar n/s\negress: [{hosts: ['./a.n.svc.cluster.local', '*/*', '~other/b.com']}]",
        expect![[""]],
    );
}

#[test]
fn destinations_that_are_not_there() {
    check(
        "svc a.n http:80\nsvc hidden.m http:80 export=m\nsvc *.example.n http:80 se\n---\nVirtualService n/v\nhosts: [x.com]\nhttp:\n\
         - route: [{destination: {host: nobody}, weight: 1}, {destination: {host: a, port: {number: 81}}, weight: 1}]\n\
         - route: [{destination: {host: hidden.m.svc.cluster.local}}]\n  mirrors: [{destination: {host: b.example, subset: v1}}]\n\
         tcp: [{route: [{destination: {host: c.other}}]}]\ntls: [{match: [{sniHosts: [x.com]}], route: [{destination: {host: d.other}}]}]",
        expect![[r#"
            VirtualService n/v: spec.http[0].route[0].destination.host: no service has host nobody.n.svc.cluster.local; what is routed there fails [missing-reference]
            VirtualService n/v: spec.http[0].route[1].destination.port.number: a.n.svc.cluster.local has no port 81; it has 80 [missing-reference]
            VirtualService n/v: spec.http[1].mirrors[0].destination.subset: no DestinationRule of b.example that namespace n uses has subset v1; what is routed there fails [missing-reference]
            VirtualService n/v: spec.http[1].route[0].destination.host: service hidden.m.svc.cluster.local is not exported to namespace n [missing-reference]
            VirtualService n/v: spec.tcp[0].route[0].destination.host: no service has host c.other; what is routed there fails [missing-reference]
            VirtualService n/v: spec.tls[0].route[0].destination.host: no service has host d.other; what is routed there fails [missing-reference]
        "#]],
    );
}

#[test]
fn gateways_and_delegates_that_are_not_there() {
    check(
        "svc a.n http:80\n---\nVirtualService n/v\nhosts: [a]\ngateways: [mesh, gone, m/gw]\nhttp:\n- delegate: {name: nobody}\n- delegate: {name: rooted}\n- delegate: {name: private, namespace: m}\n\
         - delegate: {name: good, namespace: m}\n---\n\
         VirtualService n/rooted\nhosts: [b.com]\nhttp: [{route: [{destination: {host: a}}]}]\n---\nVirtualService m/private\nexportTo: ['.']\nhttp: [{redirect: {uri: /}}]\n---\n\
         VirtualService m/good\nhttp: [{redirect: {uri: /}}]\n---\nVirtualService m/forgotten\nhttp: [{redirect: {uri: /}}]\n---\n\
         Gateway m/gw\nselector: {app: p}\nservers: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['m/*', 'n/other.com']}]",
        expect![[r#"
            VirtualService m/forgotten: spec: it has no hosts and no VirtualService delegates to it; give it hosts, or name it in a delegate [no-effect]
            VirtualService n/v: spec.gateways[1]: there is no Gateway n/gone [missing-reference]
            VirtualService n/v: spec.gateways[2]: no server of Gateway m/gw accepts any of its hosts [no-effect]
            VirtualService n/v: spec.http[0].delegate: VirtualService n/nobody does not exist; the rule is left out [missing-reference]
            VirtualService n/v: spec.http[1].delegate: VirtualService n/rooted has hosts of its own, which no delegate may; the rule is left out [missing-reference]
            VirtualService n/v: spec.http[2].delegate: VirtualService m/private is not exported to this namespace; the rule is left out [missing-reference]
        "#]],
    );
}

#[test]
fn the_older_of_two_virtual_services_has_a_host() {
    let http = "http: [{route: [{destination: {host: a.n.svc.cluster.local}}]}]";
    check(
        &format!(
            "svc a.n http:80\n---\nVirtualService n/older\nhosts: [a]\n{http}\n---\nVirtualService m/younger\nhosts: [b.com, a.n.svc.cluster.local]\n{http}\n---\n\
             VirtualService m/private\nhosts: [a.n.svc.cluster.local]\nexportTo: ['.']\n{http}"
        ),
        expect![[r#"
            VirtualService m/younger: spec.hosts[1]: sidecars route a.n.svc.cluster.local by VirtualService n/older, which is older; merge the two, or delegate [no-effect]
        "#]],
    );
}

#[test]
fn rules_without_service_and_rules_that_are_not_merged() {
    let random = "trafficPolicy: {loadBalancer: {simple: RANDOM}}";
    check(
        &format!(
            "svc a.n http:80\nsvc h.m http:80 export=m\n---\nDestinationRule n/nobody\nhost: nobody\n---\nDestinationRule n/wild\nhost: '*.nowhere.com'\n---\n\
             DestinationRule n/hidden\nhost: h.m.svc.cluster.local\n---\nDestinationRule n/one\nhost: a\nsubsets: [{{name: v1}}]\n{random}\n---\n\
             DestinationRule n/two\nhost: a.n.svc.cluster.local\nsubsets: [{{name: v2}}, {{name: v1}}]\n{random}\n---\n\
             DestinationRule n/private\nhost: a\nexportTo: ['.']\n{random}\n---\nDestinationRule m/elsewhere\nhost: a.n.svc.cluster.local\n{random}"
        ),
        expect![[r#"
            DestinationRule n/hidden: spec.host: service h.m.svc.cluster.local is not exported to namespace n [missing-reference]
            DestinationRule n/nobody: spec.host: no service has host nobody.n.svc.cluster.local [missing-reference]
            DestinationRule n/two: spec.subsets[1]: subset v1 is that of DestinationRule n/one, which is older [no-effect]
            DestinationRule n/two: spec.trafficPolicy: that of DestinationRule n/one counts, which is older; merge the two [no-effect]
            DestinationRule n/wild: spec.host: no service has host *.nowhere.com [missing-reference]
        "#]],
    );
}

#[test]
fn servers_that_are_left_out() {
    check(
        "Gateway n/one\nselector: {app: p}\nservers:\n- {port: {number: 80, protocol: HTTP, name: a}, hosts: ['*']}\n- {port: {number: 80, protocol: TCP, name: b}, hosts: ['*']}\n\
         - {port: {number: 443, protocol: TLS, name: c}, hosts: [a.com], tls: {mode: PASSTHROUGH}}\n---\n\
         Gateway m/two\nselector: {app: p}\nservers:\n- {port: {number: 443, protocol: TLS, name: c}, hosts: [b.com, a.com], tls: {mode: PASSTHROUGH}}\n- {port: {number: 80, protocol: HTTP, name: a}, hosts: ['*']}\n---\n\
         Gateway m/others\nselector: {app: q}\nservers: [{port: {number: 80, protocol: TCP, name: b}, hosts: ['*']}]",
        expect![[r#"
            Gateway m/two: spec.servers[0].hosts: another TLS server of the port has host a.com already; the server is left out [no-effect]
            Gateway n/one: spec.servers[1].port: port 80 is open for HTTP already; choose another port or bind; the server is left out [no-effect]
        "#]],
    );
}

#[test]
fn sidecars_beside_others_and_hosts_that_are_not_there() {
    check(
        "svc a.n http:80\n---\nSidecar n/one\negress: [{hosts: ['./short.n', './a.n.svc.cluster.local']}]\n---\nSidecar n/two\negress: [{hosts: ['m/a.n.svc.cluster.local', '*/b.com']}]\n---\n\
         Sidecar n/selected\nworkloadSelector: {labels: {app: p}}\negress: [{hosts: ['*/*']}]",
        expect![[r#"
            Sidecar n/one: spec.egress[0].hosts[0]: no service that namespace n sees has this host; hosts are written in full, as name.namespace.svc.cluster.local [missing-reference]
            Sidecar n/two: spec: Sidecar n/one is for the same workloads and older; merge the two [no-effect]
            Sidecar n/two: spec.egress[0].hosts[0]: no service that namespace n sees has this host; hosts are written in full, as name.namespace.svc.cluster.local [missing-reference]
            Sidecar n/two: spec.egress[0].hosts[1]: no service that namespace n sees has this host; hosts are written in full, as name.namespace.svc.cluster.local [missing-reference]
        "#]],
    );
}

#[test]
fn c_008_and_c_017_services_that_cannot_be_told_apart() {
    check(
        "svc x.com.n tcp:9000 tcp:9001 se\nsvc y.com.n tcp:9000 http:9001 tls:9000 se\nsvc z.n auto:9000\nsvc v.n tcp:9000 ip=10.96.0.1\nsvc e.com.m tcp:9000 se export=m\n\
         svc m.com.n mongo:27017 se\nsvc w.n http:27017\n\
         svc f.com.n tcp:9000 tls:9002 se ip=10.0.0.1\nsvc g.com.n tcp:9000 tls:9002 se ip=10.0.0.1\nsvc h.com.n tcp:9000 se ip=10.0.0.2",
        expect![[r#"
            Service n/w: spec.ports[0]: w.n.svc.cluster.local has no address, and port 27017 of every address belongs to m.com, which is older; give it addresses, or another port [no-effect]
            Service n/z: spec.ports[0]: z.n.svc.cluster.local has no address, and port 9000 of every address belongs to x.com, which is older; give it addresses, or another port [no-effect]
            ServiceEntry n/g.com: spec.ports[0]: port 9000 of 10.0.0.1 belongs to f.com, which is older; give g.com another address, or another port [no-effect]
            ServiceEntry n/y.com: spec.ports[0]: y.com has no address, and port 9000 of every address belongs to x.com, which is older; give it addresses, or another port [no-effect]
        "#]],
    );
}
