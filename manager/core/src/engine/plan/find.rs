//! Addresses that a load balancer might have, one by one. Knows what is free; knows not which of them are best together.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::ip_allocation::Owner;
use nave_api::tcp_load_balancer::IpFamily;
use nave_api::{IPAllocation, IPAllocationSpec};

use super::Search;
use crate::Key;
use crate::engine::waiting::Await;
use crate::hold::Hold;
use crate::pool::{Pool, is_everywhere};
use crate::ports::{Door, assign, covers};
use crate::problem::Shortage;
use crate::records::find_owner;

/// So many owners an allocation has at most, as its schema says.
const MOST_OWNERS: usize = 1000;

impl Search<'_> {
    /// An address of the family in the pool: the one that is asked for, one it had before, or the lowest free one.
    pub(super) fn find(&self, family: IpFamily, pool: &Arc<str>) -> Option<(IpAddr, Arc<str>)> {
        let space = self.world.pools.find(pool)?;
        let of_family = |address: &IpAddr| IpFamily::of(*address) == family;
        if let Some(exact) = self.request.exact(family) {
            let may_have = self.may_take(exact, pool) || self.may_join(exact, pool);
            return (space.offers(exact) && may_have && self.fits_ports(exact, space))
                .then(|| (exact, Arc::clone(pool)));
        }
        let orphans = self.world.records.of_name(self.key).map(|(address, _)| address);
        let before = orphans.chain(self.world.records.formerly(self.key)).filter(of_family);
        let mut before = before.filter(|address| space.gives_unasked(*address) && self.may_take(*address, pool));
        let found = before.next().or_else(|| self.shared(family, pool)).or_else(|| space.lowest(family));
        found.filter(|address| self.fits_ports(*address, space)).map(|address| (address, Arc::clone(pool)))
    }

    /// The lowest address of the pool that it may share and whose ports leave room.
    fn shared(&self, family: IpFamily, pool: &Arc<str>) -> Option<IpAddr> {
        let space = self.world.pools.find(pool).filter(|space| space.shares())?;
        self.to_share(family, pool, space).into_iter().find(|address| self.fits_ports(*address, space))
    }

    /// Whether there is an address of the pool that it may share, be it that its ports are taken there.
    pub(super) fn has_one_to_share(&self, family: IpFamily, pool: &str) -> bool {
        let space = self.world.pools.find(pool).filter(|space| space.shares());
        space.is_some_and(|space| !self.to_share(family, pool, space).is_empty())
    }

    /// The addresses of the pool that its tenant has, or any tenant where they are shared across tenants.
    fn to_share(&self, family: IpFamily, pool: &str, space: &Pool) -> BTreeSet<IpAddr> {
        let mut known: BTreeSet<IpAddr> = if space.shares_across_tenants() {
            self.world.records.of_pool(pool).chain(self.drafts.of_pool(pool)).collect()
        } else {
            let recorded = self.world.records.of_tenant(&self.key.namespace, pool);
            recorded.chain(self.drafts.of_tenant(&self.key.namespace, pool)).collect()
        };
        known.retain(|address| {
            IpFamily::of(*address) == family && space.gives_unasked(*address) && self.may_join(*address, pool)
        });
        known
    }

    /// Whether the address is the tenant's own already or shared by all, in a pool that shares, and nothing is under way on it.
    pub(super) fn may_join(&self, address: IpAddr, pool: &str) -> bool {
        let offers = |space: &&Pool| space.shares() && space.offers(address);
        let Some(space) = self.world.pools.find(pool).filter(offers) else { return false };
        let drafted = self.drafts.find(address);
        let is_quiet = drafted.is_some() || self.world.records.flight(address).is_none();
        let is_quiet = is_quiet && !self.is_unreadable(address);
        let object = drafted.or_else(|| self.world.records.find(address).map(AsRef::as_ref));
        let is_ours = |owner: &Owner| owner.namespace == *self.key.namespace;
        is_quiet
            && object.is_some_and(|object| {
                let IPAllocationSpec { address: _, pool: of, group: _, owners } = &object.spec;
                of == pool
                    && !owners.is_empty()
                    && owners.len() < MOST_OWNERS
                    && (space.shares_across_tenants() || owners.iter().all(is_ours))
                    && object.metadata.deletion_timestamp.is_none()
                    && self.world.fleet_of(object) == Some(space.spec().fleet())
            })
    }

    /// Whether the allocation of the address cannot be read now: nothing about it changes until it can.
    pub(super) fn is_unreadable(&self, address: IpAddr) -> bool {
        let records = &self.world.records;
        let name = records.find(address).map(|object| Key::of(&**object));
        records.is_unknown(address) || name.is_some_and(|name| self.world.allocations.unreadable(&name).is_some())
    }

    /// Whether every port finds a place on the address.
    pub(super) fn fits_ports(&self, address: IpAddr, pool: &Pool) -> bool {
        let is_busy = || self.world.records.flies_everywhere_but(address) || self.world.records.has_unknown_ports();
        if is_everywhere(address) && is_busy() {
            return false;
        }
        let object = self.drafts.find(address).or_else(|| self.world.records.find(address).map(AsRef::as_ref));
        let name = pool.object.metadata.name.as_deref().unwrap_or_default();
        let taken = self.world.taken_ports(address, name, object, self.key);
        assign(&self.ports, &[], pool.port_range(), &taken).1.is_empty()
    }

    /// A port of its own that it does not get on an address that it has.
    pub(super) fn unmet(&self, address: IpAddr) -> Option<Shortage> {
        let object = self.world.records.find(address)?;
        if !self.world.counts_ports(object) {
            return None;
        }
        let has = find_owner(object, self.key, self.uid).map(|owner| owner.ports.as_slice()).unwrap_or_default();
        if covers(has, &self.ports) {
            return None;
        }
        let pool = &object.spec.pool;
        let taken = self.world.taken_ports(address, pool, Some(object), self.key);
        let (given, missing) = assign(&self.ports, has, self.world.port_range(address, pool), &taken);
        let none = |(protocol, port): &Door| {
            if is_everywhere(address) {
                return Shortage::NoPort { pools: vec![pool.as_str().into()] };
            }
            Shortage::PortTaken { address, protocol: protocol.as_str(), port: *port }
        };
        missing.first().map(none).or_else(|| (given != has).then_some(Shortage::Pending))
    }

    /// What to wait for where ports of an address that it has are taken.
    pub(super) fn room_on(&self, address: IpAddr) -> Await {
        let object = self.world.records.find(address).filter(|_| is_everywhere(address));
        let any = |object: &Arc<IPAllocation>| Await::Any(object.spec.pool.as_str().into(), IpFamily::of(address));
        object.map_or(Await::Exactly(address), any)
    }

    /// Whether the address is free, or is left by one of the same name that is gone.
    pub(super) fn may_take(&self, address: IpAddr, pool: &str) -> bool {
        let is_closed = self.world.pools.is_delivered(address) || self.is_unreadable(address);
        if self.world.records.flight(address).is_some() || is_closed {
            return false;
        }
        let Some(object) = self.world.records.find(address) else { return true };
        let is_leaving = object.metadata.deletion_timestamp.is_some();
        let is_orphan = object.spec.owners.len() == 1
            && self.world.records.of_name(self.key).any(|(own, _)| own == address)
            && find_owner(object, self.key, self.uid).is_none();
        let is_kept = Hold::of(object).is_some_and(|hold| hold.owner == *self.key);
        (is_orphan || is_kept) && object.spec.pool == pool && !is_leaving
    }
}
