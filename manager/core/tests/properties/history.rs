//! A history of the hub as it unfolds. Knows what happens; knows no law.

use std::collections::{BTreeMap, BTreeSet};

use nave_api::TCPLoadBalancerSpec;
use nave_api::tcp_load_balancer::AddressRequest;
use nave_manager_core::{Key, Step};

use super::act::Act;
use crate::support::hub::Hub;
use crate::support::objects::{balancer, fleet, nodes, pool, tenant};
use crate::support::specs::{POOLS, balancer_spec, pool_spec, tenant_spec};

const TENANTS: [&str; 3] = ["shop", "news", "blog"];
/// The edge nodes of the fleet `default`.
pub const NODES: [&str; 2] = ["edge-1", "edge-2"];

/// A history as it unfolds: the hub, the steps that wait to be performed, and what must not be lost.
pub struct History {
    pub hub: Hub,
    /// Steps that were decided and wait to be performed.
    pub waiting: Vec<Step>,
    /// What each load balancer has recorded, by uid, for what it asks.
    pub owned: BTreeMap<String, (BTreeSet<String>, Option<AddressRequest>)>,
    /// What each load balancer asks, as its user wrote it.
    pub asked: BTreeMap<Key, TCPLoadBalancerSpec>,
}

fn namespace(tenant: usize) -> String {
    format!("tenant-{}", TENANTS[tenant % TENANTS.len()])
}

impl History {
    /// A hub with three tenants, two fleets and one pool.
    pub fn begin() -> Self {
        let mut hub = Hub::default();
        hub.fleet(fleet("default"));
        hub.fleet(fleet("other"));
        for (which, name) in TENANTS.iter().enumerate() {
            hub.tenant(tenant(name, &tenant_spec(0)));
            hub.node_set(nodes(&namespace(which), "default", &[("n0", "10.20.0.1")]));
        }
        hub.pool(pool("public", &pool_spec(0, 0)));
        Self { hub, waiting: Vec::new(), owned: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// Lets something happen.
    pub fn act(&mut self, act: &Act) {
        self.hub.now += 1;
        let hub = &mut self.hub;
        match act {
            Act::Put { tenant, name, spec } => {
                let object = balancer(&namespace(*tenant), &format!("lb-{name}"), &balancer_spec(*spec));
                self.asked.insert(Key::of(&object), object.spec.clone());
                hub.balancer(object);
            }
            Act::Delete { tenant, name } => hub.delete_balancer(&namespace(*tenant), &format!("lb-{name}")),
            Act::Pool { which, spec } => hub.pool(pool(POOLS[which % POOLS.len()], &pool_spec(*which, *spec))),
            Act::DeletePool { which } => hub.delete_pool(POOLS[which % POOLS.len()]),
            Act::Tenant { which, spec } => hub.tenant(tenant(TENANTS[which % TENANTS.len()], &tenant_spec(*spec))),
            Act::DeleteTenant { which } => hub.delete_tenant(TENANTS[which % TENANTS.len()]),
            Act::Nodes { tenant, count } => {
                let all = [("n0", "10.20.0.1"), ("n1", "10.20.0.2"), ("n2", "169.254.0.1")];
                hub.node_set(nodes(&namespace(*tenant), "default", &all[..count % 4]));
            }
            Act::Connect { which } => hub.connect("default", NODES[which % NODES.len()]),
            Act::Disconnect { which } => hub.disconnect("default", NODES[which % NODES.len()]),
            Act::Acknowledge => hub.acknowledge(),
            Act::Cloud => drop(hub.cloud_works()),
            Act::Refuse { which } => {
                let listeners: Vec<_> = hub
                    .names("default")
                    .into_iter()
                    .filter_map(|n| n.strip_prefix("listener ").map(str::to_owned))
                    .collect();
                if !listeners.is_empty() {
                    hub.refuse(
                        "default",
                        NODES[which % NODES.len()],
                        &listeners[which % listeners.len()],
                        "cannot bind",
                    );
                }
            }
            Act::Decide => {
                let decided = self.hub.decide();
                self.waiting.extend(decided.iter().cloned());
                // A load balancer that cannot be read waits, however old; a pool that never could be claims no addresses.
                if !self.hub.is_spoilt() {
                    self.laws_4_and_7_only_what_is_offered_is_given(&decided);
                    self.law_6_the_oldest_comes_first(&decided);
                }
            }
            Act::Perform { which } => self.perform(*which),
            Act::Restart => {
                self.waiting.clear();
                hub.restart();
            }
            Act::Relist => hub.list_all(),
            Act::Spoil { which } => hub.spoil_any(*which),
            Act::Mend => hub.mend_all(),
            Act::Compare => hub.engine.compare(),
            Act::Wait { seconds } => hub.now += i64::try_from(seconds % 20).unwrap_or(0),
            Act::Settle => self.settle(),
        }
    }

    /// Performs the oldest step of the object that one of the waiting steps is about.
    fn perform(&mut self, which: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let object = about(&self.waiting[which % self.waiting.len()]);
        if let Some(i) = self.waiting.iter().position(|step| about(step) == object) {
            let step = self.waiting.remove(i);
            self.hub.perform(&step);
        }
    }

    /// Performs what waits, and all that follows.
    pub fn settle(&mut self) {
        while !self.waiting.is_empty() {
            self.perform(0);
        }
        self.hub.settle();
    }
}

/// The object that a step writes.
pub fn about(step: &Step) -> (u8, Key) {
    match step {
        Step::CreateAllocation(object) | Step::ReplaceAllocation(object) => (0, Key::of(object)),
        Step::ReleaseAllocation { name, .. } => (0, Key::cluster(name.as_str())),
        Step::WriteLoadBalancerStatus { key, .. } => (1, key.clone()),
        Step::WritePoolStatus { name, .. } => (2, Key::cluster(name.as_str())),
        Step::WriteTenantStatus { name, .. } => (3, Key::cluster(name.as_str())),
        Step::WriteFleetStatus { name, .. } => (4, Key::cluster(name.as_str())),
        Step::Order(order) => (6, Key::cluster(order.id.as_str())),
        Step::Withdraw { id } => (6, Key::cluster(id.as_str())),
        Step::Announce(_) => (5, Key::default()),
        Step::ReportUnreadable(report) => (7, report.key.clone()),
    }
}
