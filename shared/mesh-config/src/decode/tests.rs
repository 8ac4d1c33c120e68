use expect_test::{Expect, expect};

use super::*;

/// Decodes and prints `KIND NAMESPACE/NAME @document:line` and findings.
#[track_caller]
fn check(text: &str, want: Expect) {
    let decoded = decode_text(
        text,
        &Origin {
            file: "f.yaml",
            ..Origin::default()
        },
    );
    let mut out = String::new();
    for (object, place) in &decoded.objects {
        out += &format!("{} @{}:{}\n", object.meta.key, place.document, place.line);
    }
    for finding in &decoded.findings {
        out += &format!("{:?} {finding}\n", finding.level);
    }
    want.assert_eq(&out);
}

const VS: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: NAME}\nspec:\n  hosts: [a.com]\n  http:\n  - route:\n    - destination: {host: a}\n";

#[test]
fn a_bad_document_hides_no_good_one() {
    let text = format!(
        "{}---\na: [\n---\nb: 2\n---\n{}",
        VS.replace("NAME", "one"),
        VS.replace("NAME", "two")
    );
    check(
        &text,
        expect![[r#"
            VirtualService default/one @1:1
            VirtualService default/two @4:13
            Error f.yaml:10: line 10, column 4: unclosed bracket '[' [syntax]
            Error f.yaml:11: apiVersion and kind must be set [not-an-object]
        "#]],
    );
}

#[test]
fn lists_are_flattened() {
    check(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- {apiVersion: v1, kind: PodList, items: [{metadata: {name: p, namespace: n}}, null]}\n- 7\n",
        expect![[r#"
            Namespace a @1:1
            Pod n/p @1:1
            Error f.yaml:1: want an object with apiVersion and kind, got nothing [not-an-object]
            Error f.yaml:1: want an object with apiVersion and kind, got 7 [not-an-object]
        "#]],
    );
}

#[test]
fn kinds_and_versions_of_others() {
    check(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n---\n{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: p, namespace: n}}\n---\n{apiVersion: networking.istio.io/v2, kind: Gateway, metadata: {name: g}, spec: {servers: []}}\n---\n{apiVersion: istio.io/v1, kind: VirtualService, metadata: {name: v}}\n---\n{apiVersion: networking.istio.io/v1, kind: VirtualServices, metadata: {name: v}}\n---\n{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}}\n---\n{apiVersion: mesh.flotilla.io/v1, kind: MeshService, metadata: {name: g}}\n---\n{apiVersion: gateway.solo.io/v1, kind: VirtualService, metadata: {name: g}}\n---\n{apiVersion: v1, kind: Gateway, metadata: {name: g}}\n---\n{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: g}}",
        expect![[r#"
            Info f.yaml:1: Deployment d (apps/v1) is not for the mesh; left alone [unknown-kind]
            Warning f.yaml:2: Telemetry n/p (telemetry.istio.io/v1) has no effect: this version does not act on its kind [not-supported]
            Error f.yaml:4: Gateway default/g: apiVersion: networking.istio.io/v2 is not a version of Gateway that is read; write networking.istio.io/v1 or networking.istio.io/v1beta1 or networking.istio.io/v1alpha3 [unknown-version]
            Error f.yaml:4: Gateway default/g: spec.servers: must be set [required]
            Error f.yaml:6: VirtualService v (istio.io/v1) is left alone: nothing here reads its kind; did you mean apiVersion networking.istio.io/v1 or networking.istio.io/v1beta1 or networking.istio.io/v1alpha3? [unknown-kind]
            Error f.yaml:8: VirtualServices v (networking.istio.io/v1) is left alone: nothing here reads its kind; did you mean kind VirtualService? [unknown-kind]
            Warning f.yaml:10: Gateway g (gateway.networking.k8s.io/v1) has no effect: this version does not act on its kind [not-supported]
            Warning f.yaml:12: MeshService g (mesh.flotilla.io/v1) is left alone: nothing here reads its kind [unknown-kind]
            Warning f.yaml:14: VirtualService g (gateway.solo.io/v1) is left alone: nothing here reads its kind; did you mean apiVersion networking.istio.io/v1 or networking.istio.io/v1beta1 or networking.istio.io/v1alpha3? [unknown-kind]
            Error f.yaml:16: Gateway g (v1) is left alone: nothing here reads its kind; did you mean apiVersion networking.istio.io/v1 or networking.istio.io/v1beta1 or networking.istio.io/v1alpha3? [unknown-kind]
            Warning f.yaml:18: Service g (serving.knative.dev/v1) is left alone: nothing here reads its kind; did you mean apiVersion v1? [unknown-kind]
        "#]],
    );
}

#[test]
fn metadata_is_checked() {
    check(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: A_b\n  namespace: -x\n  labels: {a/b/c: x, app: 7, ok: 'a b', empty: null}\n  annotations: {internal.istio.io/parents: x, istio.io/dry-run: 'true'}\n  creationTimestamp: yesterday\n  uid: x\n  namspace: y\n  hosts: [z]\nspec: {address: 1.2.3.4}\n---\n{apiVersion: v1, kind: Pod, metadata: {generateName: x-}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: 7}}\n---\n{apiVersion: v1, kind: Pod}\n---\n{apiVersion: v1, metadata: {name: x}}\n---\n{kind: Pod, metadata: {name: x}}",
        expect![[r#"
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.namespace: "-x" is no name; use letters, digits and -, at most 63, a letter or digit at both ends [malformed]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.labels.app: want text, got 7; put it in quotes [wrong-type]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.labels.a/b/c: "a/b/c" is no label: use letters, digits, -, _ and ., at most 63, a letter or digit at both ends [malformed]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.labels.ok: "a b" is no label value: use letters, digits, -, _ and ., at most 63, a letter or digit at both ends [malformed]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.annotations["internal.istio.io/parents"]: only the plane itself sets this annotation; remove it [conflict]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.annotations["istio.io/dry-run"]: dry run is for AuthorizationPolicy, not for a WorkloadEntry; remove it [conflict]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.creationTimestamp: "yesterday" is no time; write for example 2024-05-01T12:00:00Z [malformed]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.namspace: no such field; did you mean namespace? [unknown-field]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.hosts: no such field; settings stand under spec [unknown-field]
            Error f.yaml:1: WorkloadEntry -x/A_b: metadata.name: "A_b" is no name; use lower-case letters, digits, - and ., at most 253, letters or digits at both ends [malformed]
            Error f.yaml:13: metadata.name: metadata.name must be set; generateName is for the API server alone (in a Pod) [not-an-object]
            Error f.yaml:15: metadata.name: metadata.name must be text; put it in quotes (in a Pod) [not-an-object]
            Error f.yaml:17: metadata.name: metadata.name must be set (in a Pod) [not-an-object]
            Error f.yaml:19: kind must be set [not-an-object]
            Error f.yaml:21: apiVersion of this Pod must be set [not-an-object]
        "#]],
    );
}

#[test]
fn content_that_changes_nothing_makes_no_new_version() {
    let one = "{apiVersion: v1, kind: Service, metadata: {name: s, creationTimestamp: '2024-01-01T00:00:00.5Z'}, spec: {clusterIP: 10.0.0.1}}";
    let two = "{\"kind\": \"Service\", \"apiVersion\": \"v1\", \"metadata\": {\"resourceVersion\": \"7\", \"creationTimestamp\": \"2024-01-01T00:00:00.5Z\", \"namespace\": \"default\", \"name\": \"s\", \"annotations\": {\"kubectl.kubernetes.io/last-applied-configuration\": \"..\"}}, \"spec\": {\"selector\": null, \"clusterIP\": \"10.0.0.1\", \"sessionAffinity\": \"None\"}}";
    let objects = [one, two].map(|text| decode_text(text, &Origin::default()).objects.remove(0).0);
    assert_eq!(objects[0], objects[1]);
    assert_eq!(objects[0].meta.created_us, 1_704_067_200_500_000);
}

#[test]
fn top_level_fields_of_istio_kinds_are_known() {
    check(
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: a}, specs: {}, address: x, status: {x: 1}}",
        expect![[r#"
            Error f.yaml:1: WorkloadEntry default/a: specs: no such field; did you mean spec? [unknown-field]
            Error f.yaml:1: WorkloadEntry default/a: address: no such field; settings stand under spec [unknown-field]
            Error f.yaml:1: WorkloadEntry default/a: spec.address: must be set, unless network is [required]
        "#]],
    );
}

#[test]
fn platform_objects_are_read_as_far_as_needed() {
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: http}, 7, {port: '80', targetPort: {}}, {port: 70000}], selector: [a], sessionAffinity: None}}\n---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, endpoints: [{addresses: [1.2.3.4], conditions: {ready: null}}], ports: null}",
        expect![[r#"
            EndpointSlice default/e @2:2
            Error f.yaml:1: Service default/s: spec.ports[0].port: invalid type: string "http", expected u32 [wrong-type]
            Error f.yaml:1: Service default/s: spec.ports[1]: invalid type: integer `7`, expected struct K8sServicePort [wrong-type]
            Error f.yaml:1: Service default/s: spec.ports[2].port: invalid type: string "80", expected u32 [wrong-type]
            Error f.yaml:1: Service default/s: spec.ports[2].targetPort: data did not match any variant of untagged enum IntOrString [wrong-type]
            Error f.yaml:1: Service default/s: spec.selector: invalid type: sequence, expected a map [wrong-type]
            Error f.yaml:1: Service default/s: spec.ports[3].port: 70000 is no port, want 1..=65535 [out-of-range]
        "#]],
    );
}

#[test]
fn texts_that_are_no_yaml_say_where() {
    check(
        "a: 1\na: 2\n",
        expect![[r#"
            Error f.yaml:2: line 2, column 1: duplicate mapping key: a [syntax]
        "#]],
    );
    check(
        "\n\n---\n# x\n\"a",
        expect![[r#"
        Error f.yaml:5: line 5, column 1: unclosed quote [syntax]
    "#]],
    );
    let decoded = decode_bytes(b"a: 1\nb: \xff\n", &Origin::default());
    assert_eq!(
        decoded.findings[0].to_string(),
        "line 2 is not UTF-8 text [syntax]"
    );
    let json = Origin {
        file: "x.json",
        ..Origin::default()
    };
    expect![["x.json:2: not JSON: EOF while parsing an object at line 2 column 0 [syntax]"]]
        .assert_eq(&decode_text("{\"a\": 1\n", &json).findings[0].to_string());
    check("", expect![[""]]);
    check("# only a comment\n---\n", expect![[""]]);
}

#[test]
fn everything_is_bounded() {
    #[track_caller]
    fn refused(text: &str, limits: Limits) {
        let decoded = decode_text(
            text,
            &Origin {
                limits,
                ..Origin::default()
            },
        );
        assert_eq!(decoded.objects, []);
        assert_eq!(decoded.findings.len(), 1, "{:?}", decoded.findings);
        assert_eq!(
            decoded.findings[0].code,
            Code::TooLarge,
            "{}",
            decoded.findings[0]
        );
    }
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let previous = i - 1;
        bomb += &format!(
            "a{i}: &a{i} [{}]\n",
            vec![format!("*a{previous}"); 9].join(", ")
        );
    }
    refused(&bomb, Limits::default());
    check(
        &bomb,
        expect![[r#"
        Error f.yaml:6: line 6, column 10: aliases add more than 100000 values; write out what they repeat [too-large]
    "#]],
    );
    check(
        &"- ".repeat(100),
        expect![[r#"
        Error f.yaml:1: line 1, column 129: nested more than 64 deep [too-large]
    "#]],
    );
    refused(&"[".repeat(100_000), Limits::default());
    refused(&"{\"a\":".repeat(1000), Limits::default());
    refused(&"- ".repeat(1000), Limits::default());
    refused(
        "a: 1",
        Limits {
            text: 3,
            ..Limits::default()
        },
    );
    refused(
        "[1, 2, 3]",
        Limits {
            nodes: 2,
            ..Limits::default()
        },
    );
    refused(
        "- 1\n- 2\n- 3\n",
        Limits {
            nodes: 2,
            ..Limits::default()
        },
    );
    let big = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {{a: \"{}\"}}}}",
        "x".repeat(2 << 20)
    );
    refused(&big, Limits::default());
}

#[test]
fn a_large_file_of_small_objects_is_no_large_object() {
    let items: Vec<String> = (0..100)
        .map(|i| format!("- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: c{i}, namespace: n}}, data: {{a: {}}}}}\n", "x".repeat(500)))
        .collect();
    let limits = Limits {
        object: 1000,
        ..Limits::default()
    };
    let decoded = decode_text(
        &format!("apiVersion: v1\nkind: List\nitems:\n{}", items.concat()),
        &Origin {
            limits,
            ..Origin::default()
        },
    );
    assert_eq!((decoded.objects.len(), decoded.findings.len()), (100, 0));
    let limits = Limits {
        object: 500,
        ..Limits::default()
    };
    let decoded = decode_text(
        &items.concat(),
        &Origin {
            limits,
            ..Origin::default()
        },
    );
    assert_eq!(
        (decoded.objects.len(), decoded.findings.len()),
        (0, 1),
        "a bare list is no object"
    );
}
