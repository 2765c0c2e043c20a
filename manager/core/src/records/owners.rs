//! What an allocation is called, and who owns what by it. Knows one allocation; knows no other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nave_api::IPAllocation;
use nave_api::ip_allocation::Owner;
use nave_api::names::{allocation_address, allocation_name, service_allocation_name, service_allocation_pool};

use crate::Key;
use crate::pool::{everywhere, is_everywhere};
use crate::ports::Door;

/// The kind that owns addresses.
pub(crate) const KIND: &str = "TCPLoadBalancer";

/// The load balancer that an owner stands for.
pub(crate) fn owner_key(owner: &Owner) -> Option<Key> {
    let Owner { namespace, kind, name, uid: _, ports: _ } = owner;
    (kind == KIND).then(|| Key::new(namespace.as_str(), name.as_str()))
}

/// The address that an allocation records; without one, that which stands for every address of the fleet's nodes.
pub(crate) fn place(object: &IPAllocation) -> Option<IpAddr> {
    match &object.spec.address {
        Some(address) => address.parse().ok().filter(|address| !is_everywhere(*address)),
        None => Some(everywhere(&object.spec.pool)),
    }
}

/// The name of the allocation of an address: the lock on it.
pub(crate) fn record_name(address: IpAddr, pool: &str) -> String {
    if is_everywhere(address) { service_allocation_name(pool) } else { allocation_name(address) }
}

/// The address whose allocation has this name, with or without an address of its own.
pub(crate) fn named_place(name: &str) -> Option<IpAddr> {
    allocation_address(name).or_else(|| service_allocation_pool(name).map(everywhere))
}

/// The ports of an address that others than the load balancer of this name have.
pub(crate) fn taken_by_others(object: &IPAllocation, key: &Key) -> BTreeSet<Door> {
    let others = object.spec.owners.iter().filter(|owner| owner_key(owner).as_ref() != Some(key));
    others.flat_map(|owner| &owner.ports).map(|port| (port.protocol, port.port)).collect()
}

/// The owner that this very load balancer is.
pub(crate) fn find_owner<'a>(object: &'a IPAllocation, key: &Key, uid: &str) -> Option<&'a Owner> {
    let is_it = |o: &&Owner| o.kind == KIND && o.namespace == *key.namespace && o.name == *key.name && o.uid == uid;
    object.spec.owners.iter().find(is_it)
}
