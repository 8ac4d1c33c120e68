use expect_test::{Expect, expect};
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::any::pack;
use crate::envoy::config::cluster::v3::Cluster;
use crate::envoy::config::core::v3::{Http2ProtocolOptions, Metadata, TypedExtensionConfig};
use crate::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use crate::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use crate::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use crate::type_url;

const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn cluster() -> Cluster {
    let http = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
                    max_concurrent_streams: Some(7),
                    ..Http2ProtocolOptions::default()
                })),
            },
        )),
        ..HttpProtocolOptions::default()
    };
    let number = |number| prost_types::Value {
        kind: Some(prost_types::value::Kind::NumberValue(number)),
    };
    let fields = [("b".to_owned(), number(0.5)), ("a".to_owned(), number(3.0))].into();
    Cluster {
        name: "outbound|80||cart.shop".into(),
        connect_timeout: Some(prost_types::Duration {
            seconds: 1,
            nanos: 500_000_000,
        }),
        metadata: Some(Metadata {
            filter_metadata: [("flotilla".to_owned(), prost_types::Struct { fields })].into(),
            ..Metadata::default()
        }),
        typed_extension_protocol_options: [(HTTP.to_owned(), pack(&http))].into(),
        ..Cluster::default()
    }
}

#[test]
fn a_cluster_prints_in_field_order_with_the_type_first() {
    let got = to_json(type_url::CLUSTER, &cluster().encode_to_vec()).unwrap();
    expect![[r#"
        {
          "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
          "name": "outbound|80||cart.shop",
          "connectTimeout": "1.500s",
          "metadata": {
            "filterMetadata": {
              "flotilla": {
                "a": 3,
                "b": 0.5
              }
            }
          },
          "typedExtensionProtocolOptions": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
              "explicitHttpConfig": {
                "http2ProtocolOptions": {
                  "maxConcurrentStreams": 7
                }
              }
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&got).unwrap());
}

#[test]
fn a_cluster_survives_the_round_trip_to_the_byte() {
    let bytes = cluster().encode_to_vec();
    let json = to_json(type_url::CLUSTER, &bytes).unwrap();
    assert_eq!(
        from_json(&json).unwrap(),
        (type_url::CLUSTER.to_owned(), bytes)
    );
}

#[test]
fn spelling_and_order_do_not_change_the_bytes() {
    let camel = json!({"@type": type_url::CLUSTER, "connectTimeout": "2s", "name": "a",
        "altStatName": null, "metadata": {"filterMetadata": {"x": {}, "y": {"k": null}}}});
    let snake = json!({"metadata": {"filter_metadata": {"y": {"k": null}, "x": {}}}, "name": "a",
        "@type": type_url::CLUSTER, "connect_timeout": "2.0s"});
    assert_eq!(from_json(&camel).unwrap(), from_json(&snake).unwrap());
}

#[track_caller]
fn errors(value: Value, want: Expect) {
    let errors = from_json(&value).expect_err("it parses");
    let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    want.assert_eq(&lines.join("\n"));
}

#[test]
fn every_mistake_is_found_and_has_a_path() {
    errors(
        json!({
            "@type": type_url::CLUSTER,
            "nmae": "a",
            "type": "STRICT_DSN",
            "connectTimeout": "soon",
            "perConnectionBufferLimitBytes": -1,
            "altStatName": 7,
            "maxRequestsPerConnection": 5,
            "max_requests_per_connection": 6,
            "clusterType": {"name": "x"},
            "filters": {"a": 1},
            "dnsResolvers": [{"socketAddress": {"address": "1.1.1.1", "portValue": 1, "namedPort": "x"}}, {"pipe": []}],
            "typedExtensionProtocolOptions": {HTTP: {
                "@type": format!("type.googleapis.com/{HTTP}"),
                "explicitHttpConfig": {"http2ProtocolOptions": {"maxStreams": 1}},
            }},
            "transportSocket": {"name": "tls", "typedConfig": {"@type": "type.googleapis.com/envoy.Tsl"}},
        }),
        expect![[r#"
            nmae: envoy.config.cluster.v3.Cluster has no such field
            type: "STRICT_DSN" is no value of envoy.config.cluster.v3.Cluster.DiscoveryType
            connectTimeout: got "soon", want a duration in seconds, such as "1.5s"
            perConnectionBufferLimitBytes: got -1, want a 32-bit integer of 0 or more
            altStatName: got 7, want a string
            max_requests_per_connection: is given twice
            filters: got an object, want a list
            dnsResolvers[0].socketAddress.namedPort: excludes portValue, which is set too
            dnsResolvers[1].pipe: got a list, want an object
            typedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].explicitHttpConfig.http2ProtocolOptions.maxStreams: envoy.config.core.v3.Http2ProtocolOptions has no such field
            transportSocket.typedConfig.@type: unknown type "type.googleapis.com/envoy.Tsl", want something like "type.googleapis.com/envoy.config.cluster.v3.Cluster""#]],
    );
}

#[test]
fn a_resource_without_a_type_is_refused() {
    errors(
        json!({"name": "a"}),
        expect!["@type: got nothing, want a type URL"],
    );
    errors(json!([]), expect![".: got a list, want an object"]);
    errors(
        json!({"@type": "envoy.config.cluster.v3.Cluster"}),
        expect![[
            r#"@type: unknown type "envoy.config.cluster.v3.Cluster", want something like "type.googleapis.com/envoy.config.cluster.v3.Cluster""#
        ]],
    );
}

#[test]
fn depth_is_bounded() {
    let mut deep = json!({});
    for _ in 0..500 {
        deep = json!([deep]);
    }
    errors(
        json!({"@type": type_url::CLUSTER, "metadata": deep}),
        expect![".: is nested more than 100 levels deep"],
    );
}

#[test]
fn bytes_that_nest_without_end_are_malformed() {
    let mut bytes = Vec::new();
    for _ in 0..2_000 {
        // Value { list_value: ListValue { values: [what was so far] } }
        let mut outer = Vec::new();
        prost::encoding::bytes::encode(1, &bytes, &mut outer);
        bytes.clear();
        prost::encoding::bytes::encode(6, &outer, &mut bytes);
    }
    assert!(matches!(
        to_json("x/google.protobuf.Value", &bytes),
        Err(PrintError::Malformed(_))
    ));
}

/// Every byte of a resource replaced: nothing panics, and what can be read back is printed the same again.
#[test]
fn damaged_bytes_print_or_fail() {
    let whole = cluster().encode_to_vec();
    for at in 0..whole.len() {
        for flip in [0x01, 0x02, 0x08, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            let Ok(first) = to_json(type_url::CLUSTER, &bytes) else {
                continue;
            };
            if let Ok((url, bytes)) = from_json(&first) {
                assert_eq!(to_json(&url, &bytes), Ok(first));
            }
        }
    }
}

#[test]
fn errors_are_bounded() {
    let mut object = serde_json::Map::new();
    object.insert("@type".into(), type_url::CLUSTER.into());
    object.extend((0..1000).map(|n| (format!("wrong{n}"), Value::Null)));
    let errors = from_json(&Value::Object(object)).expect_err("it parses");
    assert_eq!(errors.0.len(), JsonErrors::MAX);
}

#[test]
fn a_well_known_type_in_an_any_has_its_value_beside_the_type() {
    let extension = TypedExtensionConfig {
        name: "x".into(),
        typed_config: Some(any("google.protobuf.Duration", &[8, 3])),
    };
    let json = to_json(type_url::EXTENSION_CONFIG, &extension.encode_to_vec()).unwrap();
    assert_eq!(
        json["typedConfig"],
        json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"})
    );
    assert_eq!(from_json(&json).unwrap().1, extension.encode_to_vec());
}

fn any(name: &str, value: &[u8]) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("{}{name}", type_url::PREFIX),
        value: value.to_vec(),
    }
}

#[test]
fn what_cannot_be_opened_is_shown_closed_and_not_read_back() {
    for closed in [
        any("istio.later.v1.Unknown", &[1, 2]),
        any("envoy.config.cluster.v3.Cluster", &[255]),
    ] {
        let extension = TypedExtensionConfig {
            name: "x".into(),
            typed_config: Some(closed),
        };
        let json = to_json(type_url::EXTENSION_CONFIG, &extension.encode_to_vec()).unwrap();
        assert!(json["typedConfig"]["value"].is_string(), "{json}");
        assert!(from_json(&json).is_err());
    }
    assert!(matches!(
        to_json("x/y.Z", &[]),
        Err(PrintError::UnknownType(_))
    ));
    assert!(matches!(
        to_json(type_url::CLUSTER, &[255]),
        Err(PrintError::Malformed(_))
    ));
}

/// Every form of a number, through messages that hold one of each.
#[test]
fn numbers_keep_their_value() {
    let read = |kind: &str, value: Value| {
        let typed =
            json!({"@type": format!("{}google.protobuf.{kind}", type_url::PREFIX), "value": value});
        let (url, bytes) = from_json(&typed).ok()?;
        Some(to_json(&url, &bytes).unwrap()["value"].clone())
    };
    assert_eq!(read("UInt32Value", json!("7")), Some(json!(7)));
    assert_eq!(read("UInt32Value", json!(4_294_967_296_u64)), None);
    assert_eq!(read("Int32Value", json!(-2.0)), Some(json!(-2)));
    assert_eq!(read("Int32Value", json!(0.5)), None);
    assert_eq!(
        read("UInt64Value", json!(u64::MAX)),
        Some(json!("18446744073709551615"))
    );
    assert_eq!(
        read("Int64Value", json!("-9223372036854775808")),
        Some(json!("-9223372036854775808"))
    );
    assert_eq!(read("FloatValue", json!(0.1)), Some(json!(0.1)));
    assert_eq!(read("FloatValue", json!(1e300)), None);
    assert_eq!(
        read("DoubleValue", json!("-Infinity")),
        Some(json!("-Infinity"))
    );
    assert_eq!(read("BytesValue", json!("-_8")), Some(json!("+/8=")));
    assert_eq!(read("BytesValue", json!("%")), None);
    assert_eq!(read("BoolValue", json!("true")), None);
    assert_eq!(read("StringValue", json!(1)), None);
    assert_eq!(
        read("Value", json!([1, null, {"a": "b"}])),
        Some(json!([1, null, {"a": "b"}]))
    );
    assert_eq!(read("Duration", json!("315576000001s")), None);
}
