//! What was seen, and what refers to what. Knows every object; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use nave_api::ip_allocation::OwnedPort;
use nave_api::ip_pool::PortRange;
use nave_api::names::{FLEET_LABEL, tenant_of};
use nave_api::tcp_load_balancer::Backends;
use nave_api::{Fleet, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};

use crate::Key;
use crate::backends::neighbours::Foreign;
use crate::backends::places::{Namer, Places, ends};
use crate::backends::{Policy, Reach};
use crate::budget::Open;
use crate::key::uid;
use crate::ledger::Ledger;
use crate::order::id;
use crate::pool::{Pool, Pools, Spans, is_everywhere};
use crate::ports::{Door, Taken, assign, wanted};
use crate::records::{Records, find_owner, owner_key, place, taken_by_others};
use crate::seen::{HubNode, Settings};
use crate::shelf::Shelf;
use crate::supply::Supply;
use crate::waits::Nodes;

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct World {
    pub settings: Settings,
    pub tenants: Shelf<Tenant>,
    pub node_sets: Shelf<NodeSet>,
    pub balancers: Shelf<TCPLoadBalancer>,
    pub pool_objects: Shelf<IPPool>,
    pub allocations: Shelf<IPAllocation>,
    pub fleets: Shelf<Fleet>,
    pub hub_networks: Option<Vec<IpNet>>,
    /// These, and those of the settings, as one set.
    pub hub: Spans,
    pub hub_nodes: Option<Vec<HubNode>>,
    /// The nodes that each fleet chooses.
    pub chosen: BTreeMap<Arc<str>, Nodes>,
    /// What providers deliver.
    pub supply: Supply,
    pub pools: Pools,
    pub records: Records,
    pub ledger: Ledger,
    /// TCP connections that are open at the Envoys of nodes, by fleet.
    pub open: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Open>>,
    /// What of their networks tenants yield to others.
    pub foreign: Foreign,
    /// Whose backends lie where.
    pub places: Places,
    /// Ports that a limit keeps from a load balancer.
    pub withheld: BTreeMap<Key, BTreeSet<Door>>,
    pub by_namespace: BTreeMap<Arc<str>, BTreeSet<Key>>,
    by_node_set: BTreeMap<Key, BTreeSet<Key>>,
    reaches: BTreeMap<Key, Arc<Reach>>,
}

impl World {
    pub fn is_synced(&self) -> bool {
        self.tenants.is_listed()
            && self.node_sets.is_listed()
            && self.balancers.is_listed()
            && self.pool_objects.is_listed()
            && self.allocations.is_listed()
            && self.fleets.is_listed()
            && self.supply.is_listed()
            && self.hub_networks.is_some()
            && self.hub_nodes.is_some()
    }

    /// The tenant whose namespace this is: by its name, and because the Tenant says so itself. A namespace that merely has
    /// the name, and was somebody else's before, is no tenant's.
    pub fn tenant(&self, namespace: &str) -> Option<&Arc<Tenant>> {
        let tenant = tenant_of(namespace).and_then(|name| self.tenants.find(&Key::cluster(name)))?;
        (own_namespace(tenant) == Some(namespace)).then_some(tenant)
    }

    /// What the tenant's backends may be.
    pub fn policy<'a>(&'a self, tenant: &Tenant) -> Policy<'a> {
        let foreign = tenant.metadata.name.as_ref().and_then(|name| self.foreign.get(name)).map(|lost| &lost.spans);
        Policy::of(tenant, &self.hub, self.settings.allow_loopback_backends, &self.pools, foreign)
    }

    /// How the hub reaches the nodes of a NodeSet, worked out once for all who use it.
    pub fn reach(&mut self, key: &Key, tenant: &Tenant) -> Option<Arc<Reach>> {
        if let Some(reach) = self.reaches.get(key) {
            return Some(Arc::clone(reach));
        }
        let reach = Arc::new(Reach::of(&self.node_sets.find(key)?.spec.nodes, &self.policy(tenant)));
        self.reaches.insert(key.clone(), Arc::clone(&reach));
        Some(reach)
    }

    pub fn forget_reach(&mut self, node_set: &Key) {
        self.reaches.remove(node_set);
    }

    pub fn forget_reaches_in(&mut self, namespace: &str) {
        self.reaches.retain(|key, _| *key.namespace != *namespace);
    }

    /// The load balancers that send traffic to the nodes of this NodeSet.
    pub fn users_of(&self, node_set: &Key) -> impl Iterator<Item = &Key> {
        self.by_node_set.get(node_set).into_iter().flatten()
    }

    /// Whether the address is somebody's, or a cloud gave it.
    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.records.is_taken(address) || self.pools.is_delivered(address)
    }

    /// Whether only the ports that are recorded for an owner are his on the address; else all that he asks for are.
    pub fn counts_ports(&self, object: &IPAllocation) -> bool {
        let pool = self.pools.find(&object.spec.pool);
        let is_moved = object.spec.owners.iter().flat_map(|owner| &owner.ports).any(|port| port.stands_for.is_some());
        object.spec.owners.len() > 1
            || is_moved
            || place(object).is_some_and(is_everywhere)
            || self.is_unknown_pool(&object.spec.pool)
            || pool.is_some_and(Pool::counts_ports)
    }

    /// The ports of an address that others than the load balancer of this name have. Where it stands for every address of the
    /// fleet's nodes, those of other pools of the fleet are among them, and of pools that are gone.
    pub fn taken_ports(&self, address: IpAddr, pool: &str, object: Option<&IPAllocation>, key: &Key) -> Taken {
        let mut doors = object.map(|object| taken_by_others(object, key)).unwrap_or_default();
        let here = doors.len();
        if is_everywhere(address) {
            let of_pool = || self.pools.find(pool).map(|pool| pool.spec().fleet());
            let own = object.and_then(|object| self.fleet_of(object)).or_else(of_pool);
            let meets =
                |other: &IPAllocation| own.is_none() || self.fleet_of(other).is_none_or(|fleet| Some(fleet) == own);
            let others = self.records.everywhere().filter(|(other, object)| *other != address && meets(object));
            let ports = others.flat_map(|(_, object)| &object.spec.owners).flat_map(|owner| &owner.ports);
            doors.extend(ports.map(|port| (port.protocol, port.port)));
        }
        Taken { doors, here }
    }

    /// The fleet whose nodes have the address. Ports on all of a fleet's nodes are that fleet's for ever, whatever becomes of
    /// their pool; an address goes where its pool goes.
    pub fn fleet_of<'a>(&'a self, object: &'a IPAllocation) -> Option<&'a str> {
        let labels = object.metadata.labels.as_ref();
        let recorded = labels.and_then(|labels| labels.get(FLEET_LABEL)).map(String::as_str);
        recorded.or_else(|| self.pools.find(&object.spec.pool).map(|pool| pool.spec().fleet()))
    }

    /// The ports that may be recorded on an address of this pool. A cloud's pool that gives none, or is gone, has no more.
    pub fn port_range(&self, address: IpAddr, pool: &str) -> Option<PortRange> {
        match self.pools.find(pool).filter(|pool| pool.is_ready() || !is_everywhere(address)) {
            Some(pool) => pool.port_range(),
            None => is_everywhere(address).then_some(PortRange { low: 1, high: 0 }),
        }
    }

    /// The ports of the owner of this name on this address: what it has already of those that it asks for, others as there is room, and those
    /// that he wants no more while a cloud's load balancer still leads to them: nobody else gets them before.
    pub fn owned_ports(
        &self,
        address: IpAddr,
        pool: &str,
        object: &IPAllocation,
        key: &Key,
        wanted: &BTreeSet<Door>,
    ) -> Vec<OwnedPort> {
        let before = object.spec.owners.iter().find(|owner| owner_key(owner).as_ref() == Some(key));
        let has = before.map(|owner| owner.ports.as_slice()).unwrap_or_default();
        self.own_ports(address, pool, key, has, wanted, &self.taken_ports(address, pool, Some(object), key))
    }

    /// The same of an owner that has these, where others have those that are taken.
    pub fn own_ports(
        &self,
        address: IpAddr,
        pool: &str,
        key: &Key,
        has: &[OwnedPort],
        wanted: &BTreeSet<Door>,
        taken: &Taken,
    ) -> Vec<OwnedPort> {
        let mut ports = assign(wanted, has, self.port_range(address, pool), taken).0;
        let delivery = self.supply.find(&id(pool, Some(key))).filter(|_| is_everywhere(address));
        let is_delivered =
            |port: &OwnedPort| delivery.is_some_and(|d| d.ports.contains(&(port.protocol, port.wanted())));
        for port in has {
            let is_free = !ports.iter().any(|other| (other.protocol, other.port) == (port.protocol, port.port));
            if is_free && !wanted.contains(&(port.protocol, port.wanted())) && is_delivered(port) {
                ports.push(*port);
            }
        }
        ports.sort();
        ports
    }

    /// The ports that a load balancer asks for and may have.
    pub fn granted(&self, key: &Key, balancer: &TCPLoadBalancer) -> BTreeSet<Door> {
        let mut ports = wanted(&balancer.spec.ports);
        if let Some(withheld) = self.withheld.get(key) {
            ports.retain(|door| !withheld.contains(door));
        }
        ports
    }

    /// The load balancer's own ports that are open on an address of its own, and the ports there that lead to them.
    pub fn open_ports(&self, object: &IPAllocation, key: &Key, balancer: &TCPLoadBalancer) -> Vec<(Door, u16)> {
        let wanted = self.granted(key, balancer);
        if !self.counts_ports(object) {
            return wanted.into_iter().map(|door| (door, door.1)).collect();
        }
        let recorded = find_owner(object, key, uid(&balancer.metadata)).map(|owner| owner.ports.as_slice());
        let ports = recorded.unwrap_or_default().iter().map(|port| ((port.protocol, port.wanted()), port.port));
        ports.filter(|(door, _)| wanted.contains(door)).collect()
    }

    /// The load balancer says something else now, or is gone, or new.
    pub fn reindex(&mut self, key: &Key, before: Option<&TCPLoadBalancer>, after: Option<&TCPLoadBalancer>) {
        self.places.moved(&Namer::Balancer(key.clone()), &own_places(before), &own_places(after));
        if let Some(before) = before {
            self.unindex(key, before);
        }
        if let Some(after) = after {
            self.index(key, after);
        }
    }

    fn index(&mut self, key: &Key, balancer: &TCPLoadBalancer) {
        self.by_namespace.entry(Arc::clone(&key.namespace)).or_default().insert(key.clone());
        if let Some(node_set) = node_set_of(key, balancer) {
            self.by_node_set.entry(node_set).or_default().insert(key.clone());
        }
    }

    fn unindex(&mut self, key: &Key, balancer: &TCPLoadBalancer) {
        remove_from(&mut self.by_namespace, &key.namespace, key);
        if let Some(node_set) = node_set_of(key, balancer) {
            remove_from(&mut self.by_node_set, &node_set, key);
        }
    }
}

/// The NodeSet that a load balancer names.
pub(super) fn node_set_of(key: &Key, balancer: &TCPLoadBalancer) -> Option<Key> {
    match &balancer.spec.backends {
        Backends::Nodes(nodes) => Some(Key::new(Arc::clone(&key.namespace), nodes.node_set.as_str())),
        Backends::Endpoints(_) => None,
    }
}

/// Where the backends lie that a load balancer names itself.
fn own_places(balancer: Option<&TCPLoadBalancer>) -> BTreeSet<IpAddr> {
    match balancer.map(|balancer| &balancer.spec.backends) {
        Some(Backends::Endpoints(endpoints)) => ends(endpoints.iter().flat_map(|endpoint| &endpoint.addresses)),
        Some(Backends::Nodes(_)) | None => BTreeSet::new(),
    }
}

fn remove_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(set) = map.get_mut(at) {
        set.remove(key);
        if set.is_empty() {
            map.remove(at);
        }
    }
}

/// The namespace that a tenant was given.
pub fn own_namespace(tenant: &Tenant) -> Option<&str> {
    tenant.status.as_ref()?.namespace.as_deref()
}
