//! Versions and algorithms.

use envoy_api::envoy::extensions::transport_sockets::tls::v3::tls_parameters::{
    CompliancePolicy, TlsProtocol,
};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{CommonTlsContext, TlsParameters};
use mesh_config::resource::gateway::{ServerTlsSettings, TlsProtocol as Written};
use mesh_config::resource::mesh::{MeshConfig, MinTlsProtocol, TlsConfig};
use mesh_config::resource::tls::{CIPHER_SUITES, CURVES};

/// Suites of the mesh's own connections where nothing is set.
const MESH_SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];
/// Suites that FIPS 140 allows: the first four of them.
const FIPS_SUITES: usize = 4;

/// A standard that every TLS connection of every proxy must keep to, whatever else is set.
///
/// Default: none. Source: the operator of Pilot, as Istio's COMPLIANCE_POLICY.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Compliance {
    /// None.
    #[default]
    None,
    /// `fips-140-2`: TLS 1.2, suites of ECDHE with AES-GCM, curve P-256.
    Fips140_2,
    /// `fips-140-3`: Envoy's policy FIPS_202205.
    Fips140_3,
    /// `pqc`: TLS 1.3 with a key exchange that quantum computers do not break.
    Pqc,
}

impl Compliance {
    /// Reads the word of a setting, empty for none; `None` for a word that is no standard.
    pub fn parse(word: &str) -> Option<Compliance> {
        match word {
            "" => Some(Compliance::None),
            "fips-140-2" => Some(Compliance::Fips140_2),
            "fips-140-3" => Some(Compliance::Fips140_3),
            "pqc" => Some(Compliance::Pqc),
            _ => None,
        }
    }
}

/// What all TLS of a mesh has in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct MeshTls {
    /// Of the mesh's own connections.
    mesh: TlsConfig,
    /// Of all others.
    defaults: TlsConfig,
    /// Trust domains whose workloads belong to the mesh.
    pub(crate) trust_domains: Vec<String>,
    compliance: Compliance,
}

impl MeshTls {
    pub(crate) fn of(mesh: &MeshConfig, compliance: Compliance) -> MeshTls {
        MeshTls {
            mesh: mesh.mesh_mtls.clone().unwrap_or_default(),
            defaults: mesh.tls_defaults.clone().unwrap_or_default(),
            trust_domains: mesh.trust_domains(),
            compliance,
        }
    }

    /// Of servers of the mesh's own connections.
    pub(super) fn mesh_server(&self) -> TlsParameters {
        let own = known(&self.mesh.cipher_suites, CIPHER_SUITES);
        TlsParameters {
            tls_minimum_protocol_version: match self.mesh.min_protocol_version {
                MinTlsProtocol::Auto | MinTlsProtocol::V1_2 => TlsProtocol::TlSv12,
                MinTlsProtocol::V1_3 => TlsProtocol::TlSv13,
            } as i32,
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            cipher_suites: match own.is_empty() {
                true => MESH_SUITES.map(str::to_owned).into(),
                false => own,
            },
            ..TlsParameters::default()
        }
    }

    /// Of clients of the mesh's own connections.
    pub(super) fn mesh_client(&self) -> TlsParameters {
        TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            ..TlsParameters::default()
        }
    }

    /// Of clients of other connections; `None` where Envoy's defaults apply.
    pub(super) fn client(&self) -> Option<TlsParameters> {
        let params = TlsParameters {
            cipher_suites: known(&self.defaults.cipher_suites, CIPHER_SUITES),
            ecdh_curves: known(&self.defaults.ecdh_curves, CURVES),
            ..TlsParameters::default()
        };
        (params != TlsParameters::default()).then_some(params)
    }

    /// Of a server with settings of its own; `None` where Envoy's defaults apply.
    pub(super) fn server(&self, own: &ServerTlsSettings) -> Option<TlsParameters> {
        let suites = known(&own.cipher_suites, CIPHER_SUITES);
        let least = match (
            version(own.min_protocol_version),
            self.defaults.min_protocol_version,
        ) {
            (TlsProtocol::TlsAuto, MinTlsProtocol::V1_2) => TlsProtocol::TlSv12,
            (TlsProtocol::TlsAuto, MinTlsProtocol::V1_3) => TlsProtocol::TlSv13,
            (own, _) => own,
        };
        let params = TlsParameters {
            tls_minimum_protocol_version: least as i32,
            tls_maximum_protocol_version: version(own.max_protocol_version) as i32,
            cipher_suites: match suites.is_empty() {
                true => known(&self.defaults.cipher_suites, CIPHER_SUITES),
                false => suites,
            },
            ecdh_curves: known(&self.defaults.ecdh_curves, CURVES),
            ..TlsParameters::default()
        };
        (params != TlsParameters::default()).then_some(params)
    }

    /// Makes a context keep to the standard in force. Comes last.
    pub(super) fn comply(&self, context: &mut CommonTlsContext) {
        if self.compliance == Compliance::None {
            return;
        }
        let params = context
            .tls_params
            .get_or_insert_with(TlsParameters::default);
        let allowed = || MESH_SUITES[..FIPS_SUITES].iter().map(|s| (*s).to_owned());
        match self.compliance {
            Compliance::None => {}
            Compliance::Fips140_2 => {
                params.tls_minimum_protocol_version = TlsProtocol::TlSv12 as i32;
                params.tls_maximum_protocol_version = TlsProtocol::TlSv12 as i32;
                let set = &params.cipher_suites;
                let kept: Vec<_> = allowed()
                    .filter(|s| set.is_empty() || set.contains(s))
                    .collect();
                // Nothing allowed among what is set: what is allowed, rather than Envoy's own choice.
                params.cipher_suites = if kept.is_empty() {
                    allowed().collect()
                } else {
                    kept
                };
                params.ecdh_curves.clear();
            }
            Compliance::Fips140_3 => {
                params.compliance_policies = vec![CompliancePolicy::Fips202205 as i32];
            }
            Compliance::Pqc => {
                params.tls_minimum_protocol_version = TlsProtocol::TlSv13 as i32;
                params.tls_maximum_protocol_version = TlsProtocol::TlSv13 as i32;
                params.cipher_suites = allowed().collect();
                params.ecdh_curves = vec!["X25519MLKEM768".to_owned()];
            }
        }
    }
}

fn version(written: Written) -> TlsProtocol {
    match written {
        Written::Auto => TlsProtocol::TlsAuto,
        Written::V1_0 => TlsProtocol::TlSv10,
        Written::V1_1 => TlsProtocol::TlSv11,
        Written::V1_2 => TlsProtocol::TlSv12,
        Written::V1_3 => TlsProtocol::TlSv13,
    }
}

/// Words that Envoy knows, each once: another one would cost the whole resource.
fn known(written: &[String], words: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in written {
        if words.contains(&word.as_str()) && !out.contains(word) {
            out.push(word.clone());
        }
    }
    out
}
