//! What this Pilot holds of Galley's configuration: the last whole revision, kept on disk for the day Galley is away.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use mesh_api::{Digest, galley};
use mesh_config::Object;
use mesh_model::Change;
use mesh_types::{Key, Kind, Revision};
use prost::Message;

/// Collections a Pilot subscribes to.
pub const COLLECTIONS: [Kind; 8] = [
    Kind::MeshConfig,
    Kind::Sidecar,
    Kind::Gateway,
    Kind::DestinationRule,
    Kind::VirtualService,
    Kind::MeshService,
    Kind::MeshEndpoints,
    Kind::MeshWorkload,
];

/// One object as it came, and its version on the wire.
#[derive(Debug, Clone)]
struct Held {
    version: u64,
    object: Arc<Object>,
}

/// A resource that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct BadResource {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A whole revision, and what has arrived of the next one.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    revision: Revision,
    objects: BTreeMap<Key, Held>,
    digest: Digest,
    /// Changes of the revision that is arriving.
    arriving: BTreeMap<Key, Option<Held>>,
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
        self.objects
            .values()
            .map(|held| Change::Upsert(held.object.clone()))
            .collect()
    }

    /// Fetches everything anew with the next stream, and serves what there is until then.
    pub fn distrust(&mut self) {
        self.anew = true;
    }

    /// Forgets what has arrived of an unfinished revision: its stream is gone.
    pub fn drop_arriving(&mut self) {
        self.arriving.clear();
    }

    /// Takes one chunk of a collection.
    ///
    /// # Errors
    /// The first resource that cannot be used; nothing of the chunk is taken.
    pub fn take(
        &mut self,
        kind: Kind,
        response: &DeltaDiscoveryResponse,
    ) -> Result<(), BadResource> {
        let mut chunk = BTreeMap::new();
        for resource in &response.resources {
            let held = read(kind, resource).map_err(|reason| BadResource {
                name: resource.name.clone(),
                reason,
            })?;
            chunk.insert(held.object.meta.key.clone(), Some(held));
        }
        for name in &response.removed_resources {
            chunk.insert(key(kind, name), None);
        }
        self.arriving.extend(chunk);
        Ok(())
    }

    /// The revision has arrived whole: what changes, and whether the outcome is what Galley holds.
    pub fn finish(&mut self, end: &galley::Revision) -> (Vec<Change>, bool) {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.anew) {
            for key in self.objects.keys() {
                self.arriving.entry(key.clone()).or_insert(None);
            }
        }
        for (key, held) in std::mem::take(&mut self.arriving) {
            let (url, name) = (key.kind.type_url(), key.path());
            if let Some(old) = self.objects.remove(&key) {
                self.digest.remove(&url, &name, old.version);
            }
            match held {
                Some(held) => {
                    self.digest.add(&url, &name, held.version);
                    changes.push(Change::Upsert(held.object.clone()));
                    self.objects.insert(key, held);
                }
                None => changes.push(Change::Delete(key)),
            }
        }
        self.revision = Revision(end.number);
        (changes, self.digest.0 == end.digest)
    }

    /// Writes the revision held, whole or not at all.
    ///
    /// # Errors
    /// What the file system says; the file written before is still there.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let saved = DeltaDiscoveryResponse {
            system_version_info: self.revision.to_string(),
            resources: self
                .objects
                .iter()
                .map(|(key, held)| Resource {
                    name: key.path(),
                    version: hex(held.version),
                    resource: Some(prost_types::Any {
                        type_url: key.kind.type_url(),
                        value: galley::Object {
                            json: held.object.to_wire().into(),
                        }
                        .encode_to_vec(),
                    }),
                    ..Resource::default()
                })
                .collect(),
            ..DeltaDiscoveryResponse::default()
        };
        let partial = path.with_extension("partial");
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(&saved.encode_to_vec())?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    }

    /// Reads what [`Configuration::save`] wrote; `None` if there is nothing usable.
    pub fn load(path: &Path) -> Option<Configuration> {
        let saved = DeltaDiscoveryResponse::decode(&*std::fs::read(path).ok()?).ok()?;
        let mut configuration = Configuration::default();
        for resource in &saved.resources {
            let kind = Kind::from_type_url(&resource.resource.as_ref()?.type_url)?;
            let held = read(kind, resource).ok()?;
            configuration
                .arriving
                .insert(held.object.meta.key.clone(), Some(held));
        }
        let number = saved.system_version_info.parse().ok()?;
        configuration.finish(&galley::Revision {
            number,
            ..galley::Revision::default()
        });
        Some(configuration)
    }
}

fn read(kind: Kind, resource: &Resource) -> Result<Held, String> {
    let any = resource.resource.as_ref().ok_or("there is no body")?;
    let message = galley::Object::decode(&*any.value).map_err(|e| e.to_string())?;
    let object = Object::from_wire(&message.json).map_err(|e| e.to_string())?;
    if object.meta.key.kind != kind || object.meta.key.path() != resource.name {
        return Err(format!("it holds {}", object.meta.key));
    }
    let version = u64::from_str_radix(&resource.version, 16)
        .map_err(|_| "its version is no hash".to_owned())?;
    Ok(Held {
        version,
        object: Arc::new(object),
    })
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
