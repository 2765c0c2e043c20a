//! Which addresses a load balancer should have, looking at what it has and what is free. Knows one load balancer; changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::ip_allocation::Owner;
use nave_api::tcp_load_balancer::IpFamily;
use nave_api::{IPAllocation, IPAllocationSpec, TCPLoadBalancer, Tenant};

use super::drafts::Drafts;
use super::request::{Request, Wanted};
use super::waiting::Await;
use super::world::World;
use crate::Key;
use crate::hold::Hold;
use crate::key::uid;
use crate::order::id;
use crate::pool::choose::{Applicant, admits, candidates};
use crate::pool::{Pool, everywhere, is_everywhere};
use crate::ports::{Door, Taken, assign, covers};
use crate::problem::Shortage;
use crate::records::find_owner;

/// What is to be done about the addresses of a load balancer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Addresses to record, each with its pool.
    pub take: Vec<(IpAddr, Arc<str>)>,
    /// Recorded addresses that it no longer asks for. They go when all that it asks for is recorded.
    pub surplus: Vec<IpAddr>,
    pub shortage: Option<Shortage>,
    pub awaits: BTreeSet<Await>,
    /// How many more addresses its tenant might have, where it lacks something and that is limited.
    pub short_at: Option<usize>,
}

/// How many more addresses its tenant may have.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    pub left: usize,
    /// What to say when that is too few.
    pub shortage: Shortage,
}

/// So many owners an allocation has at most, as its schema says.
const MOST_OWNERS: usize = 1000;

/// What to do about the addresses of a load balancer that is accepted.
pub(super) fn plan(
    world: &World,
    drafts: &Drafts,
    key: &Key,
    balancer: &TCPLoadBalancer,
    tenant: &Tenant,
    allowance: Option<Allowance>,
) -> Plan {
    let uid = uid(&balancer.metadata);
    let own = world.records.of(key, uid).map(|(address, _)| address);
    let mut own: Vec<IpAddr> = own.filter(|address| !world.records.is_leaving(*address)).collect();
    let request = match Request::of(balancer) {
        Ok(request) => request,
        Err(shortage) => return Plan { shortage: Some(shortage), ..Plan::default() },
    };
    let ports = world.granted(key, balancer);
    let search = Search { world, drafts, key, uid, ports, tenant, namespace: origin(balancer), request, allowance };
    if own.len() > 1 {
        // That on which its ports are open stays; of two that would do, the one that people have been told of.
        own.sort_by_key(|address| (search.unmet(*address).is_some(), !is_shown(balancer, *address)));
    }
    let (kept, surplus) = search.keep(&own);
    let coming: Vec<IpAddr> = world.records.coming(key).collect();
    let mut plan = search.complete(&kept, &coming);
    let lacks = !search.missing(&kept, &coming).is_empty();
    plan.short_at = search.allowance.as_ref().map(|allowance| allowance.left).filter(|_| lacks);
    if plan.take.is_empty() && plan.shortage.is_none() {
        let unmet = kept.iter().find_map(|address| Some((*address, search.unmet(*address)?)));
        if let Some((address, shortage)) = unmet {
            plan.shortage = Some(shortage);
            plan.awaits.insert(search.room_on(address));
        }
    }
    if plan.take.is_empty() && plan.shortage.is_none() {
        if coming.is_empty() {
            plan.surplus = surplus;
        } else {
            plan.shortage = Some(Shortage::Pending);
        }
    }
    plan
}

/// Whether its status shows the address.
fn is_shown(balancer: &TCPLoadBalancer, address: IpAddr) -> bool {
    let shown = balancer.status.as_ref().map(|status| status.addresses.as_slice()).unwrap_or_default();
    shown.iter().any(|shown| shown.value.parse() == Ok(address))
}

fn origin(balancer: &TCPLoadBalancer) -> Option<&str> {
    balancer.spec.origin.as_ref().map(|origin| origin.namespace.as_str())
}

struct Search<'a> {
    world: &'a World,
    drafts: &'a Drafts,
    key: &'a Key,
    uid: &'a str,
    ports: BTreeSet<Door>,
    tenant: &'a Tenant,
    namespace: Option<&'a str>,
    request: Request<'a>,
    allowance: Option<Allowance>,
}

impl Search<'_> {
    /// What of its own it goes on using: the first that fits of each family it wants. The rest it asks for no longer.
    fn keep(&self, own: &[IpAddr]) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let mut kept: Vec<IpAddr> = Vec::new();
        for family in &self.request.families {
            let enough = self.request.wanted() == Wanted::One && !kept.is_empty();
            let fitting = own.iter().find(|address| IpFamily::of(**address) == *family && self.fits_record(**address));
            kept.extend(fitting.filter(|_| !enough));
        }
        let surplus = own.iter().copied().filter(|address| !kept.contains(address)).collect();
        (kept, surplus)
    }

    fn fits_record(&self, address: IpAddr) -> bool {
        let fits = |pool: &str| self.request.fits(address, pool) && (!is_everywhere(address) || self.may_come(pool));
        self.world.records.find(address).is_some_and(|object| fits(&object.spec.pool))
    }

    /// Whether a cloud has given an address by this pool, or may still: nothing comes of a pool that is gone.
    fn may_come(&self, pool: &str) -> bool {
        let gives = self.world.pools.find(pool).is_some_and(|pool| pool.service().is_some());
        gives || [Some(self.key), None].into_iter().any(|owner| self.world.supply.find(&id(pool, owner)).is_some())
    }

    /// The families that it still wants beside what it has and what is on the way.
    fn missing(&self, kept: &[IpAddr], coming: &[IpAddr]) -> Vec<IpFamily> {
        let has = |family: IpFamily| kept.iter().chain(coming).any(|address| IpFamily::of(*address) == family);
        let missing: Vec<IpFamily> = self.request.families.iter().copied().filter(|family| !has(*family)).collect();
        let has_any = missing.len() < self.request.families.len();
        if self.request.wanted() == Wanted::One && has_any { Vec::new() } else { missing }
    }

    /// What is missing beside what it has and what is on the way.
    fn complete(&self, kept: &[IpAddr], coming: &[IpAddr]) -> Plan {
        let missing = self.missing(kept, coming);
        if missing.is_empty() {
            return Plan::default();
        }
        let has_any = missing.len() < self.request.families.len();
        let pools = match self.pools(&missing) {
            Ok(pools) => pools,
            Err(shortage) => {
                let awaits =
                    missing.iter().filter_map(|family| self.request.exact(*family)).map(Await::Exactly).collect();
                return Plan { shortage: Some(shortage), awaits, ..Plan::default() };
            }
        };
        for pool in &pools {
            let found = self.affordable(missing.iter().filter_map(|family| self.find(*family, pool)));
            if found.is_empty() && self.is_busy(pool, &missing) {
                let awaits = missing.iter().flat_map(|family| self.awaits(*family, &pools)).collect();
                return Plan { shortage: Some(Shortage::Pending), awaits, ..Plan::default() };
            }
            match self.request.wanted() {
                Wanted::One if !found.is_empty() => {
                    return Plan { take: found.into_iter().take(1).collect(), ..Plan::default() };
                }
                Wanted::All if found.len() == missing.len() => return Plan { take: found, ..Plan::default() },
                Wanted::Some if !found.is_empty() => return self.partly(found, &missing, &pools),
                Wanted::One | Wanted::Some | Wanted::All => {}
            }
        }
        self.none(&missing, &pools, has_any)
    }

    /// What of it the tenant may have: what its own share with it counts for nothing.
    fn affordable(&self, found: impl Iterator<Item = (IpAddr, Arc<str>)>) -> Vec<(IpAddr, Arc<str>)> {
        let mut left = self.allowance.as_ref().map_or(usize::MAX, |allowance| allowance.left);
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
        is_everywhere(address) || !(is_drafted || self.world.records.is_in(address, namespace))
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

    /// Some of both families where both would be nicer: it has what there is, and waits for the rest in silence.
    fn partly(&self, found: Vec<(IpAddr, Arc<str>)>, missing: &[IpFamily], pools: &[&Arc<str>]) -> Plan {
        let rest = missing.iter().filter(|family| !found.iter().any(|(address, _)| IpFamily::of(*address) == **family));
        let awaits = rest.flat_map(|family| self.awaits(*family, pools)).collect();
        Plan { take: found, awaits, ..Plan::default() }
    }

    fn none(&self, missing: &[IpFamily], pools: &[&Arc<str>], has_any: bool) -> Plan {
        let names: Vec<Arc<str>> = pools.iter().map(|pool| Arc::clone(pool)).collect();
        let lacks = |family: &IpFamily| {
            self.request.exact(*family).is_none()
                && !pools.iter().any(|pool| self.world.pools.find(pool).is_some_and(|pool| pool.has(*family)))
        };
        let taken = missing.iter().find_map(|family| self.request.exact(*family).filter(|a| self.world.is_taken(*a)));
        let too_few = self.allowance.as_ref().filter(|allowance| allowance.left < self.fewest(missing, pools));
        let shortage = match self.request.wanted() {
            Wanted::Some if has_any => None,
            Wanted::One | Wanted::Some | Wanted::All => Some(match taken {
                _ if self.fit_nowhere(pools) => Shortage::NoPort { pools: names },
                // Said whether or not one is free just now: what is true must not depend on who was faster.
                _ if let Some(Allowance { left: _, shortage }) = too_few => shortage.clone(),
                Some(address) => self.in_the_way(address, pools).unwrap_or(Shortage::Taken { address }),
                None if missing.iter().any(lacks)
                    && (self.request.wanted() == Wanted::All || missing.iter().all(lacks)) =>
                {
                    Shortage::FamilyMissing { pools: names, families: missing.iter().copied().filter(lacks).collect() }
                }
                None => Shortage::Exhausted {
                    pools: names,
                    families: missing.iter().copied().filter(|f| !lacks(f)).collect(),
                },
            }),
        };
        // Whom no free address helps is not called for each: the end of a limit, or an edit of a pool, calls him.
        let shares = |pool: &&Arc<str>| self.world.pools.find(pool).is_some_and(Pool::shares);
        let awaits = match too_few {
            _ if self.fit_nowhere(pools) => BTreeSet::new(),
            Some(_) if pools.iter().any(shares) => [Await::Own(Arc::clone(&self.key.namespace))].into(),
            Some(_) => BTreeSet::new(),
            None => missing.iter().flat_map(|family| self.awaits(*family, pools)).collect(),
        };
        Plan { shortage, awaits, ..Plan::default() }
    }

    /// The port that keeps it from an address that it might share.
    fn in_the_way(&self, address: IpAddr, pools: &[&Arc<str>]) -> Option<Shortage> {
        let pool = pools.iter().find(|pool| self.may_join(address, pool))?;
        let object = self.world.records.find(address).map(AsRef::as_ref);
        let taken = self.world.taken_ports(address, pool, object, self.key);
        let (protocol, port) = self.ports.intersection(&taken.doors).next()?;
        Some(Shortage::PortTaken { address, protocol: protocol.as_str(), port: *port })
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
        let fits = |pool: &Pool| assign(&self.ports, &[], pool.port_range(), &Taken::default()).1.is_empty();
        !pools.iter().any(|pool| self.world.pools.find(pool).is_some_and(fits))
    }

    fn awaits(&self, family: IpFamily, pools: &[&Arc<str>]) -> BTreeSet<Await> {
        match self.request.exact(family) {
            Some(address) => [Await::Exactly(address)].into(),
            None => pools.iter().map(|pool| Await::Any(Arc::clone(pool), family)).collect(),
        }
    }

    /// The pools to look in, the best first.
    fn pools(&self, missing: &[IpFamily]) -> Result<Vec<&Arc<str>>, Shortage> {
        let applicant = Applicant { tenant: self.tenant, namespace: self.namespace };
        let open = |name: &&Arc<str>| self.world.pools.find(name).is_some_and(|pool| admits(pool, applicant));
        if let Some(named) = self.request.pool {
            let pools: Vec<_> =
                self.world.pools.iter().map(|(name, _)| name).filter(|name| ***name == *named).filter(open).collect();
            let shortage = Shortage::PoolNotOpen { pool: named.to_owned() };
            return if pools.is_empty() { Err(shortage) } else { Ok(pools) };
        }
        let exact: Vec<IpAddr> = missing.iter().filter_map(|family| self.request.exact(*family)).collect();
        if let Some(address) = exact.first() {
            let pools: Vec<_> = self.world.pools.offering(*address).map(|(name, _)| name).filter(open).collect();
            return if pools.is_empty() { Err(Shortage::NotOffered { address: *address }) } else { Ok(pools) };
        }
        let pools = candidates(&self.world.pools, applicant);
        if pools.is_empty() { Err(Shortage::NoPool) } else { Ok(pools) }
    }

    /// An address of the family in the pool: the one that is asked for, one it had before, or the lowest free one.
    fn find(&self, family: IpFamily, pool: &Arc<str>) -> Option<(IpAddr, Arc<str>)> {
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

    /// The lowest address of the pool that the tenant, or who else may share with it, has already and whose ports leave room.
    fn shared(&self, family: IpFamily, pool: &Arc<str>) -> Option<IpAddr> {
        let space = self.world.pools.find(pool).filter(|space| space.shares())?;
        let known: BTreeSet<IpAddr> = if space.shares_across_tenants() {
            self.world.records.of_pool(pool).chain(self.drafts.of_pool(pool)).collect()
        } else {
            let recorded = self.world.records.of_tenant(&self.key.namespace, pool);
            recorded.chain(self.drafts.of_tenant(&self.key.namespace, pool)).collect()
        };
        known.into_iter().find(|address| {
            IpFamily::of(*address) == family
                && space.gives_unasked(*address)
                && self.may_join(*address, pool)
                && self.fits_ports(*address, space)
        })
    }

    /// Whether the address is the tenant's own already or shared by all, in a pool that shares, and nothing is under way on it.
    fn may_join(&self, address: IpAddr, pool: &str) -> bool {
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
    fn is_unreadable(&self, address: IpAddr) -> bool {
        let records = &self.world.records;
        let name = records.find(address).map(|object| Key::of(&**object));
        records.is_unknown(address) || name.is_some_and(|name| self.world.allocations.unreadable(&name).is_some())
    }

    /// Whether every port finds a place on the address.
    fn fits_ports(&self, address: IpAddr, pool: &Pool) -> bool {
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
    fn unmet(&self, address: IpAddr) -> Option<Shortage> {
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
    fn room_on(&self, address: IpAddr) -> Await {
        let object = self.world.records.find(address).filter(|_| is_everywhere(address));
        let any = |object: &Arc<IPAllocation>| Await::Any(object.spec.pool.as_str().into(), IpFamily::of(address));
        object.map_or(Await::Exactly(address), any)
    }

    /// Whether the address is free, or is left by one of the same name that is gone.
    fn may_take(&self, address: IpAddr, pool: &str) -> bool {
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
