//! DestinationRule.

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
            spec.trafficPolicy.loadBalancer.localityLbSetting.distribute: this version does not act on it: every locality is treated alike [not-supported]
            spec.trafficPolicy.loadBalancer.localityLbSetting.failover: this version does not act on it: every locality is treated alike [not-supported]
            spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority: this version does not act on it: every locality is treated alike [not-supported]
            spec.trafficPolicy.loadBalancer.zoneAwareLbSetting: this version does not act on it: every zone is treated alike [not-supported]
            spec.trafficPolicy.proxyProtocol: this version does not act on it: no header is sent [not-supported]
        "#]],
    );
}
