//! What goes in and comes out.

/// Names one object. Ordered by kind, namespace, name, bytewise: all lists come in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredKey {
    /// The kind as the caller writes it.
    pub kind: String,
    /// The namespace, empty for none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl StoredKey {
    /// A key of these three parts.
    pub fn new(
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// One object with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Which object.
    pub key: StoredKey,
    /// Its content: JSON, at most [`MAX_BODY`](crate::MAX_BODY) bytes, without NUL characters.
    pub body: String,
    /// The caller's hash of the content.
    pub hash: u64,
    /// The revision that last changed it. Ignored in a commit.
    pub revision: u64,
}

/// One object's change in one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: u64,
    /// Which object.
    pub key: StoredKey,
    /// Body and hash after the change; `None`: it was deleted.
    pub now: Option<(String, u64)>,
}

/// What happened after some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The head these changes lead to.
    pub head: u64,
    /// In order of revision, then key.
    pub changes: Vec<Change>,
}

/// All objects of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The revision; 0 is the empty store.
    pub revision: u64,
    /// In key order.
    pub objects: Vec<StoredObject>,
}

/// What is known about one revision besides its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number, from 1, without gaps.
    pub n: u64,
    /// When it was committed by the database's clock: microseconds since 1970-01-01 UTC.
    pub committed_us: i64,
    /// Where it came from ("file:///etc/mesh").
    pub source: String,
    /// One line for people.
    pub summary: String,
    /// The caller's digest of the whole state at this revision.
    pub digest: String,
}
