mod destination_rule;
mod security;
mod virtual_service;

use expect_test::{Expect, expect};

/// Decodes a spec (YAML) of a kind and prints what is said about it.
#[track_caller]
fn check(kind: &str, spec: &str, want: Expect) {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "apiVersion: {}/v1\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec:\n{indented}",
        mesh_types::Kind::parse(kind).unwrap().group()
    );
    let decoded = crate::decode_text(&text, &Default::default());
    assert_eq!(decoded.objects.is_empty(), decoded.has_errors());
    let lines = decoded
        .findings
        .iter()
        .map(|f| format!("{}: {} [{}]\n", f.path, f.message, f.code));
    want.assert_eq(&lines.collect::<String>());
}

mod gateway {
    use super::*;

    #[test]
    fn nothing_to_say() {
        check(
            "Gateway",
            "selector: {istio: ingressgateway}\nservers:\n- port: {number: 80, name: http, protocol: HTTP}\n  hosts: ['*', ns/a.com, ./b.com, '*/c.com']\n  tls: {httpsRedirect: true}\n- port: {number: 0, name: unix, protocol: tcp}\n  bind: unix:///var/run/x\n  hosts: ['*.a.com']\n",
            expect![[r#""#]],
        );
    }

    #[test]
    fn everything_wrong() {
        check(
            "Gateway",
            "servers: []\n",
            expect![[r#"
            spec.servers: must be set [required]
        "#]],
        );
        check(
            "Gateway",
            "servers:\n- {}\n- port: {number: 0, name: a, protocol: FTP, targetPort: 5}\n  hosts: [a, '*b.com', X/a.com, /a.com, a/]\n  bind: nowhere\n- port: {number: 443, name: a, protocol: HTTPS}\n  hosts: ['*']\n- port: {number: 81, name: b, protocol: HTTP}\n  hosts: ['*']\n  tls: {mode: SIMPLE, credentialName: x}\n- port: {number: 90, name: c, protocol: TCP}\n  bind: unix://x/\n  hosts: ['*']\n  tls: {httpsRedirect: true}\n",
            expect![[r#"
                spec.servers[0].hosts: must be set; * takes every host [required]
                spec.servers[0].port: must be set [required]
                spec.servers[1].hosts[0]: "a" is a short name, which means nothing here; write it in full, as in a.NAMESPACE.svc.cluster.local [malformed]
                spec.servers[1].hosts[1]: "*b.com": a wildcard must be the whole first label, as in *.example.com [malformed]
                spec.servers[1].hosts[2]: "X/a.com": write NAMESPACE/HOST, ./HOST or */HOST [malformed]
                spec.servers[1].hosts[3]: "/a.com": write NAMESPACE/HOST, ./HOST or */HOST [malformed]
                spec.servers[1].hosts[4]: "" is no host name such as a.example.com or *.example.com [malformed]
                spec.servers[1].bind: "nowhere" is neither an IP address nor unix://PATH [malformed]
                spec.servers[1].port.protocol: "FTP" is no protocol; there are HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, MYSQL, REDIS, TCP, TLS, UDP [unknown-value]
                spec.servers[1].port.number: 0 is no port, want 1..=65535 [out-of-range]
                spec.servers[1].port.targetPort: has no meaning here; remove it [conflict]
                spec.servers[2].tls: must be set for HTTPS and TLS [required]
                spec.servers[2].port.name: a is given twice [duplicate]
                spec.servers[3].tls: goes with protocol HTTPS or TLS; beside HTTP only httpsRedirect may be set [conflict]
                spec.servers[4].bind: unix://x/ names no socket; write unix:///path/to/socket or unix://@name [malformed]
                spec.servers[4].port.number: must be 0 beside bind: unix://.. [conflict]
                spec.servers[4].tls: goes with protocol HTTPS or TLS; beside HTTP only httpsRedirect may be set [conflict]
                spec.servers[4].tls.httpsRedirect: redirects plain HTTP alone; move it to the server of the HTTP port [no-effect]
            "#]],
        );
        check(
            "Gateway",
            "servers:\n- {port: {number: 1, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: MUTUAL, minProtocolVersion: TLSV1_0}}\n- {port: {number: 2, name: b, protocol: TLS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL, privateKey: x}}\n- {port: {number: 3, name: c, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH, credentialName: x}}\n- {port: {number: 4, name: d, protocol: TLS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: x, serverCertificate: y, caCrl: z, cipherSuites: [AES256-SHA, AES256-SHA, FOO]}}\n",
            expect![[r#"
                spec.servers[0].tls.minProtocolVersion: needs cipherSuites that old clients know; the default ones begin at TLS 1.2 [risky]
                spec.servers[0].tls.serverCertificate: must be set, or credentialName [required]
                spec.servers[0].tls.privateKey: must be set, or credentialName [required]
                spec.servers[0].tls.caCertificates: must be set to check client certificates [required]
                spec.servers[1].tls.privateKey: must not be set in mode ISTIO_MUTUAL, which has certificates of its own [conflict]
                spec.servers[2].tls.credentialName: does nothing in a passthrough mode, where the service itself ends TLS [no-effect]
                spec.servers[3].tls.cipherSuites[1]: AES256-SHA is given twice [no-effect]
                spec.servers[3].tls.cipherSuites[2]: "FOO" is left out: proxies do not know it [no-effect]
                spec.servers[3].tls.credentialName: excludes serverCertificate; keep one [conflict]
                spec.servers[3].tls.caCrl: mode SIMPLE asks clients for no certificate [conflict]
            "#]],
        );
    }
}

mod service_entry {
    use super::*;

    #[test]
    fn nothing_to_say() {
        check(
            "ServiceEntry",
            "hosts: [a.com]\nports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]\nresolution: DNS\nendpoints: [{address: b.com, ports: {tls: 8443}, labels: {v: a}, weight: 2}]\nexportTo: ['~']\n",
            expect![[r#""#]],
        );
        check(
            "ServiceEntry",
            "hosts: ['*.a.com', b.com]\naddresses: [10.0.0.0/8]\nports: [{number: 80, name: tcp, protocol: TCP}]\nlocation: MESH_INTERNAL\n",
            expect![[r#""#]],
        );
    }

    #[test]
    fn everything_wrong() {
        check(
            "ServiceEntry",
            "hosts: ['*', 'http://a.com', '*a.com']\naddresses: [10.0.0.0/8, x]\nports: [{number: 80, name: a, protocol: FOO}, {number: 80, name: a, targetPort: 70000}, {number: 0, name: ''}]\nresolution: DNS\nworkloadSelector: {labels: {}}\nendpoints: [{address: unix:///x, ports: {b: 1}}]\n",
            expect![[r#"
                spec.workloadSelector.labels: no label is given, so every workload of the namespace is selected [risky]
                spec.endpoints: excludes workloadSelector; keep one [conflict]
                spec.hosts[0]: "*" is no host name such as a.example.com or *.example.com [malformed]
                spec.hosts[1]: "http://a.com" is no host name such as a.example.com or *.example.com; leave out the scheme [malformed]
                spec.hosts[2]: "*a.com": a wildcard should be the whole first label, as in *.example.com [risky]
                spec.addresses[0]: 10.0.0.0/8: networks go with resolution NONE or STATIC alone [conflict]
                spec.addresses[1]: "x" is neither an IP address nor a network such as 10.0.0.0/8 [malformed]
                spec.ports[0].protocol: "FOO" is no protocol; there are HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, MYSQL, REDIS, TCP, TLS, UDP [unknown-value]
                spec.ports[1].name: "a" is given twice [duplicate]
                spec.ports[1].number: 80 is given twice [duplicate]
                spec.ports[1].targetPort: 70000 is no port, want 1..=65535 [out-of-range]
                spec.ports[2].name: "" is no name; use letters, digits and -, at most 63, a letter or digit at both ends [malformed]
                spec.ports[2].number: 0 is no port, want 1..=65535 [out-of-range]
                spec.hosts: several hosts cannot be told apart on port 80, which is neither HTTP nor TLS; use one object per host [conflict]
                spec.endpoints[0].ports: a socket has no ports [conflict]
                spec.endpoints[0].address: a socket cannot be looked up; choose resolution STATIC [malformed]
                spec.endpoints[0].ports.b: the service has no port "b"; there are , a [conflict]
                spec.addresses: one address stands for several hosts, so TCP traffic to it may reach any of them [risky]
                spec.hosts[2]: this version does not act on it: a wildcard is the whole first label, as in *.example.com [not-supported]
            "#]],
        );
        check(
            "ServiceEntry",
            "hosts: [a.com]\nresolution: STATIC\nports: [{number: 80, name: http, protocol: HTTP}]\nendpoints: [{address: b.com, ports: {http: 0}}, {}, {network: n}, {address: 'a b'}]\n",
            expect![[r#"
                spec.endpoints[0].ports.http: 0 is no port, want 1..=65535 [out-of-range]
                spec.endpoints[0].address: "b.com" is no IP address; with resolution DNS it may be a host [malformed]
                spec.endpoints[1].address: must be set, unless network is [required]
                spec.endpoints[2].address: without an address the workload is reached through the gateway of its network alone [risky]
                spec.endpoints[3].address: "a b" is neither an IP address, a host name nor unix://PATH [malformed]
                spec.endpoints[3].address: "a b" is no IP address; with resolution DNS it may be a host [malformed]
            "#]],
        );
        check(
            "ServiceEntry",
            "resolution: NONE\nendpoints: [{address: 1.2.3.4}]\n",
            expect![[r#"
            spec.hosts: must be set [required]
            spec.endpoints: resolution NONE sends to the address the caller dialled; choose STATIC or DNS [conflict]
        "#]],
        );
        check(
            "ServiceEntry",
            "hosts: [a.com, '*.b.com']\naddresses: [1.2.3.4]\nresolution: DYNAMIC_DNS\nports: [{number: 1, name: a, protocol: TCP}]\n",
            expect![[r#"
                spec.hosts: several hosts cannot be told apart on port 1, which is neither HTTP nor TLS; use one object per host [conflict]
                spec.hosts[0]: a.com is no wildcard; choose resolution DNS [conflict]
                spec.addresses: must not be set with resolution DYNAMIC_DNS [conflict]
                spec.ports[0].protocol: resolution DYNAMIC_DNS needs HTTP, HTTP2, GRPC or TLS, which name the host [conflict]
                spec.resolution: this version does not act on it: DYNAMIC_DNS hosts are not reachable by their names [not-supported]
            "#]],
        );
        check(
            "ServiceEntry",
            "hosts: ['*.a.com']\nresolution: DNS_ROUND_ROBIN\n",
            expect![[r#"
            spec.hosts[0]: *.a.com cannot be looked up; give endpoints, or choose resolution NONE [conflict]
        "#]],
        );
    }
}

mod sidecar {
    use super::*;

    #[test]
    fn nothing_to_say() {
        check(
            "Sidecar",
            "workloadSelector: {labels: {app: a}}\ningress:\n- {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: 127.0.0.1:8080}\n- {port: {number: 9081, protocol: TCP}, defaultEndpoint: 'unix:///a', bind: 0.0.0.0}\negress:\n- {port: {number: 80, protocol: HTTP, name: http}, hosts: [prod/*], bind: 127.0.0.1, captureMode: NONE}\n- {port: {number: 0, protocol: HTTP}, bind: unix:///x, hosts: [~/*]}\n- {hosts: [./*, istio-system/*, '*/a.com', ~ns/b.com]}\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
            expect![[r#""#]],
        );
    }

    #[test]
    fn everything_wrong() {
        check(
            "Sidecar",
            "workloadSelector: {labels: {'': x, a: '*'}}\n",
            expect![[r#"
            spec.workloadSelector.labels[""]: "": "x" selects nothing; give a key and a value without * [malformed]
            spec.workloadSelector.labels.a: "a": "*" selects nothing; give a key and a value without * [malformed]
            spec: one of ingress, egress, outboundTrafficPolicy and inboundConnectionPool must be set [required]
        "#]],
        );
        check(
            "Sidecar",
            "ingress:\n- {}\n- {port: {number: 1, protocol: TCP}, defaultEndpoint: 1.2.3.4:80, bind: x, connectionPool: {http: {maxRetries: 1}}, tls: {mode: ISTIO_MUTUAL, credentialName: a}}\n- {port: {number: 1, protocol: HTTP, targetPort: 1}, defaultEndpoint: 'localhost'}\negress:\n- {hosts: [a.com, '*/*', ns/a, NS/*, '*/a.com', '*/a.com']}\n- {port: {number: 0, protocol: HTTP}, captureMode: IPTABLES, hosts: []}\n- {port: {number: 2, protocol: X}, bind: unix:///x, hosts: ['*/*']}\n- {port: {number: 2, protocol: HTTP}, bind: a.com, hosts: ['*/*']}\noutboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: '*'}}\n",
            expect![[r#"
                spec.ingress[0].port: must be set [required]
                spec.ingress[1].bind: "x" is no IP address [malformed]
                spec.ingress[1].defaultEndpoint: "1.2.3.4:80" is no place for an application; write 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///PATH [malformed]
                spec.ingress[1].connectionPool.http: does nothing on a port that is not HTTP [no-effect]
                spec.ingress[1].tls.credentialName: must not be set for a sidecar [conflict]
                spec.ingress[1].tls.mode: a sidecar takes SIMPLE, MUTUAL, OPTIONAL_MUTUAL or PASSTHROUGH [conflict]
                spec.ingress[1].tls: goes with protocol HTTPS or TLS [conflict]
                spec.ingress[1].tls.credentialName: must not be set in mode ISTIO_MUTUAL, which has certificates of its own [conflict]
                spec.ingress[2].port.targetPort: has no meaning here; remove it [conflict]
                spec.ingress[2].defaultEndpoint: "localhost" is no place for an application; write 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///PATH [malformed]
                spec.ingress[2].port.number: 1 is given twice [duplicate]
                spec.egress[0].port: a listener without port takes all other traffic; put it last [conflict]
                spec.egress[0].hosts[0]: "a.com": write NAMESPACE/HOST, for example ./a.com or */a.com [malformed]
                spec.egress[0].hosts[1]: */* imports everything, so the other hosts add nothing [no-effect]
                spec.egress[0].hosts[2]: "a" is a short name, which means nothing here; write it in full, as in a.NAMESPACE.svc.cluster.local [malformed]
                spec.egress[0].hosts[3]: "NS" is no namespace; write its name, . for the object's own or * for all [malformed]
                spec.egress[0].hosts[4]: */* imports it already [no-effect]
                spec.egress[0].hosts[5]: */a.com is given twice [no-effect]
                spec.egress[1].bind: must be unix://PATH beside port number 0 [required]
                spec.egress[1].captureMode: a socket cannot be captured; leave it out or write NONE [conflict]
                spec.egress[1].hosts: must be set; */* imports everything, ~/* nothing [required]
                spec.egress[2].port.number: must be 0 beside bind: unix://.. [conflict]
                spec.egress[2].port.protocol: "X" is no protocol; there are HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, MYSQL, REDIS, TCP, TLS, UDP [unknown-value]
                spec.egress[3].bind: "a.com" is neither an IP address nor unix://PATH [malformed]
                spec.egress[3].port: another listener has the same port [duplicate]
                spec.outboundTrafficPolicy.egressProxy: goes with mode ALLOW_ANY [conflict]
                spec.outboundTrafficPolicy.egressProxy.host: "*" is no host name such as a.example.com or *.example.com [malformed]
                spec.outboundTrafficPolicy.egressProxy.port: must be set [required]
            "#]],
        );
        check(
            "Sidecar",
            "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}\n",
            expect![[r#"
            spec.outboundTrafficPolicy.mode: is for the whole mesh alone; write ALLOW_ANY or REGISTRY_ONLY [conflict]
        "#]],
        );
    }
}
