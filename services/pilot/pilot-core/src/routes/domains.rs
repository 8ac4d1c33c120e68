//! The names a virtual host answers to (XDS-TRAFFIC 2.4).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use mesh_config::resource::normal::{Registry, ServiceResolution};
use mesh_model::Service;
use mesh_types::Hostname;
use smallvec::SmallVec;

use crate::OutboundKey;
use crate::listeners::Vips;

/// What follows the namespace in the names of Kubernetes services.
const SVC: &str = ".svc";

/// One name of a virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain<'a> {
    pub(super) text: Cow<'a, str>,
    /// A short form: it stands back where it is the full name of another service.
    pub(super) short: bool,
    /// Whether a port is part of it.
    pub(super) with_port: bool,
}

/// The names of one service.
pub(super) type Domains<'a> = SmallVec<[Domain<'a>; 8]>;

/// Finds names as proxies of one class write them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    key: &'a OutboundKey,
}

impl<'a> Names<'a> {
    pub(super) fn new(key: &'a OutboundKey) -> Names<'a> {
        Names { key }
    }

    /// The names of a service: its host, its aliases, their short forms, and its addresses. `port` is appended to a second form of each,
    /// where requests are told apart by it.
    pub(super) fn of(
        &self,
        service: &'a Service,
        aliases: &'a [Hostname],
        port: Option<u16>,
    ) -> Domains<'a> {
        let mut out = Domains::new();
        for host in std::iter::once(&service.hostname).chain(aliases) {
            self.host(host.as_str(), port, &mut out);
        }
        if service.resolution == ServiceResolution::Passthrough
            && service.registry == Registry::Kubernetes
        {
            // Its endpoints have names of their own, below that of the service.
            let below: Vec<_> = out
                .iter()
                .map(|domain| Domain {
                    text: format!("*.{}", domain.text).into(),
                    short: false,
                    ..*domain
                })
                .collect();
            out.extend(below);
        }
        for address in Vips::of(service, self.key).ips {
            push(
                &mut out,
                bracketed(&address).into_owned().into(),
                port,
                false,
            );
        }
        out
    }

    fn host(&self, host: &'a str, port: Option<u16>, out: &mut Domains<'a>) {
        push(out, bracketed(host), port, false);
        if host != "*" && host.parse::<IpAddr>().is_err() {
            push(out, format!("{host}.").into(), port, true);
        }
        let own = &*self.key.dns_domain;
        match own.split_once(".svc.") {
            Some((namespace, _)) if host.ends_with(&own[namespace.len()..]) => {
                kubernetes(host, namespace, port, out);
            }
            Some(_) => {}
            None => elsewhere(host, own, port, out),
        }
    }
}

/// `name.namespace.svc...`: short names, down to `name` in the proxy's own namespace.
fn kubernetes<'a>(host: &'a str, own: &str, port: Option<u16>, out: &mut Domains<'a>) {
    let Some((before, _)) = host.split_once(".svc.") else {
        return;
    };
    let with_svc = &host[..before.len() + SVC.len()];
    match before.split_once('.') {
        Some((name, namespace)) if namespace == own => {
            for short in [name, with_svc, before] {
                push(out, short.into(), port, true);
            }
        }
        Some(_) => {
            for short in [before, with_svc] {
                push(out, short.into(), port, true);
            }
        }
        None => {}
    }
}

/// Outside Kubernetes: what is left of a host without the labels it shares with the proxy's own domain.
fn elsewhere<'a>(host: &'a str, own: &str, port: Option<u16>, out: &mut Domains<'a>) {
    let shared = host
        .rsplit('.')
        .zip(own.rsplit('.'))
        .take_while(|(a, b)| a == b)
        .count();
    let labels = host.split('.').count();
    if shared == 0 || shared >= labels || own.is_empty() {
        return;
    }
    let end_of = |labels: usize| {
        host.split('.')
            .take(labels)
            .map(|l| l.len() + 1)
            .sum::<usize>()
            - 1
    };
    let unique = labels - shared;
    push(out, host[..end_of(unique)].into(), port, true);
    if unique == 2 {
        push(out, host[..end_of(unique + 1)].into(), port, true);
    }
}

fn push<'a>(out: &mut Domains<'a>, text: Cow<'a, str>, port: Option<u16>, short: bool) {
    let second = port.map(|port| Domain {
        text: format!("{text}:{port}").into(),
        short,
        with_port: true,
    });
    out.push(Domain {
        text,
        short,
        with_port: false,
    });
    out.extend(second);
}

/// A host as an authority writes it: IPv6 addresses in brackets.
pub(super) fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') && host.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]").into()
    } else {
        host.into()
    }
}

/// The name of a virtual host.
pub(super) fn host_and_port(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}
