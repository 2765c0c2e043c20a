//! Tenant: the hub's record of one spoke. What it may use, and where it lives.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{condition, limits, names, rules};

/// One spoke as the hub knows it: its namespace `tenant-<name>`, its credential, what it may use.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "tenants",
    category = "nave",
    status = "TenantStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One spoke as the hub knows it: creating a Tenant makes its namespace and the agent's credential.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a Tenant is a DNS label of at most 40 characters: it becomes part of a namespace's name"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".status.namespace"),
    printcolumn(name = "LBs", type_ = "integer", json_path = ".status.used.loadBalancers"),
    printcolumn(name = "Addresses", type_ = "integer", json_path = ".status.used.addresses"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.conditions[?(@.type=='AgentConnected')].status"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// The fleet that serves it. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::label("fleet"))]
    pub fleet: Option<String>,
    /// Domains it may claim besides the generated names: `shop.example.com`, `*.shop.example.com`. Default: none.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::hostnames("domains"))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub domains: Vec<String>,
    /// The pools it may use, by name. Absent: every pool that lets it in. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = rules::labels("pools"))]
    pub pools: Option<Vec<String>>,
    /// Where its backends may lie. Absent: public unicast addresses only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<TenantBackends>,
    /// How much it may use. Of load balancers and endpoints the manager has defaults
    /// (`--default-load-balancers`, `--default-endpoints`); other absent limits are unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Active (default) or Suspended: its load balancers keep their addresses and answer nobody.
    #[serde(default)]
    pub state: TenantState,
}

impl TenantSpec {
    /// The fleet that serves the tenant.
    pub fn fleet(&self) -> &str {
        self.fleet.as_deref().unwrap_or(names::DEFAULT_FLEET)
    }
}

/// Whether a tenant is served.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TenantState {
    /// Served.
    #[default]
    Active,
    /// Not served; addresses are kept.
    Suspended,
}

/// Where a tenant's backends may lie.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantBackends {
    /// Networks in CIDR notation. The hub's own networks, pools, loopback, link-local and the like are refused even
    /// when a network here covers them.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    #[x_kube(validation = rules::networks("allow", "10.20.0.0/16"))]
    pub allow: Vec<String>,
    /// Exclusive (default): nobody else's networks may overlap these; Shared: others that say Shared, too, may.
    #[serde(default)]
    pub sharing: NetworkSharing,
}

/// Whether two tenants may have backends in the same network.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkSharing {
    /// An overlap with another tenant's networks is a condition on the newer tenant.
    #[default]
    Exclusive,
    /// Overlaps with tenants that are Shared as well are allowed.
    Shared,
}

/// How much a tenant may use. The newest is refused, never what already runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// TCPLoadBalancers and HTTPLoadBalancers together. Absent: the manager's `--default-load-balancers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::COUNT))]
    pub load_balancers: Option<u32>,
    /// Addresses. Absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::COUNT))]
    pub addresses: Option<u32>,
    /// Ports of all load balancers together. Absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::COUNT))]
    pub ports: Option<u32>,
    /// Backend addresses times ports of all load balancers together. Absent: the manager's `--default-endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::COUNT))]
    pub endpoints: Option<u32>,
    /// Hostnames. Absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::COUNT))]
    pub hostnames: Option<u32>,
    /// UDP sessions that all ports of the tenant together may have at once, on each Envoy. Absent, and at most: half of what the fleet's
    /// Envoys can open for UDP sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::COUNT))]
    pub connections: Option<u32>,
}

impl Quota {
    /// These limits, and where one is absent that of `defaults`.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        let Self { load_balancers, addresses, ports, endpoints, hostnames, connections } = defaults;
        Self {
            load_balancers: self.load_balancers.or(*load_balancers),
            addresses: self.addresses.or(*addresses),
            ports: self.ports.or(*ports),
            endpoints: self.endpoints.or(*endpoints),
            hostnames: self.hostnames.or(*hostnames),
            connections: self.connections.or(*connections),
        }
    }
}

/// What is known of a tenant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Its namespace in the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Where the agent's kubeconfig is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// What it uses now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Usage>,
    /// Its agent's last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// Ready: the namespace and the credential are there. AgentConnected: the agent has been heard. NetworkOverlap: what of
    /// `spec.backends.allow` an older Tenant has, too, is refused; there only while it holds.
    #[serde(default)]
    #[schemars(transform = condition::bounded)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where the agent's kubeconfig is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// The Secret in the tenant's namespace, key `kubeconfig`.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// When the token in it ends. The agent renews its own before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::moment)]
    pub expires_at: Option<Time>,
}

/// What a tenant uses.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Load balancers of both kinds.
    #[schemars(range(max = limits::COUNT))]
    pub load_balancers: u32,
    /// Addresses.
    #[schemars(range(max = limits::COUNT))]
    pub addresses: u32,
    /// Ports.
    #[schemars(range(max = limits::COUNT))]
    pub ports: u32,
    /// Backend addresses times ports.
    #[schemars(range(max = limits::COUNT))]
    pub endpoints: u32,
}

/// The agent's last word.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The version that it says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// When it was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::moment)]
    pub seen_at: Option<Time>,
    /// The cluster to which the tenant's namespace belongs: the uid of that cluster's namespace `kube-system`. An agent of another
    /// cluster changes nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub cluster: Option<String>,
}
