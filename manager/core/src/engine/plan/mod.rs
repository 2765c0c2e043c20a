//! Which addresses a load balancer should have, looking at what it has and what is free. Knows one load balancer; changes nothing.

mod complete;
mod find;
mod look;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::tcp_load_balancer::IpFamily;
use nave_api::{TCPLoadBalancer, Tenant};

use super::drafts::Drafts;
use super::request::{Request, Wanted};
use super::waiting::Await;
use super::world::World;
use crate::Key;
use crate::key::uid;
use crate::order::id;
use crate::pool::is_everywhere;
use crate::ports::Door;
use crate::problem::Shortage;

/// What is to be done about the addresses of a load balancer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Addresses to record, each with its pool.
    pub take: Vec<(IpAddr, Arc<str>)>,
    /// Recorded addresses that it no longer asks for. They go when all that it asks for is recorded. Where it needs one of each
    /// family and was never shown any, also what is recorded of a pair that does not come about.
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

/// What to do about the addresses of a load balancer that is accepted. `is_shown`: whether any was ever shown.
pub(super) fn plan(
    world: &World,
    drafts: &Drafts,
    key: &Key,
    balancer: &TCPLoadBalancer,
    tenant: &Tenant,
    allowance: Option<Allowance>,
    is_shown: bool,
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
        // That on which its ports are open stays; of two that would do, the one that was shown.
        own.sort_by_key(|address| (search.unmet(*address).is_some(), !shows(balancer, *address)));
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
    let is_pair = search.request.wanted() == Wanted::All && !is_shown && coming.is_empty();
    if is_pair && lacks && plan.take.is_empty() && plan.shortage != Some(Shortage::Pending) {
        // Both or none: half a pair serves nothing, and keeps its address from others.
        plan.surplus.extend(kept);
    }
    plan
}

/// Whether its status shows the address.
fn shows(balancer: &TCPLoadBalancer, address: IpAddr) -> bool {
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
}
