//! What holds after any history: random creations, edits, deletions, restarts, resyncs and Envoys. Knows laws; knows no case.

#![allow(clippy::expect_used, clippy::panic, reason = "what cannot be read or is not there ends the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use nave_api::ip_pool::Addresses;
use nave_api::tcp_load_balancer::{AddressRequest, FamilyPolicy};
use nave_api::{IPAllocation, TCPLoadBalancer};
use nave_manager_core::{Engine, Key, Role, Seen, Settings, Sight, Step};
use nave_xds::resource::ResourceType;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};
use support::specs::{BALANCERS, POOLS, balancer_spec, pool_spec, tenant_spec};

const TENANTS: [&str; 3] = ["shop", "news", "blog"];
const NODES: [&str; 2] = ["edge-1", "edge-2"];

/// One event of a history. Numbers are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
enum Act {
    Put {
        tenant: usize,
        name: u8,
        spec: usize,
    },
    Delete {
        tenant: usize,
        name: u8,
    },
    Pool {
        which: usize,
        spec: usize,
    },
    DeletePool {
        which: usize,
    },
    Tenant {
        which: usize,
        spec: usize,
    },
    DeleteTenant {
        which: usize,
    },
    Nodes {
        tenant: usize,
        count: usize,
    },
    Connect {
        which: usize,
    },
    Disconnect {
        which: usize,
    },
    Acknowledge,
    /// The hub's cloud gives and takes what it was asked to.
    Cloud,
    Refuse {
        which: usize,
    },
    /// Decide, and leave the steps to be performed later.
    Decide,
    /// Perform the oldest step of one of the objects that steps wait for.
    Perform {
        which: usize,
    },
    /// Time passes: what is held for somebody is held no longer.
    Wait {
        seconds: i64,
    },
    /// The steps that wait are lost with their leader.
    Restart,
    /// A watch that begins anew.
    Relist,
    Replan,
    Settle,
}

fn act() -> impl Strategy<Value = Act> {
    let n = 0..1000_usize;
    let name = 0..5_u8;
    prop_oneof![
        8 => (n.clone(), name.clone(), n.clone()).prop_map(|(tenant, name, spec)| Act::Put { tenant, name, spec }),
        4 => (n.clone(), name).prop_map(|(tenant, name)| Act::Delete { tenant, name }),
        2 => (n.clone(), n.clone()).prop_map(|(which, spec)| Act::Pool { which, spec }),
        1 => n.clone().prop_map(|which| Act::DeletePool { which }),
        2 => (n.clone(), n.clone()).prop_map(|(which, spec)| Act::Tenant { which, spec }),
        1 => n.clone().prop_map(|which| Act::DeleteTenant { which }),
        2 => (n.clone(), n.clone()).prop_map(|(tenant, count)| Act::Nodes { tenant, count }),
        1 => n.clone().prop_map(|which| Act::Connect { which }),
        1 => n.clone().prop_map(|which| Act::Disconnect { which }),
        2 => Just(Act::Acknowledge),
        2 => Just(Act::Cloud),
        1 => n.clone().prop_map(|which| Act::Refuse { which }),
        6 => Just(Act::Decide),
        10 => n.prop_map(|which| Act::Perform { which }),
        1 => (0..10_i64).prop_map(|seconds| Act::Wait { seconds }),
        1 => Just(Act::Restart),
        1 => Just(Act::Relist),
        1 => Just(Act::Replan),
        2 => Just(Act::Settle),
    ]
}

/// A history as it unfolds: the hub, the steps that wait to be performed, and what must not be lost.
struct History {
    hub: Hub,
    waiting: Vec<Step>,
    /// What each load balancer has recorded, by uid, for what it asks.
    owned: BTreeMap<String, (BTreeSet<String>, Option<AddressRequest>)>,
    /// What was asked for last under each name.
    put: BTreeMap<Key, Value>,
}

fn namespace(tenant: usize) -> String {
    format!("tenant-{}", TENANTS[tenant % TENANTS.len()])
}

impl History {
    fn begin() -> Self {
        let mut hub = Hub::default();
        hub.fleet(fleet("default"));
        hub.fleet(fleet("other"));
        for (which, name) in TENANTS.iter().enumerate() {
            hub.tenant(tenant(name, &tenant_spec(0)));
            hub.node_set(nodes(&namespace(which), "default", &[("n0", "10.20.0.1")]));
        }
        hub.pool(pool("public", &pool_spec(0, 0)));
        Self { hub, waiting: Vec::new(), owned: BTreeMap::new(), put: BTreeMap::new() }
    }

    fn act(&mut self, act: &Act) {
        self.hub.now += 1;
        let hub = &mut self.hub;
        match act {
            Act::Put { tenant, name, spec } => {
                let object = balancer(&namespace(*tenant), &format!("lb-{name}"), &balancer_spec(*spec));
                self.put.insert(Key::of(&object), serde_json::to_value(&object.spec).expect("serializes"));
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
                let steps = self.hub.decide();
                self.only_offered_addresses_are_given(&steps);
                self.waiting.extend(steps);
            }
            Act::Wait { seconds } => hub.now += *seconds,
            Act::Perform { which } => self.perform(*which),
            Act::Restart => {
                self.waiting.clear();
                hub.restart();
            }
            Act::Relist => hub.list_all(),
            Act::Replan => hub.engine.replan(),
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

    fn settle(&mut self) {
        while !self.waiting.is_empty() {
            self.perform(0);
        }
        self.hub.settle();
    }

    /// What must hold at every moment. The numbers are those of docs/compatibility.md.
    fn check(&mut self) {
        self.ports_have_one_owner();
        self.only_recorded_addresses_are_served();
        self.nobody_lost_an_address();
    }

    /// Invariants 1 and 7: a port of an address is one load balancer's, and an address one tenant's unless its pool says otherwise.
    fn ports_have_one_owner(&self) {
        for allocation in self.hub.allocations.values() {
            let (address, owners) = (place(allocation), &allocation.spec.owners);
            let namespaces: BTreeSet<&str> = owners.iter().map(|owner| owner.namespace.as_str()).collect();
            let is_shared = allocation.spec.address.is_none() || allocation.spec.pool == "everybodys";
            assert!(is_shared || namespaces.len() <= 1, "{address} belongs to several tenants");
            let ports: Vec<_> = owners.iter().flat_map(|owner| &owner.ports).map(|p| (p.protocol, p.port)).collect();
            assert_eq!(
                ports.len(),
                ports.iter().collect::<BTreeSet<_>>().len(),
                "{address} has a port twice: {owners:?}"
            );
        }
    }

    /// Invariant 3, one half: what is served is recorded.
    fn only_recorded_addresses_are_served(&self) {
        for served in self.hub.served.values() {
            for (_, name) in served.keys().filter(|(kind, _)| *kind == ResourceType::Listener) {
                let address = name.split('/').nth(1).expect("a listener is named after its address");
                // Behind a cloud's addresses, Envoy listens on all of its node's.
                let recorded = Some(address).filter(|address| *address != "0.0.0.0");
                assert!(
                    self.hub.allocations.values().any(|a| a.spec.address.as_deref() == recorded),
                    "{name} is served unrecorded"
                );
            }
        }
    }

    /// Invariant 5: who lives and asks for the same as before has what it had.
    fn nobody_lost_an_address(&mut self) {
        let mut now = BTreeMap::new();
        for object in self.hub.balancers.values() {
            let uid = object.metadata.uid.clone().expect("the hub gives uids");
            let asks = object.spec.address.clone();
            let mut recorded = self.recorded(&uid);
            recorded.retain(|address| !self.is_leaving(&uid, address));
            now.insert(uid, (recorded, asks));
        }
        for (uid, (had, asked)) in &self.owned {
            if let Some((has, asks)) = now.get(uid).filter(|(_, asks)| asks == asked) {
                // More than it asks for may go again.
                assert!(has.is_superset(had) || has.len() >= families(asks.as_ref()), "{uid} had {had:?}, has {has:?}");
            }
        }
        self.owned = now;
    }

    /// Whether it was decided already, for what was asked before, that the address goes: the step only waits.
    fn is_leaving(&self, uid: &str, address: &str) -> bool {
        self.waiting.iter().any(|step| match step {
            Step::ReleaseAllocation { name, .. } => {
                let allocation = self.hub.allocations.get(&Key::cluster(name.as_str()));
                allocation.is_some_and(|allocation| place(allocation) == address)
            }
            Step::ReplaceAllocation(next) => {
                place(next) == address && next.spec.owners.iter().all(|owner| owner.uid != uid)
            }
            _ => false,
        })
    }

    fn recorded(&self, uid: &str) -> BTreeSet<String> {
        let own = self.hub.allocations.values().filter(|a| a.spec.owners.iter().any(|o| o.uid == uid));
        own.map(place).collect()
    }

    /// Invariant 4: what is given lies in its pool as it is now, and is not excluded.
    fn only_offered_addresses_are_given(&self, steps: &[Step]) {
        for step in steps {
            let Step::CreateAllocation(made) = step else { continue };
            let Some(address) = made.spec.address.as_ref().map(|a| a.parse::<IpAddr>().expect("an address")) else {
                continue;
            };
            let pool = &self.hub.pools[&Key::cluster(made.spec.pool.as_str())].spec;
            let Addresses { include, exclude, dynamic: _ } = pool.addresses.as_ref().expect("a pool of addresses");
            assert!(lies_in(address, include) && !lies_in(address, exclude), "{address} is not {}'s", made.spec.pool);
        }
    }

    /// Invariant 3, the other half: every owner of a record lives, and asks for it.
    fn every_record_is_explained(&self) {
        let uids: BTreeSet<&str> = self.hub.balancers.values().filter_map(|b| b.metadata.uid.as_deref()).collect();
        for (name, allocation) in &self.hub.allocations {
            for owner in &allocation.spec.owners {
                assert!(uids.contains(owner.uid.as_str()), "{name} is recorded for {owner:?}, which is gone");
            }
            let held = allocation.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("nave.dev/held-until"));
            assert!(held || !allocation.spec.owners.is_empty(), "{name} is recorded for nobody");
        }
        for (id, (order, _)) in &self.hub.cloud.orders {
            let lives = order.owner.as_ref().is_none_or(|_| uids.contains(order.uid.as_str()));
            assert!(lives, "{id} is delivered for {:?}, which is gone", order.owner);
        }
    }

    /// Invariant 6: nobody waits for a pool that has an address for him.
    fn nobody_waits_beside_a_free_address(&self) {
        for (key, balancer) in &self.hub.balancers {
            let conditions = balancer.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let Some(waits) = conditions.iter().find(|c| c.type_ == "Allocated" && c.reason == "PoolExhausted") else {
                continue;
            };
            for (name, pool) in &self.hub.pools {
                let addresses = pool.spec.addresses.as_ref().filter(|a| a.dynamic.is_none());
                let is_plain = addresses.is_some_and(|a| a.include.iter().all(|span| !span.contains(':')));
                let is_meant = waits.message.contains(&format!("IPv4 address is free in pool {}:", name.name));
                let free = pool.status.as_ref().and_then(|status| status.free.as_deref());
                assert!(
                    !(is_plain && is_meant) || free == Some("0"),
                    "{key} waits for {name}, where {free:?} are free"
                );
            }
        }
    }

    /// Invariant 8: what people asked for stands as they wrote it.
    fn specs_are_as_they_were_put(&self) {
        for (key, spec) in &self.put {
            let object = self.hub.balancers.get(key).map(|b| serde_json::to_value(&b.spec).expect("serializes"));
            assert!(object.as_ref().is_none_or(|object| object == spec), "{key} was rewritten");
        }
    }

    /// Invariant 10: whatever else there is, and however wrong, a new tenant with a pool of its own is served at once.
    fn a_newcomer_is_served(&mut self) {
        let pool_spec =
            json!({"addresses": {"include": ["198.51.100.0/30"]}, "use": {"tenants": {"names": ["guest"]}}});
        self.hub.tenant(tenant("guest", &json!({})));
        self.hub.node_set(nodes("tenant-guest", "default", &[("n0", "10.20.0.9")]));
        self.hub.pool(pool("guests", &pool_spec));
        self.hub.balancer(balancer("tenant-guest", "web", &json!({})));
        self.settle();
        assert_eq!(self.hub.addresses("tenant-guest", "web"), ["198.51.100.0"]);
        assert_eq!(self.hub.condition("tenant-guest", "web", "Programmed"), "True/Programmed");
    }

    /// What must hold when nothing is under way.
    fn check_rest(&mut self) {
        for node in NODES {
            self.hub.connect("default", node);
        }
        self.settle();
        self.check();
        self.every_record_is_explained();
        self.nobody_waits_beside_a_free_address();
        self.specs_are_as_they_were_put();
        self.check_replan();
        self.a_newcomer_is_served();
        self.check();
        self.check_replan();
    }

    /// Nothing is left to do, for this engine and for one that starts anew, and both serve the same bytes.
    fn check_replan(&mut self) {
        self.hub.engine.replan();
        assert_eq!(self.hub.decide(), [], "a replan finds something to do");
        let served: Vec<_> = self.hub.served.iter().filter(|(_, served)| !served.is_empty()).collect();
        let mut anew = Engine::new(Settings {
            hub_networks: vec!["10.96.0.0/12".parse().expect("a network")],
            ..Settings::default()
        });
        self.backwards().into_iter().for_each(|seen| anew.observe(seen));
        let outcome = anew.settle(Role::Leader, self.hub.time());
        assert_eq!(outcome.steps, [], "an engine that starts anew finds something to do");
        for (fleet, served) in served {
            assert_eq!(anew.resources(fleet), served.values().cloned().collect::<Vec<_>>(), "fleet {fleet}");
            assert_eq!(self.hub.engine.resources(fleet), anew.resources(fleet), "fleet {fleet}");
        }
    }

    /// The lists in another order than ever seen.
    fn backwards(&self) -> Vec<Seen> {
        let mut lists = self.hub.lists();
        lists.reverse();
        let mut turned = Vec::new();
        for seen in lists {
            turned.push(match seen {
                Seen::LoadBalancers(Sight::All(mut all)) => {
                    all.reverse();
                    Seen::LoadBalancers(Sight::All(all))
                }
                Seen::Pools(Sight::All(mut all)) => {
                    all.reverse();
                    Seen::Pools(Sight::All(all))
                }
                other => other,
            });
        }
        turned
    }
}

/// The address of an allocation; its pool where a cloud gives the addresses.
fn place(allocation: &IPAllocation) -> String {
    allocation.spec.address.clone().unwrap_or_else(|| allocation.spec.pool.clone())
}

/// Whether the address is in one of these networks, ranges and addresses; what is none of them holds nothing.
fn lies_in(address: IpAddr, spans: &[String]) -> bool {
    spans.iter().any(|span| {
        let ends = span.split_once('-').unwrap_or((span, span));
        match (ends.0.parse::<IpAddr>(), ends.1.parse::<IpAddr>(), span.parse::<IpNet>()) {
            (.., Ok(network)) => network.contains(&address),
            (Ok(low), Ok(high), Err(_)) => (low..=high).contains(&address),
            _ => false,
        }
    })
}

fn families(asks: Option<&AddressRequest>) -> usize {
    match asks.and_then(|asks| asks.family_policy).unwrap_or_default() {
        FamilyPolicy::PreferDualStack | FamilyPolicy::RequireDualStack => 2,
        FamilyPolicy::SingleStack => 1,
    }
}

/// The object that a step writes.
fn about(step: &Step) -> (u8, Key) {
    match step {
        Step::CreateAllocation(object) | Step::ReplaceAllocation(object) => (0, Key::of(object)),
        Step::ReleaseAllocation { name, .. } => (0, Key::cluster(name.as_str())),
        Step::WriteLoadBalancerStatus { key, .. } => (1, key.clone()),
        Step::WritePoolStatus { name, .. } => (2, Key::cluster(name.as_str())),
        Step::WriteTenantUsage { name, .. } => (3, Key::cluster(name.as_str())),
        Step::WriteFleetStatus { name, .. } => (4, Key::cluster(name.as_str())),
        Step::Order(order) => (6, Key::cluster(order.id.as_str())),
        Step::Withdraw { id } => (6, Key::cluster(id.as_str())),
        Step::Announce(_) => (5, Key::default()),
    }
}

/// How many histories; the variable asks for more, and for others each time.
fn asked() -> Option<u32> {
    std::env::var("NAVE_PROPTEST_CASES").ok().and_then(|n| n.parse().ok())
}

/// The same histories in every run unless others are asked for: what a change breaks shows at the change. Each test has a seed
/// and a quarter of the histories, for they run beside each other.
fn config(seed: u64) -> ProptestConfig {
    let rng_seed = if asked().is_some() { RngSeed::Random } else { RngSeed::Fixed(seed) };
    let cases = asked().unwrap_or(10_000).div_ceil(4);
    ProptestConfig { cases, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

fn unfold(acts: &[Act]) {
    let mut history = History::begin();
    for act in acts {
        history.act(act);
        history.check();
    }
    history.check_rest();
}

proptest! {
    #![proptest_config(config(7))]

    #[test]
    fn after_any_history_the_engine_is_what_a_new_one_would_be(acts in prop::collection::vec(act(), 1..60)) {
        unfold(&acts);
    }
}

proptest! {
    #![proptest_config(config(11))]

    #[test]
    fn after_any_other_history_the_engine_is_what_a_new_one_would_be(acts in prop::collection::vec(act(), 1..60)) {
        unfold(&acts);
    }
}

proptest! {
    #![proptest_config(config(13))]

    #[test]
    fn after_any_short_history_the_engine_is_what_a_new_one_would_be(acts in prop::collection::vec(act(), 1..20)) {
        unfold(&acts);
    }
}

proptest! {
    #![proptest_config(config(17))]

    #[test]
    fn after_any_long_history_the_engine_is_what_a_new_one_would_be(acts in prop::collection::vec(act(), 20..120)) {
        unfold(&acts);
    }
}

/// The tests above compare load balancers as the API would carry them.
#[test]
fn fixtures_read_back_as_written() {
    for which in 0..BALANCERS {
        let object = balancer("tenant-shop", "web", &balancer_spec(which));
        let text = serde_json::to_string(&object).expect("serializes");
        assert_eq!(serde_json::from_str::<TCPLoadBalancer>(&text).expect("reads"), object);
    }
}
