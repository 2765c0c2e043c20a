//! The allocations that one settling makes or changes, until they become steps. Knows what several load balancers want of
//! one address at once; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::IPAllocation;

use crate::Key;

/// Allocations as they shall be.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    objects: BTreeMap<IpAddr, IPAllocation>,
    by_tenant: BTreeMap<(Arc<str>, String), BTreeSet<IpAddr>>,
    /// Addresses that a load balancer asks for no longer.
    surplus: BTreeSet<(IpAddr, Key)>,
}

impl Drafts {
    pub fn find(&self, address: IpAddr) -> Option<&IPAllocation> {
        self.objects.get(&address)
    }

    /// Drafted addresses of a pool for the load balancers of a namespace.
    pub fn of_tenant(&self, namespace: &Arc<str>, pool: &str) -> impl Iterator<Item = IpAddr> {
        self.by_tenant.get(&(Arc::clone(namespace), pool.to_owned())).into_iter().flatten().copied()
    }

    /// Drafted addresses of a pool.
    pub fn of_pool(&self, pool: &str) -> impl Iterator<Item = IpAddr> {
        self.objects.iter().filter(move |(_, object)| object.spec.pool == pool).map(|(address, _)| *address)
    }

    pub fn put(&mut self, namespace: &Arc<str>, address: IpAddr, object: IPAllocation) {
        let place = (Arc::clone(namespace), object.spec.pool.clone());
        self.by_tenant.entry(place).or_default().insert(address);
        self.objects.insert(address, object);
    }

    /// The address is not to be written after all.
    pub fn withdraw(&mut self, address: IpAddr) {
        self.objects.remove(&address);
        for addresses in self.by_tenant.values_mut() {
            addresses.remove(&address);
        }
    }

    pub fn give_up(&mut self, address: IpAddr, key: &Key) {
        self.surplus.insert((address, key.clone()));
    }

    /// Whether the load balancer asks for the address no longer.
    pub fn is_given_up(&self, address: IpAddr, key: &Key) -> bool {
        self.surplus.contains(&(address, key.clone()))
    }

    /// Everything that was drafted.
    pub fn into_objects(self) -> impl Iterator<Item = IPAllocation> {
        self.objects.into_values()
    }
}
