//! The order that decides conflicts: older first.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::Meta;

/// Creation time, then name, then namespace; the host tells apart services that share all three.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Order {
    created_us: i64,
    name: Arc<str>,
    namespace: Arc<str>,
    host: Arc<str>,
}

impl Order {
    /// The place of an object.
    pub(crate) fn of(meta: &Meta) -> Order {
        Order::new(
            meta.created_us,
            meta.key.name.clone(),
            &meta.key.namespace,
            &meta.key.name,
        )
    }

    /// The place of a service: its short name decides, not its host.
    pub(crate) fn new(
        created_us: i64,
        name: Arc<str>,
        namespace: &Arc<str>,
        host: &Arc<str>,
    ) -> Order {
        Order {
            created_us,
            name,
            namespace: namespace.clone(),
            host: host.clone(),
        }
    }
}

/// Who sees an exported object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Every namespace (`*`).
    Everyone,
    /// These namespaces, possibly the object's own; none at all for `~`.
    Namespaces(BTreeSet<Arc<str>>),
}

impl Audience {
    /// Reads `exportTo` of an object; an empty list takes the mesh's default, and an empty default means everyone.
    pub(crate) fn new<S: AsRef<str>>(
        export_to: &[S],
        default: &[String],
        own: &Arc<str>,
    ) -> Audience {
        if export_to.is_empty() {
            return if default.is_empty() {
                Audience::Everyone
            } else {
                Audience::read(default, own)
            };
        }
        Audience::read(export_to, own)
    }

    fn read<S: AsRef<str>>(names: &[S], own: &Arc<str>) -> Audience {
        let mut seen = BTreeSet::new();
        for name in names.iter().map(AsRef::as_ref) {
            match name {
                "*" => return Audience::Everyone,
                "." => seen.insert(own.clone()),
                _ => seen.insert(name.into()),
            };
        }
        if seen.contains("~") {
            seen.clear();
        }
        Audience::Namespaces(seen)
    }

    /// Whether a namespace is in the audience.
    pub(crate) fn has(&self, namespace: &str) -> bool {
        match self {
            Audience::Everyone => true,
            Audience::Namespaces(names) => names.contains(namespace),
        }
    }

    /// Which list of [`Pools::visible`] an object of this audience is in for a namespace that sees it.
    pub(crate) fn pool(&self, own: bool) -> u8 {
        match (self, own) {
            (Audience::Namespaces(_), true) => 0,
            (Audience::Namespaces(_), false) => 1,
            (Audience::Everyone, _) => 2,
        }
    }

    /// Whether everyone in `other` is in here too.
    pub(crate) fn contains(&self, other: &Audience) -> bool {
        match (self, other) {
            (Audience::Everyone, _) => true,
            (Audience::Namespaces(_), Audience::Everyone) => false,
            (Audience::Namespaces(mine), Audience::Namespaces(theirs)) => mine.is_superset(theirs),
        }
    }
}

/// Exported objects by who sees them, each list in [`Order`] (XDS-TRAFFIC 6.1, 10.2).
#[derive(Debug, Clone)]
pub(crate) struct Pools<T> {
    public: OrdMap<Order, T>,
    /// By own namespace.
    private: OrdMap<Arc<str>, OrdMap<Order, T>>,
    /// By the other namespace.
    exported: OrdMap<Arc<str>, OrdMap<Order, T>>,
}

impl<T> Default for Pools<T> {
    fn default() -> Pools<T> {
        Pools {
            public: OrdMap::new(),
            private: OrdMap::new(),
            exported: OrdMap::new(),
        }
    }
}

impl<T: Clone> Pools<T> {
    /// Adds or replaces an item.
    pub(crate) fn insert(&mut self, own: &Arc<str>, audience: &Audience, order: Order, item: T) {
        match audience {
            Audience::Everyone => {
                self.public.insert(order, item);
            }
            Audience::Namespaces(names) => {
                for name in names {
                    let pool = if name == own {
                        &mut self.private
                    } else {
                        &mut self.exported
                    };
                    pool.entry(name.clone())
                        .or_default()
                        .insert(order.clone(), item.clone());
                }
            }
        }
    }

    /// Removes an item that was inserted with the same arguments.
    pub(crate) fn remove(&mut self, own: &Arc<str>, audience: &Audience, order: &Order) {
        match audience {
            Audience::Everyone => {
                self.public.remove(order);
            }
            Audience::Namespaces(names) => {
                for name in names {
                    let pool = if name == own {
                        &mut self.private
                    } else {
                        &mut self.exported
                    };
                    if let Some(items) = pool.get_mut(name) {
                        items.remove(order);
                        if items.is_empty() {
                            pool.remove(name);
                        }
                    }
                }
            }
        }
    }

    /// What a namespace sees: private, then exported to it, then public; each list oldest first.
    pub(crate) fn visible<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a T> + use<'a, T> {
        self.lists(namespace).into_iter().flatten()
    }

    /// The three lists of [`Pools::visible`] apart.
    pub(crate) fn lists<'a>(
        &'a self,
        namespace: &str,
    ) -> [impl Iterator<Item = &'a T> + Clone + use<'a, T>; 3] {
        [
            self.private.get(namespace),
            self.exported.get(namespace),
            Some(&self.public),
        ]
        .map(|list| {
            list.into_iter()
                .flat_map(|list| list.iter().map(|(_, item)| item))
        })
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.public.is_empty() && self.private.is_empty() && self.exported.is_empty()
    }
}
