//! What a world does over time: what one golden case cannot show.

use k8s_openapi::api::core::v1::Service;
use nave_api::{NodeSet, TCPLoadBalancer};
use serde_json::{Value, json};

mod cluster;
mod unreadable;

use super::{Doomed, Step, Target, Work, World};
use crate::{Change, Cluster, Key, Policy, intent};

fn service(version: u64, status: &Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": version.to_string(),
            "finalizers": ["nave.dev/agent"]},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "nave.dev/load-balancer",
            "ports": [{"port": 443, "nodePort": 31443}]},
        "status": {"loadBalancer": {"ingress": status}},
    }))
    .unwrap()
}

/// The cluster to which the namespace belongs, unless a test says otherwise.
fn own() -> Cluster {
    Cluster::owner("c1".parse().unwrap())
}

fn key() -> Key {
    Key { namespace: "shop".into(), name: "web".into() }
}

/// The hub's answer to what the Service asks.
fn answered(service: &Service) -> TCPLoadBalancer {
    let mode = crate::backends::Mode::NodePort;
    let mut intent = intent::intent(service, mode, &crate::backends::Ways::default(), None).0.unwrap();
    intent.metadata.generation = Some(1);
    intent.metadata.uid = Some("i1".into());
    intent.metadata.labels.get_or_insert_default().insert("nave.dev/cluster".into(), "c1".into());
    intent.metadata.resource_version = Some("5".into());
    intent.status = serde_json::from_value(json!({
        "addresses": [{"value": "203.0.113.7", "family": "IPv4", "pool": "public"}],
        "conditions": [{"type": "Programmed", "status": "True", "reason": "Programmed", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}],
    }))
    .unwrap();
    intent
}

/// A world in which the Service and its intent are listed.
fn world(service: Service) -> World {
    let mut world = World::new(Policy::default());
    world.see_cluster(own());
    world.see_intent(Change::listed(vec![answered(&service)]));
    world.see_service(Change::listed(vec![service]));
    world.see_node(Change::listed(Vec::new()));
    world.see_slice(Change::listed(Vec::new()));
    world.see_node_set(Change::listed(Vec::new()));
    world
}

fn steps(world: &mut World) -> Vec<Step> {
    world.decide(&Work::Service(key())).plan.steps().to_vec()
}

#[test]
fn nothing_is_decided_before_everything_is_listed() {
    let mut world = World::new(Policy::default());
    world.see_service(Change::listed(vec![service(1, &json!(null))]));
    assert_eq!(steps(&mut world), []);
    assert_eq!(world.missing().len(), 5);
}

#[test]
fn a_status_that_another_controller_writes_is_not_fought_over_for_ever() {
    let theirs = json!([{"hostname": "lb.example.com"}]);
    let mut world = world(service(1, &theirs));
    let mut written = 0;
    for version in 2..20 {
        written += steps(&mut world).iter().filter(|step| matches!(step, Step::Show(..))).count();
        world.see_service(Change::Seen(service(version, &theirs)));
    }
    assert_eq!(written, 3);
}

#[test]
fn a_refusal_of_the_hub_is_told_once_until_it_takes_the_intent() {
    let mut world = world(service(1, &json!(null)));
    assert!(world.see_refusal(&key(), "over quota").is_some());
    assert!(world.see_refusal(&key(), "over quota").is_none());
    assert!(world.see_refusal(&key(), "too many ports").is_some());
    world.see_intent(Change::Answered(answered(&service(1, &json!(null)))));
    assert!(world.see_refusal(&key(), "too many ports").is_some());
}

#[test]
fn a_problem_is_told_once_while_it_lasts() {
    let mut world = world(service(1, &json!(null)));
    let mut bad = service(2, &json!(null));
    bad.metadata.annotations = Some([("nave.dev/balancing".to_owned(), "fastest".to_owned())].into());
    world.see_service(Change::Seen(bad.clone()));
    let mut told = || world.decide(&Work::Service(key())).notices.len();
    assert_eq!((told(), told()), (1, 0));
}

#[test]
fn kind_m_many_problems_of_one_service_are_a_few_events() {
    let mut world = world(service(1, &json!(null)));
    let mut bad = service(2, &json!(null));
    let annotations = (0..1000).map(|n| (format!("nave.dev/field-{n}"), String::new())).collect();
    bad.metadata.annotations = Some(annotations);
    world.see_service(Change::Seen(bad));
    let notices = world.decide(&Work::Service(key())).notices;
    assert_eq!(notices.len(), 17);
    assert_eq!(notices[16].note, "984 more problems of this Service have no Event: fix the others first");
    assert!(world.decide(&Work::Service(key())).notices.is_empty());
}

#[test]
fn kind_m_what_mostly_ends_by_itself_is_said_once_it_has_lasted_and_stays_said_after_a_restart() {
    let selecting = |version: u64, said: &Value| {
        let mut service = service(version, &json!([{"ip": "203.0.113.7", "ipMode": "Proxy"}]));
        service.spec.as_mut().unwrap().selector = Some([("app".to_owned(), "web".to_owned())].into());
        service.status.as_mut().unwrap().conditions = serde_json::from_value(said.clone()).unwrap();
        service
    };
    let said =
        |steps: Vec<Step>| steps.into_iter().filter(|step| matches!(step, Step::Say(..) | Step::Hush(..))).count();
    let mut world = world(selecting(1, &json!([])));
    assert_eq!((said(steps(&mut world)), world.turn().len()), (0, 0));
    assert_eq!((said(steps(&mut world)), world.turn().len()), (0, 1));
    assert_eq!(said(steps(&mut world)), 1);
    let condition = json!([{"type": "nave.dev/Accepted", "status": "True", "reason": "NoReadyEndpoints",
        "message": "none", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let [Step::Say(_, saying)] = &steps(&mut self::world(selecting(1, &condition)))[..] else { panic!("one saying") };
    assert_eq!(saying.reason, "NoReadyEndpoints", "it is not taken back, and says what is so now");
}

#[test]
fn another_hub_is_another_beginning() {
    let mut world = world(service(1, &json!(null)));
    world.forget_hub();
    assert_eq!(steps(&mut world), []);
    assert_eq!(world.missing(), ["the hub's TCPLoadBalancers", "the hub's NodeSets", "the hub's Lease"]);
}

#[test]
fn an_answer_to_our_own_write_counts_at_once() {
    let mut world = World::new(Policy::default());
    world.see_cluster(own());
    world.see_intent(Change::listed(Vec::new()));
    world.see_service(Change::listed(vec![service(1, &json!(null))]));
    world.see_node(Change::listed(Vec::new()));
    world.see_slice(Change::listed(Vec::new()));
    world.see_node_set(Change::listed(Vec::new()));
    let [Step::Apply(intent)] = &steps(&mut world)[..] else { panic!("one apply") };
    let mut answer = (**intent).clone();
    answer.metadata.resource_version = Some("7".into());
    world.see_intent(Change::Answered(answer));
    assert_eq!(steps(&mut world), []);
}

#[test]
fn an_agent_that_leaves_lets_go_of_everything() {
    let shown = json!([{"ip": "203.0.113.7", "ipMode": "Proxy"}]);
    let policy = Policy { leaving: true, ..Policy::default() };
    let mut world = World { policy, ..world(service(1, &shown)) };
    let target = Target { key: key(), uid: "u1".into() };
    let delete = Step::Delete(Doomed { name: intent::name(&key()), seen: Some(("i1".into(), "5".into())) });
    assert_eq!(steps(&mut world), [delete, Step::Show(target.clone(), Vec::new()), Step::Release(target)]);
    assert!(world.decide(&Work::NodeSet).plan.is_empty());
    let nodes = serde_json::from_value(json!({"metadata": {"name": "default"}, "spec": {"nodes": []}})).unwrap();
    world.see_node_set(Change::Seen(nodes));
    assert_eq!(world.decide(&Work::NodeSet).plan.steps(), [Step::DeleteNodes("default".into())]);
}

#[test]
fn a_hub_that_stores_something_else_is_asked_once_for_each_wish() {
    let mut world = world(service(1, &json!([{"ip": "203.0.113.7", "ipMode": "Proxy"}])));
    let pool = |version: u64, pool: &str| {
        let mut service = service(version, &json!([{"ip": "203.0.113.7", "ipMode": "Proxy"}]));
        service.metadata.annotations = Some([("nave.dev/pool".to_owned(), pool.to_owned())].into());
        service
    };
    // A hub whose schema knows no pool: it drops the field, whatever it is asked.
    let dropped = |version: &str| {
        let mut answer = answered(&service(1, &json!(null)));
        answer.metadata.resource_version = Some(version.into());
        Change::Answered(answer)
    };
    let applies = |steps: Vec<Step>| steps.iter().filter(|step| matches!(step, Step::Apply(_))).count();
    world.see_service(Change::Seen(pool(2, "a")));
    assert_eq!(applies(steps(&mut world)), 1);
    world.see_intent(dropped("6"));
    assert_eq!(applies(steps(&mut world)), 0);
    world.see_service(Change::Seen(pool(3, "b")));
    assert_eq!(applies(steps(&mut world)), 1);
    world.see_intent(dropped("7"));
    assert_eq!(applies(steps(&mut world)), 0);
}

#[test]
fn what_the_hub_does_not_take_stays_as_a_condition_until_it_does() {
    let mut world = world(service(1, &json!(null)));
    let verdict = |world: &mut World| {
        let said = steps(world).into_iter().filter_map(|step| {
            let Step::Say(_, saying) = step else { return None };
            Some((saying.status, saying.reason, saying.message))
        });
        said.collect::<Vec<_>>()
    };
    let says = |status: &str| {
        (
            status.to_owned(),
            "RefusedByHub".to_owned(),
            "The hub refuses the load balancer of this Service: over quota".to_owned(),
        )
    };
    world.see_refusal(&key(), "over quota");
    assert_eq!(verdict(&mut world), [says("True")], "what it took before is served");
    world.see_intent(Change::Gone(answered(&service(1, &json!(null))).metadata));
    assert_eq!(verdict(&mut world), [says("False")]);
    let mut taken = answered(&service(1, &json!(null)));
    taken.metadata.resource_version = Some("6".into());
    world.see_intent(Change::Answered(taken));
    assert_eq!(verdict(&mut world), []);
}

#[test]
fn a_hub_that_went_back_to_older_versions_is_told_anew() {
    let mut world = world(service(1, &json!(null)));
    let node_set = |version: &str, nodes: Value| {
        let metadata = json!({"name": "default", "resourceVersion": version, "labels": {"nave.dev/cluster": "c1"}});
        serde_json::from_value::<NodeSet>(json!({"metadata": metadata, "spec": {"nodes": nodes}})).unwrap()
    };
    world.see_node_set(Change::Seen(node_set("9", json!([]))));
    assert!(world.decide(&Work::NodeSet).plan.is_empty());
    let touched = world.see_node_set(Change::listed(vec![node_set("4", json!([{"name": "n1", "addresses": []}]))]));
    assert!(touched.work.contains(&Work::NodeSet));
    assert!(matches!(world.decide(&Work::NodeSet).plan.steps(), [Step::ApplyNodes(_)]));
}

#[test]
fn an_answer_of_the_hub_that_its_watch_never_confirms_is_asked_for_again() {
    let mut world = world(service(1, &json!(null)));
    let mut ports = service(2, &json!(null));
    ports.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 8443;
    let applies = |world: &mut World| steps(world).iter().filter(|step| matches!(step, Step::Apply(_))).count();
    let mut answer = answered(&ports);
    answer.metadata.resource_version = Some("90".into());
    world.see_service(Change::Seen(ports));
    assert_eq!(applies(&mut world), 1);
    world.see_intent(Change::Answered(answer));
    world.see_intent(Change::listed(vec![answered(&service(1, &json!(null)))]));
    world.sweep();
    assert_eq!(applies(&mut world), 0);
    assert!(world.sweep().contains(&Work::Service(key())));
    assert_eq!(applies(&mut world), 1);
}
