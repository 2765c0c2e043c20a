//! Two clusters with one credential, and a namespace that is moved from one to the other.

use k8s_openapi::api::core::v1::Service;
use nave_api::{NodeSet, TCPLoadBalancer};
use serde_json::{Value, json};

use super::{answered, key, own, service, steps};
use crate::world::{Doomed, Step, Work, World};
use crate::{Change, Cluster, Policy, Tenancy, intent};

/// The second cluster: the namespace belongs to c1.
fn second() -> Cluster {
    Cluster { own: "c2".parse().unwrap(), owner: "c1".into() }
}

fn moved() -> Cluster {
    Cluster::owner("c2".parse().unwrap())
}

fn shown() -> Value {
    json!([{"ip": "203.0.113.7", "ipMode": "Proxy"}])
}

fn node_set(name: &str, mark: Option<&str>) -> NodeSet {
    let labels = mark.map(|mark| json!({"nave.dev/cluster": mark}));
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": {"nodes": []}})).unwrap()
}

/// What the first cluster has in the hub.
fn of_first() -> (TCPLoadBalancer, NodeSet) {
    (answered(&service(1, &json!(null))), node_set("default", Some("c1")))
}

fn world(cluster: Option<Cluster>, services: Vec<Service>, hub: (TCPLoadBalancer, NodeSet)) -> World {
    let mut world = World::new(Policy::default());
    world.see_intent(Change::listed(vec![hub.0]));
    world.see_service(Change::listed(services));
    world.see_node(Change::listed(Vec::new()));
    world.see_slice(Change::listed(Vec::new()));
    world.see_node_set(Change::listed(vec![hub.1]));
    if let Some(cluster) = cluster {
        world.see_cluster(cluster);
    }
    world
}

fn all(world: &mut World) -> Vec<Step> {
    let work = world.all();
    work.iter().flat_map(|work| world.decide(work).plan.steps().to_vec()).collect()
}

#[test]
fn h_an_agent_that_does_not_know_whose_the_namespace_is_touches_nothing() {
    for services in [Vec::new(), vec![service(1, &json!(null))]] {
        let mut world = world(None, services, of_first());
        assert_eq!((all(&mut world), world.missing()), (vec![], vec!["the hub's Lease"]));
    }
}

#[test]
fn h_an_agent_of_another_cluster_says_so_and_touches_nothing_in_the_hub() {
    let mut world = world(Some(second()), vec![service(1, &shown())], of_first());
    let decision = world.decide(&Work::Service(key()));
    let [Step::Say(_, saying)] = decision.plan.steps() else { panic!("{:?}", decision.plan) };
    assert_eq!((&*saying.status, &*saying.reason), ("False", "OtherCluster"));
    assert!(saying.message.contains("belongs to cluster c1, and this is cluster c2"), "{}", saying.message);
    let told: Vec<_> = decision.notices.iter().map(|notice| notice.reason.as_str()).collect();
    assert_eq!(told, ["OtherCluster"]);
    assert!(world.decide(&Work::NodeSet).plan.is_empty());
}

#[test]
fn h_what_a_cluster_without_services_finds_of_another_one_stays() {
    let mut world = world(Some(second()), Vec::new(), of_first());
    assert_eq!(all(&mut world), []);
    let mut unmarked = of_first();
    unmarked.0.metadata.labels.as_mut().unwrap().remove("nave.dev/cluster");
    let mut world = self::world(Some(second()), Vec::new(), unmarked);
    assert_eq!(all(&mut world), [], "what has no mark belongs to the first cluster");
}

#[test]
fn h_a_service_that_is_deleted_in_another_cluster_ends_without_a_word_to_the_hub() {
    let mut going = service(1, &json!(null));
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let mut world = world(Some(second()), vec![going.clone()], of_first());
    assert!(matches!(steps(&mut world)[..], [Step::Release(_)]));
    world.see_intent(Change::listed(Vec::new()));
    assert!(matches!(steps(&mut world)[..], [Step::Release(_)]), "what was never seen is not ours either");
}

#[test]
fn h_an_agent_of_another_cluster_that_leaves_deletes_only_what_it_made() {
    let policy = Policy { leaving: true, ..Policy::default() };
    let mut world = World { policy, ..world(Some(second()), vec![service(1, &shown())], of_first()) };
    world.see_node_set(Change::Seen(node_set("default-c2", Some("c2"))));
    let steps = all(&mut world);
    let in_hub = |step: &&Step| matches!(step, Step::Delete(_) | Step::DeleteNodes(_) | Step::Apply(_));
    assert_eq!(steps.iter().filter(in_hub).collect::<Vec<_>>(), [&Step::DeleteNodes("default-c2".into())]);
    assert!(!world.is_left());
}

#[test]
fn h_a_moved_namespace_gives_the_new_cluster_the_load_balancer_with_its_address_and_nodes_of_its_own() {
    let mut world = world(Some(second()), vec![service(1, &shown())], of_first());
    steps(&mut world);
    assert!(world.see_cluster(moved()).work.contains(&Work::NodeSet));
    assert!(!steps(&mut world).iter().any(|step| matches!(step, Step::Adopt(_) | Step::Delete(_))), "nodes come first");
    let decision = world.decide(&Work::NodeSet);
    let [Step::ApplyNodes(nodes)] = decision.plan.steps() else { panic!("our nodes") };
    let mut nodes = (**nodes).clone();
    nodes.metadata.resource_version = Some("9".into());
    let name = nodes.metadata.name.clone().unwrap();
    assert!(name.starts_with("default-c2-"), "the NodeSet of the first cluster stays: {name}");
    assert!(world.see_node_set(Change::Answered(nodes)).work.contains(&Work::Service(key())));
    let decided = steps(&mut world);
    let [Step::Adopt(adopted)] = &decided[..] else { panic!("{decided:?}") };
    assert_eq!(adopted.metadata.name, Some(intent::name(&key())));
    assert_eq!(adopted.metadata.labels.as_ref().unwrap()["nave.dev/cluster"], "c2");
    assert_eq!(serde_json::to_value(&adopted.spec.backends).unwrap()["nodes"]["nodeSet"], name);
}

#[test]
fn h_a_moved_namespace_keeps_what_the_new_cluster_has_no_service_for() {
    let mut world = world(Some(moved()), Vec::new(), of_first());
    assert!(matches!(all(&mut world)[..], [Step::ApplyNodes(_)]));
}

#[test]
fn h_the_old_cluster_lets_go_of_what_the_new_one_took_over() {
    let mut world = world(Some(own()), vec![service(1, &shown())], of_first());
    assert_eq!(steps(&mut world), []);
    let mut adopted = of_first().0;
    adopted.metadata.labels = Some([("nave.dev/cluster", "c2"), ("nave.dev/origin-uid", "u9")].map(own_pair).into());
    adopted.metadata.resource_version = Some("6".into());
    world.see_intent(Change::Seen(adopted));
    world.see_cluster(Cluster { owner: "c2".into(), ..own() });
    let decided = steps(&mut world);
    assert!(matches!(&decided[..], [Step::Say(_, saying)] if saying.reason == "OtherCluster"), "{decided:?}");
    world.see_service(Change::Gone(service(2, &shown()).metadata));
    assert_eq!(steps(&mut world), [], "its Service is gone, the load balancer is another cluster's");
}

fn own_pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn h_objects_of_today_are_marked_by_the_cluster_that_owns_the_namespace() {
    let mut unmarked = (of_first().0, node_set("default", None));
    unmarked.0.metadata.labels.as_mut().unwrap().remove("nave.dev/cluster");
    let mut world = world(Some(own()), vec![service(1, &shown())], unmarked);
    let decided = all(&mut world);
    let [Step::ApplyNodes(nodes), Step::Apply(intent)] = &decided[..] else { panic!("{decided:?}") };
    assert_eq!(nodes.metadata.labels.as_ref().unwrap()["nave.dev/cluster"], "c1");
    assert_eq!(intent.metadata.labels.as_ref().unwrap()["nave.dev/cluster"], "c1");
}

#[test]
fn h_a_load_balancer_is_deleted_as_it_was_seen_last() {
    let mut going = service(1, &json!(null));
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let mut world = world(Some(own()), vec![going], of_first());
    let seen = Some(("i1".to_owned(), "5".to_owned()));
    assert_eq!(steps(&mut world)[0], Step::Delete(Doomed { name: intent::name(&key()), seen }));
}

#[test]
fn h_a_hub_that_refuses_us_is_no_other_cluster() {
    let mut world = world(Some(second()), vec![service(1, &shown())], of_first());
    world.see_tenancy(Tenancy::Refused);
    assert!(matches!(steps(&mut world)[..], [Step::Release(_)]), "as without another cluster");
}
