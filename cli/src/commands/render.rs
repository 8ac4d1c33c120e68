//! `flotilla render`: what would this proxy get, offline and through the same code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use config_source::Scanner;
use mesh_model::{Mesh, Node, Proxy};
use mesh_registry::Options;
use mesh_types::Level;
use pilot::files::Files;
use serde_json::{Value, json};

use crate::report::Report;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of configuration; repeatable
    #[arg(long, alias = "configDir", value_name = "DIR", required = true)]
    config_dir: Vec<PathBuf>,

    /// File with the mesh's settings (MeshConfig)
    #[arg(long, alias = "meshConfig", value_name = "FILE")]
    mesh_config: Option<PathBuf>,

    /// The proxy: its node id, or a file with an Envoy node (YAML or JSON; a bootstrap's `node` is found)
    #[arg(long, value_name = "FILE|ID")]
    node: String,

    /// Domain of Kubernetes services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    domain: String,

    /// json or yaml
    #[arg(short, long, value_enum, default_value = "json")]
    output: Output,
}

/// Prints one object with `clusters`, `endpoints`, `listeners`, `routes` and `secrets`.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let all = resources(args.config_dir, args.mesh_config, &args.node, &args.domain)?;
    table::print(&all, args.output)?;
    Ok(ExitCode::SUCCESS)
}

/// What a proxy would get of these files, as one object: `clusters`, `endpoints`, `listeners`, `routes` and `secrets`. What is wrong with the
/// files is printed.
///
/// # Errors
/// There is no configuration, or no such node.
pub fn resources(
    config_dir: Vec<PathBuf>,
    mesh_config: Option<PathBuf>,
    node: &str,
    domain: &str,
) -> anyhow::Result<Value> {
    let mut scanner = Scanner::new(config_dir, "default").with_mesh_config(mesh_config);
    let (scan, _) = scanner.scan();
    let mut files = Files::new(Options {
        domain: domain.into(),
        ..Options::default()
    });
    let arrived = files.take(&scan);
    let refusals = files.findings().iter();
    for finding in refusals.filter(|finding| finding.level == Level::Error) {
        eprintln!("{}", Report::from(finding).line());
    }
    let arrived = arrived.context("there is no configuration")?;
    let (mesh, _) = Mesh::default().apply(arrived.revision, &arrived.changes);
    let mut proxy = Proxy::parse(&read_node(node)?)?;
    mesh.complete(&mut proxy);
    let rendered = pilot_core::generate::render(&mesh, &proxy);
    let list = |resources: &[std::sync::Arc<xds_core::Encoded>]| -> anyhow::Result<Value> {
        resources
            .iter()
            .map(|encoded| {
                pilot::debug::envoy_json(encoded.any()).context("a resource cannot be printed")
            })
            .collect()
    };
    Ok(json!({
        "clusters": list(&rendered.clusters)?,
        "endpoints": list(&rendered.endpoints)?,
        "listeners": list(&rendered.listeners)?,
        "routes": list(&rendered.routes)?,
        "secrets": [],
    }))
}

/// A node from its id alone, or from a file.
fn read_node(text: &str) -> anyhow::Result<Node> {
    if !Path::new(text).exists() {
        if text.contains('~') {
            return Ok(Node {
                id: text.to_owned(),
                ..Node::default()
            });
        }
        bail!("--node: {text} is neither a file nor a node id (<type>~<ip>~<id>~<domain>)");
    }
    let content = std::fs::read_to_string(text).with_context(|| format!("--node: {text}"))?;
    let value: Value =
        serde_saphyr::from_str(&content).with_context(|| format!("--node: {text}"))?;
    let node = if value["node"].is_object() {
        &value["node"]
    } else {
        &value
    };
    let id = node["id"]
        .as_str()
        .with_context(|| format!("--node: {text} has no node.id"))?;
    let locality = &node["locality"];
    let part = |name: &str, other: &str| {
        locality[name]
            .as_str()
            .or(locality[other].as_str())
            .unwrap_or_default()
            .into()
    };
    let extensions = node["extensions"].as_array().into_iter().flatten();
    Ok(Node {
        id: id.to_owned(),
        metadata: node["metadata"].clone(),
        locality: mesh_types::Locality {
            region: part("region", "region"),
            zone: part("zone", "zone"),
            sub_zone: part("sub_zone", "subZone"),
        },
        extensions: extensions
            .filter_map(|e| e["name"].as_str().map(str::to_owned))
            .collect(),
    })
}
