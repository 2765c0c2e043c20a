//! All that the agent knows, and what it makes of it. Fed with changes, asked for decisions; performs nothing.

mod decide;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Resource, ResourceExt};
use nave_api::{NodeSet, TCPLoadBalancer, names, node_set};

use crate::mirror::Mirror;
use crate::slices::Slice;
use crate::{Change, Key, Notice, Policy, Problem, Tenancy, events, intent, nodes};

/// What is decided, and done, as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// The ready nodes.
    NodeSet,
    /// One Service and what stands for it in the hub.
    Service(Key),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NodeSet => f.write_str("the nodes"),
            Self::Service(key) => write!(f, "Service {key}"),
        }
    }
}

/// A Service as it was when we decided on it: one of the same name that came later is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its namespace and name.
    pub key: Key,
    /// Its uid.
    pub uid: String,
}

/// One planned effect. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Put our finalizer on the Service.
    Hold(Target),
    /// Take our finalizer from the Service.
    Release(Target),
    /// Show this in the Service's status.
    Show(Target, Vec<LoadBalancerIngress>),
    /// Apply a load balancer in the hub.
    Apply(Box<TCPLoadBalancer>),
    /// Apply the nodes in the hub.
    ApplyNodes(Box<NodeSet>),
    /// Go on only when the spoke itself says that the Service is not there: what we have seen may be old.
    Confirm(Key),
    /// Delete the load balancer of this name in the hub, and go on only when it is gone.
    Delete(String),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// At once, in any order.
    Together(Vec<Step>),
    /// One after the other; the first that does not succeed ends it, and a change will bring us back.
    InTurn(Vec<Step>),
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps().is_empty()
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Together(steps) | Self::InTurn(steps) => steps,
        }
    }
}

/// What was decided on one [`Work`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub plan: Plan,
    /// What to tell the user.
    pub notices: Vec<Notice>,
}

/// What a change asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Touched {
    /// To be decided again.
    pub work: BTreeSet<Work>,
    /// To be told.
    pub notices: Vec<Notice>,
}

/// The agent's whole knowledge, kept by one owner.
#[derive(Debug)]
pub struct World {
    policy: Policy,
    services: Mirror<Service>,
    intents: Mirror<TCPLoadBalancer>,
    node_sets: Mirror<NodeSet>,
    nodes: BTreeMap<String, node_set::Node>,
    nodes_listed: bool,
    slices: BTreeMap<Key, Slice>,
    slices_of: BTreeMap<Key, BTreeSet<Key>>,
    slices_listed: bool,
    tenancy: Tenancy,
    /// What the user has been told already, so that he is told once.
    told: BTreeMap<Key, BTreeSet<Problem>>,
    /// What the hub said when it took an intent last not, so that it is told once.
    refusals: BTreeMap<Key, String>,
}

impl World {
    /// A world in which nothing has been seen.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            services: Mirror::default(),
            intents: Mirror::default(),
            node_sets: Mirror::default(),
            nodes: BTreeMap::new(),
            nodes_listed: false,
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            slices_listed: false,
            tenancy: Tenancy::There,
            told: BTreeMap::new(),
            refusals: BTreeMap::new(),
        }
    }

    /// Takes in what was seen of the spoke's Services.
    pub fn see_service(&mut self, change: Change<Service>) -> Touched {
        let listed = matches!(change, Change::Listed(_));
        let keys = self.services.take(change);
        self.touched(listed, keys.into_iter().map(Work::Service))
    }

    /// Takes in what was seen of our load balancers in the hub.
    pub fn see_intent(&mut self, change: Change<TCPLoadBalancer>) -> Touched {
        let listed = matches!(change, Change::Listed(_));
        let notices = if let Change::Seen(intent) = &change { self.notices(intent) } else { Vec::new() };
        let before = if listed { self.subjects() } else { BTreeSet::new() };
        let gone = if let Change::Gone(intent) = &change { intent::subject(intent) } else { None };
        if let Change::Answered(intent) = &change
            && let Some(service) = intent::subject(intent)
        {
            self.refusals.remove(&service);
        }
        let keys = self.intents.take(change.map(without_namespace));
        let present = keys.iter().filter_map(|key| self.intents.find(key)).filter_map(intent::subject);
        let subjects: BTreeSet<Key> = present.chain(gone).chain(before).collect();
        Touched { notices, ..self.touched(listed, subjects.into_iter().map(Work::Service)) }
    }

    /// Takes in what was seen of our nodes in the hub.
    pub fn see_node_set(&mut self, change: Change<NodeSet>) -> Touched {
        let listed = matches!(change, Change::Listed(_));
        let keys = self.node_sets.take(change.map(without_namespace));
        let ours = keys.iter().any(|key| key.name == names::DEFAULT_NODE_SET);
        self.touched(listed, ours.then_some(Work::NodeSet).into_iter())
    }

    /// Takes in what was seen of the spoke's nodes.
    pub fn see_node(&mut self, change: Change<Node>) -> Touched {
        let listed = matches!(change, Change::Listed(_));
        match change {
            Change::Seen(node) | Change::Answered(node) => self.put_node(&node),
            Change::Gone(node) => drop(self.nodes.remove(&node.name_any())),
            Change::Listed(all) => {
                self.nodes.clear();
                self.nodes_listed = true;
                for node in &all {
                    self.put_node(node);
                }
            }
        }
        self.touched(listed, std::iter::once(Work::NodeSet))
    }

    /// Takes in what was seen of the spoke's EndpointSlices: they matter to Services whose traffic stays on its node.
    pub fn see_slice(&mut self, change: Change<EndpointSlice>) -> Touched {
        let listed = matches!(change, Change::Listed(_));
        let mut services = BTreeSet::new();
        match change {
            Change::Seen(slice) | Change::Answered(slice) => {
                services.extend(self.put_slice(&Key::of(&slice), Slice::of(&slice)));
            }
            Change::Gone(slice) => services.extend(self.put_slice(&Key::of(&slice), None)),
            Change::Listed(all) => {
                services.extend(std::mem::take(&mut self.slices_of).into_keys());
                self.slices.clear();
                self.slices_listed = true;
                services.extend(all.iter().flat_map(|slice| self.put_slice(&Key::of(slice), Slice::of(slice))));
            }
        }
        let local = |key: &Key| self.services.find(key).is_some_and(intent::is_local);
        let work: Vec<Work> = services.into_iter().filter(local).map(Work::Service).collect();
        self.touched(listed, work.into_iter())
    }

    /// The hub did not take the intent of a Service, for a reason of the intent's own: what to tell the user, once.
    pub fn see_refusal(&mut self, service: &Key, message: &str) -> Option<Notice> {
        if self.refusals.get(service).is_some_and(|known| known == message) {
            return None;
        }
        let uid = self.services.find(service)?.uid().unwrap_or_default();
        self.refusals.insert(service.clone(), message.to_owned());
        let problem = Problem::Refused { message: message.to_owned() };
        Some(events::Word::from(&problem).on(service, &uid))
    }

    /// Takes in whether the hub knows us.
    pub fn see_tenancy(&mut self, tenancy: Tenancy) -> Touched {
        if self.tenancy == tenancy { Touched::default() } else { self.change_tenancy(tenancy) }
    }

    /// Another hub, or another tenant of it: what we knew of the old one says nothing about the new one.
    pub fn forget_hub(&mut self) {
        self.intents = Mirror::default();
        self.node_sets = Mirror::default();
        self.tenancy = Tenancy::There;
    }

    /// What has not been listed yet; empty when we are ready to decide.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (self.services.is_listed(), "the spoke's Services"),
            (self.nodes_listed, "the spoke's Nodes"),
            (self.slices_listed, "the spoke's EndpointSlices"),
            (self.intents.is_listed(), "the hub's TCPLoadBalancers"),
            (self.node_sets.is_listed(), "the hub's NodeSets"),
        ]
        .into_iter()
        .filter_map(|(listed, what)| (!listed).then_some(what))
        .collect()
    }

    /// Whether the hub knows us.
    pub fn tenancy(&self) -> Tenancy {
        self.tenancy
    }

    /// How many Services there are, load balancers in the hub, and nodes that may get traffic.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.services.keys().count(), self.intents.keys().count(), self.nodes.len())
    }

    /// Everything there is to decide: what a sweep goes through.
    pub fn all(&self) -> BTreeSet<Work> {
        let services = self.services.keys().cloned().chain(self.subjects());
        services.map(Work::Service).chain([Work::NodeSet]).collect()
    }

    /// A list may have completed what was missing, or ended what we do not see: then everything is looked at.
    fn touched(&self, listed: bool, work: impl Iterator<Item = Work>) -> Touched {
        let mut work: BTreeSet<Work> = work.collect();
        if listed {
            work.extend(self.all());
        }
        Touched { work, notices: Vec::new() }
    }

    fn change_tenancy(&mut self, tenancy: Tenancy) -> Touched {
        self.tenancy = tenancy;
        Touched { work: self.all(), notices: Vec::new() }
    }

    fn subjects(&self) -> BTreeSet<Key> {
        self.intents.objects().filter_map(intent::subject).collect()
    }

    fn notices(&self, new: &TCPLoadBalancer) -> Vec<Notice> {
        let Some(key) = intent::subject(new) else { return Vec::new() };
        let Some(service) = self.services.find(&key) else { return Vec::new() };
        let uid = service.uid().unwrap_or_default();
        let old = self.intents.find(&hub_key(&new.name_any())).and_then(|old| old.status.as_ref());
        events::between(old, new.status.as_ref()).into_iter().map(|word| word.on(&key, &uid)).collect()
    }

    fn put_node(&mut self, node: &Node) {
        match nodes::backend(node, &self.policy.address_types) {
            Some(backend) => drop(self.nodes.insert(backend.name.clone(), backend)),
            None => drop(self.nodes.remove(&node.name_any())),
        }
    }

    /// The Services that the slice belonged to and belongs to now, when it says something new.
    fn put_slice(&mut self, key: &Key, new: Option<Slice>) -> BTreeSet<Key> {
        let old = self.slices.remove(key);
        if old == new {
            self.slices.extend(new.map(|slice| (key.clone(), slice)));
            return BTreeSet::new();
        }
        let mut services = BTreeSet::new();
        if let Some(old) = old {
            if let Some(keys) = self.slices_of.get_mut(&old.service) {
                keys.remove(key);
                if keys.is_empty() {
                    self.slices_of.remove(&old.service);
                }
            }
            services.insert(old.service);
        }
        if let Some(new) = new {
            self.slices_of.entry(new.service.clone()).or_default().insert(key.clone());
            services.insert(new.service.clone());
            self.slices.insert(key.clone(), new);
        }
        services
    }
}

/// The key of an object in the hub: all of ours are in one namespace, which is the credential's matter.
fn hub_key(name: &str) -> Key {
    Key { namespace: String::new(), name: name.to_owned() }
}

fn without_namespace<K: Resource>(mut object: K) -> K {
    object.meta_mut().namespace = None;
    object
}
