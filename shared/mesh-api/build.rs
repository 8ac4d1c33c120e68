//! Compiles `proto/flotilla`, without protoc.

use std::io::Result;

const FILES: [&str; 2] = [
    "flotilla/galley/v1/galley.proto",
    "flotilla/pilot/v1/pilot.proto",
];

fn main() -> Result<()> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let files = protox::compile(FILES, [root]).map_err(std::io::Error::other)?;
    prost_build::Config::new()
        .btree_map(["."])
        .bytes([".flotilla.galley"])
        .type_attribute(
            ".flotilla.pilot",
            "#[derive(serde::Serialize, serde::Deserialize)]",
        )
        .type_attribute(".flotilla.pilot", "#[serde(default)]")
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .compile_fds(files)
}
