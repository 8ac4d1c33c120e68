//! Commands that need no mesh, as a user types them.

#![allow(
    clippy::disallowed_methods,
    reason = "starts processes and waits for them outside of any runtime"
)]
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

mod support;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{FLOTILLA, await_that, flotilla, folder, get};

const GOOD: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
";

const BAD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example]
  http:
    - timeout: soon
      route: [{destination: {host: web.example}, wait: 100}]
";

const NODE: &str = "sidecar~10.0.0.2~client.shop~shop.svc.cluster.local";

#[test]
fn says_its_version() {
    let (code, out, _) = flotilla(&["--version"], &[]);
    assert_eq!(
        (code, out.trim()),
        (0, concat!("flotilla ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn good_files_are_good() {
    let dir = folder(&[("a/web.yaml", GOOD)]);
    let (code, out, error) = flotilla(&["validate", "-f", dir.path().to_str().unwrap()], &[]);
    assert_eq!((code, &*out), (0, ""), "{error}");
    assert_eq!(error.trim(), "1 object in 1 file is good, 0 findings");
}

#[test]
fn every_mistake_has_a_line_and_the_exit_code_is_1() {
    let dir = folder(&[("good.yaml", GOOD), ("bad.yaml", BAD)]);
    let file = dir.path().join("bad.yaml").display().to_string();
    let (code, out, error) = flotilla(&["validate", "-f", dir.path().to_str().unwrap()], &[]);
    assert_eq!(code, 1, "{out}{error}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    for line in &lines {
        let start = format!("{file}:1: error: VirtualService shop/web: spec.http[0].");
        assert!(line.starts_with(&start), "{line}");
    }
    assert!(
        out.contains("spec.http[0].timeout: ") && out.contains("\"soon\""),
        "{out}"
    );
    assert!(out.contains("spec.http[0].route[0].wait: "), "{out}");

    let (code, out, _) = flotilla(&["validate", "-f", &file, "-o", "json"], &[]);
    assert_eq!(code, 1);
    let all: Value = serde_json::from_str(&out).unwrap();
    let first = &all[0];
    for (field, want) in [
        ("file", &*file),
        ("kind", "VirtualService"),
        ("namespace", "shop"),
        ("name", "web"),
        ("level", "error"),
    ] {
        assert_eq!(first[field], want, "{first}");
    }
    for field in ["path", "code", "message"] {
        assert!(
            first[field].as_str().is_some_and(|text| !text.is_empty()),
            "{first}"
        );
    }
}

#[test]
fn an_object_in_two_files_is_told() {
    let dir = folder(&[("a.yaml", GOOD), ("b.yaml", GOOD)]);
    let (code, out, error) = flotilla(&["validate", "-f", dir.path().to_str().unwrap()], &[]);
    assert_eq!(code, 1, "{error}");
    let second = format!(
        "{}/b.yaml: error: ServiceEntry shop/web: ",
        dir.path().display()
    );
    assert!(out.starts_with(&second), "{out}");
    assert!(
        out.contains("a.yaml already") && out.ends_with("[duplicate-object]\n"),
        "{out}"
    );
}

#[test]
fn mesh_settings_and_the_standard_input_are_checked() {
    let dir = folder(&[("mesh.yaml", "trustDomian: x\n")]);
    let mesh = dir.path().join("mesh.yaml").display().to_string();
    let (code, out, _) = flotilla(&["validate", "--mesh-config", &mesh], &[]);
    assert_eq!(code, 1);
    assert!(out.contains("did you mean trustDomain?"), "{out}");

    let mut child = Command::new(FLOTILLA)
        .args(["validate", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(BAD.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("spec.http[0].timeout: "), "{out}");
}

#[test]
fn wrong_usage_is_2_and_a_file_that_is_not_there_is_no_good_file() {
    for usage in [
        &["validate"][..],
        &["validate", "-f", "x", "-o", "xml"],
        &["proxy-config", "route", "a.b", "--subset", "v1"],
        &["frobnicate"],
        &["render", "--config-dir", "x"],
        &["up", "--network", "10.0.0"],
    ] {
        let (code, _, error) = flotilla(usage, &[]);
        assert_eq!(code, 2, "{usage:?}: {error}");
    }
    let (code, _, error) = flotilla(&["validate", "-f", "/no/such.yaml"], &[]);
    assert!(
        code == 1 && error.contains("-f /no/such.yaml"),
        "{code} {error}"
    );
}

#[test]
fn render_prints_what_a_proxy_would_get() {
    let dir = folder(&[("web.yaml", GOOD), ("bad.yaml", BAD)]);
    let dir = dir.path().to_str().unwrap();
    let (code, out, error) = flotilla(&["render", "--configDir", dir, "--node", NODE], &[]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("spec.http[0].timeout"), "{error}");
    let all: Value = serde_json::from_str(&out).unwrap();
    let names = |kind: &str| -> Vec<String> {
        let list = all[kind].as_array().unwrap();
        list.iter()
            .map(|resource| {
                assert!(
                    resource["@type"]
                        .as_str()
                        .unwrap()
                        .starts_with("type.googleapis.com/envoy.")
                );
                let name = resource["name"]
                    .as_str()
                    .or(resource["clusterName"].as_str());
                name.unwrap().to_owned()
            })
            .collect()
    };
    assert!(names("clusters").contains(&"outbound|80||web.example".to_owned()));
    assert!(names("endpoints").contains(&"outbound|80||web.example".to_owned()));
    assert!(names("routes").contains(&"80".to_owned()));
    assert!(names("listeners").contains(&"0.0.0.0_80".to_owned()));
    assert_eq!(all["secrets"], serde_json::json!([]));

    // The same node from a bootstrap, and YAML out.
    let node = folder(&[("envoy.yaml", &format!("node: {{id: \"{NODE}\"}}\n"))]);
    let file = node.path().join("envoy.yaml");
    let flags = [
        "render",
        "--config-dir",
        dir,
        "--node",
        file.to_str().unwrap(),
        "-o",
        "yaml",
    ];
    let (code, yaml, error) = flotilla(&flags, &[]);
    assert_eq!(code, 0, "{error}");
    let again: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(again, all);

    let (code, _, error) = flotilla(&["render", "--config-dir", dir, "--node", "web"], &[]);
    assert!(
        code == 1 && error.contains("neither a file nor a node id"),
        "{error}"
    );
}

#[test]
fn a_service_that_is_not_there_is_said_so() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    for (command, variable) in [
        ("proxy-status", "FLOTILLA_PILOT"),
        ("findings", "FLOTILLA_GALLEY"),
    ] {
        let (code, _, error) = flotilla(&[command], &[(variable, &address)]);
        assert_eq!(code, 1);
        assert!(
            error.contains(&address) && error.contains("cannot be reached"),
            "{error}"
        );
    }
}

/// A service of the program under test; killed when dropped.
struct Service(Child);

impl Service {
    /// Starts it, and waits for the addresses it listens on.
    fn start(arguments: &[&str], ports: &std::path::Path) -> (Service, Value) {
        let service = Command::new(FLOTILLA)
            .args(arguments)
            .args(["--ports-file", ports.to_str().unwrap()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut addresses = Value::Null;
        await_that("the ports file", || {
            let text = std::fs::read(ports).unwrap_or_default();
            addresses = serde_json::from_slice(&text).unwrap_or_default();
            addresses.is_object()
        });
        (Service(service), addresses)
    }

    fn stop(mut self) {
        let pid = Pid::from_raw(self.0.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn services_take_the_old_spellings() {
    let dir = folder(&[("config/web.yaml", GOOD)]);
    let config = dir.path().join("config");
    let any = "127.0.0.1:0";
    let (pilot, addresses) = Service::start(
        &[
            "pilot",
            "discovery",
            "--grpcAddr",
            any,
            "--httpAddr",
            any,
            "--monitoringAddr",
            any,
            "--log_output_level",
            "default:warn",
            "--configDir",
            config.to_str().unwrap(),
        ],
        &dir.path().join("pilot.json"),
    );
    let monitoring = addresses["monitoring"].as_str().unwrap();
    await_that("readiness", || get(monitoring, "/ready").0 == 200);
    let http = addresses["http"].as_str().unwrap();
    let (code, out, error) = flotilla(&["wait", "--revision", "1", "--pilot", http], &[]);
    assert_eq!(
        (code, out.trim()),
        (0, "revision 1 is live on 0 of 0 proxies"),
        "{error}"
    );
    pilot.stop();

    let store = format!("sqlite://{}", dir.path().join("galley.db").display());
    let (galley, addresses) = Service::start(
        &[
            "galley",
            "server",
            "--configPath",
            config.to_str().unwrap(),
            "--store",
            &store,
            "--grpcAddr",
            any,
            "--httpAddr",
            any,
            "--monitoringAddr",
            any,
        ],
        &dir.path().join("galley.json"),
    );
    let monitoring = addresses["monitoring"].as_str().unwrap();
    await_that("readiness", || get(monitoring, "/ready").0 == 200);
    std::fs::write(config.join("bad.yaml"), BAD).unwrap();
    let http = addresses["http"].as_str().unwrap();
    let mut found = String::new();
    await_that("the finding", || {
        let (code, out, error) = flotilla(&["findings", "--galley", http], &[]);
        assert_eq!(code, 0, "{error}");
        found = out;
        found.contains("web.shop")
    });
    assert!(found.contains("spec.http[0].timeout"), "{found}");
    galley.stop();
}

#[test]
fn serve_xds_serves_a_folder_as_it_is() {
    let cluster = "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\nname: mine\n";
    let dir = folder(&[("xds/cluster.yaml", cluster)]);
    let folder = dir.path().join("xds");
    let any = "127.0.0.1:0";
    let (server, addresses) = Service::start(
        &[
            "serve-xds",
            folder.to_str().unwrap(),
            "--grpc-addr",
            any,
            "--http-addr",
            any,
            "--monitoring-addr",
            any,
        ],
        &dir.path().join("ports.json"),
    );
    let http = addresses["http"].as_str().unwrap();
    let (code, out, error) = flotilla(&["ps", "--pilot", http, "-o", "json"], &[]);
    assert_eq!(code, 0, "{error}");
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["pilots"][0]["revision"], 1, "{status}");
    // An edit is the next revision.
    std::fs::write(
        folder.join("cluster.yaml"),
        cluster.replace("mine", "other"),
    )
    .unwrap();
    await_that("the second revision", || {
        get(http, "/v1/revision").1.contains("\"revision\":2")
    });
    server.stop();

    let (code, _, error) = flotilla(&["serve-xds", "/no/such/folder"], &[]);
    assert!(code == 1 && error.contains("/no/such/folder"), "{error}");
}

const POLICY: &str = "\
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: shop}
spec:
  ingress: [{port: {number: 8080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:80'}]
  egress: [{hosts: ['*/*']}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]
    to: [{operation: {methods: [GET]}}]
";

#[test]
fn policies_are_listed_and_decide_about_a_request() {
    let dir = folder(&[("web.yaml", POLICY)]);
    let files = ["--config-dir", dir.path().to_str().unwrap(), "--node", NODE];
    let check = |more: &[&str]| {
        let args = [&["authz", "check"], &files[..], more].concat();
        flotilla(&args, &[])
    };
    let (code, out, error) = check(&[]);
    assert_eq!(code, 0, "{error}");
    let row = |line: &&str| {
        line.contains("8080") && line.contains("ALLOW") && line.contains("shop/readers")
    };
    assert!(out.lines().any(|line| row(&line)), "{out}");
    let web = "--port 8080 --from spiffe://cluster.local/ns/shop/sa/web";
    fn words(text: &str) -> Vec<&str> {
        text.split(' ').collect()
    }
    let (code, out, _) = check(&words(web));
    assert!(
        code == 1 && out.contains("nobody shows a certificate here"),
        "without an agent there is no mutual TLS, and nobody has a name: {out}"
    );
    let (code, out, _) = check(&["--port", "8080", "--method", "GET"]);
    assert!(
        code == 1 && out.contains("refused: no policy allows it"),
        "{out}"
    );
    // With an agent, in every mode.
    let node = format!("{{id: {NODE}, metadata: {{ISTIO_VERSION: 1.29.0}}}}");
    let with = |mode: &str, more: &[&str]| {
        let peer = format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: p, namespace: shop}}, spec: {{mtls: {{mode: {mode}}}}}}}"
        );
        let dir = folder(&[("web.yaml", POLICY), ("peer.yaml", &peer)]);
        let file = folder(&[("node.yaml", &node)]);
        let file = file.path().join("node.yaml");
        let config = ["--config-dir", dir.path().to_str().unwrap()];
        let node = ["--node", file.to_str().unwrap()];
        let (code, out, error) = flotilla(
            &[&["authz", "check"], &config[..], &node, more].concat(),
            &[],
        );
        (code, out + &error)
    };
    for mode in ["PERMISSIVE", "STRICT"] {
        let (code, out) = with(mode, &words(web));
        assert!(
            code == 0 && out.contains("allowed by shop/readers"),
            "{mode}: {out}"
        );
    }
    let (code, out) = with("STRICT", &["--port", "8080", "--method", "GET"]);
    assert!(
        code == 1 && out.contains("refused: takes mutual TLS alone"),
        "{out}"
    );
    let (code, out) = with("PERMISSIVE", &["--port", "8080", "--method", "GET"]);
    assert!(
        code == 1 && out.contains("not for it: takes mutual TLS alone"),
        "{out}"
    );
    // A port that nobody declares, where nobody knows whether it is HTTP.
    let (code, out) = with("STRICT", &words(&web.replace("8080", "9999")));
    let both = ["allowed by shop/readers", "refused: no policy allows it"];
    assert!(
        code == 1 && both.iter().all(|said| out.contains(said)),
        "{out}"
    );
    let (code, _, error) = check(&["--from", "web"]);
    assert!(code == 1 && error.contains("no SPIFFE ID"), "{error}");
}
