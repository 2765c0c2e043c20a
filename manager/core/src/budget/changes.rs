//! Changes of listeners that Envoys still work off: a listener that is changed or removed holds descriptors and memory until its drain
//! time is over. A tenant has so many of them at a time, and what is beyond waits. Knows namespaces and moments; knows no listener.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::{Key, Timestamp};

/// How long a change lasts: Envoy's drain time.
const DRAIN: Duration = nave_xds::bootstrap::DRAIN;

/// The changes of one fleet.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// In the order in which they end.
    drains: VecDeque<Drain>,
    by_tenant: BTreeMap<Arc<str>, u64>,
    sum: u64,
    /// Load balancers whose own change waits, by namespace.
    waiting: BTreeMap<Arc<str>, BTreeSet<Key>>,
}

#[derive(Debug)]
struct Drain {
    ends: Timestamp,
    namespace: Arc<str>,
    count: u64,
}

impl Changes {
    /// Forgets what is over; returns the load balancers whose changes waited for that.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Key> {
        let mut freed = false;
        // A clock that was set back must not make anything wait for long.
        let is_over =
            |drain: &Drain| drain.ends <= now || now.checked_add(DRAIN).is_ok_and(|latest| drain.ends > latest);
        while let Some(Drain { ends: _, namespace, count }) = self.drains.pop_front_if(|drain| is_over(drain)) {
            freed = true;
            self.sum -= count;
            if let Some(all) = self.by_tenant.get_mut(&namespace) {
                *all -= count;
                if *all == 0 {
                    self.by_tenant.remove(&namespace);
                }
            }
        }
        if freed { std::mem::take(&mut self.waiting).into_values().flatten().collect() } else { Vec::new() }
    }

    /// A tenant changes or removes so many listeners now.
    pub fn note(&mut self, namespace: &Arc<str>, count: u64, now: Timestamp) {
        let Ok(ends) = now.checked_add(DRAIN) else { return };
        if count == 0 {
            return;
        }
        self.sum += count;
        *self.by_tenant.entry(Arc::clone(namespace)).or_default() += count;
        match self.drains.back_mut().filter(|last| last.ends == ends && last.namespace == *namespace) {
            Some(last) => last.count += count,
            None => self.drains.push_back(Drain { ends, namespace: Arc::clone(namespace), count }),
        }
    }

    /// A load balancer's change waits, or waits no longer.
    pub fn wait(&mut self, key: &Key, waits: bool) {
        if waits {
            self.waiting.entry(Arc::clone(&key.namespace)).or_default().insert(key.clone());
        } else if let Some(all) = self.waiting.get_mut(&key.namespace) {
            all.remove(key);
            if all.is_empty() {
                self.waiting.remove(&key.namespace);
            }
        }
    }

    /// How many changes of a tenant are under way.
    pub fn of(&self, namespace: &Arc<str>) -> u64 {
        self.by_tenant.get(namespace).copied().unwrap_or(0)
    }

    /// How many changes of all tenants are under way.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The load balancers whose changes wait.
    pub fn waiting(&self) -> impl Iterator<Item = Key> {
        self.waiting.values().flatten().cloned()
    }

    /// Whether a change waits.
    pub fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When the next change is over, where another one waits for that.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        self.drains.front().filter(|_| self.is_waited_for()).map(|drain| drain.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn g2_a_change_counts_until_its_drain_time_is_over() {
        let mut changes = Changes::default();
        let (shop, other): (Arc<str>, Arc<str>) = ("tenant-shop".into(), "tenant-other".into());
        changes.note(&shop, 3, at(0));
        changes.note(&shop, 2, at(10));
        changes.note(&other, 7, at(10));
        assert_eq!((changes.of(&shop), changes.of(&other), changes.sum()), (5, 7, 12));
        assert_eq!(changes.wakes_at(), None, "nothing waits");
        let waits = Key::new("tenant-shop", "web");
        changes.wait(&waits, true);
        assert_eq!(changes.wakes_at(), Some(at(30)));
        assert_eq!(changes.expire(at(29)), []);
        assert_eq!(changes.expire(at(30)), [waits]);
        assert_eq!((changes.of(&shop), changes.sum(), changes.wakes_at()), (2, 9, None));
        changes.expire(at(40));
        assert_eq!((changes.sum(), changes.by_tenant.len()), (0, 0));
    }

    #[test]
    fn g2_a_clock_that_was_set_back_makes_nothing_wait() {
        let mut changes = Changes::default();
        changes.note(&"tenant-shop".into(), 3, at(3600));
        let waits = Key::new("tenant-shop", "web");
        changes.wait(&waits, true);
        assert_eq!(changes.expire(at(0)), [waits]);
        assert_eq!(changes.sum(), 0);
    }
}
