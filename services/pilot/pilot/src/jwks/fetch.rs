//! One fetch of keys: from a URI of somebody's policy, so from anywhere that the guard lets through, and as little as possible.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::{Authority, Scheme};
use axum::http::{Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use mesh_config::resource::normal::JwksSource;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::guard::{Blocked, Guard};

/// Largest body that is read. Unit: bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 3;
/// How long everything about one document may take, redirects included.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there are no keys. For the log: what a server answered is never repeated.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Neither `http://` nor `https://`, without a host, or with a user.
    #[error("{0:?} is no address to fetch keys from")]
    Uri(String),
    /// The name has no address.
    #[error("{host} cannot be resolved: {error}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system says.
        error: io::Error,
    },
    /// It has, and none that may be connected to.
    #[error("{host} is at {address}: {why}")]
    Blocked {
        /// The name.
        host: String,
        /// The address.
        address: IpAddr,
        /// Why it is refused.
        why: Blocked,
    },
    /// Nobody answers there.
    #[error("{host}: {error}")]
    Connect {
        /// The name.
        host: String,
        /// What the system, or TLS, says.
        error: io::Error,
    },
    /// What is spoken there is no HTTP.
    #[error("{host}: {error}")]
    Http {
        /// The name.
        host: String,
        /// What is wrong.
        error: hyper::Error,
    },
    /// An answer that is no success.
    #[error("{host} answers {status}")]
    Status {
        /// The name.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// Redirected too often, or to what is no address, or away from TLS.
    #[error("{0} redirects too often, to nowhere, or from https to http")]
    Redirect(String),
    /// More than 1 MiB.
    #[error("{0} answers with more than 1 MiB")]
    TooLarge(String),
    /// Something else than was asked for.
    #[error("{host} answers with what is no {wanted}")]
    Content {
        /// The name.
        host: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// It took too long.
    #[error("{0} took longer than 10 s")]
    Timeout(String),
}

/// The addresses of a name.
pub type Resolved = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Fetches keys.
#[derive(Clone)]
pub struct Fetcher {
    guard: Guard,
    tls: Arc<ClientConfig>,
    resolve: fn(String, u16) -> Resolved,
}

impl Fetcher {
    /// One that trusts the system's roots and those of a file, over TLS 1.2 or 1.3.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate.
    pub fn new(guard: Guard, extra_roots: Option<&Path>) -> io::Result<Fetcher> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if let Some(file) = extra_roots {
            let wrong = |error: &dyn std::fmt::Display| {
                io::Error::other(format!("{}: {error}", file.display()))
            };
            let extra: Vec<CertificateDer<'_>> = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect)
                .map_err(|error| wrong(&error))?;
            let (added, _) = roots.add_parsable_certificates(extra);
            if added == 0 {
                return Err(wrong(&"there is no certificate in it"));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Fetcher {
            guard,
            tls: Arc::new(tls),
            resolve: by_system,
        })
    }

    /// The same with another way to resolve names.
    #[cfg(test)]
    pub(super) fn with_resolver(mut self, resolve: fn(String, u16) -> Resolved) -> Fetcher {
        self.resolve = resolve;
        self
    }

    /// The keys of a source: a JSON object with an array `keys` of objects, as it came.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn keys(&self, source: &JwksSource) -> Result<Arc<str>, FetchError> {
        let uri = match source {
            JwksSource::Uri(uri) => uri.to_string(),
            JwksSource::Discovery(issuer) => {
                let base = issuer.strip_suffix('/').unwrap_or(issuer);
                let place = format!("{base}/.well-known/openid-configuration");
                let document = self.document(&place).await?;
                let parsed: Option<Value> = serde_json::from_str(&document).ok();
                let found = parsed.as_ref().and_then(|it| it["jwks_uri"].as_str());
                found.map(str::to_owned).ok_or(FetchError::Content {
                    host: place,
                    wanted: "OpenID configuration with a jwks_uri",
                })?
            }
        };
        let document = self.document(&uri).await?;
        let parsed: Option<Value> = serde_json::from_str(&document).ok();
        let keys = parsed.as_ref().and_then(|it| it["keys"].as_array());
        if keys.is_some_and(|keys| keys.iter().all(Value::is_object)) {
            return Ok(document.into());
        }
        Err(FetchError::Content {
            host: uri,
            wanted: "JSON Web Key Set",
        })
    }

    /// The text of a document.
    async fn document(&self, uri: &str) -> Result<String, FetchError> {
        match timeout(PATIENCE, self.follow(uri)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout(uri.into())),
        }
    }

    async fn follow(&self, uri: &str) -> Result<String, FetchError> {
        let mut place = Place::parse(uri)?;
        for _ in 0..=MAX_REDIRECTS {
            // What drives the connection ends with it.
            let mut driver = JoinSet::new();
            let response = self.get(&place, &mut driver).await?;
            let status = response.status();
            if status.is_success() {
                return body(response, &place).await;
            }
            if !status.is_redirection() {
                let host = place.host.clone();
                return Err(FetchError::Status { host, status });
            }
            let location = response.headers().get(header::LOCATION);
            let next = location
                .and_then(|value| value.to_str().ok())
                .and_then(|target| place.redirected(target));
            place = next.ok_or_else(|| FetchError::Redirect(place.host.clone()))?;
        }
        Err(FetchError::Redirect(place.host))
    }

    async fn get(
        &self,
        place: &Place,
        driver: &mut JoinSet<()>,
    ) -> Result<Response<Incoming>, FetchError> {
        let tcp = self.connect(place).await?;
        if !place.tls {
            return request(tcp, place, driver).await;
        }
        let failed = |error: io::Error| FetchError::Connect {
            host: place.host.clone(),
            error,
        };
        let name = ServerName::try_from(place.host.clone())
            .map_err(|error| failed(io::Error::other(error)))?;
        let tls = TlsConnector::from(self.tls.clone());
        let stream = tls.connect(name, tcp).await.map_err(failed)?;
        request(stream, place, driver).await
    }

    /// A connection to one of the addresses that the guard lets through.
    async fn connect(&self, place: &Place) -> Result<TcpStream, FetchError> {
        let host = || place.host.clone();
        let resolved = (self.resolve)(host(), place.port).await;
        let addresses = resolved.map_err(|error| FetchError::Resolve {
            host: host(),
            error,
        })?;
        let mut failure = FetchError::Resolve {
            host: host(),
            error: io::Error::other("it has no address"),
        };
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            if let Err(why) = self.guard.check(address.ip(), is_own(address)) {
                failure = FetchError::Blocked {
                    host: host(),
                    address: address.ip(),
                    why,
                };
                continue;
            }
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    failure = FetchError::Connect {
                        host: host(),
                        error,
                    };
                }
                Err(_) => {
                    failure = FetchError::Connect {
                        host: host(),
                        error: io::ErrorKind::TimedOut.into(),
                    };
                }
            }
        }
        Err(failure)
    }
}

fn by_system(host: String, port: u16) -> Resolved {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
}

/// Whether an address is one of this machine: the system would then call from that very address. Sends nothing.
fn is_own(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    UdpSocket::bind(any)
        .and_then(|socket| {
            socket.connect(address)?;
            socket.local_addr()
        })
        .is_ok_and(|local| local.ip() == address.ip())
}

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
    authority: Authority,
    path: String,
}

impl Place {
    fn parse(text: &str) -> Result<Place, FetchError> {
        let wrong = || FetchError::Uri(text.chars().take(200).collect());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().cloned().ok_or_else(wrong)?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Place {
            tls,
            host,
            port,
            path: path.to_owned(),
            authority,
        })
    }

    /// Where an answer redirects to; never away from TLS.
    fn redirected(&self, target: &str) -> Option<Place> {
        let scheme = if self.tls { "https" } else { "http" };
        let target = target.split('#').next().unwrap_or_default();
        let absolute = if target.contains("://") {
            target.to_owned()
        } else if target.starts_with("//") {
            format!("{scheme}:{target}")
        } else if target.starts_with('/') {
            format!("{scheme}://{}{target}", self.authority)
        } else {
            let path = self.path.split('?').next().unwrap_or_default();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{}{folder}/{target}", self.authority)
        };
        let next = Place::parse(&absolute).ok()?;
        (next.tls || !self.tls).then_some(next)
    }
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: &Place,
    driver: &mut JoinSet<()>,
) -> Result<Response<Incoming>, FetchError> {
    let failed = |error: hyper::Error| FetchError::Http {
        host: place.host.clone(),
        error,
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(failed)?;
    driver.spawn(async move {
        // What went wrong is heard by whoever waits for the answer.
        let _ = connection.await;
    });
    let request = Request::get(&place.path)
        .header(header::HOST, place.authority.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "flotilla-pilot")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Uri(place.path.clone()))?;
    sender.send_request(request).await.map_err(failed)
}

async fn body(response: Response<Incoming>, place: &Place) -> Result<String, FetchError> {
    let too_large = || FetchError::TooLarge(place.host.clone());
    let body = response.into_body();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let collected = Limited::new(body, MAX_BODY).collect().await;
    let bytes = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return too_large();
        }
        match error.downcast::<hyper::Error>() {
            Ok(error) => FetchError::Http {
                host: place.host.clone(),
                error: *error,
            },
            Err(other) => FetchError::Connect {
                host: place.host.clone(),
                error: io::Error::other(other),
            },
        }
    })?;
    String::from_utf8(bytes.to_bytes().into()).map_err(|_| FetchError::Content {
        host: place.host.clone(),
        wanted: "text",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_redirects_resolved() {
        let place = Place::parse("https://idp.example/a/keys?x=1").unwrap();
        assert_eq!((place.tls, place.port), (true, 443));
        assert_eq!(place.path, "/a/keys?x=1");
        let to = |target: &str| {
            let next = place.redirected(target)?;
            let scheme = if next.tls { "https" } else { "http" };
            Some(format!(
                "{scheme}://{}:{}{}",
                next.host, next.port, next.path
            ))
        };
        for (target, want) in [
            ("/b", Some("https://idp.example:443/b")),
            ("b#c", Some("https://idp.example:443/a/b")),
            ("//other:1/b", Some("https://other:1/b")),
            ("https://[::1]:8/b", Some("https://::1:8/b")),
            ("http://idp.example/b", None),
            ("file:///etc/passwd", None),
            ("https://user@host/", None),
        ] {
            assert_eq!(to(target).as_deref(), want, "{target}");
        }
        for bad in [
            "",
            "idp.example",
            "ftp://a/b",
            "https://",
            "/x",
            "http://a b/",
        ] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
