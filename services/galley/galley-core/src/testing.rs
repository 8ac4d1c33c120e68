//! Small objects for tests.

use std::sync::Arc;

use mesh_config::resource::platform::ConfigMap;
use mesh_config::{Body, Meta, Object};
use mesh_types::{Key, Kind, Labels};

/// A ConfigMap of that name that says something.
pub(crate) fn object(name: &str, says: &str) -> Arc<Object> {
    let body = ConfigMap {
        data: [("says".to_owned(), says.to_owned())].into(),
    };
    of_kind(Kind::ConfigMap, name, body)
}

/// An object of any kind in namespace `shop`.
pub(crate) fn of_kind(kind: Kind, name: &str, body: impl Into<Body>) -> Arc<Object> {
    let meta = Meta {
        key: Key::new(kind, "shop", name),
        created_us: 0,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    Arc::new(Object::new(meta, body.into()))
}
