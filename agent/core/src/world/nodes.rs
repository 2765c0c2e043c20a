//! The nodes of the spoke, and which of them are backends. Knows who is ready; knows no Service.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use nave_api::node_set;

use crate::backends::fit::{self, Fit};
use crate::nodes::{Candidate, candidate};
use crate::{Change, Policy, Problem, Unreadable};

/// What was seen of nodes that may get traffic.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    ready: BTreeMap<String, node_set::Node>,
    unready: BTreeMap<String, node_set::Node>,
    /// Those that cannot be read now. One that could be read before is what it was.
    unreadable: BTreeSet<String>,
    listed: bool,
    problem: Option<Problem>,
}

impl Nodes {
    /// Takes a change in; whether what is wrong with all of them is different now.
    pub(super) fn take(&mut self, change: Change<Node>, policy: &Policy) -> bool {
        match change {
            Change::Seen(node) | Change::Answered(node) => self.put(&node, policy),
            Change::Gone(metadata) => self.remove(metadata.name.as_deref().unwrap_or_default()),
            Change::Unreadable(Unreadable { metadata, why: _ }) => self.unreadable.extend(metadata.name),
            Change::Listed { objects, unreadable } => self.replace(&objects, unreadable, policy),
        }
        let before = self.problem.take();
        self.problem = self.judge();
        self.problem != before
    }

    /// The backends, sorted by name. Where no node is ready, all of them: that every node fails at the same moment is mostly a
    /// fault of the control plane, which cannot hear them, and what runs on them runs on. Kubernetes itself evicts no pod then.
    /// `stored`: those in the hub; what is there of a node that has never been read stays.
    pub(super) fn backends(&self, stored: &[node_set::Node]) -> (Vec<node_set::Node>, Fit) {
        let chosen = if self.ready.is_empty() { &self.unready } else { &self.ready };
        let kept = stored.iter().filter(|node| self.is_unknown(&node.name));
        let all: BTreeMap<&str, &node_set::Node> =
            chosen.values().chain(kept).map(|node| (node.name.as_str(), node)).collect();
        fit::nodes(all.into_values())
    }

    /// What is wrong with all of them.
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// Whether they have been complete once.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    fn judge(&self) -> Option<Problem> {
        match (self.ready.len(), self.unready.len()) {
            // One that has never been read may be ready.
            (0, _) if self.unreadable.iter().any(|name| self.is_unknown(name)) => None,
            (0, 0) => Some(Problem::NoNodes),
            (0, nodes) => Some(Problem::NoReadyNodes { nodes }),
            _ => {
                let (_, Fit { present, written: served }) = self.backends(&[]);
                (served < present).then_some(Problem::TooManyNodes { served, present })
            }
        }
    }

    /// Whether the node is there and has never been read.
    fn is_unknown(&self, name: &str) -> bool {
        self.unreadable.contains(name) && !self.ready.contains_key(name) && !self.unready.contains_key(name)
    }

    fn replace(&mut self, objects: &[Node], unreadable: Vec<Unreadable>, policy: &Policy) {
        self.listed = true;
        self.unreadable = unreadable.into_iter().filter_map(|node| node.metadata.name).collect();
        let Self { ready, unready, unreadable, listed: _, problem: _ } = self;
        ready.retain(|name, _| unreadable.contains(name));
        unready.retain(|name, _| unreadable.contains(name));
        for node in objects {
            self.put(node, policy);
        }
    }

    fn put(&mut self, node: &Node, policy: &Policy) {
        self.remove(&node.name_any());
        if let Some(Candidate { node, ready }) = candidate(node, policy) {
            let nodes = if ready { &mut self.ready } else { &mut self.unready };
            nodes.insert(node.name.clone(), node);
        }
    }

    fn remove(&mut self, name: &str) {
        self.unreadable.remove(name);
        self.ready.remove(name);
        self.unready.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        }))
        .unwrap()
    }

    fn names(nodes: &Nodes) -> Vec<String> {
        nodes.backends(&[]).0.into_iter().map(|node| node.name).collect()
    }

    #[test]
    fn kind_i_all_nodes_stay_backends_when_none_is_ready_and_none_when_none_may_get_traffic() {
        let (mut nodes, policy) = (Nodes::default(), Policy::default());
        nodes.take(Change::listed(vec![node("n1", "True"), node("n2", "False")]), &policy);
        assert_eq!((names(&nodes), nodes.problem()), (vec!["n1".to_owned()], None));
        assert!(nodes.take(Change::Seen(node("n1", "Unknown")), &policy));
        assert_eq!((names(&nodes).len(), nodes.problem()), (2, Some(&Problem::NoReadyNodes { nodes: 2 })));
        assert!(nodes.take(Change::Seen(node("n2", "True")), &policy));
        assert_eq!((names(&nodes), nodes.problem()), (vec!["n2".to_owned()], None));
        nodes.take(Change::Gone(node("n1", "True").metadata), &policy);
        let mut excluded = node("n2", "True");
        let label = "node.kubernetes.io/exclude-from-external-load-balancers".to_owned();
        excluded.labels_mut().insert(label, String::new());
        assert!(nodes.take(Change::Seen(excluded), &policy));
        assert_eq!((names(&nodes).len(), nodes.problem()), (0, Some(&Problem::NoNodes)));
    }

    #[test]
    fn kind_k_nodes_beyond_the_schemas_count_are_left_out_and_counted() {
        let mut nodes = Nodes::default();
        let all = (0..5003).map(|n| node(&format!("n{n:04}"), "True")).collect();
        nodes.take(Change::listed(all), &Policy::default());
        assert_eq!(names(&nodes).len(), 5000);
        assert_eq!(nodes.problem(), Some(&Problem::TooManyNodes { served: 5000, present: 5003 }));
    }
}
