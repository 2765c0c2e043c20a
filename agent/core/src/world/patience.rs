//! What has lasted for a while, and is said then. Counts turns; knows no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::Key;

/// So many turns is a while.
const TURNS: u8 = 2;

/// What is not as it should be, and has yet to last: by Service and reason.
#[derive(Debug, Default)]
pub(super) struct Patience {
    turns: BTreeMap<Key, BTreeMap<String, u8>>,
}

impl Patience {
    /// What is not as it should be with a Service now: whatever else was has ended.
    pub(super) fn only(&mut self, key: &Key, reasons: &BTreeSet<String>) {
        if reasons.is_empty() {
            self.turns.remove(key);
            return;
        }
        let known = self.turns.entry(key.clone()).or_default();
        known.retain(|reason, _| reasons.contains(reason));
        for reason in reasons {
            known.entry(reason.clone()).or_insert(0);
        }
    }

    /// Whether it has lasted for a while.
    pub(super) fn has_ended(&self, key: &Key, reason: &str) -> bool {
        self.turns.get(key).and_then(|known| known.get(reason)).is_some_and(|turns| *turns >= TURNS)
    }

    /// A turn has passed. The Services of which something has lasted for a while now.
    pub(super) fn turn(&mut self) -> BTreeSet<Key> {
        let mut ended = BTreeSet::new();
        for (key, known) in &mut self.turns {
            for turns in known.values_mut().filter(|turns| **turns < TURNS) {
                *turns += 1;
                if *turns == TURNS {
                    ended.insert(key.clone());
                }
            }
        }
        ended
    }

    /// It is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        self.turns.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_within_a_while_is_never_said_and_what_lasts_is_said_once() {
        let key = Key { namespace: "shop".into(), name: "web".into() };
        let reasons = |all: &[&str]| all.iter().map(|reason| (*reason).to_owned()).collect::<BTreeSet<_>>();
        let mut patience = Patience::default();
        patience.only(&key, &reasons(&["Pending"]));
        assert!(patience.turn().is_empty() && !patience.has_ended(&key, "Pending"));
        patience.only(&key, &reasons(&["NoReadyEndpoints"]));
        patience.only(&key, &reasons(&["NoReadyEndpoints", "Pending"]));
        assert!(patience.turn().is_empty(), "it has begun once more");
        assert_eq!(patience.turn(), [key.clone()].into());
        assert!(patience.has_ended(&key, "Pending") && patience.has_ended(&key, "NoReadyEndpoints"));
        assert!(patience.turn().is_empty());
        patience.forget(&key);
        assert!(!patience.has_ended(&key, "Pending"));
    }
}
