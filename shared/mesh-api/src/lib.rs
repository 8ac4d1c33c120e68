//! Messages of `proto/`, compiled: what the services say to each other (`flotilla/`), and wire contracts that Istio's agents share
//! (`istio/`). Feature `grpc` adds the gRPC stubs.
//!
//! The crate must never know who sends a message or why. Start reading in `proto/flotilla/*/v1/*.proto`.

/// What Citadel tells about trust, and what operators ask of it.
#[allow(missing_docs, clippy::doc_lazy_continuation)]
pub mod citadel {
    include!(concat!(env!("OUT_DIR"), "/flotilla.citadel.v1.rs"));
}

/// What Galley distributes.
#[allow(missing_docs, clippy::doc_lazy_continuation)]
pub mod galley {
    include!(concat!(env!("OUT_DIR"), "/flotilla.galley.v1.rs"));
}

/// What Pilots tell about proxies.
#[allow(missing_docs, clippy::doc_lazy_continuation)]
pub mod pilot {
    include!(concat!(env!("OUT_DIR"), "/flotilla.pilot.v1.rs"));
}

/// What Istio's agents speak, field for field.
pub mod istio {
    /// The certificate authority.
    #[allow(missing_docs)]
    pub mod ca {
        include!(concat!(env!("OUT_DIR"), "/istio.v1.auth.rs"));
    }

    /// Name discovery: what the agent's DNS proxy answers.
    #[allow(missing_docs)]
    pub mod nds {
        include!(concat!(env!("OUT_DIR"), "/istio.networking.nds.v1.rs"));
    }

    /// The trust bundle as Istio's agents read it.
    #[allow(missing_docs)]
    pub mod mesh {
        include!(concat!(env!("OUT_DIR"), "/istio.mesh.v1alpha1.rs"));
    }
}

/// Digest of a set of resources that does not depend on their order: the sum of the hashes of its members, so that adding and
/// removing one costs one hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    /// Adds a resource.
    pub fn add(&mut self, type_url: &str, name: &str, version: u64) {
        self.0 = self.0.wrapping_add(member(type_url, name, version));
    }

    /// Takes a resource out again.
    pub fn remove(&mut self, type_url: &str, name: &str, version: u64) {
        self.0 = self.0.wrapping_sub(member(type_url, name, version));
    }
}

fn member(type_url: &str, name: &str, version: u64) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(type_url.as_bytes());
    hash.update(b"\0");
    hash.update(name.as_bytes());
    hash.update(b"\0");
    hash.update(&version.to_le_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn digest_forgets_what_was_removed_and_ignores_order() {
        let (mut a, mut b) = (Digest::default(), Digest::default());
        a.add("t", "x", 1);
        a.add("t", "y", 2);
        b.add("t", "y", 2);
        b.add("t", "z", 3);
        b.add("t", "x", 1);
        b.remove("t", "z", 3);
        assert_eq!(a, b);
        a.add("t", "x", 1);
        assert_ne!(a, b);
    }
}
