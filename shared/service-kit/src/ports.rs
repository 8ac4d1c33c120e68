//! The file that tells others which ports a process listens on.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

/// Collects the addresses a process listens on and writes them as one JSON object, name to `host:port`, once everything
/// listens. Whoever starts a process with port 0 waits for this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortsFile(BTreeMap<String, SocketAddr>);

impl PortsFile {
    /// No address yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what `listener` is bound to, under `name` ("grpc").
    ///
    /// # Errors
    /// The system does not say what the listener is bound to.
    pub fn add(&mut self, name: impl Into<String>, listener: &TcpListener) -> io::Result<()> {
        self.add_addr(name, listener.local_addr()?);
        Ok(())
    }

    /// Adds an address. One that means every interface is written as `127.0.0.1`, so that a reader can connect to it.
    pub fn add_addr(&mut self, name: impl Into<String>, mut addr: SocketAddr) {
        if addr.ip().is_unspecified() {
            addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        self.0.insert(name.into(), addr);
    }

    /// The addresses by name.
    pub fn addrs(&self) -> &BTreeMap<String, SocketAddr> {
        &self.0
    }

    /// Writes the file in one step: a reader sees all of it or none. `None` as path does nothing.
    ///
    /// # Errors
    /// The file cannot be written; the message names it and the flag `--ports-file`.
    pub fn write(&self, path: Option<&Path>) -> io::Result<()> {
        let Some(path) = path else { return Ok(()) };
        self.write_to(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("--ports-file {}: {error}", path.display()),
            )
        })
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "is no file name"))?
            .to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temp: PathBuf = path.with_file_name(name);
        let mut text = serde_json::to_vec(&self.0).map_err(io::Error::other)?;
        text.push(b'\n');
        let written = std::fs::File::create(&temp)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| std::fs::rename(&temp, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temp);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_all_addresses_in_name_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ports.json");
        let mut ports = PortsFile::new();
        ports.add_addr("http", "[::]:15014".parse().unwrap());
        ports.add_addr("grpc", "127.0.0.1:40123".parse().unwrap());
        ports.write(Some(&path)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"grpc\":\"127.0.0.1:40123\",\"http\":\"127.0.0.1:15014\"}\n"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unwritable_file_is_named() {
        let error = PortsFile::new()
            .write(Some(Path::new("/no/such/dir/p.json")))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--ports-file /no/such/dir/p.json: "),
            "{error}"
        );
    }
}
