//! Where a server serves ADS, and how it is spoken to there.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An address, with or without TLS.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where.
    pub address: SocketAddr,
    /// How, over TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// Whatever is spoken over.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Door {
    /// A connection.
    ///
    /// # Errors
    /// Nobody is there, or nobody who is believed.
    pub async fn connect(&self) -> anyhow::Result<Box<dyn Wire>> {
        let tcp = TcpStream::connect(self.address).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let name = ServerName::IpAddress(self.address.ip().into());
        let tls = TlsConnector::from(config.clone()).connect(name, tcp).await;
        Ok(Box::new(tls.context("TLS")?))
    }
}
