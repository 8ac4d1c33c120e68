//! One identity in every trust domain that means the mesh's (SECURITY-INJECTION E.8).

use std::collections::BTreeSet;

use mesh_config::resource::mesh::MeshConfig;

use super::text::Pattern;

/// What old policies call the mesh's trust domain, whatever its name.
const ANY: &str = "cluster.local";

/// The mesh's trust domain, then its other names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomains(Vec<String>);

impl TrustDomains {
    /// Those of a mesh, each once.
    pub fn of(mesh: &MeshConfig) -> TrustDomains {
        let mut seen = BTreeSet::new();
        let all = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
        let all = all.map(|domain| domain.replace('@', "."));
        TrustDomains(
            all.filter(|d| !d.is_empty() && seen.insert(d.clone()))
                .collect(),
        )
    }

    /// Principals, `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`: those of the mesh in each of its trust domains, others as they are.
    pub fn principals(&self, values: &[String]) -> Vec<String> {
        let mut out = Vec::with_capacity(values.len());
        for value in values {
            match value.split_once('/') {
                Some((domain, rest)) if self.is_own(value, domain) => {
                    out.extend(self.0.iter().map(|own| match domain.strip_prefix('*') {
                        Some(end) if own.ends_with(end) => value.clone(),
                        _ => format!("{own}/{rest}"),
                    }))
                }
                _ => out.push(value.clone()),
            }
        }
        unique(out)
    }

    /// Trust domains: each of the mesh's becomes all of them, others stay as they are.
    pub fn domains(&self, values: &[String]) -> Vec<String> {
        let mut out = Vec::with_capacity(values.len());
        for value in values {
            if self.0.contains(value) {
                out.extend(self.0.iter().cloned());
            } else {
                out.push(value.clone());
            }
        }
        unique(out)
    }

    /// Whether a principal is one of the mesh's own.
    fn is_own(&self, principal: &str, domain: &str) -> bool {
        let whole = principal.split('/').count() == 5 && domain != "*";
        let covers = |pattern: &str, text: &str| match Pattern::of(pattern) {
            Pattern::Exact(exact) => exact == text,
            Pattern::Prefix(start) => text.starts_with(start),
            Pattern::Suffix(end) => text.ends_with(end),
            Pattern::Present => true,
        };
        let own = |own: &String| covers(domain, own) || covers(own, domain);
        whole && (domain == ANY || self.0.iter().any(own))
    }
}

fn unique(values: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    values
        .into_iter()
        .filter(|value| seen.insert(value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains() -> TrustDomains {
        TrustDomains::of(&MeshConfig {
            trust_domain: "new-td".into(),
            trust_domain_aliases: vec!["old-td".into()],
            ..MeshConfig::default()
        })
    }

    #[track_caller]
    fn check(principal: &str, want: &[&str]) {
        assert_eq!(domains().principals(&[principal.to_owned()]), want);
    }

    /// Case 53.
    #[test]
    fn a_principal_of_the_mesh_is_meant_in_all_its_trust_domains() {
        let both = ["new-td/ns/a/sa/b", "old-td/ns/a/sa/b"];
        check("old-td/ns/a/sa/b", &both);
        check("cluster.local/ns/a/sa/b", &both);
        check("old-*/ns/a/sa/b", &both);
        check("*/ns/a/sa/b", &["*/ns/a/sa/b"]);
        check("third/ns/a/sa/b", &["third/ns/a/sa/b"]);
        check("*", &["*"]);
        check("old-td/*", &["old-td/*"]);
        check("*-td/ns/a/sa/b", &["*-td/ns/a/sa/b"]);
        check(
            "*ld-td/ns/a/sa/b",
            &["new-td/ns/a/sa/b", "*ld-td/ns/a/sa/b"],
        );
        // A trust domain that only begins like one of the mesh's is another one.
        check("old-td-evil/ns/a/sa/b", &["old-td-evil/ns/a/sa/b"]);
    }

    #[test]
    fn a_trust_domain_of_the_mesh_means_all_of_them() {
        let of = |value: &str| domains().domains(&[value.to_owned()]);
        assert_eq!(of("old-td"), ["new-td", "old-td"]);
        assert_eq!(of("cluster.local"), ["cluster.local"]);
        assert_eq!(of("old-*"), ["old-*"]);
    }
}
