//! The resources of Nave, group `nave.dev/v1alpha1`: what people read and write at night.
//! Knows their shapes, names, labels and conditions; knows no network, no clock and no other crate of ours.
//!
//! Values that mean something (addresses, networks, durations) are strings here, because one object that does not parse
//! must not hide the others of a list; the schema refuses most bad ones, and the cores parse the rest once, at their border.

#![allow(clippy::duplicated_attributes, reason = "kube's printcolumn(…) repeats its keys once per column")]

pub mod address_group;
pub mod cluster;
pub mod condition;
pub mod duration;
pub mod fleet;
pub mod http_load_balancer;
pub mod ip_allocation;
pub mod ip_pool;
pub mod limits;
pub mod names;
pub mod node_set;
mod rules;
pub mod tcp_load_balancer;
pub mod tenant;

pub use address_group::{AddressGroup, AddressGroupSpec, AddressGroupStatus};
pub use condition::{Condition, ConditionType};
pub use duration::Duration;
pub use fleet::{Fleet, FleetSpec, FleetStatus};
pub use http_load_balancer::{HTTPLoadBalancer, HTTPLoadBalancerSpec, HTTPLoadBalancerStatus};
pub use ip_allocation::{IPAllocation, IPAllocationSpec, IPAllocationStatus};
pub use ip_pool::{IPPool, IPPoolSpec, IPPoolStatus};
pub use node_set::{NodeSet, NodeSetSpec};
pub use tcp_load_balancer::{TCPLoadBalancer, TCPLoadBalancerSpec, TCPLoadBalancerStatus};
pub use tenant::{Tenant, TenantSpec, TenantStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind here.
pub const GROUP: &str = "nave.dev";

/// The one version there is.
pub const VERSION: &str = "v1alpha1";

/// Every CRD, sorted by name: what `cargo xtask gen` renders and the hub must have.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        AddressGroup::crd(),
        Fleet::crd(),
        HTTPLoadBalancer::crd(),
        IPAllocation::crd(),
        IPPool::crd(),
        NodeSet::crd(),
        TCPLoadBalancer::crd(),
        Tenant::crd(),
    ]
}
