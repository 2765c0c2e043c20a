//! Which Envoys count, and what their words are worth to a load balancer. Knows what was heard and what fleets choose; the
//! moments are kept by [`crate::waits`].

use std::sync::Arc;

use nave_xds::report::Report;
use nave_xds::resource::Resource;

use super::Engine;
use super::serve::Programmed;
use crate::chosen::chosen;
use crate::ledger::{Taken, Touched};
use crate::waits::{Nodes, Waits};
use crate::{Key, Role, Timestamp};

/// How the Envoys of a fleet that count take a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// All that it waits for hold exactly this, and one at least does.
    Held,
    /// One does not yet.
    Awaited,
    /// None that counts is connected.
    NoEnvoy,
    /// An Envoy refuses it, in its words.
    Refused { node: Arc<str>, message: Arc<str> },
}

impl Engine {
    pub(super) fn envoy_reported(&mut self, report: Report) {
        let fleet = Arc::clone(&report.fleet);
        match self.world.ledger.note(report) {
            Touched::Resources(keys) => {
                let published = self.published.get(&fleet);
                let owners = keys.iter().filter_map(|key| published.and_then(|published| published.get(key)));
                self.dirt.statuses.extend(owners.cloned());
            }
            // Whatever one Envoy says of itself, and however often: its fleet is looked through once.
            Touched::Nodes => drop(self.dirt.envoys.insert(Arc::clone(&fleet))),
        }
        self.dirt.choices |= !self.world.chosen.contains_key(&fleet);
        self.dirt.fleets.insert(fleet);
    }

    /// Other Envoys count now. What all acknowledged once stays so, whichever Envoy comes or goes.
    fn envoys_moved(&mut self, fleet: &Arc<str>) {
        let is_open = |owner: &&Key| self.entries.get(*owner).is_some_and(|e| e.programmed != Programmed::Yes);
        let owners = self.published.get(fleet).into_iter().flatten().map(|(_, owner)| owner);
        self.dirt.statuses.extend(owners.filter(is_open).cloned());
    }

    /// Works out again which nodes each fleet chooses, where that may have changed.
    pub(super) fn refresh_choices(&mut self) {
        for fleet in std::mem::take(&mut self.dirt.envoys) {
            self.envoys_moved(&fleet);
        }
        if !std::mem::take(&mut self.dirt.choices) {
            return;
        }
        let nodes = self.world.hub_nodes.as_deref().unwrap_or_default();
        let fleets = self.world.fleets.iter().map(|(key, _)| &key.name).chain(self.world.ledger.fleets());
        let spec = |fleet: &Arc<str>| self.world.fleets.find(&Key::cluster(Arc::clone(fleet))).map(|found| &found.spec);
        let choices = fleets.map(|fleet| (Arc::clone(fleet), chosen(fleet, spec(fleet), nodes))).collect();
        let before = std::mem::replace(&mut self.world.chosen, choices);
        let after = self.world.chosen.clone();
        for (fleet, now) in &after {
            let was = before.get(fleet).cloned().unwrap_or_default();
            for node in was.difference(now) {
                self.waits.leave(&(Arc::clone(fleet), Arc::clone(node)));
            }
            if was != *now {
                self.envoys_moved(fleet);
                self.dirt.fleets.insert(Arc::clone(fleet));
            }
        }
    }

    /// Lets time pass for the load balancers that wait. Those of a follower do not wait: it believes the leader.
    pub(super) fn refresh_waits(&mut self, now: Timestamp) {
        let heard = self.world.ledger.take_heard();
        match self.role {
            Role::Leader => {}
            Role::Follower => self.waits = Waits::default(),
        }
        for envoy in heard {
            if self.waits.acknowledged(&envoy, now) {
                self.dirt.fleets.insert(envoy.0);
            }
        }
        let due = self.waits.due(now);
        self.dirt.statuses.extend(due.balancers);
        self.dirt.fleets.extend(due.fleets);
    }

    /// How the Envoys that count take a load balancer. Of one that is programmed nothing is taken back while an Envoy holds it, but
    /// by an Envoy that held it, too, and refuses it now.
    pub(super) fn standing(
        &mut self,
        key: &Key,
        fleet: &Arc<str>,
        fragment: &[Resource],
        is_programmed: bool,
        now: Timestamp,
    ) -> Standing {
        let Words { holding, mut lacking, mut refusals } = self.words(fleet, fragment);
        self.waits.note(key, fleet, &lacking, &holding, now);
        let counts = |node: &Arc<str>| !self.waits.is_stopped(fleet, node);
        // Where none but those that stopped are left, their words are all there is.
        if !holding.is_empty() || lacking.iter().any(counts) {
            lacking.retain(counts);
            refusals.retain(|refusal| counts(&refusal.node));
        }
        if !holding.is_empty() && self.waits.is_overdue(key, now) {
            lacking.clear();
            refusals.clear();
        }
        if !holding.is_empty() && is_programmed {
            refusals.retain(|refusal| refusal.held_before);
        }
        let standing = match refusals.into_iter().next() {
            Some(Refusal { node, words, held_before: _ }) => Standing::Refused { node, message: words },
            None if !lacking.is_empty() => Standing::Awaited,
            None if !holding.is_empty() => Standing::Held,
            None => Standing::NoEnvoy,
        };
        match standing {
            Standing::Refused { .. } => self.waits.open(key, now),
            Standing::Awaited if !is_programmed => self.waits.open(key, now),
            Standing::Awaited | Standing::Held | Standing::NoEnvoy => self.waits.close(key),
        }
        standing
    }

    /// What the connected Envoys that the fleet chooses, and that ask for everything, say of some resources.
    fn words(&self, fleet: &Arc<str>, fragment: &[Resource]) -> Words {
        let mut words = Words::default();
        let Some(chosen) = self.world.chosen.get(fleet) else { return words };
        let takes = self.world.ledger.takes(fleet, fragment).filter(|(node, _)| chosen.contains(*node));
        for (node, taken) in takes {
            let node = Arc::clone(node);
            match taken {
                Taken::Holds => drop(words.holding.insert(node)),
                Taken::Lacks => drop(words.lacking.insert(node)),
                Taken::Refuses { words: said, held_before } => {
                    words.lacking.insert(Arc::clone(&node));
                    words.refusals.push(Refusal { node, words: said, held_before });
                }
            }
        }
        words
    }
}

/// What Envoys say of some resources. One that refuses them lacks them, too.
#[derive(Debug, Default)]
struct Words {
    holding: Nodes,
    lacking: Nodes,
    refusals: Vec<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    node: Arc<str>,
    words: Arc<str>,
    held_before: bool,
}
