//! Which Envoys a load balancer waits for before it is programmed: whatever one of them does or leaves undone, others become
//! programmed, and the Fleet names it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot be read or is not there ends the test"
)]

mod support;

use std::sync::Arc;

use nave_api::fleet::{EnvoyStanding, EnvoyStatus};
use nave_api::{Fleet, condition};
use nave_manager_core::Key;
use nave_xds::report::{Event, Held};
use serde_json::{Value, json};
use support::hub::Hub;
use support::objects::{balancer, fleet, nodes, pool, tenant};

const NS: &str = "tenant-shop";

/// A hub with one tenant and one honest Envoy.
fn hub() -> Hub {
    let mut hub = Hub::default();
    hub.fleet(fleet("default"));
    hub.tenant(tenant("shop", &json!({})));
    hub.pool(pool("public", &json!({"addresses": {"include": ["203.0.113.0/24"]}})));
    hub.node_set(nodes(NS, "default", &[("n1", "10.20.0.1")]));
    hub.connect("default", "honest");
    hub.settle();
    hub
}

/// Performs what is decided, and lets only the honest Envoy acknowledge, until nothing follows.
fn settle(hub: &mut Hub) {
    for _ in 0..20 {
        let steps = hub.decide();
        let quiet = steps.is_empty();
        for step in &steps {
            hub.perform(step);
        }
        acknowledge(hub, "honest", |_| true);
        if quiet && hub.decide().is_empty() {
            return;
        }
    }
    panic!("the engine does not come to rest");
}

/// An Envoy acknowledges what is served, as far as a name passes.
fn acknowledge(hub: &mut Hub, node: &str, passes: impl Fn(&str) -> bool) {
    let served = hub.served.get("default").into_iter().flatten().filter(|((_, name), _)| passes(name));
    let held = served
        .map(|(_, resource)| Held {
            kind: resource.kind(),
            name: Arc::clone(resource.name()),
            version: resource.version(),
        })
        .collect();
    hub.report("default", node, Event::Accepted(held));
}

/// Lets time pass, calling the engine whenever it asks for it, as the conductor does.
fn until(hub: &mut Hub, second: i64) {
    while hub.now < second {
        let wakes = hub.engine.wakes_at().map_or(second, |at| at.as_second() - support::objects::at(0).as_second());
        assert!(wakes > hub.now, "the engine wakes at {wakes} again");
        hub.now = wakes.min(second);
        settle(hub);
    }
}

fn make(hub: &mut Hub, name: &str) -> String {
    hub.balancer(balancer(NS, name, &json!({})));
    settle(hub);
    programmed(hub, name)
}

fn programmed(hub: &Hub, name: &str) -> String {
    hub.condition(NS, name, "Programmed")
}

fn message(hub: &Hub, name: &str) -> String {
    let status = hub.balancers[&Key::new(NS, name)].status.clone().unwrap_or_default();
    status.conditions.into_iter().find(|c| c.type_ == "Programmed").map(|c| c.message).unwrap_or_default()
}

fn envoy(hub: &Hub, node: &str) -> Option<EnvoyStatus> {
    let status = hub.fleets[&Key::cluster("default")].status.as_ref()?;
    status.nodes.iter().find(|entry| entry.name == node)?.envoy
}

/// The Fleet's Ready: its reason and message.
fn ready(hub: &Hub) -> (String, String) {
    let conditions = hub.fleets[&Key::cluster("default")].status.clone().unwrap_or_default().conditions;
    let ready = condition::find(&conditions, nave_api::ConditionType::Ready).expect("the Fleet is spoken of");
    (ready.reason.clone(), ready.message.clone())
}

fn standing(hub: &Hub, node: &str) -> EnvoyStanding {
    envoy(hub, node).expect("the node is listed").standing
}

/// The Fleet `default` that chooses nodes so.
fn choosing(nodes: &Value) -> Fleet {
    let object = json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "default"}, "spec": {"nodes": nodes}});
    serde_json::from_value(object).expect("a Fleet")
}

#[test]
fn c2_an_envoy_of_a_node_that_the_fleet_does_not_choose_holds_nothing_back() {
    let mut hub = hub();
    hub.open("default", "stranger");
    hub.report("default", "stranger", Event::Wants { everything: true });
    assert_eq!(make(&mut hub, "web"), "True/Programmed");
    assert_eq!(standing(&hub, "stranger"), EnvoyStanding::NotChosen);
    assert!(ready(&hub).1.contains("stranger"), "{:?}", ready(&hub));
    hub.disconnect("default", "stranger");
    settle(&mut hub);
    assert_eq!(envoy(&hub, "stranger"), None, "it is forgotten when it leaves");
    assert_eq!(ready(&hub).0, "Connected");
}

#[test]
fn c2_an_envoy_that_is_not_chosen_makes_nothing_programmed() {
    let mut hub = hub();
    hub.label("honest", None);
    settle(&mut hub);
    assert_eq!(make(&mut hub, "web"), "False/NoEnvoy");
    assert_eq!(ready(&hub).0, "NoEnvoy");
    hub.fleet(choosing(&json!({"names": ["honest"]})));
    settle(&mut hub);
    assert_eq!((programmed(&hub, "web"), standing(&hub, "honest")), ("True/Programmed".into(), EnvoyStanding::Counts));
}

#[test]
fn c2_a_node_whose_label_is_taken_away_holds_nothing_back_any_more() {
    let mut hub = hub();
    hub.connect("default", "leaving");
    settle(&mut hub);
    assert_eq!(make(&mut hub, "web"), "False/Pending");
    hub.label("leaving", Some("other"));
    settle(&mut hub);
    assert_eq!(programmed(&hub, "web"), "True/Programmed");
}

#[test]
fn c2_an_envoy_that_asks_for_endpoints_alone_holds_nothing_back() {
    let mut hub = hub();
    hub.label("rogue", Some("default"));
    hub.open("default", "rogue");
    hub.report("default", "rogue", Event::Wants { everything: false });
    assert_eq!(make(&mut hub, "web"), "True/Programmed");
    acknowledge(&mut hub, "rogue", |name| name.contains("tcp/80"));
    settle(&mut hub);
    assert_eq!(standing(&hub, "rogue"), EnvoyStanding::NotServing);
    assert_eq!(make(&mut hub, "later"), "True/Programmed");
}

#[test]
fn c2_an_envoy_that_acknowledges_nothing_is_named_and_after_half_a_minute_waited_for_no_longer() {
    let mut hub = hub();
    hub.connect("default", "silent");
    assert_eq!(make(&mut hub, "web"), "False/Pending");
    until(&mut hub, 1);
    assert_eq!(envoy(&hub, "silent").expect("listed").holds_back, 1);
    assert!(ready(&hub).0 == "HeldBack" && ready(&hub).1.contains("silent"), "{:?}", ready(&hub));
    until(&mut hub, 29);
    assert_eq!(programmed(&hub, "web"), "False/Pending");
    until(&mut hub, 30);
    assert_eq!((programmed(&hub, "web"), standing(&hub, "silent")), ("True/Programmed".into(), EnvoyStanding::Stopped));
    assert!(ready(&hub).0 == "EnvoyStopped" && ready(&hub).1.contains("silent"), "{:?}", ready(&hub));
    assert!(hub.announced.iter().any(|event| event.reason == "EnvoyStopped"), "an Event says so");
    assert_eq!(make(&mut hub, "later"), "True/Programmed", "it delays nothing new");

    acknowledge(&mut hub, "silent", |_| true);
    settle(&mut hub);
    assert_eq!((standing(&hub, "silent"), ready(&hub).0.as_str()), (EnvoyStanding::Counts, "Connected"));
    assert_eq!(make(&mut hub, "newest"), "False/Pending", "it counts again");
}

#[test]
fn c2_an_envoy_that_starts_slowly_and_acknowledges_is_waited_for() {
    let mut hub = hub();
    hub.connect("default", "slow");
    make(&mut hub, "other");
    assert_eq!(make(&mut hub, "web"), "False/Pending");
    for (second, part) in [(20, "tenant-shop/other"), (40, "203.0.113.0"), (60, "tenant-shop/web")] {
        until(&mut hub, second);
        assert_eq!((programmed(&hub, "web"), standing(&hub, "slow")), ("False/Pending".into(), EnvoyStanding::Counts));
        acknowledge(&mut hub, "slow", |name| name.contains(part));
    }
    acknowledge(&mut hub, "slow", |_| true);
    settle(&mut hub);
    assert_eq!(programmed(&hub, "web"), "True/Programmed");
}

#[test]
fn c2_an_envoy_that_leaves_out_one_load_balancer_delays_it_by_two_minutes_at_most() {
    let mut hub = hub();
    hub.connect("default", "choosy");
    assert_eq!(make(&mut hub, "victim"), "False/Pending");
    for second in 1..=120 {
        until(&mut hub, second);
        let name = format!("friend-{second}");
        hub.balancer(balancer(NS, &name, &json!({})));
        settle(&mut hub);
        acknowledge(&mut hub, "choosy", |name| !name.contains("victim"));
        settle(&mut hub);
        assert_eq!(programmed(&hub, &name), "True/Programmed");
    }
    assert_eq!(
        (programmed(&hub, "victim"), standing(&hub, "choosy")),
        ("True/Programmed".into(), EnvoyStanding::Counts)
    );
}

#[test]
fn c2_an_envoy_that_opens_a_new_stream_again_and_again_is_waited_for_no_longer_either() {
    let mut hub = hub();
    hub.connect("default", "flapping");
    assert_eq!(make(&mut hub, "web"), "False/Pending");
    for second in 1..30 {
        until(&mut hub, second);
        hub.connect("default", "flapping"); // beside the old stream, which still lives
        settle(&mut hub);
        assert_eq!(programmed(&hub, "web"), "False/Pending");
    }
    until(&mut hub, 30);
    assert_eq!(programmed(&hub, "web"), "True/Programmed");
}

#[test]
fn c3_an_envoy_that_refuses_everything_is_waited_for_no_longer_and_its_words_are_short() {
    let mut hub = hub();
    hub.connect("default", "rogue");
    hub.balancer(balancer(NS, "web", &json!({})));
    settle(&mut hub);
    hub.refuse("default", "rogue", "tcp/203.0.113.0/80", &"\u{1b}[2J\u{202e}no!\n".repeat(500_000));
    settle(&mut hub);
    assert_eq!(programmed(&hub, "web"), "False/Refused");
    let words = message(&hub, "web").replace("the Envoy of rogue refuses it, see also its log: ", "");
    assert!(words.chars().count() <= 256 && words.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{words:?}");
    assert!(hub.announced.iter().all(|event| event.message.len() < 400));
    until(&mut hub, 30);
    assert_eq!((programmed(&hub, "web"), standing(&hub, "rogue")), ("True/Programmed".into(), EnvoyStanding::Stopped));
    assert!(!message(&hub, "web").contains("no!"));
    hub.balancer(balancer(NS, "later", &json!({})));
    settle(&mut hub);
    hub.refuse("default", "rogue", "tcp/203.0.113.1/80", "no");
    settle(&mut hub);
    assert_eq!(programmed(&hub, "later"), "True/Programmed");
}

#[test]
fn c3_an_envoy_that_comes_and_refuses_what_is_programmed_takes_nothing_back() {
    let mut hub = hub();
    assert_eq!(make(&mut hub, "web"), "True/Programmed");
    let before = hub.status_writes;
    hub.connect("default", "rogue");
    settle(&mut hub);
    hub.refuse("default", "rogue", "tcp/203.0.113.0/80", "no!");
    settle(&mut hub);
    assert_eq!((programmed(&hub, "web"), hub.status_writes), ("True/Programmed".into(), before));
    assert_eq!(envoy(&hub, "rogue").expect("listed").refused, 1);
}

#[test]
fn c3_what_every_envoy_refuses_stays_refused() {
    let mut hub = hub();
    hub.balancer(balancer(NS, "web", &json!({})));
    hub.decide().iter().for_each(|step| hub.perform(step));
    hub.decide().iter().for_each(|step| hub.perform(step));
    hub.refuse("default", "honest", "tcp/203.0.113.0/80", "cannot bind");
    for second in [1, 31, 200] {
        hub.now = second;
        hub.decide().iter().for_each(|step| hub.perform(step));
        assert_eq!(programmed(&hub, "web"), "False/Refused", "after {second} s");
    }
}

#[test]
fn a_fleet_lists_five_hundred_nodes_at_most() {
    let mut hub = hub();
    for number in 0..600 {
        hub.open("default", &format!("stranger-{number:03}"));
    }
    settle(&mut hub);
    assert_eq!(hub.fleets[&Key::cluster("default")].status.clone().unwrap().nodes.len(), 500);
    assert!(ready(&hub).1.contains("and ") && ready(&hub).1.len() < 400, "{:?}", ready(&hub));
}
