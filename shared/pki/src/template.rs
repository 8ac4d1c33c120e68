//! What a certificate says before it is signed: values that can be looked at and compared.

use std::net::IpAddr;

use mesh_types::SpiffeId;
use time::OffsetDateTime;

use crate::certificate::Certificate;
use crate::der::{self, oid};
use crate::key::KeyType;
use crate::public_key::PublicKey;
use crate::serial::Serial;

/// A certificate to be signed: everything in it but the signature and the signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Serial number.
    pub serial: Serial,
    /// Valid from then on.
    pub not_before: OffsetDateTime,
    /// Valid until then.
    pub not_after: OffsetDateTime,
    /// Organization of the subject, if it has one.
    pub organization: Option<String>,
    /// Common name of the subject, if it has one.
    pub common_name: Option<String>,
    /// Its names; marked critical when the subject is empty.
    pub names: Vec<Name>,
    /// What it is for.
    pub purpose: Purpose,
    /// The key it is of.
    pub public_key: PublicKey,
}

/// What a certificate is for, which decides its constraints and usages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Authenticates a workload, as server and as client.
    ///
    /// Usages: digitalSignature, and keyEncipherment for RSA keys. RFC 8813 forbids the latter for EC keys; no cipher of TLS needs it there.
    Leaf,
    /// Signs certificates and revocation lists.
    Authority {
        /// How many intermediates may follow it; `None` sets no bound.
        path_len: Option<u8>,
    },
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A SPIFFE ID.
    Uri(SpiffeId),
    /// A host name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// Who signs: the name that goes into the certificate, and the identifier of the key.
pub(crate) struct Issuer<'a> {
    /// Distinguished name, encoded as it is in the signer's certificate.
    pub(crate) name: &'a [u8],
    pub(crate) key_id: &'a [u8],
}

impl<'a> Issuer<'a> {
    pub(crate) fn of(certificate: &'a Certificate, key: &'a PublicKey) -> Issuer<'a> {
        Issuer {
            name: certificate.subject_der(),
            key_id: certificate
                .subject_key_id()
                .unwrap_or(key.key_id().as_slice()),
        }
    }

    /// The authority key identifier extension.
    pub(crate) fn extension(&self) -> Vec<u8> {
        let id = der::value(der::context_primitive(0), &[self.key_id]);
        der::extension(oid::AUTHORITY_KEY_ID, false, &der::sequence(&[&id]))
    }
}

impl Template {
    /// The subject, encoded.
    pub(crate) fn subject(&self) -> Vec<u8> {
        let attribute = |oid, text: &String| {
            der::set(&[&der::sequence(&[
                &der::value(der::OID, &[oid]),
                &der::value(der::UTF8_STRING, &[text.as_bytes()]),
            ])])
        };
        let organization = self.organization.as_ref();
        let organization = organization.map(|text| attribute(oid::ORGANIZATION, text));
        let common_name = self.common_name.as_ref();
        let common_name = common_name.map(|text| attribute(oid::COMMON_NAME, text));
        der::sequence(&[
            organization.as_deref().unwrap_or_default(),
            common_name.as_deref().unwrap_or_default(),
        ])
    }

    /// `TBSCertificate` in DER.
    pub(crate) fn encode(&self, issuer: &Issuer<'_>, signature_algorithm: &[u8]) -> Vec<u8> {
        let subject = self.subject();
        let mut extensions = self.key_usage();
        extensions.extend(self.basic_constraints());
        let key_id = der::value(der::OCTET_STRING, &[self.public_key.key_id()]);
        extensions.extend(der::extension(oid::SUBJECT_KEY_ID, false, &key_id));
        extensions.extend(issuer.extension());
        if !self.names.is_empty() {
            let names: Vec<u8> = self.names.iter().flat_map(Name::encode).collect();
            extensions.extend(der::extension(
                oid::SUBJECT_ALT_NAME,
                self.organization.is_none() && self.common_name.is_none(),
                &der::sequence(&[&names]),
            ));
        }
        der::sequence(&[
            // Version 3.
            &der::value(der::context(0), &[&der::unsigned(&[2])]),
            &der::unsigned(self.serial.as_bytes()),
            signature_algorithm,
            issuer.name,
            &der::sequence(&[&der::time(self.not_before), &der::time(self.not_after)]),
            &subject,
            self.public_key.spki_der(),
            &der::value(der::context(3), &[&der::sequence(&[&extensions])]),
        ])
    }

    fn key_usage(&self) -> Vec<u8> {
        const DIGITAL_SIGNATURE: u8 = 0;
        const KEY_ENCIPHERMENT: u8 = 2;
        const KEY_CERT_SIGN: u8 = 5;
        const CRL_SIGN: u8 = 6;
        let bits: &[u8] = match (self.purpose, self.public_key.key_type()) {
            (Purpose::Leaf, KeyType::Rsa(_)) => &[DIGITAL_SIGNATURE, KEY_ENCIPHERMENT],
            (Purpose::Leaf, KeyType::EcP256 | KeyType::EcP384 | KeyType::Ed25519) => {
                &[DIGITAL_SIGNATURE]
            }
            (Purpose::Authority { .. }, _) => &[KEY_CERT_SIGN, CRL_SIGN],
        };
        let mut out = der::extension(oid::KEY_USAGE, true, &der::named_bits(bits));
        if self.purpose == Purpose::Leaf {
            let usages = der::sequence(&[
                &der::value(der::OID, &[oid::SERVER_AUTH]),
                &der::value(der::OID, &[oid::CLIENT_AUTH]),
            ]);
            out.extend(der::extension(oid::EXT_KEY_USAGE, false, &usages));
        }
        out
    }

    fn basic_constraints(&self) -> Vec<u8> {
        let content = match self.purpose {
            // False is the default, which DER leaves out.
            Purpose::Leaf => der::sequence(&[]),
            Purpose::Authority { path_len } => {
                let path_len = path_len.map(|len| der::unsigned(&[len]));
                der::sequence(&[
                    &[der::BOOLEAN, 1, 0xff],
                    path_len.as_deref().unwrap_or_default(),
                ])
            }
        };
        der::extension(oid::BASIC_CONSTRAINTS, true, &content)
    }
}

impl Name {
    fn encode(&self) -> Vec<u8> {
        match self {
            Name::Uri(id) => der::value(der::context_primitive(6), &[id.to_string().as_bytes()]),
            Name::Dns(name) => der::value(der::context_primitive(2), &[name.as_bytes()]),
            Name::Ip(IpAddr::V4(ip)) => der::value(der::context_primitive(7), &[&ip.octets()]),
            Name::Ip(IpAddr::V6(ip)) => der::value(der::context_primitive(7), &[&ip.octets()]),
        }
    }
}
