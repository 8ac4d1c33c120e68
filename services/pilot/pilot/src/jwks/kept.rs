//! Keys on disk: a Pilot that starts anew while an issuer is away has proxies go on with the keys they had.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mesh_config::resource::normal::{JwksSource, MeshJwks};
use mesh_model::Change;
use tokio::time::Instant;

use super::{Entry, MAX_BODY, MAX_SOURCES};

/// Largest file that is read. Unit: bytes.
const MAX_FILE: u64 = 64 * MAX_BODY as u64;

/// The file, and what was in it at first.
#[derive(Debug, Default)]
pub struct Kept {
    file: Option<PathBuf>,
    had: Vec<MeshJwks>,
}

impl Kept {
    /// Reads a file; what cannot be read is told and left out. Without a file nothing is kept.
    pub fn read(file: Option<PathBuf>) -> Kept {
        let had = file.as_deref().map_or(Ok(Vec::new()), read);
        let had = had.unwrap_or_else(|error| {
            tracing::warn!(?file, %error, "the kept keys of token issuers cannot be read");
            Vec::new()
        });
        Kept { file, had }
    }

    /// What the mesh is told before anything else.
    pub fn facts(&self) -> Vec<Change> {
        let entries = self.entries(Instant::now());
        entries.iter().map(|(source, e)| e.fact(source)).collect()
    }

    /// What is known at first: keys that are fetched again as soon as somebody needs them. Nobody has said so yet.
    pub(super) fn entries(&self, now: Instant) -> BTreeMap<JwksSource, Entry> {
        let usable = self.had.iter().filter(|jwks| jwks.keys.is_some());
        let entry = |jwks: &MeshJwks| Entry {
            keys: jwks.keys.clone(),
            failures: 0,
            due: now,
            busy: false,
            unused_since: Some(now),
        };
        usable
            .take(MAX_SOURCES)
            .map(|jwks| (jwks.source.clone(), entry(jwks)))
            .collect()
    }

    /// Writes what is had, whole or not at all.
    pub(super) async fn write(&self, known: &BTreeMap<JwksSource, Entry>) {
        let Some(file) = &self.file else { return };
        let used = known.iter().filter(|(_, e)| e.unused_since.is_none());
        let had: Vec<MeshJwks> = used
            .filter(|(_, entry)| entry.keys.is_some())
            .map(|(source, entry)| MeshJwks {
                source: source.clone(),
                keys: entry.keys.clone(),
            })
            .collect();
        let write = async {
            let text = serde_json::to_vec(&had).map_err(io::Error::other)?;
            let file = file.clone();
            // Some issuers have symmetric keys.
            let write = move || service_kit::replace_file(&file, &text, 0o600);
            tokio::task::spawn_blocking(write)
                .await
                .map_err(io::Error::other)?
        };
        if let Err(error) = write.await {
            tracing::warn!(file = %file.display(), %error, "keys of token issuers cannot be kept");
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<MeshJwks>> {
    match std::fs::metadata(file) {
        Ok(facts) if facts.len() > MAX_FILE => Err(io::Error::other("it is too large")),
        Ok(_) => serde_json::from_slice(&std::fs::read(file)?).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
