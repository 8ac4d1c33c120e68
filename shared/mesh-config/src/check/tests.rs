use expect_test::{Expect, expect};

/// Decodes a spec (YAML) of a kind and prints what is said about it.
#[track_caller]
fn check(kind: &str, spec: &str, want: Expect) {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec:\n{indented}"
    );
    let decoded = crate::decode_text(&text, &Default::default());
    assert_eq!(decoded.objects.is_empty(), decoded.has_errors());
    let lines = decoded
        .findings
        .iter()
        .map(|f| format!("{}: {} [{}]\n", f.path, f.message, f.code));
    want.assert_eq(&lines.collect::<String>());
}

mod destination_rule {
    use super::*;

    #[test]
    fn what_envoy_rejects_is_refused_here() {
        check(
            "DestinationRule",
            "host: a\ntrafficPolicy:\n  portLevelSettings:\n  - {port: {number: 1}, loadBalancer: {consistentHash: {httpHeaderName: '', ringHash: {minimumRingSize: 8388609}}}}\n  - {port: {number: 2}, loadBalancer: {consistentHash: {httpQueryParameterName: '', minimumRingSize: 8388609}}}\n  - {port: {number: 3}, loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: -1s}}}}\n",
            expect![[r#"
                spec.trafficPolicy.portLevelSettings[0].loadBalancer.consistentHash.httpHeaderName: "" is no header name [malformed]
                spec.trafficPolicy.portLevelSettings[0].loadBalancer.consistentHash.ringHash.minimumRingSize: 8388609 is too large, want at most 8388608 [out-of-range]
                spec.trafficPolicy.portLevelSettings[1].loadBalancer.consistentHash.httpQueryParameterName: must be set [required]
                spec.trafficPolicy.portLevelSettings[1].loadBalancer.consistentHash.minimumRingSize: write ringHash: {minimumRingSize: ..} instead [deprecated]
                spec.trafficPolicy.portLevelSettings[1].loadBalancer.consistentHash.minimumRingSize: 8388609 is too large, want at most 8388608 [out-of-range]
                spec.trafficPolicy.portLevelSettings[2].loadBalancer.consistentHash.httpCookie.ttl: -1s is negative, want 0s or more [out-of-range]
            "#]],
        );
    }

    #[test]
    fn nothing_to_say() {
        check(
            "DestinationRule",
            "host: reviews\ntrafficPolicy:\n  loadBalancer: {simple: RANDOM}\n  connectionPool:\n    tcp: {maxConnections: 1, connectTimeout: 30ms, idleTimeout: 0s}\n    http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}\n  outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}\n  portLevelSettings:\n  - {port: {number: 80}, loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}}}}\n  tls: {mode: DISABLE}\nsubsets:\n- {name: v1, labels: {version: v1}}\n- {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\nexportTo: ['.', other]\n",
            expect![[r#""#]],
        );
    }

    #[test]
    fn everything_wrong() {
        check(
            "DestinationRule",
            "host: 'a b'\nworkloadSelector: {matchLabels: {}}\nexportTo: ['*', '*', 'A_']\ntrafficPolicy: {}\nsubsets:\n- {name: v1, labels: {'-': x}}\n- {name: v1}\n- {name: a_b, trafficPolicy: {connectionPool: {}, portLevelSettings: [{}, {port: {number: 70000}, tls: {mode: SIMPLE}}]}}\n",
            expect![[r#"
                spec.host: "a b" is no host name such as a.example.com or *.example.com [malformed]
                spec.workloadSelector.matchLabels: no label is given, so every workload of the namespace is selected [risky]
                spec.exportTo[0]: * means every namespace; give it alone [conflict]
                spec.exportTo[1]: "*" is given twice [duplicate]
                spec.exportTo[1]: * means every namespace; give it alone [conflict]
                spec.exportTo[2]: "A_" is no namespace; write its name, . for the object's own or * for all [malformed]
                spec.exportTo: a rule with workloadSelector is for its own namespace alone; write . [conflict]
                spec.trafficPolicy: nothing is set here; set loadBalancer, connectionPool, outlierDetection, tls or another [required]
                spec.subsets[0].labels.-: "-" is no label: use letters, digits, -, _ and ., at most 63, a letter or digit at both ends [malformed]
                spec.subsets[1].name: v1 is given twice [duplicate]
                spec.subsets[2].name: "a_b" is no name; use letters, digits and -, at most 63, a letter or digit at both ends [malformed]
                spec.subsets[2].trafficPolicy.connectionPool: one of tcp and http must be set [required]
                spec.subsets[2].trafficPolicy.portLevelSettings[0].port: must be set: which port is this for? [required]
                spec.subsets[2].trafficPolicy.portLevelSettings[0]: one of loadBalancer, connectionPool, outlierDetection and tls must be set [required]
                spec.subsets[2].trafficPolicy.portLevelSettings[1].port.number: 70000 is no port, want 1..=65535 [out-of-range]
                spec.subsets[2].trafficPolicy.portLevelSettings[1].tls: this version does not act on it: connections are made without TLS [not-supported]
            "#]],
        );
        check(
            "DestinationRule",
            "host: a\ntrafficPolicy:\n  tunnel: {protocol: X, targetHost: '', targetPort: 0}\n  proxyProtocol: {version: V1}\n  loadBalancer:\n    simple: RANDOM\n    consistentHash: {httpHeaderName: x, useSourceIp: true, maglev: {tableSize: 8}, minimumRingSize: 5, httpCookie: {name: '', attributes: [{name: a}, {name: a}]}}\n    localityLbSetting: {distribute: [{from: 'a/*/b', to: {'a': 50, 'a/b': 40, 'c': 0}}, {from: '*', to: {x: 100}}], failover: [{from: a, to: a}, {from: a/b, to: '*'}], failoverPriority: [topology.kubernetes.io/zone]}\n    zoneAwareLbSetting: {}\n    warmup: {aggression: 0, minimumPercent: 101}\n  outlierDetection: {consecutiveErrors: 5, consecutiveLocalOriginFailures: 5, maxEjectionPercent: 101, interval: 0.5ms}\n  connectionPool:\n    http: {maxRetries: -1, h2UpgradePolicy: UPGRADE, useClientProtocol: true, idleTimeout: 1.0005s, http2KeepAlive: {}}\n    tcp: {maxConnections: -1, connectTimeout: 0s}\n  tls: {mode: MUTUAL, insecureSkipVerify: true, subjectAltNames: [x]}\n",
            expect![[r#"
                spec.trafficPolicy.outlierDetection.interval: 0.0005s is too short, want at least 1ms [out-of-range]
                spec.trafficPolicy.outlierDetection.consecutiveErrors: has no effect any more; write consecutive5xxErrors or consecutiveGatewayErrors [deprecated]
                spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: needs splitExternalLocalOriginErrors: true [conflict]
                spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 is no percentage, want 0..=100 [out-of-range]
                spec.trafficPolicy.connectionPool.http.maxRetries: -1 is negative, want 0 or more [out-of-range]
                spec.trafficPolicy.connectionPool.http.idleTimeout: 1.0005s is no whole number of milliseconds [out-of-range]
                spec.trafficPolicy.connectionPool.http.useClientProtocol: excludes h2UpgradePolicy: UPGRADE [conflict]
                spec.trafficPolicy.connectionPool.http.http2KeepAlive.interval: must be set [required]
                spec.trafficPolicy.connectionPool.http.http2KeepAlive.timeout: must be set [required]
                spec.trafficPolicy.connectionPool.tcp.maxConnections: -1 is negative, want 0 or more [out-of-range]
                spec.trafficPolicy.connectionPool.tcp.connectTimeout: 0s is too short, want at least 1ms [out-of-range]
                spec.trafficPolicy.loadBalancer.consistentHash: excludes simple; keep one [conflict]
                spec.trafficPolicy.loadBalancer.consistentHash.httpCookie: excludes httpHeaderName; keep one [conflict]
                spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name: must be set [required]
                spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[1].name: a is given twice [duplicate]
                spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: write ringHash: {minimumRingSize: ..} instead [deprecated]
                spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: excludes ringHash and maglev [conflict]
                spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 8 will not do, want a prime below 5000011, such as 65537 [out-of-range]
                spec.trafficPolicy.loadBalancer.zoneAwareLbSetting: excludes localityLbSetting; keep one [conflict]
                spec.trafficPolicy.loadBalancer.localityLbSetting.failover: excludes distribute; keep one [conflict]
                spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].from: "a/*/b" is no locality; write REGION/ZONE/SUBZONE, the end may be left out or * [malformed]
                spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to.c: 0 is no weight, want 1..=100 [out-of-range]
                spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: weights add up to 90, want 100 [out-of-range]
                spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: a/b overlaps a [duplicate]
                spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[1].from: * overlaps a/*/b [duplicate]
                spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0].to: a cannot fail over to itself [conflict]
                spec.trafficPolicy.loadBalancer.localityLbSetting.failover[1].from: "a/b" is no region; failover is between regions, without / and * [malformed]
                spec.trafficPolicy.loadBalancer.localityLbSetting.failover[1].to: "*" is no region; failover is between regions, without / and * [malformed]
                spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority: must not name region, zone or subzone beside failover [conflict]
                spec.trafficPolicy.loadBalancer.warmup.duration: must be set [required]
                spec.trafficPolicy.loadBalancer.warmup.minimumPercent: 101 is no percentage, want 0..=100 [out-of-range]
                spec.trafficPolicy.loadBalancer.warmup.aggression: 0 is not above 0 [out-of-range]
                spec.trafficPolicy.tls.subjectAltNames: must not be set beside insecureSkipVerify, which accepts every certificate [conflict]
                spec.trafficPolicy.tls.clientCertificate: must be set in mode MUTUAL, or credentialName [required]
                spec.trafficPolicy.tls.privateKey: must be set in mode MUTUAL, or credentialName [required]
                spec.trafficPolicy.proxyProtocol: excludes tunnel; keep one [conflict]
                spec.trafficPolicy.tunnel.protocol: "X" is none of CONNECT, POST [unknown-value]
                spec.trafficPolicy.tunnel.targetHost: "" is no host name such as a.example.com or *.example.com [malformed]
                spec.trafficPolicy.tunnel.targetPort: 0 is no port, want 1..=65535 [out-of-range]
                spec.trafficPolicy.tls: this version does not act on it: connections are made without TLS [not-supported]
                spec.trafficPolicy.loadBalancer.localityLbSetting.distribute: this version does not act on it: every locality is treated alike [not-supported]
                spec.trafficPolicy.loadBalancer.localityLbSetting.failover: this version does not act on it: every locality is treated alike [not-supported]
                spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority: this version does not act on it: every locality is treated alike [not-supported]
                spec.trafficPolicy.loadBalancer.zoneAwareLbSetting: this version does not act on it: every zone is treated alike [not-supported]
                spec.trafficPolicy.proxyProtocol: this version does not act on it: no header is sent [not-supported]
            "#]],
        );
    }
}

mod virtual_service {
    use super::*;

    /// What Envoy would reject, together with everything else in the same listener or route configuration.
    #[test]
    fn what_envoy_rejects_is_refused_here() {
        check(
            "VirtualService",
            "hosts: [a.com]\nhttp:\n- {match: [{queryParams: {'': {exact: a}}}], route: [{destination: {host: a}}], fault: {abort: {httpStatus: 600}}, rewrite: {authority: \"a\\nb\", uri: \"/\\r\"}, headers: {request: {set: {x-a: \"a\\nb\"}}}}\n- {match: [{uri: {regex: 'a{1001}'}}], directResponse: {status: 600}}\n- redirect: {uri: \"/a\\n\", authority: \"a\\n\", redirectCode: 304}\n",
            expect![[r#"
                spec.http[0].match[0].queryParams[""]: is no name of a query parameter; use 1 to 1024 bytes [malformed]
                spec.http[0].headers.request.set.x-a: control characters, such as a line break, cannot be sent in a header [malformed]
                spec.http[0].fault.abort.httpStatus: 600 is no status, want 200..=599 [out-of-range]
                spec.http[0].rewrite.uri: control characters, such as a line break, cannot be sent in a header [malformed]
                spec.http[0].rewrite.authority: control characters, such as a line break, cannot be sent in a header [malformed]
                spec.http[1].match[0].uri.regex: something is repeated more than 1000 times, nested repetitions multiplied [malformed]
                spec.http[1].directResponse.status: 600 is no status, want 200..=599 [out-of-range]
                spec.http[2].redirect.uri: control characters, such as a line break, cannot be sent in a header [malformed]
                spec.http[2].redirect.authority: control characters, such as a line break, cannot be sent in a header [malformed]
                spec.http[2].redirect.redirectCode: 304 is no redirect, want 301, 302, 303, 307 or 308 [out-of-range]
            "#]],
        );
    }

    #[test]
    fn nothing_to_say() {
        check(
            "VirtualService",
            "hosts: [reviews, '*.example.com', 10.0.0.1]\ngateways: [mesh, istio-system/gw, ./gw]\nexportTo: ['*']\nhttp:\n- name: a\n  match:\n  - uri: {prefix: /api}\n    headers: {end-user: {exact: jason}, ':authority': {regex: .*}}\n    withoutHeaders: {x: {regex: '*'}}\n    queryParams: {q: {exact: ''}}\n    sourceLabels: {app: x}\n  route:\n  - {destination: {host: reviews, subset: v2, port: {number: 80}}, weight: 80, headers: {response: {set: {x-a: '%RESP(x)%'}}}}\n  - {destination: {host: reviews, subset: v1}, weight: 20}\n  retries: {attempts: 3, perTryTimeout: 2s, retryOn: 'connect-failure,5xx, 503'}\n  timeout: 0s\n  fault: {delay: {percentage: {value: 0.1}, fixedDelay: 5s}, abort: {httpStatus: 500, percentage: {value: 0}}}\n  mirror: {host: reviews}\n  mirrorPercentage: {value: 50}\n  corsPolicy: {allowOrigins: [{exact: 'https://a.com'}, {regex: '.*'}], allowMethods: [GET], allowHeaders: ['*'], maxAge: 24h}\n  rewrite: {uriRegexRewrite: {match: '^/a/(.*)', rewrite: '/\\1'}}\n- match: [{uri: {prefix: /old}}]\n  redirect: {uri: /new, redirectCode: 308, derivePort: FROM_REQUEST_PORT}\n- match: [{uri: {exact: /hi}}]\n  directResponse: {status: 200, body: {string: hi}}\n- route: [{destination: {host: reviews}}]\ntls:\n- match: [{port: 443, sniHosts: [a.example.com]}]\n  route: [{destination: {host: a.example.com}}]\ntcp:\n- match: [{port: 27017, destinationSubnets: [10.0.0.0/8]}]\n  route: [{destination: {host: mongo}}]\n",
            expect![[r#""#]],
        );
    }

    #[test]
    fn the_whole() {
        check(
            "VirtualService",
            "hosts: [a]\n",
            expect![[r#"
            spec: one of http, tcp and tls must be set [required]
        "#]],
        );
        check(
            "VirtualService",
            "gateways: [g]\ntcp: [{route: [{destination: {host: a}}]}]\nhttp: [{delegate: {name: d}}]\n",
            expect![[r#"
                spec.gateways: must not be set without hosts: this object is a delegate, used by others for its HTTP rules alone [conflict]
                spec.tcp: must not be set without hosts: this object is a delegate, used by others for its HTTP rules alone [conflict]
                spec.http[0].delegate: a delegate cannot delegate further [conflict]
            "#]],
        );
        check(
            "VirtualService",
            "hosts: ['*', 'a:80', a.com, '*.com', a.com, x/y]\ngateways: [mesh, a/, gw.ns.svc.cluster.local, '-']\nhttp: [{delegate: {name: d}, route: [{}]}]\n",
            expect![[r#"
                spec.gateways[1]: "a/" is no gateway; write NAMESPACE/NAME, NAME or mesh [malformed]
                spec.gateways[2]: "gw.ns.svc.cluster.local" is the old way to name a gateway; write NAMESPACE/NAME [deprecated]
                spec.gateways[3]: "-" is no gateway; write NAMESPACE/NAME, NAME or mesh [malformed]
                spec.hosts[0]: * would take every host of the mesh; name hosts, or bind the object to gateways alone [conflict]
                spec.hosts[1]: "a:80" is no host name such as a.example.com or *.example.com; leave out the port [malformed]
                spec.hosts[4]: a.com is given twice [duplicate]
                spec.hosts[5]: "x/y" is no host name such as a.example.com or *.example.com; leave out the path [malformed]
                spec.http[0].route: must not be set beside delegate [conflict]
                spec.http[0].route[0].destination: must be set: where does the traffic go? [required]
            "#]],
        );
        check(
            "VirtualService",
            "hosts: [a.com, '*.com', 'A.com']\nhttp: [{route: [{destination: {host: a}}]}]\n",
            expect![[r#"
                spec.hosts[2]: A.com is given twice [duplicate]
                spec.hosts[0]: a.com is covered by *.com already [duplicate]
                spec.hosts[2]: A.com is covered by *.com already [duplicate]
            "#]],
        );
    }

    #[test]
    fn http_rules() {
        check(
            "VirtualService",
            "hosts: [a.com]\nhttp:\n- {}\n- redirect: {}\n  route: [{destination: {host: a}}]\n- directResponse: {status: 99, body: {string: a, bytes: '?'}}\n  rewrite: {}\n- route:\n  - {destination: {host: '*', subset: a_b, port: {number: 0}}, weight: -1}\n  - {weight: 1}\n- route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]\n  rewrite: {authority: x, uri: /a, uriRegexRewrite: {match: '('}}\n  headers: {request: {set: {':path': /, host: y, x-a: '50%'}, remove: [':authority', host]}, response: {add: {host: x}}}\n  mirror: {host: a}\n  mirrors: [{destination: {host: a}, percentage: {value: 101}}, {}]\n  mirrorPercent: 200\n  timeout: 0.5ms\n",
            expect![[r#"
                spec.http[0].route: one of route, redirect, directResponse and delegate must be set [required]
                spec.http[1].route: must not be set beside redirect [conflict]
                spec.http[1].redirect: one of uri, prefixRewrite, authority, port, scheme and redirectCode must be set [required]
                spec.http[2].rewrite: must not be set beside directResponse [conflict]
                spec.http[2].directResponse.status: 99 is no status, want 200..=599 [out-of-range]
                spec.http[2].directResponse.body.bytes: excludes string; keep one [conflict]
                spec.http[2].directResponse.body.bytes: is no base64; put plain text into string [malformed]
                spec.http[2].rewrite: one of uri, uriRegexRewrite and authority must be set [required]
                spec.http[3].route[0].destination.host: "*" is no host name such as a.example.com or *.example.com [malformed]
                spec.http[3].route[0].destination.subset: "a_b" is no name; use letters, digits and -, at most 63, a letter or digit at both ends [malformed]
                spec.http[3].route[0].destination.port.number: 0 is no port, want 1..=65535 [out-of-range]
                spec.http[3].route[0].weight: -1 is negative, want 0 or more [out-of-range]
                spec.http[3].route[1].destination: must be set: where does the traffic go? [required]
                spec.http[3].route: the weights add up to 0, so no destination would be chosen; give at least one a weight [out-of-range]
                spec.http[4].headers.request.set.:path: ":path" is set by the proxy itself and cannot be changed [malformed]
                spec.http[4].headers.request.set.x-a: "50%": % begins a variable such as %DOWNSTREAM_REMOTE_ADDRESS%; write %% for a plain % [malformed]
                spec.http[4].headers.request.remove[0]: ":authority" is set by the proxy itself and cannot be changed [malformed]
                spec.http[4].headers.request.remove[1]: the host header cannot be changed here [malformed]
                spec.http[4].headers.response.add.host: the host header cannot be changed here [malformed]
                spec.http[4].route: the weights add up to 0, so no destination would be chosen; give at least one a weight [out-of-range]
                spec.http[4]: the authority is set in several places (rewrite.authority, headers.request.set, headers.request.add); keep one [conflict]
                spec.http[4].mirrors: excludes mirror; keep one [conflict]
                spec.http[4].mirrors[0].percentage.value: 101 is no percentage, want 0 or 0.0001..=100 [out-of-range]
                spec.http[4].mirrors[1].destination: must be set: where does the traffic go? [required]
                spec.http[4].mirrorPercent: write mirrorPercentage: {value: ..} instead [deprecated]
                spec.http[4].mirrorPercent: 200 is no percentage, want 0..=100 [out-of-range]
                spec.http[4].rewrite.uriRegexRewrite: excludes uri; keep one [conflict]
                spec.http[4].rewrite.uriRegexRewrite.rewrite: must be set [required]
                spec.http[4].rewrite.uriRegexRewrite.match: no regular expression: unclosed group [malformed]
                spec.http[4].timeout: 0.0005s is too short, want at least 1ms [out-of-range]
                spec.http[1]: can never be reached: http[0] has no match and takes everything; move it down [no-effect]
                spec.http[2]: can never be reached: http[0] has no match and takes everything; move it down [no-effect]
                spec.http[3]: can never be reached: http[0] has no match and takes everything; move it down [no-effect]
                spec.http[4]: can never be reached: http[0] has no match and takes everything; move it down [no-effect]
            "#]],
        );
        check(
            "VirtualService",
            "hosts: [a.com]\nhttp:\n- route: [{destination: {host: a}}]\n  match:\n  - {uri: {exact: /, prefix: ''}, method: {prefix: ''}, headers: {'a b': {exact: x}, '@request.auth.claims.sub': {exact: x}}, port: 70000, sourceLabels: {a/b/c: x}, sourceNamespace: A}\n  fault: {delay: {percent: 200, exponentialDelay: 1s}, abort: {grpcStatus: NOPE, httpStatus: 700, http2Error: X, percentage: {value: 0.00001}}}\n  retries: {attempts: 0, retryOn: 'gateway-eror,,777', backoff: 1s}\n  corsPolicy: {allowOrigin: ['*'], allowOrigins: [{exact: ''}, {regex: '['}], allowMethods: [FETCH], exposeHeaders: ['a b'], maxAge: 1.5s}\n- match: [{uri: {exact: /x}}]\n  redirect: {uri: /, prefixRewrite: /, redirectCode: 200, scheme: ftp, port: 0, derivePort: FROM_REQUEST_PORT}\n",
            expect![[r#"
                spec.http[0].match[0].uri.prefix: excludes exact; keep one [conflict]
                spec.http[0].match[0].method.prefix: an empty prefix matches everything; leave the condition out [required]
                spec.http[0].match[0].headers["@request.auth.claims.sub"]: claims of tokens can be matched at gateways alone; bind the object to gateways, without mesh [conflict]
                spec.http[0].match[0].headers.a b: "a b" is no header name [malformed]
                spec.http[0].match[0].port: 70000 is no port, want 1..=65535 [out-of-range]
                spec.http[0].match[0].sourceLabels.a/b/c: "a/b/c" is no label: use letters, digits, -, _ and ., at most 63, a letter or digit at both ends [malformed]
                spec.http[0].match[0].sourceNamespace: "A" is no name; use letters, digits and -, at most 63, a letter or digit at both ends [malformed]
                spec.http[0].corsPolicy.allowOrigin: write allowOrigins instead [deprecated]
                spec.http[0].corsPolicy.allowOrigins[0]: an origin must be given: exact, prefix or regex [required]
                spec.http[0].corsPolicy.allowOrigins[1].regex: no regular expression: unclosed character class [malformed]
                spec.http[0].corsPolicy.allowMethods[0]: "FETCH" is none of GET, HEAD, POST, PUT, PATCH, DELETE, CONNECT, OPTIONS, TRACE, * [unknown-value]
                spec.http[0].corsPolicy.exposeHeaders[0]: "a b" is no header name [malformed]
                spec.http[0].corsPolicy.maxAge: 1.5s is no whole number of seconds [out-of-range]
                spec.http[0].fault.abort.grpcStatus: excludes httpStatus; keep one [conflict]
                spec.http[0].fault.abort.httpStatus: 700 is no status, want 200..=599 [out-of-range]
                spec.http[0].fault.abort.grpcStatus: "NOPE" is no gRPC status such as UNAVAILABLE or 14 [unknown-value]
                spec.http[0].fault.abort.http2Error: no proxy can do this; set httpStatus or grpcStatus [conflict]
                spec.http[0].fault.abort.percentage.value: 0.00001 is no percentage, want 0 or 0.0001..=100 [out-of-range]
                spec.http[0].fault.delay.percent: write percentage: {value: ..} instead [deprecated]
                spec.http[0].fault.delay.percent: 200 is no percentage, want 0..=100 [out-of-range]
                spec.http[0].fault.delay.exponentialDelay: no proxy can do this; set fixedDelay [conflict]
                spec.http[0].retries.retryOn: must not be set while attempts is 0 (or not set), which turns retries off [conflict]
                spec.http[0].retries.backoff: must not be set while attempts is 0 (or not set), which turns retries off [conflict]
                spec.http[0].retries.retryOn: "gateway-eror" is no condition for a retry; did you mean gateway-error? [unknown-value]
                spec.http[0].retries.retryOn: "" is none of 5xx, gateway-error, reset, reset-before-request, connect-failure, retriable-4xx, refused-stream, retriable-status-codes, retriable-headers, envoy-ratelimited, http3-post-connect-failure, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable and no status [unknown-value]
                spec.http[0].retries.retryOn: "777" is none of 5xx, gateway-error, reset, reset-before-request, connect-failure, retriable-4xx, refused-stream, retriable-status-codes, retriable-headers, envoy-ratelimited, http3-post-connect-failure, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable and no status [unknown-value]
                spec.http[1].redirect.prefixRewrite: excludes uri; keep one [conflict]
                spec.http[1].redirect.derivePort: excludes port; keep one [conflict]
                spec.http[1].redirect.prefixRewrite: needs every uri condition of the rule to be a prefix [conflict]
                spec.http[1].redirect.redirectCode: 200 is no redirect, want 301, 302, 303, 307 or 308 [out-of-range]
                spec.http[1].redirect.scheme: "ftp" is none of http, https [unknown-value]
                spec.http[1].redirect.port: 0 is no port, want 1..=65535 [out-of-range]
                spec.http[0].match[0].headers: this version does not act on it: no token is validated, so no claim ever matches [not-supported]
            "#]],
        );
    }

    #[test]
    fn tls_and_tcp_rules() {
        check(
            "VirtualService",
            "hosts: [a.com]\ntls:\n- {}\n- match: [{}, {sniHosts: [1.2.3.4, b.com, 'x y', a.com], destinationSubnets: [10.0.0.0/99]}]\n  route: [{destination: {host: a}, weight: 0}, {destination: {host: a}, weight: 0}]\ntcp:\n- match: [{sourceSubnet: 1.2.3.4, port: 70000}]\n",
            expect![[r#"
                spec.tls[0].match: must be set: a TLS rule is chosen by the server name (sniHosts) [required]
                spec.tls[0].route: must be set: where does the traffic go? [required]
                spec.tls[1].match[0].sniHosts: must be set [required]
                spec.tls[1].match[1].sniHosts[0]: 1.2.3.4: clients send names, never addresses, as server name [no-effect]
                spec.tls[1].match[1].sniHosts[1]: b.com is none of the object's hosts; add it there [conflict]
                spec.tls[1].match[1].sniHosts[2]: "x y" is no host name such as a.example.com or *.example.com [malformed]
                spec.tls[1].match[1].destinationSubnets[0]: "10.0.0.0/99" is neither an IP address nor a network such as 10.0.0.0/8 [malformed]
                spec.tls[1].route: the weights add up to 0, so no destination would be chosen; give at least one a weight [out-of-range]
                spec.tcp[0].match[0].port: 70000 is no port, want 1..=65535 [out-of-range]
                spec.tcp[0].match[0].sourceSubnet: no proxy acts on it; remove it [no-effect]
                spec.tcp[0].route: must be set: where does the traffic go? [required]
                spec.tls[1]: can never be reached: tls[0] has no match and takes everything; move it down [no-effect]
            "#]],
        );
    }

    #[test]
    fn what_is_never_reached() {
        check(
            "VirtualService",
            "hosts: [a.com]\nhttp:\n- match: [{uri: {prefix: /a}}]\n  route: [{destination: {host: a}}]\n- match: [{name: n, uri: {prefix: /a}}]\n  route: [{destination: {host: a}}]\n- match: [{uri: {prefix: /b}}, {uri: {prefix: /a}}, {uri: {prefix: /b}}]\n  route: [{destination: {host: a}}]\n- match: [{uri: {prefix: /abc}}, {uri: {prefix: /abd}, method: {exact: GET}}]\n  route: [{destination: {host: a}}]\n- route: [{destination: {host: a}}]\n- match: [{uri: {prefix: /z}}]\n  route: [{destination: {host: a}}]\n",
            expect![[r#"
                spec.http[1]: can never be reached: earlier rules have the same conditions [no-effect]
                spec.http[2].match[1]: the same condition stands at http[0].match[0] already [no-effect]
                spec.http[2].match[2]: the same condition stands at http[2].match[0] already [no-effect]
                spec.http[5]: can never be reached: http[4] has no match and takes everything; move it down [no-effect]
                spec.http[3].match[0]: the prefix "/abc" is covered by "/a" before it; move the longer one up [no-effect]
            "#]],
        );
    }
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
                spec.servers[3].tls: this version does not act on it: the server is left out [not-supported]
            "#]],
        );
        check(
            "Gateway",
            "servers:\n- {port: {number: 1, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: MUTUAL, minProtocolVersion: TLSV1_0}}\n- {port: {number: 2, name: b, protocol: TLS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL, privateKey: x}}\n- {port: {number: 3, name: c, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH, credentialName: x}}\n- {port: {number: 4, name: d, protocol: TLS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: x, serverCertificate: y, caCrl: z, cipherSuites: [A, A]}}\n",
            expect![[r#"
                spec.servers[0].tls.minProtocolVersion: needs cipherSuites that old clients know; the default ones begin at TLS 1.2 [risky]
                spec.servers[0].tls.serverCertificate: must be set, or credentialName [required]
                spec.servers[0].tls.privateKey: must be set, or credentialName [required]
                spec.servers[0].tls.caCertificates: must be set to check client certificates [required]
                spec.servers[1].tls.privateKey: must not be set in mode ISTIO_MUTUAL, which has certificates of its own [conflict]
                spec.servers[2].tls.credentialName: does nothing in a passthrough mode, where the service itself ends TLS [no-effect]
                spec.servers[3].tls.cipherSuites[1]: A is given twice [no-effect]
                spec.servers[3].tls.credentialName: excludes serverCertificate; keep one [conflict]
                spec.servers[3].tls.caCrl: mode SIMPLE asks clients for no certificate [conflict]
                spec.servers[0].tls: this version does not act on it: the server is left out [not-supported]
                spec.servers[1].tls: this version does not act on it: the server is left out [not-supported]
                spec.servers[3].tls: this version does not act on it: the server is left out [not-supported]
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
                spec.ingress[1].tls: this version does not act on it: the port takes plain connections [not-supported]
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
