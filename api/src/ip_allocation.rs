//! IPAllocation: one address given. Recorded before anything uses the address; creating it is the lock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::condition;
use crate::tcp_load_balancer::Protocol;

/// One address given, named after it (IPv6 in full, with dashes). Written by the manager alone.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "IPAllocation",
    plural = "ipallocations",
    shortname = "ipa",
    category = "nave",
    status = "IPAllocationStatus",
    derive = "PartialEq",
    doc = "One address given to its owners. Written by the manager alone.",
    validation = Rule::new("!has(self.spec.address) || !isIP(self.spec.address) || (ip(self.spec.address).family() == 4 ? self.metadata.name == self.spec.address : self.metadata.name.matches('^([0-9a-f]{4}-){7}[0-9a-f]{4}$'))")
        .message("an IPAllocation is named after its address, IPv6 in full with dashes for colons: the name is the lock"),
    validation = Rule::new("has(self.spec.address) || self.metadata.name == 'service.' + self.spec.pool")
        .message("an IPAllocation without an address is named service.<pool>: it records the Envoy ports of a pool whose addresses the hub's cloud gives"),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.owners[0].namespace"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owners[0].name"),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.group", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.address) == has(oldSelf.address)").message("the address of an allocation never changes: it is the allocation"))]
#[x_kube(validation = Rule::new("!has(oldSelf.group) || (has(self.group) && self.group == oldSelf.group)").message("the group of an allocation is fixed when it is made"))]
pub struct IPAllocationSpec {
    /// The address, IPv4 or IPv6. Immutable. Absent: the hub's cloud gives the addresses of this pool, and what is recorded
    /// are the ports on which the fleet's Envoys listen for its owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("address is an IPv4 or IPv6 address"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the address of an allocation never changes: it is the allocation"))]
    pub address: Option<String>,
    /// The pool it comes from. It changes when that pool is gone, or includes the address no longer, and another pool of the
    /// same fleet includes it that is open to the owners. Without an address it never changes: the allocation is named after it.
    #[schemars(length(min = 1, max = 63))]
    pub pool: String,
    /// The group it moves with, fixed at allocation. Absent: it is announced by nobody of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub group: Option<String>,
    /// Whose it is; more than one only in a pool that shares addresses by port. None: it is being released or is held.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub owners: Vec<Owner>,
}

/// A load balancer that owns ports of an address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The tenant's namespace in the hub.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// TCPLoadBalancer or HTTPLoadBalancer.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The load balancer's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The load balancer's uid: one of the same name made later is another one.
    #[schemars(length(max = 63))]
    pub uid: String,
    /// The ports it has on the address.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub ports: Vec<OwnedPort>,
}

/// A protocol and port of an address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub struct OwnedPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// 1 to 65535.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The load balancer's own port that clients reach here, 1 to 65535. Absent: the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub stands_for: Option<u16>,
}

impl OwnedPort {
    /// The load balancer's own port that clients reach here.
    pub fn wanted(&self) -> u16 {
        self.stands_for.unwrap_or(self.port)
    }
}

/// What is known of an allocation.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPAllocationStatus {
    /// Ready: the address can be used.
    #[serde(default)]
    #[schemars(transform = condition::bounded)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
