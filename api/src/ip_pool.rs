//! IPPool: addresses to give, where they come from and who may have them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, condition, limits, names, rules};

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
#[x_kube(validation = Rule::new("!has(self.source.service) || !has(self.addresses)").message("the hub's cloud gives the addresses of a pool with source.service: leave addresses out"))]
#[x_kube(validation = Rule::new("!has(self.source.service) || self.source.service.per == 'Fleet' || !has(self.portRange)").message("portRange does not apply to source.service with per: LoadBalancer, where every load balancer has an address of its own: leave it out, or see source.service.envoyPorts"))]
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
    /// Exclusive (default): an address serves one load balancer; ByPort: several of one tenant with different ports;
    /// ByPortAcrossTenants: several of any tenants. Says nothing where source.service gives the addresses.
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
    Service(ServiceSource),
    /// Somebody else routes them: allocate and program only.
    External {},
}

/// How the hub's own cloud gives addresses: the manager keeps Services of type LoadBalancer in its namespace, which lead to
/// the ports of the fleet's Envoys. A client's address is seen where the cloud keeps it (`externalTrafficPolicy: Local` is set).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.per == oldSelf.per").message("per does not change while the pool lives: make another pool"))]
#[x_kube(validation = Rule::new("has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass)").message(CLASS))]
pub struct ServiceSource {
    /// LoadBalancer (default): a Service, and an address, for each load balancer; Fleet: one for all of them, which share it
    /// by port.
    #[serde(default)]
    pub per: ServicePer,
    /// The ports of the fleet's Envoys that lead to load balancers, with `per: LoadBalancer`. Default: 20000 to 29999.
    /// Pools of one fleet need ranges that do not overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_ports: Option<PortRange>,
    /// `spec.loadBalancerClass` of the Services, at most 253 characters. Default: none, which is the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(CLASS))]
    pub load_balancer_class: Option<String>,
    /// Annotations of the Services, by which a cloud is told more. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": limits::ANNOTATION}))]
    #[x_kube(validation = rules::keys("annotations"), merge_strategy = MapMerge::Atomic)]
    pub annotations: BTreeMap<String, String>,
    /// The pods, in the manager's namespace, that are the fleet's Envoys. Default: those labelled `nave.dev/fleet` with the
    /// fleet's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    #[x_kube(validation = rules::keys("selector"), merge_strategy = MapMerge::Atomic)]
    pub selector: Option<BTreeMap<String, String>>,
}

const CLASS: &str = "loadBalancerClass of a Service never changes, nor comes nor goes: make another pool";

/// The Envoy ports of a pool whose Services are one per load balancer, where nothing is said.
pub const ENVOY_PORTS: PortRange = PortRange { low: 20_000, high: 29_999 };

impl ServiceSource {
    /// The ports of the fleet's Envoys that lead to load balancers.
    pub fn envoy_ports(&self) -> PortRange {
        self.envoy_ports.unwrap_or(ENVOY_PORTS)
    }
}

/// For what the hub's cloud gives an address.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServicePer {
    /// For each load balancer one.
    #[default]
    LoadBalancer,
    /// One for all load balancers of the pool.
    Fleet,
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
    #[schemars(range(min = i32::MIN, max = i32::MAX))]
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
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    #[x_kube(validation = rules::keys("selector"), merge_strategy = MapMerge::Atomic)]
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
    /// Several of any tenants, whose ports differ. A tenant learns which ports of an address others have.
    ByPortAcrossTenants,
}

/// Ports, both ends included.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.low <= self.high").message("low is at most high"))]
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
    #[schemars(length(max = 64))]
    pub total: Option<String>,
    /// How many are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub free: Option<String>,
    /// How many are given.
    #[serde(default)]
    #[schemars(range(max = limits::COUNT))]
    pub used: u32,
    /// How many are reserved for their last owner.
    #[serde(default)]
    #[schemars(range(max = limits::COUNT))]
    pub held: u32,
    /// Who had which free address last, the newest first, at most 100: he is preferred while it is free.
    #[serde(default)]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into()]))]
    pub last_owners: Vec<LastOwner>,
    /// Ready: addresses can be given.
    #[serde(default)]
    #[schemars(transform = condition::bounded)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Who had a free address last.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastOwner {
    /// The address.
    #[schemars(length(max = 45))]
    pub address: String,
    /// The tenant's namespace in the hub.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The load balancer's name.
    #[schemars(length(max = 63))]
    pub name: String,
}
