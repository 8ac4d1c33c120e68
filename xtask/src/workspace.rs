//! The crates of the workspace and the dependencies they declare, from `cargo metadata`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What a crate is allowed to know; `[package.metadata.mesh] layer` in its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Values in, values out.
    Pure,
    /// Reads and sends; decides nothing.
    Io,
    /// A deployable binary: wiring and adapters.
    Service,
    /// Only tests and chores use it.
    Test,
}

/// What a dependency is declared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The crate itself or its build script.
    Product,
    /// Tests, examples and benches alone.
    Tests,
}

/// One crate of the workspace.
#[derive(Debug, Clone)]
pub struct Member {
    /// Name of the package.
    pub name: String,
    /// Path of its manifest, relative to the root.
    pub manifest: String,
    /// `None`: missing or not a layer.
    pub layer: Option<Layer>,
    /// Names of the packages it declares, other members among them.
    pub dependencies: Vec<(String, Use)>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    #[serde(default)]
    metadata: serde_json::Value,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Every member of the workspace, in name order. Reads manifests only: no network, no lock, nothing built.
pub fn members(root: &Path) -> Result<Vec<Member>> {
    let text = cargo(
        root,
        &["metadata", "--no-deps", "--format-version=1", "--offline"],
    )?;
    let metadata: Metadata = serde_json::from_str(&text)
        .context("cargo metadata printed something else than expected")?;
    let mut members: Vec<Member> = metadata
        .packages
        .into_iter()
        .map(|package| member(root, package))
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

fn member(root: &Path, package: Package) -> Member {
    let layer = package
        .metadata
        .get("mesh")
        .and_then(|mesh| mesh.get("layer"))
        .cloned();
    let manifest = Path::new(&package.manifest_path);
    Member {
        name: package.name,
        manifest: manifest
            .strip_prefix(root)
            .unwrap_or(manifest)
            .to_string_lossy()
            .into_owned(),
        layer: layer.and_then(|layer| serde_json::from_value(layer).ok()),
        dependencies: package
            .dependencies
            .into_iter()
            .map(|dependency| {
                let used = if dependency.kind.as_deref() == Some("dev") {
                    Use::Tests
                } else {
                    Use::Product
                };
                (dependency.name, used)
            })
            .collect(),
    }
}

/// Names of all packages that are built into a crate with its default features, itself included.
///
/// `cargo tree` resolves features for this one crate; `cargo metadata` would add those that other members switch on.
pub fn closure(root: &Path, name: &str) -> Result<Vec<String>> {
    let text = cargo(
        root,
        &[
            "tree", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "-f", "{p}",
        ],
    )?;
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let program = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .context("cannot start cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo {} failed: {}",
        arguments.join(" "),
        errors.trim()
    );
    String::from_utf8(output.stdout).context("cargo printed bytes that are not text")
}
