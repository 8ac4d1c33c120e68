//! Virtual addresses for ServiceEntries that have none, so that applications with DNS capture can tell them apart.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use mesh_config::resource::normal::{Registry as Origin, ServiceResolution};
use mesh_config::{Body, Object};
use mesh_types::{Key, version_of};

/// 240.240.0.0/16 without its first and last address.
const SPACE: u32 = 65_534;

/// Which service has which address. A service's place follows from its name alone unless another holds it, and every plane
/// that sees the same services allots alike.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    by_key: BTreeMap<Key, u32>,
    taken: BTreeMap<u32, Key>,
}

impl Addresses {
    /// Whether a service gets an address: a ServiceEntry host without one, resolved by the plane or by DNS, no wildcard, not opted out.
    pub(crate) fn wants(object: &Object) -> bool {
        let Body::MeshService(service) = &object.body else {
            return false;
        };
        service.registry == Origin::External
            && service.addresses.is_empty()
            && service.resolution != ServiceResolution::Passthrough
            && !service.hostname.is_wildcard()
            && service
                .labels
                .get("networking.istio.io/enable-autoallocate-ip")
                != Some("false")
    }

    /// Allots and frees addresses; returns the other services that had to move, so that the outcome does not depend on the order of
    /// events.
    pub(crate) fn update<'a>(
        &mut self,
        changes: impl Iterator<Item = (&'a Key, bool)>,
    ) -> Vec<Key> {
        let mut wanting = Vec::new();
        let mut place_anew = false;
        for (key, wants) in changes {
            if wants == self.by_key.contains_key(key) {
                continue;
            }
            let slot = first_slot(key);
            if !wants {
                // A hole that others may have probed over.
                self.by_key.remove(key);
                place_anew = true;
            } else if self.taken.contains_key(&slot) {
                wanting.push(key.clone());
                place_anew = true;
            } else {
                self.by_key.insert(key.clone(), slot);
                self.taken.insert(slot, key.clone());
            }
        }
        if !place_anew {
            return Vec::new();
        }
        let before = std::mem::take(&mut self.by_key);
        self.taken.clear();
        let mut keys: Vec<&Key> = before.keys().chain(&wanting).collect();
        keys.sort_unstable();
        keys.truncate(SPACE as usize);
        for key in keys {
            let mut slot = first_slot(key);
            while self.taken.contains_key(&slot) {
                slot = (slot + 1) % SPACE;
            }
            self.by_key.insert(key.clone(), slot);
            self.taken.insert(slot, key.clone());
        }
        before
            .into_iter()
            .filter(|(key, slot)| self.by_key.get(key) != Some(slot))
            .map(|(key, _)| key)
            .collect()
    }

    /// The address of a service.
    pub(crate) fn of(&self, key: &Key) -> Vec<Arc<str>> {
        let base = u32::from(Ipv4Addr::new(240, 240, 0, 1));
        self.by_key
            .get(key)
            .map(|slot| Ipv4Addr::from(base + slot).to_string().into())
            .into_iter()
            .collect()
    }
}

fn first_slot(key: &Key) -> u32 {
    (version_of(format!("{}/{}", key.namespace, key.name).as_bytes()) % u64::from(SPACE)) as u32
}

#[cfg(test)]
mod tests {
    use mesh_types::Kind;

    use super::*;

    #[test]
    fn outcome_does_not_depend_on_the_order_of_events() {
        let keys: Vec<Key> = (0..1000)
            .map(|n| Key::new(Kind::MeshService, "default", format!("h{n}.example")))
            .collect();
        let (mut forward, mut backward) = (Addresses::default(), Addresses::default());
        forward.update(keys.iter().map(|k| (k, true)));
        keys.iter()
            .rev()
            .for_each(|k| drop(backward.update([(k, true)].into_iter())));
        backward.update(keys.iter().take(500).map(|k| (k, false)));
        backward.update(keys.iter().take(500).map(|k| (k, true)));
        let distinct: std::collections::BTreeSet<_> =
            keys.iter().flat_map(|k| forward.of(k)).collect();
        assert_eq!(distinct.len(), keys.len());
        assert!(keys.iter().all(|k| forward.of(k) == backward.of(k)));
    }
}
