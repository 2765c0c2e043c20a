//! Objects that are there and cannot be read: what depends on them stays as it is. Knows what is kept for which load balancer;
//! knows not why an object cannot be read but as words for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_api::TCPLoadBalancer;
use nave_api::condition::{self, ConditionType, Verdict};
use nave_api::names::{service_allocation_name, tenant_of};
use nave_api::tcp_load_balancer::Protocol;
use nave_xds::catalog::Keep;
use nave_xds::resource::ResourceType;

use super::Engine;
use super::world::{World, node_set_of};
use crate::key::uid;
use crate::pool::is_everywhere;
use crate::problem::{Problem, unreadable};
use crate::records::{named_place, record_name};
use crate::seen::Unreadable;
use crate::step::{Step, UnreadableReport};
use crate::{Key, Timestamp, compile};

/// A kind whose status says that an object of it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// TCPLoadBalancer.
    LoadBalancer,
    /// IPPool.
    Pool,
    /// Tenant.
    Tenant,
    /// Fleet.
    Fleet,
    /// IPAllocation.
    Allocation,
}

impl Kind {
    fn condition(self) -> ConditionType {
        match self {
            Self::LoadBalancer => ConditionType::Accepted,
            Self::Pool | Self::Tenant | Self::Fleet | Self::Allocation => ConditionType::Ready,
        }
    }
}

/// The reason of the condition.
const REASON: &str = "Unreadable";

/// What Envoys keep for which load balancer, beside what they are served.
#[derive(Debug, Default)]
pub(super) struct Kept {
    by_balancer: BTreeMap<Key, Keep>,
    /// Addresses whose allocation cannot be read: whatever is open there stays open.
    addresses: BTreeSet<IpAddr>,
    told: Keep,
    changed: bool,
}

impl Kept {
    fn put(&mut self, key: &Key, keep: &Keep) {
        let before = if *keep == Keep::default() {
            self.by_balancer.remove(key).unwrap_or_default()
        } else {
            self.by_balancer.insert(key.clone(), keep.clone()).unwrap_or_default()
        };
        self.changed |= before != *keep;
    }

    fn put_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        if self.addresses != *addresses {
            self.addresses.clone_from(addresses);
            self.changed = true;
        }
    }

    /// All that is kept, where that is something else than was said last.
    pub fn news(&mut self) -> Option<Keep> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut all = Keep::default();
        for Keep { names, prefixes } in self.by_balancer.values() {
            all.names.extend(names.iter().cloned());
            all.prefixes.extend(prefixes.iter().cloned());
        }
        for address in &self.addresses {
            all.prefixes.extend(
                [Protocol::Tcp, Protocol::Udp]
                    .map(|protocol| (ResourceType::Listener, compile::listener_prefix(*address, protocol).into())),
            );
        }
        let is_news = all != self.told;
        self.told.clone_from(&all);
        is_news.then_some(all)
    }
}

/// What was said of objects that cannot be read, until they can.
pub(super) type Reports = BTreeMap<(Kind, Key), UnreadableReport>;

impl World {
    /// The object of which nothing is known and without which nothing about the load balancer can be decided: its Tenant, or
    /// the allocation of an address that its status shows.
    pub fn frozen_by(&self, key: &Key, balancer: &TCPLoadBalancer) -> Option<Problem> {
        let tenant = tenant_of(&key.namespace).and_then(|name| self.tenants.unknown(&Key::cluster(name)));
        let tenant = tenant.map(|unknown| depends("Tenant", unknown));
        let shown = balancer.status.iter().flat_map(|status| &status.addresses);
        let names = shown.flat_map(|shown| {
            let own = shown.value.parse::<IpAddr>().ok().map(|address| record_name(address, &shown.pool));
            own.into_iter().chain([service_allocation_name(&shown.pool)])
        });
        tenant.or_else(|| {
            let mut unknown = names.filter_map(|name| self.allocations.unknown(&Key::cluster(name)));
            unknown.next().map(|unknown| depends("IPAllocation", unknown))
        })
    }

    /// The NodeSet that the load balancer names, where nothing is known of it.
    pub fn unknown_node_set(&self, key: &Key, balancer: &TCPLoadBalancer) -> Option<Problem> {
        let unknown = node_set_of(key, balancer).and_then(|node_set| self.node_sets.unknown(&node_set).cloned())?;
        Some(depends("NodeSet", &unknown))
    }

    /// Whether nothing is known of the pool.
    pub fn is_unknown_pool(&self, pool: &str) -> bool {
        self.pool_objects.unknown(&Key::cluster(pool)).is_some()
    }
}

fn depends(kind: &'static str, unknown: &Unreadable) -> Problem {
    Problem::DependsOnUnreadable { kind, name: unknown.key.name.to_string(), why: unknown.why.clone() }
}

impl Engine {
    /// Whether the object can be read may have changed.
    pub(super) fn legibility_moved(&mut self, kind: Kind, key: Key) {
        let at = (kind, key);
        if self.unreadable(&at).is_some() || self.said.unreadable.contains_key(&at) {
            self.dirt.unreadable.insert(at);
        }
    }

    /// An allocation of which nothing is known keeps its address from all load balancers.
    pub(super) fn unknown_allocation_moved(&mut self, key: &Key) {
        let is_unknown = self.world.allocations.unknown(key).is_some();
        let Some(address) = named_place(&key.name) else { return };
        if !self.world.records.set_unknown(address, is_unknown) {
            return;
        }
        self.dirt.unknown_allocations = true;
        self.dirt.stirred.insert(address);
        if self.world.pools.is_delivered(address) {
            return;
        }
        if is_unknown {
            self.world.pools.take(address);
        } else if !self.world.is_taken(address) {
            self.free(address);
        }
    }

    /// The load balancers that show an address whose allocation became unknown, or known, are looked at again.
    pub(super) fn refresh_unknown_allocations(&mut self) {
        if !std::mem::take(&mut self.dirt.unknown_allocations) {
            return;
        }
        self.kept.put_addresses(self.world.records.unknown());
        let frozen = self.world.balancers.iter().filter(|(key, balancer)| {
            let was = self.entries.get(*key).is_some_and(|entry| entry.frozen.is_some());
            was || self.world.frozen_by(key, balancer).is_some()
        });
        let frozen: Vec<Key> = frozen.map(|(key, _)| key.clone()).collect();
        for key in &frozen {
            self.dirt.balancer(key);
        }
    }

    /// Whether the load balancer's condition says that it cannot be read.
    pub(super) fn is_said_unreadable(&self, key: &Key) -> bool {
        let problems = self.entries.get(key).into_iter().flat_map(|entry| &entry.problems);
        problems.into_iter().any(|problem| matches!(problem, Problem::Unreadable { .. }))
    }

    /// Notes what Envoys keep of the load balancer, since it is not known what it is.
    pub(super) fn keep(&mut self, key: &Key) {
        let keep = self.kept_of(key);
        self.kept.put(key, &keep);
    }

    fn kept_of(&self, key: &Key) -> Keep {
        if let Some(unknown) = self.world.balancers.unknown(key) {
            return self.all_of(key, &unknown.uid);
        }
        let Some(balancer) = self.world.balancers.find(key) else { return Keep::default() };
        let entry = self.entries.get(key);
        if entry.is_some_and(|entry| entry.frozen.is_some() && entry.fragment.is_empty()) {
            let mut keep = self.all_of(key, uid(&balancer.metadata));
            keep.names.extend(shown_listeners(balancer));
            return keep;
        }
        let mut keep = Keep::default();
        if self.world.unknown_node_set(key, balancer).is_some() {
            keep.prefixes.insert((ResourceType::Endpoints, compile::cluster_prefix(key).into()));
        }
        keep
    }

    /// Every resource that an Envoy may have of the load balancer: its clusters and endpoints by their names, its listeners by
    /// the addresses and ports that are recorded for it.
    fn all_of(&self, key: &Key, uid: &str) -> Keep {
        let prefix = |kind| (kind, compile::cluster_prefix(key).into());
        let mut keep = Keep {
            names: BTreeSet::new(),
            prefixes: [ResourceType::Cluster, ResourceType::Endpoints].map(prefix).into(),
        };
        for (address, object) in self.world.records.of_name(key) {
            let own = object.spec.owners.iter().filter(|owner| owner.uid == uid || uid.is_empty());
            let own = own.filter(|owner| *owner.namespace == *key.namespace && *owner.name == *key.name);
            for port in own.flat_map(|owner| &owner.ports) {
                let name = compile::listener_name(address, port.protocol, port.port);
                keep.names.insert((ResourceType::Listener, name.into()));
            }
        }
        keep
    }

    /// Says of objects that they cannot be read, each once until something about that changes.
    pub(super) fn report_unreadable(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        for at in std::mem::take(&mut self.dirt.unreadable) {
            let Some(object) = self.unreadable(&at) else {
                self.said.unreadable.remove(&at);
                continue;
            };
            let before = self.said.unreadable.get(&at).filter(|before| before.uid == object.uid);
            let known = before.map(|before| vec![before.condition.clone()]).unwrap_or_default();
            let verdict = Verdict::fails(at.0.condition(), REASON, unreadable(&object.why));
            let after = condition::settle(&known, &[verdict], object.generation, &Time(now));
            if after == known || object.uid.is_empty() || self.is_said_by_its_status(&at) {
                continue;
            }
            for condition in after {
                let ((kind, key), uid) = (at.clone(), object.uid.clone());
                let report = UnreadableReport { kind, key, uid, condition };
                steps.push(Step::ReportUnreadable(report.clone()));
                self.said.unreadable.insert(at.clone(), report);
            }
        }
    }

    /// Whether the status that is written of the object anyhow says it.
    fn is_said_by_its_status(&self, (kind, key): &(Kind, Key)) -> bool {
        match kind {
            Kind::LoadBalancer => self.world.balancers.find(key).is_some(),
            Kind::Pool => self.world.pool_objects.find(key).is_some(),
            Kind::Fleet => self.world.fleets.find(key).is_some(),
            Kind::Tenant | Kind::Allocation => false,
        }
    }

    fn unreadable(&self, (kind, key): &(Kind, Key)) -> Option<Unreadable> {
        let world = &self.world;
        let found = match kind {
            Kind::LoadBalancer => world.balancers.unreadable(key),
            Kind::Pool => world.pool_objects.unreadable(key),
            Kind::Tenant => world.tenants.unreadable(key),
            Kind::Fleet => world.fleets.unreadable(key),
            Kind::Allocation => world.allocations.unreadable(key),
        };
        found.cloned()
    }

    /// Forgets what was said: another leader may have said something else.
    pub(super) fn forget_reports(&mut self) {
        self.dirt.unreadable.extend(std::mem::take(&mut self.said.unreadable).into_keys());
    }

    /// A report could not be written.
    pub(super) fn report_failed(&mut self, report: &UnreadableReport) {
        let at = (report.kind, report.key.clone());
        self.said.unreadable.remove(&at);
        self.dirt.unreadable.insert(at);
    }
}

/// The listeners of the addresses that the load balancer's status shows.
fn shown_listeners(balancer: &TCPLoadBalancer) -> impl Iterator<Item = nave_xds::resource::Key> {
    let shown = balancer.status.iter().flat_map(|status| &status.addresses);
    shown.flat_map(|shown| {
        let address = shown.value.parse::<IpAddr>().ok().filter(|address| !is_everywhere(*address));
        let name = move |port: &nave_api::tcp_load_balancer::AddressPort| {
            let name = compile::listener_name(address?, port.protocol, port.port);
            Some((ResourceType::Listener, name.into()))
        };
        shown.ports.iter().filter_map(name)
    })
}

/// What an overview says of an object that cannot be read, in place of its own verdict.
pub(super) fn verdict(unreadable: Option<&Unreadable>, own: Verdict) -> Verdict {
    match unreadable {
        Some(unreadable) => Verdict::fails(own.kind, REASON, crate::problem::unreadable(&unreadable.why)),
        None => own,
    }
}
