//! Load balancers that are to be looked at again since their nodes changed. One write of a tenant may concern all of its load
//! balancers, so each settlement takes so many, the tenants in turn. Knows keys; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::Key;

/// So many load balancers are taken at a time.
const AT_A_TIME: usize = 256;

/// Who waits, by namespace.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// The namespace that was served last.
    last: Option<Arc<str>>,
}

impl Turns {
    pub fn add(&mut self, key: &Key) {
        self.waiting.entry(Arc::clone(&key.namespace)).or_default().insert(key.clone());
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next ones: one of each namespace, and again from the first.
    pub fn take(&mut self) -> Vec<Key> {
        let mut taken = Vec::new();
        while taken.len() < AT_A_TIME
            && let Some(namespace) = self.next()
        {
            if let Some(keys) = self.waiting.get_mut(&namespace) {
                taken.extend(keys.pop_first());
                if keys.is_empty() {
                    self.waiting.remove(&namespace);
                }
            }
            self.last = Some(namespace);
        }
        taken
    }

    fn next(&self) -> Option<Arc<str>> {
        let last = self.last.as_deref().unwrap_or_default();
        let behind = self.waiting.range::<str, _>((Bound::Excluded(last), Bound::Unbounded)).next();
        behind.or_else(|| self.waiting.first_key_value()).map(|(namespace, _)| Arc::clone(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_a_tenant_with_many_load_balancers_delays_another_by_one_turn_at_most() {
        let mut turns = Turns::default();
        for number in 0..1000 {
            turns.add(&Key::new("tenant-a", format!("web-{number}")));
        }
        let first = turns.take();
        assert_eq!(first.len(), AT_A_TIME);
        for number in 0..3 {
            turns.add(&Key::new("tenant-b", format!("web-{number}")));
            turns.add(&Key::new("tenant-0", "web"));
        }
        let second = turns.take();
        let of = |namespace: &str| second.iter().filter(|key| &*key.namespace == namespace).count();
        assert_eq!((of("tenant-b"), of("tenant-0"), of("tenant-a")), (3, 1, AT_A_TIME - 4));
        let mut all: BTreeSet<Key> = first.into_iter().chain(second).collect();
        while !turns.is_empty() {
            all.extend(turns.take());
        }
        assert_eq!(all.len(), 1004);
        assert!(turns.take().is_empty());
    }
}
