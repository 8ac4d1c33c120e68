//! The trust bundle's digest, as everybody who compares bundles computes it.

use aws_lc_rs::digest;
use mesh_api::citadel::TrustBundle;
use prost::Message as _;

/// SHA-256 over the bundle's encoding without its generation and its digest: lower-case hexadecimal.
pub fn digest(bundle: &TrustBundle) -> String {
    let content = TrustBundle {
        generation: 0,
        digest: String::new(),
        ..bundle.clone()
    };
    let digest = digest::digest(&digest::SHA256, &content.encode_to_vec());
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_the_content_alone() {
        let bundle = TrustBundle {
            trust_domain: "cluster.local".into(),
            roots: vec!["a".into()],
            ..TrustBundle::default()
        };
        let first = digest(&bundle);
        let later = TrustBundle {
            generation: 7,
            digest: first.clone(),
            ..bundle.clone()
        };
        assert_eq!(digest(&later), first);
        let denied = TrustBundle {
            denied: vec!["spiffe://cluster.local/ns/a/sa/b".into()],
            ..bundle
        };
        assert_ne!(digest(&denied), first);
    }
}
