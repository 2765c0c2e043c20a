//! What one fleet should hold now, and in which order it came to be. Pure data: knows no stream, no lock, no clock.
//!
//! Every change gets a number. The log keeps, for each resource, only its latest change, so that a reader who comes
//! back after a while reads as much as has really changed, and the log never outgrows what is present by more than a
//! bounded number of removals.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::resource::{Key, Resource, ResourceType};

/// Removals that the log remembers. Who comes back after more than these looks at everything once.
const REMOVALS_KEPT: usize = 10_000;

/// What changes in one step. A resource that is both removed and put in stays, with the new content.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Resources that come or change. Equal content is no change.
    pub upsert: Vec<Resource>,
    /// Resources that go.
    pub remove: Vec<Key>,
}

/// Resources that are not here and that a client nevertheless keeps, if it has them: it is not known at present what becomes
/// of them. To state-of-the-world clients, absence is deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// By type and name.
    pub names: BTreeSet<Key>,
    /// By type and what the name begins with, up to and including a slash.
    pub prefixes: BTreeSet<Key>,
}

impl Keep {
    /// What either keeps.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let Self { names, prefixes } = self;
        Self { names: names | &other.names, prefixes: prefixes | &other.prefixes }
    }

    /// Whether a client keeps the resource of this type and name.
    pub fn covers(&self, kind: ResourceType, name: &Arc<str>) -> bool {
        let mut slashes = name.match_indices('/').map(|(at, slash)| at + slash.len());
        let begins = |end: usize| name.get(..end).is_some_and(|prefix| self.prefixes.contains(&(kind, prefix.into())));
        (!self.names.is_empty() && self.names.contains(&(kind, Arc::clone(name))))
            || (!self.prefixes.is_empty() && slashes.any(begins))
    }
}

/// The resources of one fleet.
#[derive(Debug, Default)]
pub struct Catalog {
    present: [BTreeMap<Arc<str>, Entry>; ResourceType::COUNT],
    gone: BTreeMap<Key, u64>,
    gone_at: BTreeSet<u64>,
    log: BTreeMap<u64, Key>,
    head: u64,
    /// Changes up to this one may be missing from the log.
    floor: u64,
    keep: Keep,
}

#[derive(Debug)]
struct Entry {
    resource: Resource,
    changed: u64,
}

impl Catalog {
    /// Takes a change in and returns whether it was one. Costs as much as the change, whatever is present.
    pub fn apply(&mut self, change: Change) -> bool {
        let before = self.head;
        let Change { upsert, remove } = change;
        let kept: BTreeSet<Key> =
            if remove.is_empty() { BTreeSet::new() } else { upsert.iter().map(Resource::key).collect() };
        for key in remove.into_iter().filter(|key| !kept.contains(key)) {
            self.remove(key);
        }
        for resource in upsert {
            self.put(resource);
        }
        self.trim();
        self.head != before
    }

    /// From now on clients keep these though they are not here, and no others; whether that is something else than before. Then
    /// every client's resources are looked at once.
    pub fn keep(&mut self, keep: Keep) -> bool {
        if self.keep == keep {
            return false;
        }
        self.keep = keep;
        self.head += 1;
        self.floor = self.head;
        true
    }

    /// Whether clients keep a resource that is not here.
    pub fn keeps(&self, kind: ResourceType, name: &Arc<str>) -> bool {
        self.keep.covers(kind, name)
    }

    /// The resource of that type and name.
    pub fn find(&self, kind: ResourceType, name: &str) -> Option<&Resource> {
        self.present[kind.index()].get(name).map(|entry| &entry.resource)
    }

    /// All resources of a type, by name.
    pub fn all(&self, kind: ResourceType) -> impl Iterator<Item = &Resource> {
        self.present[kind.index()].values().map(|entry| &entry.resource)
    }

    /// The number of resources of a type.
    pub fn count(&self, kind: ResourceType) -> usize {
        self.present[kind.index()].len()
    }

    /// The number of resources of all types.
    pub fn len(&self) -> usize {
        self.present.iter().map(BTreeMap::len).sum()
    }

    /// Whether there is no resource.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a resource of a type whose name begins so.
    pub fn has_prefix(&self, kind: ResourceType, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let first = self.present[kind.index()].range::<str, _>(from).next();
        first.is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// The number of the latest change.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// What came, changed or went after that change; nothing when the log does not reach back so far.
    pub fn since(&self, cursor: u64) -> Option<impl Iterator<Item = &Key>> {
        (cursor >= self.floor).then(|| self.log.range((Bound::Excluded(cursor), Bound::Unbounded)).map(|(_, key)| key))
    }

    fn put(&mut self, resource: Resource) {
        let key = resource.key();
        let entries = &mut self.present[key.0.index()];
        match entries.get(&key.1) {
            Some(old) if old.resource == resource => return,
            Some(old) => {
                self.log.remove(&old.changed);
            }
            None => {
                if let Some(at) = self.gone.remove(&key) {
                    self.gone_at.remove(&at);
                    self.log.remove(&at);
                }
            }
        }
        self.head += 1;
        entries.insert(Arc::clone(&key.1), Entry { resource, changed: self.head });
        self.log.insert(self.head, key);
    }

    fn remove(&mut self, key: Key) {
        let Some(old) = self.present[key.0.index()].remove(&key.1) else { return };
        self.log.remove(&old.changed);
        self.head += 1;
        self.gone.insert(key.clone(), self.head);
        self.gone_at.insert(self.head);
        self.log.insert(self.head, key);
    }

    fn trim(&mut self) {
        while self.gone_at.len() > REMOVALS_KEPT {
            let Some(at) = self.gone_at.pop_first() else { return };
            if let Some(key) = self.log.remove(&at) {
                self.gone.remove(&key);
            }
            self.floor = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str, body: &[u8]) -> Resource {
        Resource::new(ResourceType::Listener, name, body)
    }

    fn put(resources: impl IntoIterator<Item = Resource>) -> Change {
        Change { upsert: resources.into_iter().collect(), remove: Vec::new() }
    }

    fn gone(name: &str) -> Change {
        Change { upsert: Vec::new(), remove: vec![(ResourceType::Listener, name.into())] }
    }

    fn since(catalog: &Catalog, cursor: u64) -> Option<Vec<String>> {
        catalog.since(cursor).map(|keys| keys.map(|(_, name)| name.to_string()).collect())
    }

    #[test]
    fn equal_content_is_no_change() {
        let mut catalog = Catalog::default();
        assert!(catalog.apply(put([listener("a", b"1")])));
        assert!(!catalog.apply(put([listener("a", b"1")])));
        assert!(!catalog.apply(gone("never")));
        assert_eq!(catalog.head(), 1);
    }

    #[test]
    fn the_log_names_each_resource_once_at_its_latest_change() {
        let mut catalog = Catalog::default();
        catalog.apply(put([listener("a", b"1"), listener("b", b"1")]));
        let cursor = catalog.head();
        catalog.apply(put([listener("b", b"2")]));
        catalog.apply(gone("a"));
        catalog.apply(put([listener("b", b"3")]));
        assert_eq!(since(&catalog, cursor), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(since(&catalog, catalog.head()), Some(Vec::new()));
    }

    #[test]
    fn removed_and_put_in_at_once_stays_with_the_new_content() {
        let mut catalog = Catalog::default();
        catalog.apply(put([listener("a", b"1")]));
        catalog.apply(Change { upsert: vec![listener("a", b"2")], ..gone("a") });
        assert_eq!(catalog.find(ResourceType::Listener, "a"), Some(&listener("a", b"2")));
    }

    #[test]
    fn the_log_stays_bounded_and_says_when_it_does_not_reach_back() {
        let mut catalog = Catalog::default();
        catalog.apply(put([listener("stays", b"1")]));
        let cursor = catalog.head();
        for n in 0..=REMOVALS_KEPT {
            catalog.apply(put([listener(&n.to_string(), b"1")]));
            catalog.apply(gone(&n.to_string()));
        }
        assert_eq!(since(&catalog, cursor), None);
        assert_eq!(catalog.log.len(), REMOVALS_KEPT + 1);
        assert_eq!(catalog.gone.len(), REMOVALS_KEPT);
        assert_eq!(since(&catalog, catalog.head() - 2), Some(vec![REMOVALS_KEPT.to_string()]));
    }

    #[test]
    fn a_kept_resource_is_named_or_begins_with_a_prefix_up_to_a_slash() {
        let key = |name: &str| (ResourceType::Listener, Arc::from(name));
        let keep = Keep { names: [key("tcp/192.0.2.1/80")].into(), prefixes: [key("tenant-a/web/")].into() };
        let covers = |name: &str| keep.covers(ResourceType::Listener, &name.into());
        assert!(covers("tcp/192.0.2.1/80") && covers("tenant-a/web/tcp/80"));
        assert!(!covers("tcp/192.0.2.1/8080") && !covers("tenant-a/web-2/tcp/80") && !covers("tenant-a/web"));
        assert!(!keep.covers(ResourceType::Cluster, &"tcp/192.0.2.1/80".into()));
        let both = keep.union(&Keep { names: [key("tcp/192.0.2.1/8080")].into(), ..Keep::default() });
        assert!(
            ["tcp/192.0.2.1/80", "tcp/192.0.2.1/8080"]
                .iter()
                .all(|n| both.covers(ResourceType::Listener, &(*n).into()))
        );
    }

    #[test]
    fn what_is_kept_makes_every_reader_look_once_when_it_changes() {
        let mut catalog = Catalog::default();
        catalog.apply(put([listener("a", b"1")]));
        let cursor = catalog.head();
        let keep = Keep { names: [(ResourceType::Listener, "b".into())].into(), ..Keep::default() };
        assert!(catalog.keep(keep.clone()) && !catalog.keep(keep));
        assert_eq!(since(&catalog, cursor), None);
        assert_eq!(since(&catalog, catalog.head()), Some(Vec::new()));
    }
}
