//! Which observation of an object is the newest: the response of our own write may come before an older event of the
//! watch. Knows resourceVersions; knows no kind.
//!
//! resourceVersions of one kind are compared as numbers, which Kubernetes promises since 1.35 and etcd has always kept.

use std::collections::BTreeMap;

/// So many deleted objects are remembered; older ones can no longer be overtaken by events of before.
const GRAVES: usize = 4096;

/// What is the newest of each object, the dead among them.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    living: BTreeMap<String, u64>,
    dead: BTreeMap<String, u64>,
    /// The newest that the last list had: what it lacks and is not newer had ended by then.
    listed: u64,
}

impl Freshness {
    /// Begins anew with a complete list.
    pub(crate) fn restart<'a>(&mut self, listed: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.dead.clear();
        self.living = listed.into_iter().map(|(name, version)| (name.to_owned(), number(version))).collect();
        self.listed = self.living.values().copied().max().unwrap_or(0);
    }

    /// Whether this is news of a living object.
    pub(crate) fn seen(&mut self, name: &str, version: &str) -> bool {
        let version = number(version);
        if self.latest(name) > version {
            return false;
        }
        self.dead.remove(name);
        self.living.insert(name.to_owned(), version);
        true
    }

    /// Whether its end is news.
    pub(crate) fn gone(&mut self, name: &str, version: &str) -> bool {
        let version = number(version);
        if self.latest(name) > version {
            return false;
        }
        self.living.remove(name);
        self.dead.insert(name.to_owned(), version);
        if self.dead.len() > GRAVES {
            let oldest = self.dead.iter().min_by_key(|(_, version)| **version).map(|(name, _)| name.clone());
            oldest.map(|name| self.dead.remove(&name));
        }
        true
    }

    fn latest(&self, name: &str) -> u64 {
        let known = self.living.get(name).or_else(|| self.dead.get(name)).copied();
        known.unwrap_or(self.listed.saturating_add(1))
    }
}

fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_event_after_our_own_write_is_no_news() {
        let mut fresh = Freshness::default();
        assert!(fresh.seen("a", "10"));
        assert!(!fresh.seen("a", "9"));
        assert!(!fresh.gone("a", "8"), "the end of the one before");
        assert!(fresh.gone("a", "11"));
        assert!(!fresh.seen("a", "10"), "a late response does not wake the dead");
        assert!(fresh.seen("a", "12"), "a new one of the same name");
    }

    #[test]
    fn a_late_answer_does_not_bring_back_what_a_newer_list_lacks() {
        let mut fresh = Freshness::default();
        fresh.restart([("a", "50"), ("b", "90")]);
        assert!(!fresh.seen("c", "80"), "released by another before the list");
        assert!(!fresh.seen("c", "90"));
        assert!(fresh.seen("c", "91"));
    }

    #[test]
    fn a_new_list_forgets_what_was_before() {
        let mut fresh = Freshness::default();
        fresh.seen("a", "100");
        fresh.restart([("a", "5")]);
        assert!(fresh.seen("a", "6"), "the hub was restored from a snapshot");
    }
}
