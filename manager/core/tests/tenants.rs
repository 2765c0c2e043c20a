//! What tenants can do to each other: nothing. Knows behaviours; knows no room inside the engine.

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

/// A hub with these tenants, who reach every network that a tenant may list, and a pool.
fn hub(tenants: &[&str], pool_spec: &Value) -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.pool(pool("public", pool_spec));
    for name in tenants {
        let everything = json!({"allow": ["0.0.0.0/0", "::/0"], "sharing": "Shared"});
        hub.tenant(tenant(name, &json!({"backends": everything})));
        hub.node_set(nodes(&format!("tenant-{name}"), "default", &[("n1", "10.20.0.1")]));
    }
    hub.connect("default", "edge-1");
    hub.settle();
    hub
}

fn to(address: &str) -> Value {
    json!({"backends": {"endpoints": [{"addresses": [address]}]}})
}

fn static_pool() -> Value {
    json!({"addresses": {"include": ["203.0.113.0/29"]}})
}

#[test]
fn traffic_goes_in_no_circle_be_it_through_oneself_or_through_another() {
    for (one, other) in [("203.0.113.0", "203.0.113.1"), ("::ffff:203.0.113.0", "2002:cb00:7101::")] {
        let mut hub = hub(&["a", "b"], &static_pool());
        // Each leads to the other, and a third to itself.
        hub.balancer(balancer("tenant-a", "there", &to(other)));
        hub.settle();
        hub.balancer(balancer("tenant-b", "back", &to(one)));
        hub.settle();
        hub.balancer(balancer("tenant-a", "itself", &to("203.0.113.2")));
        hub.settle();
        let given = [("tenant-a", "there"), ("tenant-b", "back"), ("tenant-a", "itself")];
        for ((namespace, name), address) in given.into_iter().zip(["203.0.113.0", "203.0.113.1", "203.0.113.2"]) {
            assert_eq!(hub.addresses(namespace, name), [address]);
            assert_eq!(hub.condition(namespace, name, "Accepted"), "False/BackendsRefused");
        }
    }
}

#[test]
fn a_circle_does_not_close_when_the_pool_comes_after_the_backends() {
    let mut hub = hub(&["a"], &static_pool());
    hub.balancer(balancer("tenant-a", "web", &to("198.51.100.1")));
    hub.settle();
    assert_eq!(hub.condition("tenant-a", "web", "Accepted"), "True/Accepted");
    hub.pool(pool("more", &json!({"addresses": {"include": ["198.51.100.0/24"]}})));
    hub.settle();
    assert_eq!(hub.condition("tenant-a", "web", "Accepted"), "False/BackendsRefused");
    hub.delete_pool("more");
    hub.settle();
    assert_eq!(hub.condition("tenant-a", "web", "Accepted"), "True/Accepted");
}

#[test]
fn names_that_read_alike_when_joined_stay_apart() {
    let pairs = [("a", "b-c"), ("a-b", "c"), ("a-b-c", "d"), ("a", "b-c-d")];
    let both = [static_pool(), json!({"source": {"service": {}}})];
    for pool_spec in both {
        let mut hub = hub(&["a", "a-b", "a-b-c"], &pool_spec);
        for (tenant, name) in pairs {
            hub.balancer(balancer(&format!("tenant-{tenant}"), name, &json!({})));
            hub.settle();
        }
        let addresses = |(tenant, name): (&str, &str)| hub.addresses(&format!("tenant-{tenant}"), name);
        let distinct: BTreeSet<String> = pairs.into_iter().flat_map(addresses).collect();
        assert_eq!(distinct.len(), pairs.len(), "{distinct:?}");
        let clusters = hub.names("default").into_iter().filter(|name| name.starts_with("cluster")).count();
        assert_eq!(clusters, pairs.len());
    }
}

#[test]
fn who_asks_for_a_port_of_a_shared_address_that_another_has_is_told_which() {
    let spec = json!({"addresses": {"include": ["203.0.113.0"]}, "sharing": "ByPortAcrossTenants"});
    let mut hub = hub(&["a", "b"], &spec);
    hub.balancer(balancer("tenant-a", "web", &json!({})));
    hub.settle();
    hub.balancer(balancer("tenant-b", "web", &json!({"address": {"requested": ["203.0.113.0"]}})));
    hub.settle();
    assert_eq!(hub.condition("tenant-b", "web", "Allocated"), "False/PortTaken");
}
