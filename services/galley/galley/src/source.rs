//! Flags to watched folders, and scans to what `galley-core` reads.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use config_source::{FolderOptions, Scan};
use galley_core::{Lost, Place, Scanned, Sources};
use mesh_types::{Finding, Key, Level};
use serde::Serialize;

use crate::args::{Args, SourceUrl};

/// Every source, in order.
#[derive(Debug, Clone)]
pub struct SourceSet {
    /// Their URLs; the place in this list is the root's number in a scan.
    pub urls: Arc<[Arc<str>]>,
    roots: Vec<PathBuf>,
    mesh_config: Option<PathBuf>,
}

/// What `/v1/sources` tells of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// Its URL.
    pub source: String,
    /// `unread` before the first scan, `read`, or `unreadable` when some of it cannot be read now.
    pub state: &'static str,
    /// Files that were read.
    pub files: usize,
    /// Objects in them that were decoded without error.
    pub objects: usize,
    /// Objects in them that were refused.
    pub refused: usize,
    /// What cannot be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trouble: Vec<String>,
}

impl SourceSet {
    /// The sources that the flags name.
    ///
    /// # Errors
    /// A path that cannot be used.
    pub fn new(args: &Args) -> std::io::Result<SourceSet> {
        let roots: Vec<PathBuf> = args.source.iter().map(|s| s.path.clone()).collect();
        let mesh_config = args
            .mesh_config
            .as_deref()
            .map(SourceUrl::of)
            .transpose()?
            .map(|source| source.path);
        let urls = roots
            .iter()
            .chain(&mesh_config)
            .map(|path| format!("file://{}", path.display()).into())
            .collect();
        Ok(SourceSet {
            urls,
            roots,
            mesh_config,
        })
    }

    /// Whether there are none: this Galley serves what the store has, and writes nothing.
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// How they are watched.
    pub fn folders(&self) -> FolderOptions {
        FolderOptions {
            mesh_config: self.mesh_config.clone(),
            ..FolderOptions::new(self.roots.clone())
        }
    }

    /// A scan as `galley-core` reads it.
    pub fn view<'a>(&'a self, scan: &'a Scan) -> Sources<'a> {
        let url = |root: usize| self.urls.get(root).cloned().unwrap_or_default();
        Sources {
            sources: &self.urls,
            files: scan
                .files
                .iter()
                .map(|((root, _), file)| Scanned {
                    place: Place {
                        source: url(*root),
                        file: file.file.clone(),
                    },
                    objects: &file.objects,
                    refused: &file.refused,
                    unidentified: file.unidentified,
                })
                .collect(),
            lost: scan
                .lost
                .iter()
                .map(|(root, path)| Lost {
                    source: url(*root),
                    path: path.display().to_string(),
                })
                .collect(),
        }
    }

    /// What there is to tell about each source.
    pub fn status(&self, scan: Option<&Scan>) -> Vec<SourceStatus> {
        let mut out: Vec<SourceStatus> = self
            .urls
            .iter()
            .map(|url| SourceStatus {
                source: url.to_string(),
                state: if scan.is_some() { "read" } else { "unread" },
                files: 0,
                objects: 0,
                refused: 0,
                trouble: Vec::new(),
            })
            .collect();
        let Some(scan) = scan else { return out };
        for ((root, _), file) in &scan.files {
            if let Some(status) = out.get_mut(*root) {
                status.files += 1;
                status.objects += file.objects.len();
                // One object may be refused for several reasons.
                let refused: BTreeSet<&Key> = file.refused.iter().collect();
                status.refused += refused.len() + usize::from(file.unidentified);
            }
        }
        for ((root, _), trouble) in scan.lost.iter().zip(&scan.unreadable) {
            if let Some(status) = out.get_mut(*root) {
                status.state = "unreadable";
                status.trouble.push(trouble.to_string());
            }
        }
        out
    }
}

/// A finding as the API prints it, one level deep.
#[derive(Debug, Clone, Serialize)]
pub struct FindingView<'a> {
    level: Level,
    code: &'static str,
    kind: Option<&'a str>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    file: &'a str,
    line: u32,
    path: String,
    message: &'a str,
}

impl<'a> From<&'a Finding> for FindingView<'a> {
    fn from(finding: &'a Finding) -> FindingView<'a> {
        let key = finding.key.as_ref();
        FindingView {
            level: finding.level,
            code: finding.code.as_str(),
            kind: key.map(|key| key.kind.as_str()),
            namespace: key.map(|key| &*key.namespace),
            name: key.map(|key| &*key.name),
            file: &finding.file,
            line: finding.line,
            path: finding.path.to_string(),
            message: &finding.message,
        }
    }
}

/// One line of the log.
pub(crate) fn log(finding: &Finding) {
    let (code, path, file) = (
        finding.code.as_str(),
        finding.path.to_string(),
        &finding.file,
    );
    let key = finding.key.as_ref();
    let kind = key.map_or("", |key| key.kind.as_str());
    let namespace = key.map_or("", |key| &*key.namespace);
    let name = key.map_or("", |key| &*key.name);
    let line = finding.line;
    if finding.is_error() {
        tracing::warn!(
            code,
            kind,
            namespace,
            name,
            path,
            file,
            line,
            "refused: {}",
            finding.message
        );
    } else {
        tracing::info!(
            code,
            kind,
            namespace,
            name,
            path,
            file,
            line,
            "{}",
            finding.message
        );
    }
}
