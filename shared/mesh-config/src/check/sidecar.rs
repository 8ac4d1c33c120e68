//! Sidecar.

use std::collections::BTreeSet;

use mesh_types::{Code, Protocol};

use super::report::Report;
use super::{gateway, hosts, names, traffic_policy, values};
use crate::resource::gateway::ServerTlsMode;
use crate::resource::sidecar::{
    CaptureMode, IstioEgressListener, IstioIngressListener, OutboundMode, OutboundTrafficPolicy,
    Sidecar,
};

pub(super) fn check(r: &mut Report, sidecar: &Sidecar) {
    values::selector(r, sidecar.workload_selector.as_ref());
    if sidecar.ingress.is_empty()
        && sidecar.egress.is_empty()
        && sidecar.outbound_traffic_policy.is_none()
        && sidecar.inbound_connection_pool.is_none()
    {
        r.say(
            Code::Required,
            "one of ingress, egress, outboundTrafficPolicy and inboundConnectionPool must be set",
        );
    }
    let mut ports = BTreeSet::new();
    r.items("ingress", &sidecar.ingress, |r, _, listener| {
        ingress(r, listener);
        let number = listener.port.as_ref().map_or(0, |p| p.number);
        if number != 0 && !ports.insert(number) {
            r.field("port", |r| {
                r.say_at(
                    "number",
                    Code::Duplicate,
                    format!("{number} is given twice"),
                )
            });
        }
    });
    r.some(
        "inboundConnectionPool",
        sidecar.inbound_connection_pool.as_ref(),
        traffic_policy::connection_pool,
    );
    egresses(r, &sidecar.egress);
    r.some(
        "outboundTrafficPolicy",
        sidecar.outbound_traffic_policy.as_ref(),
        |r, policy| outbound_policy(r, policy, false),
    );
}

fn ingress(r: &mut Report, listener: &IstioIngressListener) {
    let protocol = match &listener.port {
        None => {
            r.say_at("port", Code::Required, "must be set");
            None
        }
        Some(port) => r.field("port", |r| {
            gateway::server_port(r, port, false);
            if !port.name.is_empty() && !names::is_label_of_any_case(&port.name) {
                r.say_at("name", Code::Malformed, names::want_label(&port.name));
            }
            Protocol::parse(&port.protocol)
        }),
    };
    if !listener.bind.is_empty() && !values::is_ip(&listener.bind) {
        r.say_at(
            "bind",
            Code::Malformed,
            format!("{:?} is no IP address", listener.bind),
        );
    }
    r.test(
        "defaultEndpoint",
        Code::Malformed,
        default_endpoint(&listener.default_endpoint),
    );
    r.some(
        "connectionPool",
        listener.connection_pool.as_ref(),
        |r, pool| {
            traffic_policy::connection_pool(r, pool);
            if pool.http.is_some() && protocol.is_some_and(|p| !p.is_http()) {
                r.say_at(
                    "http",
                    Code::NoEffect,
                    "does nothing on a port that is not HTTP",
                );
            }
        },
    );
    r.some("tls", listener.tls.as_ref(), |r, tls| {
        let unfit = [
            ("subjectAltNames", !tls.subject_alt_names.is_empty()),
            ("httpsRedirect", tls.https_redirect),
            ("credentialName", !tls.credential_name.is_empty()),
            ("credentialNames", !tls.credential_names.is_empty()),
            ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ];
        for (name, _) in unfit.iter().filter(|(_, set)| *set) {
            r.say_at(*name, Code::Conflict, "must not be set for a sidecar");
        }
        if matches!(
            tls.mode,
            ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough
        ) {
            r.say_at(
                "mode",
                Code::Conflict,
                "a sidecar takes SIMPLE, MUTUAL, OPTIONAL_MUTUAL or PASSTHROUGH",
            );
        }
        if protocol.is_some_and(|p| !p.is_tls()) {
            r.say(Code::Conflict, "goes with protocol HTTPS or TLS");
        }
        gateway::server_tls(r, tls);
    });
}

/// Where the application listens.
fn default_endpoint(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    if let Some(path) = text.strip_prefix("unix://") {
        return values::unix_path(path);
    }
    let wrong = || {
        format!(
            "{text:?} is no place for an application; write 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///PATH"
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if !matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "::1" | "::") {
        return Err(wrong());
    }
    port.parse().map_err(|_| wrong()).and_then(values::port)
}

fn egresses(r: &mut Report, egress: &[IstioEgressListener]) {
    let mut seen: BTreeSet<(u32, &str)> = BTreeSet::new();
    let last = egress.len().saturating_sub(1);
    for (i, listener) in egress.iter().enumerate() {
        r.item("egress", i, |r| {
            match &listener.port {
                None if i != last => r.say_at(
                    "port",
                    Code::Conflict,
                    "a listener without port takes all other traffic; put it last",
                ),
                None => {}
                Some(port) => {
                    let bind = listener.bind.as_str();
                    let socket = bind.strip_prefix("unix://");
                    if port.number == 0 {
                        match socket {
                            Some(path) => r.test("bind", Code::Malformed, values::unix_path(path)),
                            None => r.say_at(
                                "bind",
                                Code::Required,
                                "must be unix://PATH beside port number 0",
                            ),
                        }
                        if listener.capture_mode == CaptureMode::Iptables {
                            r.say_at(
                                "captureMode",
                                Code::Conflict,
                                "a socket cannot be captured; leave it out or write NONE",
                            );
                        }
                    } else if socket.is_some() {
                        r.field("port", |r| {
                            r.say_at("number", Code::Conflict, "must be 0 beside bind: unix://..")
                        });
                    } else if !bind.is_empty() && !values::is_ip(bind) {
                        r.say_at(
                            "bind",
                            Code::Malformed,
                            format!("{bind:?} is neither an IP address nor unix://PATH"),
                        );
                    }
                    r.field("port", |r| gateway::server_port(r, port, port.number == 0));
                    let key = (port.number, if port.number == 0 { bind } else { "" });
                    if !seen.insert(key) {
                        r.say_at(
                            "port",
                            Code::Duplicate,
                            "another listener has the same port",
                        );
                    }
                }
            }
            egress_hosts(r, listener);
        });
    }
}

fn egress_hosts(r: &mut Report, listener: &IstioEgressListener) {
    r.need(
        "hosts",
        !listener.hosts.is_empty(),
        "; */* imports everything, ~/* nothing",
    );
    let whole: BTreeSet<&str> = listener
        .hosts
        .iter()
        .filter_map(|h| h.strip_suffix("/*"))
        .collect();
    let mut seen = BTreeSet::new();
    r.items("hosts", &listener.hosts, |r, _, entry| {
        let Some((namespace, host)) = entry.split_once('/') else {
            return r.say(Code::Malformed, format!("{entry:?}: write NAMESPACE/HOST, for example ./{entry} or */{entry}"));
        };
        let plain = namespace.strip_prefix('~').unwrap_or(namespace);
        if !matches!(namespace, "*" | "." | "~") && !names::is_label(plain) {
            r.say(Code::Malformed, format!("{namespace:?} is no namespace; write its name, . for the object's own or * for all"));
        }
        if let Err(message) = hosts::server_host(host) {
            r.say(Code::Malformed, message);
        }
        if !seen.insert(entry.as_str()) {
            r.say(Code::NoEffect, format!("{entry} is given twice"));
        } else if host != "*" && whole.contains(namespace) {
            r.say(Code::NoEffect, format!("{namespace}/* imports it already"));
        }
        if entry == "*/*" && listener.hosts.len() > 1 {
            r.say(Code::NoEffect, "*/* imports everything, so the other hosts add nothing");
        }
    });
}

/// What happens to traffic for unknown destinations, here and in the mesh.
pub(super) fn outbound_policy(r: &mut Report, policy: &OutboundTrafficPolicy, mesh: bool) {
    if policy.mode == OutboundMode::AllowAnyDynamicDns && !mesh {
        r.say_at(
            "mode",
            Code::Conflict,
            "is for the whole mesh alone; write ALLOW_ANY or REGISTRY_ONLY",
        );
    }
    r.some("egressProxy", policy.egress_proxy.as_ref(), |r, proxy| {
        if policy.mode != OutboundMode::AllowAny {
            r.say(Code::Conflict, "goes with mode ALLOW_ANY");
        }
        if !hosts::is_fqdn(&proxy.host) {
            r.say_at("host", Code::Malformed, hosts::want_host(&proxy.host));
        }
        match &proxy.port {
            None => r.say_at("port", Code::Required, "must be set"),
            Some(port) => r.field("port", |r| {
                r.test("number", Code::OutOfRange, values::port(port.number))
            }),
        }
    });
}
