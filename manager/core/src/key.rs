//! What an object is called. Knows namespaces and names; knows no kind.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;

/// The namespace and the name of an object; cluster-scoped ones have an empty namespace. Cloning shares both.
///
/// Sorted by name, then by namespace: names are told apart by a look at the name alone, where namespaces are mostly the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The namespace, empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of a namespaced object.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl Into<Arc<str>>) -> Self {
        Self::new(Arc::default(), name)
    }

    /// The key of this object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self::of_metadata(object.meta())
    }

    /// The key of the object with these metadata.
    pub fn of_metadata(meta: &ObjectMeta) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(Arc::from).unwrap_or_default();
        Self::new(text(&meta.namespace), text(&meta.name))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name).then_with(|| self.namespace.cmp(&other.namespace))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// When an object was made. Who has no time of birth is older than everybody.
pub(crate) fn born(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0)
}

/// An object's uid, empty when it has none.
pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or("")
}
