//! AddressGroup: addresses that move together, and which edge node answers for them. At most 64 in a fleet.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Which edge node answers for the addresses of a group, decided by the manager and confirmed by the holder.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "AddressGroup",
    plural = "addressgroups",
    category = "nave",
    status = "AddressGroupStatus",
    derive = "PartialEq",
    doc = "Addresses that move together, and the edge node that answers for them.",
    printcolumn(name = "Fleet", type_ = "string", json_path = ".spec.fleet"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder.node"),
    printcolumn(name = "Held by", type_ = "string", json_path = ".status.held.node"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AddressGroupSpec {
    /// The fleet whose nodes may hold the group. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a group stays in its fleet: make another group"))]
    pub fleet: String,
    /// Who shall answer for the group's addresses. Absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// An edge node and its operator's present life.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The node's name in the hub.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// The session, replaced when the node is fenced.
    #[schemars(length(min = 1, max = 64))]
    pub session: String,
}

/// The holder's own word.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AddressGroupStatus {
    /// Who answers, by its own report. Absent: nobody says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Holder>,
}
