//! Where in an object something is: `spec.http[2].route`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A member of an object, as users write it.
    Field(String),
    /// An item of a list, from 0.
    Index(usize),
}

/// Longest name of a member that is printed whole: that of a Kubernetes label with its prefix. Unit: bytes.
const MAX_SHOWN: usize = 317;

/// The place of a field, from the top of the object as its author wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The object itself.
    pub fn root() -> FieldPath {
        FieldPath::default()
    }

    /// Reads `spec.http[2].route` or `metadata.labels["app.kubernetes.io/name"]`.
    pub fn parse(text: &str) -> FieldPath {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix("[\"") {
                let (name, tail) = tail.split_once("\"]").unwrap_or((tail, ""));
                segments.push(Segment::Field(name.into()));
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix('[') {
                let (index, tail) = tail.split_once(']').unwrap_or((tail, ""));
                segments.extend(index.parse().ok().map(Segment::Index));
                rest = tail;
            } else {
                let tail = rest.strip_prefix('.').unwrap_or(rest);
                let (name, tail) = tail.split_at(tail.find(['.', '[']).unwrap_or(tail.len()));
                if !name.is_empty() {
                    segments.push(Segment::Field(name.into()));
                }
                rest = tail;
            }
        }
        FieldPath(segments)
    }

    /// This path, one member deeper.
    pub fn field(&self, name: impl Into<String>) -> FieldPath {
        let mut path = self.clone();
        path.0.push(Segment::Field(name.into()));
        path
    }

    /// This path, one list item deeper.
    pub fn index(&self, index: usize) -> FieldPath {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }

    /// The steps from the top.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }
}

impl From<Vec<Segment>> for FieldPath {
    fn from(segments: Vec<Segment>) -> FieldPath {
        FieldPath(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            let name = match segment {
                Segment::Field(name) => name,
                Segment::Index(index) => {
                    write!(f, "[{index}]")?;
                    continue;
                }
            };
            // Nobody has a field of that length, but anybody can write one.
            let shown = &name[..name.floor_char_boundary(MAX_SHOWN)];
            let cut = if shown.len() < name.len() { "…" } else { "" };
            if name.is_empty() || shown.contains(['.', '[', ']', '"']) {
                write!(f, "[\"{shown}{cut}\"]")?;
            } else if i == 0 {
                write!(f, "{shown}{cut}")?;
            } else {
                write!(f, ".{shown}{cut}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldPath, D::Error> {
        Ok(FieldPath::parse(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_back() {
        let path = FieldPath::root()
            .field("spec")
            .field("http")
            .index(2)
            .field("route");
        assert_eq!(path.to_string(), "spec.http[2].route");
        assert_eq!(FieldPath::parse("spec.http[2].route"), path);
        let label = FieldPath::root()
            .field("labels")
            .field("app.kubernetes.io/name");
        assert_eq!(label.to_string(), r#"labels["app.kubernetes.io/name"]"#);
        assert_eq!(FieldPath::parse(&label.to_string()), label);
        for odd in ["[", "[\"", "..", "a[b]c", "]"] {
            FieldPath::parse(odd);
        }
    }
}
