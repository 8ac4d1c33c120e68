//! SDS: credentials of gateways, from Secrets of their own namespace (SECURITY-INJECTION B.12).
//!
//! Only routers that are known to be who they say they are have any. A credential that is not there is no resource: Envoy goes on without it,
//! and handshakes that need it fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use envoy_api::envoy::config::core::v3::{DataSource, data_source};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret as Message, TlsCertificate, secret,
};
use mesh_config::resource::destination_rule::{ClientTlsMode, ClientTlsSettings};
use mesh_config::resource::gateway::{ServerTlsMode, ServerTlsSettings};
use mesh_config::resource::platform::Secret;
use mesh_config::{Body, Object};
use mesh_model::{SecretRef, View};
use prost::Message as _;
use xds_core::{Encoded, TypeId};

use crate::memo::Stats;
use crate::tls::{Credential, credential};
use crate::{Memo, Memos, OutboundKey};

/// Memos of this module.
#[derive(Default)]
pub struct SecretMemos {
    secrets: Memo<Input>,
}

impl SecretMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        out.push(("secrets", self.secrets.stats()));
    }
}

/// Everything a resource is made from.
#[derive(PartialEq, Eq, Hash)]
struct Input {
    name: String,
    authority: bool,
    secret: Arc<Secret>,
}

/// The credentials of a class of routers, in name order.
pub fn secrets(view: &View, key: &OutboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    if !key.credentials {
        return Vec::new();
    }
    let made = asked(view).into_iter().filter_map(|name| {
        let wanted = SecretRef::parse(&name, &view.key.namespace)?;
        if wanted.namespace != view.key.namespace {
            return None;
        }
        let secret = wanted.names.iter().find_map(|n| {
            let secret = secret_of(view.secrets.get(n)?)?;
            complete(secret, wanted.authority).then(|| secret.clone())
        })?;
        let input = Input {
            authority: wanted.authority,
            name,
            secret,
        };
        Some(memo.secrets.secrets.get_or(input, encode))
    });
    made.collect()
}

fn secret_of(object: &Object) -> Option<&Arc<Secret>> {
    match &object.body {
        Body::Secret(secret) => Some(secret),
        _ => None,
    }
}

/// Names of the resources that servers and rules refer to.
fn asked(view: &View) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let servers = view.servers.iter().flat_map(|merged| &merged.servers);
    for tls in servers.filter_map(|server| server.spec.tls.as_ref()) {
        of_server(tls, &mut out);
    }
    for rule in view.destination_rules.values() {
        rule.client_tls().for_each(|tls| of_client(tls, &mut out));
    }
    out
}

fn add(name: &str, authority: bool, out: &mut BTreeSet<String>) {
    if name.is_empty() {
        return;
    }
    if let Credential::Pilot(resource) = credential(name, authority) {
        out.insert(resource);
    }
}

fn of_server(tls: &ServerTlsSettings, out: &mut BTreeSet<String>) {
    let names = std::iter::once(&tls.credential_name).chain(&tls.credential_names);
    for name in names {
        add(name, false, out);
        if matches!(
            tls.mode,
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
        ) {
            add(name, true, out);
        }
    }
    add(&tls.ca_cert_credential_name, true, out);
}

fn of_client(tls: &ClientTlsSettings, out: &mut BTreeSet<String>) {
    match tls.mode {
        ClientTlsMode::Disable | ClientTlsMode::IstioMutual => {}
        ClientTlsMode::Simple => add(&tls.credential_name, true, out),
        ClientTlsMode::Mutual => {
            add(&tls.credential_name, false, out);
            add(&tls.credential_name, true, out);
        }
    }
}

/// The first of two forms of a value that is there.
fn first(secret: &Secret, keys: [&str; 2]) -> Option<Vec<u8>> {
    keys.iter().find_map(|key| secret.value(key))
}

/// Certificate and key, of one form.
fn pair(secret: &Secret) -> Option<(Vec<u8>, Vec<u8>)> {
    [("cert", "key"), ("tls.crt", "tls.key")]
        .iter()
        .find_map(|(chain, key)| Some((secret.value(chain)?, secret.value(key)?)))
}

fn complete(secret: &Secret, authority: bool) -> bool {
    match authority {
        true => first(secret, ["cacert", "ca.crt"]).is_some(),
        false => pair(secret).is_some(),
    }
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(Bytes::from(bytes))),
        ..DataSource::default()
    }
}

fn encode(input: &Input) -> Encoded {
    let secret = &input.secret;
    let content = if input.authority {
        secret::Type::ValidationContext(CertificateValidationContext {
            trusted_ca: first(secret, ["cacert", "ca.crt"]).map(inline),
            crl: first(secret, ["crl", "ca.crl"]).map(inline),
            ..CertificateValidationContext::default()
        })
    } else {
        let (chain, key) = pair(secret).unwrap_or_default();
        secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ocsp_staple: secret.value("tls.ocsp-staple").map(inline),
            ..TlsCertificate::default()
        })
    };
    let message = Message {
        name: input.name.clone(),
        r#type: Some(content),
    };
    Encoded::new(&*input.name, TypeId::Sds, &message.encode_to_vec())
}

/// The same resource without private key, for whoever looks at what a proxy has. Anything but a Secret is itself.
pub fn redacted(resource: &Arc<Encoded>) -> Arc<Encoded> {
    let Ok(any) = envoy_api::any::Any::decode(resource.any()) else {
        return resource.clone();
    };
    if any.type_url != TypeId::Sds.url() {
        return resource.clone();
    }
    let mut message = Message::decode(&*any.value).unwrap_or_default();
    message.name = resource.name().to_string();
    if let Some(secret::Type::TlsCertificate(certificate)) = &mut message.r#type {
        certificate.private_key = Some(inline(b"[redacted]".to_vec()));
        certificate.password = None;
        certificate.pkcs12 = None;
    } else if !matches!(message.r#type, Some(secret::Type::ValidationContext(_))) {
        message.r#type = None;
    }
    Arc::new(Encoded::new(
        &**resource.name(),
        TypeId::Sds,
        &message.encode_to_vec(),
    ))
}
