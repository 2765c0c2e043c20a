//! NodeSet: the ready nodes of a spoke, once, so that a node change is one write however many load balancers there are.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::limits;

/// The ready nodes of a spoke and their addresses, written by its agent. Load balancers refer to it by name.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "NodeSet",
    plural = "nodesets",
    shortname = "nset",
    category = "nave",
    namespaced,
    derive = "PartialEq",
    doc = "The ready nodes of a spoke and their addresses, written by its agent.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a NodeSet is a DNS label of at most 63 characters"),
    printcolumn(name = "First node", type_ = "string", json_path = ".spec.nodes[0].name", description = "A column holds one value"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeSetSpec {
    /// The nodes that may get traffic now, at most 5000. A node that is not ready is left out while another one is ready. Of
    /// two entries with the same name the first counts. Default: none.
    // Atomic: every apply replaces the whole list, an empty one too. Item by item the API server would drop an emptied list
    // and `spec` with it, keep items that another field manager wrote, and store the owner of each field of each node.
    #[serde(default)]
    #[schemars(length(max = limits::NODES))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub nodes: Vec<Node>,
}

/// One ready node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The node's name in the spoke; `backends.nodes.only` refers to it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Where the hub reaches the node, in order of preference: IP addresses of both families, the first of a family is
    /// used. Bad ones, and ones that the tenant may not use, are skipped and named in the load balancers' conditions.
    #[serde(default)]
    #[schemars(length(max = limits::NODE_ADDRESSES), inner(length(max = 45)))]
    pub addresses: Vec<String>,
    /// The node's `topology.kubernetes.io/zone`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub zone: Option<String>,
}
