//! Gateway, and what it shares with Sidecar: server ports and their TLS.

use std::collections::BTreeSet;

use mesh_types::{Code, Protocol};

use super::report::Report;
use super::{hosts, names, values};
use crate::Meta;
use crate::resource::gateway::{
    Gateway, Server, ServerPort, ServerTlsMode, ServerTlsSettings, TlsProtocol,
};
use crate::resource::tls::CIPHER_SUITES;

pub(super) fn check(r: &mut Report, meta: &Meta, gateway: &Gateway) {
    if !names::is_label(&meta.key.name) {
        // Routes name a gateway as NAMESPACE/NAME, both of them labels.
        r.say(
            Code::Malformed,
            format!(
                "the object's name {:?} has a dot or is too long for a gateway",
                meta.key.name
            ),
        );
    }
    r.need("servers", !gateway.servers.is_empty(), "");
    values::labels(r, "selector", &gateway.selector);
    let mut port_names = BTreeSet::new();
    r.items("servers", &gateway.servers, |r, _, one| {
        server(r, one);
        if let Some(port) = &one.port
            && !port.name.is_empty()
            && !port_names.insert(&port.name)
        {
            let message = format!("{} is given twice", port.name);
            r.field("port", |r| r.say_at("name", Code::Duplicate, message));
        }
    });
}

fn server(r: &mut Report, server: &Server) {
    r.need("hosts", !server.hosts.is_empty(), "; * takes every host");
    r.items("hosts", &server.hosts, |r, _, host| {
        let (namespace, name) = host
            .split_once('/')
            .map_or((None, host.as_str()), |(ns, name)| (Some(ns), name));
        if namespace.is_some_and(|ns| !matches!(ns, "*" | ".") && !names::is_label(ns)) {
            r.say(
                Code::Malformed,
                format!("{host:?}: write NAMESPACE/HOST, ./HOST or */HOST"),
            );
        }
        if let Err(message) = hosts::server_host(name) {
            r.say(Code::Malformed, message);
        }
    });
    let on_socket = bind(r, &server.bind);
    let protocol = match &server.port {
        None => {
            r.say_at("port", Code::Required, "must be set");
            None
        }
        Some(port) => r.field("port", |r| {
            r.need("name", !port.name.is_empty(), "");
            server_port(r, port, on_socket);
            Protocol::parse(&port.protocol)
        }),
    };
    if !server.default_endpoint.is_empty() {
        r.say_at(
            "defaultEndpoint",
            Code::NoEffect,
            "no proxy acts on it; remove it",
        );
    }
    let Some(protocol) = protocol else { return };
    match &server.tls {
        None => r.need("tls", !protocol.is_tls(), " for HTTPS and TLS"),
        Some(tls) => r.field("tls", |r| {
            let redirect_only = !has_certificate(tls)
                && (tls.https_redirect || tls.mode == ServerTlsMode::Passthrough);
            if !(protocol.is_tls() || protocol.is_http() && redirect_only) {
                r.say(
                    Code::Conflict,
                    "goes with protocol HTTPS or TLS; beside HTTP only httpsRedirect may be set",
                );
            }
            if tls.https_redirect && !protocol.is_http() {
                r.say_at(
                    "httpsRedirect",
                    Code::NoEffect,
                    "redirects plain HTTP alone; move it to the server of the HTTP port",
                );
            }
            if protocol.is_tls() {
                server_tls(r, tls);
            }
        }),
    }
}

/// Where a port is opened. Answers whether that is a socket in the file system.
fn bind(r: &mut Report, bind: &str) -> bool {
    if let Some(path) = bind.strip_prefix("unix://") {
        r.test("bind", Code::Malformed, values::unix_path(path));
        return true;
    }
    if !bind.is_empty() && !values::is_ip(bind) {
        r.say_at(
            "bind",
            Code::Malformed,
            format!("{bind:?} is neither an IP address nor unix://PATH"),
        );
    }
    false
}

/// Number, protocol and name of a port.
pub(super) fn server_port(r: &mut Report, port: &ServerPort, on_socket: bool) {
    values::protocol(r, &port.protocol, false);
    if on_socket && port.number != 0 {
        r.say_at("number", Code::Conflict, "must be 0 beside bind: unix://..");
    } else if !on_socket {
        r.test("number", Code::OutOfRange, values::port(port.number));
    }
    if port.target_port != 0 {
        r.say_at(
            "targetPort",
            Code::Conflict,
            "has no meaning here; remove it",
        );
    }
}

fn has_certificate(tls: &ServerTlsSettings) -> bool {
    certificate_fields(tls).iter().any(|(_, set)| *set)
}

fn certificate_fields(tls: &ServerTlsSettings) -> [(&'static str, bool); 6] {
    [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ]
}

/// Words of TLS: those that proxies do not know are left out.
pub(super) fn words(r: &mut Report, field: &'static str, words: &[String], known: &[&str]) {
    let mut seen = BTreeSet::new();
    r.items(field, words, |r, _, word| {
        if !known.contains(&word.as_str()) {
            r.say(
                Code::NoEffect,
                format!("{word:?} is left out: proxies do not know it"),
            );
        } else if !seen.insert(word) {
            r.say(Code::NoEffect, format!("{word} is given twice"));
        }
    });
}

/// TLS of a port.
pub(super) fn server_tls(r: &mut Report, tls: &ServerTlsSettings) {
    if matches!(
        tls.min_protocol_version,
        TlsProtocol::V1_0 | TlsProtocol::V1_1
    ) && tls.cipher_suites.is_empty()
    {
        r.say_at(
            "minProtocolVersion",
            Code::Risky,
            "needs cipherSuites that old clients know; the default ones begin at TLS 1.2",
        );
    }
    words(r, "cipherSuites", &tls.cipher_suites, CIPHER_SUITES);
    match tls.mode {
        ServerTlsMode::IstioMutual => {
            for (name, _) in certificate_fields(tls).iter().filter(|(_, set)| *set) {
                r.say_at(
                    *name,
                    Code::Conflict,
                    "must not be set in mode ISTIO_MUTUAL, which has certificates of its own",
                );
            }
            return;
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            for (name, _) in certificate_fields(tls).iter().filter(|(_, set)| *set) {
                r.say_at(
                    *name,
                    Code::NoEffect,
                    "does nothing in a passthrough mode, where the service itself ends TLS",
                );
            }
            return;
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {}
    }
    let files = !tls.server_certificate.is_empty() || !tls.private_key.is_empty();
    r.at_most_one(&[
        ("serverCertificate", files),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]);
    if !tls.ca_crl.is_empty() && tls.mode == ServerTlsMode::Simple {
        r.say_at(
            "caCrl",
            Code::Conflict,
            "mode SIMPLE asks clients for no certificate",
        );
    }
    if !tls.credential_name.is_empty() || !tls.credential_names.is_empty() {
        return;
    }
    let clients = tls.mode != ServerTlsMode::Simple;
    if tls.tls_certificates.is_empty() {
        r.need(
            "serverCertificate",
            !tls.server_certificate.is_empty(),
            ", or credentialName",
        );
        r.need(
            "privateKey",
            !tls.private_key.is_empty(),
            ", or credentialName",
        );
        if clients {
            r.need(
                "caCertificates",
                !tls.ca_certificates.is_empty(),
                " to check client certificates",
            );
        }
    }
    if tls.tls_certificates.len() > 2 {
        r.say_at(
            "tlsCertificates",
            Code::Risky,
            "more than two certificates (one RSA, one ECDSA) are of no use to clients",
        );
    }
    r.items(
        "tlsCertificates",
        &tls.tls_certificates,
        |r, _, certificate| {
            r.need(
                "serverCertificate",
                !certificate.server_certificate.is_empty(),
                "",
            );
            r.need("privateKey", !certificate.private_key.is_empty(), "");
            if clients {
                let ca = !certificate.ca_certificates.is_empty() || !tls.ca_certificates.is_empty();
                r.need("caCertificates", ca, " to check client certificates");
            }
        },
    );
}
