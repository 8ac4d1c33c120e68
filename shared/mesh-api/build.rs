//! Compiles `proto/`, without protoc.

use std::io::Result;

const FILES: [&str; 6] = [
    "flotilla/citadel/v1/citadel.proto",
    "flotilla/galley/v1/galley.proto",
    "flotilla/pilot/v1/pilot.proto",
    "istio/ca/ca.proto",
    "istio/mesh/proxy_config.proto",
    "istio/nds/nds.proto",
];

/// What stands before every generated server and client module.
const GRPC: &str = "#[cfg(feature = \"grpc\")]";

fn main() -> Result<()> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let files = protox::compile(FILES, [root]).map_err(std::io::Error::other)?;
    let mut config = prost_build::Config::new();
    config
        .btree_map(["."])
        .bytes([".flotilla.galley"])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com");
    for package in [".flotilla.pilot", ".flotilla.citadel"] {
        config
            .type_attribute(package, "#[derive(serde::Serialize, serde::Deserialize)]")
            .message_attribute(package, "#[serde(default)]");
    }
    tonic_prost_build::configure()
        .build_transport(false)
        .server_mod_attribute(".", GRPC)
        .client_mod_attribute(".", GRPC)
        .compile_fds_with_config(files, config)
}
