//! Which mode holds where: cases 37 to 39, C-054 and C-055, as the views of sidecars show it.

use mesh_types::{Code, Labels};

use crate::testing::World;
use crate::{PeerMode, PeerModes, View};

fn mesh(text: &str) -> World {
    World::new(text)
}

fn modes(view: &View) -> String {
    let word = |mode: PeerMode| format!("{mode:?}").to_uppercase();
    let PeerModes { workload, ports } = &*view.peers;
    let ports = ports
        .iter()
        .map(|(port, mode)| format!(" {port}={}", word(*mode)));
    word(*workload) + &ports.collect::<String>()
}

/// What a sidecar of namespace `n` labelled `app: p` takes.
fn of(text: &str) -> String {
    modes(&mesh(text).sidecar("n"))
}

const MESH: &str = "PeerAuthentication istio-system/default\nmtls: {mode: STRICT}";

/// Case 37, C-055.
#[test]
fn the_narrowest_that_says_something_decides() {
    assert_eq!(of("svc a.n http:80"), "PERMISSIVE");
    assert_eq!(of(MESH), "STRICT");
    let unset = format!("{MESH}\n---\nPeerAuthentication n/default\nmtls: {{mode: UNSET}}");
    assert_eq!(of(&unset), "STRICT");
    assert_eq!(
        of(&format!("{MESH}\n---\nPeerAuthentication n/default\n{{}}")),
        "STRICT"
    );
    let own = "PeerAuthentication n/p\nselector: {matchLabels: {app: p}}\nmtls: {mode: DISABLE}";
    assert_eq!(of(&format!("{unset}\n---\n{own}")), "DISABLE");
    let other = own.replace("app: p", "app: q");
    assert_eq!(of(&format!("{unset}\n---\n{other}")), "STRICT");
    let elsewhere = "PeerAuthentication m/default\nmtls: {mode: STRICT}";
    assert_eq!(of(elsewhere), "PERMISSIVE");
    // The root namespace's own is the mesh's.
    assert_eq!(modes(&mesh(MESH).sidecar("istio-system")), "STRICT");
}

/// Case 38, C-054: ports are the workload's own, and only of the policy that selects it.
#[test]
fn ports_come_from_the_policy_of_the_workload() {
    let own = "PeerAuthentication n/default\nmtls: {mode: STRICT}\n---\n\
               PeerAuthentication n/p\nselector: {matchLabels: {app: p}}\nmtls: {mode: PERMISSIVE}\n\
               portLevelMtls: {8080: {mode: DISABLE}, 9000: {mode: UNSET}, 9001: {mode: STRICT}}";
    assert_eq!(
        of(own),
        "PERMISSIVE 8080=DISABLE 9000=PERMISSIVE 9001=STRICT"
    );
    let peers = mesh(own).sidecar("n").peers;
    assert_eq!(
        [peers.at(8080), peers.at(80)],
        [PeerMode::Disable, PeerMode::Permissive],
        "the service's port number means nothing"
    );
    let inherits = "PeerAuthentication n/default\nmtls: {mode: STRICT}\n---\n\
               PeerAuthentication n/p\nselector: {matchLabels: {app: p}}\nportLevelMtls: {9000: {mode: UNSET}}";
    assert_eq!(of(inherits), "STRICT 9000=STRICT");
}

/// Case 39, C-055: and their authors are told.
#[test]
fn the_oldest_of_a_level_decides() {
    let two = "PeerAuthentication n/newer created=9\nmtls: {mode: STRICT}\n---\n\
               PeerAuthentication n/older created=3\nmtls: {mode: PERMISSIVE}";
    assert_eq!(of(two), "PERMISSIVE");
    let unset = two.replace("PERMISSIVE", "UNSET");
    assert_eq!(of(&unset), "PERMISSIVE", "even if it says nothing");
    let same = "PeerAuthentication n/b created=3\nmtls: {mode: STRICT}\n---\n\
               PeerAuthentication n/a created=3\nmtls: {mode: DISABLE}";
    assert_eq!(of(same), "DISABLE");
    let selecting = "PeerAuthentication n/b created=9\nselector: {matchLabels: {app: p}}\nmtls: {mode: STRICT}\n---\n\
               PeerAuthentication n/a created=3\nselector: {matchLabels: {app: p}}\nmtls: {mode: DISABLE}";
    assert_eq!(of(selecting), "DISABLE");
    let root = "PeerAuthentication istio-system/p\nselector: {matchLabels: {app: p}}\nmtls: {mode: STRICT}";
    assert_eq!(
        of(root),
        "PERMISSIVE",
        "one with a selector is no policy of the mesh"
    );
    assert_eq!(modes(&mesh(root).sidecar("istio-system")), "PERMISSIVE");

    for (text, ignored) in [
        (two, "n/newer"),
        (selecting, "n/b"),
        (root, "istio-system/p"),
    ] {
        let findings = mesh(text).mesh.findings();
        let found: Vec<_> = findings
            .iter()
            .map(|f| (f.key.as_ref().unwrap().path(), f.code))
            .collect();
        assert_eq!(
            found,
            [(ignored.to_owned(), Code::NoEffect)],
            "{findings:#?}"
        );
    }
}

#[test]
fn an_edit_concerns_those_it_selects_and_the_endpoints_it_closes() {
    let mut world = mesh(
        "svc a.n http:80\nsvc b.m http:80\nep a.n 10.0.0.2:8080/http-80 10.0.0.2:9090/http-80 mtls sa=a app=p\nep b.m 10.0.0.3:80/http-80 mtls",
    );
    let (own, other) = (world.sidecar("n"), world.sidecar("m"));
    let touch = |world: &World, view: &View, delta| world.mesh.touch(view, delta);
    let delta = world.apply("PeerAuthentication n/default\nmtls: {mode: STRICT}");
    assert!(touch(&world, &own, &delta).peers);
    assert!(
        touch(&world, &other, &delta).is_none() && delta.endpoints.is_empty(),
        "clients need not know"
    );
    let delta = world.apply(
        "PeerAuthentication n/p\nselector: {matchLabels: {app: p}}\nportLevelMtls: {9090: {mode: DISABLE}}",
    );
    let seen = touch(&world, &other, &delta);
    assert!(
        seen.only_endpoints() && seen.endpoints.len() == 1,
        "{seen:?}"
    );
    let of = |view: &View, host: &str| {
        let host = mesh_types::Hostname::new(host).unwrap();
        view.endpoints.get(&host).unwrap().peers.clone()
    };
    let peers = of(&world.sidecar("m"), "a.n.svc.cluster.local");
    assert_eq!(
        (&*peers.plaintext, peers.plaintext_namespace),
        (&[1][..], false)
    );
    assert_eq!(
        peers.accounts.iter().map(|a| &**a).collect::<Vec<_>>(),
        ["a"]
    );
    let delta = world.apply("PeerAuthentication istio-system/default\nmtls: {mode: DISABLE}");
    let seen = touch(&world, &other, &delta);
    assert_eq!(
        (seen.endpoints.len(), seen.peers),
        (1, true),
        "of its own namespace: {seen:?}"
    );
    let peers = of(&world.sidecar("m"), "b.m.svc.cluster.local");
    assert_eq!(
        (&*peers.plaintext, peers.plaintext_namespace),
        (&[0][..], true)
    );
    let labels = Labels::from_iter([("app", "p")]);
    let keys = world.mesh.peer_authentications("n", &labels);
    let paths: Vec<_> = keys.iter().map(mesh_types::Key::path).collect();
    assert_eq!(paths, ["istio-system/default", "n/default", "n/p"]);
}
