//! The objects of one kind as last seen. Knows which of two looks is newer; knows not what a change means.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Resource;

use crate::Key;
use crate::seen::Sight;

/// Objects that went are remembered up to this many, lest a late response to a write of ours brings one back.
const GRAVES: usize = 8192;

/// The objects of one kind.
#[derive(Debug)]
pub(crate) struct Shelf<K> {
    objects: BTreeMap<Key, Arc<K>>,
    graves: BTreeMap<Key, u64>,
    listed: bool,
}

/// One object before and after a look.
#[derive(Debug)]
pub(crate) struct Moved<K> {
    pub key: Key,
    pub before: Option<Arc<K>>,
    pub after: Option<Arc<K>>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), graves: BTreeMap::new(), listed: false }
    }
}

impl<K: Resource> Shelf<K> {
    /// Takes a look in and returns what moved, each object once.
    pub fn look(&mut self, sight: Sight<K>) -> Vec<Moved<K>> {
        match sight {
            Sight::All(objects) => self.replace(objects),
            Sight::One(object) => self.put(object).into_iter().collect(),
            Sight::Gone(key) => self.bury(key).into_iter().collect(),
        }
    }

    pub fn is_listed(&self) -> bool {
        self.listed
    }

    pub fn find(&self, key: &Key) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// Whether an object of this name was ever seen; of those that went long ago nothing is known.
    pub fn has_seen(&self, key: &Key) -> bool {
        self.objects.contains_key(key) || self.graves.contains_key(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<K>)> {
        self.objects.iter()
    }

    fn replace(&mut self, objects: Vec<K>) -> Vec<Moved<K>> {
        self.listed = true;
        self.graves.clear();
        let mut before = std::mem::take(&mut self.objects);
        let mut moved = Vec::new();
        for object in objects {
            let key = Key::of(&object);
            let known = before.remove(&key);
            let object = match known {
                Some(known) if is_same(&*known, &object) => known,
                known => {
                    let object = Arc::new(object);
                    moved.push(Moved { key: key.clone(), before: known, after: Some(Arc::clone(&object)) });
                    object
                }
            };
            self.objects.insert(key, object);
        }
        // A list is the truth: what it lacks may come back at any revision, of a hub that was restored to older ones.
        self.graves.extend(before.keys().map(|key| (key.clone(), 0)));
        self.tend();
        moved.extend(before.into_iter().map(|(key, gone)| Moved { key, before: Some(gone), after: None }));
        moved
    }

    fn put(&mut self, object: K) -> Option<Moved<K>> {
        let key = Key::of(&object);
        let known = self.objects.get(&key);
        let newest = known.map_or_else(|| self.graves.get(&key).copied(), |known| Some(revision(&**known)));
        if newest.is_some_and(|newest| newest != 0 && revision(&object) <= newest) {
            return None;
        }
        let object = Arc::new(object);
        self.graves.remove(&key);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        Some(Moved { key, before, after: Some(object) })
    }

    fn bury(&mut self, key: Key) -> Option<Moved<K>> {
        let gone = self.objects.remove(&key)?;
        self.graves.insert(key.clone(), revision(&*gone));
        self.tend();
        Some(Moved { key, before: Some(gone), after: None })
    }

    /// Forgets the older half of the graves when there are too many.
    fn tend(&mut self) {
        if self.graves.len() > GRAVES {
            let mut ages: Vec<u64> = self.graves.values().copied().collect();
            let (_, middle, _) = ages.select_nth_unstable(GRAVES / 2);
            let middle = *middle;
            self.graves.retain(|_, age| *age > middle);
        }
    }
}

/// How new an object is: its resourceVersion as a number, zero when it is none.
fn revision<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn is_same<K: Resource>(one: &K, other: &K) -> bool {
    one.meta().uid == other.meta().uid && revision(one) == revision(other) && revision(one) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_api::{NodeSet, NodeSetSpec};

    #[test]
    fn what_a_list_lacks_may_come_back_at_an_older_revision() {
        let mut shelf = Shelf::default();
        shelf.look(Sight::All(vec![object("made", 100)]));
        shelf.look(Sight::All(vec![]));
        assert_eq!(shelf.look(Sight::One(object("made", 60))).len(), 1);
        assert!(shelf.has_seen(&Key::cluster("made")));
    }

    fn object(name: &str, revision: u64) -> NodeSet {
        let mut set = NodeSet::new(name, NodeSetSpec::default());
        set.metadata.resource_version = Some(revision.to_string());
        set
    }

    #[test]
    fn an_older_look_is_ignored() {
        let mut shelf = Shelf::default();
        assert_eq!(shelf.look(Sight::One(object("a", 9))).len(), 1);
        assert_eq!(shelf.look(Sight::One(object("a", 8))).len(), 0);
        assert_eq!(shelf.look(Sight::One(object("a", 10))).len(), 1);
    }

    #[test]
    fn a_late_response_does_not_bring_a_deleted_object_back() {
        let mut shelf = Shelf::default();
        shelf.look(Sight::One(object("a", 9)));
        shelf.look(Sight::Gone(Key::cluster("a")));
        assert_eq!(shelf.look(Sight::One(object("a", 9))).len(), 0);
        assert_eq!(shelf.look(Sight::One(object("a", 12))).len(), 1);
    }

    #[test]
    fn a_list_replaces_everything_and_names_what_went() {
        let mut shelf = Shelf::default();
        shelf.look(Sight::All(vec![object("a", 9), object("b", 9)]));
        let moved = shelf.look(Sight::All(vec![object("b", 9), object("c", 3)]));
        let names: Vec<_> = moved.iter().map(|m| (m.key.to_string(), m.after.is_some())).collect();
        assert_eq!(names, [("c".to_owned(), true), ("a".to_owned(), false)]);
    }
}
