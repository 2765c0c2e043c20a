//! What the manager decides on an object beside those of a hub. Knows the manager's core; knows no JSON but that of its own objects.

use std::collections::BTreeSet;

use nave_manager_core::{Engine, Key, Role, Seen, Settings, Sight, Timestamp, Unreadable};
use nave_watch::Decoded;
use nave_xds::resource::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kinds::Readable;

const FLEET: &str = "default";

/// Decides with the object in the list, then with it changed and gone. Whether it can be read.
pub fn decide<K: Readable>(object: Decoded<K>, wrap: fn(Sight<K>) -> Seen) -> bool {
    let mut engine = started(Some(wrap(listed(object.clone()))));
    settle(&mut engine);
    engine.observe(wrap(changed(object.clone())));
    settle(&mut engine);
    engine.observe(wrap(Sight::Gone(Key::of(&object))));
    settle(&mut engine);
    let mut engine = started(None);
    settle(&mut engine);
    engine.observe(wrap(changed(object.clone())));
    settle(&mut engine);
    engine.replan();
    settle(&mut engine);
    object.readable().is_some()
}

/// The same of a kind that tenants write: what another tenant's load balancer serves stays.
pub fn decide_beside<K: Readable>(object: Decoded<K>, wrap: fn(Sight<K>) -> Seen) -> bool {
    let mut alone = started(None);
    settle(&mut alone);
    let served = alone.resources(FLEET);
    assert!(!served.is_empty(), "the neighbour is served");
    let mut beside = started(Some(wrap(listed(object.clone()))));
    settle(&mut beside);
    stays(&served, &beside, &object);
    alone.observe(wrap(changed(object.clone())));
    settle(&mut alone);
    stays(&served, &alone, &object);
    decide(object, wrap)
}

fn stays<K: Readable>(served: &[Resource], engine: &Engine, object: &Decoded<K>) {
    let now = engine.resources(FLEET);
    let lost = served.iter().find(|resource| !now.contains(resource));
    assert!(lost.is_none(), "the neighbour loses {lost:?} beside {object:?}");
}

fn settle(engine: &mut Engine) {
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    for role in [Role::Follower, Role::Leader] {
        drop(engine.settle(role, now));
        // A turn ends: what is left waits for the next one.
        for _ in 0..16 {
            if engine.has_turns() {
                drop(engine.settle(role, now));
            }
        }
    }
}

/// A hub with two tenants, one of which has a load balancer that is served. The object is in the first list of its kind.
fn started(first: Option<Seen>) -> Engine {
    let mut engine = Engine::new(Settings::default());
    for seen in [
        Seen::Tenants(Sight::all(Vec::new())),
        Seen::NodeSets(Sight::all(Vec::new())),
        Seen::LoadBalancers(Sight::all(Vec::new())),
        Seen::Pools(Sight::all(Vec::new())),
        Seen::Allocations(Sight::all(Vec::new())),
        Seen::Fleets(Sight::all(Vec::new())),
        Seen::Deliveries { all: Vec::new(), unreadable: BTreeSet::new() },
        Seen::HubNodes(Vec::new()),
        Seen::HubNetworks(Vec::new()),
    ] {
        engine.observe(seen);
    }
    if let Some(first) = first {
        engine.observe(first);
    }
    neighbours(&mut engine);
    engine
}

fn neighbours(engine: &mut Engine) {
    engine.observe(Seen::Fleets(one(FLEET, None, &json!({}), &Value::Null)));
    for name in ["good", "evil"] {
        let spec = json!({"backends": {"allow": ["10.0.0.0/8"], "sharing": "Shared"}});
        engine.observe(Seen::Tenants(one(name, None, &spec, &json!({"namespace": format!("tenant-{name}")}))));
    }
    let pool =
        json!({"source": {"static": {}}, "use": {"default": true}, "addresses": {"include": ["203.0.113.0/28"]}});
    engine.observe(Seen::Pools(one("public", None, &pool, &Value::Null)));
    let good = Some("tenant-good");
    let nodes = json!({"nodes": [{"name": "n1", "addresses": ["10.20.0.1"]}]});
    engine.observe(Seen::NodeSets(one("default", good, &nodes, &Value::Null)));
    let balancer = json!({
        "ports": [{"port": 80, "backendPort": 30080}, {"port": 53, "protocol": "UDP", "backendPort": 30053}],
        "backends": {"nodes": {"nodeSet": "default"}},
    });
    engine.observe(Seen::LoadBalancers(one("web", good, &balancer, &Value::Null)));
    let owner = json!({
        "namespace": "tenant-good", "kind": "TCPLoadBalancer", "name": "web", "uid": "uid-of-web",
        "ports": [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 53}],
    });
    let allocation = json!({"address": "203.0.113.1", "pool": "public", "owners": [owner]});
    engine.observe(Seen::Allocations(one("203.0.113.1", None, &allocation, &Value::Null)));
}

fn one<K: DeserializeOwned>(name: &str, namespace: Option<&str>, spec: &Value, status: &Value) -> Sight<K> {
    let metadata = json!({
        "name": name, "namespace": namespace, "uid": format!("uid-of-{name}"), "resourceVersion": "10", "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let object = json!({"metadata": metadata, "spec": spec, "status": status});
    Sight::One(serde_json::from_value(object).expect("a good object"))
}

fn listed<K>(object: Decoded<K>) -> Sight<K> {
    match object {
        Decoded::Object(object) => Sight::all(vec![object]),
        Decoded::Unreadable(one) => Sight::All { objects: Vec::new(), unreadable: vec![core(one)] },
    }
}

fn changed<K>(object: Decoded<K>) -> Sight<K> {
    match object {
        Decoded::Object(object) => Sight::One(object),
        Decoded::Unreadable(one) => Sight::Unreadable(core(one)),
    }
}

fn core(one: nave_watch::Unreadable) -> Unreadable {
    let nave_watch::Unreadable { metadata, why, spec: _ } = one;
    Unreadable {
        key: Key::of_metadata(&metadata),
        uid: metadata.uid.unwrap_or_default(),
        revision: metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
        generation: metadata.generation,
        why,
    }
}
