//! What holds at every moment of a history, and what holds at rest. Knows laws by their numbers; knows no case.
//!
//! 1. A port of an address has one owner, an exclusive address one load balancer.
//! 3. Every allocation is explained by a load balancer that lives, or is kept for its last owner.
//! 4. What is given lies in its pool; to who asks for no address, in the dynamic part; what is excluded, never.
//! 5. Nobody loses an address by a restart, a resync, another's change or the order of a list.
//! 6. What is free goes to the oldest who waits, without being asked again.
//! 7. A tenant gets only addresses of its own, of pools that are open to it.
//! 8. What users specify is never written.
//! 10. Bad input is a condition of its own object, and stops nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nave_api::condition::{self, ConditionType};
use nave_api::ip_allocation::Owner;
use nave_api::ip_pool::Source;
use nave_api::tcp_load_balancer::{AddressRequest, FamilyPolicy, IpFamily};
use nave_api::tenant::TenantState;
use nave_api::{IPAllocation, TCPLoadBalancer, Tenant};
use nave_manager_core::{Engine, Key, Order, Role, Seen, Settings, Sight, Step};
use nave_xds::resource::ResourceType;
use serde_json::json;

use super::history::{History, NODES};
use super::model::{Space, admits, serves, spaces, takes_any};
use crate::support::objects::{balancer, nodes, pool, tenant};
use crate::support::specs::AGAIN;

impl History {
    /// What must hold at every moment.
    pub fn check(&mut self) {
        self.law_1_ports_have_one_owner();
        self.law_1_no_port_of_the_nodes_has_two_owners();
        self.law_1_only_recorded_addresses_are_served();
        self.law_5_nobody_lost_an_address();
    }

    /// A port of an address is one load balancer's, and an address one tenant's.
    fn law_1_ports_have_one_owner(&self) {
        for allocation in self.hub.allocations.values() {
            let (address, owners) = (place(allocation), &allocation.spec.owners);
            let namespaces: BTreeSet<&str> = owners.iter().map(|owner| owner.namespace.as_str()).collect();
            let is_shared =
                allocation.spec.address.is_none() || ["everybodys", AGAIN].contains(&allocation.spec.pool.as_str());
            assert!(is_shared || namespaces.len() <= 1, "law 7: {address} belongs to several tenants");
            let shares = allocation.spec.address.is_none()
                || ["everybodys", "shared", "ranged", AGAIN].contains(&allocation.spec.pool.as_str());
            assert!(shares || owners.len() <= 1, "law 1: {address} is exclusive, and has {owners:?}");
            let ports: Vec<_> = owners.iter().flat_map(|owner| &owner.ports).map(|p| (p.protocol, p.port)).collect();
            let different: BTreeSet<_> = ports.iter().collect();
            assert_eq!(ports.len(), different.len(), "law 1: {address} has a port twice: {owners:?}");
        }
    }

    fn law_1_only_recorded_addresses_are_served(&self) {
        for served in self.hub.served.values() {
            for (_, name) in served.keys().filter(|(kind, _)| *kind == ResourceType::Listener) {
                let address = name.split('/').nth(1).expect("a listener is named after its address");
                // Behind a cloud's addresses, Envoy listens on all of its node's.
                let recorded = Some(address).filter(|address| *address != "0.0.0.0");
                assert!(
                    self.hub.allocations.values().any(|a| a.spec.address.as_deref() == recorded),
                    "law 1: {name} is served unrecorded"
                );
            }
        }
    }

    /// Right after a decision: who is given what, of which pool.
    pub fn laws_4_and_7_only_what_is_offered_is_given(&self, decided: &[Step]) {
        let spaces = spaces(&self.hub);
        for step in decided {
            if let Step::CreateAllocation(next) | Step::ReplaceAllocation(next) = step {
                self.laws_4_and_7_of_what_is_given(next, &spaces);
            }
        }
    }

    fn laws_4_and_7_of_what_is_given(&self, next: &IPAllocation, spaces: &BTreeMap<&str, Space>) {
        let Some(address) = next.spec.address.as_ref().and_then(|text| text.parse::<IpAddr>().ok()) else { return };
        let pool = next.spec.pool.as_str();
        let record = self.hub.allocations.values().find(|allocation| allocation.spec.address == next.spec.address);
        let had = |uid: &str| record.is_some_and(|record| record.spec.owners.iter().any(|owner| owner.uid == uid));
        for owner in next.spec.owners.iter().filter(|owner| !had(&owner.uid)) {
            let Some(balancer) = self.hub.balancers.get(&Key::new(owner.namespace.as_str(), owner.name.as_str()))
            else {
                continue;
            };
            let space =
                spaces.get(pool).unwrap_or_else(|| panic!("law 4: {address} is given of {pool}, which gives nothing"));
            assert!(space.given.contains(&address), "law 4: {address} is not in {pool}");
            let requested = balancer.spec.address.as_ref().map(|a| a.requested.clone()).unwrap_or_default();
            let is_requested = requested.iter().any(|text| text.parse() == Ok(address));
            assert!(is_requested || space.dynamic.contains(&address), "law 4: {address} is only given on request");
            let tenant = self.tenant(balancer).expect("law 7: who has no tenant is given nothing");
            let object = &self.hub.pools[&Key::cluster(pool)];
            assert!(admits(object, tenant), "law 7: {pool} gives {address} to {}", owner.namespace);
        }
    }

    fn tenant(&self, balancer: &TCPLoadBalancer) -> Option<&Tenant> {
        let namespace = balancer.metadata.namespace.as_deref()?;
        self.hub
            .tenants
            .values()
            .find(|tenant| tenant.status.as_ref().and_then(|s| s.namespace.as_deref()) == Some(namespace))
    }

    /// On every address of the nodes, a port is one load balancer's, whichever pool recorded it.
    fn law_1_no_port_of_the_nodes_has_two_owners(&self) {
        let records = self.hub.allocations.values().filter(|allocation| allocation.spec.address.is_none());
        let owners = records.flat_map(|allocation| &allocation.spec.owners);
        let ports: Vec<_> = owners.flat_map(|owner| &owner.ports).map(|port| (port.protocol, port.port)).collect();
        let once: BTreeSet<_> = ports.iter().collect();
        assert_eq!(ports.len(), once.len(), "law 1: a port of the nodes is recorded twice: {ports:?}");
    }

    /// Who lives and asks for the same as before has what it was told that it had.
    fn law_5_nobody_lost_an_address(&mut self) {
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
                // More than it asks for may go again, and what a cloud never gave by a pool that is gone.
                let is_kept = |place: &String| has.contains(place) || !self.may_come(uid, place);
                let keeps = had.iter().all(is_kept) || has.len() >= families(asks.as_ref());
                assert!(keeps, "law 5: {uid} had {had:?}, has {has:?}");
            }
        }
        // What was recorded and never shown may go again: two decisions under way at once may both have recorded one.
        for object in self.hub.balancers.values() {
            let shown = object.status.as_ref().map(|status| status.addresses.as_slice()).unwrap_or_default();
            if let Some((had, _)) = object.metadata.uid.as_ref().and_then(|uid| now.get_mut(uid)) {
                had.retain(|place| !place.contains(['.', ':']) || shown.iter().any(|shown| shown.value == *place));
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

    /// Whether the place is an address, or a cloud's that there is or that has given something.
    fn may_come(&self, uid: &str, place: &str) -> bool {
        let has_ordered = |order: &Order| order.pool == place && (order.uid == uid || order.owner.is_none());
        let pool = self.hub.pools.get(&Key::cluster(place));
        place.contains(['.', ':'])
            || pool.is_some_and(|pool| matches!(pool.spec.source, Source::Service(_)))
            || self.hub.cloud.orders.values().any(|(order, _)| has_ordered(order))
    }

    fn recorded(&self, uid: &str) -> BTreeSet<String> {
        let own = self.hub.allocations.values().filter(|a| a.spec.owners.iter().any(|o| o.uid == uid));
        own.map(place).collect()
    }

    /// Right after a decision: nobody was given what an older one waits for.
    pub fn law_6_the_oldest_comes_first(&self, decided: &[Step]) {
        for step in decided {
            let Step::CreateAllocation(object) = step else { continue };
            let Some(address) = object.spec.address.as_ref().and_then(|text| text.parse::<IpAddr>().ok()) else {
                continue;
            };
            let age = |b: &TCPLoadBalancer| b.metadata.creation_timestamp.clone();
            let key = |owner: &Owner| Key::new(owner.namespace.as_str(), owner.name.as_str());
            let owners = object.spec.owners.iter().filter_map(|owner| self.hub.balancers.get(&key(owner)));
            // Who joins the oldest on an address of their tenant takes it from nobody.
            let Some(given) = owners.min_by_key(|owner| age(owner)) else { continue };
            if !takes_any(given, IpFamily::of(address)) || ["ranged", AGAIN].contains(&object.spec.pool.as_str()) {
                continue;
            }
            for older in self.hub.balancers.values().filter(|older| age(older) < age(given)) {
                let waits = self.waits_for(older, address, &object.spec.pool);
                assert!(!waits, "law 6: {address} is given to {:?}, older is {:?}", given.metadata, older.metadata);
            }
        }
    }

    /// Whether it has nothing, gets nothing, and would do with this address; who has limits is left out.
    fn waits_for(&self, balancer: &TCPLoadBalancer, address: IpAddr, pool: &str) -> bool {
        let uid = balancer.metadata.uid.as_deref().unwrap_or_default();
        // What comes for one of its name that is gone, it takes over.
        let key = Key::of(balancer);
        let is_it = |owner: &Owner| *owner.namespace == *key.namespace && *owner.name == *key.name;
        let names = |a: &IPAllocation| a.spec.owners.iter().any(is_it);
        // What many share of a cloud's pool is recorded one write after the other: it may be next there.
        let is_next = |a: &IPAllocation| {
            let object = self.hub.pools.get(&Key::cluster(a.spec.pool.as_str()));
            a.spec.address.is_none()
                && object.zip(self.tenant(balancer)).is_some_and(|(object, tenant)| serves(object, tenant, balancer))
        };
        let comes = self.waiting.iter().any(|step| match step {
            Step::CreateAllocation(object) | Step::ReplaceAllocation(object) => names(object) || is_next(object),
            _ => false,
        });
        let is_served = self.tenant(balancer).is_some_and(|tenant| {
            let object = self.hub.pools.get(&Key::cluster(pool));
            tenant.spec.state == TenantState::Active
                && tenant.spec.quota.is_none()
                && object.is_some_and(|object| serves(object, tenant, balancer))
        });
        is_served
            && !comes
            && self.recorded(uid).is_empty()
            && takes_any(balancer, IpFamily::of(address))
            && balancer.spec.traffic.as_ref().is_none_or(|traffic| traffic.source_ranges.is_empty())
    }

    /// What must hold when nothing is under way.
    pub fn check_rest(&mut self) {
        for node in NODES {
            self.hub.connect("default", node);
        }
        self.settle();
        self.check();
        self.hub.mend_all();
        self.settle();
        self.check();
        self.law_3_every_allocation_is_explained();
        self.law_6_nobody_waits_for_what_is_free();
        self.law_8_what_users_specify_is_as_they_did();
        self.law_10_bad_input_is_a_condition();
        self.a_replan_finds_nothing_to_do();
        self.law_10_a_newcomer_is_served_whatever_else_there_is();
        self.check();
        self.a_replan_finds_nothing_to_do();
    }

    /// Nothing is left to do, for this engine and for one that starts anew, and both serve the same bytes.
    fn a_replan_finds_nothing_to_do(&mut self) {
        self.hub.engine.replan();
        let mut steps = self.hub.decide();
        // Which Envoys had stopped is what this leader knew: after a replan they count again, and the Fleet says so.
        steps.retain(|step| !matches!(step, Step::WriteFleetStatus { .. }));
        assert_eq!(steps, [], "a replan finds something to do");
        self.an_engine_that_starts_anew_agrees();
    }

    fn law_3_every_allocation_is_explained(&self) {
        for allocation in self.hub.allocations.values() {
            let kept_until = allocation.metadata.annotations.as_ref().and_then(|a| a.get("nave.dev/held-until"));
            let is_kept = kept_until.and_then(|text| text.parse().ok()).is_some_and(|until| self.hub.time() < until);
            let lives = |uid: &String| self.hub.balancers.values().any(|b| b.metadata.uid.as_ref() == Some(uid));
            let is_explained = if allocation.spec.owners.is_empty() {
                is_kept
            } else {
                allocation.spec.owners.iter().all(|owner| lives(&owner.uid))
            };
            assert!(is_explained, "law 3: nobody explains {:?}", allocation.spec);
        }
        for (id, (order, _)) in &self.hub.cloud.orders {
            let lives = |uid: &str| self.hub.balancers.values().any(|b| b.metadata.uid.as_deref() == Some(uid));
            let is_explained = order.owner.is_none() || lives(&order.uid);
            assert!(is_explained, "law 3: {id} is delivered for {:?}, which is gone", order.owner);
        }
    }

    fn law_6_nobody_waits_for_what_is_free(&self) {
        for (pool, space) in spaces(&self.hub) {
            let taken: BTreeSet<String> =
                self.hub.allocations.values().filter_map(|a| a.spec.address.clone()).collect();
            let ranged = self.hub.pools[&Key::cluster(pool)].spec.port_range.is_some();
            for address in space.dynamic.iter().filter(|address| !ranged && !taken.contains(&address.to_string())) {
                for balancer in self.hub.balancers.values() {
                    let waits = self.waits_for(balancer, *address, pool);
                    assert!(!waits, "law 6: {address} is free, and {:?} waits", balancer.metadata);
                }
            }
        }
    }

    fn law_8_what_users_specify_is_as_they_did(&self) {
        for (key, asked) in &self.asked {
            let Some(now) = self.hub.balancers.get(key) else { continue };
            assert_eq!(&now.spec, asked, "law 8: {key}");
            assert_eq!((&now.metadata.labels, &now.metadata.annotations), (&None, &None), "law 8: {key}");
        }
    }

    fn law_10_bad_input_is_a_condition(&self) {
        let spaces = spaces(&self.hub);
        for (key, pool) in &self.hub.pools {
            if pool.spec.addresses.is_some() {
                let conditions = &pool.status.as_ref().expect("every pool is spoken of").conditions;
                let is_ready = condition::is_true(conditions, ConditionType::Ready);
                assert_eq!(is_ready, spaces.contains_key(&*key.name), "law 10: {key} {conditions:?}");
            }
        }
        for (key, balancer) in &self.hub.balancers {
            let is_bad = |text: &String| text.parse::<IpAddr>().is_err();
            let asks_badly = balancer.spec.address.as_ref().is_some_and(|a| a.requested.iter().any(is_bad));
            let conditions = balancer.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
            let allocated = condition::find(&conditions, ConditionType::Allocated);
            let is_accepted = condition::is_true(&conditions, ConditionType::Accepted);
            if asks_badly && is_accepted {
                assert_eq!(allocated.map(|c| c.reason.as_str()), Some("InvalidAddress"), "law 10: {key}");
            }
        }
    }

    /// A new tenant with a pool of its own.
    fn law_10_a_newcomer_is_served_whatever_else_there_is(&mut self) {
        let spec = json!({"addresses": {"include": ["198.51.100.0/30"]}, "use": {"tenants": {"names": ["guest"]}}});
        self.hub.tenant(tenant("guest", &json!({})));
        self.hub.node_set(nodes("tenant-guest", "default", &[("n0", "10.20.0.9")]));
        self.hub.pool(pool("guests", &spec));
        self.hub.balancer(balancer("tenant-guest", "web", &json!({})));
        self.settle();
        assert_eq!(self.hub.addresses("tenant-guest", "web"), ["198.51.100.0"], "law 10");
        assert_eq!(self.hub.condition("tenant-guest", "web", "Programmed"), "True/Programmed", "law 10");
    }

    fn an_engine_that_starts_anew_agrees(&mut self) {
        let served: Vec<_> = self.hub.served.iter().filter(|(_, served)| !served.is_empty()).collect();
        let hub_networks = vec!["10.96.0.0/12".parse().expect("a network")];
        let mut anew = Engine::new(Settings { hub_networks, ..Settings::default() });
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
        let turned = |seen| match seen {
            Seen::LoadBalancers(Sight::All { mut objects, unreadable }) => {
                objects.reverse();
                Seen::LoadBalancers(Sight::All { objects, unreadable })
            }
            Seen::Pools(Sight::All { mut objects, unreadable }) => {
                objects.reverse();
                Seen::Pools(Sight::All { objects, unreadable })
            }
            other => other,
        };
        lists.into_iter().map(turned).collect()
    }
}

/// The address of an allocation; its pool where a cloud gives the addresses.
fn place(allocation: &IPAllocation) -> String {
    allocation.spec.address.clone().unwrap_or_else(|| allocation.spec.pool.clone())
}

fn families(asks: Option<&AddressRequest>) -> usize {
    match asks.and_then(|asks| asks.family_policy).unwrap_or_default() {
        FamilyPolicy::PreferDualStack | FamilyPolicy::RequireDualStack => 2,
        FamilyPolicy::SingleStack => 1,
    }
}
