//! Which Envoys load balancers wait for, since when, and when they stop waiting. Knows names and moments; knows no resource and
//! no status.
//!
//! An Envoy *owes* a load balancer while it lacks or refuses its present content. It holds it back, until
//!
//! - the Envoy has acknowledged nothing for [`SILENCE`]: it *stops* for all load balancers until its next acknowledgement;
//! - no load balancer has been completed by it for [`LONGEST`], though it acknowledges something: it stops until one is;
//! - the load balancer has waited for [`LONGEST`]: it waits for no Envoy any more.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::{Key, Timestamp};

/// An Envoy that owes something and acknowledges nothing for so long is waited for no longer. One that starts with 9000
/// resources is silent for 9 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// A load balancer waits for an Envoy so long at most, whatever else that Envoy acknowledges.
pub(crate) const LONGEST: Duration = Duration::from_mins(2);
/// Envoys are named when a load balancer has waited for so long: every change is awaited for some milliseconds.
pub(crate) const NOTICE: Duration = Duration::from_secs(1);

/// A fleet and one of its nodes.
pub(crate) type Envoy = (Arc<str>, Arc<str>);

/// Nodes of one fleet.
pub(crate) type Nodes = BTreeSet<Arc<str>>;

/// Which load balancers wait for which Envoys.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    balancers: BTreeMap<Key, Wait>,
    envoys: BTreeMap<Envoy, Debt>,
    alarms: BTreeSet<(Timestamp, Alarm)>,
    /// Fleets in which a load balancer is held back no longer, since [`Waits::take_relieved`].
    relieved: BTreeSet<Arc<str>>,
}

/// A load balancer whose present content some Envoys lack.
#[derive(Debug)]
struct Wait {
    fleet: Arc<str>,
    nodes: Nodes,
    since: Timestamp,
    /// Whether it is held back: one that is programmed goes on being so.
    open: bool,
    alarm: Option<Timestamp>,
}

/// What one Envoy owes.
#[derive(Debug)]
struct Debt {
    owed: BTreeSet<Key>,
    /// When it acknowledged something last, or began to owe.
    acknowledged: Timestamp,
    /// When it completed a load balancer last, or began to owe.
    completed: Timestamp,
    stopped: bool,
    alarm: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Balancer(Key),
    Envoy(Envoy),
}

/// What is to be looked at again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub balancers: BTreeSet<Key>,
    pub fleets: BTreeSet<Arc<str>>,
}

impl Waits {
    /// These Envoys lack the present content of a load balancer, these hold it. An Envoy of which neither is said now is between
    /// two streams: it goes on owing what it owed.
    pub fn note(&mut self, key: &Key, fleet: &Arc<str>, lacking: &Nodes, holding: &Nodes, now: Timestamp) {
        if self.balancers.get(key).is_some_and(|wait| wait.fleet != *fleet) {
            self.forget(key);
        }
        let before = self.balancers.get(key).map(|wait| wait.nodes.clone()).unwrap_or_default();
        for node in before.intersection(holding) {
            self.completed(&(Arc::clone(fleet), Arc::clone(node)), key, now);
        }
        for node in lacking.difference(&before) {
            self.owes(&(Arc::clone(fleet), Arc::clone(node)), key, now);
        }
        let nodes: Nodes = before.difference(holding).chain(lacking).cloned().collect();
        if nodes.is_empty() {
            self.close(key);
            self.balancers.remove(key);
            return;
        }
        let new = || Wait { fleet: Arc::clone(fleet), nodes: Nodes::new(), since: now, open: false, alarm: None };
        self.balancers.entry(key.clone()).or_insert_with(new).nodes = nodes;
    }

    /// The load balancer is held back by those that lack its content.
    pub fn open(&mut self, key: &Key, now: Timestamp) {
        let Some(wait) = self.balancers.get_mut(key).filter(|wait| !wait.open) else { return };
        wait.open = true;
        self.set(Alarm::Balancer(key.clone()), now);
    }

    /// The load balancer is held back no longer, whichever Envoy still lacks its content.
    pub fn close(&mut self, key: &Key) {
        let Some(wait) = self.balancers.get_mut(key).filter(|wait| wait.open) else { return };
        wait.open = false;
        self.relieved.insert(Arc::clone(&wait.fleet));
        if let Some(at) = wait.alarm.take() {
            self.alarms.remove(&(at, Alarm::Balancer(key.clone())));
        }
    }

    /// The fleets in which a load balancer stopped being held back since this was asked last.
    pub fn take_relieved(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.relieved)
    }

    /// The load balancer is gone, or has other content: an Envoy that owed it owes it no longer, and has acknowledged nothing by that.
    pub fn forget(&mut self, key: &Key) {
        self.close(key);
        let Some(Wait { fleet, nodes, .. }) = self.balancers.remove(key) else { return };
        for node in nodes {
            let envoy = (Arc::clone(&fleet), node);
            if let Some(debt) = self.envoys.get_mut(&envoy) {
                debt.owed.remove(key);
                if debt.owed.is_empty() && !debt.stopped {
                    self.settle(&envoy);
                }
            }
        }
    }

    /// The Envoy has acknowledged something. Returns whether it had stopped and counts again.
    pub fn acknowledged(&mut self, envoy: &Envoy, now: Timestamp) -> bool {
        let Some(debt) = self.envoys.get_mut(envoy) else { return false };
        debt.acknowledged = now;
        let counts = debt.stopped && !debt.is_over(now);
        if debt.stopped && debt.owed.is_empty() {
            self.settle(envoy);
            return true;
        }
        debt.stopped &= !counts;
        self.set(Alarm::Envoy(envoy.clone()), now);
        counts
    }

    /// The node is chosen no longer: nothing waits for its Envoy.
    pub fn leave(&mut self, envoy: &Envoy) {
        let owed = self.envoys.get(envoy).map(|debt| debt.owed.clone()).unwrap_or_default();
        self.settle(envoy);
        for key in owed {
            let Some(wait) = self.balancers.get_mut(&key) else { continue };
            wait.nodes.remove(&envoy.1);
            if wait.nodes.is_empty() {
                self.close(&key);
                self.balancers.remove(&key);
            }
        }
    }

    /// Whether load balancers no longer wait for this Envoy.
    pub fn is_stopped(&self, fleet: &Arc<str>, node: &Arc<str>) -> bool {
        self.envoys.get(&(Arc::clone(fleet), Arc::clone(node))).is_some_and(|debt| debt.stopped)
    }

    /// Whether the load balancer has waited for as long as it may.
    pub fn is_overdue(&self, key: &Key, now: Timestamp) -> bool {
        self.balancers.get(key).is_some_and(|wait| now >= after(wait.since, LONGEST))
    }

    /// How many load balancers the Envoy holds back, of those that wait long enough for it to be named.
    pub fn held_back(&self, envoy: &Envoy, now: Timestamp) -> usize {
        let Some(debt) = self.envoys.get(envoy).filter(|debt| !debt.stopped) else { return 0 };
        let waits = debt.owed.iter().filter_map(|key| self.balancers.get(key));
        waits.filter(|wait| wait.open && now >= after(wait.since, NOTICE)).count()
    }

    /// When something has to be looked at again.
    pub fn next(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// What has to be looked at again now.
    pub fn due(&mut self, now: Timestamp) -> Due {
        let mut due = Due::default();
        while self.alarms.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, alarm)) = self.alarms.pop_first() else { break };
            match &alarm {
                Alarm::Balancer(key) => {
                    let Some(wait) = self.balancers.get_mut(key) else { continue };
                    wait.alarm = None;
                    due.fleets.insert(Arc::clone(&wait.fleet));
                    if now >= after(wait.since, LONGEST) {
                        due.balancers.insert(key.clone());
                    }
                }
                Alarm::Envoy(envoy) => {
                    let Some(debt) = self.envoys.get_mut(envoy) else { continue };
                    debt.alarm = None;
                    if debt.is_over(now) && !debt.stopped {
                        debt.stopped = true;
                        due.fleets.insert(Arc::clone(&envoy.0));
                        due.balancers.extend(debt.owed.iter().cloned());
                    }
                }
            }
            self.set(alarm, now);
        }
        due
    }

    fn owes(&mut self, envoy: &Envoy, key: &Key, now: Timestamp) {
        let new = || Debt { owed: BTreeSet::new(), acknowledged: now, completed: now, stopped: false, alarm: None };
        self.envoys.entry(envoy.clone()).or_insert_with(new).owed.insert(key.clone());
        self.set(Alarm::Envoy(envoy.clone()), now);
    }

    fn completed(&mut self, envoy: &Envoy, key: &Key, now: Timestamp) {
        let Some(debt) = self.envoys.get_mut(envoy) else { return };
        debt.owed.remove(key);
        (debt.acknowledged, debt.completed, debt.stopped) = (now, now, false);
        if debt.owed.is_empty() {
            self.settle(envoy);
        } else {
            self.set(Alarm::Envoy(envoy.clone()), now);
        }
    }

    /// Forgets what an Envoy owed.
    fn settle(&mut self, envoy: &Envoy) {
        if let Some(at) = self.envoys.remove(envoy).and_then(|debt| debt.alarm) {
            self.alarms.remove(&(at, Alarm::Envoy(envoy.clone())));
        }
    }

    /// Sets the next alarm of a load balancer or an Envoy, which has one at most.
    fn set(&mut self, alarm: Alarm, now: Timestamp) {
        let (slot, next) = match &alarm {
            Alarm::Balancer(key) => {
                let Some(wait) = self.balancers.get_mut(key).filter(|wait| wait.open) else { return };
                let next = [NOTICE, LONGEST].map(|span| after(wait.since, span));
                (&mut wait.alarm, next.into_iter().find(|at| *at > now))
            }
            Alarm::Envoy(envoy) => {
                let Some(debt) = self.envoys.get_mut(envoy) else { return };
                let next = (!debt.stopped).then(|| debt.ends());
                (&mut debt.alarm, next)
            }
        };
        if *slot == next {
            return;
        }
        if let Some(at) = std::mem::replace(slot, next) {
            self.alarms.remove(&(at, alarm.clone()));
        }
        self.alarms.extend(next.map(|at| (at, alarm)));
    }
}

impl Debt {
    /// When no load balancer waits for it any more.
    fn ends(&self) -> Timestamp {
        after(self.acknowledged, SILENCE).min(after(self.completed, LONGEST))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.ends()
    }
}

/// The moment so long after another one.
fn after(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}
