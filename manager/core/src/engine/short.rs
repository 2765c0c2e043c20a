//! Who lacks addresses where the tenant has a limit, and what was left of that when each was looked at. Knows numbers; knows
//! not what is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Key;

/// Nobody needs more addresses at once than one of each family: more left is as good as this.
const MOST: usize = 2;

/// All who lack addresses, by namespace and by how many more their tenant might have had.
#[derive(Debug, Default)]
pub(super) struct Short(BTreeMap<Arc<str>, [BTreeSet<Key>; MOST + 1]>);

impl Short {
    /// It lacked something when so many more were left.
    pub fn note(&mut self, key: &Key, left: usize) {
        self.forget(key);
        let by_left = self.0.entry(Arc::clone(&key.namespace)).or_default();
        by_left[left.min(MOST)].insert(key.clone());
    }

    /// It lacks nothing, or has no limit.
    pub fn forget(&mut self, key: &Key) {
        if let Some(by_left) = self.0.get_mut(&key.namespace) {
            for keys in by_left.iter_mut() {
                keys.remove(key);
            }
            if by_left.iter().all(BTreeSet::is_empty) {
                self.0.remove(&key.namespace);
            }
        }
    }

    /// Those of a namespace who were looked at when another number was left; without a limit, all.
    pub fn otherwise_than(&self, namespace: &str, left: Option<usize>) -> impl Iterator<Item = &Key> {
        let left = left.map(|left| left.min(MOST));
        let by_left = self.0.get(namespace).into_iter().flatten().enumerate();
        by_left.filter(move |(was, _)| Some(*was) != left).flat_map(|(_, keys)| keys)
    }
}
