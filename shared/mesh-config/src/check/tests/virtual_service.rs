//! VirtualService.

use super::*;

#[test]
fn a_wildcard_in_a_label_is_no_silent_loss() {
    check(
        "VirtualService",
        "hosts: ['*shop.example.com', '*.example.org']\nhttp:\n- route: [{destination: {host: a}}]\n",
        expect![[r#"
            spec.hosts[0]: this version does not act on it: a wildcard is the whole first label, as in *.example.com [not-supported]
        "#]],
    );
    check(
        "ServiceEntry",
        "hosts: ['*shop.example.com']\nports: [{number: 80, name: http, protocol: HTTP}]\n",
        expect![[r#"
            spec.hosts[0]: "*shop.example.com": a wildcard should be the whole first label, as in *.example.com [risky]
            spec.hosts[0]: this version does not act on it: a wildcard is the whole first label, as in *.example.com [not-supported]
        "#]],
    );
}

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
            spec.http[0].match[0].headers: claims of tokens are known at gateways alone, and the rules are for none: they match nothing [no-effect]
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
