use expect_test::expect;
use serde_json::Value;

use super::*;
use crate::options::{Sources, read};

fn places() -> Places {
    Places {
        admin: ([127, 0, 0, 1], 15_000).into(),
        status: ([0, 0, 0, 0], 15_021).into(),
        prometheus: ([0, 0, 0, 0], 15_090).into(),
        agent: ([0, 0, 0, 0], 15_020).into(),
        xds: "/etc/istio/proxy/XDS".into(),
        sds: "/var/run/secrets/workload-spiffe-uds/socket".into(),
        files: None,
        external: None,
        identity: true,
    }
}

fn made(pairs: &[(&str, &str)], places: &Places) -> Value {
    let vars = [("POD_NAME", "web-1"), ("INSTANCE_IP", "10.0.0.7")];
    let vars = vars.iter().chain(pairs);
    let options = read(&Sources {
        vars: vars
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    })
    .unwrap();
    json(&options, places).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn the_node_says_who_and_that_an_agent_is_there() {
    let found = made(&[("ISTIO_META_CLUSTER_ID", "c1")], &places());
    expect![[r#"
        {
          "id": "sidecar~10.0.0.7~web-1.default~default.svc.cluster.local",
          "cluster": "istio-proxy.default",
          "metadata": {
            "CLUSTER_ID": "c1",
            "ENVOY_PROMETHEUS_PORT": "15090",
            "ENVOY_STATUS_PORT": "15021",
            "INSTANCE_IPS": "10.0.0.7",
            "ISTIO_VERSION": "1.31.0",
            "NAME": "web-1"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&found["node"]).unwrap());
    let without = Places {
        identity: false,
        ..places()
    };
    let found = made(&[("ISTIO_META_ISTIO_VERSION", "1.20.0")], &without);
    assert_eq!(found["node"]["metadata"]["ISTIO_VERSION"], Value::Null);
    let found = made(&[("ISTIO_META_ISTIO_VERSION", "1.20.0")], &places());
    assert_eq!(found["node"]["metadata"]["ISTIO_VERSION"], "1.20.0");
}

#[test]
fn clusters_and_listeners_are_the_few_that_are_needed() {
    let found = made(&[], &places());
    let fixed = &found["staticResources"];
    assert_eq!(
        names(&fixed["clusters"]),
        ["prometheus_stats", "agent", "sds-grpc", "xds-grpc"]
    );
    assert_eq!(
        names(&fixed["listeners"]),
        ["prometheus-15090", "health-15021"]
    );
    let more = Places {
        files: Some("/f".into()),
        external: Some("/e".into()),
        ..places()
    };
    let found = made(
        &[
            ("ENVOY_SECURE_METRICS_PORT", "15091"),
            ("ENVOY_SECURE_MERGED_METRICS_PORT", "15092"),
        ],
        &more,
    );
    let fixed = &found["staticResources"];
    assert_eq!(
        names(&fixed["clusters"])[4..],
        ["sds-files-grpc", "sds-external"]
    );
    assert_eq!(
        names(&fixed["listeners"])[2..],
        ["secure-metrics-15091", "secure-metrics-15092"]
    );
}

#[test]
fn the_stream_is_delta_unless_said_otherwise() {
    let api = |pairs: &[(&str, &str)]| {
        made(pairs, &places())["dynamicResources"]["adsConfig"]["apiType"].clone()
    };
    assert_eq!(api(&[]), "DELTA_GRPC");
    // The first value of the enumeration is not printed: REST has another one.
    assert_eq!(api(&[("ISTIO_DELTA_XDS", "false")]), "GRPC");
}

#[test]
fn equal_options_make_equal_bytes() {
    let text = || serde_json::to_string(&made(&[], &places())).unwrap();
    assert_eq!(text(), text());
}

#[test]
fn a_pod_of_both_families_listens_on_both() {
    let also = |ips: &str| {
        let found = made(&[("INSTANCE_IP", ips)], &places());
        found["staticResources"]["listeners"][1]["additionalAddresses"].clone()
    };
    assert_eq!(also("10.0.0.7"), Value::Null);
    assert_eq!(
        also("10.0.0.7,fd00::7")[0]["address"]["socketAddress"],
        serde_json::json!({"address": "::", "portValue": 15021})
    );
}

/// Messages that are encoded here by hand are those that Envoy knows.
#[test]
fn extensions_are_what_their_names_say() {
    let limit = "{runtimeValues: {overload.global_downstream_max_connections: '10'}}";
    let found = made(&[("PROXY_CONFIG", limit)], &places());
    assert_eq!(
        found["overloadManager"]["resourceMonitors"][0]["typedConfig"],
        serde_json::json!({
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "maxActiveDownstreamConnections": "10",
        })
    );
    assert_eq!(
        found["bootstrapExtensions"][0]["typedConfig"]["bufferSizeKb"],
        64
    );
    let filters = &found["staticResources"]["listeners"][0]["filterChains"][0]["filters"][0]["typedConfig"]
        ["httpFilters"];
    assert_eq!(
        filters[0]["typedConfig"]["compressorLibrary"],
        serde_json::json!({
            "name": "brotli",
            "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.compression.brotli.compressor.v3.Brotli"},
        })
    );
}

#[test]
fn the_agent_is_reached_by_the_family_it_listens_on() {
    let at = |agent: &str| {
        let places = Places {
            agent: agent.parse().unwrap(),
            ..places()
        };
        let found = made(&[], &places);
        found["staticResources"]["clusters"][1]["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]
            ["endpoint"]["address"]["socketAddress"]["address"]
            .clone()
    };
    assert_eq!(at("0.0.0.0:15020"), "127.0.0.1");
    assert_eq!(at("[::]:15020"), "::1");
    assert_eq!(at("127.77.0.1:15020"), "127.77.0.1");
}

#[test]
fn buckets_of_histograms_come_from_the_annotation() {
    let annotations = |text: &str| {
        let json = serde_json::json!({"sidecar.istio.io/statsHistogramBuckets": text}).to_string();
        made(&[("ISTIO_METAJSON_ANNOTATIONS", &json)], &places())["statsConfig"]
            ["histogramBucketSettings"]
            .clone()
    };
    assert_eq!(
        annotations(r#"{"istiocustom": [5, 1, 0.5, 5]}"#),
        serde_json::json!([{"match": {"prefix": "istiocustom"}, "buckets": [0.5, 1, 5]}])
    );
    for nothing in ["", "x", "[1]", r#"{"a": ["x"]}"#, r#"{"a": [-1]}"#] {
        assert_eq!(annotations(nothing), Value::Null, "{nothing}");
    }
}
