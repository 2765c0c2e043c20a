//! The addresses that make a load balancer complete: one pool that has all, else one pool for each. Knows pools in their order;
//! looks for single addresses next door.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::tcp_load_balancer::IpFamily;

use super::look::Looked;
use super::{Allowance, Plan, Search};
use crate::engine::request::Wanted;
use crate::engine::waiting::Await;
use crate::lacking::Lacking;
use crate::pool::{Pool, everywhere};
use crate::ports::{Taken, assign};
use crate::problem::Shortage;

/// Addresses to record, each with its pool.
type Found = Vec<(IpAddr, Arc<str>)>;

impl Search<'_> {
    /// What is missing beside what it has and what is on the way.
    pub(super) fn complete(&self, kept: &[IpAddr], coming: &[IpAddr]) -> Plan {
        let missing = self.missing(kept, coming);
        if missing.is_empty() {
            return Plan::default();
        }
        let has_any = missing.len() < self.request.families.len();
        let looked = self.look(&missing);
        let (found, is_busy) = self.gather(&missing, &looked.open);
        let is_enough = match self.request.wanted() {
            Wanted::One | Wanted::Some => !found.is_empty(),
            Wanted::All => found.len() == missing.len(),
        };
        if is_enough {
            return self.partly(found, &missing, &looked.open);
        }
        if is_busy {
            let awaits = missing.iter().flat_map(|family| self.awaits(*family, &looked.open)).collect();
            return Plan { shortage: Some(Shortage::Pending), awaits, ..Plan::default() };
        }
        self.none(&missing, &looked, has_any)
    }

    /// What there is of these families, and whether more may be after what is under way.
    fn gather(&self, missing: &[IpFamily], pools: &[&Arc<str>]) -> (Found, bool) {
        if self.request.wanted() == Wanted::All && missing.len() > 1 {
            let pairs = pools.iter().map(|pool| self.affordable(missing.iter().filter_map(|f| self.find(*f, pool))));
            if let Some(whole) = pairs.into_iter().find(|found| found.len() == missing.len()) {
                return (whole, false);
            }
        }
        let (found, is_busy) = self.piecemeal(missing, pools);
        if self.request.wanted() == Wanted::All && found.len() < missing.len() && !is_busy {
            return (self.cheapest(missing, pools), false);
        }
        (found, is_busy)
    }

    /// Each family from the first pool that gives it; of several families that would do, one.
    fn piecemeal(&self, missing: &[IpFamily], pools: &[&Arc<str>]) -> (Found, bool) {
        let mut found = Found::new();
        let mut left = self.left();
        for pool in pools {
            let has = |found: &Found, family| found.iter().any(|(address, _)| IpFamily::of(*address) == family);
            let open: Vec<IpFamily> = missing.iter().copied().filter(|family| !has(&found, *family)).collect();
            let mut is_given = false;
            for one in open.iter().filter_map(|family| self.find(*family, pool)) {
                let costs = usize::from(self.costs(one.0));
                if costs <= left {
                    (left, is_given) = (left - costs, true);
                    found.push(one);
                }
                if is_given && self.request.wanted() == Wanted::One {
                    return (found, false);
                }
            }
            if !is_given && self.is_busy(pool, &open) {
                return (found, true);
            }
        }
        (found, false)
    }

    /// Each family from the first pool in which it counts for nothing where addresses are limited, else from the first pool.
    fn cheapest(&self, missing: &[IpFamily], pools: &[&Arc<str>]) -> Found {
        let choose = |family: &IpFamily| {
            let all: Found = pools.iter().filter_map(|pool| self.find(*family, pool)).collect();
            let free = all.iter().find(|(address, _)| !self.costs(*address)).cloned();
            free.or_else(|| all.into_iter().next())
        };
        self.affordable(missing.iter().filter_map(choose))
    }

    /// How many more addresses the tenant may have.
    fn left(&self) -> usize {
        self.allowance.as_ref().map_or(usize::MAX, |allowance| allowance.left)
    }

    /// What of it the tenant may have: what its own share with it counts for nothing.
    fn affordable(&self, found: impl Iterator<Item = (IpAddr, Arc<str>)>) -> Found {
        let mut left = self.left();
        let may_have = |(address, _): &(IpAddr, Arc<str>)| {
            let costs = usize::from(self.costs(*address));
            let may = costs <= left;
            left -= if may { costs } else { 0 };
            may
        };
        found.filter(may_have).collect()
    }

    /// Whether the address is none that the tenant has already.
    fn costs(&self, address: IpAddr) -> bool {
        let namespace = &self.key.namespace;
        let drafted = self.drafts.find(address).into_iter().flat_map(|object| &object.spec.owners);
        let is_drafted = drafted.into_iter().any(|owner| owner.namespace == **namespace);
        crate::pool::is_everywhere(address) || !(is_drafted || self.world.records.is_in(address, namespace))
    }

    /// How many more addresses its tenant needs for it at least, where these families are missing.
    fn fewest(&self, missing: &[IpFamily], pools: &[&Arc<str>]) -> usize {
        let is_had = |family: &IpFamily| {
            let mut found = pools.iter().filter_map(|pool| self.find(*family, pool));
            found.any(|(address, _)| !self.costs(address))
        };
        match self.request.wanted() {
            Wanted::One | Wanted::Some => 1,
            Wanted::All => missing.iter().filter(|family| !is_had(family)).count(),
        }
    }

    /// It has what was found. Where more would be nicer, it waits for the rest in silence.
    fn partly(&self, found: Found, missing: &[IpFamily], pools: &[&Arc<str>]) -> Plan {
        let rest = missing.iter().filter(|family| !found.iter().any(|(address, _)| IpFamily::of(*address) == **family));
        let awaits = match self.request.wanted() {
            Wanted::Some => rest.flat_map(|family| self.awaits(*family, pools)).collect(),
            Wanted::One | Wanted::All => BTreeSet::new(),
        };
        Plan { take: found, awaits, ..Plan::default() }
    }

    /// Nothing was found: why, and what is waited for.
    fn none(&self, missing: &[IpFamily], looked: &Looked<'_>, has_any: bool) -> Plan {
        let pools = &looked.open;
        let no_port = !pools.is_empty() && self.fit_nowhere(pools);
        let limit = self.allowance.as_ref().filter(|_| !pools.is_empty() && !no_port);
        let too_few = limit.filter(|allowance| allowance.left < self.fewest(missing, pools));
        // An address that it names and does not get is worth a word, also where it has another one.
        let is_named = missing.iter().any(|family| self.request.exact(*family).is_some());
        let shortage = match self.request.wanted() {
            Wanted::Some if has_any && !is_named => None,
            // Said whether or not one is free just now: what is true must not depend on which load balancer was faster.
            Wanted::One | Wanted::Some | Wanted::All if let Some(Allowance { left: _, shortage }) = too_few => {
                Some(shortage.clone())
            }
            Wanted::One | Wanted::Some | Wanted::All => {
                let is_all = self.request.wanted() == Wanted::All;
                let is_found = |family: IpFamily| pools.iter().any(|pool| self.find(family, pool).is_some());
                let is_any = |family: IpFamily| is_all && self.request.exact(family).is_none();
                let lacks = missing.iter().filter(|family| is_any(**family) || !is_found(**family));
                Some(Shortage::Lacking(Lacking::new(lacks.map(|family| self.lack(*family, looked)).collect(), is_all)))
            }
        };
        // A load balancer that no single free address helps is not looked at for each one: it is when a limit or a pool changes.
        let shares = |pool: &&Arc<str>| self.world.pools.find(pool).is_some_and(Pool::shares);
        let awaits = match too_few {
            _ if no_port => BTreeSet::new(),
            Some(_) if pools.iter().any(shares) => [Await::Own(Arc::clone(&self.key.namespace))].into(),
            Some(_) => BTreeSet::new(),
            None => missing.iter().flat_map(|family| self.awaits(*family, pools)).collect(),
        };
        Plan { shortage, awaits, ..Plan::default() }
    }

    /// Whether something is under way on what the load balancers of a cloud's pool share: it is their turn next.
    fn is_busy(&self, pool: &str, missing: &[IpFamily]) -> bool {
        let place = everywhere(pool);
        let family = IpFamily::of(place);
        let offers = self.world.pools.find(pool).is_some_and(|space| space.offers(place));
        let is_wanted = missing.contains(&family) && self.request.exact(family).is_none();
        let is_flying = self.drafts.find(place).is_none() && self.world.records.flight(place).is_some();
        offers && is_wanted && (is_flying || self.world.records.flies_everywhere_but(place))
    }

    /// Whether the ports fit into no address of these pools, be it free.
    fn fit_nowhere(&self, pools: &[&Arc<str>]) -> bool {
        !pools.iter().any(|pool| self.world.pools.find(pool).is_some_and(|pool| self.fits_range(pool)))
    }

    /// Whether the ports fit into an address of the pool that nothing else uses.
    pub(super) fn fits_range(&self, pool: &Pool) -> bool {
        assign(&self.ports, &[], pool.port_range(), &Taken::default()).1.is_empty()
    }

    fn awaits(&self, family: IpFamily, pools: &[&Arc<str>]) -> BTreeSet<Await> {
        match self.request.exact(family) {
            Some(address) => [Await::Exactly(address)].into(),
            None => pools.iter().map(|pool| Await::Any(Arc::clone(pool), family)).collect(),
        }
    }
}
