//! TCPLoadBalancer: what a spoke asks on layer 4, TCP and UDP, and what became of it.

pub mod bounds;
mod traffic;

pub use traffic::{
    Balancing, BalancingPolicy, Ejection, HealthCheck, HttpCheck, ProxyProtocol, TcpCheck, Timeouts, Traffic,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{condition, limits, rules};

/// Ports of addresses in the hub that lead to backends in a spoke.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "TCPLoadBalancer",
    plural = "tcploadbalancers",
    shortname = "tcplb",
    category = "nave",
    namespaced,
    status = "TCPLoadBalancerStatus",
    derive = "PartialEq",
    doc = "Ports of addresses in the hub that lead to backends in a spoke.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a TCPLoadBalancer is a DNS label of at most 63 characters"),
    printcolumn(name = "Origin", type_ = "string", json_path = ".spec.origin.name"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[0].value"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.ports[0].port", description = "The first port; a column holds one value"),
    printcolumn(name = "Backends", type_ = "integer", json_path = ".status.backends.ready"),
    printcolumn(name = "Programmed", type_ = "string", json_path = ".status.conditions[?(@.type=='Programmed')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.status!='True')].reason", priority = 1, description = "Of the first condition that is not True: Accepted, Allocated, Programmed. Empty where all are"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.status!='True')].message", priority = 1, description = "Of the same condition"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TCPLoadBalancerSpec {
    /// The object of the spoke that this stands for: for people and for cleaning up, never a right. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The ports to open, 1 to 100; a protocol and port once.
    #[schemars(length(min = 1, max = limits::PORTS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["protocol".into(), "port".into()]))]
    #[x_kube(validation = Rule::new("self.all(p, !has(p.name) || self.exists_one(q, has(q.name) && q.name == p.name))").message("two ports have the same name: give each its own"))]
    pub ports: Vec<Port>,
    /// Where the traffic goes.
    pub backends: Backends,
    /// Which addresses to get. Default: one IPv4 address of the default pool, or IPv6 where the pool has no IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressRequest>,
    /// How the traffic is treated. Default: round robin, 5 s to connect, 1 h idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// The object of a spoke that an intent stands for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Service, Ingress, Gateway.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its namespace in the spoke.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid in the spoke.
    #[schemars(length(max = 63))]
    pub uid: String,
}

/// A transport protocol.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As Kubernetes writes it: TCP, UDP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Reads a Service's `ports[].protocol`, whose default is TCP; nothing when it is none that we serve.
    pub fn of_service(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some(_) => None,
        }
    }
}

/// One port to open.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The port's name in the spoke; `backends.endpoints[].ports` refers to it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// TCP (default) or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port on the hub's address, 1 to 65535.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The port on every backend, 1 to 65535: a node port, or the port of endpoints that list none.
    #[schemars(range(min = 1))]
    pub backend_port: u16,
}

/// Where the traffic goes; exactly one of the two.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::exactly_one)]
pub enum Backends {
    /// The nodes of the spoke, on each port's `backendPort`.
    Nodes(NodeBackends),
    /// Addresses of the spoke given one by one: pods, or the balancer of the spoke's own cloud. Addresses only, no names.
    Endpoints(#[schemars(length(max = limits::ENDPOINTS))] Vec<Endpoint>),
}

/// The nodes of a NodeSet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeBackends {
    /// The NodeSet in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::label("nodeSet"))]
    pub node_set: String,
    /// Only these nodes of it. Absent: all. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::NODES), inner(length(min = 1, max = 253)))]
    pub only: Option<Vec<String>>,
    /// Nodes of it on which all endpoints terminate and still serve, besides those of `only`. They get connections while too
    /// few of the others are usable. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::NODES), inner(length(min = 1, max = 253)))]
    pub terminating: Vec<String>,
    /// The families of the addresses at which nodes are reached, in order of preference: those in which the spoke serves. A
    /// node without an address of one of them gets no traffic. Default: IPv4, then IPv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(validation = Rule::new("self.size() < 2 || self[0] != self[1]").message("families names each family once"))]
    pub families: Vec<IpFamily>,
    /// How many of the nodes the load balancer uses where `only` is absent: from each zone as many as from the others, chosen by
    /// hash, so that a node that comes or goes concerns few load balancers. 0: all. Default: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::NODES))]
    pub subset: Option<u32>,
}

/// Addresses that have the same ports.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// IP addresses, each refused or taken for itself.
    #[schemars(length(min = 1, max = limits::ENDPOINT_ADDRESSES), inner(length(max = 45)))]
    pub addresses: Vec<String>,
    /// The ports that these addresses serve, by the name of the load balancer's port; a port that is not listed gets none of
    /// these addresses. Empty: every port, at its `backendPort`.
    #[serde(default)]
    #[schemars(length(max = limits::PORTS))]
    pub ports: Vec<EndpointPort>,
    /// Ready (default), or Terminating: these addresses still serve while they end, and get connections while too few of the
    /// Ready ones are usable.
    #[serde(default, skip_serializing_if = "EndpointState::is_ready")]
    pub state: EndpointState,
}

/// Whether endpoints are there to stay.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointState {
    /// They serve.
    #[default]
    Ready,
    /// They still serve while they end.
    Terminating,
}

impl EndpointState {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it by reference")]
    fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// A port of an endpoint.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// The name of the load balancer's port. Absent: the port without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// 1 to 65535.
    #[schemars(range(min = 1))]
    pub port: u16,
}

/// Which addresses to get.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AddressRequest {
    /// The pool by name. Default: a pool reserved for the tenant, else the default pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::label("pool"))]
    pub pool: Option<String>,
    /// Exactly these addresses, at most one of a family. Default: any.
    #[serde(default)]
    #[schemars(length(max = 2), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))").message("requested lists IPv4 and IPv6 addresses, such as 203.0.113.7"))]
    #[x_kube(validation = Rule::new("self.size() < 2 || !self.all(a, isIP(a)) || ip(self[0]).family() != ip(self[1]).family()").message("requested has at most one IPv4 and one IPv6 address"))]
    pub requested: Vec<String>,
    /// The families in order of preference. Default: what the pool has, IPv4 first.
    #[serde(default)]
    #[schemars(length(max = 2))]
    #[x_kube(validation = Rule::new("self.size() < 2 || self[0] != self[1]").message("families names each family once"))]
    pub families: Vec<IpFamily>,
    /// One address or one of each family. Default: SingleStack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family_policy: Option<FamilyPolicy>,
}

/// An address family, as Kubernetes writes it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }
}

/// How many families, as a Service's `ipFamilyPolicy`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FamilyPolicy {
    /// One address.
    #[default]
    SingleStack,
    /// One of each family where the pool has both, else one.
    PreferDualStack,
    /// One of each family, both or none.
    RequireDualStack,
}

/// What became of a TCPLoadBalancer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TCPLoadBalancerStatus {
    /// Its addresses, as long as their allocations are its own.
    #[serde(default)]
    #[schemars(length(max = limits::SHOWN_ADDRESSES))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["value".into()]))]
    pub addresses: Vec<Address>,
    /// Its backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<BackendCount>,
    /// How many sessions at once each of its UDP ports has on each Envoy. What a port has stays its own while it asks for as many.
    #[serde(default)]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["port".into()]))]
    pub sessions: Vec<PortSessions>,
    /// Accepted, Allocated, Programmed.
    #[serde(default)]
    #[schemars(transform = condition::bounded)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The sessions of a UDP port.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct PortSessions {
    /// The port, as in `spec.ports`.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Sessions at once, on each Envoy. 0: the port stays closed.
    #[schemars(range(max = bounds::CONNECTIONS_AT_MOST))]
    pub limit: u32,
}

/// One address of a load balancer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The address; where the hub's cloud gives a name instead, the name.
    #[schemars(length(max = 253))]
    pub value: String,
    /// Its family. Absent: it is a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<IpFamily>,
    /// The pool it comes from.
    #[schemars(length(max = 63))]
    pub pool: String,
    /// The ports on it.
    #[serde(default)]
    #[schemars(length(max = limits::PORTS))]
    pub ports: Vec<AddressPort>,
}

/// A port of an address of a load balancer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct AddressPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port that clients connect to.
    pub port: u16,
}

/// How many backends there are.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackendCount {
    /// Backend addresses that the spoke names.
    #[schemars(range(max = limits::COUNT))]
    pub total: u32,
    /// Those that get traffic: named as ready by the spoke and allowed by the Tenant.
    #[schemars(range(max = limits::COUNT))]
    pub ready: u32,
}
