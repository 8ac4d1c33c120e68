//! Versions and ciphers, and the one crypto provider.

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::{SupportedProtocolVersion, version};

/// Which TLS is spoken. The default is TLS 1.2 and 1.3 with every cipher the provider has, all of them with forward secrecy.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    provider: Arc<CryptoProvider>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    #[default]
    Tls12,
    /// 1.3
    Tls13,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<TlsVersion, String> {
        match text {
            "1.2" | "TLSv1_2" | "TLSV1_2" | "VersionTLS12" => Ok(TlsVersion::Tls12),
            "1.3" | "TLSv1_3" | "TLSV1_3" | "VersionTLS13" => Ok(TlsVersion::Tls13),
            _ => Err(format!(
                "{text:?} is no version to insist on; write 1.2 or 1.3"
            )),
        }
    }
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings {
            min_version: TlsVersion::Tls12,
            provider: provider().clone(),
        }
    }
}

impl TlsSettings {
    /// Only these cipher suites, by their registered (`TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`) or OpenSSL's names
    /// (`ECDHE-ECDSA-AES256-GCM-SHA384`), in this order of preference. None is every one.
    ///
    /// # Errors
    /// A name that is not known, with those that are; or no suite is left for `min_version`.
    pub fn with_ciphers<S: AsRef<str>>(
        min_version: TlsVersion,
        names: &[S],
    ) -> Result<TlsSettings, String> {
        let all = provider();
        let mut chosen = Vec::new();
        for name in names {
            let name = name.as_ref().trim();
            let suite = all
                .cipher_suites
                .iter()
                .find(|suite| is_named(suite.suite(), name));
            let Some(suite) = suite else {
                let known = all.cipher_suites.iter().map(|s| registered(s.suite()));
                let known: Vec<String> = known.collect();
                return Err(format!(
                    "{name:?} is no cipher suite of ours; there are {}",
                    known.join(", ")
                ));
            };
            chosen.push(*suite);
        }
        if names.is_empty() {
            chosen.clone_from(&all.cipher_suites);
        }
        let oldest = version_number(min_version);
        if !chosen
            .iter()
            .any(|suite| suite.version().version == rustls::ProtocolVersion::TLSv1_3)
            && min_version == TlsVersion::Tls13
        {
            return Err(format!("none of the cipher suites is of TLS {oldest}"));
        }
        let mut provider = (**all).clone();
        provider.cipher_suites = chosen;
        Ok(TlsSettings {
            min_version,
            provider: Arc::new(provider),
        })
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }

    /// The versions for which there is a cipher.
    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let wanted: &[&'static SupportedProtocolVersion] = match self.min_version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let spoken = |version: &&SupportedProtocolVersion| {
            let suites = self.provider.cipher_suites.iter();
            suites
                .clone()
                .any(|suite| suite.version().version == version.version)
        };
        wanted.iter().copied().filter(|v| spoken(v)).collect()
    }
}

fn version_number(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls12 => "1.2",
        TlsVersion::Tls13 => "1.3",
    }
}

/// The name in IANA's registry.
fn registered(suite: rustls::CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    // The library puts the version into the names of TLS 1.3's suites.
    name.replacen("TLS13_", "TLS_", 1)
}

fn is_named(suite: rustls::CipherSuite, name: &str) -> bool {
    let registered = registered(suite);
    // OpenSSL: ECDHE-ECDSA-AES256-GCM-SHA384 for TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, ..-CHACHA20-POLY1305 without the hash.
    let openssl = registered
        .trim_start_matches("TLS_")
        .replace("WITH_", "")
        .replace("AES_", "AES")
        .replace("POLY1305_SHA256", "POLY1305")
        .replace('_', "-");
    registered == name || openssl == name
}

/// The crypto provider: aws-lc-rs.
pub(super) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// Makes our crypto provider that of the process, for libraries that ask for none in particular. First thing in `main`; doing it twice
/// is harmless.
pub fn install_provider() {
    let _ = (**provider()).clone().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphers_have_two_names() {
        let settings = TlsSettings::with_ciphers(
            TlsVersion::Tls12,
            &[
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "ECDHE-RSA-CHACHA20-POLY1305",
            ],
        )
        .unwrap();
        let names = settings.provider.cipher_suites.iter();
        let names: Vec<String> = names.map(|suite| registered(suite.suite())).collect();
        assert_eq!(
            names,
            [
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
            ]
        );
        assert_eq!(settings.versions(), [&version::TLS12]);
        let one = TlsSettings::with_ciphers(TlsVersion::Tls13, &["TLS_AES_128_GCM_SHA256"]);
        assert_eq!(one.unwrap().versions(), [&version::TLS13]);
    }

    #[test]
    fn ciphers_that_are_not_there_are_refused() {
        let unknown = TlsSettings::with_ciphers(TlsVersion::Tls12, &["RC4-MD5"]).unwrap_err();
        assert!(unknown.starts_with("\"RC4-MD5\" is no cipher suite of ours; there are TLS_"));
        let old = TlsSettings::with_ciphers(TlsVersion::Tls13, &["ECDHE-RSA-AES128-GCM-SHA256"]);
        assert_eq!(old.unwrap_err(), "none of the cipher suites is of TLS 1.3");
        assert!("1.1".parse::<TlsVersion>().is_err());
        assert_eq!("1.3".parse(), Ok(TlsVersion::Tls13));
    }

    #[test]
    fn everything_is_the_default() {
        let settings = TlsSettings::default();
        assert_eq!(settings.versions(), [&version::TLS13, &version::TLS12]);
        let none: &[&str] = &[];
        let all = TlsSettings::with_ciphers(TlsVersion::Tls13, none).unwrap();
        assert_eq!(all.versions(), [&version::TLS13]);
    }
}
