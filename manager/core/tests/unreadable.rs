//! Objects that are there and cannot be read, while a manager runs and when one starts: what they were stays. Knows behaviours;
//! knows no room inside the engine.

mod support;

use nave_api::IPAllocation;
use nave_manager_core::{Key, Kind};
use serde_json::json;
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const WEB: [&str; 2] = ["tenant-shop", "web"];

/// Two tenants, each with a load balancer, and a pool that holds one address more.
fn hub() -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.1-203.0.113.3"]}})));
    for name in ["shop", "news"] {
        hub.tenant(tenant(name, &json!({})));
        hub.node_set(nodes(&format!("tenant-{name}"), "default", &[("n1", "10.20.0.1")]));
        hub.balancer(balancer(&format!("tenant-{name}"), "web", &json!({})));
        hub.connect("default", "edge-1");
        hub.settle();
    }
    hub
}

/// Each kind with the object of it that `tenant-shop/web` depends on.
fn all_that_web_depends_on(hub: &Hub) -> Vec<(&'static str, Key)> {
    let [namespace, name] = WEB;
    let address = hub.addresses(namespace, name).remove(0);
    let is_its = |object: &IPAllocation| object.spec.address.as_deref() == Some(&*address);
    let records = hub.allocations.iter().filter(|(_, object)| is_its(object));
    let records: Vec<_> = records.map(|(key, _)| ("IPAllocation", key.clone())).collect();
    assert_eq!(records.len(), 1, "its address is recorded");
    let others = [
        ("TCPLoadBalancer", Key::new(namespace, name)),
        ("IPPool", Key::cluster("public")),
        ("Tenant", Key::cluster("shop")),
        ("NodeSet", Key::new(namespace, "default")),
        ("Fleet", Key::cluster("default")),
    ];
    others.into_iter().chain(records).collect()
}

/// What must be as it was.
fn state(hub: &Hub) -> impl PartialEq + std::fmt::Debug + use<> {
    let addresses = ["tenant-shop", "tenant-news"].map(|namespace| hub.addresses(namespace, "web"));
    let owners = hub.allocations.iter().map(|(key, object)| (key.clone(), object.spec.owners.clone()));
    (addresses, owners.collect::<Vec<_>>())
}

#[test]
fn a_restart_with_two_unreadable_objects_of_any_kinds_cuts_nothing() {
    let all = all_that_web_depends_on(&hub());
    for (first, second) in all.iter().enumerate().flat_map(|(i, first)| all[i + 1..].iter().map(move |s| (first, s))) {
        let mut hub = hub();
        let (before, served) = (state(&hub), hub.served_keys("default"));
        for (kind, key) in [first, second] {
            hub.spoil(kind, key.clone(), true);
        }
        hub.restart();
        hub.settle();
        assert_eq!(state(&hub), before, "{first:?} and {second:?} are unreadable");
        assert_eq!(hub.lost("default", &served), [], "{first:?} and {second:?} are unreadable");
        for (kind, key) in [second, first] {
            hub.spoil(kind, key.clone(), false);
            hub.settle();
            assert_eq!(hub.lost("default", &served), [], "{kind} can be read again");
        }
        assert_eq!(state(&hub), before);
    }
}

#[test]
fn a_restart_with_an_unreadable_object_of_any_kind_releases_and_cuts_nothing() {
    for (kind, key) in all_that_web_depends_on(&hub()) {
        let mut hub = hub();
        let (before, served) = (state(&hub), hub.served_keys("default"));
        hub.spoil(kind, key.clone(), true);
        hub.restart();
        hub.settle();
        assert_eq!(state(&hub), before, "{kind} is unreadable");
        assert_eq!(hub.lost("default", &served), [], "{kind} is unreadable");
        hub.spoil(kind, key, false);
        hub.list_all();
        hub.settle();
        assert_eq!((state(&hub), hub.served_keys("default")), (before, served), "{kind} is readable again");
        assert_eq!(hub.kept, nave_xds::catalog::Keep::default(), "{kind} is readable again");
        assert_eq!(hub.condition("tenant-shop", "web", "Programmed"), "True/Programmed", "{kind} is readable again");
    }
}

#[test]
fn an_object_that_becomes_unreadable_stays_what_it_was_and_serves_on() {
    for (kind, key) in all_that_web_depends_on(&hub()) {
        let mut hub = hub();
        let (before, served) = (state(&hub), hub.served_keys("default"));
        hub.spoil(kind, key.clone(), true);
        hub.list_all();
        hub.settle();
        assert_eq!((state(&hub), hub.served_keys("default")), (before, served), "{kind} is unreadable");
        assert_eq!(hub.condition("tenant-news", "web", "Programmed"), "True/Programmed", "{kind} is unreadable");
    }
}

#[test]
fn an_address_whose_record_was_never_read_is_given_to_no_one_else() {
    let mut hub = hub();
    let (kind, key) = all_that_web_depends_on(&hub).remove(4);
    let theirs = hub.addresses("tenant-shop", "web");
    hub.spoil(kind, key, true);
    hub.restart();
    hub.balancer(balancer("tenant-news", "more", &json!({})));
    hub.balancer(balancer("tenant-news", "mine", &json!({"address": {"requested": theirs}})));
    hub.settle();
    assert_eq!(hub.addresses("tenant-news", "more"), ["203.0.113.3"]);
    assert_eq!(hub.addresses("tenant-news", "mine"), Vec::<String>::new());
    hub.balancer(balancer("tenant-news", "last", &json!({})));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "last", "Allocated"), "False/PoolExhausted");
}

#[test]
fn a_load_balancer_that_is_deleted_while_it_cannot_be_read_gives_its_address_back() {
    let mut hub = hub();
    let address = hub.addresses("tenant-shop", "web");
    hub.spoil("TCPLoadBalancer", Key::new("tenant-shop", "web"), true);
    hub.restart();
    hub.settle();
    hub.delete_balancer("tenant-shop", "web");
    hub.spoil("TCPLoadBalancer", Key::new("tenant-shop", "web"), false);
    hub.settle();
    assert_eq!(hub.allocations.len(), 1, "{address:?} is free");
    assert!(hub.served_keys("default").iter().all(|(_, name)| !name.contains(&address[0])));
    assert_eq!(hub.kept, nave_xds::catalog::Keep::default());
}

#[test]
fn an_unreadable_object_has_a_condition_that_names_the_field() {
    let conditions = [
        ("TCPLoadBalancer", Kind::LoadBalancer),
        ("IPPool", Kind::Pool),
        ("Tenant", Kind::Tenant),
        ("IPAllocation", Kind::Allocation),
        ("Fleet", Kind::Fleet),
    ];
    for (kind, reported) in conditions {
        let mut hub = hub();
        let (_, key) = all_that_web_depends_on(&hub).into_iter().find(|(of, _)| *of == kind).expect("one of each");
        hub.spoil(kind, key.clone(), true);
        hub.restart();
        hub.settle();
        let said = &hub.reports[&(reported, key)];
        assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "Unreadable"), "{kind}");
        assert!(said.message.contains("spec: a number that does not fit"), "{kind}: {}", said.message);
    }
}

#[test]
fn a_bystander_is_served_while_another_tenants_objects_cannot_be_read() {
    for (kind, key) in all_that_web_depends_on(&hub()) {
        if matches!(kind, "IPPool" | "Fleet") {
            continue; // an administrator's, and the bystander's own
        }
        let mut hub = hub();
        hub.spoil(kind, key, true);
        hub.restart();
        hub.node_set(nodes("tenant-news", "default", &[("n1", "10.20.0.7")]));
        hub.balancer(balancer("tenant-news", "more", &json!({})));
        hub.settle();
        assert_eq!(hub.condition("tenant-news", "more", "Programmed"), "True/Programmed", "{kind} is unreadable");
    }
}
