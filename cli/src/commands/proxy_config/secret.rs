//! `flotilla proxy-config secret`: who a proxy is, whom it trusts, and the credentials it was given. Never a key.

use std::process::ExitCode;
use std::time::Duration;

use mesh_api::pilot::ProxyStatus;
use pilot::debug::Proxies;
use prost::Name as _;
use serde::Serialize;
use serde_json::Value;

use super::{Common, name};
use crate::commands::ca::words::at;
use crate::table;

const HEAD: [&str; 7] = [
    "RESOURCE NAME",
    "TYPE",
    "STATUS",
    "IDENTITY",
    "SERIAL NUMBER",
    "NOT AFTER",
    "NOT BEFORE",
];

/// One secret.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    name: String,
    r#type: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    identity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    serial_number: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    not_after: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    not_before: String,
}

/// Prints them.
pub async fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let config = common.fetch().await?;
    let pilot = common.address.service()?;
    let all: Proxies = pilot.get("/v1/proxies", Duration::from_secs(10)).await?;
    let wanted = super::proxy(&common.proxy, common.namespace.as_deref());
    let is_it = |proxy: &&ProxyStatus| {
        proxy.proxy == wanted
            || proxy.node_id == wanted
            || proxy.proxy.split('.').next() == Some(&wanted)
    };
    let proxies = all.pilots.iter().flat_map(|pilot| &pilot.proxies);
    // Of two streams of one proxy the newer counts.
    let proxy = proxies.filter(is_it).max_by_key(|proxy| proxy.connected_us);
    let mut secrets: Vec<Secret> = proxy.map(own).unwrap_or_default();
    secrets.extend(
        config["secrets"]
            .as_array()
            .into_iter()
            .flatten()
            .map(given),
    );
    if !common.output.is_table() {
        table::print(&secrets, common.output)?;
    } else if secrets.is_empty() {
        table::say!("no secrets: it connected without a certificate, and was given none");
    } else {
        let rows: Vec<Vec<String>> = secrets.into_iter().map(row).collect();
        table::lines(&HEAD, &rows)
            .iter()
            .for_each(|line| table::say!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// What its agent keeps: the certificate that its stream came with, and whether it has the newest trust bundle.
fn own(proxy: &ProxyStatus) -> Vec<Secret> {
    let mut secrets = Vec::new();
    if let Some(certificate) = &proxy.certificate {
        secrets.push(Secret {
            name: "default".into(),
            r#type: "Cert Chain",
            status: "SHOWN",
            identity: certificate.spiffe_id.clone(),
            serial_number: certificate.serial.clone(),
            not_after: at(certificate.not_after),
            not_before: at(certificate.not_before),
        });
    }
    let trust = [
        mesh_api::citadel::TrustBundle::type_url(),
        mesh_api::istio::mesh::ProxyConfig::type_url(),
    ];
    let mut types = proxy.types.iter();
    if let Some(status) = types.find(|status| trust.contains(&status.type_url)) {
        secrets.push(Secret {
            name: "ROOTCA".into(),
            r#type: "CA",
            status: match (&status.rejection, status.synced) {
                (Some(_), _) => "REJECTED",
                (None, true) => "ACTIVE",
                (None, false) => "WARMING",
            },
            ..Secret::default()
        });
    }
    secrets
}

/// A credential that Pilot hands out.
fn given(secret: &Value) -> Secret {
    let is_ca = secret.get("validationContext").is_some();
    Secret {
        name: name(secret).to_owned(),
        r#type: if is_ca { "CA" } else { "Cert Chain" },
        status: "GIVEN",
        ..Secret::default()
    }
}

fn row(secret: Secret) -> Vec<String> {
    let dash = |text: String| if text.is_empty() { "-".into() } else { text };
    vec![
        secret.name,
        secret.r#type.into(),
        secret.status.into(),
        dash(secret.identity),
        dash(secret.serial_number),
        dash(secret.not_after),
        dash(secret.not_before),
    ]
}

#[cfg(test)]
mod tests {
    use mesh_api::pilot::{ClientCertificate, TypeStatus};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxy_is_who_it_showed_to_be() {
        let proxy = ProxyStatus {
            certificate: Some(ClientCertificate {
                spiffe_id: "spiffe://cluster.local/ns/a/sa/b".into(),
                serial: "4a".into(),
                not_before: 1_700_000_000,
                not_after: 1_700_086_400,
            }),
            types: vec![TypeStatus {
                type_url: mesh_api::citadel::TrustBundle::type_url(),
                synced: true,
                ..TypeStatus::default()
            }],
            ..ProxyStatus::default()
        };
        let rows: Vec<String> = own(&proxy)
            .into_iter()
            .map(|secret| row(secret).join(" "))
            .collect();
        assert_eq!(
            rows,
            [
                "default Cert Chain SHOWN spiffe://cluster.local/ns/a/sa/b 4a 2023-11-15T22:13:20Z 2023-11-14T22:13:20Z",
                "ROOTCA CA ACTIVE - - - -"
            ]
        );
        assert!(own(&ProxyStatus::default()).is_empty());
    }

    #[test]
    fn credentials_of_gateways_are_told_by_name() {
        let ca = given(&json!({ "name": "kubernetes://site-cacert", "validationContext": {} }));
        assert_eq!(
            (ca.name.as_str(), ca.r#type),
            ("kubernetes://site-cacert", "CA")
        );
    }
}
