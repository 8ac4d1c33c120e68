//! A change of policies remakes the listeners that it is for, and nothing else.

use std::sync::Arc;

use super::*;
use crate::generate::Generator;
use crate::testing::router;

const MESH: &str = include_str!("accepted.yaml");

#[test]
fn of_a_gateway_in_its_listeners_of_a_sidecar_in_those_that_accept() {
    let mut world = World::new(MESH);
    let generator = Generator::default();
    let made = [router("default"), sidecar("default")].map(|proxy| {
        let (view, key) = world.class(&proxy);
        (generator.outbound(&view, &key), view, key)
    });
    let (inbound_view, inbound_key) = world.inbound(&sidecar("default"));
    let before = generator.inbound(&inbound_view, &inbound_key);
    let delta = world.apply(&policy("new", "action: DENY, rules: [{}]"));
    for (index, (sets, view, key)) in made.into_iter().enumerate() {
        let touch = world.mesh.touch(&view, &delta);
        assert!(touch.policies);
        let next = world.mesh.update_view(&view, &touch);
        let updated = generator.outbound_update(&sets, &next, &key, &delta);
        let fresh = generator.outbound(&world.mesh.view(&key.view), &key);
        assert!(Arc::ptr_eq(&updated.lds, &fresh.lds) || same(&updated.lds, &fresh.lds));
        let same_listeners = Arc::ptr_eq(&updated.lds, &sets.lds);
        assert_eq!(same_listeners, index == 1, "a gateway's are others");
        assert!(
            Arc::ptr_eq(&updated.clusters, &sets.clusters) && Arc::ptr_eq(&updated.rds, &sets.rds)
        );
    }
    let after = generator.inbound(&world.mesh.view(&inbound_key.view), &inbound_key);
    assert!(!same(&before.lds, &after.lds));
    // Nothing of it depends on when it came.
    let again = generator.inbound(
        &World::new(&format!(
            "{MESH}---\n{}",
            policy("new", "action: DENY, rules: [{}]")
        ))
        .inbound(&sidecar("default"))
        .0,
        &inbound_key,
    );
    assert!(same(&again.lds, &after.lds));
}

fn same(a: &xds_core::Set, b: &xds_core::Set) -> bool {
    let bytes =
        |set: &xds_core::Set| -> Vec<_> { set.items().iter().map(|e| e.any().to_vec()).collect() };
    bytes(a) == bytes(b)
}
