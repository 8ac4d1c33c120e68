//! Connections from beside the pods, made up byte by byte, and what they came to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio_rustls::TlsConnector;

use crate::certificates::{Certified, client_tls};
use crate::client::Client;
use crate::pods::Pods;

/// How long a server may say nothing: one that waits for the rest of a hello says nothing more.
const PATIENCE: Duration = Duration::from_secs(5);

/// What clients of the mesh offer when they speak HTTP.
pub const HTTP: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];
/// What they offer when they speak bytes.
pub const BYTES: &[&str] = &["istio-peer-exchange", "istio"];

/// A request that claims to be somebody's.
pub const REQUEST: &[u8] =
    b"GET /x HTTP/1.1\r\nhost: b\r\nx-forwarded-client-cert: By=me\r\nconnection: close\r\n\r\n";

/// What an answer is: `closed`, `TLS` (an alert or a hello), or the status of HTTP and whether a proxy understood it (`200 http`) or only
/// passed it on (`200 bytes`).
pub fn outcome(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let by_proxy = text.to_lowercase().contains("server: istio-envoy");
    match bytes {
        [] => "closed".into(),
        [0x15 | 0x16, 3, ..] => "TLS".into(),
        _ => {
            let status = text.split(' ').nth(1).unwrap_or("?").to_owned();
            status + if by_proxy { " http" } else { " bytes" }
        }
    }
}

/// Sends and reads to the end.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, sent: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if stream.write_all(sent).await.is_ok() {
        let all = async {
            let mut part = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut part).await {
                out.extend_from_slice(&part[..n]);
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
    out
}

/// What comes back for bytes without TLS; or `refused`.
pub async fn plain(pods: &Pods, to: SocketAddr, sent: &[u8]) -> String {
    match pods.outside().client(to).connect().await {
        Ok(stream) => outcome(&exchange(stream, sent).await),
        Err(_) => "refused".into(),
    }
}

/// What comes back for [`REQUEST`] inside mutual TLS, whoever the server is; nothing if there is no handshake.
///
/// # Panics
/// If nobody listens.
pub async fn mutual(
    pods: &Pods,
    to: SocketAddr,
    own: Option<&Certified>,
    alpn: &[&str],
) -> Vec<u8> {
    let stream = pods.outside().client(to).connect().await;
    let stream = stream.unwrap_or_else(|error| panic!("{to}: {error}"));
    let connector = TlsConnector::from(client_tls(own, alpn));
    let name = "b.example".try_into().expect("a name");
    let handshake = tokio::time::timeout(PATIENCE, connector.connect(name, stream));
    match handshake.await {
        Ok(Ok(stream)) => exchange(stream, REQUEST).await,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// What a server of bytes ([`crate::Backend::tcp`]) says to one line, `hi`; nothing if the connection is refused or closed before.
pub async fn line(client: &Client) -> String {
    let Ok(stream) = client.connect().await else {
        return String::new();
    };
    let mut stream = BufReader::new(stream);
    let mut said = String::new();
    // The greeting, and the line.
    if stream.write_all(b"hi\n").await.is_ok() && stream.read_line(&mut said).await.is_ok() {
        said.clear();
        let _ = stream.read_line(&mut said).await;
    }
    said.trim_end().to_owned()
}
