//! IPPool: addresses to give, where they come from and who may have them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, names, rules};

/// Addresses to give, where they come from and who may have them.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "IPPool",
    plural = "ippools",
    shortname = "ipp",
    category = "nave",
    status = "IPPoolStatus",
    derive = "PartialEq",
    doc = "Addresses to give, where they come from and who may have them.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of an IPPool is a DNS label of at most 63 characters"),
    printcolumn(name = "Total", type_ = "string", json_path = ".status.total"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.free"),
    printcolumn(name = "Used", type_ = "integer", json_path = ".status.used"),
    printcolumn(name = "Held", type_ = "integer", json_path = ".status.held"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.source.static) || has(self.addresses)").message("a static pool lists its addresses in addresses.include"))]
pub struct IPPoolSpec {
    /// Where the addresses come from; exactly one, and always the same one.
    #[x_kube(validation = Rule::new("has(self.static) == has(oldSelf.static) && has(self.service) == has(oldSelf.service) && has(self.external) == has(oldSelf.external)").message("a pool keeps its source: make another pool"))]
    pub source: Source,
    /// The addresses. Sources that buy need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Addresses>,
    /// Who may have them. Default: every tenant that asks for the pool by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#use: Option<Use>,
    /// Exclusive (default): an address serves one load balancer; ByPort: several of one tenant with different ports.
    #[serde(default)]
    pub sharing: Sharing,
    /// How long a freed address is reserved for its last owner. Default: 0s; besides, he is preferred while it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_for: Option<Duration>,
    /// The ports that may be opened on these addresses. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<PortRange>,
    /// The fleet that these addresses lead to. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::label("fleet"))]
    pub fleet: Option<String>,
    /// Who makes the network send these addresses to the fleet. Default: external.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<Announce>,
}

impl IPPoolSpec {
    /// The fleet that the pool's addresses lead to.
    pub fn fleet(&self) -> &str {
        self.fleet.as_deref().unwrap_or(names::DEFAULT_FLEET)
    }
}

/// Where the addresses of a pool come from; exactly one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::exactly_one)]
pub enum Source {
    /// They are ours.
    Static {},
    /// The hub's own cloud gives them, by a Service of type LoadBalancer in the hub.
    Service {},
    /// Somebody else routes them: allocate and program only.
    External {},
}

/// The addresses of a pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    /// Networks (`203.0.113.0/24`, unaligned ones are masked), ranges (`198.51.100.10-198.51.100.20`) and single addresses.
    #[schemars(length(min = 1, max = 256), inner(length(min = 2, max = 91)))]
    #[x_kube(validation = rules::spans("include"))]
    pub include: Vec<String>,
    /// What of it is never given. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 2, max = 91)))]
    #[x_kube(validation = rules::spans("exclude"))]
    pub exclude: Vec<String>,
    /// What of it is given to those who ask for no address; the rest is given by request only. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 2, max = 91)))]
    #[x_kube(validation = rules::spans("dynamic"))]
    pub dynamic: Option<Vec<String>>,
}

/// Who may have addresses of a pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// Whether it serves those who name no pool. Default: false.
    #[serde(default)]
    pub default: bool,
    /// Among several that fit, the highest comes first. Default: 0.
    #[serde(default)]
    pub priority: i32,
    /// Only these tenants. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<TenantSelection>,
    /// Only for objects of these namespaces of the spoke, as its agent says. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = rules::labels("namespaces"))]
    pub namespaces: Option<Vec<String>>,
}

/// Tenants by name or by label; one that either chooses is chosen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantSelection {
    /// By name.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 40)))]
    #[x_kube(validation = rules::labels("names"))]
    pub names: Vec<String>,
    /// By all of these labels. Absent or empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<BTreeMap<String, String>>,
}

/// How many load balancers an address serves.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// One.
    #[default]
    Exclusive,
    /// Several of one tenant, whose ports differ.
    ByPort,
}

/// Ports, both ends included.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.low <= self.high").message("portRange.low is not above portRange.high"))]
pub struct PortRange {
    /// The first, 1 to 65535.
    #[schemars(range(min = 1))]
    pub low: u16,
    /// The last, 1 to 65535.
    #[schemars(range(min = 1))]
    pub high: u16,
}

/// Who makes the network send a pool's addresses to the fleet; exactly one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::exactly_one)]
pub enum Announce {
    /// Nave's operator on the edge nodes.
    Operator(OperatorAnnounce),
    /// Somebody else: routers, a cloud, the lab.
    External {},
}

/// How the operator puts addresses on a node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OperatorAnnounce {
    /// The interface that gets the addresses, at most 15 characters. Default: the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z0-9_.-]+$') && self != '.' && self != '..'").message("interface is the name of a network interface, such as eth0"))]
    pub interface: Option<String>,
    /// Whether to make the interface as a bridge where it is missing. Default: false.
    #[serde(default)]
    pub create_bridge: bool,
}

/// What is known of a pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolStatus {
    /// How many addresses there are, as text: an IPv6 /64 has more than a number here can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// How many are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
    /// How many are given.
    #[serde(default)]
    pub used: u32,
    /// How many are reserved for their last owner.
    #[serde(default)]
    pub held: u32,
    /// Ready: addresses can be given.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
