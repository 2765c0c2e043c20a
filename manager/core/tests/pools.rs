//! What pools say of themselves while they fill. Knows behaviours; knows no room inside the engine.

mod support;

use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const NS: &str = "tenant-shop";

fn hub(addresses: &Value) -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.tenant(tenant("shop", &json!({})));
    hub.node_set(nodes(NS, "default", &[("n1", "10.20.0.1")]));
    hub.pool(pool("public", &json!({"addresses": addresses})));
    hub.connect("default", "edge-1");
    hub.settle();
    hub
}

fn fill(hub: &mut Hub, numbers: std::ops::Range<u32>) {
    for n in numbers {
        hub.balancer(balancer(NS, &format!("lb-{n}"), &json!({})));
    }
    hub.settle();
}

/// What the Events on pools say.
fn told(hub: &Hub) -> Vec<&str> {
    let of_pools = hub.announced.iter().filter(|a| a.about.kind.as_deref() == Some("IPPool"));
    of_pools.map(|a| a.reason.as_str()).collect()
}

#[test]
fn that_a_pool_is_nearly_full_is_told_once_however_often_its_last_address_comes_and_goes() {
    let mut hub = hub(&json!({"include": ["203.0.113.0-203.0.113.19"]}));
    fill(&mut hub, 0..17);
    assert_eq!(told(&hub), Vec::<&str>::new());
    for _ in 0..3 {
        fill(&mut hub, 17..18);
        hub.restart();
        hub.settle();
        hub.delete_balancer(NS, "lb-17");
        hub.settle();
    }
    assert_eq!(told(&hub), ["NearlyFull"]);
    fill(&mut hub, 17..20);
    hub.delete_balancer(NS, "lb-19");
    hub.settle();
    assert_eq!(told(&hub), ["NearlyFull", "Full"], "that it is a little better is no warning");
    for n in 10..19 {
        hub.delete_balancer(NS, &format!("lb-{n}"));
    }
    hub.settle();
    fill(&mut hub, 10..18);
    assert_eq!(told(&hub), ["NearlyFull", "Full", "NearlyFull"]);
}

#[test]
fn a_pool_is_full_when_its_dynamic_part_is() {
    let mut hub = hub(&json!({"include": ["203.0.113.0/28"], "dynamic": ["203.0.113.0/31"]}));
    fill(&mut hub, 0..2);
    assert_eq!(told(&hub), ["Full"]);
}

#[test]
fn that_an_address_is_orphaned_is_told_once_also_by_a_manager_that_starts_anew() {
    let mut hub = hub(&json!({"include": ["203.0.113.0/29"]}));
    fill(&mut hub, 0..1);
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.4/30"]}})));
    hub.settle();
    hub.restart();
    hub.settle();
    hub.engine.compare();
    hub.settle();
    let told = hub.announced.iter().filter(|a| a.reason == "Orphaned").count();
    assert_eq!((told, hub.addresses(NS, "lb-0")), (1, vec!["203.0.113.0".to_owned()]));
}
