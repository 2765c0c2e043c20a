//! UDP sessions that the ports of a fleet promise to their clients. Nothing in Envoy sheds sessions of several ports together, so the
//! promises add up to no more than there is. What serves keeps its promise; what comes gets what is left. Knows ports and numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Key, Timestamp};

/// A port is served with so many sessions at least, or with as many as it asks for; else not at all.
const LEAST: u32 = 100;

/// What there is to promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// To all ports of the fleet together.
    pub fleet: u32,
    /// To all ports of this tenant together.
    pub tenant: u32,
}

/// What one load balancer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Its age, for its place among those that are short.
    pub born: Timestamp,
    /// The sessions that each of its UDP ports would have.
    pub wants: BTreeMap<u16, u32>,
    /// What is recorded as promised to its ports: they serve, and keep it.
    pub recorded: BTreeMap<u16, u32>,
    /// Whether what is recorded is another's word, which counts before what was decided here.
    pub obeys: bool,
}

/// The promises of one fleet.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    promised: BTreeMap<Key, BTreeMap<u16, u32>>,
    sum: u64,
    by_tenant: BTreeMap<Arc<str>, u64>,
    /// Load balancers that would have more, the oldest first, and what their tenants may have.
    short: BTreeMap<(Timestamp, Key), u32>,
    born: BTreeMap<Key, Timestamp>,
    /// Promises that ended since [`Sessions::hungry`] was asked last.
    freed: u64,
}

impl Sessions {
    /// Decides what the ports of a load balancer may promise from now on: what each has, as long as it asks for that, and more where
    /// there is room. A port that gets nothing has a zero.
    pub fn decide(&mut self, key: &Key, ask: &Ask, room: Room) -> BTreeMap<u16, u32> {
        let Ask { born, wants, recorded, obeys } = ask;
        let before = self.forget(key);
        let (first, second) = if *obeys { (recorded, &before) } else { (&before, recorded) };
        let has = |port: &u16| first.get(port).or_else(|| second.get(port)).copied().unwrap_or(0);
        let mut given: BTreeMap<u16, u32> = wants.iter().map(|(port, want)| (*port, has(port).min(*want))).collect();
        let own = total(&given);
        let of_tenant = self.by_tenant.get(&key.namespace).copied().unwrap_or(0);
        let left = u64::from(room.fleet).saturating_sub(self.sum + own);
        let left = left.min(u64::from(room.tenant).saturating_sub(of_tenant + own));
        let is_told = |port: &u16| *obeys && recorded.contains_key(port);
        let mut own: Vec<(&mut u32, u32)> = given
            .iter_mut()
            .filter(|(port, _)| !is_told(port))
            .map(|(port, now)| (now, wants.get(port).copied().unwrap_or(0)))
            .collect();
        share_alike(&mut own, left);
        let is_short = own.iter().any(|(now, want)| **now < *want);
        self.note(key, &given);
        if is_short {
            self.short.insert((*born, key.clone()), room.tenant);
            self.born.insert(key.clone(), *born);
        }
        // What it gave up and took back at once is not free.
        self.freed = self.freed.saturating_sub(total(&before)) + total(&before).saturating_sub(total(&given));
        given
    }

    /// Counts what is recorded as promised, before anything else is decided: as after a restart, where nothing else is known.
    pub fn remember(&mut self, key: &Key, recorded: &BTreeMap<u16, u32>) {
        if !self.promised.contains_key(key) {
            self.note(key, recorded);
        }
    }

    /// Its ports promise nothing any more.
    pub fn release(&mut self, key: &Key) {
        self.forget(key);
    }

    /// What all promise together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// There may be more to promise than there was, to whom it may be.
    pub fn grown(&mut self) {
        self.freed = u64::MAX;
    }

    /// Load balancers that may have more since promises ended, the oldest first. No more than there is something for.
    pub fn hungry(&mut self, fleet: u32) -> Vec<Key> {
        let freed = std::mem::take(&mut self.freed);
        let left = u64::from(fleet).saturating_sub(self.sum).min(freed);
        if freed == 0 || left == 0 {
            return Vec::new();
        }
        let most = usize::try_from(left / u64::from(LEAST) + 1).unwrap_or(usize::MAX);
        let may_grow = |(_, key): &(Timestamp, Key), tenant: u32| {
            self.by_tenant.get(&key.namespace).copied().unwrap_or(0) < u64::from(tenant)
        };
        self.short
            .iter()
            .filter(|(at, tenant)| may_grow(at, **tenant))
            .take(most)
            .map(|((_, key), _)| key.clone())
            .collect()
    }

    /// Whether anything would have more than it has.
    pub fn is_short(&self) -> bool {
        !self.short.is_empty()
    }

    fn note(&mut self, key: &Key, given: &BTreeMap<u16, u32>) {
        let own = total(given);
        if own > 0 {
            self.sum += own;
            *self.by_tenant.entry(Arc::clone(&key.namespace)).or_default() += own;
            self.promised.insert(key.clone(), given.clone());
        }
    }

    fn forget(&mut self, key: &Key) -> BTreeMap<u16, u32> {
        if let Some(born) = self.born.remove(key) {
            self.short.remove(&(born, key.clone()));
        }
        let given = self.promised.remove(key).unwrap_or_default();
        let own = total(&given);
        self.sum -= own;
        self.freed = self.freed.saturating_add(own);
        if let Some(all) = self.by_tenant.get_mut(&key.namespace) {
            *all -= own;
            if *all == 0 {
                self.by_tenant.remove(&key.namespace);
            }
        }
        given
    }
}

/// Gives the ports what is left: first to each as much as it needs to be served at all, in their order, then as much more to each, up to
/// what it wants.
fn share_alike(ports: &mut [(&mut u32, u32)], mut left: u64) {
    for (now, want) in ports.iter_mut() {
        let more = u64::from(LEAST.min(*want).saturating_sub(**now));
        if more <= left {
            **now = LEAST.min(*want).max(**now);
            left -= more;
        }
    }
    let mut hungry: Vec<_> =
        ports.iter_mut().filter(|(now, want)| **now >= LEAST.min(*want) && **now < *want).collect();
    while left > 0 && !hungry.is_empty() {
        let each = (left / hungry.len() as u64).max(1);
        for (now, want) in &mut hungry {
            let more = u64::from(*want - **now).min(each).min(left);
            **now += u32::try_from(more).unwrap_or(0);
            left -= more;
        }
        hungry.retain(|(now, want)| **now < *want);
    }
}

fn total(given: &BTreeMap<u16, u32>) -> u64 {
    given.values().map(|sessions| u64::from(*sessions)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: Room = Room { fleet: 4000, tenant: 2000 };

    fn key(tenant: &str, name: &str) -> Key {
        Key::new(format!("tenant-{tenant}"), name)
    }

    fn ask(age: i64, wants: &[(u16, u32)]) -> Ask {
        let born = Timestamp::from_second(age).unwrap();
        Ask { born, wants: wants.iter().copied().collect(), recorded: BTreeMap::new(), obeys: false }
    }

    fn given(all: &[(u16, u32)]) -> BTreeMap<u16, u32> {
        all.iter().copied().collect()
    }

    #[test]
    fn g2_a_tenant_promises_no_more_than_its_share_and_a_port_that_does_not_fit_gets_less_or_nothing() {
        let mut sessions = Sessions::default();
        let (a, b) = (key("a", "one"), key("a", "two"));
        assert_eq!(sessions.decide(&a, &ask(1, &[(53, 1000), (54, 1000)]), ROOM), given(&[(53, 1000), (54, 1000)]));
        assert_eq!(
            sessions.decide(&b, &ask(2, &[(53, 1000)]), ROOM),
            given(&[(53, 0)]),
            "nothing is left of the tenant's share"
        );
        assert_eq!(
            sessions.decide(&key("b", "one"), &ask(3, &[(1, 1500), (2, 1500)]), ROOM),
            given(&[(1, 1000), (2, 1000)]),
            "alike"
        );
        assert_eq!(
            sessions.decide(&key("c", "one"), &ask(4, &[(1, 1)]), ROOM),
            given(&[(1, 0)]),
            "nothing is left at all"
        );
        assert!(sessions.is_short());
        assert_eq!(sessions.sum(), 4000);
    }

    #[test]
    fn g2_what_serves_keeps_its_promise_whatever_becomes_of_others_or_of_the_budget() {
        let mut sessions = Sessions::default();
        let a = key("a", "one");
        sessions.decide(&a, &ask(1, &[(53, 1000)]), ROOM);
        let smaller = Room { fleet: 500, tenant: 250 };
        assert_eq!(sessions.decide(&a, &ask(1, &[(53, 1000)]), smaller), given(&[(53, 1000)]));
        assert_eq!(sessions.decide(&a, &ask(1, &[(53, 1000), (54, 1000)]), smaller), given(&[(53, 1000), (54, 0)]));
        // After a restart what is recorded counts.
        let mut restarted = Sessions::default();
        let recorded = Ask { recorded: given(&[(53, 700)]), ..ask(1, &[(53, 1000)]) };
        assert_eq!(restarted.decide(&a, &recorded, smaller), given(&[(53, 700)]));
        // A leader's word counts before one's own.
        let told = Ask { recorded: given(&[(53, 300)]), obeys: true, ..ask(1, &[(53, 1000)]) };
        assert_eq!(restarted.decide(&a, &told, smaller), given(&[(53, 300)]));
    }

    #[test]
    fn g2_the_ports_of_a_load_balancer_share_alike_and_none_gets_more_while_another_could_open() {
        let mut sessions = Sessions::default();
        let all: Vec<(u16, u32)> = (1..=20).map(|port| (port, 1000)).collect();
        let even: Vec<(u16, u32)> = (1..=20).map(|port| (port, 100)).collect();
        assert_eq!(sessions.decide(&key("a", "wide"), &ask(1, &all), ROOM), given(&even), "2000 for 20 ports");
        let four = [(1, 1000), (2, 1000), (3, 1000), (4, 50)];
        let room = Room { fleet: 4000, tenant: 360 };
        assert_eq!(
            sessions.decide(&key("b", "four"), &ask(2, &four), room),
            given(&[(1, 104), (2, 103), (3, 103), (4, 50)])
        );
        // What serves keeps what it has, and a port that comes shares what is left.
        let before = [(1, 300)];
        sessions.decide(&key("c", "grows"), &ask(3, &before), Room { fleet: 4000, tenant: 600 });
        let after = [(1, 300), (2, 300), (3, 300)];
        assert_eq!(
            sessions.decide(&key("c", "grows"), &ask(3, &after), Room { fleet: 4000, tenant: 600 }),
            given(&[(1, 300), (2, 150), (3, 150)])
        );
    }

    #[test]
    fn g2_what_ends_goes_to_the_oldest_that_is_short_and_may_have_it() {
        let mut sessions = Sessions::default();
        let full = [key("a", "one"), key("b", "one")];
        for full in &full {
            sessions.decide(full, &ask(1, &[(1, 2000)]), ROOM);
        }
        let waits = [(key("a", "old"), 2), (key("c", "middle"), 3), (key("d", "young"), 4)];
        for (waits, age) in &waits {
            assert_eq!(sessions.decide(waits, &ask(*age, &[(1, 150)]), ROOM), given(&[(1, 0)]));
        }
        assert_eq!(sessions.hungry(ROOM.fleet), Vec::<Key>::new());
        sessions.release(&full[1]);
        let hungry = sessions.hungry(ROOM.fleet);
        assert_eq!(hungry, [waits[1].0.clone(), waits[2].0.clone()], "tenant a has all of its share");
        assert_eq!(sessions.decide(&waits[1].0, &ask(3, &[(1, 150)]), ROOM), given(&[(1, 150)]));
        assert_eq!(sessions.hungry(ROOM.fleet), Vec::<Key>::new(), "nothing ended since");
        sessions.release(&full[0]);
        assert!(sessions.hungry(ROOM.fleet).contains(&waits[0].0));
    }

    #[test]
    fn g2_after_a_restart_what_is_recorded_counts_before_a_load_balancer_that_is_decided_first() {
        let mut sessions = Sessions::default();
        let (new, old) = (key("a", "new"), key("b", "old"));
        sessions.remember(&old, &given(&[(53, 2000)]));
        sessions.remember(&old, &given(&[(53, 9)]));
        assert_eq!(sessions.sum(), 2000, "what is counted already stays");
        assert_eq!(sessions.decide(&new, &ask(2, &[(1, 3000)]), Room { tenant: 4000, ..ROOM }), given(&[(1, 2000)]));
        assert_eq!(sessions.decide(&old, &ask(1, &[(53, 2000)]), ROOM), given(&[(53, 2000)]));
        assert_eq!(sessions.sum(), 4000);
    }

    proptest! {
        /// Whatever comes and goes: the sum is what is promised, it exceeds the room only by what was promised before the room
        /// shrank, and no promise shrinks while its port asks for as much.
        #[test]
        fn g2_promises_add_up(
            acts in prop::collection::vec((0_u8..3, 0_u8..4, prop::collection::btree_map(0_u16..3, 0_u32..1500, 0..3)), 0..60)
        ) {
            let mut sessions = Sessions::default();
            let mut last: BTreeMap<Key, BTreeMap<u16, u32>> = BTreeMap::new();
            for (tenant, name, wants) in acts {
                let key = key(&tenant.to_string(), &name.to_string());
                let before = last.get(&key).cloned().unwrap_or_default();
                let now = sessions.decide(&key, &Ask { wants: wants.clone(), ..ask(i64::from(name), &[]) }, ROOM);
                for (port, want) in &wants {
                    let has = before.get(port).copied().unwrap_or(0).min(*want);
                    prop_assert!(now.get(port).copied().unwrap_or(0) >= has);
                    prop_assert!(now.get(port).is_some_and(|now| *now >= LEAST.min(*want) || *now == has));
                }
                last.insert(key, now);
                let sum: u64 = last.values().map(total).sum();
                prop_assert_eq!(sum, sessions.sum());
                prop_assert!(sum <= u64::from(ROOM.fleet));
                for tenant in 0..3 {
                    let own = last.iter().filter(|(key, _)| *key.namespace == *format!("tenant-{tenant}"));
                    prop_assert!(own.map(|(_, given)| total(given)).sum::<u64>() <= u64::from(ROOM.tenant));
                }
            }
        }
    }
}
