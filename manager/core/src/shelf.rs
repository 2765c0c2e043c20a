//! The objects of one kind as last seen. Knows which of two looks is newer; knows not what a change means.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Resource;

use crate::Key;
use crate::seen::{Sight, Unreadable};

/// Objects that went are remembered up to this many, lest a late response to a write of ours brings one back.
const GRAVES: usize = 8192;

/// The objects of one kind. One that cannot be read is present all the same: as it was last, or unknown where it never could be read.
#[derive(Debug)]
pub(crate) struct Shelf<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Those that cannot be read now.
    unreadable: BTreeMap<Key, Unreadable>,
    graves: BTreeMap<Key, u64>,
    listed: bool,
}

/// One object before and after a look. Both are the same, or both nothing, where all that changed is whether it can be read.
#[derive(Debug)]
pub(crate) struct Moved<K> {
    pub key: Key,
    pub before: Option<Arc<K>>,
    pub after: Option<Arc<K>>,
}

impl<K> Moved<K> {
    /// Whether it was unknown, is unknown, or both: nothing of it could be read before or after.
    pub fn is_unknown(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unreadable: BTreeMap::new(), graves: BTreeMap::new(), listed: false }
    }
}

impl<K: Resource> Shelf<K> {
    /// Takes a look in and returns what moved, each object once.
    pub fn look(&mut self, sight: Sight<K>) -> Vec<Moved<K>> {
        match sight {
            Sight::All { objects, unreadable } => self.replace(objects, unreadable),
            Sight::One(object) => self.put(object).into_iter().collect(),
            Sight::Unreadable(unreadable) => self.set_aside(unreadable).into_iter().collect(),
            Sight::Gone(key) => self.bury(key).into_iter().collect(),
        }
    }

    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// The object as it could be read last.
    pub fn find(&self, key: &Key) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// Why the object cannot be read now, if that is so.
    pub fn unreadable(&self, key: &Key) -> Option<&Unreadable> {
        self.unreadable.get(key)
    }

    /// The object that is present and unknown: it could never be read in this life.
    pub fn unknown(&self, key: &Key) -> Option<&Unreadable> {
        self.unreadable.get(key).filter(|_| !self.objects.contains_key(key))
    }

    /// Whether an object of this name was ever seen; of those that went long ago nothing is known.
    pub fn has_seen(&self, key: &Key) -> bool {
        self.objects.contains_key(key) || self.unreadable.contains_key(key) || self.graves.contains_key(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<K>)> {
        self.objects.iter()
    }

    fn replace(&mut self, objects: Vec<K>, unreadable: Vec<Unreadable>) -> Vec<Moved<K>> {
        self.listed = true;
        self.graves.clear();
        let mut before = std::mem::take(&mut self.objects);
        let mut was_unreadable = std::mem::take(&mut self.unreadable);
        let mut moved = Vec::new();
        for object in objects {
            let key = Key::of(&object);
            let turned = was_unreadable.remove(&key).is_some();
            let known = before.remove(&key);
            let object = match known {
                Some(known) if !turned && is_same(&*known, &object) => known,
                known => {
                    let object = Arc::new(object);
                    moved.push(Moved { key: key.clone(), before: known, after: Some(Arc::clone(&object)) });
                    object
                }
            };
            self.objects.insert(key, object);
        }
        for unreadable in unreadable {
            let key = unreadable.key.clone();
            let known = before.remove(&key);
            let kept = known.clone().filter(|known| is_it(&**known, &unreadable));
            self.objects.extend(kept.clone().map(|kept| (key.clone(), kept)));
            let same = was_unreadable.remove(&key).as_ref() == Some(&unreadable);
            self.unreadable.insert(key.clone(), unreadable);
            if !same || known.is_some() != kept.is_some() {
                moved.push(Moved { key, before: known, after: kept });
            }
        }
        // A list is the truth: what it lacks may come back at any revision, of a hub that was restored to older ones.
        self.graves.extend(before.keys().chain(was_unreadable.keys()).map(|key| (key.clone(), 0)));
        self.tend();
        let unknown = was_unreadable.into_keys().filter(|key| !before.contains_key(key)).map(|key| (key, None));
        let unknown: Vec<_> = unknown.collect();
        let gone = before.into_iter().map(|(key, gone)| (key, Some(gone))).chain(unknown);
        moved.extend(gone.map(|(key, before)| Moved { key, before, after: None }));
        moved
    }

    fn put(&mut self, object: K) -> Option<Moved<K>> {
        let key = Key::of(&object);
        if self.is_old(&key, revision(&object)) {
            return None;
        }
        let object = Arc::new(object);
        self.graves.remove(&key);
        self.unreadable.remove(&key);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        Some(Moved { key, before, after: Some(object) })
    }

    /// What it was last stays in force, unless it is another object of the same name.
    fn set_aside(&mut self, unreadable: Unreadable) -> Option<Moved<K>> {
        let key = unreadable.key.clone();
        if self.is_old(&key, unreadable.revision) {
            return None;
        }
        self.graves.remove(&key);
        let before = self.objects.get(&key).cloned();
        let after = before.clone().filter(|known| is_it(&**known, &unreadable));
        if after.is_none() {
            self.objects.remove(&key);
        }
        self.unreadable.insert(key.clone(), unreadable);
        Some(Moved { key, before, after })
    }

    fn bury(&mut self, key: Key) -> Option<Moved<K>> {
        let gone = self.objects.remove(&key);
        let unreadable = self.unreadable.remove(&key);
        let last = gone.as_deref().map(revision).max(unreadable.map(|unreadable| unreadable.revision))?;
        self.graves.insert(key.clone(), last);
        self.tend();
        Some(Moved { key, before: gone, after: None })
    }

    /// Whether a look at this revision says nothing new.
    fn is_old(&self, key: &Key, revision: u64) -> bool {
        let known = self.objects.get(key).map(|known| self::revision(&**known));
        let unreadable = self.unreadable.get(key).map(|unreadable| unreadable.revision);
        let newest = known.max(unreadable).or_else(|| self.graves.get(key).copied());
        newest.is_some_and(|newest| newest != 0 && revision <= newest)
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

/// Whether the two are one object.
fn is_it<K: Resource>(known: &K, unreadable: &Unreadable) -> bool {
    unreadable.uid.is_empty() || known.meta().uid.as_deref().unwrap_or_default() == unreadable.uid
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
        shelf.look(Sight::all(vec![object("made", 100)]));
        shelf.look(Sight::all(vec![]));
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
        shelf.look(Sight::all(vec![object("a", 9), object("b", 9)]));
        let moved = shelf.look(Sight::all(vec![object("b", 9), object("c", 3)]));
        let names: Vec<_> = moved.iter().map(|m| (m.key.to_string(), m.after.is_some())).collect();
        assert_eq!(names, [("c".to_owned(), true), ("a".to_owned(), false)]);
    }

    fn unreadable(name: &str, uid: &str, revision: u64) -> Unreadable {
        let (uid, why) = (uid.to_owned(), "spec.nodes: no list".to_owned());
        Unreadable { key: Key::cluster(name), uid, revision, generation: None, why }
    }

    fn is_known(shelf: &Shelf<NodeSet>, name: &str) -> (bool, bool) {
        let key = Key::cluster(name);
        (shelf.find(&key).is_some(), shelf.unreadable(&key).is_some())
    }

    #[test]
    fn an_object_that_cannot_be_read_any_more_stays_as_it_was() {
        let mut shelf = Shelf::default();
        shelf.look(Sight::all(vec![object("a", 3)]));
        assert_eq!(shelf.look(Sight::Unreadable(unreadable("a", "", 5))).len(), 1);
        assert_eq!((is_known(&shelf, "a"), shelf.unknown(&Key::cluster("a"))), ((true, true), None));
        assert_eq!(shelf.look(Sight::One(object("a", 4))).len(), 0, "an older look is ignored");
        let all = Sight::All { objects: vec![], unreadable: vec![unreadable("a", "", 5)] };
        assert_eq!(shelf.look(all).len(), 0, "the list says the same");
        assert_eq!(shelf.look(Sight::One(object("a", 6))).len(), 1);
        assert_eq!(is_known(&shelf, "a"), (true, false));
    }

    #[test]
    fn an_object_that_never_could_be_read_is_present_and_unknown() {
        let mut shelf = Shelf::<NodeSet>::default();
        let all = Sight::All { objects: vec![], unreadable: vec![unreadable("a", "u1", 5)] };
        let moved = shelf.look(all);
        assert!(
            moved.len() == 1 && moved[0].after.is_none() && shelf.is_listed() && shelf.has_seen(&Key::cluster("a"))
        );
        assert!(shelf.unknown(&Key::cluster("a")).is_some());
        assert_eq!(shelf.look(Sight::Gone(Key::cluster("a"))).len(), 1, "a deletion is a deletion");
        assert_eq!(is_known(&shelf, "a"), (false, false));
        shelf.look(Sight::Unreadable(unreadable("a", "u1", 9)));
        assert_eq!(shelf.look(Sight::all(vec![])).len(), 1);
        assert_eq!(is_known(&shelf, "a"), (false, false));
    }

    #[test]
    fn an_unreadable_object_of_the_same_name_is_another_one() {
        let mut shelf = Shelf::default();
        let mut known = object("a", 3);
        known.metadata.uid = Some("u1".to_owned());
        shelf.look(Sight::all(vec![known]));
        let moved = shelf.look(Sight::Unreadable(unreadable("a", "u2", 5)));
        assert!(moved[0].before.is_some() && moved[0].after.is_none());
        assert!(shelf.unknown(&Key::cluster("a")).is_some());
    }
}
