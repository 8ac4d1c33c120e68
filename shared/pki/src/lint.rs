//! Whether a certificate that was made is what the X.509-SVID standard wants: a look from outside, before it is handed out.
//!
//! It reads the bytes anew and shares nothing with what wrote them. Whatever it finds is a bug of ours, never a mistake of a client.

use mesh_types::SpiffeId;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Version};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::public_key::PublicKey;

/// One thing that is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lint {
    /// Not DER of a certificate.
    #[error("it is malformed")]
    Malformed,
    /// Another version than 3.
    #[error("it is not of version 3")]
    Version,
    /// A serial number of zero, below it, or of more than 20 bytes.
    #[error("its serial number is not positive, or longer than 20 bytes")]
    Serial,
    /// Not an accepted kind of key.
    #[error("its key is not of an accepted kind")]
    Key,
    /// It ends before it begins.
    #[error("it ends before it begins")]
    Validity,
    /// No issuer.
    #[error("its issuer has no name")]
    Issuer,
    /// An extension comes twice or cannot be read.
    #[error("an extension comes twice or cannot be read")]
    Extensions,
    /// Not exactly one URI name (a leaf), or more than one (an authority).
    #[error("it has {0} URI names")]
    UriNames(usize),
    /// A URI name that is no SPIFFE ID.
    #[error("its URI name is no SPIFFE ID")]
    SpiffeId,
    /// A leaf named after a trust domain, or an authority named after a workload.
    #[error("the path of its SPIFFE ID is empty in a leaf, or not empty in an authority")]
    Path,
    /// Another kind of name than URI, DNS and IP address.
    #[error("it has names that are neither URI, DNS name nor address")]
    Names,
    /// Names that are not critical beside an empty subject.
    #[error("its subject is empty, and its names are not marked critical")]
    NamesNotCritical,
    /// A leaf that is an authority, or an authority that is none.
    #[error("its basic constraints are of the other kind")]
    BasicConstraints,
    /// Basic constraints that are not critical.
    #[error("its basic constraints are not marked critical")]
    BasicConstraintsNotCritical,
    /// No key usage, or one that is not critical.
    #[error("its key usage is absent or not marked critical")]
    KeyUsage,
    /// A leaf without digitalSignature, or an authority without keyCertSign.
    #[error("its key usage lacks what it is for")]
    UsageMissing,
    /// A leaf that may sign certificates or lists, or an authority that may authenticate.
    #[error("its key usage allows too much")]
    UsageTooWide,
    /// A leaf whose extended usages are not server and client authentication.
    #[error("its extended key usage does not hold both server and client authentication")]
    ExtendedUsage,
}

/// Checks a leaf.
pub fn lint_leaf(der: &[u8]) -> Result<(), Vec<Lint>> {
    lint(der, true)
}

/// Checks a signing certificate.
pub fn lint_ca(der: &[u8]) -> Result<(), Vec<Lint>> {
    lint(der, false)
}

fn lint(der: &[u8], leaf: bool) -> Result<(), Vec<Lint>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => check(&certificate, leaf),
        _ => Err(vec![Lint::Malformed]),
    }
}

/// The same for one that was parsed.
pub(crate) fn check(certificate: &X509Certificate<'_>, leaf: bool) -> Result<(), Vec<Lint>> {
    let mut found = Vec::new();
    let mut want = |good: bool, lint: Lint| {
        if !good {
            found.push(lint);
        }
    };
    want(certificate.version() == X509Version::V3, Lint::Version);
    want(is_good_serial(certificate.raw_serial()), Lint::Serial);
    want(is_good_key(certificate.public_key()), Lint::Key);
    let validity = certificate.validity();
    want(validity.not_before < validity.not_after, Lint::Validity);
    want(certificate.issuer().iter().next().is_some(), Lint::Issuer);
    want(
        certificate.extensions_map().is_ok()
            && !certificate.extensions().iter().any(|extension| {
                matches!(
                    extension.parsed_extension(),
                    ParsedExtension::ParseError { .. }
                )
            }),
        Lint::Extensions,
    );
    lint_names(certificate, leaf, &mut want);
    lint_usages(certificate, leaf, &mut want);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn is_good_serial(bytes: &[u8]) -> bool {
    bytes.len() <= 20
        && bytes.first().is_some_and(|first| first & 0x80 == 0)
        && bytes.iter().any(|byte| *byte != 0)
}

fn is_good_key(key: &SubjectPublicKeyInfo<'_>) -> bool {
    PublicKey::of(key).is_ok()
}

fn lint_names(certificate: &X509Certificate<'_>, leaf: bool, want: &mut impl FnMut(bool, Lint)) {
    let names = certificate.subject_alternative_name().ok().flatten();
    let critical = names.as_ref().is_some_and(|names| names.critical);
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let mut uris = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => {}
            _ => want(false, Lint::Names),
        }
    }
    let most = if leaf {
        uris.len() == 1
    } else {
        uris.len() <= 1
    };
    want(most, Lint::UriNames(uris.len()));
    for uri in uris {
        match SpiffeId::parse(uri) {
            Ok(id) => want(id.is_trust_domain() != leaf, Lint::Path),
            Err(_) => want(false, Lint::SpiffeId),
        }
    }
    let has_subject = certificate.subject().iter().next().is_some();
    want(
        has_subject || names.is_empty() || critical,
        Lint::NamesNotCritical,
    );
}

fn lint_usages(certificate: &X509Certificate<'_>, leaf: bool, want: &mut impl FnMut(bool, Lint)) {
    match certificate.basic_constraints().ok().flatten() {
        Some(constraints) => {
            want(constraints.value.ca != leaf, Lint::BasicConstraints);
            want(constraints.critical, Lint::BasicConstraintsNotCritical);
        }
        None => want(leaf, Lint::BasicConstraints),
    }
    match certificate.key_usage().ok().flatten() {
        Some(usage) if usage.critical => {
            let usage = usage.value;
            let signs = usage.key_cert_sign() || usage.crl_sign();
            let authenticates = usage.key_encipherment() || usage.key_agreement();
            if leaf {
                want(usage.digital_signature(), Lint::UsageMissing);
                want(!signs, Lint::UsageTooWide);
            } else {
                want(usage.key_cert_sign(), Lint::UsageMissing);
                want(!authenticates, Lint::UsageTooWide);
            }
        }
        _ => want(false, Lint::KeyUsage),
    }
    if leaf {
        let usage = certificate.extended_key_usage().ok().flatten();
        want(
            usage.is_some_and(|usage| usage.value.server_auth && usage.value.client_auth),
            Lint::ExtendedUsage,
        );
    }
}
