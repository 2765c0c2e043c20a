//! What the limits of a tenant do to what runs and to what comes. Knows behaviours; knows no room inside the engine.

mod support;

use nave_manager_core::{Engine, Key, Role, Seen, Settings, Sight, Step};
use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const NS: &str = "tenant-shop";
const OTHER: &str = "tenant-news";
const NODES: [(&str, &str); 6] = [
    ("n1", "10.20.0.1"),
    ("n2", "10.20.0.2"),
    ("n3", "10.20.0.3"),
    ("n4", "10.20.0.4"),
    ("n5", "10.20.0.5"),
    ("n6", "10.20.0.6"),
];

/// A hub with a pool, a tenant that has this quota, and another one that has none.
fn hub(quota: &Value, pool_spec: &Value) -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.tenant(tenant("shop", &json!({"quota": quota})));
    hub.tenant(tenant("news", &json!({})));
    for namespace in [NS, OTHER] {
        hub.node_set(nodes(namespace, "default", &NODES[..2]));
    }
    hub.pool(pool("public", pool_spec));
    hub.connect("default", "edge-1");
    hub.settle();
    hub
}

fn addresses(text: &str) -> Value {
    json!({"addresses": {"include": [text]}})
}

fn on(ports: &[u16]) -> Value {
    let port = |number: &u16| json!({"port": number, "backendPort": 30080});
    json!({"ports": ports.iter().map(port).collect::<Vec<_>>()})
}

fn listeners(hub: &Hub) -> Vec<String> {
    hub.names("default").into_iter().filter_map(|name| Some(name.strip_prefix("listener tcp/")?.to_owned())).collect()
}

fn message(hub: &Hub, name: &str, kind: &str) -> String {
    let status = hub.balancers[&Key::new(NS, name)].status.clone().unwrap_or_default();
    status.conditions.into_iter().find(|c| c.type_ == kind).map(|c| c.message).unwrap_or_default()
}

#[test]
fn an_edit_opens_as_many_ports_as_there_is_room_for_and_closes_none() {
    let mut hub = hub(&json!({"ports": 3}), &addresses("203.0.113.0/29"));
    hub.balancer(balancer(NS, "web", &on(&[80])));
    hub.settle();
    hub.balancer(balancer(NS, "mail", &on(&[25])));
    hub.settle();
    hub.balancer(balancer(NS, "web", &on(&[80, 443, 8080])));
    hub.settle();
    assert_eq!(listeners(&hub), ["203.0.113.0/443", "203.0.113.0/80", "203.0.113.1/25"]);
    assert_eq!(hub.condition(NS, "web", "Accepted"), "True/QuotaExceeded");
    assert!(message(&hub, "web", "Accepted").contains("8080/TCP stay closed"), "{}", message(&hub, "web", "Accepted"));
    hub.restart();
    assert!(hub.decide().is_empty());
    hub.tenant(tenant("shop", &json!({"quota": {"ports": 1}})));
    hub.settle();
    assert_eq!(listeners(&hub).len(), 3, "a limit that is lowered closes nothing");
    hub.delete_balancer(NS, "mail");
    hub.tenant(tenant("shop", &json!({"quota": {"ports": 3}})));
    hub.settle();
    assert_eq!(listeners(&hub), ["203.0.113.0/443", "203.0.113.0/80", "203.0.113.0/8080"]);
    assert_eq!(hub.condition(NS, "web", "Accepted"), "True/Accepted");
}

#[test]
fn more_nodes_get_traffic_while_there_is_room_and_nobody_loses_what_he_has() {
    let mut hub = hub(&json!({"endpoints": 6}), &addresses("203.0.113.0/29"));
    let backends = |hub: &Hub, name: &str| {
        let status = hub.balancers[&Key::new(NS, name)].status.clone().unwrap_or_default();
        status.backends.map(|backends| (backends.ready, backends.total)).unwrap_or_default()
    };
    hub.balancer(balancer(NS, "web", &on(&[80])));
    hub.settle();
    hub.balancer(balancer(NS, "mail", &on(&[25])));
    hub.settle();
    assert_eq!((backends(&hub, "web"), backends(&hub, "mail")), ((2, 2), (2, 2)));
    hub.node_set(nodes(NS, "default", &NODES));
    hub.settle();
    assert_eq!((backends(&hub, "web"), backends(&hub, "mail")), ((3, 6), (3, 6)));
    assert_eq!(hub.condition(NS, "mail", "Accepted"), "True/QuotaExceeded");
    assert_eq!(hub.condition(NS, "mail", "Programmed"), "True/Programmed");
    hub.balancer(balancer(NS, "third", &on(&[80])));
    hub.settle();
    assert_eq!(hub.condition(NS, "third", "Accepted"), "False/QuotaExceeded");
    hub.restart();
    assert!(hub.decide().is_empty());
    hub.tenant(tenant("shop", &json!({"quota": {"endpoints": 2}})));
    hub.settle();
    assert_eq!((backends(&hub, "web"), backends(&hub, "mail")), ((3, 6), (3, 6)));
    hub.delete_balancer(NS, "mail");
    hub.tenant(tenant("shop", &json!({"quota": {"endpoints": 6}})));
    hub.settle();
    assert_eq!(backends(&hub, "web"), (6, 6));
}

#[test]
fn who_comes_and_goes_under_new_names_keeps_no_more_addresses_than_he_may_have() {
    let mut pool_spec = addresses("203.0.113.0/29");
    pool_spec["holdFor"] = json!("1h");
    let mut hub = hub(&json!({"addresses": 2}), &pool_spec);
    for n in 0..8 {
        hub.balancer(balancer(NS, &format!("lb-{n}"), &json!({})));
        hub.settle();
        hub.delete_balancer(NS, &format!("lb-{n}"));
        hub.settle();
    }
    assert_eq!(hub.allocations.len(), 2);
    for n in 0..8 {
        hub.balancer(balancer(NS, &format!("lb-{n}"), &json!({})));
    }
    hub.settle();
    let has = |n: &u32| !hub.addresses(NS, &format!("lb-{n}")).is_empty();
    assert_eq!((0..8).filter(has).count(), 2, "what was kept counts when it is taken again");
}

#[test]
fn an_address_that_others_share_counts_for_all_of_them() {
    let mut pool_spec = addresses("203.0.113.0/30");
    pool_spec["sharing"] = json!("ByPortAcrossTenants");
    let mut hub = hub(&json!({"addresses": 1}), &pool_spec);
    for (n, address) in ["203.0.113.1", "203.0.113.2"].into_iter().enumerate() {
        let spec = |port: u16| {
            let mut spec = on(&[port]);
            spec["address"] = json!({"requested": [address]});
            spec
        };
        hub.balancer(balancer(OTHER, &format!("lb-{n}"), &spec(80)));
        hub.settle();
        hub.balancer(balancer(NS, &format!("lb-{n}"), &spec(81)));
        hub.settle();
    }
    assert_eq!(hub.condition(NS, "lb-0", "Allocated"), "True/Allocated");
    assert_eq!(hub.condition(NS, "lb-1", "Allocated"), "False/QuotaExceeded");
}

#[test]
fn an_address_whose_record_is_deleted_by_hand_goes_back_to_who_lives() {
    let mut hub = hub(&json!({}), &addresses("203.0.113.0-203.0.113.0"));
    hub.balancer(balancer(OTHER, "older", &json!({"address": {"pool": "none"}})));
    hub.settle();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.balancer(balancer(OTHER, "older", &json!({})));
    hub.settle();
    assert_eq!(hub.condition(OTHER, "older", "Allocated"), "False/PoolExhausted");
    let record = Key::cluster("203.0.113.0");
    hub.allocations.remove(&record);
    hub.engine.observe(Seen::Allocations(Sight::Gone(record)));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    assert_eq!(hub.condition(OTHER, "older", "Allocated"), "False/PoolExhausted");
}

/// A follower sees what there is now; whether it serves what the leader does.
fn follow(follower: &mut Engine, hub: &Hub) -> bool {
    hub.lists().into_iter().for_each(|seen| follower.observe(seen));
    assert_eq!(follower.settle(Role::Follower, hub.time()).steps, []);
    follower.resources("default") == hub.served["default"].values().cloned().collect::<Vec<_>>()
}

#[test]
fn who_follows_serves_what_the_leader_serves_whatever_came_late() {
    let mut hub = hub(&json!({"endpoints": 15}), &addresses("203.0.113.0/29"));
    let mut follower = Engine::new(Settings::default());
    for name in ["a", "b"] {
        hub.balancer(balancer(NS, name, &on(&[80])));
    }
    hub.settle();
    assert!(follow(&mut follower, &hub));
    hub.node_set(nodes(NS, "default", &NODES));
    follow(&mut follower, &hub); // the statuses speak of two nodes still
    hub.settle();
    assert!(follow(&mut follower, &hub));
    hub.balancer(balancer(NS, "b", &on(&[80, 81])));
    hub.settle();
    assert!(follow(&mut follower, &hub), "nobody loses what he has");
    follower.replan();
    let steps = follower.settle(Role::Leader, hub.time()).steps;
    assert!(!steps.iter().any(|step| matches!(step, Step::WriteLoadBalancerStatus { .. })), "{steps:?}");
}

#[test]
fn who_follows_comes_to_what_the_leader_says_in_whatever_order_it_is_heard() {
    let mut hub = hub(&json!({"endpoints": 20}), &addresses("203.0.113.0/29"));
    let to = |name: &str, count: u8| {
        let addresses: Vec<String> = (1..=count).map(|n| format!("10.20.1.{n}")).collect();
        balancer(NS, name, &json!({"backends": {"endpoints": [{"addresses": addresses}]}}))
    };
    let mut follower = Engine::new(Settings::default());
    for name in ["a", "b"] {
        hub.balancer(to(name, 8));
    }
    hub.settle();
    assert!(follow(&mut follower, &hub));
    let now = |hub: &Hub, name: &str| hub.balancers[&Key::new(NS, name)].clone();
    let mut edits = Vec::new();
    for name in ["a", "b"] {
        hub.balancer(to(name, 15));
        edits.push(now(&hub, name));
        hub.settle();
    }
    let served = |hub: &Hub, name: &str| now(hub, name).status.and_then(|s| s.backends).map(|backends| backends.ready);
    assert_eq!((served(&hub, "a"), served(&hub, "b")), (Some(12), Some(8)));
    for batch in [edits, vec![now(&hub, "b")], vec![now(&hub, "a")]] {
        for object in batch {
            follower.observe(Seen::LoadBalancers(Sight::One(object)));
        }
        follower.settle(Role::Follower, hub.time());
    }
    assert_eq!(follower.resources("default"), hub.served["default"].values().cloned().collect::<Vec<_>>());
}
