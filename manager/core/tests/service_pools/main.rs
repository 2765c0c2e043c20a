//! Pools whose addresses the hub's own cloud gives. Knows behaviours; knows no room inside the engine.

mod orders;
#[path = "../support/mod.rs"]
mod support;

use nave_manager_core::Step;
use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const NS: &str = "tenant-shop";
const OTHER: &str = "tenant-news";

/// A hub with two tenants, a cloud, and a pool of its addresses.
fn hub(service: &Value) -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    for (name, namespace) in [("shop", NS), ("news", OTHER)] {
        hub.tenant(tenant(name, &json!({})));
        hub.node_set(nodes(namespace, "default", &[("n1", "10.20.0.1")]));
    }
    hub.pool(pool("cloud", &json!({"source": {"service": service}})));
    hub.connect("default", "edge-1");
    hub.settle();
    hub
}

fn per_balancer() -> Hub {
    hub(&json!({"envoyPorts": {"low": 20000, "high": 20002}}))
}

fn listeners(hub: &Hub) -> Vec<String> {
    hub.names("default").into_iter().filter(|name| name.starts_with("listener")).collect()
}

#[test]
fn a_cloud_gives_each_load_balancer_an_address_that_leads_to_a_port_of_its_own() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.balancer(balancer(OTHER, "web", &json!({})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["192.0.2.1"]);
    assert_eq!(hub.addresses(OTHER, "web"), ["192.0.2.2"]);
    assert_eq!(hub.cloud_serves(), ["192.0.2.1 80/TCP->20001", "192.0.2.2 80/TCP->20000"]);
    assert_eq!(listeners(&hub), ["listener tcp/0.0.0.0/20000", "listener tcp/0.0.0.0/20001"]);
    assert_eq!(hub.condition(NS, "web", "Programmed"), "True/Programmed");
    assert_eq!(hub.condition(NS, "web", "Allocated"), "True/Allocated");
    let names: Vec<_> = hub.allocations.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["service.cloud"]);
}

#[test]
fn ports_are_recorded_before_anything_is_ordered() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    let steps = hub.decide();
    assert!(!steps.iter().any(|step| matches!(step, Step::Order(_))), "{steps:?}");
    for step in &steps {
        hub.perform(step);
    }
    let steps = hub.decide();
    assert!(steps.iter().any(|step| matches!(step, Step::Order(_))), "{steps:?}");
}

#[test]
fn a_load_balancer_waits_for_its_cloud_and_says_so() {
    let mut hub = per_balancer();
    hub.cloud.is_slow = true;
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    assert_eq!(hub.condition(NS, "web", "Allocated"), "False/AwaitsCloud");
    assert_eq!(hub.addresses(NS, "web"), Vec::<String>::new());
    hub.cloud.is_slow = false;
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["192.0.2.1"]);
}

#[test]
fn the_port_behind_an_address_is_nobody_elses_before_the_address_is_gone() {
    let mut hub = hub(&json!({"envoyPorts": {"low": 20000, "high": 20000}}));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.balancer(balancer(OTHER, "web", &json!({})));
    hub.settle();
    assert_eq!(hub.condition(OTHER, "web", "Allocated"), "False/PoolExhausted");
    hub.cloud.is_slow = true;
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert_eq!(hub.cloud_serves(), ["192.0.2.1 80/TCP->20000"], "it is withdrawn, and is there still");
    assert_eq!(hub.condition(OTHER, "web", "Allocated"), "False/PoolExhausted");
    hub.cloud.is_slow = false;
    hub.settle();
    assert_eq!(hub.cloud_serves(), ["192.0.2.2 80/TCP->20000"]);
    assert_eq!(hub.addresses(OTHER, "web"), ["192.0.2.2"]);
}

#[test]
fn a_restart_orders_nothing_anew_and_withdraws_what_was_deleted_meanwhile() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.balancer(balancer(NS, "mail", &json!({})));
    hub.settle();
    let before = hub.cloud_serves();
    hub.restart();
    assert!(hub.decide().is_empty());
    assert_eq!(hub.cloud_serves(), before);
    hub.balancers.remove(&nave_manager_core::Key::new(NS, "mail"));
    hub.restart();
    hub.settle();
    assert_eq!(hub.cloud_serves().len(), 1);
    assert_eq!(hub.allocations.values().flat_map(|a| &a.spec.owners).count(), 1);
}

#[test]
fn a_load_balancer_that_is_made_anew_gets_the_same_address() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.cloud.is_slow = true;
    hub.delete_balancer(NS, "web");
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.cloud.is_slow = false;
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["192.0.2.1"]);
}

#[test]
fn an_edit_of_ports_is_an_edit_of_the_order() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    let ports =
        json!({"ports": [{"port": 80, "backendPort": 30080}, {"port": 53, "protocol": "UDP", "backendPort": 30053}]});
    hub.balancer(balancer(NS, "web", &ports));
    hub.settle();
    assert_eq!(hub.cloud_serves(), ["192.0.2.1 80/TCP->20000 53/UDP->20000"]);
}

#[test]
fn another_port_instead_of_the_only_one_keeps_the_address() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.balancer(balancer(NS, "web", &json!({"ports": [{"port": 443, "backendPort": 30443}]})));
    hub.settle();
    let [line] = hub.cloud_serves().try_into().unwrap();
    assert!(line.starts_with("192.0.2.1 443/TCP->"), "{line}");
}

#[test]
fn a_move_to_another_pool_ends_the_delivery_when_the_new_address_is_recorded() {
    let mut hub = per_balancer();
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/30"]}})));
    hub.balancer(balancer(NS, "web", &json!({"address": {"pool": "cloud"}})));
    hub.settle();
    hub.balancer(balancer(NS, "web", &json!({"address": {"pool": "public"}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["203.0.113.0"]);
    assert_eq!(hub.cloud_serves(), Vec::<String>::new());
    assert_eq!(hub.allocations.len(), 1);
}

#[test]
fn one_address_of_the_fleet_is_shared_by_port_among_tenants() {
    let mut hub = hub(&json!({"per": "Fleet"}));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.balancer(balancer(OTHER, "dns", &json!({"ports": [{"port": 53, "protocol": "UDP", "backendPort": 30053}]})));
    hub.settle();
    hub.balancer(balancer(OTHER, "web", &json!({})));
    hub.settle();
    assert_eq!(hub.cloud_serves(), ["192.0.2.1 80/TCP->80 53/UDP->53"]);
    assert_eq!(hub.addresses(OTHER, "dns"), ["192.0.2.1"]);
    assert_eq!(hub.condition(OTHER, "web", "Allocated"), "False/PoolExhausted");
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert_eq!(hub.addresses(OTHER, "web"), ["192.0.2.1"]);
}

#[test]
fn an_address_that_a_cloud_gave_is_no_backend() {
    let mut hub = per_balancer();
    hub.tenant(tenant("shop", &json!({"backends": null})));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    let loops = json!({"backends": {"endpoints": [{"addresses": ["192.0.2.1"]}]}});
    hub.balancer(balancer(NS, "loop", &loops));
    hub.settle();
    assert_eq!(hub.condition(NS, "loop", "Accepted"), "False/BackendsRefused");
}

#[test]
fn every_address_that_a_cloud_gives_counts_for_its_tenant() {
    let mut hub = per_balancer();
    hub.tenant(tenant("shop", &json!({"quota": {"addresses": 1}})));
    for name in ["a", "b"] {
        hub.balancer(balancer(NS, name, &json!({})));
        hub.settle();
    }
    assert_eq!(hub.condition(NS, "b", "Allocated"), "False/QuotaExceeded");
    hub.delete_balancer(NS, "a");
    hub.settle();
    assert_eq!(hub.condition(NS, "b", "Allocated"), "True/Allocated");
}

#[test]
fn a_pool_deleted_in_use_goes_on_being_delivered() {
    let mut hub = per_balancer();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.delete_pool("cloud");
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["192.0.2.1"]);
    assert_eq!(hub.condition(NS, "web", "Allocated"), "True/Orphaned");
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert_eq!((hub.cloud_serves(), hub.allocations.len()), (Vec::new(), 0));
}

#[test]
fn pools_of_one_fleet_have_ports_of_their_own() {
    let mut hub = per_balancer();
    hub.pool(pool("more", &json!({"source": {"service": {"envoyPorts": {"low": 20002, "high": 20005}}}})));
    hub.settle();
    let pool = &hub.pools[&nave_manager_core::Key::cluster("more")];
    let condition = &pool.status.as_ref().unwrap().conditions[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Overlap"));
    assert!(condition.message.contains("port 20002"), "{}", condition.message);
}

#[test]
fn a_pool_gives_no_port_that_a_deleted_pool_gave_and_that_is_still_in_use() {
    let mut hub = hub(&json!({"envoyPorts": {"low": 20000, "high": 20000}}));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.settle();
    hub.delete_pool("cloud");
    let next = json!({"source": {"service": {"envoyPorts": {"low": 20000, "high": 20001}}}});
    hub.pool(pool("next", &next));
    hub.balancer(balancer(OTHER, "web", &json!({"address": {"pool": "next"}})));
    hub.balancer(balancer(OTHER, "mail", &json!({"address": {"pool": "next"}})));
    hub.settle();
    assert_eq!(listeners(&hub), ["listener tcp/0.0.0.0/20000", "listener tcp/0.0.0.0/20001"]);
    assert_eq!(hub.condition(OTHER, "web", "Allocated"), "False/PoolExhausted");
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert_eq!(hub.condition(OTHER, "web", "Allocated"), "True/Allocated");
}

#[test]
fn who_has_a_port_of_a_deleted_pool_opens_none_that_another_has() {
    let mut hub = hub(&json!({"envoyPorts": {"low": 20000, "high": 20000}}));
    let ports = |numbers: &[u16]| {
        let port = |number: &u16| json!({"port": number, "backendPort": 30080});
        json!({"address": {"pool": "cloud"}, "ports": numbers.iter().map(port).collect::<Vec<_>>()})
    };
    hub.balancer(balancer(NS, "web", &ports(&[20000])));
    hub.settle();
    hub.delete_pool("cloud");
    hub.pool(pool("next", &json!({"source": {"service": {"envoyPorts": {"low": 20001, "high": 20001}}}})));
    hub.balancer(balancer(OTHER, "web", &json!({"address": {"pool": "next"}})));
    hub.settle();
    let before = hub.served.get("default").cloned();
    hub.balancer(balancer(NS, "web", &ports(&[20000, 20001])));
    hub.settle();
    assert_eq!(hub.served.get("default").cloned(), before, "the other's port leads where it led");
    assert_eq!(hub.condition(NS, "web", "Allocated"), "False/PortsOutOfRange");
}

#[test]
fn what_was_given_in_one_fleet_is_not_served_in_another() {
    let mut hub = per_balancer();
    hub.fleet(fleet("other"));
    hub.connect("other", "edge-2");
    hub.tenant(tenant("blog", &json!({"fleet": "other"})));
    hub.node_set(nodes("tenant-blog", "default", &[("n1", "10.20.0.1")]));
    hub.pool(pool("theirs", &json!({"source": {"service": {}}, "fleet": "other"})));
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.balancer(balancer("tenant-blog", "web", &json!({})));
    hub.settle();
    let (before, delivered) = (hub.served.get("other").cloned(), hub.cloud_serves());
    hub.tenant(tenant("shop", &json!({"fleet": "other"})));
    hub.settle();
    assert_eq!(hub.served.get("other").cloned(), before, "port 20000 is another's there");
    assert_eq!(hub.condition(NS, "web", "Accepted"), "False/OtherFleet");
    assert_eq!(hub.cloud_serves(), delivered);
    hub.delete_pool("cloud");
    hub.settle();
    assert_eq!(hub.served.get("other").cloned(), before, "also when its pool is gone");
    assert_eq!(hub.condition(NS, "web", "Accepted"), "False/OtherFleet");
    hub.pool(pool("cloud", &json!({"source": {"service": {}}, "fleet": "other"})));
    hub.settle();
    assert_eq!(hub.served.get("other").cloned(), before, "or another one has its name");
    hub.restart();
    assert!(hub.decide().is_empty());
}

#[test]
fn what_a_cloud_gave_no_pool_gives_besides() {
    let mut hub = per_balancer();
    hub.pool(pool("public", &json!({"addresses": {"include": ["192.0.2.0/30"]}, "use": {"default": true}})));
    hub.balancer(balancer(NS, "web", &json!({"address": {"pool": "cloud"}})));
    hub.settle();
    assert_eq!(hub.addresses(NS, "web"), ["192.0.2.1"]);
    for name in ["a", "b", "c", "d"] {
        hub.balancer(balancer(OTHER, name, &json!({"address": {"pool": "public"}})));
        hub.settle();
    }
    let given: Vec<_> = ["a", "b", "c", "d"].iter().flat_map(|name| hub.addresses(OTHER, name)).collect();
    assert_eq!(given, ["192.0.2.0", "192.0.2.2", "192.0.2.3"]);
    hub.restart();
    assert!(hub.decide().is_empty());
    hub.delete_balancer(NS, "web");
    hub.settle();
    assert_eq!(hub.addresses(OTHER, "d"), ["192.0.2.1"]);
}

#[test]
fn ports_of_the_nodes_are_closed_on_the_addresses_of_other_pools() {
    let mut hub = per_balancer();
    let listener = |hub: &Hub| {
        let mut all = hub.served["default"].iter();
        let (_, found) =
            all.find(|((_, name), _)| name.starts_with("tcp/0.0.0.0")).expect("a listener on every address");
        String::from_utf8_lossy(&found.body()).into_owned()
    };
    hub.balancer(balancer(NS, "web", &json!({"address": {"pool": "cloud"}})));
    hub.settle();
    assert!(!listener(&hub).contains("203.0.113"));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/30", "203.0.113.8"]}})));
    hub.settle();
    assert!(listener(&hub).contains("203.0.113.0") && listener(&hub).contains("203.0.113.8"));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/30"]}, "fleet": "other"})));
    hub.settle();
    assert!(!listener(&hub).contains("203.0.113"));
}

#[test]
fn an_address_that_its_pool_lost_stays_closed_to_the_ports_of_the_nodes_and_is_no_backend() {
    let mut hub = per_balancer();
    let edge = |include: &[&str]| pool("edge", &json!({"addresses": {"include": include}, "use": {"default": true}}));
    let cloud = json!({"address": {"pool": "cloud"}});
    hub.tenant(tenant("shop", &json!({"backends": {"allow": ["203.0.113.0/24"]}})));
    hub.pool(edge(&["203.0.113.7"]));
    hub.balancer(balancer(OTHER, "web", &json!({"address": {"pool": "edge"}})));
    let mut looped = cloud.clone();
    looped["backends"] = json!({"endpoints": [{"addresses": ["203.0.113.7"]}]});
    hub.balancer(balancer(NS, "loop", &looped));
    hub.settle();
    let closed = |hub: &Hub| {
        let (_, listener) = hub.served["default"].iter().find(|((_, name), _)| **name == *"tcp/0.0.0.0/20000").unwrap();
        String::from_utf8_lossy(&listener.body()).contains("203.0.113.7")
    };
    let losses: [&dyn Fn(&mut Hub); 4] = [
        &|hub| hub.pool(edge(&["203.0.113.9-203.0.113.8"])),
        &|hub| hub.pool(edge(&["198.51.100.0/24"])),
        &|hub| hub.delete_pool("edge"),
        &Hub::restart,
    ];
    for (step, lose) in losses.iter().enumerate() {
        lose(&mut hub);
        hub.settle();
        assert_eq!(hub.addresses(OTHER, "web"), ["203.0.113.7"]);
        assert!(closed(&hub), "after step {step}");
        assert_eq!(hub.condition(NS, "loop", "Accepted"), "False/BackendsRefused", "after step {step}");
    }
    hub.delete_balancer(OTHER, "web");
    hub.settle();
    assert!(!closed(&hub), "it is nobody's");
}
