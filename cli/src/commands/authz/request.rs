//! A request, described by flags.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use pilot_core::security::decide::Request;

/// Flags that describe a request. Any of them asks for a decision.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "A request to decide about")]
pub struct Flags {
    /// Method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,

    /// Path, with the query if there is one
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// Host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// A header; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,

    /// SPIFFE ID of the caller; without, it has none (no mutual TLS)
    #[arg(long, value_name = "SPIFFE-ID")]
    from: Option<String>,

    /// Address of the caller
    #[arg(long, value_name = "IP")]
    source_ip: Option<IpAddr>,

    /// Address of the client behind proxies, if it is another
    #[arg(long, value_name = "IP")]
    remote_ip: Option<IpAddr>,

    /// Address of the workload
    #[arg(long, value_name = "IP")]
    destination_ip: Option<IpAddr>,

    /// Port of the workload; without, every one is looked at
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// Server name that the caller asks for
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,

    /// Claims of a valid token, `iss` among them
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
}

impl Flags {
    /// The request; `None` if no flag describes one.
    ///
    /// # Errors
    /// A flag cannot be read.
    pub fn request(&self) -> anyhow::Result<Option<Request>> {
        let Flags {
            method,
            path,
            host,
            headers,
            from,
            source_ip,
            remote_ip,
            destination_ip,
            port,
            sni,
            claims,
        } = self;
        let described = [method, path, host, from, sni, claims]
            .iter()
            .any(|f| f.is_some())
            || [source_ip, remote_ip, destination_ip]
                .iter()
                .any(|f| f.is_some())
            || !headers.is_empty()
            || port.is_some();
        if !described {
            return Ok(None);
        }
        if let Some(id) = from.as_ref().filter(|id| !id.starts_with("spiffe://")) {
            bail!(
                "--from: {id} is no SPIFFE ID; write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
            );
        }
        let mut request = Request {
            peer: from.clone(),
            source: *source_ip,
            remote: *remote_ip,
            destination: *destination_ip,
            server_name: sni.clone().unwrap_or_default(),
            path: path.clone().unwrap_or_else(|| "/".into()),
            ..Request::default()
        };
        for header in headers {
            let (name, value) = header
                .split_once('=')
                .with_context(|| format!("--header: {header}: write NAME=VALUE"))?;
            request
                .headers
                .insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let method = method.clone().unwrap_or_else(|| "GET".into());
        request.headers.insert(":method".into(), method);
        request.headers.insert(":path".into(), request.path.clone());
        if let Some(host) = host {
            request.headers.insert(":authority".into(), host.clone());
        }
        if let Some(claims) = claims {
            let json = serde_json::from_str(claims);
            request.claims = Some(json.with_context(|| format!("--claims: {claims}"))?);
        }
        Ok(Some(request))
    }
}
