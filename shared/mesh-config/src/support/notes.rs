//! Features of resources that this version does not act on.

use mesh_types::{Code, FieldError};

use crate::Body;
use crate::check::Report;
use crate::check::hosts::is_partial_wildcard;
use crate::resource::destination_rule::{
    ClientTlsMode, ClientTlsSettings, DestinationRule, LoadBalancerSettings,
    LocalityLoadBalancerSetting, TrafficPolicy,
};
use crate::resource::gateway::{Gateway, ServerTlsMode};
use crate::resource::mesh::MeshConfig;
use crate::resource::request_authentication::PolicyTargetReference;
use crate::resource::service_entry::{Resolution, ServiceEntry};
use crate::resource::sidecar::OutboundMode;
use crate::resource::virtual_service::VirtualService;

/// A `not-supported` warning for every such feature that an object uses.
pub(crate) fn notes(body: &Body) -> Vec<FieldError> {
    let mut r = Report::of_spec();
    match body {
        Body::VirtualService(vs) => virtual_service(&mut r, vs),
        Body::DestinationRule(rule) => destination_rule(&mut r, rule),
        Body::Gateway(one) => gateway(&mut r, one),
        Body::ServiceEntry(entry) => service_entry(&mut r, entry),
        Body::MeshConfig(config) => mesh(&mut r, config),
        Body::Sidecar(_)
        | Body::WorkloadEntry(_)
        | Body::Namespace(_)
        | Body::Node(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Pod(_)
        | Body::Secret(_)
        | Body::ConfigMap(_)
        | Body::MeshService(_)
        | Body::MeshEndpoints(_)
        | Body::MeshWorkload(_)
        | Body::MeshTrust(_)
        | Body::MeshJwks(_)
        | Body::PeerAuthentication(_) => {}
        Body::RequestAuthentication(policy) => {
            targets(&mut r, policy.target_ref.as_ref(), &policy.target_refs)
        }
        Body::AuthorizationPolicy(policy) => {
            targets(&mut r, policy.target_ref.as_ref(), &policy.target_refs)
        }
    }
    r.into_errors()
}

/// Writes down what is not acted on, and what happens instead.
fn not_yet(r: &mut Report, field: &'static str, used: bool, instead: &str) {
    if used {
        r.say_at(
            field,
            Code::NotSupported,
            format!("this version does not act on it: {instead}"),
        );
    }
}

/// A host such as `*foo.com`.
fn partial_wildcard(r: &mut Report, host: &str) {
    if is_partial_wildcard(host) {
        let says = "this version does not act on it: a wildcard is the whole first label, as in *.example.com";
        r.say(Code::NotSupported, says);
    }
}

/// What a policy is attached to.
fn targets(
    r: &mut Report,
    target: Option<&PolicyTargetReference>,
    targets: &[PolicyTargetReference],
) {
    let nothing = |target: &PolicyTargetReference| target.kind != "Gateway";
    let instead = "there are no waypoints, so the policy is attached to nothing";
    not_yet(r, "targetRef", target.is_some_and(nothing), instead);
    not_yet(r, "targetRefs", targets.iter().any(nothing), instead);
}

fn virtual_service(r: &mut Report, vs: &VirtualService) {
    r.items("hosts", &vs.hosts, |r, _, host| partial_wildcard(r, host));
    let at_gateways = vs.gateways.iter().any(|name| name != "mesh");
    r.items("http", &vs.http, |r, _, route| {
        r.items("match", &route.matches, |r, _, m| {
            let claims = m
                .headers
                .keys()
                .chain(m.without_headers.keys())
                .any(|name| name.starts_with("@request.auth.claims"));
            if claims && !at_gateways {
                let message = "claims of tokens are known at gateways alone, and the rules are for none: they match nothing";
                r.say_at("headers", Code::NoEffect, message);
            }
        });
    });
}

fn destination_rule(r: &mut Report, rule: &DestinationRule) {
    r.field("host", |r| partial_wildcard(r, &rule.host));
    let chosen = rule.workload_selector.is_some();
    r.some("trafficPolicy", rule.traffic_policy.as_ref(), |r, p| {
        policy(r, p, chosen)
    });
    r.items("subsets", &rule.subsets, |r, _, subset| {
        r.some("trafficPolicy", subset.traffic_policy.as_ref(), |r, p| {
            policy(r, p, chosen)
        })
    });
}

fn policy(r: &mut Report, policy: &TrafficPolicy, chosen: bool) {
    client_tls(r, policy.tls.as_ref(), chosen);
    load_balancer(r, policy.load_balancer.as_ref());
    not_yet(
        r,
        "proxyProtocol",
        policy.proxy_protocol.is_some(),
        "no header is sent",
    );
    r.items(
        "portLevelSettings",
        &policy.port_level_settings,
        |r, _, port| {
            client_tls(r, port.tls.as_ref(), chosen);
            load_balancer(r, port.load_balancer.as_ref());
        },
    );
}

/// `chosen`: whether the rule is for certain workloads.
fn client_tls(r: &mut Report, tls: Option<&ClientTlsSettings>, chosen: bool) {
    let Some(tls) = tls.filter(|tls| !tls.credential_name.is_empty()) else {
        return;
    };
    let used = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    let map = tls.credential_name.starts_with("configmap://");
    r.field("tls", |r| {
        if used && map {
            let instead = "no ConfigMap is read, and connections fail";
            not_yet(r, "credentialName", true, instead);
        } else if used && chosen {
            let instead = "only gateways are given credentials, and connections of sidecars fail";
            not_yet(r, "credentialName", true, instead);
        } else if used {
            r.say_at(
                "credentialName",
                Code::Risky,
                "counts at gateways alone: sidecars make these connections without TLS; name files there",
            );
        }
    });
}

fn load_balancer(r: &mut Report, lb: Option<&LoadBalancerSettings>) {
    r.some("loadBalancer", lb, |r, lb| {
        r.some(
            "localityLbSetting",
            lb.locality_lb_setting.as_ref(),
            locality,
        );
        not_yet(
            r,
            "zoneAwareLbSetting",
            lb.zone_aware_lb_setting.is_some(),
            "every zone is treated alike",
        );
    });
}

fn locality(r: &mut Report, setting: &LocalityLoadBalancerSetting) {
    let alike = "every locality is treated alike";
    not_yet(r, "distribute", !setting.distribute.is_empty(), alike);
    not_yet(r, "failover", !setting.failover.is_empty(), alike);
    not_yet(
        r,
        "failoverPriority",
        !setting.failover_priority.is_empty(),
        alike,
    );
}

fn gateway(r: &mut Report, gateway: &Gateway) {
    r.items("servers", &gateway.servers, |r, _, server| {
        let used = server
            .tls
            .as_ref()
            .is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough);
        not_yet(r, "tls", used, "the server is left out");
    });
}

fn service_entry(r: &mut Report, entry: &ServiceEntry) {
    r.items("hosts", &entry.hosts, |r, _, host| {
        partial_wildcard(r, host)
    });
    let dynamic = entry.resolution == Resolution::DynamicDns;
    not_yet(
        r,
        "resolution",
        dynamic,
        "DYNAMIC_DNS hosts are not reachable by their names",
    );
}

fn mesh(r: &mut Report, config: &MeshConfig) {
    let dynamic = config.outbound_traffic_policy.mode == OutboundMode::AllowAnyDynamicDns;
    not_yet(
        r,
        "outboundTrafficPolicy",
        dynamic,
        "ALLOW_ANY_DYNAMIC_DNS works as ALLOW_ANY",
    );
    r.some(
        "localityLbSetting",
        config.locality_lb_setting.as_ref(),
        locality,
    );
    not_yet(
        r,
        "zoneAwareLbSetting",
        config.zone_aware_lb_setting.is_some(),
        "every zone is treated alike",
    );
    let default = MeshConfig::default();
    for (field, used) in [
        (
            "ingressControllerMode",
            config.ingress_controller_mode != default.ingress_controller_mode,
        ),
        (
            "ingressClass",
            config.ingress_class != default.ingress_class,
        ),
        (
            "ingressService",
            config.ingress_service != default.ingress_service,
        ),
    ] {
        not_yet(r, field, used, "no Ingress is read");
    }
    super::providers::notes(r, config);
}
