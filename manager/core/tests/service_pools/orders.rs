//! What becomes of an order that does not come or that the hub's API refuses, and of ports and addresses meanwhile. Knows
//! behaviours; knows no room inside the engine.

use std::collections::BTreeSet;

use nave_manager_core::{Delivery, Key, Order, Seen, Step};
use serde_json::json;

use super::support::hub::Hub;
use super::support::objects::{balancer, pool};
use super::{NS, OTHER, hub, listeners, per_balancer};

#[test]
fn what_was_ordered_and_is_not_as_ordered_is_ordered_again() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    let mut ordered = None;
    while ordered.is_none() {
        let steps = hub.decide();
        assert!(!steps.is_empty(), "it is ordered");
        for step in steps {
            match step {
                Step::Order(order) => ordered = Some(order),
                other => hub.perform(&other),
            }
        }
    }
    let order = ordered.expect("the order");
    let delivery = |digest: &str| Delivery {
        id: order.id.clone(),
        pool: "cloud".into(),
        owner: Some(Key::new(NS, "web")),
        uid: order.uid.clone(),
        digest: digest.into(),
        addresses: Vec::new(),
        hostnames: Vec::new(),
        ports: BTreeSet::new(),
    };
    let orders = |hub: &mut Hub| hub.decide().iter().filter(|step| matches!(step, Step::Order(_))).count();
    hub.engine.observe(Seen::Delivery(order.id.clone(), Some(delivery("somebody's"))));
    assert_eq!(orders(&mut hub), 0, "what was ordered is on its way");
    hub.engine.compare();
    assert_eq!(orders(&mut hub), 1, "it did not come");
    hub.engine.observe(Seen::Delivery(order.id.clone(), None));
    assert_eq!(orders(&mut hub), 1, "it is gone");
}

/// The hub's API refuses all that is ordered now; what that is.
fn refuse(hub: &mut Hub, words: &str) -> Vec<Order> {
    let mut refused = Vec::new();
    for step in hub.decide() {
        match step {
            Step::Order(order) => refused.push(order),
            step => hub.perform(&step),
        }
    }
    for order in &refused {
        hub.engine.observe(Seen::Answered(order.answered(Some(words.to_owned()))));
    }
    hub.settle();
    refused
}

/// What is recorded is ordered next.
fn record_first(hub: &mut Hub) {
    for step in hub.decide() {
        hub.perform(&step);
    }
}

/// A load balancer comes, and what is ordered for it is refused.
fn refuse_web(hub: &mut Hub) -> Vec<Order> {
    hub.balancer(balancer(NS, "web", &json!({})));
    record_first(hub);
    refuse(hub, "exceeded quota")
}

/// Why the pool is ready, and in which words.
fn pool_says(hub: &Hub) -> (String, String) {
    let status = hub.pools[&Key::cluster("cloud")].status.clone().unwrap_or_default();
    status.conditions.into_iter().map(|condition| (condition.reason, condition.message)).next().unwrap_or_default()
}

#[test]
fn an_order_that_is_refused_shows_on_its_pool_until_it_is_taken() {
    for per in ["LoadBalancer", "Fleet"] {
        let mut hub = hub(&json!({"per": per}));
        let orders = refuse_web(&mut hub);
        assert_eq!(hub.condition(NS, "web", "Allocated"), "False/AwaitsCloud", "{per}");
        let (reason, words) = pool_says(&hub);
        assert!(
            reason == "OrderRefused" && words.contains("exceeded quota") && words.contains(&orders[0].id),
            "{words}"
        );
        // It is tried again.
        for order in &orders {
            hub.order(order);
        }
        hub.settle();
        assert_eq!(hub.condition(NS, "web", "Allocated"), "True/Allocated", "{per}");
        assert_eq!(pool_says(&hub).0, "Ready", "{per}");
    }
}

#[test]
fn an_order_that_is_refused_and_then_another_one_is_told_until_one_is_taken() {
    let mut hub = per_balancer();
    let source =
        |annotation: &str| json!({"envoyPorts": {"low": 20000, "high": 20002}, "annotations": {annotation: "x"}});
    let change =
        |hub: &mut Hub, annotation: &str| hub.pool(pool("cloud", &json!({"source": {"service": source(annotation)}})));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    for annotation in ["one", "two"] {
        change(&mut hub, annotation);
        refuse(&mut hub, annotation);
        assert_eq!(pool_says(&hub).0, "OrderRefused");
        assert!(pool_says(&hub).1.ends_with(annotation), "{}", pool_says(&hub).1);
        assert_eq!(hub.condition(NS, "web", "Allocated"), "True/Allocated", "what was ordered before stays");
        assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
    }
    change(&mut hub, "three");
    hub.settle();
    assert_eq!(pool_says(&hub).0, "Ready");
}

#[test]
fn who_joins_an_address_is_shown_it_when_the_cloud_has_his_ports() {
    let mut hub = hub(&json!({"per": "Fleet"}));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    let address = hub.addresses(NS, "web");
    hub.balancer(balancer(OTHER, "dns", &json!({"ports": [{"port": 53, "protocol": "UDP", "backendPort": 30053}]})));
    record_first(&mut hub);
    let orders = refuse(&mut hub, "exceeded quota");
    assert_eq!(hub.addresses(OTHER, "dns"), Vec::<String>::new());
    assert_eq!(hub.condition(OTHER, "dns", "Allocated"), "False/AwaitsCloud");
    assert_eq!(hub.condition(OTHER, "dns", "Programmed"), "False/NotAllocated");
    assert_eq!(hub.addresses(NS, "web"), address);
    for order in &orders {
        hub.order(order);
    }
    hub.settle();
    assert_eq!(hub.addresses(OTHER, "dns"), address);
    assert_eq!(hub.condition(OTHER, "dns", "Programmed"), "True/Programmed");
}

#[test]
fn what_was_refused_and_is_wanted_no_more_keeps_nothing() {
    let mut hub = per_balancer();
    refuse_web(&mut hub);
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert!(hub.allocations.is_empty(), "{:?}", hub.allocations);
    assert_eq!(pool_says(&hub).0, "Ready");

    let orders = refuse_web(&mut hub);
    hub.delete_pool("cloud");
    let steps = hub.decide();
    assert!(
        steps.contains(&Step::Withdraw { id: orders[0].id.clone() }),
        "no load balancer was given anything of it: {steps:#?}"
    );
}

#[test]
fn what_was_refused_is_forgotten_with_the_lead() {
    let mut hub = per_balancer();
    refuse_web(&mut hub);
    hub.engine.replan();
    hub.settle();
    assert_eq!((hub.addresses(NS, "web").len(), pool_says(&hub).0), (1, "Ready".to_owned()));
}

/// A pool of two Envoy ports, of which one load balancer with the ports 80 and 443 has both.
fn both_taken() -> Hub {
    let mut hub = hub(&json!({"envoyPorts": {"low": 20000, "high": 20001}}));
    hub.balancer(balancer(
        NS,
        "web",
        &json!({"ports": [{"port": 80, "backendPort": 1}, {"port": 443, "backendPort": 2}]}),
    ));
    hub.settle();
    assert_eq!(hub.cloud_serves(), ["192.0.2.1 80/TCP->20000 443/TCP->20001"]);
    hub
}

#[test]
fn a_port_that_an_edit_drops_is_nobody_elses_before_the_cloud_has_dropped_it() {
    let mut hub = both_taken();
    hub.balancer(balancer(NS, "web", &json!({})));
    let orders = refuse(&mut hub, "exceeded quota");
    assert_eq!(orders.len(), 1);
    hub.balancer(balancer(OTHER, "web", &json!({})));
    hub.settle();
    assert_eq!(hub.addresses(OTHER, "web"), Vec::<String>::new(), "443 of the first still leads to the port");
    assert_eq!(listeners(&hub), ["listener tcp/0.0.0.0/20000"], "and to nothing");
    hub.order(&orders[0]);
    hub.settle();
    assert_eq!(hub.cloud_serves(), ["192.0.2.1 80/TCP->20000", "192.0.2.2 80/TCP->20001"]);
}

#[test]
fn a_port_that_is_left_of_a_pool_that_is_gone_is_nobody_elses() {
    let mut hub = both_taken();
    hub.delete_pool("cloud");
    hub.settle();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.pool(pool(
        "next",
        &json!({"source": {"service": {"envoyPorts": {"low": 20000, "high": 20001}}}, "use": {"default": true}}),
    ));
    hub.settle();
    hub.balancer(balancer(OTHER, "web", &json!({})));
    hub.settle();
    assert_eq!(hub.cloud_serves(), ["192.0.2.1 80/TCP->20000 443/TCP->20001"], "what the cloud has stays");
    assert_eq!(hub.addresses(OTHER, "web"), Vec::<String>::new());
}

#[test]
fn who_waits_for_a_cloud_whose_pool_is_gone_gets_another_address() {
    let mut hub = per_balancer();
    refuse_web(&mut hub);
    hub.delete_pool("cloud");
    hub.settle();
    assert_eq!(hub.condition(NS, "web", "Allocated"), "False/NoPool");
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/30"]}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    assert_eq!(hub.allocations.len(), 1, "{:?}", hub.allocations);
}

#[test]
fn who_moves_to_a_clouds_address_is_shown_it_with_ports_alone() {
    let mut hub = hub(&json!({"per": "Fleet"}));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/30"]}})));
    hub.balancer(balancer(NS, "web", &json!({"address": {"pool": "cloud"}})));
    let dns = |pool: &str| {
        let ports = json!([{"port": 53, "protocol": "UDP", "backendPort": 30053}]);
        balancer(OTHER, "dns", &json!({"address": {"pool": pool}, "ports": ports}))
    };
    hub.balancer(dns("public"));
    hub.settle();
    assert_eq!(hub.addresses(OTHER, "dns"), ["203.0.113.0"]);
    hub.balancer(dns("cloud"));
    record_first(&mut hub);
    let orders = refuse(&mut hub, "exceeded quota");
    let ports = |hub: &Hub| {
        let status = hub.balancers[&Key::new(OTHER, "dns")].status.clone().unwrap_or_default();
        status.addresses.iter().map(|address| address.ports.len()).collect::<Vec<_>>()
    };
    assert!(!ports(&hub).contains(&0), "{:?}", hub.addresses(OTHER, "dns"));
    hub.order(&orders[0]);
    hub.settle();
    assert_eq!((hub.addresses(OTHER, "dns"), ports(&hub)), (hub.addresses(NS, "web"), vec![1]));
}
