//! Where a mesh lives: addresses, a folder of configuration, and the servers of the common mesh. Nothing of the plane.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::backend::Backend;
use crate::net::Network;
use crate::process::workspace;

/// Last numbers of the addresses that mean something; `e2e/mesh` is written with them.
pub mod hosts {
    /// The client's sidecar.
    pub const CLIENT: u8 = 2;
    /// Sidecars that suites add, from here on.
    pub const MORE_SIDECARS: u8 = 3;
    /// The ingress gateway.
    pub const INGRESS: u8 = 5;
    /// The egress gateway.
    pub const EGRESS: u8 = 6;
    /// Galley.
    pub const GALLEY: u8 = 101;
    /// The first Pilot; others follow.
    pub const PILOT: u8 = 111;
    /// Citadel.
    pub const CITADEL: u8 = 121;
}

/// HTTP port of every service of the common mesh.
pub const HTTP: u16 = 9080;
/// TCP port of service `echo`.
pub const TCP: u16 = 9000;

/// HTTP servers of `e2e/mesh`: name, last number of the address, port.
const HTTP_SERVERS: &[(&str, u8, u16)] = &[
    ("reviews-v1", 11, HTTP),
    ("reviews-v2", 12, HTTP),
    ("reviews-v3", 13, HTTP),
    ("ratings-v1", 21, HTTP),
    ("external", 41, HTTP),
];

/// The same of TCP servers.
const TCP_SERVERS: &[(&str, u8, u16)] = &[
    ("echo-v1", 31, TCP),
    ("echo-v2", 32, TCP),
    ("external-tcp", 42, HTTP),
];

/// A network, a folder of configuration and the servers.
#[derive(Debug)]
pub struct Site {
    servers: BTreeMap<&'static str, Backend>,
    /// Addresses.
    pub net: Network,
    dir: TempDir,
}

impl Site {
    /// A site with the common mesh's configuration and its servers running.
    ///
    /// # Panics
    /// If a folder or an address cannot be had.
    pub async fn new() -> Site {
        let mut site = Site::empty();
        for &(name, host, port) in HTTP_SERVERS {
            let server = Backend::http(name, site.net.at(host, port)).await;
            site.servers.insert(name, server);
        }
        for &(name, host, port) in TCP_SERVERS {
            let server = Backend::tcp(name, site.net.at(host, port)).await;
            site.servers.insert(name, server);
        }
        site.put_folder(&workspace().join("e2e/mesh"));
        site
    }

    /// A site without servers and configuration.
    ///
    /// # Panics
    /// If a folder or an address cannot be had.
    pub fn empty() -> Site {
        let dir = tempfile::Builder::new().prefix("flotilla-e2e-").tempdir();
        let site = Site {
            servers: BTreeMap::new(),
            net: Network::reserve(),
            dir: dir.expect("a folder"),
        };
        std::fs::create_dir(site.config_dir()).expect("a folder");
        site.set_mesh_config("");
        site
    }

    /// A server of the common mesh.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn server(&self, name: &str) -> &Backend {
        self.servers
            .get(name)
            .unwrap_or_else(|| panic!("no server is named {name}"))
    }

    /// The folder of processes' logs and files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of configuration, for `--config-dir`.
    pub fn config_dir(&self) -> PathBuf {
        self.dir().join("config")
    }

    /// The file of mesh settings, for `--mesh-config`.
    pub fn mesh_config(&self) -> PathBuf {
        self.dir().join("mesh.yaml")
    }

    /// Replaces the mesh settings: bare MeshConfig.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set_mesh_config(&self, text: &str) {
        let text = if text.is_empty() { "{}" } else { text };
        self.write(&self.mesh_config(), text);
    }

    /// Writes a file of configuration, in one step, with this site's addresses.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn put(&self, name: &str, text: &str) {
        self.write(&self.config_dir().join(name), text);
    }

    /// Writes every file of a folder (not of folders below it).
    ///
    /// # Panics
    /// If one cannot be read or written.
    pub fn put_folder(&self, folder: &Path) {
        let entries = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.put(&name, &read(&path));
            }
        }
    }

    /// Removes a file of configuration.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.config_dir().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn write(&self, path: &Path, text: &str) {
        // Hidden until it is whole, as an editor does it.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.new"));
        std::fs::write(&temporary, self.net.localize(text))
            .and_then(|()| std::fs::rename(&temporary, path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A file of a suite: `e2e/suites/SUITE/FILE`.
///
/// # Panics
/// If it cannot be read.
pub fn suite_file(suite: &str, file: &str) -> String {
    read(&workspace().join("e2e/suites").join(suite).join(file))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
