//! Fleet: the edge nodes that serve the same resources, and how fast they fail over.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// The edge nodes of a fleet, their lease timing, and what they do when the API is away. One named `default` exists.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "Fleet",
    plural = "fleets",
    category = "nave",
    status = "FleetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The edge nodes whose Envoys serve the same resources.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a fleet is a DNS label of at most 40 characters"),
    printcolumn(name = "First node", type_ = "string", json_path = ".status.nodes[0].name", description = "A column holds one value"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct FleetSpec {
    /// Which nodes of the hub are edge nodes. Default: those labelled `nave.dev/fleet=<name of the fleet>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeSelection>,
    /// How long an edge node may answer after its last renewal: whole seconds, 1 s to 60 s. Default: 2 s. Failover takes
    /// this long and 0.1 to 0.9 s more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]{1,6}(ms|s|m|h))+$') || (duration(self) >= duration('1s') && duration(self) <= duration('60s') && !self.contains('ms'))")
        .message("leaseDuration is whole seconds from 1s to 60s"))]
    pub lease_duration: Option<Duration>,
    /// What a holder does while the hub's API does not answer it. Default: Hold.
    #[serde(default)]
    pub on_api_loss: OnApiLoss,
}

/// Labels that choose nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelection {
    /// All of these labels.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
}

/// What a holder does while the hub's API does not answer it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnApiLoss {
    /// Go on answering: losing the control plane never stops traffic.
    #[default]
    Hold,
    /// Stop answering when the lease runs out: strictly one holder, and an outage whenever the API is away for longer.
    Release,
}

/// What is known of a fleet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// The edge nodes that have been heard.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub nodes: Vec<FleetNode>,
    /// Ready: at least one Envoy is connected. FilesShort: load balancers get fewer UDP sessions than they ask for, or wait, since the Envoys'
    /// descriptors do not suffice; there only while it holds.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One edge node as the managers see it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FleetNode {
    /// The node's name.
    pub name: String,
    /// Its Envoy. Absent: none has been heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy: Option<EnvoyStatus>,
}

/// One Envoy as the managers see it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyStatus {
    /// Whether it has an open stream to a manager.
    pub connected: bool,
    /// How many resources it refuses now.
    pub refused: u32,
    /// What it may open. Absent: it does not say, and 20000 files are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<EnvoyFiles>,
}

/// The descriptors of one Envoy, as its bootstrap says: `nave-manager envoy-bootstrap --files`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyFiles {
    /// The hard limit of its open files. The smallest of a fleet is divided among load balancers.
    pub limit: u32,
    /// Its workers: each opens every listener's socket for itself.
    pub workers: u32,
    /// TCP connections that it accepts at once.
    pub connections: u32,
}
