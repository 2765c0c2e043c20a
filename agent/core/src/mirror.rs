//! A copy of one kind's objects as a watch and our own writes tell it. Knows names and resource versions; knows no kind.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Resource, ResourceExt};

/// Namespace and name; the namespace of cluster-wide objects is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// Of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What was seen of a kind.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// A watch brought the object: it is new or changed.
    Seen(K),
    /// A watch brought the object's end; this is its last state.
    Gone(K),
    /// These are all there are.
    Listed(Vec<K>),
    /// The API answered our own write with this state, which the watch may bring later, or has brought.
    Answered(K),
}

impl<K> Change<K> {
    /// The same change of changed objects.
    #[must_use]
    pub fn map(self, each: impl Fn(K) -> K) -> Self {
        match self {
            Self::Seen(object) => Self::Seen(each(object)),
            Self::Gone(object) => Self::Gone(each(object)),
            Self::Listed(objects) => Self::Listed(objects.into_iter().map(each).collect()),
            Self::Answered(object) => Self::Answered(each(object)),
        }
    }
}

/// The objects of one kind. An answer to our own write counts at once, so that the next decision does not repeat it.
#[derive(Clone, Debug)]
pub struct Mirror<K> {
    objects: BTreeMap<Key, K>,
    listed: bool,
    /// The newest version that the watch brought: older answers have nothing to say.
    horizon: u64,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listed: false, horizon: 0 }
    }
}

impl<K: Resource> Mirror<K> {
    /// Takes a change in; the keys of objects that may be different now.
    pub fn take(&mut self, change: Change<K>) -> BTreeSet<Key> {
        match change {
            Change::Seen(object) => {
                self.horizon = self.horizon.max(version(&object));
                self.put(object).into_iter().collect()
            }
            Change::Gone(object) => {
                self.horizon = self.horizon.max(version(&object));
                let key = Key::of(&object);
                if self.objects.get(&key).is_some_and(|present| version(present) <= version(&object)) {
                    self.objects.remove(&key);
                }
                BTreeSet::from([key])
            }
            Change::Answered(object) if version(&object) > self.horizon => self.put(object).into_iter().collect(),
            Change::Answered(_) => BTreeSet::new(),
            Change::Listed(objects) => self.replace(objects),
        }
    }

    /// The object of this key.
    pub fn find(&self, key: &Key) -> Option<&K> {
        self.objects.get(key)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }

    /// All objects, sorted by key.
    pub fn objects(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether it has been complete once: absence means something.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    fn put(&mut self, object: K) -> Option<Key> {
        let key = Key::of(&object);
        let newer = self.objects.get(&key).is_none_or(|present| version(present) <= version(&object));
        newer.then(|| {
            self.objects.insert(key.clone(), object);
            key
        })
    }

    fn replace(&mut self, objects: Vec<K>) -> BTreeSet<Key> {
        let mut before = std::mem::take(&mut self.objects);
        let mut touched: BTreeSet<Key> = before.keys().cloned().collect();
        self.listed = true;
        for object in objects {
            let key = Key::of(&object);
            self.horizon = self.horizon.max(version(&object));
            let kept = before.remove(&key).filter(|present| version(present) > version(&object)).unwrap_or(object);
            touched.insert(key.clone());
            self.objects.insert(key, kept);
        }
        touched
    }
}

/// Versions of one kind are ordered numbers; one that is none counts as the newest, since then order is arrival.
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_ref().map_or(0, |version| version.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;

    fn service(name: &str, version: u64) -> Service {
        let mut service = Service::default();
        service.metadata.name = Some(name.to_owned());
        service.metadata.resource_version = Some(version.to_string());
        service
    }

    fn versions(mirror: &Mirror<Service>) -> Vec<(String, String)> {
        mirror.objects().map(|s| (s.name_any(), s.resource_version().unwrap())).collect()
    }

    #[test]
    fn an_answer_counts_until_the_watch_has_passed_it() {
        let mut mirror = Mirror::default();
        mirror.take(Change::Listed(vec![service("a", 5)]));
        mirror.take(Change::Answered(service("a", 8)));
        assert!(mirror.take(Change::Seen(service("a", 7))).is_empty(), "an older state says nothing");
        mirror.take(Change::Gone(service("a", 9)));
        assert!(mirror.take(Change::Answered(service("a", 8))).is_empty(), "the dead do not come back");
        assert_eq!(versions(&mirror), []);
    }

    #[test]
    fn a_list_replaces_everything_but_newer_answers() {
        let mut mirror = Mirror::default();
        mirror.take(Change::Listed(vec![service("a", 1), service("b", 2)]));
        mirror.take(Change::Answered(service("b", 9)));
        let touched = mirror.take(Change::Listed(vec![service("b", 3), service("c", 4)]));
        assert_eq!(touched.len(), 3);
        assert_eq!(versions(&mirror), [("b".into(), "9".into()), ("c".into(), "4".into())]);
    }
}
