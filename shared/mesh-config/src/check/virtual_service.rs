//! VirtualService.

mod answers;
mod http;
mod l4;
mod matches;
mod reach;
mod retries;

pub(super) use retries::retries;

use mesh_types::Code;

use super::hosts::Cover;
use super::report::Report;
use super::{hosts, names, values};
use crate::Meta;
use crate::resource::virtual_service::{Destination, VirtualService};

/// What the parts of a VirtualService need to know about the whole.
struct Whole<'a> {
    vs: &'a VirtualService,
    /// Its hosts.
    hosts: Cover,
    /// Only gateways apply the rules, no sidecar.
    gateways_only: bool,
    /// It has no hosts: other VirtualServices delegate to it.
    delegate: bool,
}

pub(super) fn check(r: &mut Report, meta: &Meta, vs: &VirtualService) {
    let whole = Whole {
        vs,
        hosts: Cover::new(vs.hosts.iter().map(String::as_str)),
        gateways_only: !vs.gateways.is_empty() && !vs.gateways.iter().any(|g| g == "mesh"),
        delegate: vs.hosts.is_empty(),
    };
    if whole.delegate {
        let says = "must not be set without hosts: this object is a delegate, used by others for its HTTP rules alone";
        for (name, set) in [
            ("gateways", !vs.gateways.is_empty()),
            ("tls", !vs.tls.is_empty()),
            ("tcp", !vs.tcp.is_empty()),
        ] {
            if set {
                r.say_at(name, Code::Conflict, says);
            }
        }
    }
    if vs.http.is_empty() && vs.tcp.is_empty() && vs.tls.is_empty() {
        r.say(Code::Required, "one of http, tcp and tls must be set");
    }
    gateway_names(r, &vs.gateways);
    check_hosts(r, &whole);
    r.items("http", &vs.http, |r, _, route| {
        http::check(r, &whole, route)
    });
    r.items("tls", &vs.tls, |r, _, route| l4::tls(r, &whole, route));
    r.items("tcp", &vs.tcp, |r, _, route| l4::tcp(r, route));
    reach::check(r, vs);
    values::export_to(r, &vs.export_to, &meta.key.namespace, false);
}

fn gateway_names(r: &mut Report, gateways: &[String]) {
    r.items("gateways", gateways, |r, _, gateway| {
        let valid = match gateway.split_once('/') {
            Some((namespace, name)) => {
                (namespace == "." || names::is_label(namespace)) && names::is_label(name)
            }
            None => hosts::is_fqdn(gateway),
        };
        if !valid {
            let message = format!("{gateway:?} is no gateway; write NAMESPACE/NAME, NAME or mesh");
            r.say(Code::Malformed, message);
        } else if gateway.contains('.') && !gateway.contains('/') {
            let message =
                format!("{gateway:?} is the old way to name a gateway; write NAMESPACE/NAME");
            r.say(Code::Deprecated, message);
        }
    });
}

fn check_hosts(r: &mut Report, whole: &Whole<'_>) {
    let mut seen = Cover::default();
    let mut all_valid = true;
    r.items("hosts", &whole.vs.hosts, |r, _, host| {
        let sni_name = whole.gateways_only && !whole.vs.tls.is_empty() && host.starts_with("outbound_.");
        if !(hosts::is_wildcard_domain(host) || values::is_ip(host) || sni_name) {
            r.say(Code::Malformed, hosts::want_host(host));
            all_valid = false;
        } else if host == "*" && !whole.gateways_only {
            r.say(Code::Conflict, "* would take every host of the mesh; name hosts, or bind the object to gateways alone");
            all_valid = false;
        } else if !seen.insert(host) {
            r.say(Code::Duplicate, format!("{host} is given twice"));
        }
    });
    if all_valid {
        r.items("hosts", &whole.vs.hosts, |r, _, host| {
            if let Some(wildcard) = whole.hosts.wildcard_over(host) {
                r.say(
                    Code::Duplicate,
                    format!("{host} is covered by {wildcard} already"),
                );
            }
        });
    }
}

/// A destination of a route or mirror.
fn destination(r: &mut Report, destination: Option<&Destination>) {
    let Some(d) = destination else {
        return r.say_at(
            "destination",
            Code::Required,
            "must be set: where does the traffic go?",
        );
    };
    r.field("destination", |r| plain_destination(r, d));
}

/// The destination itself.
fn plain_destination(r: &mut Report, d: &Destination) {
    if d.host.is_empty() {
        r.say_at("host", Code::Required, "must be set to a service");
    } else if d.host == "*" || !(hosts::is_wildcard_domain(&d.host) || values::is_ip(&d.host)) {
        r.say_at("host", Code::Malformed, hosts::want_host(&d.host));
    }
    if !d.subset.is_empty() && !names::is_label_of_any_case(&d.subset) {
        r.say_at("subset", Code::Malformed, names::want_label(&d.subset));
    }
    if let Some(port) = &d.port {
        r.field("port", |r| {
            r.test("number", Code::OutOfRange, values::port(port.number))
        });
    }
}

/// Shares of several destinations.
fn weights(r: &mut Report, name: &'static str, weights: impl Iterator<Item = i32> + Clone) {
    let total: i64 = weights.clone().map(i64::from).sum();
    if weights.clone().count() > 1 && total == 0 {
        r.say_at(name, Code::OutOfRange, "the weights add up to 0, so no destination would be chosen; give at least one a weight");
    }
    if total > i64::from(u32::MAX) {
        r.say_at(
            name,
            Code::OutOfRange,
            format!(
                "the weights add up to {total}, at most {} are possible",
                u32::MAX
            ),
        );
    }
}
