//! The pools that a load balancer may have addresses of, and why one of them gives none. Knows who is let in where; every
//! cause that it names was checked.

use std::net::IpAddr;
use std::sync::Arc;

use nave_api::tcp_load_balancer::IpFamily;

use super::Search;
use crate::Key;
use crate::engine::moves::Fate;
use crate::hold::Hold;
use crate::lacking::{By, Lack, What, Why};
use crate::pool::choose::{Applicant, Closed, candidates, closed, serves_unnamed};
use crate::pool::{Pool, PoolProblem};
use crate::records::{Flight, find_owner};

/// The pools that were looked at.
pub(super) struct Looked<'a> {
    /// Those that let it in, the best first.
    pub open: Vec<&'a Arc<str>>,
    /// Those that might give it addresses and do not let it in.
    pub closed: Vec<(Arc<str>, Why)>,
}

impl<'a> Search<'a> {
    /// The pools to look in: the one that it names; else those of the addresses that it names, and for other families those
    /// that serve load balancers which name no pool.
    pub(super) fn look(&self, missing: &[IpFamily]) -> Looked<'a> {
        if let Some(named) = self.request.pool {
            return self.look_in(named);
        }
        let mut open: Vec<&Arc<str>> = Vec::new();
        let exact: Vec<IpAddr> =
            self.request.families.iter().filter_map(|family| self.request.exact(*family)).collect();
        let offering = exact.iter().flat_map(|address| self.world.pools.offering(*address));
        open.extend(offering.filter(|(_, pool)| closed(pool, self.applicant()).is_none()).map(|(name, _)| name));
        if missing.iter().any(|family| self.request.exact(*family).is_none()) {
            open.extend(candidates(&self.world.pools, self.applicant()));
        }
        let mut seen = std::collections::BTreeSet::new();
        open.retain(|name| seen.insert(Arc::clone(name)));
        let is_none = open.is_empty();
        let might_give = |name: &str, pool: &Pool| {
            serves_unnamed(name, pool, self.tenant) || exact.iter().any(|address| pool.offers(*address))
        };
        let pools = self.world.pools.iter().filter(|(name, pool)| might_give(name, pool));
        let closed = pools.filter_map(|(name, pool)| Some((name, closed(pool, self.applicant())?)));
        let closed = closed.filter(|(_, why)| match why {
            // Pools of other tenants are not spoken of.
            Closed::Tenant => false,
            Closed::Namespace | Closed::Fleet(_) => is_none,
            Closed::NotReady(_) => true,
        });
        let closed = closed.map(|(name, why)| (Arc::clone(name), self.why_closed(why))).collect();
        Looked { open, closed }
    }

    fn look_in(&self, named: &str) -> Looked<'a> {
        let found = self.world.pools.iter().find(|(name, _)| ***name == *named);
        let why = match found {
            Some((name, pool)) => match closed(pool, self.applicant()) {
                None => return Looked { open: vec![name], closed: Vec::new() },
                Some(why) => self.why_closed(why),
            },
            None if self.world.is_unknown_pool(named) => Why::Unreadable,
            None => Why::NotOpen,
        };
        Looked { open: Vec::new(), closed: vec![(named.into(), why)] }
    }

    fn applicant(&self) -> Applicant<'a> {
        Applicant { tenant: self.tenant, namespace: self.namespace }
    }

    fn why_closed(&self, closed: Closed) -> Why {
        match closed {
            Closed::Tenant => Why::NotOpen,
            Closed::Namespace => Why::Namespace { own: self.namespace.map(str::to_owned) },
            Closed::Fleet(fleet) => Why::Fleet { fleet, own: self.tenant.spec.fleet().to_owned() },
            Closed::NotReady(PoolProblem::Overlap { .. }) => Why::Overlap,
            Closed::NotReady(PoolProblem::PortOverlap { .. }) => Why::PortOverlap,
            Closed::NotReady(
                PoolProblem::NoAddresses
                | PoolProblem::Invalid { .. }
                | PoolProblem::Forbidden { .. }
                | PoolProblem::Outside { .. },
            ) => Why::Invalid,
        }
    }

    /// Why none of the pools gives what it asks for of this family.
    pub(super) fn lack(&self, family: IpFamily, looked: &Looked<'_>) -> Lack {
        let Looked { open, closed } = looked;
        let space = |name: &Arc<str>| self.world.pools.find(name);
        let exact = self.request.exact(family);
        let is_concerned = |name: &Arc<str>| {
            let Some(address) = exact.filter(|_| self.request.pool.is_none()) else { return true };
            space(name).is_some_and(|pool| pool.offers(address))
        };
        let mut found: Vec<(Option<Arc<str>>, Why)> = Vec::new();
        for name in open.iter().filter(|name| is_concerned(name)) {
            let why = space(name).map(|pool| match exact {
                Some(address) => self.why_not(address, name, pool),
                None => self.why_none(family, name, pool),
            });
            found.extend(why.map(|why| (Some(Arc::clone(name)), why)));
        }
        let closed = closed.iter().filter(|(name, _)| is_concerned(name));
        found.extend(closed.map(|(name, why)| (Some(Arc::clone(name)), why.clone())));
        if found.is_empty() {
            let has_unknown = self.world.pool_objects.unknowns().next().is_some();
            found.extend(has_unknown.then_some((None, Why::Unreadable)));
            found.push((None, if exact.is_some() { Why::Nowhere } else { Why::NoPool }));
        }
        (exact.map_or(What::Any(family), What::Exactly), found)
    }

    /// Why a pool that lets it in gives no address of the family.
    fn why_none(&self, family: IpFamily, name: &str, pool: &Pool) -> Why {
        if !self.fits_range(pool) {
            Why::NoPort
        } else if !pool.has(family) {
            if pool.has_on_request(family) { Why::OnRequest } else { Why::FamilyMissing }
        } else if pool.service().is_some() {
            Why::NoEnvoyPort
        } else if pool.shares() && self.has_one_to_share(family, name) {
            Why::Crowded
        } else {
            Why::Exhausted
        }
    }

    /// Why a pool that lets it in does not give this address.
    fn why_not(&self, address: IpAddr, name: &str, pool: &Pool) -> Why {
        if !pool.offers(address) {
            return Why::Absent;
        }
        if !self.fits_range(pool) {
            return Why::NoPort;
        }
        if self.may_join(address, name) {
            let object = self.world.records.find(address).map(AsRef::as_ref);
            let taken = self.world.taken_ports(address, name, object, self.key);
            if let Some((protocol, port)) = self.ports.intersection(&taken.doors).next() {
                return Why::PortTaken { protocol: protocol.as_str(), port: *port };
            }
        }
        Why::Taken(self.taken_by(address))
    }

    fn taken_by(&self, address: IpAddr) -> By {
        let records = &self.world.records;
        if self.is_unreadable(address) {
            return By::Unreadable;
        }
        if self.world.pools.is_delivered(address) {
            return By::Cloud;
        }
        let coming = || match records.flight(address) {
            Some(Flight::Create { owners } | Flight::Replace { owners }) => self.by(owners.iter().cloned()),
            Some(Flight::Release { .. }) | None => By::Moving,
        };
        let Some(object) = self.drafts.find(address).or(records.find(address).map(AsRef::as_ref)) else {
            return coming();
        };
        if find_owner(object, self.key, self.uid).is_some() {
            let pool = object.spec.pool.clone();
            let why = match self.world.fate(address, object) {
                Some(Fate::Moves(to)) => format!("it moves to pool {to}"),
                Some(Fate::Stays(stay)) => stay.to_string(),
                None => "that pool includes it still".to_owned(),
            };
            return By::Itself { pool, why };
        }
        if Hold::of(object).is_some() {
            return By::LastOwner;
        }
        match records.flight(address) {
            Some(Flight::Release { .. }) => By::Moving,
            Some(Flight::Create { .. } | Flight::Replace { .. }) | None => {
                self.by(object.spec.owners.iter().map(|owner| Key::new(owner.namespace.as_str(), owner.name.as_str())))
            }
        }
    }

    /// These load balancers, by name where all are of the same tenant.
    fn by(&self, owners: impl Iterator<Item = Key>) -> By {
        let owners: Vec<Key> = owners.collect();
        if owners.is_empty() {
            By::Moving
        } else if owners.iter().any(|owner| owner.namespace != self.key.namespace) {
            By::OtherTenant
        } else {
            By::Own(owners.into_iter().map(|owner| owner.name.to_string()).collect())
        }
    }
}
