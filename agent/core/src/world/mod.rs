//! All that the agent knows, and what it makes of it. Fed with changes, asked for decisions; performs nothing.

mod asked;
mod cluster;
mod contest;
mod decide;
mod endpoints;
mod nodes;
mod patience;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use nave_api::{NodeSet, NodeSetSpec, TCPLoadBalancer, TCPLoadBalancerSpec};

use crate::backends::Mode;
use crate::mirror::Mirror;
use crate::ownership::{self, Claim};
use crate::{Change, Cluster, Key, Notice, Policy, Problem, Tenancy, Unreadable, events, intent};
use asked::Asked;
use contest::Contest;
use endpoints::Endpoints;
use nodes::Nodes;
use patience::Patience;
pub use steps::{Decision, Doomed, Plan, Saying, Step, Target, Touched, Work};

/// The agent's whole knowledge, kept by one owner.
#[derive(Debug)]
pub struct World {
    policy: Policy,
    services: Mirror<Service>,
    intents: Mirror<TCPLoadBalancer>,
    node_sets: Mirror<NodeSet>,
    nodes: Nodes,
    endpoints: Endpoints,
    /// Names of clouds' load balancers, and the Services that want them resolved.
    names: BTreeMap<String, BTreeSet<Key>>,
    resolved: BTreeMap<String, BTreeSet<IpAddr>>,
    tenancy: Tenancy,
    /// Which cluster we are, and to which the tenant's namespace belongs; `None`: nothing in the hub is ours to touch yet.
    cluster: Option<Cluster>,
    /// What the user has been told already, so that he is told once.
    told: BTreeMap<Key, BTreeSet<Problem>>,
    /// What the hub said when it took an intent last not, so that it is told once.
    refusals: BTreeMap<Key, String>,
    asked: Asked<TCPLoadBalancerSpec>,
    asked_nodes: Asked<NodeSetSpec>,
    /// Statuses that we write, and somebody else perhaps, too.
    contests: BTreeMap<Key, Contest>,
    patience: Patience,
}

impl World {
    /// A world in which nothing has been seen.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            services: Mirror::default(),
            intents: Mirror::default(),
            node_sets: Mirror::default(),
            nodes: Nodes::default(),
            endpoints: Endpoints::default(),
            names: BTreeMap::new(),
            resolved: BTreeMap::new(),
            tenancy: Tenancy::There,
            cluster: None,
            told: BTreeMap::new(),
            refusals: BTreeMap::new(),
            asked: Asked::default(),
            asked_nodes: Asked::default(),
            contests: BTreeMap::new(),
            patience: Patience::default(),
        }
    }

    /// Takes in what was seen of the spoke's Services.
    pub fn see_service(&mut self, change: Change<Service>) -> Touched {
        let listed = is_list(&change);
        let keys = self.services.take(self.with_ending(change));
        self.touched(listed, keys.into_iter().map(Work::Service))
    }

    /// Takes in what was seen of our load balancers in the hub.
    pub fn see_intent(&mut self, change: Change<TCPLoadBalancer>) -> Touched {
        let listed = is_list(&change);
        let notices = if let Change::Seen(intent) = &change { self.notices(intent) } else { Vec::new() };
        let before = if listed { self.subjects() } else { BTreeSet::new() };
        let gone = if let Change::Gone(metadata) = &change { self.subject(metadata) } else { None };
        if let Change::Answered(intent) = &change
            && let Some(service) = intent::subject(intent)
        {
            self.refusals.remove(&service);
            self.asked.answered(&service, &intent.spec, intent.metadata.generation);
        }
        let keys = self.intents.take(change.without_namespace());
        let present = keys.iter().filter_map(|key| self.intents.find(key)).filter_map(intent::subject);
        let subjects: BTreeSet<Key> = present.chain(gone).chain(before).collect();
        Touched { notices, ..self.touched(listed, subjects.into_iter().map(Work::Service)) }
    }

    /// Takes in what was seen of our nodes in the hub.
    pub fn see_node_set(&mut self, change: Change<NodeSet>) -> Touched {
        let listed = is_list(&change);
        if let Change::Answered(nodes) = &change {
            self.asked_nodes.answered(&hub_key(&nodes.name_any()), &nodes.spec, nodes.metadata.generation);
        }
        let before = self.named_nodes();
        self.node_sets.take(change.without_namespace());
        let renamed = before != self.named_nodes();
        self.touched(listed || renamed, [Work::NodeSet].into_iter())
    }

    /// Takes in what was seen of the spoke's nodes. What is wrong with all of them is said on every Service.
    pub fn see_node(&mut self, change: Change<Node>) -> Touched {
        let listed = is_list(&change);
        let concerns_all = self.nodes.take(change, &self.policy);
        let services = self.services.keys().filter(|_| concerns_all).cloned().map(Work::Service);
        self.touched(listed, services.chain([Work::NodeSet]))
    }

    /// Takes in what was seen of the spoke's EndpointSlices.
    pub fn see_slice(&mut self, change: Change<EndpointSlice>) -> Touched {
        let listed = is_list(&change);
        let services = self.endpoints.take(change);
        let matter = |key: &Key| self.services.find(key).is_some_and(|service| self.needs_endpoints(service));
        let work: Vec<Work> = services.into_iter().filter(matter).map(Work::Service).collect();
        self.touched(listed, work.into_iter())
    }

    /// Takes in what a name of a cloud's load balancer means now. What it meant last stays while nobody can say.
    pub fn see_resolved(&mut self, name: &str, addresses: BTreeSet<IpAddr>) -> Touched {
        let Some(services) = self.names.get(name).filter(|_| !addresses.is_empty()) else { return Touched::default() };
        let work: Vec<Work> = services.iter().cloned().map(Work::Service).collect();
        let before = self.resolved.insert(name.to_owned(), addresses);
        let same = before.as_ref() == self.resolved.get(name);
        self.touched(false, work.into_iter().filter(|_| !same))
    }

    /// Names that somebody has to resolve, again and again.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
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
        self.asked = Asked::default();
        self.asked_nodes = Asked::default();
        self.tenancy = Tenancy::There;
        self.cluster = None;
    }

    /// What has not been listed yet; empty when we are ready to decide.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (self.services.is_listed(), "the spoke's Services"),
            (self.nodes.is_listed(), "the spoke's Nodes"),
            (self.endpoints.is_listed(), "the spoke's EndpointSlices"),
            (self.intents.is_listed(), "the hub's TCPLoadBalancers"),
            (self.node_sets.is_listed(), "the hub's NodeSets"),
            (self.cluster.is_some(), "the hub's Lease"),
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
        (self.services.len(), self.intents.len(), self.nodes.len())
    }

    /// Everything is looked at again: what was left to others is tried once more, and what no watch confirmed is doubted.
    pub fn sweep(&mut self) -> BTreeSet<Work> {
        self.contests.values_mut().for_each(Contest::try_again);
        let mut work = self.all();
        self.services.settle();
        self.intents.settle();
        self.node_sets.settle();
        work.extend(self.all());
        work
    }

    /// A turn has passed: what is not as it should be, and has lasted for two turns, is said now.
    pub fn turn(&mut self) -> BTreeSet<Work> {
        self.patience.turn().into_iter().map(Work::Service).collect()
    }

    /// Everything there is to decide.
    pub fn all(&self) -> BTreeSet<Work> {
        let services = self.services.keys().cloned().chain(self.subjects());
        services.map(Work::Service).chain([Work::NodeSet]).collect()
    }

    /// Whether nothing of ours is left: no finalizer in the spoke and, while the hub knows us, no object in it.
    pub fn is_left(&self) -> bool {
        let held = self.services.objects().any(ownership::is_held);
        let there = self.tenancy == Tenancy::There;
        let intents = self.intents.objects().filter(|intent| intent::subject(intent).is_some());
        let ours = intents.map(|intent| &intent.metadata).chain(self.node_sets.objects().map(|set| &set.metadata));
        !held && (!there || !ours.into_iter().any(|metadata| self.made(metadata)))
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

    fn needs_endpoints(&self, service: &Service) -> bool {
        match ownership::claim(service, &self.policy) {
            Claim::Whole(Mode::PodIp | Mode::NodePort) | Claim::Beside(Mode::PodIp | Mode::NodePort) => true,
            Claim::Whole(Mode::Provider) | Claim::Beside(Mode::Provider) | Claim::None => false,
        }
    }

    fn subjects(&self) -> BTreeSet<Key> {
        self.intents.objects().filter_map(intent::subject).collect()
    }

    fn notices(&self, new: &TCPLoadBalancer) -> Vec<Notice> {
        let Some(key) = intent::subject(new) else { return Vec::new() };
        let Some(service) = self.services.find(&key).filter(|_| self.made(&new.metadata)) else { return Vec::new() };
        let uid = service.uid().unwrap_or_default();
        let old = self.intents.find(&hub_key(&new.name_any())).and_then(|old| old.status.as_ref());
        events::between(old, new.status.as_ref()).into_iter().map(|word| word.on(&key, &uid)).collect()
    }

    /// A Service that is to go is let go, whatever else cannot be read of it.
    fn with_ending(&self, change: Change<Service>) -> Change<Service> {
        let going = |of: &Unreadable| self.policy.leaving || of.metadata.deletion_timestamp.is_some();
        let bare = |of: Unreadable| Service { metadata: of.metadata, ..Service::default() };
        match change {
            Change::Unreadable(unreadable) if going(&unreadable) => Change::Seen(bare(unreadable)),
            Change::Listed { mut objects, unreadable } => {
                let (going, unreadable): (Vec<_>, Vec<_>) = unreadable.into_iter().partition(going);
                objects.extend(going.into_iter().map(bare));
                Change::Listed { objects, unreadable }
            }
            other => other,
        }
    }

    /// The Service that an intent with these metadata, which was read once, stands for.
    fn subject(&self, metadata: &ObjectMeta) -> Option<Key> {
        self.intents.find(&hub_key(metadata.name.as_deref()?)).and_then(intent::subject)
    }
}

/// The key of an object in the hub: all of ours are in one namespace, which is the credential's matter.
fn hub_key(name: &str) -> Key {
    Key { namespace: String::new(), name: name.to_owned() }
}

fn is_list<K>(change: &Change<K>) -> bool {
    matches!(change, Change::Listed { .. })
}
