//! A spoke: its objects and its agent's world, which is the real one. Performs what it decides, as the agent's shell would.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;
use nave_agent_core::status::Topic;
use nave_agent_core::{Change, Cluster, Doomed, Notice, Policy, Saying, Step, Target, Touched, World};
use nave_api::names::{AGENT_FINALIZER, tenant_namespace};
use nave_api::{NodeSet, TCPLoadBalancer};
use nave_manager_core::Key;
use serde_json::{Value, json};

use super::server::Server;
use crate::support::hub::Hub;
use crate::support::objects::at;

/// One user cluster.
pub struct Spoke {
    pub tenant: String,
    pub server: Server,
    /// Events on Services.
    pub events: Vec<Notice>,
    nodes: BTreeMap<String, Node>,
    slices: Vec<EndpointSlice>,
    world: World,
    /// What the agent has seen of its load balancers in the hub.
    seen: BTreeMap<Key, TCPLoadBalancer>,
}

impl Spoke {
    pub fn new(tenant: &str, policy: Policy) -> Self {
        let server = Server::default();
        let (nodes, seen, world) = (BTreeMap::new(), BTreeMap::new(), World::new(policy));
        let mut spoke =
            Self { tenant: tenant.to_owned(), server, events: Vec::new(), nodes, slices: Vec::new(), world, seen };
        for which in 1..=2 {
            spoke.node(node(&format!("n{which}"), true, &json!([["InternalIP", format!("10.1.0.{which}")]])));
        }
        spoke.list(Vec::new(), Vec::new());
        spoke
    }

    /// The agent begins anew.
    pub fn restart(&mut self, policy: Policy, hub: &Hub) {
        self.world = World::new(policy);
        self.server.news.clear();
        self.seen = self.present(hub);
        let nodes = hub.node_sets.iter().filter(|(key, _)| *key.namespace == *self.namespace());
        self.list(self.seen.values().cloned().collect(), nodes.map(|(_, set)| set.clone()).collect());
    }

    pub fn namespace(&self) -> String {
        tenant_namespace(&self.tenant)
    }

    pub fn node(&mut self, node: Value) {
        let node: Node = serde_json::from_value(node).unwrap();
        self.nodes.insert(node.name_any(), node.clone());
        self.world.see_node(Change::Seen(node));
    }

    pub fn lose_node(&mut self, name: &str) {
        let node = self.nodes.remove(name).expect("a node that is there");
        self.world.see_node(Change::Gone(node.metadata));
    }

    pub fn slice(&mut self, slice: Value) {
        let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
        self.slices.retain(|old| old.name_any() != slice.name_any());
        self.slices.push(slice.clone());
        self.world.see_slice(Change::Seen(slice));
    }

    /// The agent sees the spoke's news, decides everything and does it; returns whether there was anything to do.
    pub fn work(&mut self, hub: &mut Hub) -> bool {
        for change in std::mem::take(&mut self.server.news) {
            let touched = self.world.see_service(change);
            self.hear(touched);
        }
        let mut worked = false;
        for work in self.world.all() {
            let decision = self.world.decide(&work);
            self.events.extend(decision.notices);
            for step in decision.plan.steps() {
                worked = true;
                if !self.perform(hub, step.clone()) {
                    break;
                }
            }
        }
        worked || !self.server.news.is_empty()
    }

    /// The agent sees the hub's news; returns whether there were any.
    pub fn look(&mut self, hub: &Hub) -> bool {
        let present = self.present(hub);
        let before = std::mem::replace(&mut self.seen, present.clone());
        for (key, object) in &before {
            if !present.contains_key(key) {
                let touched = self.world.see_intent(Change::Gone(object.metadata.clone()));
                self.hear(touched);
            }
        }
        for (key, object) in &present {
            if before.get(key) != Some(object) {
                let touched = self.world.see_intent(Change::Seen(object.clone()));
                self.hear(touched);
            }
        }
        before != present
    }

    fn hear(&mut self, touched: Touched) {
        let Touched { work: _, notices } = touched; // everything is decided anyway
        self.events.extend(notices);
    }

    fn present(&self, hub: &Hub) -> BTreeMap<Key, TCPLoadBalancer> {
        let namespace = self.namespace();
        let ours = hub.balancers.iter().filter(|(key, _)| *key.namespace == *namespace);
        ours.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    fn list(&mut self, intents: Vec<TCPLoadBalancer>, node_sets: Vec<NodeSet>) {
        self.world.see_cluster(Cluster::owner("c1".parse().unwrap()));
        self.world.see_intent(Change::listed(intents));
        self.world.see_service(Change::listed(self.server.services.values().cloned().collect()));
        self.world.see_node(Change::listed(self.nodes.values().cloned().collect()));
        self.world.see_slice(Change::listed(self.slices.clone()));
        self.world.see_node_set(Change::listed(node_sets));
    }

    /// Whether to go on with the next step.
    fn perform(&mut self, hub: &mut Hub, step: Step) -> bool {
        match step {
            Step::Hold(target) => self.write(&target, |service| service.finalizers_mut().push(AGENT_FINALIZER.into())),
            Step::Release(target) => {
                self.write(&target, |service| service.finalizers_mut().retain(|f| f != AGENT_FINALIZER));
            }
            Step::Show(target, ingress) => self.write(&target, |service| {
                let balancer = service.status.get_or_insert_default().load_balancer.get_or_insert_default();
                balancer.ingress = (!ingress.is_empty()).then_some(ingress);
            }),
            Step::Say(target, saying) => self.write(&target, |service| say(service, saying)),
            Step::Hush(target, topic) => self.write(&target, |service| {
                hush(service, topic);
            }),
            Step::Apply(mut intent) | Step::Adopt(mut intent) => {
                intent.metadata.namespace = Some(self.namespace());
                let key = Key::of(&*intent);
                hub.balancer(*intent);
                let stored = hub.balancers[&key].clone();
                self.seen.insert(key, stored.clone());
                let touched = self.world.see_intent(Change::Answered(stored));
                self.hear(touched);
            }
            Step::ApplyNodes(mut nodes) => {
                nodes.metadata.namespace = Some(self.namespace());
                let key = Key::of(&*nodes);
                hub.node_set(*nodes);
                self.world.see_node_set(Change::Answered(hub.node_sets[&key].clone()));
            }
            Step::DeleteNodes(_) => panic!("these agents stay"),
            Step::Confirm(key) => return !self.server.services.contains_key(&key),
            Step::Delete(Doomed { name, seen: _ }) => {
                let key = Key::new(self.namespace(), name.as_str());
                hub.delete_balancer(&self.namespace(), &name);
                if let Some(gone) = self.seen.remove(&key) {
                    let touched = self.world.see_intent(Change::Gone(gone.metadata));
                    self.hear(touched);
                }
            }
        }
        true
    }

    fn write(&mut self, target: &Target, change: impl FnOnce(&mut Service)) {
        self.server.change(&target.key, &target.uid, change);
    }
}

/// A Node with these addresses, pairs of type and address.
pub fn node(name: &str, ready: bool, addresses: &Value) -> Value {
    let addresses = addresses.as_array().unwrap().iter().map(|pair| json!({"type": pair[0], "address": pair[1]}));
    let addresses: Vec<Value> = addresses.collect();
    let ready = if ready { "True" } else { "False" };
    json!({
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": addresses},
    })
}

fn say(service: &mut Service, saying: Saying) {
    let Saying { topic, status, reason, message, since } = saying;
    let last_transition_time = since.unwrap_or(Time(at(0)));
    let type_ = topic.as_str().to_owned();
    let condition = Condition { type_, status, reason, message, last_transition_time, observed_generation: None };
    hush(service, topic).push(condition);
}

/// The conditions that are left.
fn hush(service: &mut Service, topic: Topic) -> &mut Vec<Condition> {
    let conditions = service.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != topic.as_str());
    conditions
}
