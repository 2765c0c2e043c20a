//! Who gets an address now: the oldest first, whoever was waiting longest for what became free. Knows turns; plans are made
//! next door.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nave_api::ip_allocation::Owner;
use nave_api::names::{FLEET_LABEL, POOL_LABEL, RELEASE_FINALIZER};
use nave_api::tcp_load_balancer::IpFamily;
use nave_api::{IPAllocation, IPAllocationSpec, TCPLoadBalancer, Tenant};

use super::Engine;
use super::drafts::Drafts;
use super::owners::owner_of;
use super::plan::{Allowance, Plan, plan};
use super::waiting::{Await, Turn};
use crate::hold::Hold;
use crate::key::{born, uid};
use crate::pool::{Pool, is_everywhere};
use crate::problem::Shortage;
use crate::records::{Flight, owner_key, record_name};
use crate::step::Step;
use crate::{Key, Timestamp};

impl Engine {
    /// Plans the addresses of who was touched and of who waited for what became free, then settles whose each address is.
    pub(super) fn allocate(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        self.wake_quotas();
        let mut queue: BTreeSet<Turn> =
            std::mem::take(&mut self.dirt.wanting).iter().filter_map(|key| self.turn(key)).collect();
        let mut tried: BTreeSet<Turn> = BTreeSet::new();
        let mut drafts = Drafts::default();
        loop {
            self.wake_waiting(&mut queue, &tried);
            if queue.is_empty() {
                break;
            }
            for turn in std::mem::take(&mut queue) {
                self.attempt(&turn, &mut drafts);
                tried.insert(turn);
            }
        }
        self.dirt.addresses.extend(self.world.records.ended(now));
        while let Some((_, address)) = self.doubts.first().copied().filter(|(until, _)| *until <= now) {
            self.doubts.pop_first();
            self.dirt.addresses.insert(address);
        }
        for address in std::mem::take(&mut self.dirt.addresses) {
            self.settle_owners(address, now, &mut drafts, steps);
        }
        for object in drafts.into_objects() {
            steps.push(match object.metadata.resource_version {
                None => Step::CreateAllocation(object),
                Some(_) => Step::ReplaceAllocation(object),
            });
        }
    }

    /// Its age and name; who is gone waits no longer.
    fn turn(&mut self, key: &Key) -> Option<Turn> {
        let found = self.world.balancers.find(key).map(|balancer| (born(&balancer.metadata), key.clone()));
        if found.is_none() {
            self.waiting.leave(key);
            self.short.forget(key);
            self.lacking.remove(key);
            self.given_up.remove(key);
        }
        found
    }

    /// For each address that became free, and is still, the oldest who waits for it or its like.
    fn wake_waiting(&self, queue: &mut BTreeSet<Turn>, tried: &BTreeSet<Turn>) {
        let mut called: BTreeSet<Turn> = tried.union(queue).cloned().collect();
        // Whose record was deleted by hand, and who is there to take it again, comes first.
        let lives = |owner: &Owner| {
            let key = owner_key(owner)?;
            let metadata = &self.world.balancers.find(&key)?.metadata;
            (uid(metadata) == owner.uid).then(|| (born(metadata), key))
        };
        let is_reclaimed = |address: &IpAddr| {
            let owners = self.dirt.gone.get(address).into_iter().flat_map(|object| &object.spec.owners);
            owners.filter_map(lives).any(|turn| queue.contains(&turn))
        };
        let reclaimed: BTreeSet<IpAddr> = self.dirt.freed.iter().copied().filter(is_reclaimed).collect();
        let freed = self.dirt.freed.difference(&reclaimed);
        for address in freed.filter(|address| !self.world.is_taken(**address)) {
            let like = |name: &Arc<str>| Await::Any(Arc::clone(name), IpFamily::of(*address));
            let giving = self.world.pools.offering(*address).filter(|(_, pool)| pool.gives_unasked(*address));
            let mut awaited: Vec<Await> = giving.map(|(name, _)| like(name)).collect();
            awaited.push(Await::Exactly(*address));
            if let Some(turn) = self.waiting.oldest(awaited.iter(), &called) {
                called.insert(turn.clone());
                queue.insert(turn);
            }
        }
        // On an address that is shared, room may be for any number of the tenant's others; on all addresses of the nodes, for
        // any cloud's load balancers.
        let everywhere = self.dirt.freed.iter().filter(|address| is_everywhere(**address));
        for address in self.dirt.stirred.iter().chain(everywhere) {
            let gives = |pool: &Pool| {
                pool.shares() && if is_everywhere(*address) { pool.service().is_some() } else { pool.offers(*address) }
            };
            let shared = self.world.pools.iter().filter(|(_, pool)| gives(pool));
            let awaited = shared.map(|(name, _)| Await::Any(Arc::clone(name), IpFamily::of(*address)));
            let object = self.world.records.find(*address);
            let owners = object.into_iter().flat_map(|object| &object.spec.owners);
            let namespaces: BTreeSet<&str> = owners.map(|owner| owner.namespace.as_str()).collect();
            let own = namespaces.into_iter().map(|namespace| Await::Own(namespace.into()));
            for what in awaited.chain(own).chain([Await::Exactly(*address)]) {
                queue.extend(self.waiting.all(&what).filter(|turn| !called.contains(*turn)).cloned());
            }
        }
    }

    /// Those who lack something, where their tenant may have one more address, or two, and could not when they were looked at.
    fn wake_quotas(&mut self) {
        for namespace in &self.dirt.namespaces {
            let tenant = self.world.tenant(namespace);
            let allowance = tenant.and_then(|tenant| self.allowance(namespace, tenant));
            let touched = self.short.otherwise_than(namespace, allowance.map(|allowance| allowance.left));
            self.dirt.wanting.extend(touched.cloned());
        }
    }

    fn attempt(&mut self, turn: &Turn, drafts: &mut Drafts) {
        let key = &turn.1;
        let Some(balancer) = self.world.balancers.find(key).cloned() else { return };
        let Plan { take, surplus: unneeded, shortage, awaits, short_at } = self.plan_one(key, &balancer, drafts);
        let is_pending = !take.is_empty();
        if is_pending || shortage.is_some() || !awaits.is_empty() {
            self.lacking.insert(key.clone());
        } else {
            self.lacking.remove(key);
            self.given_up.remove(key);
        }
        self.waiting.set(turn.clone(), awaits);
        for (address, pool) in take {
            self.record(address, &pool, key, &balancer, drafts);
        }
        self.given_up.remove(key);
        for address in unneeded {
            drafts.give_up(address, key);
            self.give_up_delivered(address, key);
        }
        self.dirt.addresses.extend(self.world.records.of_name(key).map(|(address, _)| address));
        self.dirt.statuses.insert(key.clone());
        match short_at {
            Some(left) => self.short.note(key, left),
            None => self.short.forget(key),
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.shortage = if is_pending { Some(Shortage::Pending) } else { shortage };
        }
    }

    fn plan_one(&self, key: &Key, balancer: &TCPLoadBalancer, drafts: &Drafts) -> Plan {
        let entry = self.entries.get(key);
        if entry.is_some_and(|entry| entry.frozen.is_some()) {
            return Plan { shortage: entry.and_then(|entry| entry.shortage.clone()), ..Plan::default() };
        }
        let is_stopped = entry.is_none_or(super::serve::Entry::is_stopped);
        let Some(tenant) = self.world.tenant(&key.namespace).filter(|_| !is_stopped) else {
            let has_none = self.world.records.of(key, uid(&balancer.metadata)).next().is_none();
            return Plan { shortage: has_none.then_some(Shortage::NotAccepted), ..Plan::default() };
        };
        plan(&self.world, drafts, key, balancer, tenant, self.allowance(&key.namespace, tenant))
    }

    /// How many more addresses the tenant may have, where that is limited.
    fn allowance(&self, namespace: &Arc<str>, tenant: &Tenant) -> Option<Allowance> {
        let limit = tenant.spec.quota.as_ref().and_then(|quota| quota.addresses)?;
        let left = limit.saturating_sub(self.addresses_in(namespace)) as usize;
        let tenant = tenant.metadata.name.clone().unwrap_or_default();
        Some(Allowance { left, shortage: Shortage::Quota { tenant, limit } })
    }

    /// Drafts the address as given: by creating its object, by taking over one that its last owner left, or by joining the
    /// owners of one.
    fn record(&mut self, address: IpAddr, pool: &str, key: &Key, balancer: &TCPLoadBalancer, drafts: &mut Drafts) {
        let ports = self.world.granted(key, balancer);
        let mut owner = owner_of(key, balancer, &ports);
        let left = drafts
            .find(address)
            .cloned()
            .or_else(|| self.world.records.find(address).map(|left| IPAllocation::clone(left)));
        let space = self.world.pools.find(pool);
        let fleet = space.filter(|_| is_everywhere(address)).map(|space| space.spec().fleet());
        let mut object = left.unwrap_or_else(|| made(address, pool, fleet));
        if space.is_some_and(Pool::counts_ports) {
            owner.ports = self.world.owned_ports(address, pool, &object, key, &ports);
        }
        Hold::clear(&mut object);
        object.spec.owners.retain(|other| owner_key(other).as_ref() != Some(key));
        object.spec.owners.push(owner);
        object.spec.owners.sort();
        if self.world.records.flight(address).is_some() {
            self.world.records.board(address, key);
        } else if object.metadata.resource_version.is_some() {
            self.world.records.depart(address, Flight::Replace { owners: [key.clone()].into() });
        } else {
            self.world.records.depart(address, Flight::Create { owners: [key.clone()].into() });
            self.world.pools.take(address);
        }
        self.begins(key);
        self.dirt.namespaces.insert(Arc::clone(&key.namespace));
        drafts.put(&key.namespace, address, object);
    }
}

/// The object that records an address, without an owner yet. `fleet`: on all of whose nodes it is.
fn made(address: IpAddr, pool: &str, fleet: Option<&str>) -> IPAllocation {
    let of_fleet = fleet.map(|fleet| (FLEET_LABEL.to_owned(), fleet.to_owned()));
    let metadata = ObjectMeta {
        name: Some(record_name(address, pool)),
        finalizers: Some(vec![RELEASE_FINALIZER.to_owned()]),
        labels: Some([(POOL_LABEL.to_owned(), pool.to_owned())].into_iter().chain(of_fleet).collect()),
        ..ObjectMeta::default()
    };
    let address = (!is_everywhere(address)).then(|| address.to_string());
    let spec = IPAllocationSpec { address, pool: pool.to_owned(), group: None, owners: Vec::new() };
    IPAllocation { metadata, spec, status: None }
}
