//! What the observations since the last decision touch. Knows names; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::IPAllocation;

use super::orders::Place;
use super::unreadable::Kind;
use crate::Key;
use crate::pool::Spans;

/// What is to be looked at again.
#[derive(Debug, Default)]
pub(super) struct Dirt {
    /// Pools that changed.
    pub pools: BTreeSet<Arc<str>>,
    /// Where backends may lie now that might not before, or the other way round.
    pub barred: Spans,
    /// Whether the networks of tenants changed.
    pub networks: bool,
    /// Whether the allocations changed of which nothing is known.
    pub unknown_allocations: bool,
    /// Objects that cannot be read, or could not.
    pub unreadable: BTreeSet<(Kind, Key)>,
    /// Load balancers to compile.
    pub balancers: BTreeSet<Key>,
    /// Load balancers whose addresses are to be planned.
    pub wanting: BTreeSet<Key>,
    /// Load balancers whose status may be another.
    pub statuses: BTreeSet<Key>,
    /// Allocations whose owners may be others.
    pub addresses: BTreeSet<IpAddr>,
    /// Addresses whose record came, went, or has another pool behind it.
    pub recorded: BTreeSet<IpAddr>,
    /// Addresses that became free.
    pub freed: BTreeSet<IpAddr>,
    /// Records that are gone and were not let go by us, as they were.
    pub gone: BTreeMap<IpAddr, Arc<IPAllocation>>,
    /// Recorded addresses whose owners or ports changed.
    pub stirred: BTreeSet<IpAddr>,
    /// For whom what is ordered of a provider may be another.
    pub orders: BTreeSet<Place>,
    /// Namespaces of tenants whose usage, and so whose quota, may be another.
    pub namespaces: BTreeSet<Arc<str>>,
    /// Pools whose status may be another.
    pub pool_statuses: BTreeSet<Arc<str>>,
    /// Whether fleets may choose other nodes.
    pub choices: bool,
    /// Fleets of which other Envoys count now, or say that they ask for other things.
    pub envoys: BTreeSet<Arc<str>>,
    /// Fleets whose status may be another.
    pub fleets: BTreeSet<Arc<str>>,
}

impl Dirt {
    /// Everything about a load balancer.
    pub fn balancer(&mut self, key: &Key) {
        self.balancers.insert(key.clone());
        self.wanting.insert(key.clone());
        self.statuses.insert(key.clone());
    }
}
