//! Takes observations in and marks what they touch. Cheap: what an observation costs does not grow with what is present.

use std::net::IpAddr;
use std::sync::Arc;

use nave_api::names::tenant_namespace;
use nave_api::tenant::{Quota, TenantSpec};
use nave_api::{Fleet, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};

use super::Engine;
use super::serve::has_shown_addresses;
use super::unreadable::Kind;
use super::world::own_namespace;
use crate::Key;
use crate::backends::places::{Namer, ends};
use crate::pool::is_everywhere;
use crate::seen::{Role, Seen};
use crate::shelf::Moved;

/// The Tenant with the limits that hold where it sets none.
fn with_defaults(tenant: Tenant, defaults: &Quota) -> Tenant {
    let quota = tenant.spec.quota.clone().unwrap_or_default().or(defaults);
    Tenant { spec: TenantSpec { quota: Some(quota), ..tenant.spec }, ..tenant }
}

impl Engine {
    /// Takes note, and marks what it touches.
    pub fn observe(&mut self, seen: Seen) {
        match seen {
            Seen::Tenants(sight) => {
                let sight = sight.map(|tenant| with_defaults(tenant, &self.world.settings.default_quota));
                for moved in self.world.tenants.look(sight) {
                    self.tenant_moved(&moved);
                    self.legibility_moved(Kind::Tenant, moved.key);
                }
            }
            Seen::NodeSets(sight) => {
                self.world.node_sets.look(sight).iter().for_each(|moved| self.node_set_moved(moved));
            }
            Seen::LoadBalancers(sight) => {
                for moved in self.world.balancers.look(sight) {
                    self.balancer_moved(&moved);
                    self.legibility_moved(Kind::LoadBalancer, moved.key);
                }
            }
            Seen::Allocations(sight) => {
                for moved in self.world.allocations.look(sight) {
                    self.allocation_moved(&moved);
                    self.unknown_allocation_moved(&moved.key);
                    self.legibility_moved(Kind::Allocation, moved.key);
                }
            }
            Seen::Pools(sight) => {
                for moved in self.world.pool_objects.look(sight) {
                    self.pool_moved(&moved);
                    self.legibility_moved(Kind::Pool, moved.key);
                }
            }
            Seen::Fleets(sight) => {
                for Moved { key, before, after } in self.world.fleets.look(sight) {
                    let nodes = |fleet: &Option<Arc<Fleet>>| fleet.as_ref().map(|fleet| fleet.spec.nodes.clone());
                    self.dirt.choices |= nodes(&before) != nodes(&after);
                    self.dirt.fleets.insert(Arc::clone(&key.name));
                    self.legibility_moved(Kind::Fleet, key);
                }
            }
            Seen::Deliveries { all, unreadable } => {
                self.world.supply.replace(all, &unreadable).iter().for_each(|moved| self.delivery_moved(moved));
            }
            Seen::Delivery(id, now) => {
                self.world.supply.note(&id, now).iter().for_each(|moved| self.delivery_moved(moved));
            }
            Seen::Answered(answer) => {
                let pool: Arc<str> = answer.pool.as_str().into();
                if self.world.supply.answered(answer) {
                    self.dirt.pool_statuses.insert(pool);
                }
            }
            Seen::HubNetworks(networks) => {
                self.hub_networks_moved(networks);
            }
            Seen::HubNodes(nodes) => {
                self.dirt.choices |= self.world.hub_nodes.as_ref() != Some(&nodes);
                self.world.hub_nodes = Some(nodes);
            }
            Seen::Envoy(report) => self.envoy_reported(report),
            Seen::Open(open) => self.connections_measured(open),
        }
    }

    fn pool_moved(&mut self, moved: &Moved<IPPool>) {
        self.dirt.pool_statuses.insert(Arc::clone(&moved.key.name));
        let weighs = |pool: &Arc<IPPool>| (pool.spec.clone(), pool.metadata.uid.clone());
        if moved.is_unknown() || moved.before.as_ref().map(weighs) != moved.after.as_ref().map(weighs) {
            self.dirt.pools.insert(Arc::clone(&moved.key.name));
        }
    }

    fn tenant_moved(&mut self, moved: &Moved<Tenant>) {
        let Moved { key, before, after } = moved;
        let namespace: Arc<str> = tenant_namespace(&key.name).into();
        let weighs = |tenant: &Arc<Tenant>| {
            (tenant.spec.clone(), tenant.metadata.labels.clone(), own_namespace(tenant).map(str::to_owned))
        };
        if before.as_ref().map(|tenant| &tenant.spec.backends) != after.as_ref().map(|tenant| &tenant.spec.backends) {
            self.dirt.networks = true;
        }
        if moved.is_unknown() || before.as_ref().map(weighs) != after.as_ref().map(weighs) {
            self.world.forget_reaches_in(&namespace);
            for balancer in self.world.by_namespace.get(&namespace).cloned().unwrap_or_default() {
                self.dirt.balancer(&balancer);
                let pools = self.world.records.of_name(&balancer).filter(|(address, _)| is_everywhere(*address));
                for pool in pools.map(|(_, object)| object.spec.pool.clone()).collect::<Vec<_>>() {
                    self.ordering_moved(&pool, [balancer.clone()]);
                }
            }
        }
        self.dirt.fleets.extend(after.as_ref().map(|tenant| tenant.spec.fleet().into()));
        self.dirt.namespaces.insert(namespace);
    }

    fn node_set_moved(&mut self, moved: &Moved<NodeSet>) {
        let Moved { key, before, after } = moved;
        if before.as_ref().map(|set| &set.spec) != after.as_ref().map(|set| &set.spec) {
            let places = |set: &Option<Arc<NodeSet>>| {
                ends(set.iter().flat_map(|set| &set.spec.nodes).flat_map(|node| &node.addresses))
            };
            self.world.places.moved(&Namer::NodeSet(key.clone()), &places(before), &places(after));
            self.node_set_turned(key);
        } else if moved.is_unknown() {
            self.node_set_turned(key);
        }
    }

    fn balancer_moved(&mut self, moved: &Moved<TCPLoadBalancer>) {
        let Moved { key, before, after } = moved;
        let weighs = |b: &Arc<TCPLoadBalancer>| (b.metadata.uid.clone(), b.metadata.generation);
        let same = before.as_ref().map(weighs) == after.as_ref().map(weighs)
            && before.as_ref().map(|b| &b.spec) == after.as_ref().map(|b| &b.spec);
        self.dirt.statuses.insert(key.clone());
        if before.as_deref().map(has_shown_addresses) != after.as_deref().map(has_shown_addresses) {
            self.dirt.balancers.insert(key.clone());
        }
        // Of the backends that a limit leaves, a follower uses as many as the leader says.
        if self.is_told_otherwise(key) {
            self.dirt.balancers.insert(key.clone());
            self.limits_told(&key.namespace);
        }
        // Which of several addresses stays is also a matter of what people were told.
        if self.world.records.of_name(key).nth(1).is_some() {
            self.dirt.wanting.insert(key.clone());
        }
        if moved.is_unknown() || self.is_said_unreadable(key) != self.world.balancers.unreadable(key).is_some() {
            self.dirt.balancers.insert(key.clone());
            self.dirt.addresses.extend(self.world.records.of_name(key).map(|(address, _)| address));
        }
        if same {
            return;
        }
        self.world.reindex(key, before.as_deref(), after.as_deref());
        self.dirt.balancer(key);
        self.dirt.namespaces.insert(Arc::clone(&key.namespace));
        let own: Vec<_> = self.world.records.of_name(key).map(|(address, object)| (address, object.clone())).collect();
        for (address, object) in own {
            self.dirt.addresses.insert(address);
            if is_everywhere(address) {
                self.ordering_moved(&object.spec.pool, [key.clone()]);
            }
        }
    }

    /// Who follows goes by what the statuses say of a limit, which is about several at once.
    fn limits_told(&mut self, namespace: &Arc<str>) {
        let quota = self.world.tenant(namespace).and_then(|tenant| tenant.spec.quota.as_ref());
        if self.role == Role::Leader || quota.is_none_or(|quota| quota.endpoints.is_none()) {
            return;
        }
        let all = self.world.by_namespace.get(namespace).into_iter().flatten();
        let told: Vec<Key> = all.filter(|key| self.is_told_otherwise(key)).cloned().collect();
        self.dirt.balancers.extend(told);
    }

    /// Whether its status speaks of another number of backends, or of other sessions, than it has here.
    fn is_told_otherwise(&self, key: &Key) -> bool {
        let balancer = self.world.balancers.find(key);
        let status = balancer.and_then(|balancer| balancer.status.as_ref());
        let Some((status, entry)) = status.zip(self.entries.get(key)) else { return false };
        let sessions = || status.sessions.iter().map(|told| (told.port, told.limit));
        status.backends.is_some_and(|told| told.ready != entry.ready)
            || !sessions().eq(entry.sessions.iter().map(|(port, has)| (*port, *has)))
    }

    fn allocation_moved(&mut self, moved: &Moved<IPAllocation>) {
        let Some(noted) = self.world.records.note(moved) else { return };
        let address = noted.address;
        self.dirt.recorded.insert(address);
        if !self.world.pools.is_delivered(address) {
            if noted.taken {
                self.world.pools.take(address);
            }
            if noted.freed {
                self.free(address);
            }
        }
        if is_everywhere(address) {
            let objects = [&moved.before, &moved.after].into_iter().flatten();
            let pool = objects.map(|object| object.spec.pool.clone()).next().unwrap_or_default();
            self.ordering_moved(&pool, noted.owners.iter().cloned());
        }
        for owner in &noted.owners {
            self.dirt.balancer(owner);
            self.dirt.namespaces.insert(Arc::clone(&owner.namespace));
        }
        self.dirt.addresses.insert(address);
        if moved.after.is_some() {
            self.dirt.stirred.insert(address);
        } else if let Some(before) = moved.before.as_ref().filter(|_| !noted.let_go) {
            self.dirt.gone.insert(address, Arc::clone(before));
        }
        let pools = [&moved.before, &moved.after].into_iter().flatten().map(|a| Arc::from(a.spec.pool.as_str()));
        self.dirt.pool_statuses.extend(pools);
        self.dirt.pool_statuses.extend(self.world.pools.offering(address).map(|(name, _)| Arc::clone(name)));
    }

    /// The address may be given to somebody else.
    pub(super) fn free(&mut self, address: IpAddr) {
        self.world.pools.give_back(address);
        self.dirt.pool_statuses.extend(self.world.pools.offering(address).map(|(name, _)| Arc::clone(name)));
        self.dirt.freed.insert(address);
    }
}
