//! Compiles Envoy's messages from the descriptor set that the `envoy-types` package ships.
//!
//! That package is never compiled, only downloaded: its own generated code keeps protobuf maps in hash maps, so equal
//! messages would encode to different bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Package that ships the descriptors, and the version this build was written against.
const PACKAGE: (&str, &str) = ("envoy-types", "0.7.7");

/// Proto packages whose messages become Rust types, each with everything below it. What they import comes along.
const ROOTS: &[&str] = &[
    "envoy.config.accesslog",
    "envoy.config.bootstrap",
    "envoy.config.cluster",
    "envoy.config.core",
    "envoy.config.endpoint",
    "envoy.config.listener",
    "envoy.config.metrics",
    "envoy.config.rbac",
    "envoy.config.route",
    "envoy.config.trace",
    "envoy.extensions.access_loggers.file",
    "envoy.extensions.access_loggers.filters.cel",
    "envoy.extensions.access_loggers.grpc",
    "envoy.extensions.access_loggers.open_telemetry",
    "envoy.extensions.access_loggers.stream",
    "envoy.extensions.bootstrap.internal_listener",
    "envoy.extensions.clusters.aggregate",
    "envoy.extensions.clusters.dns",
    "envoy.extensions.clusters.dynamic_forward_proxy",
    "envoy.extensions.clusters.original_dst",
    "envoy.extensions.compression.brotli",
    "envoy.extensions.compression.gzip",
    "envoy.extensions.filters.http.buffer",
    "envoy.extensions.filters.http.composite",
    "envoy.extensions.filters.http.compressor",
    "envoy.extensions.filters.http.cors",
    "envoy.extensions.filters.http.csrf",
    "envoy.extensions.filters.http.decompressor",
    "envoy.extensions.filters.http.dynamic_forward_proxy",
    "envoy.extensions.filters.http.ext_authz",
    "envoy.extensions.filters.http.ext_proc",
    "envoy.extensions.filters.http.fault",
    "envoy.extensions.filters.http.grpc_http1_bridge",
    "envoy.extensions.filters.http.grpc_stats",
    "envoy.extensions.filters.http.grpc_web",
    "envoy.extensions.filters.http.header_mutation",
    "envoy.extensions.filters.http.health_check",
    "envoy.extensions.filters.http.jwt_authn",
    "envoy.extensions.filters.http.local_ratelimit",
    "envoy.extensions.filters.http.lua",
    "envoy.extensions.filters.http.on_demand",
    "envoy.extensions.filters.http.original_src",
    "envoy.extensions.filters.http.ratelimit",
    "envoy.extensions.filters.http.rbac",
    "envoy.extensions.filters.http.router",
    "envoy.extensions.filters.http.set_filter_state",
    "envoy.extensions.filters.http.set_metadata",
    "envoy.extensions.filters.http.stateful_session",
    "envoy.extensions.filters.http.upstream_codec",
    "envoy.extensions.filters.http.wasm",
    "envoy.extensions.filters.listener",
    "envoy.extensions.filters.network.connection_limit",
    "envoy.extensions.filters.network.direct_response",
    "envoy.extensions.filters.network.echo",
    "envoy.extensions.filters.network.ext_authz",
    "envoy.extensions.filters.network.http_connection_manager",
    "envoy.extensions.filters.network.local_ratelimit",
    "envoy.extensions.filters.network.mongo_proxy",
    "envoy.extensions.filters.network.ratelimit",
    "envoy.extensions.filters.network.rbac",
    "envoy.extensions.filters.network.redis_proxy",
    "envoy.extensions.filters.network.set_filter_state",
    "envoy.extensions.filters.network.sni_cluster",
    "envoy.extensions.filters.network.sni_dynamic_forward_proxy",
    "envoy.extensions.filters.network.tcp_proxy",
    "envoy.extensions.filters.network.wasm",
    "envoy.extensions.filters.udp.udp_proxy",
    "envoy.extensions.formatter",
    "envoy.extensions.health_checkers.redis",
    "envoy.extensions.http.header_formatters",
    "envoy.extensions.http.original_ip_detection",
    "envoy.extensions.http.stateful_session",
    "envoy.extensions.internal_redirect",
    "envoy.extensions.load_balancing_policies",
    "envoy.extensions.matching.common_inputs",
    "envoy.extensions.matching.input_matchers",
    "envoy.extensions.network.dns_resolver",
    "envoy.extensions.path",
    "envoy.extensions.rbac",
    "envoy.extensions.regex_engines",
    "envoy.extensions.request_id.uuid",
    "envoy.extensions.retry",
    "envoy.extensions.tracers.opentelemetry",
    "envoy.extensions.transport_sockets.http_11_proxy",
    "envoy.extensions.transport_sockets.internal_upstream",
    "envoy.extensions.transport_sockets.proxy_protocol",
    "envoy.extensions.transport_sockets.quic",
    "envoy.extensions.transport_sockets.raw_buffer",
    "envoy.extensions.transport_sockets.starttls",
    "envoy.extensions.transport_sockets.tap",
    "envoy.extensions.transport_sockets.tls",
    "envoy.extensions.upstreams",
    "envoy.extensions.wasm",
    "envoy.service.discovery",
    "envoy.service.health",
    "envoy.service.secret",
    "envoy.service.status",
    "envoy.type",
    "google",
    "xds.core",
    "xds.type",
];

/// Proto packages whose services get gRPC stubs; services of any other package are left out.
const SERVED: &[&str] = &[
    "envoy.service.discovery.v3",
    "envoy.service.health.v3",
    "envoy.service.secret.v3",
    "envoy.service.status.v3",
];

/// What stands before every generated server and client module.
const GRPC: &str = "#[cfg(feature = \"grpc\")]";

fn main() {
    if let Err(error) = run() {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let path = descriptors()?;
    println!("cargo::rerun-if-changed={}", path.display());
    println!("cargo::rustc-env=ENVOY_DESCRIPTORS={}", path.display());

    let mut set = FileDescriptorSet::decode(&*std::fs::read(&path)?)?;
    // Its messages are prost-types' own, and prost-build knows them without being told.
    set.file
        .retain(|file| file.name() != "google/protobuf/descriptor.proto");
    keep_reachable(&mut set.file);
    for file in &mut set.file {
        if !SERVED.contains(&file.package()) {
            file.service.clear();
        }
    }

    let mut config = prost_build::Config::new();
    config
        .btree_map(["."])
        .bytes(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .skip_debug(["."])
        .disable_comments(["."]);
    tonic_prost_build::configure()
        .include_file("mod.rs")
        .build_transport(false)
        .server_mod_attribute(".", GRPC)
        .client_mod_attribute(".", GRPC)
        .compile_fds_with_config(set, config)?;
    Ok(())
}

/// Path of the descriptor set, wherever Cargo unpacked its package: registry, mirror or vendor folder.
fn descriptors() -> Result<PathBuf, Box<dyn Error>> {
    let (name, version) = PACKAGE;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "envoy-api reads Envoy's descriptors from the package {name} {version}, which Cargo could not locate. \
             Run `cargo fetch --locked` once (it needs the network), then build again. Cargo said: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
        .into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == name && package["version"] == version)
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or_else(|| {
            format!("Cargo.lock holds no package {name} {version}: keep it in step with envoy-api's build.rs")
        })?;
    let path = Path::new(manifest)
        .with_file_name("src")
        .join("generated")
        .join("types.bin");
    if !path.is_file() {
        return Err(format!(
            "{} is missing: run `cargo fetch --locked`, then build again",
            path.display()
        )
        .into());
    }
    Ok(path)
}

/// Drops every file that no root package contains or imports.
fn keep_reachable(files: &mut Vec<FileDescriptorProto>) {
    let imports: BTreeMap<&str, &[String]> = files
        .iter()
        .map(|file| (file.name(), file.dependency.as_slice()))
        .collect();
    let mut waiting: Vec<&str> = files
        .iter()
        .filter(|file| ROOTS.iter().any(|root| is_below(file.package(), root)))
        .map(|file| file.name())
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if reached.insert(name.to_owned()) {
            let next = imports.get(name).into_iter().flat_map(|names| names.iter());
            waiting.extend(next.map(String::as_str));
        }
    }
    files.retain(|file| reached.contains(file.name()));
}

/// Whether a proto package is `root` itself or a part of it.
fn is_below(package: &str, root: &str) -> bool {
    package
        .strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
