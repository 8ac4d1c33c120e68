//! PeerAuthentication, RequestAuthentication, AuthorizationPolicy, and who is asked.

use super::*;

#[test]
fn policies_with_nothing_to_say() {
    check("PeerAuthentication", "{}", expect![""]);
    check(
        "AuthorizationPolicy",
        "selector: {matchLabels: {app: a}}\nrules:\n- {}\n- from: [{source: {principals: ['*', cluster.local/ns/a/sa/*], notNamespaces: [b*], trustDomains: ['*-td', td], ipBlocks: [10.0.0.0/8, '::1']}}, {source: {serviceAccounts: [sa, ns/sa]}}]\n  to: [{operation: {hosts: ['*.a.com'], methods: [GET], paths: [/a/*, '/a/{*}/b/{**}'], notPorts: ['0', '65535']}}]\n  when: [{key: 'request.headers[x-user]', values: [a]}, {key: 'request.auth.claims[a][b]', notValues: ['']}]",
        expect![[r#"
            spec.rules[1].when[1].notValues[0]: must not be empty; remove it [required]
        "#]],
    );
    check("AuthorizationPolicy", "{}", expect![[""]]);
    check(
        "AuthorizationPolicy",
        "action: 1\nrules: [{}]",
        expect![[""]],
    );
    check(
        "RequestAuthentication",
        "jwtRules: [{issuer: a, jwks_uri: 'https://a.com/k', fromHeaders: [{name: x, prefix: 'Bearer '}], outputClaimToHeaders: [{header: x-a_b, claim: a.b}], timeout: 5s}]",
        expect![[""]],
    );
}

/// Case 70.
#[test]
fn ports_need_a_selector_and_a_number() {
    check(
        "PeerAuthentication",
        "portLevelMtls: {8080: {mode: STRICT}}",
        expect![[r#"
            spec.portLevelMtls: goes with a selector: ports are those of certain workloads [conflict]
        "#]],
    );
    check(
        "PeerAuthentication",
        "selector: {matchLabels: {'a*': b, '': c}}\nportLevelMtls: {0: {}, '080': {}, 70000: {}, http: {}}",
        expect![[r#"
            spec.selector.matchLabels[""]: "": "c" selects nothing; give a key and a value without * [malformed]
            spec.selector.matchLabels.a*: "a*": "b" selects nothing; give a key and a value without * [malformed]
            spec.portLevelMtls.0: "0" is no port, want 1..=65535 [out-of-range]
            spec.portLevelMtls.080: "080" is no port, want 1..=65535 [out-of-range]
            spec.portLevelMtls.70000: "70000" is no port, want 1..=65535 [out-of-range]
            spec.portLevelMtls.http: "http" is no port, want 1..=65535 [out-of-range]
        "#]],
    );
    check(
        "PeerAuthentication",
        "selector: {matchLabels: {a: b}}\nportLevelMtls: {}\nmtls: {mode: ON}",
        expect![[r#"
            spec.mtls.mode: "ON" is none of UNSET, DISABLE, PERMISSIVE, STRICT [unknown-value]
            spec.portLevelMtls: must have a port; remove it if none is meant [required]
        "#]],
    );
    check(
        "PeerAuthentication",
        "selector: {}",
        expect![[r#"
            spec.selector.matchLabels: no label is given, so every workload of the namespace is selected [risky]
        "#]],
    );
}

/// Case 70.
#[test]
fn tokens() {
    check(
        "RequestAuthentication",
        r#"jwtRules:
- {}
- {issuer: a, jwks: '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}
- {issuer: a, jwks: '{"keys": 3}'}
- {issuer: a, jwks: '<html>', jwksUri: 'ftp://a'}
- {issuer: a, audiences: [''], fromParams: [''], fromCookies: [''], fromHeaders: [{}, {name: 'a b'}]}
- {issuer: a, outputClaimToHeaders: [{}, {header: 'a.b', claim: c}], outputPayloadToHeader: ':x', timeout: 0.5ms}
- {issuer: a, jwksUri: 'https://a', jwks: '{"keys": []}'}"#,
        expect![[r#"
            spec.jwtRules[0].issuer: must be set where there is no jwksUri: whose tokens are meant? [required]
            spec.jwtRules[1].jwks: has a private or symmetric key: whoever reads this object can sign tokens; write public keys [risky]
            spec.jwtRules[2].jwks: has no list `keys`; want {"keys": [..]} [malformed]
            spec.jwtRules[3].jwksUri: "ftp://a" is of neither http nor https; write for example https://a.example.com/keys [malformed]
            spec.jwtRules[3].jwksUri: jwks is there, and wins [no-effect]
            spec.jwtRules[3].jwks: is not JSON [malformed]
            spec.jwtRules[4].audiences[0]: must not be empty; remove it [required]
            spec.jwtRules[4].fromHeaders[0].name: "" is no header name [malformed]
            spec.jwtRules[4].fromHeaders[1].name: "a b" is no header name [malformed]
            spec.jwtRules[4].fromParams[0]: must not be empty; remove it [required]
            spec.jwtRules[4].fromCookies[0]: must not be empty; remove it [required]
            spec.jwtRules[5].outputPayloadToHeader: ":x" is no header name [malformed]
            spec.jwtRules[5].outputClaimToHeaders[0].claim: must be set [required]
            spec.jwtRules[5].outputClaimToHeaders[0].header: must be set [required]
            spec.jwtRules[5].outputClaimToHeaders[1].header: "a.b": use letters, digits, - and _ [malformed]
            spec.jwtRules[5].timeout: 0.0005s is too short, want at least 1ms [out-of-range]
            spec.jwtRules[6].jwksUri: jwks is there, and wins [no-effect]
        "#]],
    );
    check(
        "RequestAuthentication",
        "jwtRules: [{issuer: a, fromHeaders: [null], outputClaimToHeaders: [null]}]",
        expect![[r#"
            spec.jwtRules[0].fromHeaders[0]: want fields with names, got nothing [wrong-type]
            spec.jwtRules[0].outputClaimToHeaders[0]: want fields with names, got nothing [wrong-type]
        "#]],
    );
    check(
        "RequestAuthentication",
        "selector: {matchLabels: {a: b}}\ntargetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: g}\ntargetRefs: [{kind: Service, name: ''}, {kind: Pod, name: p, namespace: n}]",
        expect![[r#"
            spec.targetRef: excludes selector; keep one [conflict]
            spec.targetRefs[0].name: must be set [required]
            spec.targetRefs[1].namespace: must not be set: what is meant stands in the policy's own namespace [conflict]
            spec.targetRefs[1].kind: "Pod" of group "" takes no policy; there are Service of "", ServiceEntry of networking.istio.io, and Gateway and GatewayClass of gateway.networking.k8s.io [unknown-value]
            spec.targetRefs: this version does not act on it: there are no waypoints, so the policy is attached to nothing [not-supported]
        "#]],
    );
}

#[test]
fn actions_have_what_they_need_and_nothing_else() {
    check(
        "AuthorizationPolicy",
        "action: DENY",
        expect![[r#"
        spec.rules: must be set: without rules DENY is for nothing; an empty rule, - {}, is for everything [required]
    "#]],
    );
    check(
        "AuthorizationPolicy",
        "action: CUSTOM",
        expect![[r#"
        spec.provider: must be set: who is to be asked? [required]
        spec.rules: must be set: without rules CUSTOM is for nothing; an empty rule, - {}, is for everything [required]
    "#]],
    );
    check(
        "AuthorizationPolicy",
        "action: AUDIT\nprovider: {name: x}",
        expect![[r#"
            spec.provider: goes with action CUSTOM [conflict]
        "#]],
    );
    check(
        "AuthorizationPolicy",
        "action: CUSTOM\nprovider: {}\nrules:\n- from: [{source: {principals: [a], notRequestPrincipals: [b], ipBlocks: [10.0.0.1]}}]\n  when: [{key: request.auth.principal, values: [a]}, {key: source.namespace, values: [b]}]",
        expect![[r#"
            spec.provider.name: must be set [required]
            spec.rules[0].from[0].source.principals: is not known yet when an authorizer is asked; leave it to the authorizer [conflict]
            spec.rules[0].from[0].source.notRequestPrincipals: is not known yet when an authorizer is asked; leave it to the authorizer [conflict]
            spec.rules[0].when[0].key: is not known yet when an authorizer is asked; leave it to the authorizer [conflict]
            spec.rules[0].when[1].key: is not known yet when an authorizer is asked; leave it to the authorizer [conflict]
        "#]],
    );
}

/// A rule that says nothing by accident is for everybody.
#[test]
fn rules_that_say_nothing_are_refused() {
    check(
        "AuthorizationPolicy",
        "rules:\n- null\n- {from: [], to: []}\n- {from: [{}], to: [{}]}\n- {from: [{source: {}}], to: [{operation: {}}]}\n- {from: [{source: null}], to: [{operation: {methods: []}}], when: [{}, {key: source.ip}]}\n- {from: [{source: {principals: ['']}}]}",
        expect![[r#"
            spec.rules[0]: want fields with names, got nothing [wrong-type]
            spec.rules[1].from: an empty list is for nothing or for everything; leave it out to mean everything [required]
            spec.rules[1].to: an empty list is for nothing or for everything; leave it out to mean everything [required]
            spec.rules[2].from[0].source: must say something [required]
            spec.rules[2].to[0].operation: must say something [required]
            spec.rules[3].from[0].source: must say something [required]
            spec.rules[3].to[0].operation: must say something [required]
            spec.rules[4].from[0].source: must say something [required]
            spec.rules[4].to[0].operation: must say something [required]
            spec.rules[4].when[0].key: must be set [required]
            spec.rules[4].when[0].values: values or notValues must be set [required]
            spec.rules[4].when[1].values: values or notValues must be set [required]
            spec.rules[5].from[0].source.principals[0]: must not be empty; remove it [required]
        "#]],
    );
}

/// Case 57.
#[test]
fn values_are_what_their_attribute_takes() {
    check(
        "AuthorizationPolicy",
        "rules:\n- from: [{source: {serviceAccounts: [a/b/c, 'a*', /a], principals: [x]}}, {source: {trustDomains: ['a*b', '*a*', a/b], ipBlocks: [10.0.0, bad], remoteIpBlocks: [1.2.3.4/33]}}]\n  to: [{operation: {ports: ['80', http, '70000', '+1'], paths: ['/a/{**}/b', '/a/{x}', '/a*/{*}', 'a/{*}', '/a//{*}', '/a{*}', '/{**}']}}]",
        expect![[r#"
            spec.rules[0].from[0].source.serviceAccounts: excludes principals and namespaces, which it says by itself [conflict]
            spec.rules[0].from[0].source.serviceAccounts[0]: "a/b/c": write ACCOUNT or NAMESPACE/ACCOUNT, without * [malformed]
            spec.rules[0].from[0].source.serviceAccounts[1]: "a*": write ACCOUNT or NAMESPACE/ACCOUNT, without * [malformed]
            spec.rules[0].from[0].source.serviceAccounts[2]: "/a": write ACCOUNT or NAMESPACE/ACCOUNT, without * [malformed]
            spec.rules[0].from[1].source.trustDomains[0]: "a*b" is no trust domain; one * may stand at its start or end [malformed]
            spec.rules[0].from[1].source.trustDomains[1]: "*a*" is no trust domain; one * may stand at its start or end [malformed]
            spec.rules[0].from[1].source.trustDomains[2]: "a/b" is no trust domain; one * may stand at its start or end [malformed]
            spec.rules[0].from[1].source.ipBlocks[0]: "10.0.0" is neither an IP address nor a network such as 10.0.0.0/8 [malformed]
            spec.rules[0].from[1].source.ipBlocks[1]: "bad" is neither an IP address nor a network such as 10.0.0.0/8 [malformed]
            spec.rules[0].from[1].source.remoteIpBlocks[0]: "1.2.3.4/33" is neither an IP address nor a network such as 10.0.0.0/8 [malformed]
            spec.rules[0].to[0].operation.paths[0]: "/a/{**}/b": nothing may follow {**} [malformed]
            spec.rules[0].to[0].operation.paths[1]: "/a/{x}": braces may only make a whole segment, {*} or {**} [malformed]
            spec.rules[0].to[0].operation.paths[2]: "/a*/{*}": beside {*} a segment must not be empty, and have no * and no spaces [malformed]
            spec.rules[0].to[0].operation.paths[3]: "a/{*}": a template starts with / [malformed]
            spec.rules[0].to[0].operation.paths[4]: "/a//{*}": beside {*} a segment must not be empty, and have no * and no spaces [malformed]
            spec.rules[0].to[0].operation.paths[5]: "/a{*}": braces may only make a whole segment, {*} or {**} [malformed]
            spec.rules[0].to[0].operation.ports[1]: "http" is no port, want 0..=65535 [out-of-range]
            spec.rules[0].to[0].operation.ports[2]: "70000" is no port, want 0..=65535 [out-of-range]
            spec.rules[0].to[0].operation.ports[3]: "+1" is no port, want 0..=65535 [out-of-range]
        "#]],
    );
}

/// A condition that nobody understands must not be left out.
#[test]
fn attributes_that_nobody_knows_are_refused() {
    check(
        "AuthorizationPolicy",
        "rules:\n- when:\n  - {key: request.header, values: [a]}\n  - {key: 'request.headers[]', values: [a]}\n  - {key: 'request.headers[a b]', values: [a]}\n  - {key: 'request.auth.claims', values: [a]}\n  - {key: 'destination.labels[app]', values: [a]}\n  - {key: destination.user, values: [a]}\n  - {key: source.ip, values: [a]}\n  - {key: destination.port, values: ['-1']}\n  - {key: source.trustDomain, values: ['a*b']}\n  - {key: source.serviceAccount, notValues: ['*']}\n  - {key: 'experimental.envoy.filters.x', values: [a]}\n  - {key: 'experimental.envoy.filters.x[k]', values: ['[a]']}\n  - {key: whatever, values: [a]}",
        expect![[r#"
            spec.rules[0].when[0].key: "request.header" is no attribute; did you mean request.headers? [unknown-value]
            spec.rules[0].when[1].key: "request.headers[]": write request.headers[NAME] with a name in the brackets [malformed]
            spec.rules[0].when[2].key: "a b" is no header name [malformed]
            spec.rules[0].when[3].key: "request.auth.claims": write request.auth.claims[NAME] with a name in the brackets [malformed]
            spec.rules[0].when[4].key: "destination.labels[app]" is not known any more: select workloads by the policy's selector [unknown-value]
            spec.rules[0].when[5].key: "destination.user" is not known any more: select workloads by the policy's selector, since nobody knows their accounts [unknown-value]
            spec.rules[0].when[6].values[0]: "a" is neither an IP address nor a network such as 10.0.0.0/8 [malformed]
            spec.rules[0].when[7].values[0]: "-1" is no port, want 0..=65535 [out-of-range]
            spec.rules[0].when[8].values[0]: "a*b" is no trust domain; one * may stand at its start or end [malformed]
            spec.rules[0].when[9].notValues[0]: "*": write ACCOUNT or NAMESPACE/ACCOUNT, without * [malformed]
            spec.rules[0].when[10].key: "experimental.envoy.filters.x": write experimental.envoy.filters.x[NAME] with a name in the brackets [malformed]
            spec.rules[0].when[12].key: "whatever" is no attribute; there are source.ip, remote.ip, source.namespace, source.serviceAccount, source.principal, source.trustDomain, request.auth.principal, request.auth.audiences, request.auth.presenter, destination.ip, destination.port, connection.sni, request.headers[..], request.auth.claims[..] and experimental.envoy.filters.NAME[..] [unknown-value]
        "#]],
    );
}

/// Nobody can look into bytes, so a refusal by HTTP alone refuses them all.
#[test]
fn a_refusal_by_http_alone_is_told() {
    check(
        "AuthorizationPolicy",
        "action: DENY\nrules:\n- to: [{operation: {methods: [POST]}}]\n- to: [{operation: {methods: [POST], ports: ['80']}}]\n- from: [{source: {requestPrincipals: ['*']}}]\n- from: [{source: {requestPrincipals: ['*'], namespaces: [a]}}]\n- {}",
        expect![[r#"
            spec.rules[0]: has conditions on HTTP alone, which nobody can look at where bytes are forwarded: there it refuses every connection; add ports [risky]
            spec.rules[2]: has conditions on HTTP alone, which nobody can look at where bytes are forwarded: there it refuses every connection; add ports [risky]
        "#]],
    );
}

/// Cases 61 and 68.
#[test]
fn annotations() {
    let of = |kind: &str, annotation: &str, spec: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: x, annotations: {{{annotation}}}}}\nspec: {spec}\n"
        );
        let decoded = crate::decode_text(&text, &Default::default());
        let lines = decoded.findings.iter().filter(|f| f.is_error());
        lines
            .map(|f| format!("{}: {} [{}]\n", f.path, f.message, f.code))
            .collect::<String>()
    };
    let deny = "{action: DENY, rules: [{}]}";
    let policy = |annotation, spec| of("AuthorizationPolicy", annotation, spec);
    assert_eq!(policy("istio.io/dry-run: 'true'", deny), "");
    assert_eq!(policy("istio.io/dry-run: 'F'", "{}"), "");
    expect![[r#"
        metadata.annotations["istio.io/dry-run"]: "maybe" is neither true nor false [malformed]
    "#]]
    .assert_eq(&policy("istio.io/dry-run: maybe", deny));
    expect![[r#"
        metadata.annotations["istio.io/dry-run"]: dry run is for the actions ALLOW and DENY; remove it [conflict]
    "#]].assert_eq(&policy("istio.io/dry-run: 'true'", "{action: AUDIT}"));
    expect![[r#"
        metadata.annotations["istio.io/dry-run"]: dry run is for AuthorizationPolicy, not for a RequestAuthentication; remove it [conflict]
    "#]].assert_eq(&of(
        "RequestAuthentication",
        "istio.io/dry-run: 'true'",
        "{}",
    ));
    expect![[r#"
        metadata.annotations["internal.istio.io/parents"]: only the plane itself sets this annotation; remove it [conflict]
    "#]].assert_eq(&policy("internal.istio.io/parents: x", "{}"));
}

#[test]
fn authorizers() {
    let said = |text: &str, want: Expect| {
        let (_, findings) = crate::decode_mesh_config(text);
        let lines = findings
            .iter()
            .map(|f| format!("{}: {} [{}]\n", f.path, f.message, f.code));
        want.assert_eq(&lines.collect::<String>());
    };
    said(
        "extensionProviders:\n- {name: a, envoyExtAuthzHttp: {service: ns/a.ns.svc.cluster.local, port: 80, pathPrefix: /x, statusOnError: '503', includeRequestHeadersInCheck: [x-*, '*-y', z], includeAdditionalHeadersInCheck: {a: b}, includeRequestBodyInCheck: {maxRequestBytes: 1}}}\n- {name: a-b, envoyExtAuthzGrpc: {service: a.com, port: 1, timeout: 1s}}",
        expect![[""]],
    );
    said(
        "extensionProviders:\n- {name: -A, envoyExtAuthzHttp: {service: 'a b', port: 0, pathPrefix: x, statusOnError: '999', includeRequestHeadersInCheck: ['*', 'a b'], includeAdditionalHeadersInCheck: {':x': \"a\\nb\"}, includeRequestBodyInCheck: {}, statusOnEror: '1'}}\n- {name: b, envoyExtAuthzGrpc: {service: X/a.com, port: 70000, timeout: 0s, pathPrefix: /}}\n- {name: b, envoyExtAuthzGrpc: {port: x}}",
        expect![[r#"
            extensionProviders[0].name: "-A" is no name; use letters, digits and -, at most 63, a letter or digit at both ends [malformed]
            extensionProviders[0].envoyExtAuthzHttp.statusOnEror: no such field; did you mean statusOnError? [unknown-field]
            extensionProviders[0].envoyExtAuthzHttp.service: "a b" is no service; write HOST or NAMESPACE/HOST [malformed]
            extensionProviders[0].envoyExtAuthzHttp.port: 0 is no port, want 1..=65535 [out-of-range]
            extensionProviders[0].envoyExtAuthzHttp.statusOnError: "999" is no status of HTTP; write for example "503" [unknown-value]
            extensionProviders[0].envoyExtAuthzHttp.includeRequestBodyInCheck.maxRequestBytes: must be more than 0 [out-of-range]
            extensionProviders[0].envoyExtAuthzHttp.pathPrefix: "x" must start with / and have no spaces [malformed]
            extensionProviders[0].envoyExtAuthzHttp.includeRequestHeadersInCheck[0]: "" is no header name [malformed]
            extensionProviders[0].envoyExtAuthzHttp.includeRequestHeadersInCheck[1]: "a b" is no header name [malformed]
            extensionProviders[0].envoyExtAuthzHttp.includeAdditionalHeadersInCheck.:x: ":x" is no header name [malformed]
            extensionProviders[0].envoyExtAuthzHttp.includeAdditionalHeadersInCheck.:x: control characters, such as a line break, cannot be sent in a header [malformed]
            extensionProviders[1].envoyExtAuthzGrpc.pathPrefix: no such field [unknown-field]
            extensionProviders[1].envoyExtAuthzGrpc.service: "X/a.com" is no service; write HOST or NAMESPACE/HOST [malformed]
            extensionProviders[1].envoyExtAuthzGrpc.port: 70000 is no port, want 1..=65535 [out-of-range]
            extensionProviders[1].envoyExtAuthzGrpc.timeout: 0s is too short, want at least 1ms [out-of-range]
            extensionProviders[2].name: "b" is given twice [duplicate]
            extensionProviders[2].envoyExtAuthzGrpc: a value is of the wrong type; nobody can be asked, so what is for it is refused [wrong-type]
        "#]],
    );
}
