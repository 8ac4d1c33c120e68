//! Identities of workloads: a namespace and a service account of a trust domain.

use super::*;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; what is no such thing cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl WorkloadId {
    /// A workload of its parts: the namespace is a DNS label, the service account a DNS subdomain.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<WorkloadId, SpiffeError> {
        if !is_label(namespace) {
            return Err(SpiffeError::Namespace(namespace.into()));
        }
        if !is_subdomain(service_account) {
            return Err(SpiffeError::ServiceAccount(service_account.into()));
        }
        Ok(WorkloadId {
            trust_domain,
            namespace: namespace.into(),
            service_account: service_account.into(),
        })
    }

    /// The same from a trust domain as others write it, where a `@` stands for a `.`.
    pub fn generate(
        trust_domain: &str,
        namespace: &str,
        service_account: &str,
    ) -> Result<WorkloadId, SpiffeError> {
        let domain = TrustDomain::new(&trust_domain.replace('@', "."))?;
        WorkloadId::new(domain, namespace, service_account)
    }

    /// Reads an identity in its canonical form, with the scheme.
    pub fn parse(text: &str) -> Result<WorkloadId, SpiffeError> {
        WorkloadId::try_from(&SpiffeId::parse(text)?)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The same namespace and service account in another trust domain.
    pub fn in_domain(&self, trust_domain: TrustDomain) -> WorkloadId {
        WorkloadId {
            trust_domain,
            ..self.clone()
        }
    }

    /// Without the scheme, as policies write it: `td/ns/x/sa/y`.
    pub fn without_scheme(&self) -> String {
        format!(
            "{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }

    /// As any identity.
    pub fn to_spiffe_id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.trust_domain.clone(),
            path: format!("/ns/{}/sa/{}", self.namespace, self.service_account).into(),
        }
    }
}

/// The identities and, for each that names a workload, the same workload in each of the aliases of its trust domain. What names no workload
/// stays as it is. A set: sorted, and nothing twice.
pub fn expand<S: AsRef<str>>(ids: &[S], aliases: &[TrustDomain]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for id in ids {
        let id = id.as_ref();
        if let Ok(workload) = WorkloadId::parse(id) {
            out.extend(
                aliases
                    .iter()
                    .map(|alias| workload.in_domain(alias.clone()).to_string()),
            );
        }
        out.insert(id.into());
    }
    out
}

/// A DNS label as Kubernetes has it: 1 to 63 lower-case letters, digits and inner dashes.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_word(text)
}

/// A DNS subdomain as Kubernetes has it: words between dots, at most 253 bytes.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_word)
}

fn is_dns_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl TryFrom<&SpiffeId> for WorkloadId {
    type Error = SpiffeError;

    fn try_from(id: &SpiffeId) -> Result<WorkloadId, SpiffeError> {
        let mut pieces = id.path.split('/');
        let parts = [(); 5].map(|()| pieces.next());
        match (parts, pieces.next()) {
            (
                [
                    Some(""),
                    Some("ns"),
                    Some(namespace),
                    Some("sa"),
                    Some(account),
                ],
                None,
            ) => WorkloadId::new(id.trust_domain.clone(), namespace, account),
            _ => Err(SpiffeError::NoWorkload),
        }
    }
}

impl From<&WorkloadId> for SpiffeId {
    fn from(id: &WorkloadId) -> SpiffeId {
        id.to_spiffe_id()
    }
}

impl From<WorkloadId> for SpiffeId {
    fn from(id: WorkloadId) -> SpiffeId {
        id.to_spiffe_id()
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            namespace,
            service_account,
        } = self;
        write!(
            f,
            "{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}"
        )
    }
}

impl FromStr for WorkloadId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<WorkloadId, SpiffeError> {
        WorkloadId::parse(text)
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = SpiffeError;

    fn try_from(text: String) -> Result<WorkloadId, SpiffeError> {
        WorkloadId::parse(&text)
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_it_was_read() {
        let text = "spiffe://cluster.local/ns/default/sa/app.v1";
        let id = WorkloadId::parse(text).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.to_spiffe_id(), SpiffeId::parse(text).unwrap());
        assert_eq!(id.without_scheme(), "cluster.local/ns/default/sa/app.v1");
        assert_eq!(
            (id.namespace(), id.service_account()),
            ("default", "app.v1")
        );
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<WorkloadId>(&json).unwrap(), id);
        assert_eq!(
            WorkloadId::generate("me@corp.com", "a", "b")
                .unwrap()
                .trust_domain()
                .as_str(),
            "me.corp.com"
        );
    }

    /// Case 20.
    #[test]
    fn refuses_what_is_no_workload() {
        let long = format!("spiffe://a/ns/{}/sa/b", "n".repeat(64));
        for bad in [
            "spiffe://a",
            "spiffe://a/ns/x",
            "spiffe://a/ns/x/sa/",
            "spiffe://a/ns//sa/b",
            "spiffe://a/ns/x/sa/b/c",
            "spiffe://a/NS/x/sa/b",
            "spiffe://a/ns/x/xx/b",
            "spiffe://a/ns/X/sa/b",
            "spiffe://a/ns/x.y/sa/b",
            "spiffe://a/ns/x/sa/b_c",
            "spiffe://a/ns/x/sa/-b",
            "spiffe://a/ns/x/sa/b..c",
            "spiffe://a/x/ns/x/sa/b",
            &long,
        ] {
            assert!(WorkloadId::parse(bad).is_err(), "{bad}");
        }
        let domain = TrustDomain::default;
        assert!(WorkloadId::new(domain(), "", "b").is_err());
        assert!(WorkloadId::new(domain(), "a", "").is_err());
        assert!(WorkloadId::new(domain(), "a", &"s".repeat(253)).is_ok());
        assert!(WorkloadId::new(domain(), "a", &"s".repeat(254)).is_err());
    }

    #[test]
    fn workloads_are_expanded_with_aliases_and_others_are_kept() {
        let aliases = [
            TrustDomain::new("old").unwrap(),
            TrustDomain::new("td").unwrap(),
        ];
        let ids = ["spiffe://td/ns/a/sa/b", "spiffe://td/other", "reviews.shop"];
        assert_eq!(
            Vec::from_iter(expand(&ids, &aliases)),
            [
                "reviews.shop",
                "spiffe://old/ns/a/sa/b",
                "spiffe://td/ns/a/sa/b",
                "spiffe://td/other",
            ]
        );
        assert!(expand::<&str>(&[], &aliases).is_empty());
    }
}
