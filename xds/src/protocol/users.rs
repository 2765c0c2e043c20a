//! Which listeners and routes of a client lead to which clusters, counting also what it may still be about to leave.
//! Knows no version.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::resource::Key;

/// The users of clusters, on one stream, each with how often it was noted.
#[derive(Debug, Default)]
pub(super) struct Users {
    of: BTreeMap<Arc<str>, Tally>,
    /// Held by the client, but where they lead to is not known: content that is no longer ours to look up.
    unknown: Tally,
}

#[derive(Debug, Default)]
struct Tally(BTreeMap<Key, usize>);

impl Tally {
    fn add(&mut self, key: &Key) {
        *self.0.entry(key.clone()).or_default() += 1;
    }

    fn take(&mut self, key: &Key) {
        if let Some(times) = self.0.get_mut(key) {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.0.remove(key);
            }
        }
    }
}

impl Users {
    /// This resource leads to these clusters; to clusters that nobody knows, when there are none to name.
    pub(super) fn hold(&mut self, key: &Key, clusters: Option<&Arc<[Arc<str>]>>) {
        let Some(clusters) = clusters else {
            self.unknown.add(key);
            return;
        };
        for cluster in clusters.iter() {
            self.of.entry(Arc::clone(cluster)).or_default().add(key);
        }
    }

    /// It no longer does. Returns the clusters that nobody leads to any more.
    pub(super) fn leave(&mut self, key: &Key, clusters: Option<&Arc<[Arc<str>]>>) -> Vec<Arc<str>> {
        let Some(clusters) = clusters else {
            self.unknown.take(key);
            return Vec::new();
        };
        clusters.iter().filter(|cluster| self.leave_one(key, cluster)).map(Arc::clone).collect()
    }

    fn leave_one(&mut self, key: &Key, cluster: &Arc<str>) -> bool {
        let Some(users) = self.of.get_mut(cluster) else { return false };
        users.take(key);
        if users.0.is_empty() {
            self.of.remove(cluster);
            return true;
        }
        false
    }

    /// Who leads to this cluster.
    pub(super) fn of(&self, cluster: &str) -> impl Iterator<Item = &Key> {
        self.of.get(cluster).into_iter().flat_map(|users| users.0.keys())
    }

    /// Whether something may lead anywhere.
    pub(super) fn has_unknown(&self) -> bool {
        !self.unknown.0.is_empty()
    }
}
