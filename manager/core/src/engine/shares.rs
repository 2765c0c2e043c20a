//! Where the descriptors of a fleet's Envoys meet what load balancers ask for. Knows fleets, openings and fragments; who gets how much is
//! decided in `budget`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nave_api::fleet::EnvoyFiles;
use nave_api::tcp_load_balancer::{PortSessions, Protocol};
use nave_api::{TCPLoadBalancer, TCPLoadBalancerStatus};
use nave_xds::files::Files;
use nave_xds::resource::{Key as ResourceKey, Resource, ResourceType};

use super::Engine;
use super::serve::Entry;
use super::world::World;
use crate::budget::{Ask, Changes, Room, Sessions};
use crate::compile::{Opening, Settled};
use crate::key::born;
use crate::problem::{PortShare, Problem};
use crate::seen::Role;
use crate::{Key, Timestamp};

/// What is counted of Envoys that do not say what they may open.
const ASSUMED: (u64, u64) = (20_000, 4);
/// So many changes of its listeners a tenant has under way at least, however little there is to open.
const CHANGES: u64 = 100;

/// What a fleet's Envoys may open, and what of it is given.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// What its Envoys may open; empty where none says so.
    files: BTreeSet<Files>,
    sessions: Sessions,
    changes: Changes,
    /// Listeners that are published, ...
    listeners: u64,
    /// ... and those of each namespace.
    of_namespaces: BTreeMap<Arc<str>, u64>,
    /// What was said of [`Share::is_short`] last.
    was_short: bool,
}

impl Share {
    /// UDP sessions that all ports together may promise.
    fn sessions(&self) -> u32 {
        let listeners = self.listeners + self.changes.sum();
        let least = self.files.iter().map(|files| files.sessions(listeners)).min();
        least.unwrap_or_else(|| Files::of(ASSUMED.0, ASSUMED.1).sessions(listeners))
    }

    /// Changes that a tenant may have under way.
    fn changes(&self) -> u64 {
        let least = self.files.iter().map(|files| u64::from(files.limit / 20 / files.workers).max(CHANGES)).min();
        least.unwrap_or(u64::MAX)
    }

    /// What this tenant may begin now. Changes of listeners that are there may also use half of the reserve: edits of one tenant reach the
    /// Envoys when other tenants have all the listeners.
    fn left(&self, namespace: &Arc<str>) -> Left {
        let all = self.files.iter().map(|files| files.listeners(self.sessions.sum())).min().unwrap_or(u64::MAX);
        let reserve = self.files.iter().map(|files| u64::from(files.limit / 20 / files.workers)).min().unwrap_or(0);
        let used = self.listeners + self.changes.sum();
        let own = self.of_namespaces.get(namespace).copied().unwrap_or(0);
        Left {
            own_changes: self.changes().saturating_sub(self.changes.of(namespace)),
            changes: all.saturating_add(reserve).saturating_sub(used),
            new: all.saturating_sub(used).min((all / 2).saturating_sub(own)),
        }
    }

    /// Whether load balancers get less than they ask for, or wait.
    pub fn is_short(&self) -> bool {
        self.was_short
    }

    /// A listener of the namespace was published, or is no longer.
    pub fn counts(&mut self, key: &ResourceKey, namespace: &Arc<str>, is_new: bool) {
        if key.0 != ResourceType::Listener {
            return;
        }
        let step = |count: u64| if is_new { count + 1 } else { count.saturating_sub(1) };
        self.listeners = step(self.listeners);
        let own = self.of_namespaces.entry(Arc::clone(namespace)).or_default();
        *own = step(*own);
        if *own == 0 {
            self.of_namespaces.remove(namespace);
        }
    }
}

/// What a tenant may begin in a fleet.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Changes and removals of listeners, by the tenant's own share, ...
    own_changes: u64,
    /// ... and by what the Envoys can open.
    changes: u64,
    /// Listeners that are not there yet: a tenant has at most half of all.
    new: u64,
}

impl World {
    /// What the Envoys of a fleet may open: those that said so in this life as they say, others as was recorded. An Envoy of a node
    /// that the Fleet does not choose, or of a revoked node that is away, says nothing that counts.
    fn files(&self, fleet: &str) -> BTreeSet<Files> {
        let Some(chosen) = self.chosen.get(fleet) else { return BTreeSet::new() };
        let object = self.fleets.find(&Key::cluster(fleet));
        let revoked = object.into_iter().flat_map(|fleet| &fleet.spec.revoked).map(|revoked| revoked.node.as_str());
        let connected = self.ledger.nodes(fleet).filter(|(_, presence)| presence.connected);
        let connected: BTreeSet<&str> = connected.map(|(name, _)| name.as_ref()).collect();
        let revoked: BTreeSet<&str> = revoked.filter(|node| !connected.contains(node)).collect();
        let counts = |name: &str| chosen.contains(name) && !revoked.contains(name);
        let said = self.ledger.files(fleet).filter(|(name, _)| counts(name.as_ref()));
        let said: BTreeMap<&str, Files> = said.filter_map(|(name, files)| Some((name.as_ref(), files?))).collect();
        let status = object.and_then(|fleet| fleet.status.as_ref());
        let recorded = status.into_iter().flat_map(|status| &status.nodes).filter_map(|node| {
            let EnvoyFiles { limit, workers, connections } = node.envoy?.files?;
            let files = Files::of(limit.into(), workers.into()).with_connections(connections.into());
            (counts(&node.name) && !said.contains_key(node.name.as_str())).then_some(files)
        });
        said.values().copied().chain(recorded).collect()
    }
}

impl Engine {
    /// Forgets changes that the Envoys worked off, and looks again at what waited for that and at what the Envoys may open.
    pub(super) fn refresh_shares(&mut self, now: Timestamp) {
        let mut again: Vec<Key> = self.shares.values_mut().flat_map(|share| share.changes.expire(now)).collect();
        for fleet in &self.dirt.fleets {
            let files = self.world.files(fleet);
            let share = self.shares.entry(Arc::clone(fleet)).or_default();
            if share.files != files {
                share.files = files;
                share.sessions.grown();
                again.extend(share.changes.waiting());
            }
        }
        for key in again {
            self.dirt.balancers.insert(key.clone());
            self.dirt.statuses.insert(key);
        }
    }

    /// When a change that waits may be served, so that everybody settles then at the latest, whether it leads or follows.
    pub fn serves_at(&self) -> Option<Timestamp> {
        self.shares.values().filter_map(|share| share.changes.wakes_at()).min().filter(|_| self.is_synced())
    }

    /// Counts the sessions that statuses record, also of load balancers of which nothing can be decided now.
    pub(super) fn remember_sessions(&mut self) {
        for key in &self.dirt.balancers {
            let Some(balancer) = self.world.balancers.find(key) else { continue };
            let recorded = recorded(balancer.status.as_ref());
            let Some(entry) = self.entries.get_mut(key).filter(|_| !recorded.is_empty()) else { continue };
            if entry.fleet.is_empty() {
                let Some(tenant) = self.world.tenant(&key.namespace) else { continue };
                entry.fleet = tenant.spec.fleet().into();
            }
            self.shares.entry(Arc::clone(&entry.fleet)).or_default().sessions.remember(key, &recorded);
        }
    }

    /// What each UDP port that would be open may promise its clients. A port that gets nothing is closed.
    pub(super) fn promise(
        &mut self,
        key: &Key,
        balancer: &TCPLoadBalancer,
        entry: &mut Entry,
        fleet: &Arc<str>,
        settled: &Settled,
        openings: &mut Vec<Opening>,
    ) {
        if entry.fleet != *fleet {
            self.release(key, &entry.fleet);
        }
        let is_open = |(_, (protocol, port), _): &Opening| (*protocol == Protocol::Udp).then_some(*port);
        let ports: BTreeSet<u16> = openings.iter().filter_map(is_open).collect();
        let ask = Ask {
            born: born(&balancer.metadata),
            wants: ports.iter().map(|port| (*port, settled.max_sessions)).collect(),
            recorded: recorded(entry.said.as_ref().or(balancer.status.as_ref())),
            obeys: self.role == Role::Follower,
        };
        let quota = self.world.tenant(&key.namespace).and_then(|tenant| tenant.spec.quota.as_ref()?.connections);
        let share = self.shares.entry(Arc::clone(fleet)).or_default();
        let all = share.sessions();
        let room = Room { fleet: all, tenant: (all / 2).min(quota.unwrap_or(u32::MAX)) };
        entry.sessions = share.sessions.decide(key, &ask, room);
        let before = openings.len();
        openings.retain(|(_, (protocol, port), _)| match protocol {
            Protocol::Tcp => true,
            Protocol::Udp => entry.sessions.get(port).is_some_and(|sessions| *sessions > 0),
        });
        let ports: Vec<PortShare> = entry
            .sessions
            .iter()
            .map(|(port, has)| PortShare { port: *port, has: *has, wants: settled.max_sessions })
            .filter(|port| port.has < port.wants)
            .collect();
        let all_closed = openings.is_empty() && before > 0;
        let limited = Problem::SessionsLimited { fleet: fleet.to_string(), ports, all_closed };
        entry.shares =
            (entry.sessions.values().any(|has| *has < settled.max_sessions)).then_some(limited).into_iter().collect();
    }

    /// Its ports promise nothing in this fleet any more, and nothing of it waits there.
    pub(super) fn release(&mut self, key: &Key, fleet: &Arc<str>) {
        if let Some(share) = self.shares.get_mut(fleet) {
            share.sessions.release(key);
            share.changes.wait(key, false);
        }
    }

    /// Load balancers that may have more sessions since others ended.
    pub(super) fn hungry(&mut self) -> Vec<Key> {
        self.shares
            .values_mut()
            .flat_map(|share| {
                let all = share.sessions();
                share.sessions.hungry(all)
            })
            .collect()
    }

    /// Takes back what of a fragment must wait: listeners beyond those that the tenant may add or change now. A listener that waits
    /// stays as it was, with the clusters that it leads to, or is not there yet. What is removed cannot wait; it counts. A load balancer
    /// that `serves`, by its status, and of which this manager served nothing yet has its listeners in the Envoys: they do not wait.
    pub(super) fn paced(
        &mut self,
        key: &Key,
        entry: &mut Entry,
        fleet: &Arc<str>,
        (before, after): (&[Resource], Vec<Resource>),
        serves: bool,
        now: Timestamp,
    ) -> Vec<Resource> {
        let before: &[Resource] = if entry.fleet == *fleet { before } else { &[] };
        let old: BTreeMap<ResourceKey, &Resource> = before.iter().map(|resource| (resource.key(), resource)).collect();
        let published = self.published.get(fleet);
        let is_listener = |resource: &Resource| resource.kind() == ResourceType::Listener;
        let share = self.shares.entry(Arc::clone(fleet)).or_default();
        let (mut left, mut changed) = (share.left(&key.namespace), 0);
        let mut paced: BTreeMap<ResourceKey, Resource> = BTreeMap::new();
        let mut kept: Vec<&Resource> = Vec::new();
        entry.waits = false;
        for resource in after {
            let was = old.get(&resource.key()).copied();
            let is_new = is_listener(&resource) && was != Some(&resource);
            // Also where another load balancer had it: Envoy changes it in place.
            let changes = is_new && (was.is_some() || published.is_some_and(|all| all.contains_key(&resource.key())));
            let room = if changes { left.changes } else { left.new };
            if is_new && !serves && (left.own_changes == 0 || room == 0) {
                entry.waits = true;
                kept.extend(was);
                continue;
            }
            changed += u64::from(changes);
            left.own_changes = left.own_changes.saturating_sub(u64::from(changes));
            left.changes = left.changes.saturating_sub(u64::from(is_new));
            left.new = left.new.saturating_sub(u64::from(is_new && !changes));
            paced.insert(resource.key(), resource);
        }
        for listener in kept {
            let leads = |resource: &&&Resource| listener.clusters().contains(resource.name()) && !is_listener(resource);
            for resource in std::iter::once(&listener).chain(before.iter().collect::<Vec<_>>().iter().filter(leads)) {
                paced.entry(resource.key()).or_insert_with(|| (*resource).clone());
            }
        }
        let gone =
            before.iter().filter(|resource| is_listener(resource) && !paced.contains_key(&resource.key())).count();
        share.changes.note(&key.namespace, changed + gone as u64, now);
        share.changes.wait(key, entry.waits);
        let led: BTreeSet<Arc<str>> =
            paced.values().flat_map(|resource| resource.clusters().iter()).map(Arc::clone).collect();
        paced.into_values().filter(|resource| is_listener(resource) || led.contains(resource.name())).collect()
    }

    /// Listeners of a load balancer that is gone, or moved to another fleet.
    pub(super) fn removed(&mut self, key: &Key, fleet: &Arc<str>, fragment: &[Resource], now: Timestamp) {
        let gone = fragment.iter().filter(|resource| resource.kind() == ResourceType::Listener).count();
        if let Some(share) = self.shares.get_mut(fleet) {
            share.changes.note(&key.namespace, gone as u64, now);
        }
        self.release(key, fleet);
    }

    /// Marks the fleets of which something else is to be said than was.
    pub(super) fn notice_shortages(&mut self) {
        for (fleet, share) in &mut self.shares {
            let is_short = share.sessions.is_short() || share.changes.is_waited_for();
            if std::mem::replace(&mut share.was_short, is_short) != is_short {
                self.dirt.fleets.insert(Arc::clone(fleet));
            }
        }
    }
}

/// The sessions of its UDP ports, by its status.
fn recorded(status: Option<&TCPLoadBalancerStatus>) -> BTreeMap<u16, u32> {
    let recorded = status.into_iter().flat_map(|status| &status.sessions);
    recorded.map(|PortSessions { port, limit }| (*port, *limit)).collect()
}
