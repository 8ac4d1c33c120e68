//! Providers: file access logs and external authorizers are acted on (by Pilot, which reads them as written), nothing else yet.

use mesh_types::Code;
use serde_json::Value;

use crate::check::Report;
use crate::resource::mesh::MeshConfig;

/// The access log that is there without being listed.
const BUILT_IN: &str = "envoy";

/// Kinds of providers that are acted on.
const ACTED_ON: [&str; 3] = [
    "envoyFileAccessLog",
    "envoyExtAuthzHttp",
    "envoyExtAuthzGrpc",
];

/// What of a mesh's `extensionProviders` and `defaultProviders` has no effect.
pub(super) fn notes(r: &mut Report, config: &MeshConfig) {
    let list = |value: Option<&'_ Value>| value.and_then(Value::as_array).cloned();
    let providers = list(config.other.0.get("extensionProviders")).unwrap_or_default();
    for (i, provider) in providers.iter().enumerate() {
        if !ACTED_ON.iter().any(|kind| provider.get(kind).is_some()) {
            let what = "this version acts on providers of envoyFileAccessLog, envoyExtAuthzHttp and envoyExtAuthzGrpc only";
            r.item("extensionProviders", i, |r| r.say(Code::NotSupported, what));
        }
    }
    let Some(Value::Object(defaults)) = config.other.0.get("defaultProviders") else {
        return;
    };
    let is_file = |name: &str| {
        let listed = |p: &&Value| p.get("name").and_then(Value::as_str) == Some(name);
        match providers.iter().find(listed) {
            Some(provider) => provider.get("envoyFileAccessLog").is_some(),
            None => name == BUILT_IN,
        }
    };
    r.field("defaultProviders", |r| {
        for (i, name) in list(defaults.get("accessLogging"))
            .iter()
            .flatten()
            .enumerate()
        {
            if !name.as_str().is_some_and(is_file) {
                let what =
                    "no provider of envoyFileAccessLog has this name: nothing is logged for it";
                r.item("accessLogging", i, |r| r.say(Code::NotSupported, what));
            }
        }
        if list(defaults.get("tracing")).is_some_and(|names| !names.is_empty()) {
            let what = "this version does not act on it: proxies trace as their bootstrap says";
            r.say_at("tracing", Code::NotSupported, what);
        }
        for (i, name) in list(defaults.get("metrics")).iter().flatten().enumerate() {
            if name != "prometheus" {
                let what = "this version acts on prometheus only";
                r.item("metrics", i, |r| r.say(Code::NotSupported, what));
            }
        }
    });
}
