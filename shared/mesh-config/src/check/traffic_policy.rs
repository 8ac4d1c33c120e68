//! Traffic policies of DestinationRules and of the mesh.

use mesh_types::Code;

use super::load_balancer::load_balancer;
use super::report::Report;
use super::{hosts, values};
use crate::resource::Double;
use crate::resource::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, H2UpgradePolicy, HttpSettings,
    OutlierDetection, PortTrafficPolicy, TcpSettings, TrafficPolicy,
};

pub(super) fn policy(r: &mut Report, policy: &TrafficPolicy) {
    if *policy == TrafficPolicy::default() {
        r.say(Code::Required, "nothing is set here; set loadBalancer, connectionPool, outlierDetection, tls or another");
    }
    let outlier = policy.outlier_detection.is_some();
    r.some(
        "outlierDetection",
        policy.outlier_detection.as_ref(),
        outlier_detection,
    );
    r.some(
        "connectionPool",
        policy.connection_pool.as_ref(),
        connection_pool,
    );
    r.some("loadBalancer", policy.load_balancer.as_ref(), |r, lb| {
        load_balancer(r, lb, outlier)
    });
    r.some("tls", policy.tls.as_ref(), tls);
    r.items(
        "portLevelSettings",
        &policy.port_level_settings,
        |r, _, port| port_policy(r, port),
    );
    r.at_most_one(&[
        ("tunnel", policy.tunnel.is_some()),
        ("proxyProtocol", policy.proxy_protocol.is_some()),
    ]);
    r.some("tunnel", policy.tunnel.as_ref(), |r, tunnel| {
        if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
            r.say_at(
                "protocol",
                Code::UnknownValue,
                format!("{:?} is none of CONNECT, POST", tunnel.protocol),
            );
        }
        if !hosts::is_fqdn(&tunnel.target_host) && !values::is_ip(&tunnel.target_host) {
            r.say_at(
                "targetHost",
                Code::Malformed,
                hosts::want_host(&tunnel.target_host),
            );
        }
        r.test(
            "targetPort",
            Code::OutOfRange,
            values::port(tunnel.target_port),
        );
    });
    r.some("retryBudget", policy.retry_budget.as_ref(), |r, budget| {
        if let Some(Double(percent)) = budget.percent
            && !(0.0..=100.0).contains(&percent)
        {
            r.say_at(
                "percent",
                Code::OutOfRange,
                format!("{percent} is no percentage, want 0..=100"),
            );
        }
    });
}

fn port_policy(r: &mut Report, port: &PortTrafficPolicy) {
    match &port.port {
        None => r.say_at(
            "port",
            Code::Required,
            "must be set: which port is this for?",
        ),
        Some(number) => r.field("port", |r| {
            r.test("number", Code::OutOfRange, values::port(number.number))
        }),
    }
    let outlier = port.outlier_detection.is_some();
    if !outlier
        && port.connection_pool.is_none()
        && port.load_balancer.is_none()
        && port.tls.is_none()
    {
        r.say(
            Code::Required,
            "one of loadBalancer, connectionPool, outlierDetection and tls must be set",
        );
    }
    r.some(
        "outlierDetection",
        port.outlier_detection.as_ref(),
        outlier_detection,
    );
    r.some(
        "connectionPool",
        port.connection_pool.as_ref(),
        connection_pool,
    );
    r.some("loadBalancer", port.load_balancer.as_ref(), |r, lb| {
        load_balancer(r, lb, outlier)
    });
    r.some("tls", port.tls.as_ref(), tls);
}

pub(super) fn outlier_detection(r: &mut Report, outlier: &OutlierDetection) {
    values::duration_field(r, "baseEjectionTime", outlier.base_ejection_time);
    values::duration_field(r, "interval", outlier.interval);
    if outlier.consecutive_errors != 0 {
        r.say_at(
            "consecutiveErrors",
            Code::Deprecated,
            "has no effect any more; write consecutive5xxErrors or consecutiveGatewayErrors",
        );
    }
    if outlier
        .consecutive_local_origin_failures
        .is_some_and(|n| n > 0)
        && !outlier.split_external_local_origin_errors
    {
        r.say_at(
            "consecutiveLocalOriginFailures",
            Code::Conflict,
            "needs splitExternalLocalOriginErrors: true",
        );
    }
    values::percent(r, "maxEjectionPercent", outlier.max_ejection_percent.into());
    values::percent(r, "minHealthPercent", outlier.min_health_percent.into());
}

pub(super) fn connection_pool(r: &mut Report, pool: &ConnectionPoolSettings) {
    if pool.http.is_none() && pool.tcp.is_none() {
        r.say(Code::Required, "one of tcp and http must be set");
    }
    r.some("http", pool.http.as_ref(), http_pool);
    r.some("tcp", pool.tcp.as_ref(), tcp_pool);
}

fn http_pool(r: &mut Report, http: &HttpSettings) {
    values::not_negative(
        r,
        "http1MaxPendingRequests",
        http.http1_max_pending_requests,
    );
    values::not_negative(r, "http2MaxRequests", http.http2_max_requests);
    values::not_negative(
        r,
        "maxRequestsPerConnection",
        http.max_requests_per_connection,
    );
    values::not_negative(r, "maxRetries", http.max_retries);
    values::not_negative(r, "maxConcurrentStreams", http.max_concurrent_streams);
    values::duration_field(r, "idleTimeout", http.idle_timeout);
    if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) && http.use_client_protocol {
        r.say_at(
            "useClientProtocol",
            Code::Conflict,
            "excludes h2UpgradePolicy: UPGRADE",
        );
    }
    r.some(
        "http2KeepAlive",
        http.http2_keep_alive.as_ref(),
        |r, keepalive| {
            r.need("interval", keepalive.interval.is_some(), "");
            r.need("timeout", keepalive.timeout.is_some(), "");
            values::duration_field(r, "interval", keepalive.interval);
            values::duration_field(r, "timeout", keepalive.timeout);
        },
    );
}

fn tcp_pool(r: &mut Report, tcp: &TcpSettings) {
    values::not_negative(r, "maxConnections", tcp.max_connections);
    values::duration_field(r, "connectTimeout", tcp.connect_timeout);
    values::duration_field(r, "maxConnectionDuration", tcp.max_connection_duration);
    values::duration_or_zero(r, "idleTimeout", tcp.idle_timeout);
    r.some(
        "tcpKeepalive",
        tcp.tcp_keepalive.as_ref(),
        |r, keepalive| {
            values::duration_field(r, "time", keepalive.time);
            values::duration_field(r, "interval", keepalive.interval);
        },
    );
}

fn tls(r: &mut Report, tls: &ClientTlsSettings) {
    let files = [
        ("clientCertificate", !tls.client_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("caCrl", !tls.ca_crl.is_empty()),
    ];
    if tls.insecure_skip_verify == Some(true) {
        let pointless = [
            ("caCertificates", !tls.ca_certificates.is_empty()),
            ("subjectAltNames", !tls.subject_alt_names.is_empty()),
            (
                "credentialName",
                tls.mode == ClientTlsMode::Simple && !tls.credential_name.is_empty(),
            ),
        ];
        for (name, _) in pointless.iter().filter(|(_, set)| *set) {
            r.say_at(
                *name,
                Code::Conflict,
                "must not be set beside insecureSkipVerify, which accepts every certificate",
            );
        }
    }
    match tls.mode {
        ClientTlsMode::Simple | ClientTlsMode::Mutual if !tls.credential_name.is_empty() => {
            for (name, _) in files.iter().filter(|(_, set)| *set) {
                r.say_at(*name, Code::Conflict, "excludes credentialName; keep one");
            }
        }
        ClientTlsMode::Mutual => {
            r.need(
                "clientCertificate",
                !tls.client_certificate.is_empty(),
                " in mode MUTUAL, or credentialName",
            );
            r.need(
                "privateKey",
                !tls.private_key.is_empty(),
                " in mode MUTUAL, or credentialName",
            );
        }
        ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::IstioMutual => {}
    }
}
