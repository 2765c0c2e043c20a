//! What the descriptors of Envoys do to load balancers that ask for more than there is. Knows behaviours; knows no room inside the engine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot be read or is not there ends the test"
)]

mod support;

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::service::runtime::v3::Runtime;
use envoy_types::pb::google::protobuf::value::Kind;
use nave_manager_core::{Engine, Key, Open, OpenOfTenant, Role, Seen, Settings, Sight};
use nave_xds::files::Files;
use nave_xds::report::{Event, Report};
use nave_xds::resource::ResourceType;
use prost::Message;
use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

/// An Envoy like this promises 7200 sessions: two fifths of what a tenth of reserve leaves.
const FILES: u64 = 20_000;

/// A hub with a pool, two tenants, and an Envoy of which this is known.
fn hub(files: u64) -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    for name in ["shop", "news"] {
        hub.tenant(tenant(name, &json!({})));
        hub.node_set(nodes(&format!("tenant-{name}"), "default", &[("n1", "10.20.0.1")]));
    }
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/24"]}})));
    hub.connect("default", "edge-1");
    hub.report("default", "edge-1", Event::Described(Files::of(files, 2)));
    hub.settle();
    hub
}

fn udp(ports: &[u16], most: Option<u32>) -> Value {
    let port = |number: &u16| json!({"protocol": "UDP", "port": number, "backendPort": 30053});
    let traffic = most.map(|most| json!({"maxConnections": most}));
    json!({"ports": ports.iter().map(port).collect::<Vec<_>>(), "traffic": traffic})
}

/// What a load balancer's UDP ports have, by its status.
fn sessions(hub: &Hub, tenant: &str, name: &str) -> Vec<(u16, u32)> {
    let status = hub.balancers[&Key::new(format!("tenant-{tenant}"), name)].status.clone().unwrap_or_default();
    status.sessions.iter().map(|port| (port.port, port.limit)).collect()
}

/// What Envoy gets of every UDP port that is open.
fn limits(hub: &Hub) -> BTreeMap<String, u32> {
    let served = hub.served.get("default").into_iter().flatten();
    let udp = served.filter(|((kind, name), _)| *kind == ResourceType::Cluster && name.contains("/udp/"));
    let limit = |cluster: Cluster| cluster.circuit_breakers.unwrap().thresholds[0].max_connections.unwrap().value;
    udp.map(|((_, name), resource)| (name.to_string(), limit(Cluster::decode(resource.body()).unwrap()))).collect()
}

fn fleet_says(hub: &Hub, kind: &str) -> Option<String> {
    let status = hub.fleets[&Key::cluster("default")].status.clone()?;
    status.conditions.into_iter().find(|condition| condition.type_ == kind).map(|condition| condition.status)
}

fn listeners(hub: &Hub) -> usize {
    hub.names("default").iter().filter(|name| name.starts_with("listener")).count()
}

#[test]
fn g2_all_udp_ports_together_promise_two_fifths_of_the_poorest_envoy_and_one_tenant_half_of_that() {
    let mut hub = hub(1 << 20);
    hub.connect("default", "edge-2");
    hub.report("default", "edge-2", Event::Described(Files::of(FILES, 2)));
    for (name, _) in (b'a'..b'f').zip(0..) {
        hub.balancer(balancer("tenant-shop", &char::from(name).to_string(), &udp(&[53], None)));
        hub.settle();
    }
    let shop: Vec<u32> = ["a", "b", "c", "d", "e"].map(|name| sessions(&hub, "shop", name)[0].1).to_vec();
    assert_eq!(shop, [1000, 1000, 1000, 600, 0], "half of 7200, the oldest first");
    assert_eq!(hub.condition("tenant-shop", "d", "Accepted"), "True/SessionsLimited");
    assert_eq!(hub.condition("tenant-shop", "d", "Programmed"), "True/Programmed");
    assert_eq!(hub.condition("tenant-shop", "e", "Accepted"), "False/SessionsLimited");
    assert_eq!(hub.condition("tenant-shop", "e", "Programmed"), "False/NotAccepted");
    assert_eq!(fleet_says(&hub, "FilesShort").as_deref(), Some("True"));
    hub.balancer(balancer("tenant-news", "dns", &udp(&[53, 54], Some(5000))));
    hub.settle();
    assert_eq!(
        sessions(&hub, "news", "dns"),
        [(53, 1800), (54, 1800)],
        "another tenant has its own half, and its ports share it alike"
    );
    assert_eq!(limits(&hub).values().sum::<u32>(), 7200);
    assert_eq!(limits(&hub).len(), 6, "what has nothing is not open");
}

#[test]
fn g2_what_serves_keeps_its_sessions_through_edits_of_others_a_poorer_envoy_and_a_restart() {
    let mut hub = hub(1 << 20);
    hub.balancer(balancer("tenant-shop", "a", &udp(&[53], Some(3000))));
    hub.settle();
    hub.connect("default", "edge-2");
    hub.report("default", "edge-2", Event::Described(Files::of(1024, 2)));
    hub.settle();
    let before = limits(&hub);
    assert_eq!(before.values().copied().collect::<Vec<_>>(), [3000]);
    hub.balancer(balancer("tenant-news", "greedy", &udp(&[53], Some(200_000))));
    hub.balancer(balancer("tenant-shop", "b", &udp(&[53], None)));
    hub.settle();
    assert_eq!(limits(&hub), before, "nothing is left, and nothing is taken");
    hub.restart();
    hub.settle();
    assert_eq!(limits(&hub), before, "what is recorded counts, and no Envoy is asked first");
    hub.balancer(balancer("tenant-shop", "a", &udp(&[53], Some(150))));
    hub.settle();
    assert_eq!(sessions(&hub, "shop", "a"), [(53, 150)], "a port that asks for less has less");
    hub.balancer(balancer("tenant-shop", "a", &udp(&[53], Some(3000))));
    hub.settle();
    assert_eq!(
        sessions(&hub, "shop", "a"),
        [(53, 184)],
        "what was given up is not had back beyond the tenant's half of what there is now"
    );
}

#[test]
fn g2_a_port_that_did_not_fit_opens_when_another_one_ends() {
    let mut hub = hub(FILES);
    for name in ["a", "b", "c"] {
        hub.balancer(balancer("tenant-shop", name, &udp(&[53], Some(1800))));
        hub.settle();
    }
    assert_eq!(sessions(&hub, "shop", "c"), [(53, 0)]);
    hub.delete_balancer("tenant-shop", "a");
    hub.settle();
    assert_eq!(sessions(&hub, "shop", "c"), [(53, 1800)]);
    assert_eq!(hub.condition("tenant-shop", "c", "Programmed"), "True/Programmed");
    assert_eq!(fleet_says(&hub, "FilesShort"), None);
}

#[test]
fn g2_the_quota_of_connections_lowers_a_tenants_share() {
    let mut hub = hub(FILES);
    hub.tenant(tenant("shop", &json!({"quota": {"connections": 1500}})));
    hub.balancer(balancer("tenant-shop", "a", &udp(&[53, 54], None)));
    hub.settle();
    assert_eq!(sessions(&hub, "shop", "a"), [(53, 750), (54, 750)]);
}

#[test]
fn g2_a_follower_serves_what_the_leader_recorded() {
    let mut hub = hub(FILES);
    for name in ["a", "b"] {
        hub.balancer(balancer("tenant-shop", name, &udp(&[53], Some(3000))));
        hub.settle();
    }
    assert_eq!([sessions(&hub, "shop", "a"), sessions(&hub, "shop", "b")], [[(53, 3000)], [(53, 600)]]);
    let mut follower =
        Engine::new(Settings { hub_networks: vec!["10.96.0.0/12".parse().unwrap()], ..Settings::default() });
    for seen in hub.lists() {
        follower.observe(seen);
    }
    follower.settle(Role::Follower, hub.time());
    let served: Vec<_> = hub.served["default"].values().cloned().collect();
    assert_eq!(follower.resources("default"), served);
    // It heard of one port before the leader decided, and of the leader's word later.
    let mut early = hub.balancers[&Key::new("tenant-shop", "b")].clone();
    early.status.as_mut().unwrap().sessions[0].limit = 300;
    early.metadata.resource_version = Some("1000000".to_owned());
    follower.observe(Seen::LoadBalancers(Sight::One(early)));
    follower.settle(Role::Follower, hub.time());
    let served = follower.resources("default");
    let b = served.iter().find(|resource| &**resource.name() == "tenant-shop/b/udp/53").expect("served");
    assert_eq!(
        Cluster::decode(b.body()).unwrap().circuit_breakers.unwrap().thresholds[0].max_connections.unwrap().value,
        300
    );
}

/// With 20000 files and two workers a tenant has 500 changes under way.
#[test]
fn g2_a_tenant_that_changes_listeners_without_end_waits_and_others_do_not() {
    let mut hub = hub(FILES);
    let ports: Vec<u16> = (1..=100).collect();
    let web = |idle: u32| {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port, "backendPort": 30080})).collect();
        balancer("tenant-shop", "web", &json!({"ports": ports, "traffic": {"timeouts": {"idle": format!("{idle}s")}}}))
    };
    hub.balancer(web(1));
    hub.settle();
    let served = |hub: &Hub| hub.served["default"].values().cloned().collect::<Vec<_>>();
    for round in 2..=6 {
        let before = served(&hub);
        hub.balancer(web(round));
        hub.settle();
        assert!(served(&hub) != before, "change {round} is within the share");
    }
    let before = served(&hub);
    hub.balancer(web(7));
    hub.balancer(balancer("tenant-shop", "new", &udp(&[53], None)));
    hub.settle();
    assert!(served(&hub) == before, "the sixth change waits, and so does what is new");
    for name in ["web", "new"] {
        assert_eq!(hub.condition("tenant-shop", name, "Programmed"), "False/ListenersWait", "{name}");
    }
    assert_eq!(fleet_says(&hub, "FilesShort").as_deref(), Some("True"));
    hub.balancer(balancer("tenant-news", "web", &json!({})));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "web", "Programmed"), "True/Programmed", "another tenant does not wait");
    assert_eq!(hub.engine.serves_at(), Some(support::objects::at(30)));
    hub.now = 30;
    hub.settle();
    for name in ["web", "new"] {
        assert_eq!(hub.condition("tenant-shop", name, "Programmed"), "True/Programmed", "{name}");
    }
    assert_eq!((hub.engine.serves_at(), fleet_says(&hub, "FilesShort")), (None, None));
}

/// The churn of faults.md: load balancers made and deleted, many at a time.
#[test]
fn g2_load_balancers_that_come_and_go_hold_no_more_than_the_tenants_share() {
    let mut hub = hub(FILES);
    let (mut removed, mut most) = (0, 0);
    for round in 0..40 {
        hub.now = round / 4; // ten seconds: nothing is worked off meanwhile
        for name in 0..30 {
            hub.balancer(balancer("tenant-shop", &format!("lb-{name}"), &udp(&[53], Some(100))));
        }
        hub.settle();
        most = most.max(removed + listeners(&hub));
        removed += listeners(&hub);
        for name in 0..30 {
            hub.delete_balancer("tenant-shop", &format!("lb-{name}"));
        }
        hub.settle();
    }
    assert!((500..=530).contains(&removed), "{removed} listeners were removed, and each is held for 30 s");
    assert!(most <= 530, "{most}");
}

#[test]
fn g2_no_listener_is_added_where_the_envoys_have_no_descriptors_left_for_it() {
    // 1024 files: 102 in reserve, 306 for connections, the rest for 77 listeners of 8 workers.
    let mut hub = hub(1024);
    hub.report("default", "edge-1", Event::Described(Files::of(1024, 8)));
    let ports: Vec<Value> = (1..=100).map(|port| json!({"port": port, "backendPort": 30080})).collect();
    hub.balancer(balancer("tenant-shop", "wide", &json!({"ports": ports})));
    hub.settle();
    assert_eq!(listeners(&hub), 38, "one tenant has half of them");
    assert_eq!(hub.condition("tenant-shop", "wide", "Programmed"), "False/ListenersWait");
    hub.report("default", "edge-1", Event::Described(Files::of(FILES, 8)));
    hub.settle();
    assert_eq!(listeners(&hub), 100, "an Envoy that starts again with more is enough");
    assert_eq!(hub.condition("tenant-shop", "wide", "Programmed"), "True/Programmed");
}

#[test]
fn g2_a_tenant_that_takes_all_listeners_that_it_can_delays_no_listener_and_no_edit_of_another() {
    let mut hub = hub(1024);
    hub.report("default", "edge-1", Event::Described(Files::of(1024, 8)));
    let ports = |count: u16, port: u16| -> Vec<Value> {
        (1..=count).map(|n| json!({"port": n, "backendPort": port})).collect()
    };
    hub.balancer(balancer("tenant-shop", "wide", &json!({"ports": ports(100, 30080)})));
    hub.settle();
    hub.balancer(balancer("tenant-news", "web", &json!({"ports": ports(1, 30080)})));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "web", "Programmed"), "True/Programmed");
    // Nothing is left for new listeners, and an edit reaches the Envoys all the same.
    hub.balancer(balancer("tenant-news", "wide", &json!({"ports": ports(100, 30080)})));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "wide", "Programmed"), "False/ListenersWait");
    let edited = json!({"ports": ports(1, 30080), "traffic": {"sourceRanges": ["198.51.100.0/24"]}});
    hub.balancer(balancer("tenant-news", "web", &edited));
    hub.settle();
    assert_eq!(hub.condition("tenant-news", "web", "Programmed"), "True/Programmed");
}

#[test]
fn g_an_envoy_of_a_revoked_node_that_is_away_limits_nothing() {
    let mut hub = hub(FILES);
    hub.connect("default", "rogue");
    hub.report("default", "rogue", Event::Described(Files::of(1024, 1024)));
    hub.balancer(balancer("tenant-shop", "web", &json!({"ports": [{"port": 80, "backendPort": 30080}]})));
    hub.settle();
    assert_eq!(hub.condition("tenant-shop", "web", "Programmed"), "False/ListenersWait");
    hub.disconnect("default", "rogue");
    let mut object = fleet("default");
    object.spec.revoked =
        vec![nave_api::fleet::Revocation { node: "rogue".into(), before: "2026-01-01T00:00:00Z".into() }];
    hub.fleet(object);
    hub.settle();
    assert_eq!(hub.condition("tenant-shop", "web", "Programmed"), "True/Programmed");
}

#[test]
fn an_envoy_that_says_nothing_of_its_files_holds_nothing_up() {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.tenant(tenant("shop", &json!({})));
    hub.node_set(nodes("tenant-shop", "default", &[("n1", "10.20.0.1")]));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/24"]}})));
    hub.connect("default", "edge-1");
    hub.balancer(balancer("tenant-shop", "dns", &udp(&[53], None)));
    hub.settle();
    assert_eq!(sessions(&hub, "shop", "dns"), [(53, 1000)]);
    let alien = Report {
        fleet: "other".into(),
        node: "edge-9".into(),
        stream: 99,
        event: Event::Described(Files::of(1024, 1)),
    };
    hub.engine.observe(Seen::Envoy(alien));
    hub.balancer(balancer("tenant-shop", "more", &udp(&[53], None)));
    hub.settle();
    assert_eq!(sessions(&hub, "shop", "more"), [(53, 1000)], "another fleet's Envoy is another fleet's");
}

/// The Envoy of edge-1 measures these connections, by the name of the cluster.
fn measure(hub: &mut Hub, ports: &[(&str, u32)]) {
    let mut tenants: BTreeMap<_, OpenOfTenant> = BTreeMap::new();
    for (cluster, open) in ports {
        let tenant = tenants.entry(cluster.split('/').next().unwrap().into()).or_default();
        tenant.total += open;
        tenant.ports.insert((*cluster).into(), *open);
    }
    let total = tenants.values().map(|tenant| tenant.total).sum();
    hub.engine.observe(Seen::Open(Open { fleet: "default".into(), node: "edge-1".into(), total, tenants }));
    hub.settle();
}

/// The tenants that are held at edge-1, and how many connections each may have.
fn held(hub: &Hub) -> Vec<(String, u32)> {
    let status = hub.fleets[&Key::cluster("default")].status.clone().unwrap();
    let node = status.nodes.into_iter().find(|node| node.name == "edge-1").unwrap();
    node.held.into_iter().map(|held| (held.tenant, held.connections)).collect()
}

/// The limits that the Envoy of edge-1 looks up, by listener.
fn looked_up(hub: &Hub) -> BTreeMap<String, u32> {
    let key = (ResourceType::Runtime, "connections/edge-1".into());
    let Some(resource) = hub.served["default"].get(&key) else { return BTreeMap::new() };
    let fields = Runtime::decode(resource.body()).unwrap().layer.unwrap().fields;
    let number = |kind: Option<Kind>| {
        let Some(Kind::NumberValue(number)) = kind else { return None };
        number.to_string().parse().ok()
    };
    let listener = |key: &str| key.split("listener.").nth(1).unwrap().trim_end_matches(".connection_limit").to_owned();
    fields.into_iter().map(|(key, value)| (listener(&key), number(value.kind).unwrap())).collect()
}

fn tcp(ports: &[u16]) -> Value {
    json!({"ports": ports.iter().map(|port| json!({"port": port, "backendPort": 30080})).collect::<Vec<_>>()})
}

#[test]
fn g1_the_tenant_with_the_most_connections_is_held_at_one_envoy_without_a_changed_listener() {
    let mut hub = hub(2000); // 300 connections
    hub.balancer(balancer("tenant-shop", "web", &tcp(&[80, 443])));
    hub.balancer(balancer("tenant-news", "web", &tcp(&[80])));
    hub.settle();
    let before = hub.served["default"].clone();
    measure(&mut hub, &[("tenant-shop/web/tcp/80", 150), ("tenant-news/web/tcp/80", 60)]);
    assert_eq!((held(&hub), looked_up(&hub)), (Vec::new(), BTreeMap::new()), "70 %");
    measure(&mut hub, &[("tenant-shop/web/tcp/80", 200), ("tenant-news/web/tcp/80", 60)]);
    assert_eq!(held(&hub), [("shop".to_owned(), 150)]);
    assert_eq!(fleet_says(&hub, "TenantHeld").as_deref(), Some("True"));
    let limits = looked_up(&hub);
    assert_eq!(
        limits.values().copied().collect::<Vec<_>>(),
        [15, 135],
        "443 shares the tenth that is left: {limits:?}"
    );
    let mut now = hub.served["default"].clone();
    now.retain(|(kind, _), _| *kind != ResourceType::Runtime);
    assert_eq!(now, before, "nothing else changed");

    // A listener that the tenant adds is limited from its first connection.
    hub.balancer(balancer("tenant-shop", "more", &tcp(&[80, 81])));
    hub.settle();
    let limits = looked_up(&hub);
    assert_eq!((limits.len(), limits.values().sum::<u32>()), (4, 150), "{limits:?}");

    // What is recorded holds after a restart, before the Envoy measures anything.
    hub.restart();
    hub.settle();
    assert_eq!(looked_up(&hub), limits);
    measure(&mut hub, &[("tenant-shop/web/tcp/80", 150)]);
    assert_eq!(held(&hub).len(), 1, "50 %");
    measure(&mut hub, &[("tenant-shop/web/tcp/80", 149)]);
    assert_eq!((held(&hub), looked_up(&hub), fleet_says(&hub, "TenantHeld")), (Vec::new(), BTreeMap::new(), None));
}

#[test]
fn g1_a_quota_lowers_what_a_held_tenant_has_and_a_tenant_that_is_gone_is_not_held() {
    let mut hub = hub(2000);
    hub.tenant(tenant("shop", &json!({"quota": {"connections": 40}})));
    hub.balancer(balancer("tenant-shop", "web", &tcp(&[80])));
    hub.settle();
    measure(&mut hub, &[("tenant-shop/web/tcp/80", 290)]);
    assert_eq!(held(&hub), [], "it has the fleet for itself");
    hub.balancer(balancer("tenant-news", "web", &tcp(&[80])));
    hub.settle();
    measure(&mut hub, &[("tenant-shop/web/tcp/80", 220), ("tenant-gone/web/tcp/80", 70)]);
    assert_eq!(held(&hub), [("shop".to_owned(), 40)]);
    measure(&mut hub, &[("tenant-gone/web/tcp/80", 290)]);
    assert_eq!(held(&hub), [("shop".to_owned(), 40)], "it stays, and what is no tenant is not added");
}

#[test]
fn g1_an_envoy_of_a_node_that_is_not_chosen_or_that_is_unknown_holds_no_tenant() {
    let mut hub = hub(2000);
    hub.balancer(balancer("tenant-shop", "web", &tcp(&[80])));
    hub.settle();
    let tenants: BTreeMap<_, _> =
        [("tenant-shop".into(), OpenOfTenant { total: u32::MAX, ports: BTreeMap::new() })].into();
    for (fleet, node) in [("default", "stranger"), ("nowhere", "edge-1")] {
        let open = Open { fleet: fleet.into(), node: node.into(), total: u32::MAX, tenants: tenants.clone() };
        hub.engine.observe(Seen::Open(open));
        hub.settle();
    }
    assert_eq!((held(&hub), looked_up(&hub)), (Vec::new(), BTreeMap::new()));
}
