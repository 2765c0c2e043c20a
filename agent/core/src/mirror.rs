//! A copy of one kind's objects as a watch and our own writes tell it. Knows names and resource versions; knows no kind.

use std::collections::{BTreeMap, BTreeSet};

use kube::Resource;
use kube::core::ObjectMeta;

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
        Self::of_metadata(object.meta())
    }

    /// Of an object that has these metadata.
    pub fn of_metadata(metadata: &ObjectMeta) -> Self {
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        Self { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
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
    /// A watch brought the object's end; these are its last metadata.
    Gone(ObjectMeta),
    /// These are all there are.
    Listed {
        /// Those that could be read.
        objects: Vec<K>,
        /// The others.
        unreadable: Vec<Unreadable>,
    },
    /// The API answered our own write with this state, which the watch may bring later, or has brought.
    Answered(K),
    /// A watch or an answer brought the object, which cannot be read: it stays what it was.
    Unreadable(Unreadable),
}

/// An object that is there and cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Its metadata, which can be.
    pub metadata: ObjectMeta,
    /// Why it cannot be read: the field and what is wrong with it.
    pub why: String,
}

impl<K> Change<K> {
    /// A list whose objects could all be read.
    pub fn listed(objects: Vec<K>) -> Self {
        Self::Listed { objects, unreadable: Vec::new() }
    }

    /// The same change in a world without namespaces.
    #[must_use]
    pub(crate) fn without_namespace(self) -> Self
    where
        K: Resource,
    {
        fn bare<K: Resource>(mut object: K) -> K {
            object.meta_mut().namespace = None;
            object
        }
        fn bare_metadata(metadata: ObjectMeta) -> ObjectMeta {
            ObjectMeta { namespace: None, ..metadata }
        }
        fn unread(Unreadable { metadata, why }: Unreadable) -> Unreadable {
            Unreadable { metadata: bare_metadata(metadata), why }
        }
        match self {
            Self::Seen(object) => Self::Seen(bare(object)),
            Self::Gone(metadata) => Self::Gone(bare_metadata(metadata)),
            Self::Listed { objects, unreadable } => Self::Listed {
                objects: objects.into_iter().map(bare).collect(),
                unreadable: unreadable.into_iter().map(unread).collect(),
            },
            Self::Answered(object) => Self::Answered(bare(object)),
            Self::Unreadable(unreadable) => Self::Unreadable(unread(unreadable)),
        }
    }
}

/// The objects of one kind. An answer to our own write counts at once, so that the next decision does not repeat it.
///
/// Whom to believe: lists and the watch come in order, one behind the other, and the later one is right, whatever its
/// versions say. A cluster that was restored from a snapshot goes back to older ones. Only our own writes are answered
/// beside that order: an answer may overtake a list that was begun before it, or an event. So one that neither a list nor
/// the watch has reached yet is kept against older states of its object; for a while, since one of a cluster that was
/// restored meanwhile is never reached.
///
/// An object that cannot be read is what it was when it could be. One that never could is absent, but known to be there.
#[derive(Clone, Debug)]
pub struct Mirror<K> {
    objects: BTreeMap<Key, K>,
    /// Whose state is an answer that has not been reached yet.
    ahead: BTreeMap<Key, Ahead<K>>,
    /// Which objects cannot be read now, and why.
    unreadable: BTreeMap<Key, String>,
    listed: bool,
    /// The newest version that the last list and the watch behind it brought: older answers have nothing to say.
    horizon: u64,
}

/// What an answer stands before.
#[derive(Clone, Debug)]
struct Ahead<K> {
    /// What was listed or seen of the object last.
    behind: Option<K>,
    /// The while has begun.
    late: bool,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        let (objects, ahead, unreadable) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { objects, ahead, unreadable, listed: false, horizon: 0 }
    }
}

impl<K: Resource> Mirror<K> {
    /// Takes a change in; the keys of objects that may be different now.
    pub fn take(&mut self, change: Change<K>) -> BTreeSet<Key> {
        match change {
            Change::Seen(object) => {
                let (key, version) = (Key::of(&object), version(object.meta()));
                self.horizon = self.horizon.max(version);
                self.unreadable.remove(&key);
                self.put(key, version, Some(object))
            }
            Change::Gone(metadata) => {
                let (key, version) = (Key::of_metadata(&metadata), version(&metadata));
                self.horizon = self.horizon.max(version);
                self.unreadable.remove(&key);
                self.put(key, version, None)
            }
            Change::Answered(object) => self.answer(object),
            Change::Listed { objects, unreadable } => self.replace(objects, unreadable),
            Change::Unreadable(Unreadable { metadata, why }) => {
                let key = Key::of_metadata(&metadata);
                self.unreadable.insert(key.clone(), why);
                BTreeSet::from([key])
            }
        }
    }

    /// A while has passed: answers that were not reached since the last one are believed no longer. The keys of objects that
    /// are different now.
    pub fn settle(&mut self) -> BTreeSet<Key> {
        let late: Vec<Key> = self.ahead.iter().filter(|(_, ahead)| ahead.late).map(|(key, _)| key.clone()).collect();
        for key in &late {
            let behind = self.ahead.remove(key).and_then(|ahead| ahead.behind);
            self.believe(key, behind);
        }
        self.ahead.values_mut().for_each(|ahead| ahead.late = true);
        late.into_iter().collect()
    }

    /// The object of this key.
    pub fn find(&self, key: &Key) -> Option<&K> {
        self.objects.get(key)
    }

    /// Why the object of this key cannot be read now; absent: it can be, or is not there.
    pub fn unreadable(&self, key: &Key) -> Option<&str> {
        self.unreadable.get(key).map(String::as_str)
    }

    /// All keys of objects that could be read once, sorted.
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

    /// What the watch brought, of this version; `None`: the end.
    fn put(&mut self, key: Key, brought: u64, object: Option<K>) -> BTreeSet<Key> {
        let overtaken = self.objects.get(&key).is_some_and(|present| version(present.meta()) > brought);
        if let Some(ahead) = self.ahead.get_mut(&key).filter(|_| overtaken) {
            ahead.behind = object;
            BTreeSet::new()
        } else {
            self.ahead.remove(&key);
            self.believe(&key, object);
            BTreeSet::from([key])
        }
    }

    fn answer(&mut self, object: K) -> BTreeSet<Key> {
        let (key, answered) = (Key::of(&object), version(object.meta()));
        let present = self.objects.get(&key);
        // Two writes of one object may be answered in any order.
        let overtaken = self.ahead.contains_key(&key) && present.is_some_and(|p| version(p.meta()) > answered);
        if answered <= self.horizon || overtaken {
            return BTreeSet::new();
        }
        self.unreadable.remove(&key);
        let behind = self.objects.insert(key.clone(), object);
        self.ahead.entry(key.clone()).or_insert(Ahead { behind, late: false });
        BTreeSet::from([key])
    }

    /// An answer above everything listed was given after the list was begun, and stays. Not so where the object is not listed:
    /// that it ended is as likely, and to write it once more harms nobody.
    fn replace(&mut self, objects: Vec<K>, unreadable: Vec<Unreadable>) -> BTreeSet<Key> {
        let mut before = std::mem::take(&mut self.objects);
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut touched: BTreeSet<Key> = before.keys().cloned().collect();
        self.listed = true;
        self.horizon = objects.iter().map(|object| version(object.meta())).max().unwrap_or_default();
        self.unreadable.clear();
        for Unreadable { metadata, why } in unreadable {
            let key = Key::of_metadata(&metadata);
            touched.insert(key.clone());
            self.objects.extend(before.remove_entry(&key));
            self.unreadable.insert(key, why);
        }
        for object in objects {
            let key = Key::of(&object);
            touched.insert(key.clone());
            let answered = ahead.remove(&key).zip(before.remove(&key));
            match answered.filter(|(_, answer)| version(answer.meta()) > self.horizon) {
                Some((Ahead { behind: _, late }, answer)) => {
                    self.objects.insert(key.clone(), answer);
                    self.ahead.insert(key, Ahead { behind: Some(object), late });
                }
                None => drop(self.objects.insert(key, object)),
            }
        }
        touched
    }

    fn believe(&mut self, key: &Key, object: Option<K>) {
        match object {
            Some(object) => drop(self.objects.insert(key.clone(), object)),
            None => drop(self.objects.remove(key)),
        }
    }
}

/// Versions of one kind are ordered numbers; one that is none counts as the newest, since then order is arrival.
fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_ref().map_or(0, |version| version.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use kube::ResourceExt as _;

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
        mirror.take(Change::listed(vec![service("a", 5)]));
        mirror.take(Change::Answered(service("a", 8)));
        assert!(mirror.take(Change::Seen(service("a", 7))).is_empty(), "an older state says nothing");
        mirror.take(Change::Gone(service("a", 9).metadata));
        assert!(mirror.take(Change::Answered(service("a", 8))).is_empty(), "the dead do not come back");
        assert_eq!(versions(&mirror), []);
    }

    #[test]
    fn a_list_replaces_everything_but_newer_answers() {
        let mut mirror = Mirror::default();
        mirror.take(Change::listed(vec![service("a", 1), service("b", 2)]));
        mirror.take(Change::Answered(service("b", 9)));
        let touched = mirror.take(Change::listed(vec![service("b", 3), service("c", 4)]));
        assert_eq!(touched.len(), 3);
        assert_eq!(versions(&mirror), [("b".into(), "9".into()), ("c".into(), "4".into())]);
    }

    #[test]
    fn a_cluster_that_went_back_to_older_versions_is_believed() {
        let mut mirror = Mirror::default();
        mirror.take(Change::listed(vec![service("seen", 5), service("answered", 6), service("made", 7)]));
        mirror.take(Change::Seen(service("seen", 90)));
        mirror.take(Change::Answered(service("answered", 91)));
        mirror.take(Change::Seen(service("answered", 91)));
        mirror.take(Change::listed(vec![service("seen", 5), service("answered", 6)]));
        assert_eq!(versions(&mirror), [("answered".into(), "6".into()), ("seen".into(), "5".into())]);
        mirror.take(Change::Answered(service("answered", 8)));
        mirror.take(Change::Seen(service("seen", 9)));
        assert_eq!(versions(&mirror), [("answered".into(), "8".into()), ("seen".into(), "9".into())]);
    }

    #[test]
    fn a_list_that_was_begun_before_our_write_was_answered_does_not_undo_it() {
        let mut mirror = Mirror::default();
        mirror.take(Change::Answered(service("a", 8)));
        mirror.take(Change::listed(vec![service("a", 5), service("b", 7)]));
        mirror.take(Change::Seen(service("a", 6)));
        assert_eq!(versions(&mirror)[0], ("a".into(), "8".into()));
        mirror.take(Change::Seen(service("a", 8)));
        mirror.take(Change::listed(vec![service("a", 6)]));
        assert_eq!(versions(&mirror), [("a".into(), "6".into())], "once it was seen, it is as any other");
    }

    #[test]
    fn a_list_that_is_newer_than_an_answer_knows_what_became_of_it() {
        let mut mirror = Mirror::default();
        mirror.take(Change::listed(vec![service("a", 1)]));
        mirror.take(Change::Answered(service("a", 8)));
        mirror.take(Change::listed(vec![service("a", 5), service("b", 9)]));
        assert_eq!(versions(&mirror)[0], ("a".into(), "5".into()));
    }

    #[test]
    fn an_answer_that_the_watch_never_reaches_is_believed_for_a_while() {
        let mut mirror = Mirror::default();
        mirror.take(Change::listed(vec![service("a", 5)]));
        mirror.take(Change::Answered(service("a", 90)));
        mirror.take(Change::Answered(service("b", 91)));
        mirror.take(Change::listed(vec![service("a", 5)]));
        mirror.take(Change::Seen(service("a", 6)));
        assert!(mirror.settle().is_empty(), "it may have been answered just now");
        assert_eq!(versions(&mirror), [("a".into(), "90".into())]);
        assert_eq!(mirror.settle().len(), 1);
        assert_eq!(versions(&mirror), [("a".into(), "6".into())]);
    }

    fn unreadable(name: &str, version: u64) -> Unreadable {
        Unreadable { metadata: service(name, version).metadata, why: "spec.ports[0].port: not a number".to_owned() }
    }

    #[test]
    fn what_cannot_be_read_stays_what_it_was_until_it_can_be_or_is_gone() {
        let mut mirror = Mirror::default();
        mirror.take(Change::listed(vec![service("a", 1), service("b", 2)]));
        assert_eq!(mirror.take(Change::Unreadable(unreadable("a", 3))).len(), 1);
        mirror.take(Change::Unreadable(unreadable("new", 4)));
        let lists =
            |mirror: &mut Mirror<Service>, bad| mirror.take(Change::Listed { objects: Vec::new(), unreadable: bad });
        lists(&mut mirror, vec![unreadable("a", 5), unreadable("new", 5)]);
        assert_eq!(versions(&mirror), [("a".into(), "1".into())]);
        let key = |name: &str| Key { namespace: String::new(), name: name.to_owned() };
        assert!(mirror.unreadable(&key("a")).is_some() && mirror.unreadable(&key("new")).is_some());
        mirror.take(Change::Seen(service("new", 6)));
        mirror.take(Change::Gone(unreadable("a", 7).metadata));
        assert_eq!(versions(&mirror), [("new".into(), "6".into())]);
        assert!(mirror.unreadable(&key("a")).is_none() && mirror.unreadable(&key("new")).is_none());
        lists(&mut mirror, vec![unreadable("new", 8)]);
        lists(&mut mirror, Vec::new());
        assert_eq!(mirror.len(), 0);
    }
}
