//! Who gets an address now: the oldest first, whoever was waiting longest for what became free. Knows turns; plans are made
//! next door.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nave_api::names::{POOL_LABEL, RELEASE_FINALIZER, allocation_name};
use nave_api::tcp_load_balancer::IpFamily;
use nave_api::{IPAllocation, IPAllocationSpec, TCPLoadBalancer};

use super::Engine;
use super::owners::owner_of;
use super::plan::{Plan, plan};
use super::waiting::{Await, Turn};
use crate::Key;
use crate::key::{born, uid};
use crate::problem::Shortage;
use crate::records::Flight;
use crate::step::Step;

impl Engine {
    /// Plans the addresses of who was touched and of who waited for what became free, then settles whose each address is.
    pub(super) fn allocate(&mut self, steps: &mut Vec<Step>) {
        self.wake_quotas();
        let mut queue: BTreeSet<Turn> =
            std::mem::take(&mut self.dirt.wanting).iter().filter_map(|key| self.turn(key)).collect();
        let mut tried: BTreeSet<Turn> = BTreeSet::new();
        let mut surplus: BTreeSet<(IpAddr, Key)> = BTreeSet::new();
        loop {
            self.wake_waiting(&mut queue, &tried);
            if queue.is_empty() {
                break;
            }
            for turn in std::mem::take(&mut queue) {
                self.attempt(&turn, &mut surplus, steps);
                tried.insert(turn);
            }
        }
        for address in std::mem::take(&mut self.dirt.addresses) {
            self.settle_owners(address, &surplus, steps);
        }
    }

    /// Its age and name; who is gone waits no longer.
    fn turn(&mut self, key: &Key) -> Option<Turn> {
        let found = self.world.balancers.find(key).map(|balancer| (born(&balancer.metadata), key.clone()));
        if found.is_none() {
            self.waiting.leave(key);
        }
        found
    }

    /// For each address that became free, and is still, the oldest who waits for it or its like.
    fn wake_waiting(&self, queue: &mut BTreeSet<Turn>, tried: &BTreeSet<Turn>) {
        let mut called: BTreeSet<Turn> = tried.union(queue).cloned().collect();
        for address in self.dirt.freed.iter().filter(|address| !self.world.records.is_taken(**address)) {
            let like = |name: &Arc<str>| Await::Any(Arc::clone(name), IpFamily::of(*address));
            let mut awaited: Vec<Await> = self.world.pools.offering(*address).map(|(name, _)| like(name)).collect();
            awaited.push(Await::Exactly(*address));
            if let Some(turn) = self.waiting.oldest(awaited.iter(), &called) {
                called.insert(turn.clone());
                queue.insert(turn);
            }
        }
    }

    /// Those who were refused an address by their tenant's limit, where the tenant's usage or limit changed.
    fn wake_quotas(&mut self) {
        for namespace in &self.dirt.namespaces {
            for key in self.world.by_namespace.get(namespace).into_iter().flatten() {
                let shortage = self.entries.get(key).and_then(|entry| entry.shortage.as_ref());
                if matches!(shortage, Some(Shortage::Quota { .. })) {
                    self.dirt.wanting.insert(key.clone());
                }
            }
        }
    }

    fn attempt(&mut self, turn: &Turn, surplus: &mut BTreeSet<(IpAddr, Key)>, steps: &mut Vec<Step>) {
        let key = &turn.1;
        let Some(balancer) = self.world.balancers.find(key).cloned() else { return };
        let Plan { take, surplus: unneeded, shortage, awaits } = self.plan_one(key, &balancer);
        self.waiting.set(turn.clone(), awaits);
        let is_pending = !take.is_empty();
        for (address, pool) in take {
            self.record(address, &pool, key, &balancer, steps);
        }
        surplus.extend(unneeded.into_iter().map(|address| (address, key.clone())));
        self.dirt.addresses.extend(self.world.records.of_name(key).map(|(address, _)| address));
        self.dirt.statuses.insert(key.clone());
        if let Some(entry) = self.entries.get_mut(key) {
            entry.shortage = if is_pending { Some(Shortage::Pending) } else { shortage };
        }
    }

    fn plan_one(&self, key: &Key, balancer: &TCPLoadBalancer) -> Plan {
        let is_stopped = self.entries.get(key).is_none_or(super::serve::Entry::is_stopped);
        let Some(tenant) = self.world.tenant(&key.namespace).filter(|_| !is_stopped) else {
            let has_none = self.world.records.of(key, uid(&balancer.metadata)).next().is_none();
            return Plan { shortage: has_none.then_some(Shortage::NotAccepted), ..Plan::default() };
        };
        let planned = plan(&self.world, key, balancer, tenant);
        let Some(limit) = tenant.spec.quota.as_ref().and_then(|quota| quota.addresses) else { return planned };
        let added = planned.take.iter().filter(|(address, _)| self.world.records.find(*address).is_none()).count();
        let wanted = self.addresses_in(&key.namespace).saturating_add(u32::try_from(added).unwrap_or(u32::MAX));
        if added == 0 || wanted <= limit {
            return planned;
        }
        let tenant = tenant.metadata.name.clone().unwrap_or_default();
        Plan { shortage: Some(Shortage::Quota { tenant, limit }), ..Plan::default() }
    }

    /// Records the address as given: by creating its object, or by taking over one that its last owner left.
    fn record(&mut self, address: IpAddr, pool: &str, key: &Key, balancer: &TCPLoadBalancer, steps: &mut Vec<Step>) {
        let owner = owner_of(key, balancer);
        if let Some(left) = self.world.records.find(address) {
            let mut object = IPAllocation::clone(left);
            object.spec.owners = vec![owner];
            self.world.records.depart(address, Flight::Replace);
            steps.push(Step::ReplaceAllocation(object));
            return;
        }
        let metadata = ObjectMeta {
            name: Some(allocation_name(address)),
            finalizers: Some(vec![RELEASE_FINALIZER.to_owned()]),
            labels: Some([(POOL_LABEL.to_owned(), pool.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let spec =
            IPAllocationSpec { address: address.to_string(), pool: pool.to_owned(), group: None, owners: vec![owner] };
        self.world.records.depart(address, Flight::Create { owner: key.clone() });
        self.world.pools.take(address);
        self.dirt.namespaces.insert(Arc::clone(&key.namespace));
        steps.push(Step::CreateAllocation(IPAllocation { metadata, spec, status: None }));
    }
}
