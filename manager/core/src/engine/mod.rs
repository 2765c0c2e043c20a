//! The engine: what it was told, what it said, and what follows. Knows the order of decisions; each is made in its own room.

mod allocate;
mod dirt;
mod drafts;
mod fleet;
mod held;
mod moves;
mod observe;
mod orders;
mod overview;
mod owners;
mod plan;
mod pools;
mod programmed;
mod quota;
mod request;
mod serve;
mod shares;
mod short;
mod standing;
mod status;
mod turns;
mod unreadable;
mod waiting;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::tenant::Usage;
use nave_api::{Condition, FleetStatus, IPPoolStatus};
use nave_xds::resource::{Key as ResourceKey, Resource};

use crate::backends::neighbours::foreign;
use crate::limits::Line;
use crate::seen::{Role, Settings};
use crate::step::{Outcome, Step};
use crate::waits::Waits;
use crate::{Key, Timestamp};
use dirt::Dirt;
use held::Limits;
use serve::Entry;
use shares::Share;
use short::Short;
use turns::Turns;
use unreadable::Kept;
pub use unreadable::Kind;
use waiting::Waiting;
use world::World;

/// Decides who gets which address and what Envoy serves.
#[derive(Debug, Default)]
pub struct Engine {
    world: World,
    dirt: Dirt,
    /// Load balancers whose nodes changed.
    turns: Turns,
    /// What was decided of each load balancer.
    entries: BTreeMap<Key, Entry>,
    /// Whose each published resource is, by fleet.
    published: BTreeMap<Arc<str>, BTreeMap<ResourceKey, Key>>,
    /// What each fleet's Envoys may open, and who has what of it.
    shares: BTreeMap<Arc<str>, Share>,
    /// The limits of connections that each fleet's Envoys look up.
    limits: BTreeMap<Arc<str>, Limits>,
    /// What the load balancers of each namespace ask for; addresses are counted apart.
    lines: BTreeMap<Arc<str>, Line>,
    short: Short,
    /// Load balancers that have not all that they ask for.
    lacking: BTreeSet<Key>,
    waiting: Waiting,
    /// Load balancers that ask for an address no longer, where a cloud may deliver to them still.
    given_up: BTreeMap<Key, BTreeSet<IpAddr>>,
    /// Records whose owner was never seen, and until when it may yet be.
    doubts: BTreeSet<(Timestamp, IpAddr)>,
    /// What Envoys keep, since it is not known what becomes of it.
    kept: Kept,
    said: Said,
    /// Which Envoys load balancers wait for.
    waits: Waits,
    /// As what this was asked to decide last.
    role: Role,
}

/// What was said of objects that have no entry of their own, until the world says the same.
#[derive(Debug, Default)]
struct Said {
    pools: Sayings<IPPoolStatus>,
    tenants: Sayings<(Usage, Vec<Condition>)>,
    fleets: Sayings<FleetStatus>,
    unreadable: unreadable::Reports,
}

/// What was said of objects of a kind, by name, with the uid of the object: one made later under the name is another one.
type Sayings<T> = BTreeMap<Arc<str>, (String, T)>;

/// What was said of this object and is not yet seen, else what is seen. Forgotten when it is seen, or was said of another.
fn last<'a, T: PartialEq>(said: &'a mut Sayings<T>, name: &str, uid: &str, seen: Option<&'a T>) -> Option<&'a T> {
    if said.get(name).is_some_and(|(of, saying)| of != uid || Some(saying) == seen) {
        said.remove(name);
    }
    said.get(name).map(|(_, saying)| saying).or(seen)
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let mut engine = Self::default();
        engine.world.settings = settings;
        engine
    }

    /// Whether every kind was listed once, and the hub's networks were told. Until then [`Engine::settle`] yields nothing.
    pub fn is_synced(&self) -> bool {
        self.world.is_synced()
    }

    /// Decides what the observations since the last call change.
    pub fn settle(&mut self, role: Role, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.is_synced() {
            return outcome;
        }
        self.role = role;
        self.refresh_unknown_allocations();
        self.refresh_pools();
        self.refresh_networks();
        self.refresh_choices();
        self.refresh_waits(now);
        self.recall_last_owners();
        self.refresh_shares(now);
        for key in self.turns.take() {
            self.dirt.statuses.insert(key.clone());
            self.dirt.balancers.insert(key);
        }
        let judged = self.judge();
        match role {
            Role::Leader => self.allocate(now, &mut outcome.steps),
            Role::Follower => {}
        }
        outcome.publish = self.serve(judged, now);
        outcome.keep = self.kept.news();
        match role {
            Role::Leader => {
                self.write_orders(&mut outcome.steps);
                self.write_statuses(now, &mut outcome.steps);
                self.write_overviews(now, &mut outcome.steps);
                self.report_unreadable(now, &mut outcome.steps);
            }
            Role::Follower => self.adopt_statuses(),
        }
        self.dirt = Dirt::default();
        outcome
    }

    /// Whether load balancers wait for their turn: [`Engine::settle`] is to be called again at once, after what was observed
    /// meanwhile.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty() && self.is_synced()
    }

    /// When something ends by itself, so that a leader calls [`Engine::settle`] then at the latest: an address is kept for
    /// its last owner no longer, an owner that was never seen will not be seen any more, or an Envoy is waited for no longer. Once
    /// settled as a leader, it names a later moment.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        let doubt = self.doubts.first().map(|(until, _)| *until);
        let ends = self.world.records.first_end().into_iter().chain(doubt).chain(self.waits.next());
        ends.min().filter(|_| self.is_synced())
    }

    /// Forgets what was said and what was under way, so that the next [`Engine::settle`] decides everything anew: after an
    /// election, when the steps of an earlier lead are lost. Where the world is as it should be, nothing follows.
    pub fn replan(&mut self) {
        for address in self.world.records.flying() {
            self.abort(address);
        }
        self.world.supply.forget_all();
        self.waits = Waits::default();
        self.forget_reports();
        self.compare();
    }

    /// Forgets what was said, so that the next [`Engine::settle`] compares everything with what was seen: from time to time.
    /// What is under way goes on: steps that wait to be performed are not decided a second time.
    pub fn compare(&mut self) {
        let unreadable = std::mem::take(&mut self.said.unreadable);
        self.said = Said { unreadable, ..Said::default() };
        self.world.supply.forget_orders();
        self.review_orders();
        self.entries.values_mut().for_each(Entry::forget_said);
        for (key, _) in self.world.balancers.iter() {
            self.dirt.balancer(key);
            self.dirt.namespaces.insert(Arc::clone(&key.namespace));
        }
        self.dirt.addresses.extend(self.world.records.addresses());
        self.dirt.pool_statuses.extend(self.world.pool_objects.iter().map(|(key, _)| Arc::clone(&key.name)));
        self.dirt.fleets.extend(self.world.fleets.iter().map(|(key, _)| Arc::clone(&key.name)));
        let tenants = self.world.tenants.iter();
        self.dirt.namespaces.extend(tenants.map(|(key, _)| nave_api::names::tenant_namespace(&key.name).into()));
    }

    /// A step could not be performed, for good; what was met instead has been observed before this call.
    pub fn failed(&mut self, step: &Step) {
        match step {
            Step::CreateAllocation(object) | Step::ReplaceAllocation(object) => {
                if let Some(address) = crate::records::place(object) {
                    self.abort(address);
                    let owners = object.spec.owners.iter().filter_map(crate::records::owner_key);
                    self.dirt.wanting.extend(owners);
                }
            }
            Step::ReleaseAllocation { name, uid: _, resource_version: _ } => {
                let named = |address: &IpAddr| {
                    let object = self.world.records.find(*address);
                    object.is_some_and(|object| object.metadata.name.as_ref() == Some(name))
                };
                let address = self.world.records.flying().into_iter().find(named);
                if let Some(address) = address {
                    self.abort(address);
                }
            }
            Step::WriteLoadBalancerStatus { key, .. } => {
                self.entries.get_mut(key).into_iter().for_each(Entry::forget_said);
                self.dirt.statuses.insert(key.clone());
            }
            Step::WritePoolStatus { name, .. } => {
                self.said.pools.remove(name.as_str());
                self.dirt.pool_statuses.insert(name.as_str().into());
            }
            Step::WriteTenantStatus { name, .. } => {
                self.said.tenants.remove(name.as_str());
                self.dirt.namespaces.insert(nave_api::names::tenant_namespace(name).into());
            }
            Step::WriteFleetStatus { name, .. } => {
                self.said.fleets.remove(name.as_str());
                self.dirt.fleets.insert(name.as_str().into());
            }
            Step::ReportUnreadable(report) => self.report_failed(report),
            Step::Order(order) => {
                self.world.supply.forget(&order.id);
                self.dirt.orders.insert((order.pool.as_str().into(), order.owner.clone()));
            }
            Step::Withdraw { id } => {
                self.world.supply.forget(id);
                let delivery = self.world.supply.find(id);
                self.dirt
                    .orders
                    .extend(delivery.map(|delivery| (delivery.pool.as_str().into(), delivery.owner.clone())));
            }
            Step::Announce(_) => {}
        }
    }

    /// Everything that a fleet serves now, sorted by type and name.
    pub fn resources(&self, fleet: &str) -> Vec<Resource> {
        let fragments = self.entries.values().filter(|entry| *entry.fleet == *fleet).flat_map(|entry| &entry.fragment);
        let limits = self.limits.get(fleet).into_iter().flat_map(|limits| limits.resources.values());
        let by_key: BTreeMap<ResourceKey, Resource> = fragments.chain(limits).map(|r| (r.key(), r.clone())).collect();
        by_key.into_values().collect()
    }

    /// Forgets what is under way on the address.
    fn abort(&mut self, address: IpAddr) {
        self.dirt.addresses.insert(address);
        for owner in self.world.records.find(address).into_iter().flat_map(|object| &object.spec.owners) {
            if let Some(owner) = crate::records::owner_key(owner) {
                self.dirt.balancer(&owner);
            }
        }
        let was_taken = self.world.records.is_taken(address);
        self.dirt.stirred.insert(address);
        for owner in self.world.records.abort(address) {
            self.dirt.namespaces.insert(Arc::clone(&owner.namespace));
            self.dirt.wanting.insert(owner.clone());
            self.dirt.statuses.insert(owner);
        }
        if was_taken && !self.world.is_taken(address) {
            self.free(address);
        }
    }

    /// Takes in what statuses of pools say from an earlier life.
    fn recall_last_owners(&mut self) {
        let World { pool_objects, records, .. } = &mut self.world;
        for name in &self.dirt.pool_statuses {
            let Some(object) = pool_objects.find(&Key::cluster(Arc::clone(name))) else { continue };
            if records.former.is_unread(name) {
                let said = object.status.as_ref().map(|status| status.last_owners.as_slice()).unwrap_or_default();
                let taken: BTreeSet<IpAddr> = said.iter().filter_map(|last| last.address.parse().ok()).collect();
                let taken: BTreeSet<IpAddr> = taken.into_iter().filter(|address| records.is_taken(*address)).collect();
                records.former.adopt(name, said, |address| taken.contains(&address));
            }
        }
        self.dirt.pool_statuses.extend(records.former.take_touched().into_iter().map(Arc::from));
    }

    /// Works out anew which networks tenants yield to each other, where one of them changed.
    fn refresh_networks(&mut self) {
        if !self.dirt.networks {
            return;
        }
        let now = foreign(self.world.tenants.iter().map(|(_, tenant)| tenant));
        let before = std::mem::replace(&mut self.world.foreign, now);
        let names: BTreeSet<&String> = before.keys().chain(self.world.foreign.keys()).collect();
        let turned = names.into_iter().filter(|name| before.get(*name) != self.world.foreign.get(*name));
        let namespaces: Vec<String> = turned.map(|name| nave_api::names::tenant_namespace(name)).collect();
        for namespace in namespaces {
            self.world.forget_reaches_in(&namespace);
            self.dirt.namespaces.insert(namespace.as_str().into());
            for key in self.world.by_namespace.get(namespace.as_str()).into_iter().flatten() {
                self.dirt.balancer(key);
            }
        }
    }
}
