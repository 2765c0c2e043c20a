//! Fleet: the edge nodes that serve the same resources, and how fast they fail over.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, condition, limits, rules};

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
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct FleetSpec {
    /// Which nodes are edge nodes. Default: the hub's nodes labelled `nave.dev/fleet=<name of the fleet>`. `Programmed` of a load
    /// balancer waits for the Envoys of these nodes alone; an Envoy of another node is served and counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeSelection>,
    /// Certificates of Envoys that are no longer good, at most 256 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub revoked: Vec<Revocation>,
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

/// What chooses nodes: labels, and names besides.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelection {
    /// The hub's nodes that have all of these labels, at most 16. Absent or empty: `nave.dev/fleet=<name of the fleet>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    #[x_kube(validation = rules::keys("selector"), merge_strategy = MapMerge::Atomic)]
    pub selector: BTreeMap<String, String>,
    /// Nodes by name besides, at most 256: edge nodes outside of the hub, as `envoy-bootstrap --node` names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub names: Vec<String>,
}

/// Certificates of one node's Envoy that are no longer good.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// The node, as `envoy-bootstrap --node` names it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub node: String,
    /// A moment in UTC, such as `2026-11-30T10:00:00Z`. A certificate of the node whose `notBefore` is earlier opens no stream,
    /// and its open ones end within a second. `envoy-bootstrap` writes the moment of issue into `notBefore`.
    #[schemars(length(max = 20), regex(pattern = r"^2[0-9]{3}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"), extend("format" = "date-time"))]
    pub before: String,
}

impl Revocation {
    /// The moment, in seconds of Unix time; nothing where the text is none.
    pub fn seconds(&self) -> Option<i64> {
        self.before.parse::<Timestamp>().ok().map(Timestamp::as_second)
    }
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
    /// The edge nodes that have been heard, and other nodes whose Envoys are connected; by name, the first 500.
    #[serde(default)]
    #[schemars(length(max = 500))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub nodes: Vec<FleetNode>,
    /// Ready: at least one Envoy that counts is connected. The reason and the message name an Envoy that holds load balancers
    /// back, has stopped, or is not chosen. FilesShort: load balancers get fewer UDP sessions than they ask for, or wait, since the
    /// Envoys' descriptors do not suffice; there only while it holds. TenantHeld: `held` of a node is not empty.
    #[serde(default)]
    #[schemars(transform = condition::bounded)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One edge node as the managers see it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FleetNode {
    /// The node's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its Envoy. Absent: none has been heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy: Option<EnvoyStatus>,
    /// Tenants that may have fewer TCP connections open at this Envoy than they would, at most 2. The tenant with the most is added when
    /// more than 70 % of what the Envoy accepts is open and the fleet serves other tenants; all end when less than 50 % is. What is open
    /// stays open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub held: Vec<HeldTenant>,
}

/// How many TCP connections a tenant may have open at one Envoy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeldTenant {
    /// The Tenant.
    #[schemars(length(max = 253))]
    pub tenant: String,
    /// At all of its ports together: half of what the Envoy accepts, or `spec.quota.connections` of the Tenant where that is less.
    #[schemars(range(max = 2_147_483_647))]
    pub connections: u32,
    /// Of these, at the ports that had the most open, at most 8. The other ports share what is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ports: Vec<HeldPort>,
}

/// How many TCP connections a port may have open at one Envoy, at all of its addresses together.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeldPort {
    /// The TCPLoadBalancer, in the namespace of the tenant.
    #[schemars(length(max = 253))]
    pub load_balancer: String,
    /// Its port.
    pub port: u16,
    /// Connections.
    #[schemars(range(max = 2_147_483_647))]
    pub connections: u32,
}

/// One Envoy as the managers see it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyStatus {
    /// Whether it has an open stream to a manager.
    pub connected: bool,
    /// How many resources it refuses now.
    #[schemars(range(max = 2_147_483_647))]
    pub refused: u32,
    /// Whether load balancers wait for it before they are `Programmed`.
    #[serde(default)]
    pub standing: EnvoyStanding,
    /// How many load balancers wait for it now, and have for a second or more.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    pub holds_back: u32,
    /// What it may open. Absent: it does not say, and 20000 files are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<EnvoyFiles>,
}

/// Whether load balancers wait for an Envoy before they are `Programmed`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvoyStanding {
    /// They do, while it is connected.
    #[default]
    Counts,
    /// They do not: `spec.nodes` of the Fleet does not choose its node.
    NotChosen,
    /// They do not yet: it has not asked for all listeners and clusters, as every Envoy does when it starts.
    NotServing,
    /// They no longer do: it is connected, and has acknowledged nothing for 30 s, or nothing that helped for 2 minutes. They do
    /// again after its next acknowledgement.
    Stopped,
}

/// The descriptors of one Envoy, as its bootstrap says: `nave-manager envoy-bootstrap --files`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyFiles {
    /// The hard limit of its open files. The smallest of a fleet is divided among load balancers.
    #[schemars(range(max = limits::COUNT))]
    pub limit: u32,
    /// Its workers: each opens every listener's socket for itself.
    #[schemars(range(max = limits::COUNT))]
    pub workers: u32,
    /// TCP connections that it accepts at once.
    #[schemars(range(max = limits::COUNT))]
    pub connections: u32,
}
