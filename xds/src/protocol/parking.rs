//! Resources that wait for a cluster to come or to be left, and until when. Knows no reason and no content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::resource::Key;

/// Who waits for which cluster. The first deadline of a resource stays, however often it is parked again.
#[derive(Debug, Default)]
pub(super) struct Parking {
    waits: BTreeMap<Key, Wait>,
    by_cluster: BTreeMap<Arc<str>, BTreeSet<Key>>,
    by_deadline: BTreeSet<(Duration, Key)>,
}

#[derive(Debug)]
struct Wait {
    cluster: Arc<str>,
    deadline: Duration,
}

impl Parking {
    /// Lets a resource wait for a cluster, at most until the deadline.
    pub(super) fn park(&mut self, key: &Key, cluster: &Arc<str>, deadline: Duration) {
        let wait = self.waits.entry(key.clone()).or_insert_with(|| {
            self.by_deadline.insert((deadline, key.clone()));
            Wait { cluster: Arc::clone(cluster), deadline }
        });
        if wait.cluster != *cluster {
            leave(&mut self.by_cluster, &wait.cluster, key);
            wait.cluster = Arc::clone(cluster);
        }
        self.by_cluster.entry(Arc::clone(cluster)).or_default().insert(key.clone());
    }

    /// Those who waited for this cluster. They keep their deadlines until they are forgotten.
    pub(super) fn wake(&mut self, cluster: &str) -> BTreeSet<Key> {
        self.by_cluster.remove(cluster).unwrap_or_default()
    }

    /// Those whose deadline has come, each once.
    pub(super) fn overdue(&mut self, now: Duration) -> Vec<Key> {
        let mut overdue = Vec::new();
        while self.by_deadline.first().is_some_and(|(deadline, _)| *deadline <= now) {
            overdue.extend(self.by_deadline.pop_first().map(|(_, key)| key));
        }
        overdue
    }

    /// Whether a resource has waited long enough.
    pub(super) fn is_overdue(&self, key: &Key, now: Duration) -> bool {
        self.waits.get(key).is_some_and(|wait| wait.deadline <= now)
    }

    /// Ends a wait.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(Wait { cluster, deadline }) = self.waits.remove(key) {
            self.by_deadline.remove(&(deadline, key.clone()));
            leave(&mut self.by_cluster, &cluster, key);
        }
    }

    /// Everyone who waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.waits.keys()
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Duration> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }
}

fn leave(by_cluster: &mut BTreeMap<Arc<str>, BTreeSet<Key>>, cluster: &Arc<str>, key: &Key) {
    if let Some(keys) = by_cluster.get_mut(cluster) {
        keys.remove(key);
        if keys.is_empty() {
            by_cluster.remove(cluster);
        }
    }
}
