//! A small model of the hub's API and of the Envoys of its fleets. Knows what a write does; decides nothing.

pub mod cloud;
mod load;
mod perform;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource;
use nave_api::{Fleet, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::{
    Announcement, Engine, HubNode, Key, Kind, Outcome, Role, Seen, Settings, Sight, Step, Timestamp,
};
use nave_xds::catalog::Keep;
use nave_xds::report::{Event, Held, Refusal, Report};
use nave_xds::resource::{Key as ResourceKey, Resource as XdsResource};

use super::objects::at;
use cloud::Cloud;

/// The objects of one kind.
pub type Objects<K> = BTreeMap<Key, K>;

/// The hub: its objects, its Envoys, and an engine that leads.
pub struct Hub {
    pub engine: Engine,
    pub tenants: Objects<Tenant>,
    pub node_sets: Objects<NodeSet>,
    pub balancers: Objects<TCPLoadBalancer>,
    pub pools: Objects<IPPool>,
    pub allocations: Objects<IPAllocation>,
    pub fleets: Objects<Fleet>,
    /// The hub's own cloud.
    pub cloud: Cloud,
    /// What each fleet's Envoys are told to serve.
    pub served: BTreeMap<String, BTreeMap<ResourceKey, XdsResource>>,
    /// Nodes with the label of a fleet.
    pub nodes: BTreeMap<String, String>,
    /// Connected Envoys: fleet and node, and the stream.
    pub envoys: BTreeMap<(String, String), u64>,
    pub announced: Vec<Announcement>,
    /// Status writes of load balancers, for counting.
    pub status_writes: usize,
    /// Every step, in order.
    pub history: Vec<Step>,
    /// Seconds since the beginning.
    pub now: i64,
    revision: u64,
    streams: u64,
    settings: Settings,
    /// Objects that cannot be read: kind and key.
    spoiled: BTreeSet<(String, Key)>,
    /// The last condition that was written of an object that cannot be read.
    pub reports: BTreeMap<(Kind, Key), Condition>,
    /// What Envoys keep, though it is not served.
    pub kept: Keep,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(Settings { hub_networks: vec!["10.96.0.0/12".parse().expect("a network")], ..Settings::default() })
    }
}

impl Hub {
    pub fn new(settings: Settings) -> Self {
        let mut hub = Self {
            engine: Engine::new(settings.clone()),
            tenants: Objects::new(),
            node_sets: Objects::new(),
            balancers: Objects::new(),
            pools: Objects::new(),
            allocations: Objects::new(),
            fleets: Objects::new(),
            cloud: Cloud::default(),
            served: BTreeMap::new(),
            nodes: BTreeMap::new(),
            envoys: BTreeMap::new(),
            announced: Vec::new(),
            status_writes: 0,
            history: Vec::new(),
            now: 0,
            revision: 100,
            streams: 0,
            settings,
            spoiled: BTreeSet::new(),
            reports: BTreeMap::new(),
            kept: Keep::default(),
        };
        hub.list_all();
        hub
    }

    pub fn time(&self) -> Timestamp {
        at(self.now)
    }

    /// Shows the engine complete lists of everything.
    pub fn list_all(&mut self) {
        for seen in self.lists() {
            self.engine.observe(seen);
        }
    }

    /// Complete lists of everything, one per kind.
    pub fn lists(&self) -> Vec<Seen> {
        vec![
            Seen::Fleets(self.listed(self.fleets.values().cloned())),
            Seen::Pools(self.listed(self.pools.values().cloned())),
            Seen::LoadBalancers(self.listed(self.balancers.values().cloned())),
            Seen::NodeSets(self.listed(self.node_sets.values().cloned())),
            Seen::Allocations(self.listed(self.allocations.values().cloned())),
            Seen::Tenants(self.listed(self.tenants.values().cloned())),
            Seen::Deliveries { all: self.cloud.deliveries(), unreadable: BTreeSet::new() },
            Seen::HubNodes(self.hub_nodes()),
            Seen::HubNetworks(Vec::new()),
        ]
    }

    /// A manager that starts anew beside the hub as it is.
    pub fn restart(&mut self) {
        self.engine = Engine::new(self.settings.clone());
        self.served.clear();
        self.kept = Keep::default();
        self.list_all();
        let envoys: Vec<_> = std::mem::take(&mut self.envoys).into_keys().collect();
        for (fleet, node) in envoys {
            self.connect(&fleet, &node);
        }
    }

    pub fn tenant(&mut self, mut object: Tenant) {
        let namespace = object.metadata.name.as_deref().map(nave_api::names::tenant_namespace);
        object.status.get_or_insert_default().namespace = namespace;
        let object = self.put(object, |hub| &mut hub.tenants);
        self.engine.observe(Seen::Tenants(self.seen(object)));
    }

    pub fn node_set(&mut self, object: NodeSet) {
        let object = self.put(object, |hub| &mut hub.node_sets);
        self.engine.observe(Seen::NodeSets(self.seen(object)));
    }

    pub fn pool(&mut self, object: IPPool) {
        let object = self.put(object, |hub| &mut hub.pools);
        self.engine.observe(Seen::Pools(self.seen(object)));
    }

    pub fn fleet(&mut self, object: Fleet) {
        let object = self.put(object, |hub| &mut hub.fleets);
        self.engine.observe(Seen::Fleets(self.seen(object)));
    }

    pub fn balancer(&mut self, object: TCPLoadBalancer) {
        let object = self.put(object, |hub| &mut hub.balancers);
        self.engine.observe(Seen::LoadBalancers(self.seen(object)));
    }

    pub fn delete_balancer(&mut self, namespace: &str, name: &str) {
        let key = Key::new(namespace, name);
        if self.balancers.remove(&key).is_some() {
            self.revision += 1;
            self.engine.observe(Seen::LoadBalancers(Sight::Gone(key)));
        }
    }

    pub fn delete_pool(&mut self, name: &str) {
        let key = Key::cluster(name);
        if self.pools.remove(&key).is_some() {
            self.engine.observe(Seen::Pools(Sight::Gone(key)));
        }
    }

    pub fn delete_tenant(&mut self, name: &str) {
        let key = Key::cluster(name);
        if self.tenants.remove(&key).is_some() {
            self.engine.observe(Seen::Tenants(Sight::Gone(key)));
        }
    }

    /// Puts an object in place: a new one gets uid and birth, an old one keeps them and its status. It can be read: engines go by
    /// what they could read last, so it must not change behind their backs.
    fn put<K: Resource + Kept>(&mut self, mut object: K, shelf: impl Fn(&mut Self) -> &mut Objects<K>) -> K {
        self.revision += 1;
        let (revision, born) = (self.revision, self.time());
        let key = Key::of(&object);
        self.spoil(&K::kind(&()), key.clone(), false);
        let objects = shelf(self);
        let before = objects.remove(&key);
        let meta = object.meta_mut();
        meta.resource_version = Some(revision.to_string());
        if let Some(before) = &before {
            meta.uid.clone_from(&before.meta().uid);
            meta.creation_timestamp.clone_from(&before.meta().creation_timestamp);
            meta.generation = before.meta().generation.map(|g| g + 1);
            object.keep_status(before);
        } else {
            meta.uid = Some(format!("uid-{revision}"));
            meta.creation_timestamp = Some(Time(born));
            meta.generation = Some(1);
        }
        objects.insert(key, object.clone());
        object
    }

    /// The nodes of the hub: those that carry a fleet's label.
    fn hub_nodes(&self) -> Vec<HubNode> {
        let labels = |fleet: &String| BTreeMap::from([("nave.dev/fleet".to_owned(), fleet.clone())]);
        self.nodes.iter().map(|(name, fleet)| HubNode { name: name.as_str().into(), labels: labels(fleet) }).collect()
    }

    /// Labels a node of the hub, or takes its label away.
    pub fn label(&mut self, node: &str, fleet: Option<&str>) {
        match fleet {
            Some(fleet) => drop(self.nodes.insert(node.to_owned(), fleet.to_owned())),
            None => drop(self.nodes.remove(node)),
        }
        self.engine.observe(Seen::HubNodes(self.hub_nodes()));
    }

    /// An Envoy of one of the fleet's nodes comes, asks for everything, and holds nothing or what it held.
    pub fn connect(&mut self, fleet: &str, node: &str) {
        self.label(node, Some(fleet));
        self.open(fleet, node);
        self.report(fleet, node, Event::Wants { everything: true });
    }

    /// An Envoy opens a stream, whatever its node is.
    pub fn open(&mut self, fleet: &str, node: &str) {
        self.streams += 1;
        self.envoys.insert((fleet.to_owned(), node.to_owned()), self.streams);
        self.report(fleet, node, Event::Connected);
    }

    pub fn disconnect(&mut self, fleet: &str, node: &str) {
        self.report(fleet, node, Event::Disconnected);
        self.envoys.remove(&(fleet.to_owned(), node.to_owned()));
    }

    pub fn report(&mut self, fleet: &str, node: &str, event: Event) {
        let Some(stream) = self.envoys.get(&(fleet.to_owned(), node.to_owned())).copied() else { return };
        self.engine.observe(Seen::Envoy(Report { fleet: fleet.into(), node: node.into(), stream, event }));
    }

    /// Every Envoy acknowledges everything that its fleet serves.
    pub fn acknowledge(&mut self) {
        let envoys: Vec<_> = self.envoys.keys().cloned().collect();
        for (fleet, node) in envoys {
            let held = self.served.get(&fleet).into_iter().flatten().map(|(_, resource)| held(resource)).collect();
            self.report(&fleet, &node, Event::Accepted(held));
        }
    }

    /// An Envoy refuses the listener of this name as it is now.
    pub fn refuse(&mut self, fleet: &str, node: &str, listener: &str, message: &str) {
        let found =
            self.served[fleet].values().find(|resource| &**resource.name() == listener).expect("served").clone();
        self.report(fleet, node, Event::Refused(Refusal { held: held(&found), message: message.into() }));
    }

    /// Settles once, publishes, and returns the steps without performing them.
    pub fn decide(&mut self) -> Vec<Step> {
        let Outcome { publish, keep, steps } = self.engine.settle(Role::Leader, self.time());
        self.kept = keep.unwrap_or_else(|| std::mem::take(&mut self.kept));
        for (fleet, change) in publish {
            let served = self.served.entry(fleet).or_default();
            for key in change.remove {
                served.remove(&key);
            }
            for resource in change.upsert {
                served.insert(resource.key(), resource);
            }
        }
        self.history.extend(steps.iter().cloned());
        steps
    }

    /// Decides and performs until nothing follows any more. Envoys acknowledge after each round.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            let steps = self.decide();
            let quiet = steps.is_empty() && !self.engine.has_turns();
            for step in steps {
                self.perform(&step);
            }
            self.acknowledge();
            let quiet = !self.cloud_works() && quiet;
            if quiet && self.decide_quietly() {
                return;
            }
        }
        panic!("the engine does not come to rest: {:#?}", self.history.iter().rev().take(4).collect::<Vec<_>>());
    }

    fn decide_quietly(&mut self) -> bool {
        let steps = self.decide();
        let quiet = steps.is_empty();
        for step in steps {
            self.perform(&step);
        }
        quiet
    }

    /// The addresses in a load balancer's status.
    pub fn addresses(&self, namespace: &str, name: &str) -> Vec<String> {
        let status = self.balancers.get(&Key::new(namespace, name)).and_then(|b| b.status.as_ref());
        status.map(|s| s.addresses.iter().map(|a| a.value.clone()).collect()).unwrap_or_default()
    }

    /// A condition of a load balancer as `Status/Reason`.
    pub fn condition(&self, namespace: &str, name: &str, kind: &str) -> String {
        let status = self.balancers.get(&Key::new(namespace, name)).and_then(|b| b.status.as_ref());
        let found = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == kind));
        found.map(|c| format!("{}/{}", c.status, c.reason)).unwrap_or_default()
    }

    /// The names of what a fleet serves.
    pub fn names(&self, fleet: &str) -> Vec<String> {
        let served = self.served.get(fleet).into_iter().flatten();
        served.map(|((kind, name), _)| format!("{kind} {name}")).collect()
    }
}

fn held(resource: &XdsResource) -> Held {
    Held { kind: resource.kind(), name: Arc::clone(resource.name()), version: resource.version() }
}

/// What a write of the spec leaves as it was.
pub trait Kept: Resource<DynamicType = ()> + Clone + Debug {
    fn keep_status(&mut self, before: &Self);
}

macro_rules! keeps_status {
    ($($kind:ty),*) => { $(impl Kept for $kind {
        fn keep_status(&mut self, before: &Self) {
            self.status.clone_from(&before.status);
        }
    })* };
}

keeps_status!(Tenant, TCPLoadBalancer, IPPool, Fleet);

impl Kept for NodeSet {
    fn keep_status(&mut self, _: &Self) {}
}
