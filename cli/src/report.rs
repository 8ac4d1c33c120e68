//! A finding as commands print it: a line for people, flat JSON for machines, the same as Galley's API gives.

use mesh_types::{Finding, Level};
use serde::{Deserialize, Serialize};

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Report {
    /// How bad it is.
    pub level: Level,
    /// What kind of problem; listed in `docs/findings.md`.
    pub code: String,
    /// Kind of the object, if it could be told.
    pub kind: Option<String>,
    /// Its namespace; empty for one of the whole mesh.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The file; empty when unknown.
    pub file: String,
    /// The line where the document begins, or where the text cannot be read; 0 when unknown.
    pub line: u32,
    /// Where in the object.
    pub path: String,
    /// What is wrong and what to try.
    pub message: String,
}

impl From<&Finding> for Report {
    fn from(finding: &Finding) -> Report {
        let key = finding.key.as_ref();
        Report {
            level: finding.level,
            code: finding.code.as_str().to_owned(),
            kind: key.map(|key| key.kind.as_str().to_owned()),
            namespace: key.map(|key| key.namespace.to_string()),
            name: key.map(|key| key.name.to_string()),
            file: finding.file.clone(),
            line: finding.line,
            path: finding.path.to_string(),
            message: finding.message.clone(),
        }
    }
}

impl Report {
    /// Whether the object is refused because of it.
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// `error`, `warning`, `info`.
    pub fn level(&self) -> &'static str {
        match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        }
    }

    /// `VirtualService default/reviews`, if the object could be told.
    pub fn object(&self) -> Option<String> {
        let (kind, name) = (self.kind.as_ref()?, self.name.as_ref()?);
        Some(match self.namespace.as_deref() {
            None | Some("") => format!("{kind} {name}"),
            Some(namespace) => format!("{kind} {namespace}/{name}"),
        })
    }

    /// `FILE:LINE: LEVEL: KIND NAMESPACE/NAME: PATH: MESSAGE [CODE]`, without what is unknown.
    pub fn line(&self) -> String {
        self.with(Some(self.level().to_owned()))
    }

    /// The same without level.
    pub fn place_and_message(&self) -> String {
        self.with(None)
    }

    fn with(&self, level: Option<String>) -> String {
        let place = match (&*self.file, self.line) {
            ("", _) => None,
            (file, 0) => Some(file.to_owned()),
            (file, line) => Some(format!("{file}:{line}")),
        };
        let path = Some(self.path.clone()).filter(|path| !path.is_empty());
        let parts = [
            place,
            level,
            self.object(),
            path,
            Some(self.message.clone()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("{} [{}]", parts.join(": "), self.code)
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::{Code, FieldPath, Key, Kind};

    use super::*;

    #[test]
    fn prints_what_is_known() {
        let key = Key::new(Kind::VirtualService, "shop", "reviews");
        let path = FieldPath::parse("spec.http[2].route");
        let finding = Finding::new(&key, path, Code::OutOfRange, "no").at("a.yaml", 7);
        let report = Report::from(&finding);
        assert_eq!(
            report.line(),
            "a.yaml:7: error: VirtualService shop/reviews: spec.http[2].route: no [out-of-range]"
        );
        let bare = Report::from(&Finding::about_text(Code::OutOfRange, "no"));
        assert_eq!(bare.place_and_message(), "no [out-of-range]");
    }
}
