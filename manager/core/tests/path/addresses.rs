//! Which address a load balancer gets. Knows behaviours; knows no room inside the engine.

use serde_json::json;

use super::support::hub::Hub;
use super::support::objects::{balancer, nodes, pool, tenant};
use super::{NS, hub};

#[test]
fn a_tenant_at_its_limit_is_named_as_such_whether_or_not_an_address_is_free_just_now() {
    let mut hub = hub();
    hub.tenant(tenant("shop", &json!({"quota": {"addresses": 1}})));
    hub.tenant(tenant("news", &json!({})));
    hub.node_set(nodes("tenant-news", "default", &[("n1", "10.20.0.1")]));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/31"]}})));
    for name in ["first", "second"] {
        hub.balancer(balancer(NS, name, &json!({})));
        hub.settle();
    }
    assert_eq!(hub.condition(NS, "second", "Allocated"), "False/QuotaExceeded");
    hub.balancer(balancer("tenant-news", "taker", &json!({})));
    hub.settle();
    assert_eq!(hub.condition(NS, "second", "Allocated"), "False/QuotaExceeded");
    let before = hub.status_writes;
    hub.engine.replan();
    hub.settle();
    assert_eq!(hub.status_writes, before, "the pool is full now, which is another reason, and the same is said");
}

#[test]
fn a_tenant_with_one_address_left_gets_one_of_two_that_would_be_nicer() {
    let mut hub = hub();
    hub.tenant(tenant("shop", &json!({"quota": {"addresses": 1}})));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/30", "2001:db8::/126"]}})));
    hub.balancer(balancer(NS, "web", &json!({"address": {"familyPolicy": "PreferDualStack"}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    hub.tenant(tenant("shop", &json!({"quota": {"addresses": 2}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0", "2001:db8::"]);
}

#[test]
fn the_last_owner_is_preferred_after_a_restart_and_has_no_right_to_it() {
    let mut hub = hub();
    for name in ["first", "second", "third"] {
        hub.balancer(balancer(NS, name, &json!({})));
        hub.settle();
    }
    let addresses = |hub: &Hub, name: &str| hub.addresses(NS, name);
    let (first, second) = (addresses(&hub, "first"), addresses(&hub, "second"));
    for name in ["first", "second"] {
        hub.delete_balancer(NS, name);
        hub.settle();
    }
    hub.restart();
    hub.balancer(balancer(NS, "second", &json!({})));
    hub.settle();
    assert_eq!(addresses(&hub, "second"), second, "its own, though a lower one is free");
    hub.balancer(balancer(NS, "taker", &json!({"address": {"requested": first}})));
    hub.settle();
    assert_eq!(addresses(&hub, "taker"), first, "free is free");
    hub.restart();
    hub.balancer(balancer(NS, "first", &json!({})));
    hub.settle();
    assert_eq!(addresses(&hub, "first"), ["203.0.113.3"]);
}

#[test]
fn an_address_outside_of_the_dynamic_part_is_never_given_unasked_not_even_to_its_last_owner() {
    let mut hub = hub();
    let parts = json!({"addresses": {"include": ["203.0.113.0/30"], "dynamic": ["203.0.113.2/31"]}});
    hub.pool(pool("public", &parts));
    hub.balancer(balancer(NS, "web", &json!({"address": {"requested": ["203.0.113.0"]}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    hub.delete_balancer(NS, "web");
    hub.settle();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.2"]);
}
