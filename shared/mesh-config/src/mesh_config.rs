//! MeshConfig: three ways to write it, one to merge it.
//!
//! It may be a bare file (`--mesh-config`), the key `mesh` of the ConfigMap `istio` in the root namespace, or an object of our own
//! (`mesh.istio.io/v1alpha1`). What is written replaces the default, field by field at the top; `defaultConfig` is merged one level
//! deeper, and `trustDomainAliases` are sorted.

use mesh_types::{Code, FieldError, Finding, Key, Kind, Segment};
use serde_json::{Map, Value};

use crate::decode::{Limits, Origin, single_document};
use crate::resource::mesh::MeshConfig;
use crate::schema::{Form, Problems, form};
use crate::{check, support};

/// The name of a mesh's one MeshConfig, and of the ConfigMap that may hold it.
pub const MESH_CONFIG_NAME: &str = "istio";

/// The key of a mesh's one MeshConfig.
pub(crate) fn key() -> Key {
    Key::new(Kind::MeshConfig, "", MESH_CONFIG_NAME)
}

/// Reads a bare mesh configuration, or one of the other two forms. What cannot be read has its default, and a finding.
pub fn decode_mesh_config(text: &str) -> (MeshConfig, Vec<Finding>) {
    let origin = Origin::default();
    let value = match single_document(text, &origin) {
        Ok(value) => value,
        Err(finding) => return (MeshConfig::default(), vec![*finding]),
    };
    if value.get("kind").is_some() && value.get("apiVersion").is_some() {
        // The ConfigMap may stand in any namespace here: its author named the file.
        let namespace = value
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or("default")
            .to_owned();
        let decoded = crate::decode_value(
            value,
            &Origin {
                root_namespace: &namespace,
                ..origin
            },
        );
        let config = decoded
            .objects
            .into_iter()
            .find_map(|(object, _)| match object.body {
                crate::Body::MeshConfig(config) => Some((*config).clone()),
                _ => None,
            });
        let mut findings = decoded.findings;
        if config.is_none() && findings.is_empty() {
            findings.push(Finding::about_text(
                Code::NotAnObject,
                "this object holds no mesh configuration",
            ));
        }
        return (config.unwrap_or_default(), findings);
    }
    let mut problems = Problems::default();
    let config = form(Kind::MeshConfig).and_then(|form| read(form, &[], value, &mut problems));
    if let Some(config) = &config {
        problems.extend(own_checks(config));
    }
    let refuse = problems.refuse();
    let findings = problems
        .into_errors()
        .into_iter()
        .map(|error| Finding::of(&key(), error))
        .collect();
    (config.filter(|_| !refuse).unwrap_or_default(), findings)
}

fn own_checks(config: &MeshConfig) -> Vec<FieldError> {
    let body = crate::Body::from(config.clone());
    let meta = crate::Meta {
        key: key(),
        created_us: 0,
        labels: Default::default(),
        annotations: Default::default(),
    };
    let strip = |error: FieldError| {
        // Objects keep their settings under `spec`, a bare file does not.
        let rest = error
            .path
            .segments()
            .iter()
            .skip(1)
            .cloned()
            .collect::<Vec<_>>();
        FieldError {
            path: rest.into(),
            ..error
        }
    };
    check::check(&meta, &body)
        .into_iter()
        .chain(support::notes(&body))
        .map(strip)
        .collect()
}

/// Reads what was written over the defaults.
pub(crate) fn read(
    form: &Form,
    at: &[Segment],
    spec: Value,
    problems: &mut Problems,
) -> Option<MeshConfig> {
    let spec = if spec.is_null() {
        Value::Object(Map::new())
    } else {
        spec
    };
    // serde takes every field that is not written from `MeshConfig::default()`, and those of `defaultConfig` from its own: the merge.
    let mut config: MeshConfig = crate::schema::read(form, at, spec, problems)?;
    config.trust_domain_aliases.sort();
    config.trust_domain_aliases.dedup();
    Some(config)
}

/// Reads the ConfigMap `istio`.
pub(crate) fn from_config_map(
    map: &Map<String, Value>,
    problems: &mut Problems,
) -> Option<MeshConfig> {
    let at = |key: &str| vec![Segment::Field("data".into()), Segment::Field(key.into())];
    let data = map.get("data").and_then(Value::as_object);
    let networks = data
        .and_then(|d| d.get("meshNetworks"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(networks.trim(), "" | "networks: {}" | "{}") {
        problems.push(
            at("meshNetworks"),
            Code::NotSupported,
            "this version does not act on networks of other clusters",
        );
    }
    let Some(text) = data.and_then(|d| d.get("mesh")).and_then(Value::as_str) else {
        problems.push(
            at("mesh"),
            Code::Required,
            "the mesh configuration is expected here, as text",
        );
        return None;
    };
    let limits = Limits::default();
    match single_document(
        text,
        &Origin {
            limits,
            ..Origin::default()
        },
    ) {
        Ok(value) => read(form(Kind::MeshConfig)?, &at("mesh"), value, problems),
        Err(finding) => {
            problems.push(at("mesh"), finding.code, finding.message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::resource::Duration;
    use crate::resource::sidecar::OutboundMode;

    #[track_caller]
    fn findings(findings: &[Finding], want: Expect) {
        let lines = findings
            .iter()
            .map(|f| format!("{:?} {}: {} [{}]\n", f.level, f.path, f.message, f.code));
        want.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn what_is_written_replaces_the_default() {
        let (config, found) = decode_mesh_config(
            "trustDomain: td\ntrustDomainAliases: [b, a, b]\nconnect_timeout: 3s\noutboundTrafficPolicy: {}\nh2UpgradePolicy: 1\nlocalityLbSetting: {}\ndefaultConfig: {statusPort: 1, proxyMetadata: {A: b}, tracing: {}}\naccessLogFile: null\n",
        );
        findings(&found, expect![""]);
        assert_eq!(config.trust_domain, "td");
        assert_eq!(config.trust_domain_aliases, ["a", "b"]);
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        assert_eq!(
            config.outbound_traffic_policy.mode,
            OutboundMode::RegistryOnly,
            "protobuf's zero"
        );
        assert_eq!(
            config.h2_upgrade_policy,
            crate::resource::destination_rule::H2UpgradePolicy::Upgrade
        );
        assert_eq!(config.locality_lb_setting.as_ref().unwrap().enabled, None);
        assert_eq!(config.default_config.status_port, 1);
        assert_eq!(
            config.default_config.proxy_admin_port, 15000,
            "defaultConfig is merged"
        );
        assert_eq!(
            config.default_config.other.0["proxyMetadata"],
            serde_json::json!({"A": "b"})
        );
        assert_eq!(config.proxy_listen_port, 15001);
        assert_eq!(decode_mesh_config(""), (MeshConfig::default(), vec![]));
        assert_eq!(decode_mesh_config("{}").0, MeshConfig::default());
    }

    #[test]
    fn three_ways_to_write_it() {
        let bare = decode_mesh_config("proxyHttpPort: 7").0;
        for text in [
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'proxyHttpPort: 7', meshNetworks: 'networks: {}'}",
            "{apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, spec: {proxyHttpPort: 7}}",
        ] {
            let decoded = crate::decode_text(text, &Origin::default());
            assert_eq!(decoded.findings, []);
            assert_eq!(decoded.objects[0].0.meta.key, key());
            assert_eq!(decoded.objects[0].0.body, bare.clone().into());
            assert_eq!(decode_mesh_config(text), (bare.clone(), vec![]));
        }
        let elsewhere = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: shop}\ndata: {mesh: 'proxyHttpPort: 7'}";
        let decoded = crate::decode_text(elsewhere, &Origin::default());
        assert_eq!(decoded.objects[0].0.meta.key.kind, Kind::ConfigMap);
    }

    #[test]
    fn words_and_numbers_of_enums_are_checked() {
        let (config, found) = decode_mesh_config(
            "ingressControllerMode: 2\nzoneAwareLbSetting: {enabled: true, minClusterSize: 6, failover: [{from: a, to: b}]}\ndefaultConfig: {meshId: m, gatewayTopology: {forwardClientCertDetails: 3}}\n",
        );
        assert_eq!(config.ingress_controller_mode, "DEFAULT");
        let topology = config.default_config.gateway_topology.unwrap();
        assert_eq!(
            topology.forward_client_cert_details.as_deref(),
            Some("APPEND_FORWARD")
        );
        findings(
            &found,
            expect![[r#"
                Warning zoneAwareLbSetting: this version does not act on it: every zone is treated alike [not-supported]
                Warning ingressControllerMode: this version does not act on it: no Ingress is read [not-supported]
            "#]],
        );
        findings(
            &decode_mesh_config("defaultConfig: {gatewayTopology: {forwardClientCertDetails: APPEND}}\nzoneAwareLbSetting: {failoverPriority: [topology.kubernetes.io/zone]}").1,
            expect![[r#"
                Error defaultConfig.gatewayTopology.forwardClientCertDetails: "APPEND" is none of UNDEFINED, SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET, ALWAYS_FORWARD_ONLY [unknown-value]
                Warning zoneAwareLbSetting: this version does not act on it: every zone is treated alike [not-supported]
            "#]],
        );
    }

    #[test]
    fn of_providers_those_that_log_to_files_are_acted_on() {
        findings(
            &decode_mesh_config(
                "extensionProviders: [{name: a, envoyFileAccessLog: {path: /dev/stdout}}, {name: b, zipkin: {}}]\n\
                 defaultProviders: {accessLogging: [a, envoy, b, nobody], metrics: [prometheus, b], tracing: [b]}",
            )
            .1,
            expect![[r#"
                Warning extensionProviders[1]: this version acts on providers of envoyFileAccessLog, envoyExtAuthzHttp and envoyExtAuthzGrpc only [not-supported]
                Warning defaultProviders.accessLogging[2]: no provider of envoyFileAccessLog has this name: nothing is logged for it [not-supported]
                Warning defaultProviders.accessLogging[3]: no provider of envoyFileAccessLog has this name: nothing is logged for it [not-supported]
                Warning defaultProviders.tracing: this version does not act on it: proxies trace as their bootstrap says [not-supported]
                Warning defaultProviders.metrics[1]: this version acts on prometheus only [not-supported]
            "#]],
        );
    }

    #[test]
    fn a_mistake_in_an_access_log_is_found_before_envoy_finds_it() {
        findings(
            &decode_mesh_config(
                "accessLogFormat: '%NOPE%'\n\
                 extensionProviders: [{name: a, envoyFileAccessLog: {path: /l, logFormat: {labels: {at: '%START_TIMES%'}}}}]",
            )
            .1,
            expect![[r#"
                Error accessLogFormat: Envoy has no operator %NOPE% [unknown-value]
                Error extensionProviders[0].envoyFileAccessLog.logFormat.labels.at: Envoy has no operator %START_TIMES%; did you mean START_TIME? [unknown-value]
            "#]],
        );
        findings(
            &decode_mesh_config("accessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'").1,
            expect![[r#"
                Error accessLogFormat: with accessLogEncoding JSON this must be the text of a JSON object [malformed]
            "#]],
        );
    }

    #[test]
    fn fields_that_nobody_knows_are_errors_and_others_are_told() {
        let (config, found) = decode_mesh_config(
            "trustDomian: x\nextensionProviders: []\nmixer_check_server: x\nproxyListenPort: 0\ndefaultConfig: {concurrency: 2, proxyStatsMatcher: {}, tracing: {zipkin: {}, sampling: 200}, nope: 1}\n",
        );
        assert_eq!(config, MeshConfig::default());
        findings(
            &found,
            expect![[r#"
                Error trustDomian: no such field; did you mean trustDomain? [unknown-field]
                Warning mixerCheckServer: Istio no longer acts on the field, and neither does this plane; remove it [no-effect]
                Warning defaultConfig.proxyStatsMatcher: this version does not act on the field; it is kept as written [not-supported]
                Error defaultConfig.nope: no such field; there are availabilityZone, binaryPath, caCertificatesPem, concurrency, configPath, connectTimeout, connectionSettings, discoveryAddress, gatewayTopology, proxyAdminPort, statNameLength, statusPort, .. [unknown-field]
                Warning defaultConfig.tracing.zipkin: this version does not act on the field; it is kept as written [not-supported]
                Error proxyListenPort: 0 is no port, want 1..=65535 [out-of-range]
                Error defaultConfig.tracing.sampling: 200 is no percentage, want 0..=100 [out-of-range]
            "#]],
        );
        findings(
            &crate::decode_text("{apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, metadata: {name: other}, spec: {rootNamespace: A}}", &Origin::default()).findings,
            expect![[r#"
                Error metadata.name: a mesh has one MeshConfig; name it istio [malformed]
                Error spec.rootNamespace: "A" is no name; use letters, digits and -, at most 63, a letter or digit at both ends [malformed]
            "#]],
        );
        findings(
            &crate::decode_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: '[', meshNetworks: 'networks: {a: {}}'}}", &Origin::default()).findings,
            expect![[r#"
                Warning data.meshNetworks: this version does not act on networks of other clusters [not-supported]
                Error data.mesh: line 1, column 1: unclosed bracket '[' [syntax]
            "#]],
        );
        findings(
            &decode_mesh_config("[1]").1,
            expect![[r#"
            Error : want fields with names, got a list of 1; leave out the dash [wrong-type]
        "#]],
        );
        findings(
            &decode_mesh_config("{apiVersion: v1, kind: Pod, metadata: {name: a}}").1,
            expect![[r#"
            Error : this object holds no mesh configuration [not-an-object]
        "#]],
        );
    }
}
