//! Objects that cannot be read: what they were stays, and after a restart nothing of them is taken for absent.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::ObjectMeta;
use nave_api::NodeSet;
use nave_api::tcp_load_balancer::Backends;
use serde_json::{Value, json};

use super::{answered, key, service, steps};
use crate::backends::{Mode, Ways};
use crate::world::{Step, Work, World};
use crate::{Change, Policy, Unreadable, intent};

fn unreadable(metadata: ObjectMeta) -> Unreadable {
    Unreadable { metadata, why: "status.conditions[0].lastTransitionTime: not a time".to_owned() }
}

fn unreadables<K>(all: impl IntoIterator<Item = ObjectMeta>) -> Change<K> {
    Change::Listed { objects: Vec::new(), unreadable: all.into_iter().map(unreadable).collect() }
}

/// A world that was restarted: each kind's list as it comes.
fn restarted(
    services: Change<Service>,
    intents: Change<nave_api::TCPLoadBalancer>,
    nodes: (Change<Node>, Change<NodeSet>),
    slices: Change<EndpointSlice>,
) -> World {
    let mut world = World::new(Policy::default());
    world.see_cluster(super::own());
    world.see_service(services);
    world.see_intent(intents);
    world.see_node(nodes.0);
    world.see_node_set(nodes.1);
    world.see_slice(slices);
    world
}

fn no_nodes() -> (Change<Node>, Change<NodeSet>) {
    (Change::listed(Vec::new()), Change::listed(Vec::new()))
}

fn web() -> Service {
    service(1, &json!([{"ip": "203.0.113.7", "ipMode": "Proxy"}]))
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), resource_version: Some("9".to_owned()), ..ObjectMeta::default() }
}

#[test]
fn a_service_that_was_never_read_keeps_its_load_balancer_and_its_finalizer() {
    let services = unreadables([web().metadata]);
    let mut world = restarted(services, Change::listed(vec![answered(&web())]), no_nodes(), Change::listed(Vec::new()));
    assert!(world.all().contains(&Work::Service(key())));
    assert_eq!(steps(&mut world), []);
}

#[test]
fn a_service_that_can_no_longer_be_read_is_not_written() {
    let intents = || Change::listed(vec![answered(&web())]);
    let mut world =
        restarted(Change::listed(vec![service(1, &json!(null))]), intents(), no_nodes(), Change::listed(Vec::new()));
    assert!(matches!(steps(&mut world)[..], [Step::Show(..)]), "its address is to be shown");
    world.see_service(Change::Unreadable(unreadable(web().metadata)));
    assert_eq!(steps(&mut world), []);
    world.see_intent(Change::listed(Vec::new()));
    assert!(matches!(steps(&mut world)[..], [Step::Apply(_)]), "the hub is asked for what it asked last");
}

#[test]
fn a_service_that_is_to_go_is_let_go_though_it_cannot_be_read() {
    let mut metadata = web().metadata;
    metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let intents = Change::listed(vec![answered(&web())]);
    let mut world = restarted(unreadables([metadata]), intents, no_nodes(), Change::listed(Vec::new()));
    assert!(matches!(steps(&mut world)[..], [Step::Delete(_), Step::Release(_)]));
}

#[test]
fn a_load_balancer_that_cannot_be_read_is_neither_applied_nor_deleted_and_the_user_hears_of_it() {
    let intents = unreadables([answered(&web()).metadata]);
    let mut world = restarted(Change::listed(vec![web()]), intents, no_nodes(), Change::listed(Vec::new()));
    let [Step::Say(_, saying)] = &steps(&mut world)[..] else { panic!("one condition") };
    assert_eq!((saying.reason.as_str(), saying.status.as_str()), ("Unreadable", "True"));
    assert!(saying.message.contains("lastTransitionTime"), "{}", saying.message);
    world.see_intent(Change::Seen(answered(&web())));
    assert_eq!(steps(&mut world), []);
}

fn node_set(nodes: &Value) -> NodeSet {
    let metadata = json!({"name": "default", "resourceVersion": "9", "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"nodes": nodes}})).unwrap()
}

#[test]
fn a_node_that_was_never_read_keeps_its_place_in_the_hub() {
    let stored =
        node_set(&json!([{"name": "n1", "addresses": ["10.0.0.1"]}, {"name": "gone", "addresses": ["10.0.0.9"]}]));
    let nodes = (unreadables([named("n1")]), Change::listed(vec![stored]));
    let mut world =
        restarted(Change::listed(Vec::new()), Change::listed(Vec::new()), nodes, Change::listed(Vec::new()));
    let plan = world.decide(&Work::NodeSet).plan;
    let [Step::ApplyNodes(applied)] = plan.steps() else { panic!("{plan:?}") };
    assert_eq!(applied.spec.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1"]);
    world.see_node(Change::Gone(named("n1")));
    let plan = world.decide(&Work::NodeSet).plan;
    assert!(matches!(plan.steps(), [Step::ApplyNodes(applied)] if applied.spec.nodes.is_empty()));
}

#[test]
fn nodes_in_the_hub_that_cannot_be_read_are_not_written() {
    let nodes = (Change::listed(Vec::new()), unreadables([named("default")]));
    let mut world =
        restarted(Change::listed(Vec::new()), Change::listed(Vec::new()), nodes, Change::listed(Vec::new()));
    assert!(world.decide(&Work::NodeSet).plan.is_empty());
}

#[test]
fn backends_stay_while_a_slice_was_never_read() {
    let mut local = web();
    local.spec.as_mut().unwrap().external_traffic_policy = Some("Local".to_owned());
    let mut stored = answered(&local);
    let (wanted, _) = intent::intent(&local, Mode::NodePort, &Ways::default(), None);
    stored.spec = wanted.unwrap().spec;
    let Backends::Nodes(nodes) = &mut stored.spec.backends else { panic!("node ports") };
    nodes.only = Some(vec!["n1".to_owned()]);
    let mut slice = named("web-x");
    slice.namespace = Some("shop".to_owned());
    slice.labels = Some([("kubernetes.io/service-name".to_owned(), "web".to_owned())].into());
    let intents = Change::listed(vec![stored]);
    let mut world = restarted(Change::listed(vec![local]), intents, no_nodes(), unreadables([slice.clone()]));
    assert_eq!(steps(&mut world), []);
    world.see_slice(Change::Gone(slice));
    assert!(matches!(steps(&mut world)[..], [Step::Apply(_)]), "now there is no endpoint");
}
