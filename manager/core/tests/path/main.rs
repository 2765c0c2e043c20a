//! The path of a load balancer through the engine, from its creation to its end. Knows behaviours; knows no room inside.

mod addresses;
#[path = "../support/mod.rs"]
mod support;

use nave_manager_core::{Key, Role, Seen, Sight, Step};
use serde_json::json;
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const NS: &str = "tenant-shop";

/// A hub with one tenant, one node, one pool and one Envoy.
fn hub() -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.tenant(tenant("shop", &json!({})));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/30"]}})));
    hub.node_set(nodes(NS, "default", &[("n1", "10.20.0.1")]));
    hub.connect("default", "edge-1");
    hub.settle();
    hub
}

fn is_create(step: &Step) -> bool {
    matches!(step, Step::CreateAllocation(_))
}

#[test]
fn nothing_follows_before_every_kind_was_listed() {
    let mut engine = nave_manager_core::Engine::new(nave_manager_core::Settings::default());
    let hub = hub();
    let mut lists = hub.lists();
    lists.pop();
    for seen in lists {
        engine.observe(seen);
        assert!(!engine.is_synced());
        assert!(engine.settle(Role::Leader, hub.time()).steps.is_empty());
    }
}

#[test]
fn a_load_balancer_is_recorded_before_it_is_served_and_then_acknowledged() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    let steps = hub.decide();
    assert_eq!(hub.names("default"), Vec::<String>::new());
    for step in steps.into_iter().filter(is_create) {
        hub.perform(&step);
    }
    hub.decide();
    let served = ["cluster tenant-shop/web/tcp/80", "endpoints tenant-shop/web/tcp/80", "listener tcp/203.0.113.0/80"];
    assert_eq!(hub.names("default"), served);
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
}

#[test]
fn a_creation_costs_one_status_write() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    let mut patient = 0;
    let mut final_writes = 0;
    for _ in 0..6 {
        for step in hub.decide() {
            match &step {
                Step::WriteLoadBalancerStatus { patience, .. } if patience.is_zero() => final_writes += 1,
                Step::WriteLoadBalancerStatus { .. } => {
                    patient += 1;
                    continue;
                }
                _ => {}
            }
            hub.perform(&step);
        }
        hub.acknowledge();
    }
    assert_eq!(final_writes, 1);
    assert!(patient > 0);
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
}

#[test]
fn a_deleted_load_balancer_returns_its_address() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert_eq!(hub.names("default"), Vec::<String>::new());
    assert!(hub.allocations.is_empty());
}

#[test]
fn the_oldest_who_waits_gets_what_becomes_free() {
    let mut hub = hub();
    for (i, name) in ["a", "b", "c", "d", "z-older", "e-newer"].iter().enumerate() {
        hub.now = i64::try_from(i).unwrap();
        hub.balancer(balancer(NS, name, &json!({})));
        hub.settle();
    }
    assert_eq!(hub.condition(NS, "z-older", "Allocated"), "False/PoolExhausted");
    hub.delete_balancer(NS, "b");
    hub.settle();
    assert_eq!(hub.addresses(NS, "z-older"), ["203.0.113.1"]);
    assert_eq!(hub.condition(NS, "e-newer", "Allocated"), "False/PoolExhausted");
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/29"]}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "e-newer"), ["203.0.113.4"]);
}

#[test]
fn a_restart_writes_nothing() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    let served = hub.served.clone();
    hub.restart();
    hub.engine.replan();
    assert_eq!(hub.decide(), []);
    assert_eq!(hub.served, served);
    hub.acknowledge();
    assert_eq!(hub.decide(), []);
}

#[test]
fn a_refusal_is_told_and_taken_back_when_it_ends() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.refuse("default", "edge-1", "tcp/203.0.113.0/80", "cannot bind '203.0.113.0:80'");
    for step in hub.decide() {
        hub.perform(&step);
    }
    assert_eq!(hub.condition(NS, "web", "Programmed"), "False/Refused");
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    hub.settle();
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
}

#[test]
fn a_node_change_touches_endpoints_alone_and_no_status_says_less() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.node_set(nodes(NS, "default", &[("n1", "10.20.0.1"), ("n2", "10.20.0.2")]));
    let outcome = hub.engine.settle(Role::Leader, hub.time());
    let changed: Vec<String> = outcome.publish["default"].upsert.iter().map(|r| r.kind().to_string()).collect();
    assert_eq!(changed, ["endpoints"]);
    for step in outcome.steps {
        hub.perform(&step);
    }
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
}

#[test]
fn envoys_that_come_and_go_take_nothing_back() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    let writes = hub.status_writes;
    hub.connect("default", "edge-2");
    hub.decide();
    hub.disconnect("default", "edge-1");
    hub.disconnect("default", "edge-2");
    hub.settle();
    assert_eq!(hub.status_writes, writes);
}

#[test]
fn a_suspended_tenant_keeps_its_addresses_and_answers_nobody() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.tenant(tenant("shop", &json!({"state": "Suspended"})));
    hub.settle();
    assert_eq!(hub.names("default"), Vec::<String>::new());
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    assert_eq!(hub.condition(NS, "web", "Accepted"), "False/TenantSuspended");
    hub.tenant(tenant("shop", &json!({})));
    hub.settle();
    assert_eq!(hub.names("default").len(), 3);
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
}

#[test]
fn a_load_balancer_made_again_under_its_name_gets_its_address_back() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "a", &json!({})));
    hub.balancer(balancer(NS, "b", &json!({})));
    hub.settle();
    hub.delete_balancer(NS, "a");
    hub.delete_balancer(NS, "b");
    hub.settle();
    hub.balancer(balancer(NS, "b", &json!({})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "b"), ["203.0.113.1"]);
}

#[test]
fn over_quota_is_the_newest_and_never_what_runs() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "b-older", &json!({})));
    hub.settle();
    hub.now = 5;
    hub.tenant(tenant("shop", &json!({"quota": {"loadBalancers": 1}})));
    hub.balancer(balancer(NS, "a-newer", &json!({})));
    hub.settle();
    assert_eq!(hub.condition(NS, "b-older", "Programmed"), "True/Programmed");
    assert_eq!(hub.condition(NS, "a-newer", "Accepted"), "False/QuotaExceeded");
    assert_eq!(hub.addresses(NS, "a-newer"), Vec::<String>::new());
    hub.delete_balancer(NS, "b-older");
    hub.settle();
    assert_eq!(hub.condition(NS, "a-newer", "Programmed"), "True/Programmed");
}

#[test]
fn no_client_is_sent_to_a_load_balancer_before_its_nodes_are_known() {
    let mut hub = hub();
    hub.tenant(tenant("news", &json!({"backends": {"allow": ["10.0.0.0/8"]}})));
    hub.balancer(balancer("tenant-news", "web", &json!({})));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "web", "Allocated"), "True/Allocated");
    assert_eq!(hub.condition("tenant-news", "web", "Programmed"), "False/NotAccepted");
    hub.node_set(nodes("tenant-news", "default", &[("n1", "10.20.0.1")]));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "web", "Programmed"), "True/Programmed");
    hub.engine.observe(Seen::NodeSets(Sight::Gone(Key::new("tenant-news", "default"))));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "web", "Accepted"), "False/NodeSetMissing");
    assert_eq!(hub.condition("tenant-news", "web", "Programmed"), "True/Programmed", "what was shown once stays");
}

#[test]
fn a_follower_serves_and_writes_nothing() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    let mut follower = nave_manager_core::Engine::new(nave_manager_core::Settings::default());
    hub.lists().into_iter().for_each(|seen| follower.observe(seen));
    let outcome = follower.settle(Role::Follower, hub.time());
    assert_eq!(outcome.steps, []);
    assert_eq!(follower.resources("default"), hub.served["default"].values().cloned().collect::<Vec<_>>());
    follower.replan();
    assert_eq!(follower.settle(Role::Leader, hub.time()).steps, []);
}

#[test]
fn an_address_that_another_manager_recorded_first_is_left_to_it() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    let steps = hub.decide();
    let foreign = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "IPAllocation", "metadata": {"name": "203.0.113.0"},
        "spec": {"address": "203.0.113.0", "pool": "public", "owners": [
            {"namespace": "tenant-news", "kind": "HTTPLoadBalancer", "name": "other", "uid": "other", "ports": []},
        ]},
    });
    hub.load(foreign);
    for step in &steps {
        hub.perform(step);
    }
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.1"]);
    assert_eq!(hub.allocations.len(), 2);
}

#[test]
fn a_tenant_gets_no_address_of_another_by_any_name() {
    let mut hub = hub();
    hub.tenant(tenant("news", &json!({})));
    hub.node_set(nodes("tenant-news", "default", &[("n1", "10.20.0.1")]));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.now = 9;
    let origin = json!({"kind": "Service", "namespace": "shop", "name": "web", "uid": "uid-of-the-other"});
    hub.balancer(balancer("tenant-news", "web", &json!({"origin": origin})));
    hub.balancer(balancer("tenant-news", "thief", &json!({"address": {"requested": ["203.0.113.0"]}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    assert_eq!(hub.addresses("tenant-news", "web"), ["203.0.113.1"]);
    assert_eq!(hub.condition("tenant-news", "thief", "Allocated"), "False/AddressTaken");
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert_eq!(hub.addresses("tenant-news", "thief"), ["203.0.113.0"]);
}

#[test]
fn an_address_that_passes_to_the_next_owner_is_an_update_in_place() {
    let mut hub = hub();
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0"]}})));
    hub.balancer(balancer(NS, "first", &json!({})));
    hub.settle();
    hub.now = 5;
    hub.balancer(balancer(NS, "second", &json!({})));
    hub.settle();
    hub.delete_balancer(NS, "first");
    hub.settle();
    assert_eq!(hub.addresses(NS, "second"), ["203.0.113.0"]);
    let served =
        ["cluster tenant-shop/second/tcp/80", "endpoints tenant-shop/second/tcp/80", "listener tcp/203.0.113.0/80"];
    assert_eq!(hub.names("default"), served);
}

#[test]
fn a_refusal_ends_with_the_envoy_that_refused() {
    let mut hub = hub();
    hub.connect("default", "edge-2");
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.refuse("default", "edge-2", "tcp/203.0.113.0/80", "cannot bind");
    hub.decide().iter().for_each(|step| hub.perform(step));
    assert_eq!(hub.condition(NS, "web", "Programmed"), "False/Refused");
    hub.disconnect("default", "edge-2");
    hub.decide().iter().for_each(|step| hub.perform(step));
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
}

#[test]
fn what_was_not_performed_is_said_again_after_a_replan() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    let lost = hub.decide();
    assert!(lost.iter().any(is_create));
    assert_eq!(hub.decide(), []);
    hub.engine.replan();
    assert!(hub.decide().iter().any(is_create));
}

#[test]
fn a_fresh_record_whose_owner_was_never_seen_is_not_taken_for_abandoned() {
    let mut hub = hub();
    let fresh = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "IPAllocation",
        "metadata": {"name": "203.0.113.2", "creationTimestamp": support::objects::at(0).to_string()},
        "spec": {"address": "203.0.113.2", "pool": "public", "owners": [
            {"namespace": NS, "kind": "TCPLoadBalancer", "name": "web", "uid": "uid-of-web", "ports": []},
        ]},
    });
    hub.observe_value(fresh);
    assert!(!hub.decide().iter().any(|step| matches!(step, Step::ReleaseAllocation { .. })));
    assert_eq!(hub.engine.wakes_at(), Some(support::objects::at(10)));
    hub.now = 10;
    assert!(hub.decide().iter().any(|step| matches!(step, Step::ReleaseAllocation { .. })));
}
