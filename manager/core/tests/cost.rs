//! What the worst objects of a tenant cost: limits are checked before lists are multiplied, refusals are counted, and a node that
//! comes or goes concerns few load balancers. Knows behaviours and counts; measures no time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot be read or is not there ends the test"
)]

mod support;

use std::collections::BTreeSet;

use nave_api::NodeSet;
use nave_manager_core::Key;
use nave_xds::resource::{Resource, ResourceType};
use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const NS: &str = "tenant-shop";

/// A hub whose tenant may have so much, with as many nodes as asked for.
fn hub(quota: &Value, count: usize) -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.tenant(tenant("shop", &json!({"quota": quota, "backends": {"allow": ["10.20.0.0/16"]}})));
    hub.node_set(node_set((0..count).map(good)));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.112.0/22"]}})));
    hub.connect("default", "edge-1");
    hub.settle();
    hub
}

fn good(number: usize) -> Value {
    let address = format!("10.20.{}.{}", number / 250, number % 250 + 1);
    json!({"name": format!("node-{number}"), "addresses": [address], "zone": format!("zone-{}", number % 3)})
}

fn node_set(all: impl Iterator<Item = Value>) -> NodeSet {
    let mut object = nodes(NS, "default", &[]);
    object.spec = serde_json::from_value(json!({"nodes": all.collect::<Vec<_>>()})).expect("nodes");
    object
}

/// The endpoints that are served, with the bytes that describe them.
fn endpoints(hub: &Hub) -> BTreeSet<(String, Vec<u8>)> {
    let is_endpoints = |resource: &&Resource| resource.kind() == ResourceType::Endpoints;
    let all = hub.served["default"].values().filter(is_endpoints);
    all.map(|resource| (resource.name().to_string(), resource.body().to_vec())).collect()
}

fn accepted(hub: &Hub, name: &str) -> String {
    let status = hub.balancers[&Key::new(NS, name)].status.clone().unwrap_or_default();
    status.conditions.into_iter().find(|c| c.type_ == "Accepted").map(|c| c.message).unwrap_or_default()
}

#[test]
fn b_refused_nodes_are_counted_and_the_first_are_named() {
    let mut hub = hub(&json!({}), 0);
    for address in ["none", "169.254.169.254", "10.99.0.1", "fe80::1"] {
        let bad = |n: usize| json!({"name": format!("node-{n:04}"), "addresses": vec![address; 8]});
        hub.node_set(node_set((0..5000).map(bad)));
        hub.balancer(balancer(NS, "web", &json!({})));
        hub.settle();
        let message = accepted(&hub, "web");
        assert!(message.contains("node-0000") && message.contains("and 39997 more"), "{message}");
        assert!(message.len() < 600, "{message}");
    }
}

#[test]
fn b_a_limit_cuts_addresses_before_they_are_multiplied_by_ports() {
    let ports: Vec<Value> =
        (1..=100).map(|n| json!({"name": format!("p{n}"), "port": n, "backendPort": 30_000 + n})).collect();
    let addresses: Vec<String> = (0..20_000).map(|n| format!("10.20.{}.{}", n / 250, n % 250 + 1)).collect();
    let groups: Vec<Value> = addresses.chunks(1000).map(|some| json!({"addresses": some})).collect();
    let spec = json!({"ports": ports, "backends": {"endpoints": groups}});
    for (quota, each) in [(json!({"endpoints": 5000}), 50), (json!({}), 500)] {
        let mut hub = hub(&quota, 0);
        hub.balancer(balancer(NS, "web", &spec));
        hub.settle();
        if quota == json!({}) {
            assert_eq!(hub.condition(NS, "web", "Accepted"), "True/TooManyBackends");
            let status = hub.balancers[&Key::new(NS, "web")].status.clone().unwrap_or_default();
            assert_eq!(status.backends.map(|backends| (backends.total, backends.ready)), Some((20_000, each)));
        } else {
            assert_eq!(hub.condition(NS, "web", "Accepted"), "False/QuotaExceeded", "a new one is refused as a whole");
        }
    }
}

#[test]
fn b_a_node_that_goes_concerns_the_load_balancers_that_use_it() {
    let mut hub = hub(&json!({}), 300);
    for number in 0..100 {
        hub.balancer(balancer(NS, &format!("web-{number}"), &json!({})));
    }
    hub.settle();
    let before = endpoints(&hub);
    let status = hub.balancers[&Key::new(NS, "web-0")].status.clone().unwrap_or_default();
    assert_eq!(status.backends.map(|backends| (backends.total, backends.ready)), Some((32, 32)));
    hub.node_set(node_set((0..299).map(good)));
    hub.settle();
    let changed = endpoints(&hub).difference(&before).count();
    // One in nine or so.
    assert!((1..=30).contains(&changed), "{changed} of 100 changed");
    hub.restart();
    hub.settle();
    assert_eq!(endpoints(&hub).len(), 100);
    let all = json!({"backends": {"nodes": {"nodeSet": "default", "subset": 0}}});
    hub.balancer(balancer(NS, "web-0", &all));
    let only: Vec<String> = (0..100).map(|n| format!("node-{n}")).collect();
    hub.balancer(balancer(NS, "web-1", &json!({"backends": {"nodes": {"nodeSet": "default", "only": only}}})));
    hub.settle();
    for (name, count) in [("web-0", 299), ("web-1", 100)] {
        let status = hub.balancers[&Key::new(NS, name)].status.clone().unwrap_or_default();
        assert_eq!(status.backends.map(|backends| (backends.total, backends.ready)), Some((count, count)), "{name}");
    }
}

#[test]
fn b_a_node_set_that_changes_reaches_every_load_balancer_in_turns() {
    let mut hub = hub(&json!({}), 3);
    for number in 0..600 {
        hub.balancer(balancer(NS, &format!("web-{number}"), &json!({})));
    }
    hub.settle();
    let before = endpoints(&hub);
    hub.node_set(node_set((0..4).map(good)));
    hub.decide();
    let after_one = endpoints(&hub).difference(&before).count();
    assert!(after_one < 600 && hub.engine.has_turns(), "{after_one}");
    hub.settle();
    assert_eq!(endpoints(&hub).difference(&before).count(), 600);
}
