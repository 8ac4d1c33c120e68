//! Who may depend on whom: pure on pure; io on io and pure; a service on anything but another service; `test` crates on all.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Problem;
use crate::repo::Repo;
use crate::workspace::{Layer, Member, Use};

/// The one binary that embeds services: `flotilla up` runs the whole plane in a process.
const ALL_IN_ONE: &str = "flotilla";

/// What no pure crate may be built with: runtimes, clients and servers. Stubs that need them wait behind a feature.
const IMPURE: &[&str] = &[
    "async-nats",
    "hyper",
    "hyper-util",
    "kube",
    "mio",
    "notify",
    "sqlx",
    "tokio",
    "tonic",
];

/// Declared dependencies between members that point the wrong way, and members without a layer.
pub fn arrows(members: &[Member]) -> Vec<Problem> {
    let layers: BTreeMap<&str, Layer> = members
        .iter()
        .filter_map(|member| Some((member.name.as_str(), member.layer?)))
        .collect();
    let mut problems = Vec::new();
    for member in members {
        let Some(from) = member.layer else {
            let message =
                "say [package.metadata.mesh] layer = \"pure\", \"io\", \"service\" or \"test\"";
            problems.push(Problem::error(&member.manifest, message));
            continue;
        };
        for (name, used) in &member.dependencies {
            let Some(&to) = layers.get(name.as_str()) else {
                continue;
            };
            if !allowed(&member.name, from, to, *used) {
                let message = format!(
                    "a {} crate must not depend on `{name}`, a {} crate",
                    word(from),
                    word(to)
                );
                problems.push(Problem::error(&member.manifest, message));
            }
        }
    }
    problems
}

fn allowed(name: &str, from: Layer, to: Layer, used: Use) -> bool {
    match (from, to) {
        (Layer::Test, _) | (_, Layer::Pure) => true,
        (_, Layer::Test) => used == Use::Tests,
        (Layer::Pure, Layer::Io | Layer::Service) => false,
        (Layer::Io | Layer::Service, Layer::Io) => true,
        (Layer::Io, Layer::Service) => false,
        (Layer::Service, Layer::Service) => name == ALL_IN_ONE,
    }
}

fn word(layer: Layer) -> &'static str {
    match layer {
        Layer::Pure => "pure",
        Layer::Io => "io",
        Layer::Service => "service",
        Layer::Test => "test",
    }
}

/// Pure crates that reach something impure through other people's crates.
pub fn reach(
    members: &[Member],
    closure: impl Fn(&str) -> Result<Vec<String>>,
) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for member in members
        .iter()
        .filter(|member| member.layer == Some(Layer::Pure))
    {
        for name in closure(&member.name)? {
            if IMPURE.contains(&name.as_str()) {
                let message = format!(
                    "a pure crate must not reach `{name}`: cargo tree -p {} -e normal -i {name}",
                    member.name
                );
                problems.push(Problem::error(&member.manifest, message));
            }
        }
    }
    Ok(problems)
}

/// Manifests that do not take the workspace's lints.
pub fn manifests(repo: &Repo, members: &[Member]) -> Vec<Problem> {
    let inherits = |text: &str| {
        text.split_once("[lints]")
            .is_some_and(|(_, rest)| rest.trim_start().starts_with("workspace = true"))
    };
    members
        .iter()
        .filter(|member| !repo.text(&member.manifest).is_some_and(inherits))
        .map(|member| Problem::error(&member.manifest, "say [lints] workspace = true"))
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::tidy::shown;

    /// `a:pure b:io>a,-t`: crate, layer, what it depends on; `-` marks a dev-dependency.
    fn members(text: &str) -> Vec<Member> {
        let member = |word: &str| {
            let (head, dependencies) = word.split_once('>').unwrap_or((word, ""));
            let (name, layer) = head.split_once(':').unwrap();
            let dependencies = dependencies.split(',').filter(|name| !name.is_empty());
            Member {
                name: name.into(),
                manifest: format!("{name}/Cargo.toml"),
                layer: serde_json::from_value(layer.into()).ok(),
                dependencies: dependencies
                    .map(|name| match name.strip_prefix('-') {
                        Some(name) => (name.to_owned(), Use::Tests),
                        None => (name.to_owned(), Use::Product),
                    })
                    .collect(),
            }
        };
        text.split_whitespace().map(member).collect()
    }

    #[test]
    fn right_arrows_pass() {
        let members = members(
            "types:pure core:pure>types,serde,-kit bus:io>core s:service>bus,core,-kit kit:test>core flotilla:service>s",
        );
        assert_eq!(arrows(&members), []);
    }

    #[test]
    fn wrong_arrows_are_named() {
        let members = members(
            "core:pure>bus bus:io>s s:service>other,kit other:service>-s kit:test none:what",
        );
        expect![[r#"
            error: core/Cargo.toml: a pure crate must not depend on `bus`, a io crate
            error: bus/Cargo.toml: a io crate must not depend on `s`, a service crate
            error: s/Cargo.toml: a service crate must not depend on `other`, a service crate
            error: s/Cargo.toml: a service crate must not depend on `kit`, a test crate
            error: other/Cargo.toml: a service crate must not depend on `s`, a service crate
            error: none/Cargo.toml: say [package.metadata.mesh] layer = "pure", "io", "service" or "test"
        "#]]
        .assert_eq(&shown(&arrows(&members)));
    }

    #[test]
    fn a_pure_crate_may_not_reach_a_runtime() {
        let members = members("core:pure bus:io");
        let problems = reach(&members, |name| {
            Ok(vec![name.to_owned(), "tokio".into(), "tokio-ish".into()])
        })
        .unwrap();
        expect![[r#"
            error: core/Cargo.toml: a pure crate must not reach `tokio`: cargo tree -p core -e normal -i tokio
        "#]]
        .assert_eq(&shown(&problems));
    }

    #[test]
    fn lints_are_inherited() {
        let members = members("a:pure b:pure");
        let repo = Repo::of(&[
            ("a/Cargo.toml", "[lints]\nworkspace = true\n"),
            ("b/Cargo.toml", "[package]\n"),
        ]);
        expect![[r#"
            error: b/Cargo.toml: say [lints] workspace = true
        "#]]
        .assert_eq(&shown(&manifests(&repo, &members)));
    }
}
