//! What of the hub is this cluster's to touch, and what its Services say where that is nothing. Knows marks; decides no spec.
//!
//! Each object in the tenant's namespace has the mark of the cluster that made it. An agent changes and deletes what has its own
//! mark, and while the namespace belongs to its cluster also what has none. It takes over what another cluster made where a Service of
//! the same namespace and name is here: the load balancer keeps its address. All else of other clusters stays, with the NodeSet that
//! it refers to.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use nave_api::tcp_load_balancer::Backends;
use nave_api::{NodeSet, NodeSetSpec, TCPLoadBalancer, names};

use super::decide::Hub;
use super::{Decision, Plan, Step, Touched, World, hub_key};
use crate::{Cluster, Key, Problem, Tenancy};

impl World {
    /// Takes in which cluster we are, and to which one the tenant's namespace belongs.
    pub fn see_cluster(&mut self, cluster: Cluster) -> Touched {
        if self.cluster.as_ref() == Some(&cluster) {
            return Touched::default();
        }
        self.cluster = Some(cluster);
        Touched { work: self.all(), notices: Vec::new() }
    }

    /// That the namespace belongs to another cluster, where it does.
    pub(super) fn elsewhere(&self) -> Option<Problem> {
        let Cluster { own, owner } = self.cluster.as_ref().filter(|cluster| !cluster.is_owner())?;
        let there = self.tenancy == Tenancy::There;
        there.then(|| Problem::OtherCluster { own: own.to_string(), owner: owner.clone() })
    }

    /// Whether an object of the hub is ours.
    pub(super) fn made(&self, object: &ObjectMeta) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.made(object))
    }

    /// Whether an object of the hub has another cluster's mark.
    pub(super) fn is_marked_otherwise(&self, object: &ObjectMeta) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.is_marked_otherwise(object))
    }

    /// The Service is ours to serve, and the hub is not ours to ask: it says so, and keeps what it shows.
    pub(super) fn decide_elsewhere(&mut self, key: &Key, service: &Service, elsewhere: Problem) -> Decision {
        self.refusals.remove(key);
        let steps = self.verdict(key, service, std::slice::from_ref(&elsewhere), Hub::default());
        let uid = service.uid().unwrap_or_default();
        let notices = self.tell(key, &uid, vec![elsewhere]);
        Decision { plan: Plan::Together(steps.into_iter().collect()), notices }
    }

    /// Puts our mark on what the hub is asked for, and has it refer to our nodes.
    pub(super) fn mark(&self, wanted: Option<&mut TCPLoadBalancer>) {
        let (Some(wanted), Some(cluster)) = (wanted, &self.cluster) else { return };
        wanted.labels_mut().insert(names::CLUSTER.to_owned(), cluster.own.to_string());
        match &mut wanted.spec.backends {
            Backends::Nodes(nodes) => nodes.node_set = self.node_set(),
            Backends::Endpoints(_) => {}
        }
    }

    /// Whether the nodes that a load balancer refers to are in the hub, so that taking it over does not leave it without any. The
    /// usual NodeSet may come later.
    pub(super) fn knows_nodes_of(&self, wanted: &TCPLoadBalancer) -> bool {
        match &wanted.spec.backends {
            Backends::Nodes(nodes) if nodes.node_set != names::DEFAULT_NODE_SET => self.named_nodes().1,
            Backends::Nodes(_) | Backends::Endpoints(_) => true,
        }
    }

    /// The name of our NodeSet, and whether it is in the hub.
    pub(super) fn named_nodes(&self) -> (String, bool) {
        let name = self.node_set();
        let present = self.node_sets.find(&hub_key(&name)).is_some();
        (name, present)
    }

    /// The name of our NodeSet: the usual one, unless another cluster's has it.
    pub(super) fn node_set(&self) -> String {
        let usual = names::DEFAULT_NODE_SET.to_owned();
        let Some(cluster) = &self.cluster else { return usual };
        let own = names::node_set_of(&cluster.own);
        let taken = self.node_sets.find(&hub_key(&usual)).is_some_and(|set| self.is_marked_otherwise(&set.metadata));
        let has_own = self.node_sets.find(&hub_key(&own)).is_some_and(|set| self.made(&set.metadata));
        if taken || has_own { own } else { usual }
    }

    pub(super) fn nodes_steps(&mut self) -> Vec<Step> {
        let there = self.tenancy == Tenancy::There;
        if self.policy.leaving {
            let ours = self.node_sets.objects().filter(|set| there && self.made(&set.metadata));
            return ours.map(|set| Step::DeleteNodes(set.name_any())).collect();
        }
        self.nodes_step().filter(|_| there).into_iter().collect()
    }

    fn nodes_step(&mut self) -> Option<Step> {
        let own = self.cluster.as_ref().filter(|cluster| cluster.is_owner())?.own.to_string();
        let key = hub_key(&self.node_set());
        let present = self.node_sets.find(&key);
        let stored = present.map_or(&[][..], |present| &present.spec.nodes);
        let spec = NodeSetSpec { nodes: self.nodes.backends(stored).0 };
        if self.node_sets.unreadable(&key).is_some() {
            return None;
        }
        let same = present.is_some_and(|present| {
            let marked = present.labels().get(names::CLUSTER) == Some(&own);
            let stored = present.spec == spec || self.asked_nodes.is_done(&key, &spec, present.metadata.generation);
            marked && stored
        });
        if same {
            return None;
        }
        self.asked_nodes.ask(&key, &spec);
        let mut nodes = NodeSet::new(&key.name, spec);
        nodes.labels_mut().insert(names::CLUSTER.to_owned(), own);
        Some(Step::ApplyNodes(Box::new(nodes)))
    }
}
