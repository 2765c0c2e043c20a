//! One golden case: its objects, the world that sees them, and a spoke and a hub that do as they are told. Knows no
//! expectation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use nave_agent_core::nodes::AddressType;
use nave_agent_core::status::Topic;
use nave_agent_core::{Change, Cluster, Key, Notice, Policy, Saying, Step, Target, Tenancy, World};
use nave_api::{NodeSet, TCPLoadBalancer, names};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    #[serde(default)]
    default_load_balancer: bool,
    #[serde(default)]
    address_types: Vec<String>,
    #[serde(default)]
    backends: String,
    #[serde(default)]
    resolved: BTreeMap<String, BTreeSet<IpAddr>>,
    #[serde(default)]
    tenancy: String,
    /// Everything is as it is for a while already.
    #[serde(default)]
    lasting: bool,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(default)]
    slices: Vec<EndpointSlice>,
    #[serde(default)]
    intents: Vec<TCPLoadBalancer>,
    #[serde(default)]
    node_sets: Vec<NodeSet>,
}

#[derive(Serialize)]
struct Done {
    work: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
}

impl Case {
    /// What is done, as YAML, and what would be done once more after that.
    pub fn run(&self, order: u64) -> (String, Vec<String>) {
        let mut case = self.clone();
        case.shuffle(order);
        let mut world = case.world();
        let done = case.decide(&mut world);
        let text = if done.is_empty() { "[]\n".to_owned() } else { serde_saphyr::to_string(&done).unwrap() };
        let mut world = case.world();
        let again = case.decide(&mut world).into_iter().filter(|done| !done.steps.is_empty());
        (text, again.map(|done| format!("{}: {:?}", done.work, done.steps)).collect())
    }

    /// Decides everything, and changes the objects as a spoke and a hub would.
    fn decide(&mut self, world: &mut World) -> Vec<Done> {
        let mut all = Vec::new();
        // What names mean is known once somebody has asked for it.
        for work in world.all().into_iter().filter(|_| !self.resolved.is_empty()) {
            world.decide(&work);
        }
        for (name, addresses) in &self.resolved {
            world.see_resolved(name, addresses.clone());
        }
        if self.lasting {
            for work in world.all() {
                world.decide(&work);
            }
            world.turn();
            world.turn();
        }
        for work in world.all() {
            let decision = world.decide(&work);
            let steps: Vec<Step> = decision.plan.steps().to_vec();
            let shown = steps.iter().map(render).collect();
            let notices =
                decision.notices.iter().map(|Notice { reason, note, .. }| format!("{reason}: {note}")).collect();
            for step in steps {
                self.perform(step);
            }
            all.push(Done { work: work.to_string(), steps: shown, notices });
        }
        all.retain(|done| !done.steps.is_empty() || !done.notices.is_empty());
        all
    }

    fn world(&self) -> World {
        let default = Policy::default();
        let types: Vec<AddressType> = self.address_types.iter().map(|text| text.parse().unwrap()).collect();
        let address_types = if types.is_empty() { default.address_types } else { types };
        let backends = if self.backends.is_empty() { default.backends } else { self.backends.parse().unwrap() };
        let mut world = World::new(Policy {
            default_load_balancer: self.default_load_balancer,
            address_types,
            backends,
            ..default
        });
        world.see_cluster(Cluster::owner("c1".parse().unwrap()));
        world.see_intent(Change::listed(self.intents.iter().cloned().map(marked).collect()));
        world.see_service(Change::listed(self.services.clone()));
        world.see_node(Change::listed(self.nodes.clone()));
        world.see_slice(Change::listed(self.slices.clone()));
        world.see_node_set(Change::listed(self.node_sets.iter().cloned().map(marked).collect()));
        world.see_tenancy(match self.tenancy.as_str() {
            "" => Tenancy::There,
            "Refused" => Tenancy::Refused,
            "Ended" => Tenancy::Ended,
            other => panic!("{other} is no tenancy"),
        });
        world
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Hold(target) => {
                self.service(&target, |service| service.finalizers_mut().push(names::AGENT_FINALIZER.to_owned()));
            }
            Step::Release(target) => {
                self.service(&target, |service| service.finalizers_mut().retain(|f| f != names::AGENT_FINALIZER));
            }
            Step::Show(target, ingress) => self.service(&target, |service| show(service, ingress)),
            Step::Say(target, Saying { topic, status, reason, message, since }) => self.service(&target, |service| {
                let last_transition_time = since.unwrap_or(Time(Timestamp::UNIX_EPOCH));
                let type_ = topic.as_str().to_owned();
                let condition =
                    Condition { type_, status, reason, message, last_transition_time, observed_generation: None };
                hush(service, topic).push(condition);
            }),
            Step::Hush(target, topic) => self.service(&target, |service| {
                hush(service, topic);
            }),
            Step::Apply(mut intent) | Step::Adopt(mut intent) => {
                let name = intent.name_any();
                let old = self.intents.iter().position(|old| old.name_any() == name);
                if let Some(old) = old.map(|at| self.intents.remove(at)) {
                    intent.status = old.status;
                }
                self.intents.push(*intent);
            }
            Step::ApplyNodes(nodes) => self.node_sets = vec![*nodes],
            Step::DeleteNodes(name) => self.node_sets.retain(|set| set.name_any() != name),
            Step::Confirm(_) => {}
            Step::Delete(doomed) => self.intents.retain(|intent| intent.name_any() != doomed.name),
        }
    }

    fn service(&mut self, target: &Target, change: impl FnOnce(&mut Service)) {
        let found = self.services.iter_mut().find(|service| Key::of(*service) == target.key);
        let service = found.expect("steps are about Services that are there");
        assert_eq!(service.uid().unwrap_or_default(), target.uid);
        change(service);
        let ended = service.metadata.deletion_timestamp.is_some() && service.finalizers().is_empty();
        self.services.retain(|service| !ended || Key::of(service) != target.key);
    }

    fn shuffle(&mut self, order: u64) {
        let Self {
            default_load_balancer: _,
            address_types: _,
            backends: _,
            resolved: _,
            tenancy: _,
            lasting: _,
            services,
            nodes,
            slices,
            intents,
            node_sets,
        } = self;
        let mut dice = order;
        shuffle(services, &mut dice);
        shuffle(nodes, &mut dice);
        shuffle(slices, &mut dice);
        shuffle(intents, &mut dice);
        shuffle(node_sets, &mut dice);
    }
}

/// An object of the hub that says no cluster is this cluster's.
fn marked<K: ResourceExt>(mut object: K) -> K {
    object.labels_mut().entry(names::CLUSTER.to_owned()).or_insert_with(|| "c1".to_owned());
    object
}

/// The conditions that are left.
fn hush(service: &mut Service, topic: Topic) -> &mut Vec<Condition> {
    let conditions = service.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != topic.as_str());
    conditions
}

fn show(service: &mut Service, ingress: Vec<LoadBalancerIngress>) {
    let balancer = service.status.get_or_insert_default().load_balancer.get_or_insert_default();
    balancer.ingress = (!ingress.is_empty()).then_some(ingress);
}

fn render(step: &Step) -> Value {
    let target = |target: &Target| format!("{} {}", target.key, target.uid);
    match step {
        Step::Hold(service) => json!({"hold": target(service)}),
        Step::Release(service) => json!({"release": target(service)}),
        Step::Show(service, ingress) => json!({"show": ingress, "on": target(service)}),
        Step::Say(service, Saying { topic, status, reason, message, since: _ }) => {
            let said = json!({"status": status, "reason": reason, "message": message});
            json!({"say": said, "as": topic.as_str(), "on": target(service)})
        }
        Step::Hush(service, topic) => json!({"hush": topic.as_str(), "on": target(service)}),
        Step::Apply(intent) => json!({"apply": intent.name_any(), "labels": intent.labels(), "spec": intent.spec}),
        Step::Adopt(intent) => json!({"adopt": intent.name_any(), "labels": intent.labels(), "spec": intent.spec}),
        Step::ApplyNodes(nodes) => json!({"applyNodes": nodes.spec.nodes}),
        Step::DeleteNodes(name) => json!({"deleteNodes": name}),
        Step::Confirm(service) => json!({"confirm": format!("{service} is not there")}),
        Step::Delete(doomed) => json!({"delete": doomed.name}),
    }
}

/// Order 0 is the order as written. The same dice fall the same way every time.
fn shuffle<T>(all: &mut [T], dice: &mut u64) {
    if *dice == 0 {
        return;
    }
    for last in (1..all.len()).rev() {
        *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(*dice >> 33).unwrap() % (last + 1);
        all.swap(last, other);
    }
}
