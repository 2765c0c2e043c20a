//! What the agent decides on an object beside those of a spoke. Knows the agent's core; knows no JSON but that of its own objects.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource as _;
use nave_agent_core::backends::Mode;
use nave_agent_core::{Change, Cluster, Key, Policy, Step, Touched, Unreadable, Work, World};
use nave_watch::Decoded;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kinds::Readable;

/// Decides with the object in the list, then with it changed and gone. Whether it can be read.
pub fn decide<K: Readable>(object: Decoded<K>, see: fn(&mut World, Change<K>) -> Touched) -> bool {
    for mode in Mode::ALL {
        let mut world = world(mode, |world| {
            see(world, listed(object.clone()));
        });
        all(&mut world);
        see(&mut world, changed(object.clone()));
        world.sweep();
        world.turn();
        all(&mut world);
        see(&mut world, Change::Gone(object.meta().clone()));
        all(&mut world);
    }
    object.readable().is_some()
}

/// The same of a kind whose objects, of one namespace, must not change what the Service of another one gets.
pub fn decide_beside<K: Readable>(object: Decoded<K>, see: fn(&mut World, Change<K>) -> Touched) -> bool {
    for mode in Mode::ALL {
        let mut beside = world(mode, |world| {
            see(world, listed(object.clone()));
        });
        let (beside, alone) = (web(&mut beside), web(&mut world(mode, |_| {})));
        assert_eq!(beside, alone, "what the neighbour gets beside {object:?}");
    }
    decide(object, see)
}

/// A spoke with one Service of ours. The object is in the first list of its kind.
fn world(mode: Mode, list: impl FnOnce(&mut World)) -> World {
    let policy = Policy { default_load_balancer: true, backends: mode, ..Policy::default() };
    let mut world = World::new(policy);
    world.see_cluster(Cluster::owner("c1".parse().expect("a mark")));
    world.see_intent(Change::listed(Vec::new()));
    world.see_node_set(Change::listed(Vec::new()));
    world.see_service(Change::listed(Vec::new()));
    world.see_node(Change::listed(Vec::new()));
    world.see_slice(Change::listed(Vec::new()));
    list(&mut world);
    world.see_service(Change::Seen(read::<Service>(&json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "3"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080, "targetPort": 8080}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}},
    }))));
    world.see_node(Change::Seen(read::<Node>(&json!({
        "metadata": {"name": "n1", "resourceVersion": "4"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.20.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))));
    world.see_slice(Change::Seen(read::<EndpointSlice>(&json!({
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}, "resourceVersion": "5"},
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.30.0.1"], "conditions": {"ready": true}, "nodeName": "n1"}],
    }))));
    world
}

fn web(world: &mut World) -> Vec<Step> {
    let key = Key { namespace: "shop".to_owned(), name: "web".to_owned() };
    let steps = world.decide(&Work::Service(key)).plan.steps().to_vec();
    assert!(!steps.is_empty(), "a new Service is asked for");
    steps
}

fn all(world: &mut World) {
    for work in world.all() {
        drop(world.decide(&work));
    }
}

fn listed<K>(object: Decoded<K>) -> Change<K> {
    match object {
        Decoded::Object(object) => Change::listed(vec![object]),
        Decoded::Unreadable(one) => Change::Listed { objects: Vec::new(), unreadable: vec![unread(one)] },
    }
}

fn changed<K>(object: Decoded<K>) -> Change<K> {
    match object {
        Decoded::Object(object) => Change::Seen(object),
        Decoded::Unreadable(one) => Change::Unreadable(unread(one)),
    }
}

fn unread(one: nave_watch::Unreadable) -> Unreadable {
    let nave_watch::Unreadable { metadata, why, spec: _ } = one;
    Unreadable { metadata, why }
}

fn read<K: DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone()).expect("a good object")
}
