//! One request to an HTTPS server: bounded in time and size, without redirects, to an address that was looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use citadel_core::policy::fetch;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The whole request takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where distributions keep the certificates of public authorities.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The URL cannot be used.
    #[error("{0} is no URL that is asked: want https://HOST[:PORT]/PATH, without a password")]
    Url(String),
    /// Certificates to trust cannot be read.
    #[error("{file}: {reason}")]
    Roots {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Every address of the host is one that is never asked.
    #[error("{0} has only addresses that are never asked (link-local, loopback)")]
    Forbidden(String),
    /// The connection, the handshake or the request failed.
    #[error("{host}: {reason}")]
    Failed {
        /// Whom.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer took too long.
    #[error("{0} did not answer in time")]
    Late(String),
}

/// A URL that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
    loopback: bool,
}

impl Target {
    /// Reads a URL. Plain HTTP only within this machine.
    ///
    /// # Errors
    /// [`HttpsError::Url`].
    pub fn parse(url: &str) -> Result<Target, HttpsError> {
        let bad = || HttpsError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') {
            return Err(HttpsError::Url("a URL with a password".into()));
        }
        let host = authority.host().to_owned();
        let loopback = fetch::is_loopback(&host);
        let (tls, default) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") if loopback => (false, 80),
            _ => return Err(bad()),
        };
        Ok(Target {
            port: authority.port_u16().unwrap_or(default),
            uri,
            host,
            tls,
            loopback,
        })
    }

    /// Whether it names this machine.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The same server, another path (with query).
    ///
    /// # Errors
    /// [`HttpsError::Url`] for a path that is none.
    pub fn with_path(&self, path: &str) -> Result<Target, HttpsError> {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(path.parse().map_err(|_| HttpsError::Url(path.to_owned()))?);
        Ok(Target {
            uri: Uri::from_parts(parts).map_err(|_| HttpsError::Url(path.to_owned()))?,
            ..self.clone()
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> HttpsError {
        HttpsError::Failed {
            host: format!("{}:{}", self.host, self.port),
            reason: error.to_string(),
        }
    }

    fn bare_host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(&self.host)
    }
}

/// Whom to trust: the certificates of a PEM file, or those of the system.
///
/// # Errors
/// [`HttpsError::Roots`].
pub fn tls(roots: Option<&std::path::Path>) -> Result<Arc<ClientConfig>, HttpsError> {
    let found = SYSTEM_ROOTS
        .iter()
        .map(std::path::Path::new)
        .find(|p| p.exists());
    let mut store = RootCertStore::empty();
    if let Some(file) = roots.or(found) {
        let wrong = |reason: String| HttpsError::Roots {
            file: file.display().to_string(),
            reason,
        };
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(error.to_string()))?;
        let (added, _) = store.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(wrong("holds no certificate".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpsError::Roots {
            file: "TLS".into(),
            reason: error.to_string(),
        })?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Asks `target`; the answer's body has at most `most` bytes.
///
/// # Errors
/// See [`HttpsError`]. Statuses other than 2xx are answers.
pub async fn ask(
    tls: &Arc<ClientConfig>,
    target: &Target,
    method: Method,
    headers: &[(header::HeaderName, String)],
    body: Vec<u8>,
    most: usize,
) -> Result<(StatusCode, Bytes), HttpsError> {
    let work = exchange(tls, target, method, headers, body, most);
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpsError::Late(format!("{}:{}", target.host, target.port))),
    }
}

async fn exchange(
    tls: &Arc<ClientConfig>,
    target: &Target,
    method: Method,
    headers: &[(header::HeaderName, String)],
    body: Vec<u8>,
    most: usize,
) -> Result<(StatusCode, Bytes), HttpsError> {
    let mut request = Request::builder()
        .method(method)
        .uri(
            target
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str()),
        )
        .header(
            header::HOST,
            target.uri.authority().map_or("", |a| a.as_str()),
        );
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| target.failed(error))?;
    let tcp = connect(target).await?;
    let response = if target.tls {
        let name = ServerName::try_from(target.bare_host().to_owned())
            .map_err(|error| target.failed(error))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await;
        send(
            target,
            stream.map_err(|error| target.failed(error))?,
            request,
        )
        .await?
    } else {
        send(target, tcp, request).await?
    };
    let status = response.status();
    let body = Limited::new(response.into_body(), most).collect().await;
    let body = body.map_err(|error| target.failed(error))?;
    Ok((status, body.to_bytes()))
}

async fn connect(target: &Target) -> Result<TcpStream, HttpsError> {
    let found = tokio::net::lookup_host((target.bare_host(), target.port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| target.failed(error))?.collect();
    let mut allowed = found
        .into_iter()
        .filter(|address| fetch::permits(address.ip(), target.loopback))
        .peekable();
    if allowed.peek().is_none() {
        return Err(HttpsError::Forbidden(target.host.clone()));
    }
    let mut last = None;
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = Some(error),
        }
    }
    Err(target.failed(last.map_or_else(String::new, |error| error.to_string())))
}

async fn send<S>(
    target: &Target,
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<hyper::Response<hyper::body::Incoming>, HttpsError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| target.failed(error))?;
    // Ends when the response is read or dropped.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
        .send_request(request)
        .await
        .map_err(|error| target.failed(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_https_or_of_this_machine() {
        for good in [
            "https://issuer/keys",
            "https://[2001:db8::1]:8443",
            "http://127.0.0.1:80/",
            "http://localhost/x?y",
        ] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "issuer",
            "http://issuer/keys",
            "http://169.254.169.254/latest",
            "https://user:secret@issuer/",
            "ftp://issuer",
            "https:///x",
        ] {
            let error = Target::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_link_local_address_is_not_connected_to() {
        let tls = tls(None).unwrap();
        let target = Target::parse("https://169.254.169.254/keys").unwrap();
        let error = ask(&tls, &target, Method::GET, &[], Vec::new(), 10).await;
        assert!(matches!(error, Err(HttpsError::Forbidden(_))), "{error:?}");
    }
}
