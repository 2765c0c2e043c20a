//! What users of `PaperLB` and nginx-lb-updater rely on. Knows their rows; knows no engine.

use nave_agent_core::Policy;
use nave_agent_core::nodes::AddressType;
use serde_json::{Value, json};

use crate::wheel::{Wheel, node};

/// One host whose ports 8100 to 8102 are given, as a `LoadBalancerConfig` would say it.
fn config() -> Value {
    json!({
        "addresses": {"include": ["203.0.113.7"]}, "sharing": "ByPortAcrossTenants",
        "portRange": {"low": 8100, "high": 8102},
    })
}

fn wheel() -> Wheel {
    Wheel::new(&[("paper", config())])
}

#[test]
fn l2_tcp_and_udp_and_all_ports_are_served_and_sctp_is_told() {
    let mut wheel = Wheel::new(&[("public", json!({"addresses": {"include": ["203.0.113.7"]}}))]);
    let sctp = json!({"name": "c", "port": 99, "protocol": "SCTP"});
    wheel.apply(
        "web",
        &json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}, sctp]}),
    );
    wheel.settle();
    assert_eq!(wheel.listeners(), ["tcp/203.0.113.7/80", "udp/203.0.113.7/53"]);
    assert_eq!(wheel.events("web")[0], "UnsupportedProtocol");
}

#[test]
fn l5_the_lowest_free_port_of_the_range_is_given_for_each_protocol() {
    let mut wheel = wheel();
    for name in ["first", "second"] {
        wheel.apply(name, &json!({"ports": [{"port": 5000}]}));
    }
    wheel.apply("own", &json!({"ports": [{"port": 8102}]}));
    wheel.apply("names", &json!({"ports": [{"port": 53, "protocol": "UDP"}]}));
    wheel.settle();
    let ports: Vec<_> = ["first", "second", "own", "names"].iter().flat_map(|name| wheel.shows_ports(name)).collect();
    assert_eq!(ports, ["8100/TCP", "8101/TCP", "8102/TCP", "8100/UDP"]);
    wheel.delete("first");
    wheel.apply("third", &json!({"ports": [{"port": 5000}]}));
    wheel.settle();
    assert_eq!(wheel.shows_ports("third"), ["8100/TCP"]);
    assert_eq!(wheel.shows_ports("second"), ["8101/TCP"], "nobody else moves");
}

#[test]
fn l5_a_range_that_moves_away_renumbers_nobody_in_silence_and_stops_no_update() {
    let mut wheel = wheel();
    wheel.apply("web", &json!({"ports": [{"port": 5000}]}));
    wheel.settle();
    let mut moved = config();
    moved["portRange"] = json!({"low": 9000, "high": 9001});
    wheel.pool("paper", &moved);
    wheel.lose_node("n2");
    wheel.settle();
    assert_eq!(wheel.shows_ports("web"), ["8100/TCP"]);
    assert_eq!(wheel.backends("web", "tcp/5000"), ["10.1.0.1:30001"], "backends are followed");
}

#[test]
fn l5_configs_that_share_a_host_are_told() {
    let mut wheel = wheel();
    wheel.pool("another", &config());
    wheel.apply("web", &json!({"ports": [{"port": 5000}]}));
    wheel.settle();
    assert!(wheel.pool_says("another", "Ready").starts_with("False/"), "{}", wheel.pool_says("another", "Ready"));
    assert_eq!(wheel.shows_ports("web"), ["8100/TCP"]);
}

#[test]
fn l6_targets_are_node_ports_at_the_external_addresses_of_ready_nodes() {
    let address_types = vec![AddressType::ExternalIp, AddressType::InternalIp];
    let policy = Policy { default_load_balancer: true, address_types, ..Policy::default() };
    let mut wheel = Wheel::with(policy, &[("paper", config())]);
    wheel.node(node("n1", true, &json!([["InternalIP", "10.1.0.1"], ["ExternalIP", "10.9.0.1"]])));
    wheel.node(node("n3", false, &json!([["ExternalIP", "10.9.0.3"]])));
    wheel.apply("web", &json!({}));
    wheel.apply("bare", &json!({"allocateLoadBalancerNodePorts": false}));
    wheel.settle();
    // n2 has no external address: its internal one is used, and the node is not lost.
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.1.0.2:30001", "10.9.0.1:30001"]);
    assert_eq!((wheel.events("bare"), wheel.records().len()), (vec!["NoNodePort".to_owned()], 1));
}

#[test]
fn l7_nodes_services_and_pools_are_followed() {
    let mut wheel = wheel();
    wheel.apply_with("web", &json!({"lb.paperlb.com/config-name": "later"}), &json!({}));
    wheel.settle();
    assert_eq!(wheel.waits("web"), "PoolNotOpen");
    wheel.pool("later", &json!({"addresses": {"include": ["203.0.113.8"]}, "use": {}}));
    wheel.node(node("n3", true, &json!([["InternalIP", "10.1.0.3"]])));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.8"]);
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.1.0.1:30001", "10.1.0.2:30001", "10.1.0.3:30001"]);
    wheel.apply_with(
        "web",
        &json!({"lb.paperlb.com/config-name": "later"}),
        &json!({"ports": [{"port": 80, "nodePort": 31234}]}),
    );
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80")[0], "10.1.0.1:31234");
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.8"], "any pool will do now: nothing moves");
    wheel.apply_with("web", &json!({"lb.paperlb.com/config-name": "paper"}), &json!({}));
    wheel.settle();
    assert_eq!((wheel.shows("web"), wheel.shows_ports("web")), (vec!["203.0.113.7".into()], vec!["8100/TCP".into()]));
}

#[test]
fn l8_a_deleted_service_is_taken_from_the_data_plane_and_goes() {
    let mut wheel = wheel();
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(
        wheel.service("web").unwrap().metadata.finalizers.as_deref(),
        Some(["nave.dev/agent".to_owned()].as_slice())
    );
    wheel.delete("web");
    wheel.settle();
    assert!(wheel.service("web").is_none());
    assert_eq!((wheel.listeners(), wheel.records()), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn l8_another_class_or_type_cleans_up_as_well() {
    let mut wheel = wheel();
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.apply("web", &json!({"type": "NodePort"}));
    wheel.settle();
    wheel.apply("api", &json!({"loadBalancerClass": "example.com/other"}));
    wheel.settle();
    assert_eq!((wheel.listeners(), wheel.records()), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn l11_address_and_port_show_once_envoy_serves_them() {
    let mut wheel = wheel();
    wheel.hub.disconnect("default", "edge-1");
    wheel.apply("web", &json!({"ports": [{"port": 5000}]}));
    wheel.settle();
    assert_eq!((wheel.shows("web"), wheel.records().len()), (Vec::<String>::new(), 1));
    wheel.hub.connect("default", "edge-2");
    wheel.settle();
    assert_eq!((wheel.shows("web"), wheel.shows_ports("web")), (vec!["203.0.113.7".into()], vec!["8100/TCP".into()]));
    assert_eq!(
        wheel
            .service("web")
            .unwrap()
            .status
            .as_ref()
            .unwrap()
            .load_balancer
            .as_ref()
            .unwrap()
            .ingress
            .as_ref()
            .unwrap()[0]
            .ip_mode
            .as_deref(),
        Some("Proxy")
    );
}

#[test]
fn l11_one_service_that_envoy_refuses_holds_up_nobody_else() {
    let mut wheel = wheel();
    wheel.apply("bad", &json!({}));
    wheel.settle();
    wheel.hub.refuse("default", "edge-1", "tcp/203.0.113.7/8100", "cannot bind");
    for step in wheel.hub.decide() {
        wheel.hub.perform(&step);
    }
    assert_eq!(wheel.says("bad", "Programmed"), "False/Refused");
    wheel.apply("good", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows_ports("good"), ["8101/TCP"]);
}

#[test]
fn l12_what_is_missing_is_told_and_its_coming_is_not_missed() {
    let mut wheel = Wheel::new(&[]);
    wheel.apply("web", &json!({"ports": [{"port": 5000}]}));
    wheel.settle();
    assert_eq!((wheel.waits("web"), wheel.events("web")), ("NoPool".into(), vec!["NoPool".into()]));
    wheel.pool("paper", &config());
    wheel.settle();
    for name in ["second", "third", "fourth"] {
        wheel.apply(name, &json!({"ports": [{"port": 5000}]}));
        wheel.settle();
    }
    assert_eq!(wheel.shows_ports("web"), ["8100/TCP"]);
    let full = wheel.waits("fourth");
    assert!(!full.is_empty() && wheel.events("fourth").contains(&full), "{full}: {:?}", wheel.events("fourth"));
    wheel.delete("second");
    wheel.settle();
    assert_eq!(wheel.shows_ports("fourth"), ["8101/TCP"]);
}

#[test]
fn l12_without_a_node_connections_fail_at_once_and_no_dead_target_stays() {
    let mut wheel = wheel();
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.node(node("n1", false, &json!([["InternalIP", "10.1.0.1"]])));
    wheel.lose_node("n2");
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.1.0.1:30001"], "where no node is ready, all of them stay");
    wheel.lose_node("n1");
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80"), Vec::<String>::new());
    assert_eq!(wheel.says("web", "Accepted"), "True/NoBackends");
    wheel.node(node("n1", true, &json!([["InternalIP", "10.1.0.1"]])));
    wheel.settle();
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.1.0.1:30001"]);
}
