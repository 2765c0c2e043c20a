//! What a change of pools, or of what else no backend may lie in, touches. Knows who has, who lacks and whose backends lie
//! where; a pool that many have addresses of is edited at no cost to the others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Engine;
use crate::backends::places::Namer;
use crate::pool::{Pool, Spans, is_everywhere};
use crate::records::owner_key;
use crate::{Delivery, Key};

impl Engine {
    /// Works out anew the pools that changed and those that they overlap, and marks everybody whom that concerns.
    pub(super) fn refresh_pools(&mut self) {
        let named = std::mem::take(&mut self.dirt.pools);
        if !named.is_empty() {
            let was_cloud = self.has_clouds(&named);
            let (objects, records) = (&self.world.pool_objects, &self.world.records);
            let find = |name: &Arc<str>| objects.find(&Key::cluster(Arc::clone(name))).cloned();
            let changed = self.world.pools.update(named, find, |spans| records.taken_in(spans));
            self.dirt.barred.extend(&changed.included);
            // An allocation may move to a pool that gives its address now, and says so no longer of one that did.
            let crossed = records.taken_in(&changed.included).into_iter().collect::<Vec<_>>();
            self.dirt.addresses.extend(&crossed);
            self.touch_owners(&crossed);
            let is_cloud = self.has_clouds(&changed.names);
            for name in changed.names {
                let mut addresses: Vec<IpAddr> = self.world.records.of_pool(&name).collect();
                addresses.extend(self.strangers(&name));
                self.dirt.addresses.extend(&addresses);
                self.dirt.recorded.extend(&addresses);
                self.touch_owners(&addresses);
                self.dirt.pool_statuses.insert(name);
            }
            if was_cloud || is_cloud || changed.included != Spans::default() {
                // The ports of the nodes are everybody's who has some there, whichever pool gave them, and are closed on the
                // addresses of the other pools.
                self.touch_wildcards();
            }
            if was_cloud || is_cloud {
                self.review_orders();
            }
            self.dirt.wanting.extend(self.lacking.iter().cloned());
        }
        self.refresh_strays();
        let barred = std::mem::take(&mut self.dirt.barred);
        for namer in self.world.places.within(&barred) {
            match namer {
                Namer::NodeSet(key) => self.node_set_turned(&key),
                Namer::Balancer(key) => {
                    self.dirt.statuses.insert(key.clone());
                    self.dirt.balancers.insert(key);
                }
            }
        }
    }

    /// The addresses that the pool gives and another pool's allocations record: they may move.
    fn strangers(&self, name: &str) -> Vec<IpAddr> {
        let records = &self.world.records;
        let within = self.world.pools.find(name).map(|pool| records.taken_in(pool.given())).unwrap_or_default();
        let is_strange = |address: &IpAddr| records.find(*address).is_some_and(|object| object.spec.pool != name);
        within.into_iter().filter(is_strange).collect()
    }

    /// What is somebody's is closed to the ports of the nodes, and is no backend, also where its pool has lost it.
    fn refresh_strays(&mut self) {
        let mut turned = false;
        for address in std::mem::take(&mut self.dirt.recorded) {
            let record = self.world.records.find(address).filter(|_| !is_everywhere(address));
            if self.world.pools.stray(address, record.map(|object| object.spec.pool.as_str())) {
                self.dirt.barred.insert(address);
                turned = true;
            }
        }
        if turned {
            self.touch_wildcards();
        }
    }

    /// Everybody who is served on all addresses of a fleet's nodes.
    fn touch_wildcards(&mut self) {
        let all: Vec<IpAddr> = self.world.records.everywhere().map(|(address, _)| address).collect();
        self.touch_owners(&all);
    }

    /// The nodes are to be judged again, and in their turns the load balancers that send traffic there.
    pub(super) fn node_set_turned(&mut self, key: &Key) {
        self.world.forget_reach(key);
        for balancer in self.world.users_of(key) {
            self.turns.add(balancer);
        }
    }

    /// The hub's networks are these: no backend lies there.
    pub(super) fn hub_networks_moved(&mut self, networks: Vec<IpNet>) {
        let before = self.world.hub_networks.replace(networks).unwrap_or_default();
        let now = self.world.hub_networks.iter().flatten();
        let came = now.clone().filter(|network| !before.contains(network));
        let went = before.iter().filter(|network| !now.clone().any(|other| other == *network));
        let turned = Spans::of_networks(came.chain(went));
        self.world.hub = Spans::of_networks(self.world.settings.hub_networks.iter().chain(now));
        self.dirt.barred.extend(&turned);
    }

    /// A cloud's address is one of ours: no backend lies there, and no pool gives it.
    pub(super) fn delivered_moved(&mut self, before: Option<&Delivery>, now: Option<&Delivery>) {
        let addresses = |delivery: Option<&Delivery>| -> BTreeSet<IpAddr> {
            delivery.into_iter().flat_map(|delivery| delivery.addresses.iter().copied()).collect()
        };
        let (before, now) = (addresses(before), addresses(now));
        for address in before.difference(&now) {
            self.world.pools.undeliver(*address);
            self.dirt.barred.insert(*address);
            if !self.world.is_taken(*address) {
                self.free(*address);
            }
        }
        for address in now.difference(&before) {
            if !self.world.is_taken(*address) {
                self.world.pools.take(*address);
                self.dirt.pool_statuses.extend(self.world.pools.offering(*address).map(|(name, _)| Arc::clone(name)));
            }
            self.world.pools.deliver(*address);
            self.dirt.barred.insert(*address);
        }
    }

    fn has_clouds(&self, pools: &BTreeSet<Arc<str>>) -> bool {
        pools.iter().filter_map(|name| self.world.pools.find(name)).any(|pool| Pool::service(pool).is_some())
    }

    fn touch_owners(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            if is_everywhere(*address) {
                self.dirt.addresses.insert(*address);
            }
            let object = self.world.records.find(*address);
            for owner in object.iter().flat_map(|object| &object.spec.owners).filter_map(owner_key) {
                self.dirt.balancer(&owner);
            }
        }
    }
}
