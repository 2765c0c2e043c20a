//! Why a load balancer gets no address, and pairs of addresses from two pools. Knows behaviours;
//! knows no room inside the engine. Tests are named after kind M of faults: reasons that were not looked at.

#![allow(clippy::expect_used, reason = "a broken fixture ends the test")]

mod moves;
#[path = "../support/mod.rs"]
mod support;

use nave_api::condition;
use nave_api::{ConditionType, IPAllocation};
use nave_manager_core::{Key, Step};
use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const NS: &str = "tenant-shop";
const OTHER: &str = "tenant-news";

/// Two tenants, two fleets and these pools, made one after the other.
fn hub(pools: &[(&str, Value)]) -> Hub {
    let mut hub = Hub::default();
    for name in ["default", "other"] {
        hub.fleet(fleet(name));
    }
    for name in ["shop", "news"] {
        hub.tenant(tenant(name, &json!({})));
        hub.node_set(nodes(&format!("tenant-{name}"), "default", &[("n1", "10.20.0.1")]));
    }
    for (name, spec) in pools {
        hub.now += 1;
        hub.pool(pool(name, spec));
    }
    hub.connect("default", "edge-1");
    hub.now += 1;
    hub.settle();
    hub
}

/// A pool of IPv4 and one of IPv6.
fn apart() -> Hub {
    hub(&[("four", includes(&["203.0.113.0/30"])), ("six", includes(&["2001:db8::/126"]))])
}

fn includes(ranges: &[&str]) -> Value {
    json!({"addresses": {"include": ranges}})
}

fn with(mut spec: Value, more: &Value) -> Value {
    let fields = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().expect("an object").extend(fields);
    spec
}

fn put(hub: &mut Hub, namespace: &str, name: &str, address: &Value) {
    hub.now += 1;
    hub.balancer(balancer(namespace, name, &json!({"address": address})));
    hub.settle();
}

/// `reason: message` of the condition Allocated.
fn says(hub: &Hub, namespace: &str, name: &str) -> String {
    let object = &hub.balancers[&Key::new(namespace, name)];
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let found = condition::find(conditions, ConditionType::Allocated).expect("it is spoken of");
    format!("{}: {}", found.reason, found.message)
}

/// The pool of each allocation.
fn recorded(hub: &Hub) -> Vec<(String, &str)> {
    let place = |object: &IPAllocation| object.spec.address.clone().unwrap_or_default();
    hub.allocations.values().map(|object| (place(object), object.spec.pool.as_str())).collect()
}

fn allocation<'a>(hub: &'a Hub, address: &str) -> &'a IPAllocation {
    let found = hub.allocations.values().find(|object| object.spec.address.as_deref() == Some(address));
    found.expect("it is recorded")
}

// 1. All-or-nothing across pools.

#[test]
fn m_1_require_dual_stack_takes_one_address_from_each_of_two_pools() {
    let mut hub = apart();
    put(&mut hub, NS, "web", &json!({"familyPolicy": "RequireDualStack"}));
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0", "2001:db8::"]);
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
}

#[test]
fn m_1_addresses_that_name_one_of_each_family_are_taken_from_two_pools() {
    let asked = json!(["2001:db8::2", "203.0.113.2"]);
    for policy in ["SingleStack", "PreferDualStack", "RequireDualStack"] {
        let mut hub = apart();
        put(&mut hub, NS, "web", &json!({"requested": asked, "familyPolicy": policy}));
        assert_eq!(hub.addresses(NS, "web"), ["203.0.113.2", "2001:db8::2"], "{policy}");
    }
}

#[test]
fn m_1_one_named_address_and_any_of_the_other_family_come_from_two_pools() {
    let mut hub = apart();
    put(&mut hub, NS, "web", &json!({"requested": ["2001:db8::3"], "familyPolicy": "RequireDualStack"}));
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0", "2001:db8::3"]);
}

#[test]
fn m_1_single_stack_edited_to_require_dual_stack_keeps_its_address_and_gets_the_other() {
    let mut hub = apart();
    put(&mut hub, NS, "web", &json!({"families": ["IPv6"]}));
    assert_eq!(hub.addresses(NS, "web"), ["2001:db8::"]);
    put(&mut hub, NS, "web", &json!({"familyPolicy": "RequireDualStack"}));
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0", "2001:db8::"]);
}

#[test]
fn m_1_prefer_dual_stack_takes_both_at_once() {
    let mut hub = apart();
    hub.now += 1;
    hub.balancer(balancer(NS, "web", &json!({"address": {"familyPolicy": "PreferDualStack"}})));
    let creates = hub.decide().into_iter().filter(|step| matches!(step, Step::CreateAllocation(_))).count();
    assert_eq!(creates, 2);
}

#[test]
fn m_1_one_pool_with_both_families_comes_before_two_pools() {
    let first = with(includes(&["203.0.113.0/30"]), &json!({"use": {"default": true, "priority": 9}}));
    let both = includes(&["198.51.100.0/30", "2001:db8:1::/126"]);
    let mut hub = hub(&[("four", first), ("six", includes(&["2001:db8::/126"])), ("both", both)]);
    put(&mut hub, NS, "web", &json!({"familyPolicy": "RequireDualStack"}));
    assert_eq!(hub.addresses(NS, "web"), ["198.51.100.0", "2001:db8:1::"]);
}

#[test]
fn m_1_nothing_is_recorded_while_one_family_is_missing() {
    let mut hub = hub(&[("four", includes(&["203.0.113.0/30"])), ("six", includes(&["2001:db8::"]))]);
    put(&mut hub, OTHER, "first", &json!({"families": ["IPv6"]}));
    put(&mut hub, NS, "web", &json!({"familyPolicy": "RequireDualStack"}));
    assert_eq!(recorded(&hub), [("2001:db8::".to_owned(), "six")]);
    let why = "PoolExhausted: IPv4 and IPv6 addresses are not both free in pools four, six: the load balancer that waits longest \
               gets the next ones";
    assert_eq!(says(&hub, NS, "web"), why);
    hub.delete_balancer(OTHER, "first");
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0", "2001:db8::"]);
}

#[test]
fn m_1_half_a_pair_is_released_when_the_other_half_is_lost() {
    let mut hub = hub(&[("four", includes(&["203.0.113.0/30"])), ("six", includes(&["2001:db8::"]))]);
    hub.now += 1;
    hub.balancer(balancer(NS, "web", &json!({"address": {"familyPolicy": "RequireDualStack"}})));
    let is_six = |step: &Step| matches!(step, Step::CreateAllocation(object) if object.spec.pool == "six");
    let (six, others): (Vec<Step>, Vec<Step>) = hub.decide().into_iter().partition(is_six);
    assert_eq!(six.len(), 1, "both are decided at once");
    for step in &others {
        hub.perform(step);
    }
    // Another leader was faster: the one IPv6 address is another tenant's.
    let mut theirs = hub_of_another_leader();
    hub.allocations.append(&mut theirs.allocations);
    hub.balancers.append(&mut theirs.balancers);
    hub.restart();
    hub.settle();
    assert_eq!(recorded(&hub), [("2001:db8::".to_owned(), "six")], "half a pair is nothing");
    assert!(says(&hub, NS, "web").starts_with("PoolExhausted: "), "{}", says(&hub, NS, "web"));
    hub.delete_balancer(OTHER, "fast");
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0", "2001:db8::"]);
}

fn hub_of_another_leader() -> Hub {
    let mut theirs = hub(&[("six", includes(&["2001:db8::"]))]);
    put(&mut theirs, OTHER, "fast", &json!({"families": ["IPv6"]}));
    theirs.pools.clear();
    theirs
}

#[test]
fn m_1_a_pair_that_was_shown_keeps_the_half_that_is_left() {
    let mut hub = hub(&[("four", includes(&["203.0.113.0/30"])), ("six", includes(&["2001:db8::"]))]);
    put(&mut hub, NS, "web", &json!({"familyPolicy": "RequireDualStack"}));
    hub.pool(pool("six", &includes(&["2001:db8:2::"])));
    hub.settle();
    put(&mut hub, NS, "web", &json!({"familyPolicy": "RequireDualStack", "requested": ["2001:db8::9"]}));
    assert_eq!(
        says(&hub, NS, "web"),
        "AddressNotOffered: 2001:db8::9 is in no pool that gives addresses to this tenant"
    );
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0", "2001:db8::"], "what is served stays");
}

#[test]
fn m_1_a_limit_of_addresses_is_named_where_it_is_the_cause() {
    let mut hub = apart();
    hub.tenant(tenant("shop", &json!({"quota": {"addresses": 1}})));
    put(&mut hub, NS, "web", &json!({"familyPolicy": "RequireDualStack"}));
    assert!(says(&hub, NS, "web").starts_with("QuotaExceeded: "), "{}", says(&hub, NS, "web"));
    assert_eq!(recorded(&hub), []);
    hub.tenant(tenant("shop", &json!({"quota": {"addresses": 2}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web").len(), 2);
}

// 4. Causes, and what a pool can give.

#[test]
fn m_4_a_pool_that_overlaps_an_older_one_has_nothing_free_and_is_named_as_the_cause() {
    let older = with(includes(&["203.0.113.0/30"]), &json!({"use": {}}));
    let mut hub = hub(&[("older", older), ("newer", includes(&["203.0.113.0/25"]))]);
    let status = hub.pools[&Key::cluster("newer")].status.clone().unwrap_or_default();
    assert_eq!((status.total.as_deref(), status.free.as_deref()), (Some("128"), Some("0")));
    let why =
        "PoolNotReady: pool newer gives no addresses: an older pool has some of them, ask the hub's administrators";
    for address in [json!({}), json!({"pool": "newer"}), json!({"requested": ["203.0.113.77"]})] {
        put(&mut hub, NS, "web", &address);
        assert_eq!(says(&hub, NS, "web"), why, "{address}");
    }
    hub.delete_pool("older");
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.77"]);
    let free = hub.pools[&Key::cluster("newer")].status.clone().unwrap_or_default().free;
    assert_eq!(free.as_deref(), Some("127"));
}

#[test]
fn m_4_each_cause_is_the_one_that_was_found() {
    let pools = [
        ("public", includes(&["203.0.113.0"])),
        ("bank", with(includes(&["198.51.100.0"]), &json!({"use": {"namespaces": ["bank"]}}))),
        ("afar", with(includes(&["198.51.100.1"]), &json!({"fleet": "other", "use": {}}))),
        ("bad", with(includes(&["198.51.100.9-198.51.100.3"]), &json!({"use": {}}))),
        ("secret", with(includes(&["198.51.100.2"]), &json!({"use": {"tenants": {"names": ["news"]}}}))),
        ("asked", json!({"addresses": {"include": ["2001:db8::/126"], "dynamic": []}, "use": {}})),
    ];
    let mut hub = hub(&pools);
    put(&mut hub, NS, "first", &json!({}));
    put(&mut hub, OTHER, "theirs", &json!({"pool": "secret"}));
    let ask = "ask the hub's administrators";
    let causes = [
        (json!({}), "PoolExhausted: no IPv4 address is free in pool public: the load balancer that waits longest gets the next one".to_owned()),
        (json!({"families": ["IPv6"]}), "FamilyMissing: pool public has no IPv6 addresses".to_owned()),
        (json!({"pool": "bank"}), "PoolNotOpen: pool bank is open to some namespaces of the spoke alone, and spec.origin names none".to_owned()),
        (json!({"pool": "afar"}), "PoolNotOpen: pool afar is served by fleet other, and the Tenant by fleet default".to_owned()),
        (json!({"pool": "bad"}), format!("PoolNotReady: pool bad gives no addresses: its spec.addresses has a mistake, {ask}")),
        (json!({"pool": "secret"}), format!("PoolNotOpen: no pool named secret gives addresses to this tenant: {ask}")),
        (json!({"pool": "nowhere"}), format!("PoolNotOpen: no pool named nowhere gives addresses to this tenant: {ask}")),
        (json!({"pool": "asked"}), "FamilyMissing: pool asked gives IPv6 addresses only by request: name one (nave.dev/addresses on the Service, spec.address.requested here)".to_owned()),
        (json!({"requested": ["198.51.100.2"]}), "AddressNotOffered: 198.51.100.2 is in no pool that gives addresses to this tenant".to_owned()),
        (json!({"pool": "public", "requested": ["203.0.113.9"]}), "AddressNotOffered: 203.0.113.9 is not among the addresses of pool public".to_owned()),
        (json!({"requested": ["203.0.113.0"]}), "AddressTaken: 203.0.113.0 is taken by load balancer first of this tenant: it is given as soon as it is free".to_owned()),
    ];
    for (address, why) in causes {
        put(&mut hub, NS, "web", &address);
        assert_eq!(says(&hub, NS, "web"), why, "{address}");
    }
    put(&mut hub, OTHER, "web", &json!({"requested": ["203.0.113.0"]}));
    let told = says(&hub, OTHER, "web");
    assert!(!told.contains("first") && !told.contains("shop"), "another tenant's names are not shown: {told}");
}

#[test]
fn m_4_a_pool_that_cannot_be_read_is_named_as_the_cause() {
    let mut hub = hub(&[("public", includes(&["203.0.113.0/30"]))]);
    hub.spoil("IPPool", Key::cluster("public"), true);
    hub.restart();
    put(&mut hub, NS, "web", &json!({"pool": "public"}));
    let ask = "ask the hub's administrators";
    assert_eq!(says(&hub, NS, "web"), format!("PoolNotReady: pool public cannot be read by this manager: {ask}"));
    put(&mut hub, NS, "any", &json!({}));
    let told = says(&hub, NS, "any");
    assert!(told.starts_with(&format!("PoolNotReady: a pool cannot be read by this manager: {ask}")), "{told}");
}

#[test]
fn m_4_an_address_that_is_kept_for_its_last_owner_says_so() {
    let mut hub = hub(&[("public", with(includes(&["203.0.113.0"]), &json!({"holdFor": "1h"})))]);
    put(&mut hub, OTHER, "first", &json!({}));
    hub.delete_balancer(OTHER, "first");
    hub.settle();
    put(&mut hub, NS, "web", &json!({"requested": ["203.0.113.0"]}));
    let why = "AddressTaken: 203.0.113.0 is taken, it is kept for its last owner: it is given as soon as it is free";
    assert_eq!(says(&hub, NS, "web"), why);
}

#[test]
fn m_4_a_shared_pool_without_room_says_that_ports_are_taken() {
    let shared = with(includes(&["203.0.113.0"]), &json!({"sharing": "ByPort"}));
    let mut hub = hub(&[("shared", shared)]);
    put(&mut hub, NS, "first", &json!({}));
    put(&mut hub, NS, "web", &json!({}));
    put(&mut hub, OTHER, "web", &json!({}));
    let own = says(&hub, NS, "web");
    assert!(own.starts_with("PoolExhausted: no IPv4 address is free") && own.contains("its ports are taken"), "{own}");
    let other = says(&hub, OTHER, "web");
    assert!(other.starts_with("PoolExhausted: ") && !other.contains("ports"), "{other}");
}
