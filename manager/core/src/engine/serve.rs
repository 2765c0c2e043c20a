//! From load balancers to what the fleets serve. Knows what was published of whom; an address is served when it is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nave_api::TCPLoadBalancer;
use nave_api::tcp_load_balancer::TCPLoadBalancerStatus;
use nave_api::tenant::TenantState;
use nave_xds::resource::{Key as ResourceKey, Resource, ResourceType};
use nave_xds::store::Change;

use super::Engine;
use super::programmed::says_programmed;
use super::request::needs_both;
use super::world::node_set_of;
use crate::compile::{self, Opening, Settled};
use crate::key::uid;
use crate::limits::Rank;
use crate::pool::is_everywhere;
use crate::problem::{Problem, Shortage};
use crate::targets::{self, Targets};
use crate::{Key, Timestamp};

/// What was decided of a load balancer.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The uid of the load balancer: one made later under the name inherits what is served and nothing that was said.
    pub uid: String,
    /// The fleet that serves it.
    pub fleet: Arc<str>,
    /// What Envoy gets.
    pub fragment: Vec<Resource>,
    pub problems: Vec<Problem>,
    /// Limits of the tenant that it would exceed.
    pub limits: Vec<Problem>,
    /// How many of its backends get traffic, where a limit leaves some out.
    pub backends: Option<u32>,
    /// Its place where its tenant has limits.
    pub rank: Option<Rank>,
    /// Backends that the spoke names, and those that get traffic.
    pub total: u32,
    pub ready: u32,
    /// What each of its UDP ports may promise.
    pub sessions: BTreeMap<u16, u32>,
    /// That this is less than it asks for.
    pub shares: Vec<Problem>,
    /// Whether listeners of it wait until earlier changes of its tenant are worked off.
    pub waits: bool,
    pub shortage: Option<Shortage>,
    /// An object of which nothing is known: what is served of this load balancer, and what was said of it, stays as it is.
    pub frozen: Option<Problem>,
    pub programmed: Programmed,
    /// The status that was said and not yet seen.
    pub said: Option<TCPLoadBalancerStatus>,
}

/// Whether this content was acknowledged by all, once. Envoys that come and go take nothing back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Programmed {
    /// Nothing was heard in this life: the status counts.
    #[default]
    Unknown,
    No,
    Yes,
}

impl Entry {
    fn of(self, uid: &str) -> Self {
        if self.uid == uid {
            return self;
        }
        let Self {
            uid: _,
            fleet,
            fragment,
            problems: _,
            limits,
            backends,
            rank,
            total,
            ready,
            sessions,
            shares,
            waits,
            shortage: _,
            frozen: _,
            programmed: _,
            said: _,
        } = self;
        let uid = uid.to_owned();
        Self { uid, fleet, fragment, limits, backends, rank, total, ready, sessions, shares, waits, ..Self::default() }
    }

    pub fn forget_said(&mut self) {
        self.said = None;
    }

    /// Every problem, the fatal ones first.
    pub fn all_problems(&self) -> Vec<&Problem> {
        let mut all: Vec<&Problem> = self.limits.iter().chain(&self.problems).chain(&self.shares).collect();
        all.sort_by_key(|problem| (!problem.is_fatal(), (*problem).clone()));
        all
    }

    pub fn is_stopped(&self) -> bool {
        self.limits.iter().chain(&self.problems).any(Problem::stops_service)
    }
}

/// What a load balancer asks of Envoy, worked out for one settling.
pub(super) type Judged = BTreeMap<Key, (Settled, Targets)>;

/// What becomes of resources, the last word on each.
pub(super) type Draft = BTreeMap<Arc<str>, BTreeMap<ResourceKey, Option<Resource>>>;

impl Engine {
    /// Looks at what every touched load balancer says, and at whether its tenant may have that much.
    pub(super) fn judge(&mut self) -> Judged {
        let mut judged = Judged::new();
        for key in std::mem::take(&mut self.dirt.balancers) {
            self.judge_one(&key, &mut judged);
            self.dirt.balancers.insert(key);
        }
        for key in self.admit() {
            self.dirt.balancer(&key);
        }
        judged
    }

    fn judge_one(&mut self, key: &Key, judged: &mut Judged) {
        let Some(balancer) = self.world.balancers.find(key).cloned() else {
            let rank = self.entries.get_mut(key).and_then(|entry| entry.rank.take());
            return self.unclaim(key, rank.as_ref());
        };
        // Its place in the map stays: taking an entry out and back in would cost more than the rest of this.
        let entry = std::mem::take(self.entries.entry(key.clone()).or_default());
        let mut entry = Entry { problems: Vec::new(), ..entry.of(uid(&balancer.metadata)) };
        let tenant = self.world.tenant(&key.namespace).cloned();
        let (settled, problems) = compile::traffic(&balancer.spec);
        entry.problems.extend(problems);
        let mut targets = Targets::default();
        entry.frozen = self.world.frozen_by(key, &balancer);
        let unreadable = self.world.balancers.unreadable(key).map(|unreadable| unreadable.why.clone());
        entry.problems.extend(unreadable.map(|why| Problem::Unreadable { why }));
        if let Some(tenant) = tenant {
            let name = tenant.metadata.name.clone().unwrap_or_default();
            let node_set = node_set_of(key, &balancer);
            let reach = node_set.as_ref().and_then(|node_set| self.world.reach(node_set, &tenant));
            targets = targets::targets(key, &balancer.spec, reach.as_deref(), || self.world.policy(&tenant));
            if let Some(unknown) = self.world.unknown_node_set(key, &balancer) {
                entry.problems.push(unknown);
                targets = unknown_targets(&balancer);
            } else {
                entry.problems.extend(backend_problems(node_set.filter(|_| reach.is_none()), &targets, &name));
            }
            if let Some(pool) = self.pool_elsewhere(key, &balancer, tenant.spec.fleet()) {
                let (tenant, fleet) = (name.clone(), tenant.spec.fleet().to_owned());
                entry.problems.push(Problem::OtherFleet { pool, tenant, fleet });
            }
            match tenant.spec.state {
                TenantState::Active => {}
                TenantState::Suspended => entry.problems.push(Problem::Suspended { tenant: name }),
            }
        } else if let Some(frozen) = &entry.frozen {
            entry.problems.push(frozen.clone());
        } else {
            entry.problems.push(Problem::NoTenant);
        }
        (entry.total, entry.ready) = (targets.total, targets.ready);
        self.claim(key, &balancer, &mut entry, targets.backends());
        self.entries.insert(key.clone(), entry);
        judged.insert(key.clone(), (settled, targets));
    }

    /// Brings what the fleets serve up to what was judged and recorded.
    pub(super) fn serve(&mut self, mut judged: Judged, now: Timestamp) -> BTreeMap<String, Change> {
        let mut draft = Draft::new();
        for fleet in &self.dirt.fleets {
            if !self.published.contains_key(fleet) {
                self.published.insert(Arc::clone(fleet), BTreeMap::new());
                draft.entry(Arc::clone(fleet)).or_default();
            }
        }
        self.remember_sessions();
        let mut touched = BTreeSet::new();
        for key in std::mem::take(&mut self.dirt.balancers) {
            self.serve_one(&key, judged.remove(&key), now, &mut draft);
            touched.insert(key.namespace);
        }
        for key in self.hungry() {
            self.serve_one(&key, None, now, &mut draft);
            self.dirt.statuses.insert(key);
        }
        self.serve_limits(&touched, &mut draft);
        self.notice_shortages();
        draft.into_iter().map(|(fleet, changes)| (fleet.to_string(), change(changes))).collect()
    }

    fn serve_one(&mut self, key: &Key, judged: Option<(Settled, Targets)>, now: Timestamp, draft: &mut Draft) {
        let Some(balancer) = self.world.balancers.find(key).cloned() else {
            self.waits.forget(key);
            if let Some(entry) = self.entries.remove(key) {
                self.removed(key, &entry.fleet, &entry.fragment, now);
                self.publish(key, &entry.fleet, &entry.fragment, &[], draft);
            }
            return self.keep(key);
        };
        let judged = judged.or_else(|| {
            let mut again = Judged::new();
            self.judge_one(key, &mut again);
            again.remove(key)
        });
        let entry = self.entries.get_mut(key).map(std::mem::take);
        let (Some((settled, mut targets)), Some(mut entry)) = (judged, entry) else { return };
        if entry.frozen.is_some() {
            self.entries.insert(key.clone(), entry);
            return self.keep(key);
        }
        if let Some(served) = entry.backends {
            targets.limit(served);
            entry.ready = targets.ready;
        }
        let mut openings = if entry.is_stopped() { Vec::new() } else { self.openings(key, &balancer) };
        let fleet =
            self.world.tenant(&key.namespace).map_or_else(|| Arc::clone(&entry.fleet), |t| t.spec.fleet().into());
        let is_everywhere = openings.iter().any(|(address, ..)| address.is_unspecified());
        let elsewhere = if is_everywhere { self.world.pools.inhabited(&fleet) } else { Vec::new() };
        self.promise(key, &balancer, &mut entry, &fleet, &settled, &mut openings);
        let fragment = compile::fragment(key, &settled, &targets, &openings, &elsewhere, &entry.sessions);
        let before = std::mem::take(&mut entry.fragment);
        let serves = before.is_empty() && entry.programmed == Programmed::Unknown && says_programmed(&balancer, false);
        let fragment = self.paced(key, &mut entry, &fleet, (&before, fragment), serves, now);
        if entry.fleet == fleet {
            self.publish(key, &fleet, &before, &fragment, draft);
        } else {
            self.removed(key, &entry.fleet, &before, now);
            self.publish(key, &entry.fleet, &before, &[], draft);
            self.publish(key, &fleet, &[], &fragment, draft);
        }
        if !before.is_empty() && (entry.fleet != fleet || stable(&before).ne(stable(&fragment))) {
            entry.programmed = Programmed::No;
            self.waits.forget(key);
        }
        (entry.fleet, entry.fragment) = (fleet, fragment);
        self.entries.insert(key.clone(), entry);
        self.keep(key);
    }

    /// The pool of an address of its own that belongs to another fleet than its tenant's: what is free there may be
    /// somebody's here.
    fn pool_elsewhere(&self, key: &Key, balancer: &TCPLoadBalancer, fleet: &str) -> Option<String> {
        let own = self.world.records.of(key, uid(&balancer.metadata));
        let mut elsewhere = own.filter(|(_, object)| self.world.fleet_of(object).is_some_and(|other| other != fleet));
        elsewhere.next().map(|(_, object)| object.spec.pool.clone())
    }

    /// Where the load balancer is reached: its ports on the addresses that are recorded as its own.
    fn openings(&self, key: &Key, balancer: &TCPLoadBalancer) -> Vec<Opening> {
        let uid = uid(&balancer.metadata);
        // What is being released is served no more: its record must not end first.
        let own: Vec<_> =
            self.world.records.of(key, uid).filter(|(address, _)| !self.world.records.is_leaving(*address)).collect();
        if self.is_half(key, balancer) {
            return Vec::new();
        }
        let mut openings = Vec::new();
        for (address, object) in own {
            let open = self.world.open_ports(object, key, balancer);
            let bind = if is_everywhere(address) { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { address };
            openings.extend(open.into_iter().map(|(door, public)| (bind, door, public)));
        }
        openings
    }

    /// Whether it has one address where it needs both families, and never had more to show: it gets both or none.
    pub(super) fn is_half(&self, key: &Key, balancer: &TCPLoadBalancer) -> bool {
        let own = self.world.records.of(key, uid(&balancer.metadata)).count();
        own < 2 && needs_both(balancer) && !has_shown_addresses(balancer)
    }

    /// Drafts what differs between two fragments. What another load balancer published meanwhile is not taken from it.
    fn publish(&mut self, key: &Key, fleet: &Arc<str>, before: &[Resource], after: &[Resource], draft: &mut Draft) {
        let published = self.published.entry(Arc::clone(fleet)).or_default();
        let share = self.shares.entry(Arc::clone(fleet)).or_default();
        let old: BTreeMap<ResourceKey, &Resource> = before.iter().map(|r| (r.key(), r)).collect();
        for resource in after {
            if old.get(&resource.key()) != Some(&resource) || published.get(&resource.key()) != Some(key) {
                let before = published.insert(resource.key(), key.clone());
                if before.as_ref().map(|before| &before.namespace) != Some(&key.namespace) {
                    if let Some(before) = before {
                        share.counts(&resource.key(), &before.namespace, false);
                    }
                    share.counts(&resource.key(), &key.namespace, true);
                }
                draft.entry(Arc::clone(fleet)).or_default().insert(resource.key(), Some(resource.clone()));
            }
        }
        for resource in before.iter().filter(|b| !after.iter().any(|a| (a.kind(), a.name()) == (b.kind(), b.name()))) {
            if published.get(&resource.key()) == Some(key) {
                published.remove(&resource.key());
                share.counts(&resource.key(), &key.namespace, false);
                draft.entry(Arc::clone(fleet)).or_default().insert(resource.key(), None);
            }
        }
    }
}

/// Whether its status ever showed an address, and still does.
pub(super) fn has_shown_addresses(balancer: &TCPLoadBalancer) -> bool {
    balancer.status.as_ref().is_some_and(|status| !status.addresses.is_empty())
}

/// Backends of which nothing is known, as many as the status says.
fn unknown_targets(balancer: &TCPLoadBalancer) -> Targets {
    let told = balancer.status.as_ref().and_then(|status| status.backends).unwrap_or_default();
    Targets::unknown(told.total, told.ready)
}

fn backend_problems(missing: Option<Key>, targets: &Targets, tenant: &str) -> Vec<Problem> {
    if let Some(missing) = missing {
        return vec![Problem::NodeSetMissing { name: missing.name.to_string() }];
    }
    let all = targets.ready == 0;
    if !targets.left_out.is_empty() {
        return vec![Problem::BackendsRefused { left_out: targets.left_out.clone(), tenant: tenant.to_owned(), all }];
    }
    let families = targets.missing.clone();
    match targets.beyond {
        _ if all => vec![Problem::NoBackends { families }],
        0 => Vec::new(),
        beyond => vec![Problem::TooManyBackends { beyond }],
    }
}

/// What makes up the service, besides where the backends are now.
fn stable(fragment: &[Resource]) -> impl Iterator<Item = &Resource> {
    fragment.iter().filter(|resource| match resource.kind() {
        ResourceType::Cluster | ResourceType::Listener | ResourceType::Route => true,
        ResourceType::Endpoints | ResourceType::Runtime => false,
    })
}

fn change(changes: BTreeMap<ResourceKey, Option<Resource>>) -> Change {
    let mut change = Change::default();
    for (key, resource) in changes {
        match resource {
            Some(resource) => change.upsert.push(resource),
            None => change.remove.push(key),
        }
    }
    change
}
