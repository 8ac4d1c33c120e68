//! Real Envoy takes what we make: `envoy --mode validate` over the RouteConfigurations of a rich mesh, each in a listener of its own.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::*;
use crate::generate::render;
use crate::testing::router;

const MESH: &str = include_str!("accepted.yaml");

fn envoy() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../.cache/bin/envoy");
    assert!(
        path.exists(),
        "{} is missing: run e2e/tools/setup.sh",
        path.display()
    );
    path
}

/// A listener with a RouteConfiguration written into it, on any port.
fn listener(config: Value) -> Value {
    let filter = |name: &str, message: &str| json!({"name": name, "typedConfig": {"@type": format!("type.googleapis.com/envoy.extensions.filters.http.{message}")}});
    json!({
        "name": config["name"],
        "address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}},
        "filterChains": [{"filters": [{"name": "http", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "statPrefix": "http",
            "routeConfig": config,
            "httpFilters": [
                filter("envoy.filters.http.fault", "fault.v3.HTTPFault"),
                filter("envoy.filters.http.cors", "cors.v3.Cors"),
                filter("envoy.filters.http.router", "router.v3.Router"),
            ],
        }}]}],
    })
}

#[track_caller]
fn check_accepted(proxy: &Proxy) {
    let rendered = render(&World::new(MESH).mesh, proxy);
    assert!(rendered.routes.len() >= 3, "{:?}", rendered.routes);
    let configs = rendered.routes.iter().map(|config| {
        let any = envoy_api::any::Any::decode(config.any()).unwrap();
        let mut value = envoy_api::json::to_json(&any.type_url, &any.value).unwrap();
        value.as_object_mut().unwrap().remove("@type");
        listener(value)
    });
    let bootstrap = json!({"staticResources": {"listeners": configs.collect::<Vec<_>>()}});
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    file.write_all(bootstrap.to_string().as_bytes()).unwrap();
    let run = Command::new(envoy())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&run.stdout)
    );
    assert!(!said.contains("unknown field"), "{said}");
}

#[test]
fn routes_of_sidecars() {
    check_accepted(&sidecar("default"));
    check_accepted(&sidecar("other"));
    let six = Proxy {
        addresses: vec!["fd00::1".parse().unwrap()],
        ..sidecar("default")
    };
    check_accepted(&six);
}

#[test]
fn routes_of_routers() {
    check_accepted(&router("default"));
}
