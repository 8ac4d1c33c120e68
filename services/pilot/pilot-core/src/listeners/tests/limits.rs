//! What the mesh and the proxy say about every listener: C-157..C-159, connection settings, headers.

use envoy_api::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction as Escaped;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use serde_json::{Value, json};

use super::World;

fn world(mesh: Value) -> World {
    World::new()
        .mesh(mesh)
        .service("a.default 10.96.0.1 80:http,9000:tcp")
}

fn find(made: Vec<Listener>, name: &str) -> Listener {
    made.into_iter().find(|l| l.name == name).unwrap()
}

fn hcm(listener: &Listener) -> HttpConnectionManager {
    super::message(&listener.filter_chains[0].filters[0]).unwrap()
}

fn http(mesh: Value) -> HttpConnectionManager {
    hcm(&find(world(mesh).outbound(), "0.0.0.0_80"))
}

#[test]
fn c157_logs_of_requests_connections_and_listeners() {
    let logs = |mesh: Value| {
        let world = world(mesh);
        let (made, inbound) = (world.outbound(), world.inbound(&[("a", 80, 80)]));
        let tcp: TcpProxy =
            super::message(&find(made.clone(), "10.96.0.1_9000").filter_chains[0].filters[0])
                .unwrap();
        let catch_all = find(made.clone(), "virtualOutbound");
        let only_unrouted = catch_all.access_log.iter().chain(&inbound[0].access_log).all(|log| {
            let specifier = log.filter.as_ref().and_then(|f| f.filter_specifier.as_ref());
            matches!(specifier, Some(FilterSpecifier::ResponseFlagFilter(f)) if f.flags == ["NR"])
        });
        assert!(only_unrouted);
        [
            hcm(&find(made, "0.0.0.0_80")).access_log.len(),
            tcp.access_log.len(),
            catch_all.access_log.len(),
            inbound[0].access_log.len(),
        ]
    };
    assert_eq!(logs(json!({})), [0, 0, 0, 0]);
    assert_eq!(logs(json!({"accessLogFile": "/dev/stdout"})), [1, 1, 1, 1]);
    let quiet = json!({"accessLogFile": "/dev/stdout", "disableEnvoyListenerLog": true});
    assert_eq!(logs(quiet), [1, 1, 0, 0]);
}

#[test]
fn c158_tracing() {
    let tracing = http(json!({})).tracing.unwrap();
    assert_eq!(tracing.random_sampling.unwrap().value, 1.0);
    let tags: Vec<&str> = tracing.custom_tags.iter().map(|t| &*t.tag).collect();
    assert_eq!(
        tags,
        [
            "istio.canonical_revision",
            "istio.canonical_service",
            "istio.cluster_id",
            "istio.mesh_id",
            "istio.namespace"
        ]
    );
    let sampled = |n: f64| {
        let mesh = json!({"defaultConfig": {"tracing": {"sampling": n}}});
        http(mesh).tracing.unwrap().random_sampling.unwrap().value
    };
    assert_eq!([sampled(50.0), sampled(0.0)], [50.0, 1.0]);
    assert!(http(json!({"enableTracing": false})).tracing.is_none());
}

#[test]
fn c159_paths_before_routing() {
    let of = |normalization: &str| {
        let made = http(json!({"pathNormalization": {"normalization": normalization}}));
        let escaped = Escaped::try_from(made.path_with_escaped_slashes_action).unwrap();
        (
            made.normalize_path,
            made.merge_slashes,
            escaped.as_str_name(),
        )
    };
    assert_eq!(of("NONE"), (Some(false), false, "KEEP_UNCHANGED"));
    assert_eq!(of("DEFAULT"), (Some(true), false, "KEEP_UNCHANGED"));
    assert_eq!(of("MERGE_SLASHES"), (Some(true), true, "KEEP_UNCHANGED"));
    assert_eq!(
        of("DECODE_AND_MERGE_SLASHES"),
        (Some(true), true, "UNESCAPE_AND_FORWARD")
    );
}

#[test]
fn connection_settings_reach_listener_and_connection_manager() {
    let settings = json!({
        "listenerPerConnectionBufferLimitBytes": 1000, "httpIdleTimeout": "1s", "httpMaxConnectionDuration": "2s",
        "httpMaxStreamDuration": "3s", "httpStreamIdleTimeout": "4s", "httpRequestTimeout": "5s",
        "httpRequestHeadersTimeout": "6s", "httpDrainTimeout": "7s", "httpMaxConcurrentStreams": 8,
        "http2InitialStreamWindowSize": 65536, "httpMergeSlashes": true,
    });
    let mesh = json!({"defaultConfig": {"connectionSettings": settings}});
    let made = find(world(mesh).outbound(), "0.0.0.0_80");
    assert_eq!(made.per_connection_buffer_limit_bytes, Some(1000));
    let hcm = hcm(&made);
    let common = hcm.common_http_protocol_options.unwrap();
    let seconds = |d: Option<prost_types::Duration>| d.unwrap().seconds;
    let times = [
        common.idle_timeout,
        common.max_connection_duration,
        common.max_stream_duration,
        hcm.stream_idle_timeout,
        hcm.request_timeout,
        hcm.request_headers_timeout,
        hcm.drain_timeout,
    ];
    assert_eq!(times.map(seconds), [1, 2, 3, 4, 5, 6, 7]);
    let http2 = hcm.http2_protocol_options.unwrap();
    assert_eq!(
        (
            http2.max_concurrent_streams,
            http2.initial_stream_window_size
        ),
        (Some(8), Some(65536))
    );
    assert!(hcm.merge_slashes);
}

#[test]
fn headers_that_the_proxy_adds_or_leaves_out() {
    let headers = json!({
        "server": {"value": "mine"}, "requestId": {"disabled": true}, "envoyDebugHeaders": {"disabled": true},
        "preserveHttp1HeaderCase": true, "xForwardedPort": {"enabled": true},
        "setCurrentClientCertDetails": {"cert": true, "subject": false},
    });
    let world = world(json!({"defaultConfig": {"proxyHeaders": headers}}));
    let outbound = hcm(&find(world.outbound(), "0.0.0.0_80"));
    assert_eq!(outbound.server_name, "mine");
    assert_eq!(outbound.generate_request_id, Some(false));
    assert!(outbound.append_x_forwarded_port);
    assert!(
        outbound
            .http_protocol_options
            .unwrap()
            .header_key_format
            .is_some()
    );
    assert!(outbound.set_current_client_cert_details.is_none());
    let chains = &world.inbound(&[("a", 80, 80)])[0].filter_chains;
    let chain = chains.iter().find(|c| c.name == "0.0.0.0_80").unwrap();
    let inbound: HttpConnectionManager = super::message(&chain.filters[0]).unwrap();
    let details = inbound.set_current_client_cert_details.unwrap();
    assert_eq!(
        (details.subject, details.cert, details.dns),
        (Some(false), true, true)
    );
}

#[test]
fn istio_proxies_have_filters_that_envoy_lacks() {
    let names = |vanilla: bool| {
        let world = world(json!({"defaultProviders": {"metrics": ["prometheus"]}}))
            .proxy(|p| p.vanilla = vanilla);
        let filters = hcm(&find(world.outbound(), "0.0.0.0_80")).http_filters;
        let short = |name: &str| name.rsplit("http.").next().unwrap().to_owned();
        filters.iter().map(|f| short(&f.name)).collect::<Vec<_>>()
    };
    assert_eq!(names(true), ["grpc_stats", "fault", "cors", "router"]);
    assert_eq!(
        names(false),
        [
            "istio.metadata_exchange",
            "grpc_stats",
            "istio.alpn",
            "fault",
            "cors",
            "istio.stats",
            "router"
        ]
    );
}
