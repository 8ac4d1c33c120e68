//! TLS and TCP rules.

use mesh_types::Code;

use super::{Whole, destination, matches, weights};
use crate::check::report::Report;
use crate::check::{hosts, values};
use crate::resource::virtual_service::{RouteDestination, TcpRoute, TlsRoute};

pub(super) fn tls(r: &mut Report, whole: &Whole<'_>, route: &TlsRoute) {
    r.need(
        "match",
        !route.matches.is_empty(),
        ": a TLS rule is chosen by the server name (sniHosts)",
    );
    r.items("match", &route.matches, |r, _, m| {
        r.need("sniHosts", !m.sni_hosts.is_empty(), "");
        r.items("sniHosts", &m.sni_hosts, |r, _, host| {
            if values::is_ip(host) {
                return r.say(
                    Code::NoEffect,
                    format!("{host}: clients send names, never addresses, as server name"),
                );
            }
            if !hosts::is_wildcard_domain(host) && !host.starts_with("outbound_.") {
                return r.say(Code::Malformed, hosts::want_host(host));
            }
            let covered = whole.hosts.contains(host) || whole.hosts.wildcard_over(host).is_some();
            if !whole.vs.hosts.is_empty() && !covered {
                r.say(
                    Code::Conflict,
                    format!("{host} is none of the object's hosts; add it there"),
                );
            }
        });
        l4(r, &m.destination_subnets, m.port);
        matches::source(r, &m.source_labels, &m.source_namespace, &m.gateways);
    });
    destinations(r, &route.route);
}

pub(super) fn tcp(r: &mut Report, route: &TcpRoute) {
    r.items("match", &route.matches, |r, _, m| {
        l4(r, &m.destination_subnets, m.port);
        if !m.source_subnet.is_empty() {
            r.say_at(
                "sourceSubnet",
                Code::NoEffect,
                "no proxy acts on it; remove it",
            );
        }
        matches::source(r, &m.source_labels, &m.source_namespace, &m.gateways);
    });
    destinations(r, &route.route);
}

fn l4(r: &mut Report, subnets: &[String], port: u32) {
    r.items("destinationSubnets", subnets, |r, _, subnet| {
        if let Err(message) = values::subnet(subnet) {
            r.say(Code::Malformed, message);
        }
    });
    if port != 0 {
        r.test("port", Code::OutOfRange, values::port(port));
    }
}

fn destinations(r: &mut Report, route: &[RouteDestination]) {
    r.need("route", !route.is_empty(), ": where does the traffic go?");
    r.items("route", route, |r, _, to| {
        destination(r, to.destination.as_ref());
        values::not_negative(r, "weight", to.weight);
    });
    weights(r, "route", route.iter().map(|to| to.weight));
}
