//! Pools: which addresses there are, which are free, who may have them. Knows no load balancer and no clock.

pub(crate) mod choose;
mod problem;
mod range;
mod space;
mod spans;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use nave_api::ip_pool::{PortRange, ServicePer, ServiceSource, Sharing, Source};
use nave_api::tcp_load_balancer::IpFamily;
use nave_api::{IPPool, IPPoolSpec};
use sha2::{Digest, Sha256};

pub(crate) use problem::PoolProblem;
pub(crate) use range::{InvalidRange, Range};
pub(crate) use spans::Spans;

use space::space;

use crate::key::born;

/// A pool and what of it is free.
#[derive(Debug)]
pub(crate) struct Pool {
    pub object: Arc<IPPool>,
    pub problem: Option<PoolProblem>,
    /// What it includes, be it excluded again: no backend lies there.
    pub included: Spans,
    /// What it may give.
    given: Spans,
    /// What of it those get who ask for no address, and what of that is free.
    dynamic: Spans,
    free: Spans,
    /// How many of the given are taken, and how many of the dynamic part.
    taken: u128,
    dynamic_taken: u128,
}

impl Pool {
    /// The pool as its spec says, nothing taken.
    fn parse(object: Arc<IPPool>) -> Self {
        let (included, given, dynamic, problem) = match space(&name(&object), &object.spec) {
            Ok((included, given, dynamic)) => (included, given, dynamic, None),
            Err(problem) => (Spans::default(), Spans::default(), Spans::default(), Some(problem)),
        };
        Self { object, problem, included, given, free: dynamic.clone(), dynamic, taken: 0, dynamic_taken: 0 }
    }

    pub fn spec(&self) -> &IPPoolSpec {
        &self.object.spec
    }

    /// How the hub's cloud gives its addresses, if it does.
    pub fn service(&self) -> Option<&ServiceSource> {
        match &self.spec().source {
            Source::Service(service) => Some(service),
            Source::Static {} | Source::External {} => None,
        }
    }

    /// Whether one address serves several load balancers.
    pub fn shares(&self) -> bool {
        self.service().is_some()
            || match self.spec().sharing {
                Sharing::Exclusive => false,
                Sharing::ByPort | Sharing::ByPortAcrossTenants => true,
            }
    }

    /// Whether these may belong to several tenants.
    pub fn shares_across_tenants(&self) -> bool {
        self.service().is_some()
            || match self.spec().sharing {
                Sharing::Exclusive | Sharing::ByPort => false,
                Sharing::ByPortAcrossTenants => true,
            }
    }

    /// The ports that may be recorded on its addresses.
    pub fn port_range(&self) -> Option<PortRange> {
        match self.service() {
            Some(service) => match service.per {
                ServicePer::LoadBalancer => Some(service.envoy_ports()),
                ServicePer::Fleet => self.spec().port_range,
            },
            None => self.spec().port_range,
        }
    }

    /// Whether ports are given one by one, so that only those that are recorded for an owner are his.
    pub fn counts_ports(&self) -> bool {
        self.shares() || self.port_range().is_some()
    }

    /// Whether its spec can be read: another pool may still stand in its way.
    pub fn is_well_formed(&self) -> bool {
        matches!(self.problem, None | Some(PoolProblem::Overlap { .. } | PoolProblem::PortOverlap { .. }))
    }

    /// Whether it gives addresses at all.
    pub fn is_ready(&self) -> bool {
        self.problem.is_none()
    }

    /// What it may give.
    pub fn given(&self) -> &Spans {
        &self.given
    }

    /// Whether the address is one that the pool may give.
    pub fn offers(&self, address: IpAddr) -> bool {
        self.given.contains(address)
    }

    /// Whether the address is one for those who ask for none.
    pub fn gives_unasked(&self, address: IpAddr) -> bool {
        self.dynamic.contains(address)
    }

    /// The lowest free address of the family for one who asks for none.
    pub fn lowest(&self, family: IpFamily) -> Option<IpAddr> {
        self.free.first(family)
    }

    /// Whether those who ask for no address can get one of the family, were none taken.
    pub fn has(&self, family: IpFamily) -> bool {
        self.dynamic.has(family)
    }

    /// Whether it has addresses of the family, be they given on request alone.
    pub fn has_on_request(&self, family: IpFamily) -> bool {
        self.given.has(family)
    }

    pub fn total(&self) -> u128 {
        self.given.count()
    }

    /// How many addresses it can give now: none where an older pool has some of them, or its spec has a mistake.
    pub fn free_count(&self) -> u128 {
        if self.is_ready() { self.total().saturating_sub(self.taken) } else { 0 }
    }

    /// How many addresses there are for those who ask for none, and how many of them are free.
    pub fn dynamic_counts(&self) -> (u128, u128) {
        let total = self.dynamic.count();
        (total, total.saturating_sub(self.dynamic_taken))
    }

    fn take(&mut self, address: IpAddr) {
        if self.given.contains(address) {
            self.taken += 1;
            self.dynamic_taken += u128::from(self.dynamic.contains(address));
            self.free.remove(address);
        }
    }

    fn give_back(&mut self, address: IpAddr) {
        if self.given.contains(address) {
            self.taken = self.taken.saturating_sub(1);
            if self.dynamic.contains(address) {
                self.dynamic_taken = self.dynamic_taken.saturating_sub(1);
                self.free.insert(address);
            }
        }
    }
}

/// All pools.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_name: BTreeMap<Arc<str>, Pool>,
    /// Every address that a cloud gave, and how often.
    delivered: BTreeMap<IpAddr, u32>,
    /// Addresses that are somebody's, and in the pool that gave them no more: that pool is gone, or says something else now.
    strays: Spans,
}

/// What an update of pools changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// The pools that are not what they were: those that were edited, and those that overlap others now or no longer.
    pub names: BTreeSet<Arc<str>>,
    /// What they include or included, where that, or the fleet that serves it, differs.
    pub included: Spans,
}

impl Pools {
    /// Reads these pools anew. Who overlaps an older one gives nothing; who has the same age yields to the lower name.
    pub fn update(
        &mut self,
        named: BTreeSet<Arc<str>>,
        find: impl Fn(&Arc<str>) -> Option<Arc<IPPool>>,
        taken_in: impl Fn(&Spans) -> BTreeSet<IpAddr>,
    ) -> Changed {
        let mut changed = Changed::default();
        for name in named {
            let place = |pool: &Pool| (pool.included.clone(), pool.spec().fleet().to_owned());
            let before = self.by_name.remove(&name).as_ref().map(place).unwrap_or_default();
            let mut after = <(Spans, String)>::default();
            if let Some(object) = find(&name) {
                let mut pool = Pool::parse(object);
                let delivered = pool.given.ranges().flat_map(|(low, high)| self.delivered.range(low..=high));
                let delivered = delivered.map(|(address, _)| *address);
                for address in taken_in(&pool.given).into_iter().chain(delivered).collect::<BTreeSet<_>>() {
                    pool.take(address);
                }
                after = place(&pool);
                self.by_name.insert(Arc::clone(&name), pool);
            }
            if before != after {
                changed.included.extend(&before.0);
                changed.included.extend(&after.0);
            }
            changed.names.insert(name);
        }
        for (name, problem) in self.overlaps() {
            if let Some(pool) = self.by_name.get_mut(&name).filter(|pool| pool.problem != problem) {
                pool.problem = problem;
                changed.names.insert(name);
            }
        }
        changed
    }

    /// Which older pool each of those overlaps that are well in themselves.
    fn overlaps(&self) -> Vec<(Arc<str>, Option<PoolProblem>)> {
        let mut well: Vec<(&Arc<str>, &Pool)> = self.by_name.iter().filter(|(_, pool)| pool.is_well_formed()).collect();
        well.sort_by_key(|(_, pool)| age(pool));
        let mut older: Vec<&Pool> = Vec::new();
        let mut found = Vec::new();
        for (name, pool) in well {
            let problem = older.iter().find_map(|older| overlap(older, pool));
            if problem.is_none() {
                older.push(pool);
            }
            found.push((Arc::clone(name), problem));
        }
        found
    }

    pub fn find(&self, name: &str) -> Option<&Pool> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Pool)> {
        self.by_name.iter()
    }

    /// The address is nobody else's from now on, whichever pool offers it.
    pub fn take(&mut self, address: IpAddr) {
        self.by_name.values_mut().for_each(|pool| pool.take(address));
    }

    /// The address is free.
    pub fn give_back(&mut self, address: IpAddr) {
        self.by_name.values_mut().for_each(|pool| pool.give_back(address));
    }

    /// The pools that offer this address, be it free or not.
    pub fn offering(&self, address: IpAddr) -> impl Iterator<Item = (&Arc<str>, &Pool)> {
        self.by_name.iter().filter(move |(_, pool)| pool.offers(address))
    }

    /// The IPv4 networks whose addresses the nodes of a fleet have for others than the load balancers of a cloud's pool.
    pub fn inhabited(&self, fleet: &str) -> Vec<IpNet> {
        let mut all = Spans::default();
        for pool in self.by_name.values().filter(|pool| pool.spec().fleet() == fleet) {
            all.extend(&pool.included);
        }
        all.extend(&self.strays);
        all.ipv4_networks().map(IpNet::V4).collect()
    }

    /// From now on the address is a stray, or none; whether it was otherwise before. `giver`: the pool of its record, if it has one.
    pub fn stray(&mut self, address: IpAddr, giver: Option<&str>) -> bool {
        let includes = |name: &str| self.find(name).is_some_and(|pool| pool.included.contains(address));
        let is_stray = giver.is_some_and(|name| !includes(name));
        let was_stray = self.strays.contains(address);
        match (was_stray, is_stray) {
            (false, true) => self.strays.insert(address),
            (true, false) => self.strays.remove(address),
            (false, false) | (true, true) => {}
        }
        was_stray != is_stray
    }

    /// Whether a cloud gave the address.
    pub fn is_delivered(&self, address: IpAddr) -> bool {
        self.delivered.contains_key(&address)
    }

    /// A cloud gave the address once more.
    pub fn deliver(&mut self, address: IpAddr) {
        *self.delivered.entry(address).or_default() += 1;
    }

    /// A cloud took the address back, once.
    pub fn undeliver(&mut self, address: IpAddr) {
        if let Some(times) = self.delivered.get_mut(&address) {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.delivered.remove(&address);
            }
        }
    }

    /// Whether a pool includes the address, or a cloud gave it.
    pub fn includes(&self, address: IpAddr) -> bool {
        self.is_delivered(address)
            || self.strays.contains(address)
            || self.by_name.values().any(|pool| pool.included.contains(address))
    }
}

/// What both pools would give.
fn overlap(older: &Pool, pool: &Pool) -> Option<PoolProblem> {
    if let Some(address) = older.given.overlap(&pool.given) {
        return Some(PoolProblem::Overlap { pool: name(&older.object), address });
    }
    older.service().zip(pool.service()).filter(|_| older.spec().fleet() == pool.spec().fleet())?;
    let [PortRange { low, high }, other] = [older, pool].map(|pool| pool.port_range().unwrap_or(EVERY_PORT));
    let port = low.max(other.low);
    (port <= high.min(other.high)).then(|| PoolProblem::PortOverlap { pool: name(&older.object), port })
}

const EVERY_PORT: PortRange = PortRange { low: 1, high: u16::MAX };

/// Stands for every address of the fleet's nodes, on which Envoy listens for a pool whose addresses the hub's cloud gives:
/// an address of "this network" (RFC 1122, 3.2.1.3), which is nobody's, one for each pool.
pub(crate) fn everywhere(pool: &str) -> IpAddr {
    let hash: [u8; 32] = Sha256::digest(pool.as_bytes()).into();
    IpAddr::from([0, hash[0], hash[1], hash[2]])
}

/// Whether the address stands for every address of a fleet's nodes.
pub(crate) fn is_everywhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0,
        IpAddr::V6(_) => false,
    }
}

fn age(pool: &Pool) -> (k8s_openapi::jiff::Timestamp, Arc<str>) {
    (born(&pool.object.metadata), name(&pool.object))
}

fn name(pool: &IPPool) -> Arc<str> {
    pool.metadata.name.as_deref().unwrap_or("").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(name: &str, age: i64, addresses: &serde_json::Value) -> Arc<IPPool> {
        let created = k8s_openapi::jiff::Timestamp::from_second(1_000_000 - age).unwrap();
        let object = json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"source": {"static": {}}, "addresses": addresses},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    /// These pools, with these addresses taken.
    fn pools(objects: impl IntoIterator<Item = Arc<IPPool>>, taken: &[IpAddr]) -> Pools {
        let objects: BTreeMap<Arc<str>, Arc<IPPool>> =
            objects.into_iter().map(|object| (name(&object), object)).collect();
        let mut pools = Pools::default();
        let within = |spans: &Spans| taken.iter().copied().filter(|address| spans.contains(*address)).collect();
        pools.update(objects.keys().cloned().collect(), |name| objects.get(name).cloned(), within);
        pools
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_dynamic_part_is_given_to_those_who_ask_for_none() {
        let parts =
            json!({"include": ["203.0.113.0/24"], "exclude": ["203.0.113.128"], "dynamic": ["203.0.113.128/25"]});
        let pools = pools([pool("a", 1, &parts)], &[ip("203.0.113.129")]);
        let pool = pools.find("a").unwrap();
        assert_eq!(pool.lowest(IpFamily::IPv4), Some(ip("203.0.113.130")));
        assert!(pool.offers(ip("203.0.113.7")) && !pool.offers(ip("203.0.113.128")));
        assert_eq!((pool.total(), pool.free_count()), (255, 254));
    }

    #[test]
    fn an_address_given_back_is_free_at_once() {
        let mut pools = pools([pool("a", 1, &json!({"include": ["203.0.113.4"]}))], &[]);
        pools.take(ip("203.0.113.4"));
        assert_eq!(pools.find("a").unwrap().lowest(IpFamily::IPv4), None);
        pools.give_back(ip("203.0.113.4"));
        assert_eq!(pools.find("a").unwrap().lowest(IpFamily::IPv4), Some(ip("203.0.113.4")));
    }

    #[test]
    fn the_newer_of_two_overlapping_pools_gives_nothing() {
        let older = pool("z", 9, &json!({"include": ["203.0.113.0/24"]}));
        let newer = pool("a", 1, &json!({"include": ["203.0.0.0/16"]}));
        let pools = pools([newer, older], &[]);
        let problem = PoolProblem::Overlap { pool: "z".into(), address: ip("203.0.113.0") };
        assert_eq!(pools.find("a").unwrap().problem, Some(problem));
        assert!(pools.find("z").unwrap().is_ready());
    }

    #[test]
    fn a_bad_range_is_the_problem_of_its_pool_alone() {
        let bad = pool("bad", 9, &json!({"include": ["203.0.113.9-203.0.113.1"]}));
        let multicast = pool("multicast", 8, &json!({"include": ["224.0.0.0/24"]}));
        let good = pool("good", 1, &json!({"include": ["203.0.113.0/24"]}));
        let outside = pool("outside", 7, &json!({"include": ["198.51.100.0/24"], "dynamic": ["198.51.0.0/16"]}));
        let pools = pools([bad, multicast, outside, good], &[]);
        let ready: Vec<_> = pools.iter().map(|(name, pool)| (&**name, pool.is_ready())).collect();
        assert_eq!(ready, [("bad", false), ("good", true), ("multicast", false), ("outside", false)]);
    }
}
