//! The operator's commands against a running mesh.

use std::collections::BTreeSet;

use e2e::cli::{Told, flotilla};
use e2e::process::fetched;
use e2e::site::HTTP;
use e2e::{Protocol, World};
use serde_json::{Value, json};

e2e::both_protocols! {
    proxy_config_tells_what_envoy_has,
    findings_name_what_is_refused,
}

/// Kinds of resources: the word of `proxy-config`, and the field of `render`.
const KINDS: [(&str, &str); 4] = [
    ("cluster", "clusters"),
    ("listener", "listeners"),
    ("route", "routes"),
    ("endpoint", "endpoints"),
];

async fn proxy_config_tells_what_envoy_has(protocol: Protocol) {
    let world = World::split("request-routing", protocol).await;
    let rendered = render(&world).await;
    let has = dump(&world).await;
    for (word, field) in KINDS {
        let told = config(&world, word, &["-o", "json"]).await.json();
        let given = names(told.as_array());
        assert!(given.len() > 1 || word == "route", "{word}: {given:?}");
        assert_eq!(given, has(word), "{word}: Pilot and Envoy");
        assert_eq!(
            names(rendered[field].as_array()),
            given,
            "{word}: offline and live"
        );
    }

    // Tables, with istioctl's columns.
    let clusters = config(&world, "cluster", &["--subset", "v2"]).await;
    assert_eq!(
        clusters.row("SERVICE FQDN"),
        [
            "SERVICE FQDN",
            "PORT",
            "SUBSET",
            "DIRECTION",
            "TYPE",
            "DESTINATION RULE"
        ]
    );
    let reviews = "reviews.default.svc.cluster.local";
    assert_eq!(
        clusters.row(reviews),
        [reviews, "9080", "v2", "outbound", "EDS", "reviews.default"]
    );
    assert_eq!(clusters.out.lines().count(), 2, "{clusters:?}");
    let ip = world.sidecar.ip.to_string();
    let listeners = config(&world, "listener", &["--type", "HTTP", "--address", &ip]).await;
    assert_eq!(
        listeners.row(&ip),
        [&ip, "9080", "ALL", "Route: 9080"],
        "{listeners:?}"
    );
    let routes = config(&world, "route", &[]).await;
    assert!(routes.out.contains("reviews.default"), "{routes:?}");
    let cluster = format!("outbound|9080|v3|{reviews}");
    let endpoints = config(&world, "endpoint", &["--cluster", &cluster]).await;
    let v3 = world.site.net.at(13, HTTP).to_string();
    assert_eq!(endpoints.row(&v3)[..2], [&*v3, "HEALTHY"], "{endpoints:?}");
    assert_eq!(endpoints.out.lines().count(), 2, "{endpoints:?}");

    // Whoever is not there is said not to be.
    let told = world
        .pilot
        .tell(&["proxy-config", "cluster", "nobody"])
        .await;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.error.contains("nobody is not connected"), "{told:?}");

    accepted_by_envoy(&world, &rendered).await;
}

/// `proxy-config` of the client's proxy.
async fn config(world: &World, word: &str, flags: &[&str]) -> Told {
    let command = [&["proxy-config", word, "client.default"], flags].concat();
    let told = world.pilot.tell(&command).await;
    assert_eq!((told.code, &*told.error), (0, ""), "{told:?}");
    told
}

/// What the client's proxy would get, offline.
async fn render(world: &World) -> Value {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let node = path(world.site.dir().join("client.bootstrap.json"));
    let (folder, mesh) = (
        path(world.site.config_dir()),
        path(world.site.mesh_config()),
    );
    let command = [
        "render",
        "--config-dir",
        &folder,
        "--mesh-config",
        &mesh,
        "--node",
        &node,
    ];
    let told = flotilla(&command).await;
    assert_eq!((told.code, &*told.error), (0, ""));
    told.json()
}

/// Names of resources as Pilot prints them.
fn names(resources: Option<&Vec<Value>>) -> BTreeSet<String> {
    let name = |resource: &Value| {
        let name = resource["name"]
            .as_str()
            .or(resource["clusterName"].as_str());
        name.unwrap_or_else(|| panic!("without name: {resource}"))
            .to_owned()
    };
    resources.expect("a list").iter().map(name).collect()
}

/// Names of what Envoy says that it has of Pilot, by kind.
async fn dump(world: &World) -> impl Fn(&str) -> BTreeSet<String> {
    let dump = world.sidecar.admin("/config_dump?include_eds").await;
    let dump: Value = serde_json::from_str(&dump.expect("a dump")).expect("JSON");
    let list = move |list: &str| {
        let configs = dump["configs"].as_array().into_iter().flatten();
        let items = configs.flat_map(|config| config[list].as_array().into_iter().flatten());
        items.cloned().collect::<Vec<_>>()
    };
    let named = |items: Vec<Value>, name: &str| -> BTreeSet<String> {
        let names = items
            .iter()
            .map(|item| item.pointer(name).and_then(Value::as_str));
        names.map(|name| name.expect("a name").to_owned()).collect()
    };
    move |kind| match kind {
        "cluster" => named(list("dynamic_active_clusters"), "/cluster/name"),
        "listener" => named(list("dynamic_listeners"), "/name"),
        "route" => named(list("dynamic_route_configs"), "/route_config/name"),
        _ => {
            // Envoy lists endpoints of every cluster; Pilot only those that are asked for.
            let mut clusters = list("dynamic_active_clusters");
            clusters.retain(|cluster| cluster["cluster"]["type"] == "EDS");
            let asked_for = named(clusters, "/cluster/name");
            let all = named(
                list("dynamic_endpoint_configs"),
                "/endpoint_config/cluster_name",
            );
            all.intersection(&asked_for).cloned().collect()
        }
    }
}

/// All that `render` prints, made a bootstrap without any server, is taken by `envoy --mode validate`.
async fn accepted_by_envoy(world: &World, rendered: &Value) {
    let list = |field: &str| {
        let mut list = rendered[field].as_array().expect("a list").clone();
        for resource in &mut list {
            resource.as_object_mut().expect("an object").remove("@type");
        }
        list
    };
    let (mut clusters, mut listeners) = (list("clusters"), list("listeners"));
    let (endpoints, routes) = (list("endpoints"), list("routes"));
    // What would be asked for is put where it is used.
    let mut used = 0;
    for cluster in clusters
        .iter_mut()
        .filter(|cluster| cluster["type"] == "EDS")
    {
        let cluster = cluster.as_object_mut().expect("an object");
        cluster.remove("edsClusterConfig");
        let own = endpoints
            .iter()
            .find(|e| e["clusterName"] == cluster["name"]);
        cluster.insert("type".into(), "STATIC".into());
        cluster.insert("loadAssignment".into(), own.expect("its endpoints").clone());
        used += 1;
    }
    assert_eq!(used, endpoints.len());
    used = 0;
    visit(&mut listeners, &mut |config| {
        if let Some(rds) = config.remove("rds") {
            let own = routes
                .iter()
                .find(|route| route["name"] == rds["routeConfigName"]);
            config.insert("routeConfig".into(), own.expect("its routes").clone());
            used += 1;
        }
    });
    assert_eq!(used, routes.len());
    let bootstrap = json!({
        "node": { "id": "validated", "cluster": "validated" },
        "staticResources": { "clusters": clusters, "listeners": listeners },
    });
    let file = world.site.dir().join("rendered.json");
    std::fs::write(&file, bootstrap.to_string()).expect("a file");
    let ran = tokio::process::Command::new(fetched("envoy"))
        .args(["--mode", "validate", "--log-level", "warning", "-c"])
        .arg(&file)
        .kill_on_drop(true)
        .output()
        .await
        .expect("envoy");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{bootstrap:#}");
}

/// Shows every object within some values to a function.
fn visit(values: &mut [Value], look: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    for value in values {
        match value {
            Value::Array(values) => visit(values, look),
            Value::Object(object) => {
                look(object);
                for value in object.values_mut() {
                    visit(std::slice::from_mut(value), look);
                }
            }
            _ => {}
        }
    }
}

async fn findings_name_what_is_refused(protocol: Protocol) {
    let mut world = World::split("bad-yaml", protocol).await;
    let galley = world.galley().http.to_string();
    let findings = ["findings", "--galley", &galley];
    let none = flotilla(&findings).await;
    assert_eq!((none.code, none.out.lines().count()), (0, 1), "{none:?}");

    // One object of the file is refused, the other is in force.
    world.edit("routes.yaml").await;
    let client = world.client();
    assert_eq!(client.get("ratings:9080", "/").await.status, 418);
    let last_good = client.get("reviews:9080", "/").await;
    assert_eq!(last_good.backend(), "reviews-v2");
    let told = flotilla(&findings).await;
    let row = told.row("error");
    assert_eq!(row[2..4], ["VirtualService", "reviews.default"], "{told:?}");
    assert!(row[4].contains("config/routes.yaml:1"), "{told:?}");
    assert_eq!(row[5], "spec.http[0].timeout", "{told:?}");
    let told = flotilla(&[&findings[..], &["-o", "json"]].concat())
        .await
        .json();
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(told[0]["path"], "spec.http[0].timeout");
    let elsewhere = flotilla(&[&findings[..], &["-n", "shop", "-o", "json"]].concat()).await;
    assert_eq!(elsewhere.json(), json!([]));

    // The same, before it is put there.
    let folder = world.site.config_dir().display().to_string();
    let told = flotilla(&["validate", "-f", &folder]).await;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.out.contains("spec.http[0].timeout"), "{told:?}");

    // Mended, nothing is left to tell.
    let good = e2e::site::suite_file("bad-yaml", "config/routes.yaml");
    world.change(|site| site.put("routes.yaml", &good)).await;
    assert_eq!(flotilla(&findings).await, none);
}
