//! PeerAuthentication.

use mesh_types::Code;

use super::report::Report;
use super::targets;
use crate::resource::peer_authentication::PeerAuthentication;

pub(super) fn check(r: &mut Report, policy: &PeerAuthentication) {
    targets::selector(r, policy.selector.as_ref());
    let Some(ports) = &policy.port_level_mtls else {
        return;
    };
    let selects = policy
        .selector
        .as_ref()
        .is_some_and(|s| !s.match_labels.is_empty());
    r.field("portLevelMtls", |r| {
        if !selects {
            r.say(
                Code::Conflict,
                "goes with a selector: ports are those of certain workloads",
            );
        }
        if ports.is_empty() {
            r.say(
                Code::Required,
                "must have a port; remove it if none is meant",
            );
        }
        for port in ports.keys() {
            // In decimal and in no other way, so that no port is written twice.
            let number = port.parse::<u16>().ok().filter(|n| n.to_string() == *port);
            if number.is_none_or(|n| n == 0) {
                let message = format!("{port:?} is no port, want 1..=65535");
                r.say_at(port.clone(), Code::OutOfRange, message);
            }
        }
    });
}
