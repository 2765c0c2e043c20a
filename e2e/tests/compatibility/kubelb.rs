//! What the proposal of `KubeLB` promises. Knows its rows; knows no engine.

use nave_agent_core::Policy;
use serde_json::{Value, json};

use crate::wheel::{Wheel, node};

/// How Services opted in.
fn opt_in() -> Value {
    json!({"kubernetes.io/service.class": "kubelb"})
}

fn public() -> (&'static str, Value) {
    ("public", json!({"addresses": {"include": ["203.0.113.0/29"]}}))
}

fn ports() -> Value {
    json!({"type": "NodePort", "ports": [{"port": 80}]})
}

#[test]
fn b3_every_service_is_a_tcp_load_balancer_and_one_with_node_ports_opts_in() {
    let mut wheel = Wheel::new(&[public()]);
    wheel.apply("web", &json!({}));
    wheel.apply_with("ports", &opt_in(), &ports());
    wheel.apply("silent", &ports());
    wheel.settle();
    let origins: Vec<_> = wheel.hub.balancers.values().map(|object| object.spec.origin.clone().unwrap().name).collect();
    assert_eq!(origins, ["ports", "web"]);
    assert_eq!(wheel.backends("ports", "tcp/80").len(), 2);
    let status = wheel.service("ports").unwrap().status.clone().unwrap();
    let said = &status.conditions.unwrap()[0];
    assert_eq!((&*said.type_, &*said.status), ("nave.dev/Programmed", "True"));
    assert!(said.message.contains("203.0.113."), "{}", said.message);
}

#[test]
fn b3_names_that_join_alike_and_tenants_with_the_same_names_stay_apart() {
    let mut wheel = Wheel::new(&[public()]);
    wheel.join("forum", &json!({}));
    for place in ["a-b/c", "a/b-c", "forum:a/b-c"] {
        wheel.apply(place, &json!({}));
    }
    wheel.settle();
    let shown: std::collections::BTreeSet<_> =
        ["a-b/c", "a/b-c", "forum:a/b-c"].iter().flat_map(|place| wheel.shows(place)).collect();
    assert_eq!((shown.len(), wheel.listeners().len()), (3, 3));
    wheel.delete("a/b-c");
    wheel.settle();
    assert_eq!((wheel.shows("a-b/c").len(), wheel.shows("forum:a/b-c").len(), wheel.listeners().len()), (1, 1, 2));
}

#[test]
fn b4_the_load_balancer_that_a_cloud_gave_becomes_the_backend() {
    let mut wheel = Wheel::with(Policy::default(), &[public()]);
    wheel.apply_with("web", &opt_in(), &json!({"loadBalancerClass": "example.com/cloud"}));
    wheel.cloud_gives("web", &json!([{"ip": "10.7.0.9"}]));
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.7.0.9:80"]);
    assert_eq!(wheel.shows("web"), ["10.7.0.9"], "the cloud's status is the cloud's");
    wheel.cloud_gives("web", &json!([{"ip": "10.7.0.10"}]));
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.7.0.10:80"]);
}

#[test]
fn b5_where_nobody_else_balances_the_agent_does_and_follows_every_change_of_the_address() {
    let mut wheel = Wheel::new(&[public()]);
    wheel.apply("web", &json!({}));
    wheel.apply("other", &json!({"loadBalancerClass": "example.com/cloud"}));
    wheel.settle();
    assert_eq!((wheel.shows("web"), wheel.shows("other")), (vec!["203.0.113.0".into()], vec![]));
    // As many addresses as before, and others.
    wheel.apply("web", &json!({"loadBalancerIP": "203.0.113.5"}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.5"]);
    let mut asked = Wheel::with(Policy::default(), &[public()]);
    asked.apply("web", &json!({}));
    asked.apply("ours", &json!({"loadBalancerClass": "nave.dev/load-balancer"}));
    asked.settle();
    assert_eq!((asked.shows("web"), asked.shows("ours")), (vec![], vec!["203.0.113.0".into()]));
}

#[test]
fn b6_nodes_that_come_go_or_fail_change_every_load_balancer_of_their_cluster() {
    let mut wheel = Wheel::new(&[public()]);
    wheel.join("forum", &json!({}));
    for place in ["web", "api", "forum:default/web"] {
        wheel.apply(place, &json!({}));
    }
    wheel.settle();
    wheel.node(node("n3", true, &json!([["InternalIP", "10.1.0.3"]])));
    wheel.node(node("n1", false, &json!([["InternalIP", "10.1.0.1"]])));
    wheel.lose_node("n2");
    wheel.settle();
    let hosts = |place: &str| {
        let sockets = wheel.backends(place, "tcp/80").into_iter();
        sockets.map(|socket| socket.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((hosts("web"), hosts("api")), (vec!["10.1.0.3".into()], vec!["10.1.0.3".into()]));
    assert_eq!(hosts("forum:default/web"), ["10.1.0.1", "10.1.0.2"], "another cluster's nodes are its own");
}

#[test]
fn b7_each_load_balancer_is_served_under_its_own_names_and_nodes_are_pushed_as_endpoints_alone() {
    let mut wheel = Wheel::new(&[public()]);
    wheel.apply("web", &json!({}));
    wheel.apply("api", &json!({}));
    wheel.settle();
    let before = wheel.hub.served["default"].clone();
    assert_eq!(before.len(), 6, "a cluster, its endpoints and a listener each");
    wheel.lose_node("n2");
    wheel.settle();
    let after = &wheel.hub.served["default"];
    let changed: Vec<String> = after
        .iter()
        .filter(|(key, now)| before[*key].version() != now.version())
        .map(|((kind, _), _)| kind.to_string())
        .collect();
    assert_eq!(changed, ["endpoints", "endpoints"]);
}

#[test]
fn b7_a_hub_in_a_cloud_gives_each_load_balancer_a_service_of_that_cloud() {
    let mut wheel = Wheel::new(&[("cloud", json!({"source": {"service": {}}}))]);
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.apply("api", &json!({"ports": [{"port": 443}]}));
    wheel.settle();
    let mut served = wheel.hub.cloud_serves();
    served.sort();
    assert_eq!(served, ["192.0.2.1 80/TCP->20000", "192.0.2.2 443/TCP->20001"]);
    assert_eq!((wheel.shows("web"), wheel.shows("api")), (vec!["192.0.2.1".into()], vec!["192.0.2.2".into()]));
}

#[test]
fn b8_under_local_only_nodes_with_ready_endpoints_get_traffic_and_are_asked() {
    let mut wheel = Wheel::new(&[public()]);
    let slice = |node: &str| {
        json!({
            "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.2.0.1"], "nodeName": node, "conditions": {"ready": true}}],
        })
    };
    wheel.slice(slice("n2"));
    wheel.apply("web", &json!({"externalTrafficPolicy": "Local"}));
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.1.0.2:30001"]);
    let check = wheel.cluster("web", "tcp/80").health_checks.remove(0);
    assert!(format!("{:?}", check.health_checker).contains("/healthz"), "kube-proxy is asked");
    wheel.slice(slice("n1"));
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.1.0.1:30001"]);
}
