//! MeshConfig.

use mesh_types::Code;
use serde_json::Value;

use super::report::Report;
use super::virtual_service::retries;
use super::{
    ext_authz, gateway, hosts, load_balancer, log_format, names, sidecar, traffic_policy, values,
};
use crate::resource::Duration;
use crate::resource::destination_rule::LocalityLoadBalancerSetting;
use crate::resource::mesh::{AccessLogEncoding, MeshConfig};
use crate::resource::tls::{CIPHER_SUITES, CURVES};

pub(super) fn check(r: &mut Report, mesh: &MeshConfig) {
    r.test(
        "proxyListenPort",
        Code::OutOfRange,
        values::port(mesh.proxy_listen_port),
    );
    r.test(
        "proxyInboundListenPort",
        Code::OutOfRange,
        values::port(mesh.proxy_inbound_listen_port),
    );
    if mesh.proxy_http_port != 0 {
        r.test(
            "proxyHttpPort",
            Code::OutOfRange,
            values::port(mesh.proxy_http_port),
        );
    }
    if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&mesh.connect_timeout) {
        r.say_at(
            "connectTimeout",
            Code::OutOfRange,
            format!("{} is outside 1ms..=1h", mesh.connect_timeout),
        );
    }
    values::duration_or_zero(
        r,
        "protocolDetectionTimeout",
        Some(mesh.protocol_detection_timeout),
    );
    r.test(
        "dnsRefreshRate",
        Code::OutOfRange,
        values::duration(mesh.dns_refresh_rate),
    );
    if !names::is_label(&mesh.root_namespace) {
        r.say_at(
            "rootNamespace",
            Code::Malformed,
            names::want_label(&mesh.root_namespace),
        );
    }
    if !is_trust_domain(&mesh.trust_domain) {
        r.say_at(
            "trustDomain",
            Code::Malformed,
            want_trust_domain(&mesh.trust_domain),
        );
    }
    if mesh.trust_domain.bytes().any(|b| b.is_ascii_uppercase()) {
        r.say_at(
            "trustDomain",
            Code::Risky,
            "SPIFFE wants lower case; it is used as written everywhere, since proxies compare bytes",
        );
    }
    r.some("meshMTLS", mesh.mesh_mtls.as_ref(), |r, tls| {
        gateway::words(r, "cipherSuites", &tls.cipher_suites, CIPHER_SUITES);
        if !tls.ecdh_curves.is_empty() {
            r.say_at(
                "ecdhCurves",
                Code::Conflict,
                "must not be set here; write it in tlsDefaults",
            );
        }
    });
    r.some("tlsDefaults", mesh.tls_defaults.as_ref(), |r, tls| {
        gateway::words(r, "cipherSuites", &tls.cipher_suites, CIPHER_SUITES);
        gateway::words(r, "ecdhCurves", &tls.ecdh_curves, CURVES);
    });
    r.items(
        "trustDomainAliases",
        &mesh.trust_domain_aliases,
        |r, _, alias| {
            // A wildcard first label and an Istio-style path are accepted in aliases.
            if !is_trust_domain(alias.strip_prefix("*.").unwrap_or(alias)) {
                r.say(Code::Malformed, want_trust_domain(alias));
            }
        },
    );
    r.some(
        "tcpKeepalive",
        mesh.tcp_keepalive.as_ref(),
        |r, keepalive| {
            values::duration_field(r, "time", keepalive.time);
            values::duration_field(r, "interval", keepalive.interval);
        },
    );
    r.some(
        "localityLbSetting",
        mesh.locality_lb_setting.as_ref(),
        load_balancer::locality,
    );
    r.some(
        "zoneAwareLbSetting",
        mesh.zone_aware_lb_setting.as_ref(),
        load_balancer::zone_aware,
    );
    r.at_most_one(&[
        (
            "localityLbSetting",
            mesh.locality_lb_setting
                .as_ref()
                .is_some_and(|locality| *locality != LocalityLoadBalancerSetting::on()),
        ),
        ("zoneAwareLbSetting", mesh.zone_aware_lb_setting.is_some()),
    ]);
    r.some(
        "defaultHttpRetryPolicy",
        mesh.default_http_retry_policy.as_ref(),
        retries,
    );
    r.some(
        "defaultInboundHttpRetryPolicy",
        mesh.default_inbound_http_retry_policy.as_ref(),
        retries,
    );
    r.some(
        "defaultTrafficPolicy",
        mesh.default_traffic_policy.as_ref(),
        |r, policy| {
            r.some(
                "connectionPool",
                policy.connection_pool.as_ref(),
                traffic_policy::connection_pool,
            );
            r.some(
                "outlierDetection",
                policy.outlier_detection.as_ref(),
                traffic_policy::outlier_detection,
            );
        },
    );
    r.field("outboundTrafficPolicy", |r| {
        sidecar::outbound_policy(r, &mesh.outbound_traffic_policy, true)
    });
    for (name, list) in [
        ("defaultServiceExportTo", &mesh.default_service_export_to),
        (
            "defaultVirtualServiceExportTo",
            &mesh.default_virtual_service_export_to,
        ),
        (
            "defaultDestinationRuleExportTo",
            &mesh.default_destination_rule_export_to,
        ),
    ] {
        r.items(name, list, |r, _, entry| {
            if !matches!(entry.as_str(), "*" | "." | "~") && !names::is_label(entry) {
                r.say(
                    Code::Malformed,
                    format!("{entry:?} is no namespace; write its name, . or *"),
                );
            }
        });
    }
    r.items(
        "serviceSettings",
        &mesh.service_settings,
        |r, _, settings| {
            r.items("hosts", &settings.hosts, |r, _, host| {
                if !hosts::is_wildcard_domain(host) {
                    r.say(Code::Malformed, hosts::want_host(host));
                }
            });
        },
    );
    access_logs(r, mesh);
    r.field("defaultConfig", |r| {
        let config = &mesh.default_config;
        for (name, port) in [
            ("proxyAdminPort", config.proxy_admin_port),
            ("statusPort", config.status_port),
        ] {
            r.test(
                name,
                Code::OutOfRange,
                values::port(u32::try_from(port).unwrap_or(0)),
            );
        }
        values::not_negative(r, "statNameLength", config.stat_name_length);
        r.some("tracing", config.tracing.as_ref(), |r, tracing| {
            let share = tracing.sampling.0;
            if !(0.0..=100.0).contains(&share) {
                r.say_at(
                    "sampling",
                    Code::OutOfRange,
                    format!("{share} is no percentage, want 0..=100"),
                );
            }
        });
    });
}

/// The formats of access logs, wherever they are written.
fn access_logs(r: &mut Report, mesh: &MeshConfig) {
    let own = &mesh.access_log_format;
    r.field("accessLogFormat", |r| match mesh.access_log_encoding {
        AccessLogEncoding::Text => log_format::text(r, own),
        AccessLogEncoding::Json if own.is_empty() => {}
        AccessLogEncoding::Json => match serde_json::from_str(own) {
            Ok(fields @ Value::Object(_)) => log_format::labels(r, &fields),
            Ok(_) | Err(_) => r.say(
                Code::Malformed,
                "with accessLogEncoding JSON this must be the text of a JSON object",
            ),
        },
    });
    let providers = mesh.other.0.get("extensionProviders");
    let providers = providers.and_then(Value::as_array).map_or(&[][..], |p| p);
    ext_authz::check(r, providers);
    r.items("extensionProviders", providers, |r, _, provider| {
        let Some(format) = provider.pointer("/envoyFileAccessLog/logFormat") else {
            return;
        };
        r.field("envoyFileAccessLog", |r| {
            r.field("logFormat", |r| {
                r.some("text", format.get("text"), log_format::labels);
                r.some("labels", format.get("labels"), log_format::labels);
            });
        });
    });
}

/// Lower-case letters, digits, dots, dashes and underscores; slashes in aliases of old.
fn is_trust_domain(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/'))
}

fn want_trust_domain(text: &str) -> String {
    format!("{text:?} is no trust domain; use letters, digits, ., - and _")
}
