//! What users of k8slb rely on. Knows its rows; knows no engine.

use serde_json::{Value, json};

use crate::wheel::Wheel;

fn pools() -> Wheel {
    let network = json!({"include": ["203.0.113.5/29"], "dynamic": ["203.0.113.2-203.0.113.3"]});
    let shared = json!({"addresses": {"include": ["203.0.113.100-203.0.113.101"]}, "sharing": "ByPort", "use": {}});
    let six = json!({"addresses": {"include": ["2001:db8::/126"]}, "use": {}});
    Wheel::new(&[("default", json!({"addresses": network})), ("shared", shared), ("six", six)])
}

fn on(pool: &str) -> Value {
    json!({"loadbalancer/pool": pool})
}

fn port(port: u16) -> Value {
    json!({"ports": [{"port": port}]})
}

#[test]
fn k3_a_pool_is_a_network_of_which_a_part_is_given_by_itself() {
    let mut wheel = pools();
    for name in ["first", "second", "third"] {
        wheel.apply(name, &json!({}));
    }
    wheel.settle();
    // The network is written with host bits, and the first address of the range counts.
    assert_eq!((wheel.shows("first"), wheel.shows("second")), (vec!["203.0.113.2".into()], vec!["203.0.113.3".into()]));
    assert_eq!(wheel.waits("third"), "PoolExhausted");
    wheel.apply("third", &json!({"loadBalancerIP": "203.0.113.0"}));
    wheel.settle();
    assert_eq!(wheel.shows("third"), ["203.0.113.0"]);
}

#[test]
fn k3_a_pool_may_be_of_ipv6_and_two_services_stand_for_both_families() {
    let mut wheel = pools();
    wheel.apply("four", &json!({}));
    wheel.apply_with("six", &json!({"loadbalancer/pool": "six", "nave.dev/families": "IPv6"}), &json!({}));
    wheel.settle();
    assert_eq!((wheel.shows("four"), wheel.shows("six")), (vec!["203.0.113.2".into()], vec!["2001:db8::".into()]));
    assert_eq!(wheel.backends("six", "tcp/80").len(), 2);
}

#[test]
fn k3_a_range_outside_of_its_network_is_the_problem_of_its_pool_alone() {
    let mut wheel = pools();
    wheel.pool("bad", &json!({"addresses": {"include": ["198.51.100.0/24"], "dynamic": ["192.0.2.0/28"]}, "use": {}}));
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert!(wheel.pool_says("bad", "Ready").starts_with("False/"), "{}", wheel.pool_says("bad", "Ready"));
    assert_eq!(wheel.shows("web"), ["203.0.113.2"]);
}

#[test]
fn k4_the_annotation_names_the_pool_and_without_it_the_default_pool_serves() {
    let mut wheel = pools();
    wheel.apply("plain", &json!({}));
    wheel.apply_with("named", &on("shared"), &json!({}));
    wheel.settle();
    assert_eq!(
        (wheel.shows("plain"), wheel.shows("named")),
        (vec!["203.0.113.2".into()], vec!["203.0.113.100".into()])
    );
}

#[test]
fn k5_load_balancer_ip_is_given_within_the_network_and_refused_outside() {
    let mut wheel = pools();
    wheel.apply("inside", &json!({"loadBalancerIP": "203.0.113.7"}));
    wheel.apply("outside", &json!({"loadBalancerIP": "203.0.113.9"}));
    wheel.apply_with("other", &on("shared"), &json!({"loadBalancerIP": "203.0.113.6"}));
    wheel.settle();
    assert_eq!(wheel.shows("inside"), ["203.0.113.7"]);
    assert_eq!(wheel.waits("outside"), "AddressNotOffered");
    assert!(!wheel.waits("other").is_empty() && wheel.shows("other").is_empty(), "{}", wheel.waits("other"));
}

#[test]
fn k6_services_share_an_address_while_protocol_and_port_differ() {
    let mut wheel = pools();
    let ask = json!({"loadBalancerIP": "203.0.113.100", "ports": [{"port": 53, "protocol": "UDP"}]});
    wheel.apply_with("web", &on("shared"), &json!({"loadBalancerIP": "203.0.113.100", "ports": [{"port": 53}]}));
    wheel.apply_with("names", &on("shared"), &ask);
    let both = json!({"loadBalancerIP": "203.0.113.100", "ports": [{"port": 54}, {"port": 53, "protocol": "UDP"}]});
    wheel.settle();
    wheel.apply_with("late", &on("shared"), &both);
    wheel.settle();
    assert_eq!(
        (wheel.shows("web"), wheel.shows("names")),
        (vec!["203.0.113.100".into()], vec!["203.0.113.100".into()])
    );
    assert_eq!(wheel.listeners(), ["tcp/203.0.113.100/53", "udp/203.0.113.100/53"], "nothing is given in part");
    assert!(wheel.shows("late").is_empty() && !wheel.waits("late").is_empty());
    assert!(wheel.events("late").contains(&wheel.waits("late")), "{:?}", wheel.events("late"));
    wheel.delete("names");
    wheel.settle();
    assert_eq!((wheel.shows("web"), wheel.shows("late")), (vec!["203.0.113.100".into()], vec!["203.0.113.100".into()]));
}

#[test]
fn k7_every_edit_of_a_live_service_is_followed() {
    let mut wheel = pools();
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.apply("web", &json!({"ports": [{"port": 443}], "loadBalancerSourceRanges": ["198.51.100.0/24"]}));
    wheel.settle();
    assert_eq!(
        (wheel.listeners(), wheel.shows("web")),
        (vec!["tcp/203.0.113.2/443".into()], vec!["203.0.113.2".into()])
    );
    assert!(wheel.listener_says("tcp/203.0.113.2/443", "198.51.100.0"));
    wheel.apply("web", &json!({"loadBalancerIP": "203.0.113.6"}));
    wheel.settle();
    assert_eq!(wheel.listeners(), ["tcp/203.0.113.6/80"]);
    wheel.apply_with("web", &on("shared"), &json!({}));
    wheel.settle();
    assert_eq!(
        (wheel.listeners(), wheel.records()),
        (vec!["tcp/203.0.113.100/80".into()], vec!["203.0.113.100 default/web".into()])
    );
    wheel.apply("web", &json!({"type": "ClusterIP"}));
    wheel.settle();
    assert_eq!((wheel.listeners(), wheel.records()), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn k8_whoever_gets_nothing_is_told_on_his_service_and_served_as_soon_as_can_be() {
    let mut wheel = pools();
    for name in ["first", "second", "third"] {
        wheel.apply(name, &json!({}));
    }
    wheel.apply_with("nowhere", &on("missing"), &json!({}));
    wheel.apply("outside", &json!({"loadBalancerIP": "198.51.100.1"}));
    wheel.settle();
    let told = ["third", "nowhere", "outside"].map(|name| wheel.waits(name));
    assert_eq!(told, ["PoolExhausted", "PoolNotOpen", "AddressNotOffered"]);
    for (name, reason) in ["third", "nowhere", "outside"].iter().zip(&told) {
        assert!(wheel.events(name).contains(reason), "{name}: {:?}", wheel.events(name));
    }
    wheel.delete("first");
    wheel.pool("missing", &json!({"addresses": {"include": ["198.51.100.0/31"]}, "use": {}}));
    wheel.settle();
    assert_eq!(wheel.shows("third"), ["203.0.113.2"]);
    assert_eq!((wheel.shows("nowhere").len(), wheel.shows("outside").len()), (1, 1));
}

#[test]
fn k8_the_address_of_one_who_shares_goes_on_for_the_others() {
    let mut wheel = pools();
    wheel.apply_with("web", &on("shared"), &port(80));
    wheel.apply_with("api", &on("shared"), &port(81));
    wheel.settle();
    wheel.delete("web");
    wheel.settle();
    assert_eq!(
        (wheel.listeners(), wheel.records()),
        (vec!["tcp/203.0.113.100/81".into()], vec!["203.0.113.100 default/api".into()])
    );
}

#[test]
fn k15_failing_backends_are_left_out_and_checked_on_request_alone() {
    let mut wheel = pools();
    wheel.apply("plain", &json!({}));
    wheel.apply_with("checked", &json!({"nave.dev/health-check": "TCP"}), &json!({}));
    wheel.apply_with("unchecked", &json!({"loadbalancer/nocheck": "true", "nave.dev/pool": "shared"}), &json!({}));
    wheel.settle();
    let plain = wheel.cluster("plain", "tcp/80");
    let ejection = plain.outlier_detection.expect("passive ejection");
    assert_eq!(ejection.consecutive_5xx.unwrap().value, 3);
    assert_eq!(ejection.base_ejection_time.unwrap().seconds, 1);
    assert!(plain.health_checks.is_empty());
    let checked = wheel.cluster("checked", "tcp/80").health_checks.remove(0);
    assert_eq!((checked.interval.unwrap().seconds, checked.timeout.unwrap().seconds), (2, 1));
    assert_eq!((checked.unhealthy_threshold.unwrap().value, checked.healthy_threshold.unwrap().value), (3, 1));
    assert!(wheel.cluster("unchecked", "tcp/80").health_checks.is_empty());
}

#[test]
fn k16_a_backend_has_five_seconds_to_answer_and_the_least_busy_is_chosen_on_request() {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::LbPolicy;
    let mut wheel = pools();
    wheel.apply("plain", &json!({}));
    wheel.apply_with(
        "least",
        &json!({"nave.dev/balancing": "LeastRequest", "nave.dev/connect-timeout": "30ms"}),
        &json!({}),
    );
    wheel.settle();
    let plain = wheel.cluster("plain", "tcp/80");
    assert_eq!((plain.connect_timeout.unwrap().seconds, plain.lb_policy), (5, LbPolicy::RoundRobin as i32));
    let least = wheel.cluster("least", "tcp/80");
    assert_eq!((least.connect_timeout.unwrap().nanos, least.lb_policy), (30_000_000, LbPolicy::LeastRequest as i32));
}

#[test]
fn k17_udp_is_served_beside_tcp_on_the_same_port() {
    let mut wheel = pools();
    wheel.apply(
        "names",
        &json!({"ports": [{"name": "tcp", "port": 53}, {"name": "udp", "port": 53, "protocol": "UDP"}]}),
    );
    wheel.settle();
    assert_eq!(wheel.listeners(), ["tcp/203.0.113.2/53", "udp/203.0.113.2/53"]);
    assert_eq!(wheel.backends("names", "udp/53"), ["10.1.0.1:30002", "10.1.0.2:30002"]);
}

#[test]
fn k18_source_ranges_close_tcp_and_udp_to_everybody_else() {
    let mut wheel = pools();
    let ports = json!([{"port": 53}, {"name": "udp", "port": 53, "protocol": "UDP"}]);
    let ranges = ["198.51.100.0/24", "2001:db8:5::/48"];
    wheel.apply("names", &json!({"ports": ports, "loadBalancerSourceRanges": ranges}));
    wheel.settle();
    wheel.apply("closed", &json!({"loadBalancerSourceRanges": ["everywhere"]}));
    wheel.settle();
    for listener in ["tcp/203.0.113.2/53", "udp/203.0.113.2/53"] {
        assert!(wheel.listener_says(listener, "198.51.100.0") && wheel.listener_says(listener, "2001:db8:5::"));
    }
    assert!(wheel.listener_says("tcp/203.0.113.3/80", "255.255.255.255"), "a bad range opens nothing");
    assert_eq!(wheel.events("closed")[0], "InvalidSourceRange");
}

#[test]
fn k22_what_is_wrong_is_an_event_on_the_service_told_once() {
    let mut wheel = pools();
    wheel.apply_with("web", &json!({"loadbalancer/pool": "missing", "loadbalancer/ssl": "true"}), &json!({}));
    wheel.settle();
    for round in 0..5_u16 {
        wheel.apply("other", &port(81 + round));
        wheel.hub.engine.replan();
        wheel.settle();
    }
    let mut told = wheel.events("web");
    told.sort();
    assert_eq!(told, ["NotDone", "PoolNotOpen"]);
}
