//! What this Pilot holds of Galley's configuration: the last whole revision, kept on disk for the day Galley is away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use mesh_api::{Digest, galley};
use mesh_config::Object;
use mesh_model::Change;
use mesh_types::{Key, Kind, Revision};
use prost::Message;

/// Collections a Pilot subscribes to.
pub const COLLECTIONS: [Kind; 11] = [
    Kind::MeshConfig,
    Kind::Sidecar,
    Kind::Gateway,
    Kind::DestinationRule,
    Kind::VirtualService,
    Kind::PeerAuthentication,
    Kind::RequestAuthentication,
    Kind::AuthorizationPolicy,
    Kind::MeshService,
    Kind::MeshEndpoints,
    Kind::MeshWorkload,
];

/// One object as it came, and its version on the wire.
#[derive(Debug, Clone)]
struct Held {
    version: u64,
    /// The object of that version; of one that cannot be used, the last that could, if there was one.
    object: Option<Arc<Object>>,
    /// Whether `object` is of that version.
    current: bool,
}

/// A resource that cannot be used: it alone is left at its last good version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct BadResource {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Whether what is held at the end of a revision is what Galley holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// It is.
    Same,
    /// It is not: something was lost on the way.
    Differs,
    /// It is not, although everything was fetched anew: the two sides count differently, and nothing better is to be had.
    DiffersAnew,
}

/// A whole revision, and what has arrived of the next one.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    revision: Revision,
    objects: BTreeMap<Key, Held>,
    digest: Digest,
    /// Changes of the revision that is arriving.
    arriving: BTreeMap<Key, Option<Held>>,
    /// What was taken over without being handed on, as the revision did not agree.
    withheld: BTreeSet<Key>,
    /// Everything is fetched anew: what does not arrive is gone.
    anew: bool,
}

impl Configuration {
    /// The revision held.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Versions held of one collection, by name on the wire: what to resume from.
    pub fn versions(&self, kind: Kind) -> BTreeMap<String, String> {
        if self.anew {
            return BTreeMap::new();
        }
        self.of(kind)
            .map(|(key, held)| (key.path(), hex(held.version)))
            .collect()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Held)> {
        self.objects
            .range(Key::new(kind, "", "")..)
            .take_while(move |(key, _)| key.kind == kind)
    }

    /// Everything, as changes from nothing.
    pub fn everything(&self) -> Vec<Change> {
        let objects = self.objects.values().filter_map(|held| held.object.clone());
        objects.map(Change::Upsert).collect()
    }

    /// Fetches everything anew with the next stream, and serves what there is until then.
    pub fn distrust(&mut self) {
        self.anew = true;
    }

    /// Forgets what has arrived of an unfinished revision: its stream is gone.
    pub fn drop_arriving(&mut self) {
        self.arriving.clear();
    }

    /// Takes one chunk of a collection. Returns the resources that cannot be used; everything else is taken.
    pub fn take(&mut self, kind: Kind, response: &DeltaDiscoveryResponse) -> Vec<BadResource> {
        let mut bad = Vec::new();
        for resource in &response.resources {
            let read = version(resource).map(|version| (version, read(kind, resource)));
            let (key, held) = match read {
                Ok((version, Ok(object))) => {
                    let key = object.meta.key.clone();
                    let held = Held {
                        version,
                        object: Some(object),
                        current: true,
                    };
                    (key, held)
                }
                Ok((version, Err(reason))) => {
                    bad.push(BadResource {
                        name: resource.name.clone(),
                        reason,
                    });
                    let key = key(kind, &resource.name);
                    let known = self.objects.get(&key);
                    let held = Held {
                        version,
                        object: known.and_then(|known| known.object.clone()),
                        current: false,
                    };
                    (key, held)
                }
                Err(reason) => {
                    bad.push(BadResource {
                        name: resource.name.clone(),
                        reason,
                    });
                    continue;
                }
            };
            self.arriving.insert(key, Some(held));
        }
        for name in &response.removed_resources {
            self.arriving.insert(key(kind, name), None);
        }
        bad
    }

    /// The revision has arrived whole: what changes, and whether the outcome is what Galley holds. If it differs, the changes are kept for the
    /// revision that does not.
    pub fn finish(&mut self, end: &galley::Revision) -> (Vec<Change>, Agreement) {
        let anew = std::mem::take(&mut self.anew);
        if anew {
            for key in self.objects.keys() {
                self.arriving.entry(key.clone()).or_insert(None);
            }
        }
        let mut changed = std::mem::take(&mut self.withheld);
        for (key, held) in std::mem::take(&mut self.arriving) {
            let (url, name) = (key.kind.type_url(), key.path());
            if let Some(old) = self.objects.remove(&key) {
                self.digest.remove(&url, &name, old.version);
            }
            changed.insert(key.clone());
            if let Some(held) = held {
                self.digest.add(&url, &name, held.version);
                self.objects.insert(key, held);
            }
        }
        let agreement = match (self.digest.0 == end.digest, anew) {
            (true, _) => Agreement::Same,
            (false, false) => {
                self.withheld = changed;
                return (Vec::new(), Agreement::Differs);
            }
            (false, true) => Agreement::DiffersAnew,
        };
        self.revision = Revision(end.number);
        let change = |key: Key| match self.objects.get(&key) {
            Some(Held {
                object: Some(object),
                ..
            }) => Change::Upsert(object.clone()),
            Some(Held { object: None, .. }) | None => Change::Delete(key),
        };
        (changed.into_iter().map(change).collect(), agreement)
    }

    /// Writes the revision held, whole or not at all.
    ///
    /// # Errors
    /// What the file system says; the file written before is still there.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let resource = |(key, held): (&Key, &Held)| {
            let object = held.object.as_ref()?;
            // An old object under its new version would never be sent again.
            let version = if held.current { held.version } else { 0 };
            Some(Resource {
                name: key.path(),
                version: hex(version),
                resource: Some(prost_types::Any {
                    type_url: key.kind.type_url(),
                    value: galley::Object {
                        json: object.to_wire().into(),
                    }
                    .encode_to_vec(),
                }),
                ..Resource::default()
            })
        };
        let saved = DeltaDiscoveryResponse {
            system_version_info: self.revision.to_string(),
            resources: self.objects.iter().filter_map(resource).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        service_kit::replace_file(path, &saved.encode_to_vec(), 0o644)
    }

    /// Reads what [`Configuration::save`] wrote, and what of it cannot be used any more; `None` if there is nothing usable.
    pub fn load(path: &Path) -> Option<(Configuration, Vec<BadResource>)> {
        let saved = DeltaDiscoveryResponse::decode(&*std::fs::read(path).ok()?).ok()?;
        let revision = saved.system_version_info.parse().ok()?;
        let mut by_kind: BTreeMap<Kind, DeltaDiscoveryResponse> = BTreeMap::new();
        for resource in saved.resources {
            let url = resource.resource.as_ref().map(|any| &*any.type_url);
            // A collection of another version of the program.
            let Some(kind) = url.and_then(Kind::from_type_url) else {
                continue;
            };
            by_kind.entry(kind).or_default().resources.push(resource);
        }
        let (mut configuration, mut bad) = (Configuration::default(), Vec::new());
        for (kind, response) in &by_kind {
            bad.extend(configuration.take(*kind, response));
        }
        for (key, held) in std::mem::take(&mut configuration.arriving) {
            let Some(held) = held.filter(|held| held.object.is_some()) else {
                continue;
            };
            let (url, name) = (key.kind.type_url(), key.path());
            configuration.digest.add(&url, &name, held.version);
            configuration.objects.insert(key, held);
        }
        configuration.revision = Revision(revision);
        Some((configuration, bad))
    }
}

fn version(resource: &Resource) -> Result<u64, String> {
    u64::from_str_radix(&resource.version, 16).map_err(|_| "its version is no hash".to_owned())
}

fn read(kind: Kind, resource: &Resource) -> Result<Arc<Object>, String> {
    let any = resource.resource.as_ref().ok_or("there is no body")?;
    let message = galley::Object::decode(&*any.value).map_err(|e| e.to_string())?;
    let object = Object::from_wire(&message.json).map_err(|e| e.to_string())?;
    if object.meta.key.kind != kind || object.meta.key.path() != resource.name {
        return Err(format!("it holds {}", object.meta.key));
    }
    Ok(Arc::new(object))
}

fn key(kind: Kind, name: &str) -> Key {
    match name.split_once('/') {
        Some((namespace, name)) => Key::new(kind, namespace, name),
        None => Key::new(kind, "", name),
    }
}

fn hex(version: u64) -> String {
    format!("{version:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_config::{Origin, decode_text};

    fn rule(name: &str, host: &str) -> Object {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}, namespace: n}}, spec: {{host: {host}}}}}"
        );
        let decoded = decode_text(&text, &Origin::default());
        decoded.objects.into_iter().next().unwrap().0
    }

    fn sent(object: &Object, version: u64) -> Resource {
        Resource {
            name: object.meta.key.path(),
            version: hex(version),
            resource: Some(prost_types::Any {
                type_url: object.meta.key.kind.type_url(),
                value: galley::Object {
                    json: object.to_wire().into(),
                }
                .encode_to_vec(),
            }),
            ..Resource::default()
        }
    }

    fn chunk(resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            resources,
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryResponse::default()
        }
    }

    /// The end of a revision that holds these names and versions.
    fn end(number: u64, held: &[(&str, u64)]) -> galley::Revision {
        let mut digest = Digest::default();
        for (name, version) in held {
            digest.add(&Kind::DestinationRule.type_url(), name, *version);
        }
        galley::Revision {
            number,
            digest: digest.0,
            ..galley::Revision::default()
        }
    }

    fn text(changes: &[Change]) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::Upsert(object) => format!("{} {}", object.meta.key.name, object.version),
            Change::Delete(key) => format!("{} gone", key.name),
        };
        changes.iter().map(word).collect()
    }

    fn take(held: &mut Configuration, response: &DeltaDiscoveryResponse) -> Vec<BadResource> {
        held.take(Kind::DestinationRule, response)
    }

    #[test]
    fn a_resource_that_cannot_be_used_keeps_its_last_good_version() {
        let mut held = Configuration::default();
        let (a, b) = (rule("a", "a.com"), rule("b", "b.com"));
        take(&mut held, &chunk(vec![sent(&a, 1), sent(&b, 1)], &[]));
        let (changes, agreement) = held.finish(&end(1, &[("n/a", 1), ("n/b", 1)]));
        assert_eq!((changes.len(), agreement), (2, Agreement::Same));

        let mut broken = sent(&a, 2);
        broken.resource.as_mut().unwrap().value =
            galley::Object { json: "{".into() }.encode_to_vec();
        let newer = rule("b", "c.com");
        let bad = take(
            &mut held,
            &chunk(vec![broken.clone(), sent(&newer, 2)], &[]),
        );
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].name, "n/a");
        let (changes, agreement) = held.finish(&end(2, &[("n/a", 2), ("n/b", 2)]));
        assert_eq!(agreement, Agreement::Same);
        let expected = [format!("a {}", a.version), format!("b {}", newer.version)];
        assert_eq!(text(&changes), expected);

        // On disk it has no version that Galley knows: it is sent again.
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("revision.pb");
        held.save(&file).unwrap();
        let (loaded, bad) = Configuration::load(&file).unwrap();
        assert_eq!((loaded.revision(), bad), (Revision(2), Vec::new()));
        assert_eq!(text(&loaded.everything()), expected);
        let versions = loaded.versions(Kind::DestinationRule);
        assert_eq!((&*versions["n/a"], &*versions["n/b"]), (&*hex(0), &*hex(2)));

        // One that never was any good does not exist.
        broken.name = "n/new".into();
        take(&mut held, &chunk(vec![broken], &[]));
        let (changes, agreement) = held.finish(&end(3, &[("n/a", 2), ("n/b", 2), ("n/new", 2)]));
        assert_eq!(
            (text(&changes), agreement),
            (vec!["new gone".to_owned()], Agreement::Same)
        );
    }

    #[test]
    fn what_differs_is_handed_on_once_everything_was_fetched_anew() {
        let mut held = Configuration::default();
        let (a, b) = (rule("a", "a.com"), rule("b", "b.com"));
        take(&mut held, &chunk(vec![sent(&a, 1), sent(&b, 1)], &[]));
        held.finish(&end(1, &[("n/a", 1), ("n/b", 1)]));

        // A removal arrives, and something else is lost on the way.
        take(&mut held, &chunk(Vec::new(), &["n/a"]));
        let (changes, agreement) = held.finish(&end(2, &[("n/b", 2)]));
        assert_eq!((changes.len(), agreement), (0, Agreement::Differs));
        assert_eq!(held.revision(), Revision(1));

        held.distrust();
        assert!(held.versions(Kind::DestinationRule).is_empty());
        take(&mut held, &chunk(vec![sent(&b, 2)], &[]));
        let (changes, agreement) = held.finish(&end(2, &[("n/b", 2)]));
        assert_eq!(agreement, Agreement::Same);
        assert_eq!(
            text(&changes),
            ["a gone".to_owned(), format!("b {}", b.version)]
        );
        assert_eq!(held.revision(), Revision(2));
    }

    #[test]
    fn two_sides_that_count_differently_do_not_stop_the_mesh() {
        let mut held = Configuration::default();
        let a = rule("a", "a.com");
        take(&mut held, &chunk(vec![sent(&a, 1)], &[]));
        let (_, agreement) = held.finish(&end(1, &[("n/a", 7)]));
        assert_eq!(agreement, Agreement::Differs);
        held.distrust();
        take(&mut held, &chunk(vec![sent(&a, 1)], &[]));
        let (changes, agreement) = held.finish(&end(1, &[("n/a", 7)]));
        assert_eq!((changes.len(), agreement), (1, Agreement::DiffersAnew));
    }

    #[test]
    fn an_unfinished_revision_is_forgotten() {
        let mut held = Configuration::default();
        take(&mut held, &chunk(vec![sent(&rule("a", "a.com"), 1)], &[]));
        held.drop_arriving();
        let (changes, agreement) = held.finish(&end(1, &[]));
        assert_eq!((changes.len(), agreement), (0, Agreement::Same));
    }
}
