//! Objects of the hub that cannot be read for a while. Knows how an engine is shown them; decides nothing.

use std::collections::BTreeSet;

use kube::Resource;
use nave_manager_core::{Key, Sight, Unreadable};
use nave_xds::resource::{Key as ResourceKey, Resource as XdsResource};

use super::Hub;

const WHY: &str = "spec: a number that does not fit";

impl Hub {
    /// From now on the object cannot be read, or can be again. It is not shown: a watch or a list does that.
    pub fn spoil(&mut self, kind: &str, key: Key, is_unreadable: bool) {
        let at = (kind.to_owned(), key);
        if is_unreadable {
            self.spoiled.insert(at)
        } else {
            self.spoiled.remove(&at)
        };
    }

    /// One of all objects can no longer be read, and a watch shows it.
    pub fn spoil_any(&mut self, which: usize) {
        let mut all: Vec<(&str, Key)> = Vec::new();
        all.extend(self.balancers.keys().map(|key| ("TCPLoadBalancer", key.clone())));
        all.extend(self.allocations.keys().map(|key| ("IPAllocation", key.clone())));
        all.extend(self.node_sets.keys().map(|key| ("NodeSet", key.clone())));
        all.extend(self.tenants.keys().map(|key| ("Tenant", key.clone())));
        all.extend(self.pools.keys().map(|key| ("IPPool", key.clone())));
        all.extend(self.fleets.keys().map(|key| ("Fleet", key.clone())));
        let Some((kind, key)) = all.get(which % all.len().max(1)).cloned() else { return };
        self.spoil(kind, key, true);
        self.list_all();
    }

    /// All objects can be read again, and lists show them.
    pub fn mend_all(&mut self) {
        self.spoiled.clear();
        self.list_all();
    }

    /// Whether there is an object that cannot be read.
    pub fn is_spoilt(&self) -> bool {
        !self.spoiled.is_empty()
    }

    /// The object as a watch shows it.
    pub fn seen<K: Resource<DynamicType = ()>>(&self, object: K) -> Sight<K> {
        match self.unreadable(&object) {
            Some(unreadable) => Sight::Unreadable(unreadable),
            None => Sight::One(object),
        }
    }

    /// The objects as a list shows them.
    pub fn listed<K: Resource<DynamicType = ()> + Clone>(&self, all: impl IntoIterator<Item = K>) -> Sight<K> {
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        for object in all {
            match self.unreadable(&object) {
                Some(object) => unreadable.push(object),
                None => objects.push(object),
            }
        }
        Sight::All { objects, unreadable }
    }

    fn unreadable<K: Resource<DynamicType = ()>>(&self, object: &K) -> Option<Unreadable> {
        let (kind, key, meta) = (K::kind(&()).into_owned(), Key::of(object), object.meta());
        self.spoiled.contains(&(kind, key.clone())).then(|| Unreadable {
            key,
            uid: meta.uid.clone().unwrap_or_default(),
            revision: meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default(),
            generation: meta.generation,
            why: WHY.to_owned(),
        })
    }

    /// What the Envoys of a fleet no longer have of this: neither served nor kept.
    pub fn lost(&self, fleet: &str, before: &BTreeSet<ResourceKey>) -> Vec<ResourceKey> {
        let served = self.served_keys(fleet);
        let kept = |(kind, name): &&ResourceKey| {
            let names = self.kept.names.contains(&(*kind, name.clone()));
            names || self.kept.prefixes.iter().any(|(of, prefix)| of == kind && name.starts_with(&**prefix))
        };
        before.iter().filter(|key| !served.contains(*key)).filter(|key| !kept(key)).cloned().collect()
    }

    /// The keys of all that a fleet serves.
    pub fn served_keys(&self, fleet: &str) -> BTreeSet<ResourceKey> {
        self.served.get(fleet).into_iter().flat_map(|served| served.values().map(XdsResource::key)).collect()
    }
}
