//! What the engine answers. Knows the effects that are wanted; knows not how they are performed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use nave_api::tenant::Usage;
use nave_api::{Condition, FleetStatus, IPAllocation, IPPoolStatus, TCPLoadBalancerStatus};
use nave_xds::catalog::Keep;
use nave_xds::store::Change;

pub use crate::engine::Kind;
use crate::{Key, Order};

/// What follows from the observations since the last time.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What changes in which fleet. A fleet that is met for the first time is named here, be it with an empty change.
    pub publish: BTreeMap<String, Change>,
    /// What Envoys of all fleets keep of what is not served: where that changed, all of it.
    pub keep: Option<Keep>,
    /// What the leader is to do, in an order in which it may be begun. Steps on different objects do not wait for each other.
    pub steps: Vec<Step>,
}

/// One effect on the hub's API. Each is emitted once; what was emitted counts as said until [`crate::Engine::failed`] or
/// [`crate::Engine::replan`] forgets it.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create this object: it *is* the lock on the address. On a conflict, show the engine the object that is there, then
    /// call `failed`.
    CreateAllocation(IPAllocation),
    /// Replace this object (its `resourceVersion` is set). On a conflict as above.
    ReplaceAllocation(IPAllocation),
    /// Delete the object with these preconditions unless it is being deleted already, then take our finalizer off it.
    ReleaseAllocation {
        /// The object's name.
        name: String,
        /// Its uid.
        uid: String,
        /// Its resourceVersion when the engine decided.
        resource_version: String,
    },
    /// Write the status of a TCPLoadBalancer.
    WriteLoadBalancerStatus {
        /// Which.
        key: Key,
        /// Its uid.
        uid: String,
        /// The generation that was looked at.
        generation: Option<i64>,
        /// The whole status.
        status: TCPLoadBalancerStatus,
        /// How long the write may be held back to be replaced by the next one on the same object.
        patience: Duration,
    },
    /// Write the status of an IPPool.
    WritePoolStatus {
        /// The pool's name.
        name: String,
        /// Its uid.
        uid: String,
        /// The whole status.
        status: IPPoolStatus,
        /// As above.
        patience: Duration,
    },
    /// Write `status.used` of a Tenant and these of its conditions, and nothing else of its status.
    WriteTenantStatus {
        /// The tenant's name.
        name: String,
        /// Its uid.
        uid: String,
        /// What it uses.
        used: Usage,
        /// The conditions that are the engine's to say: NetworkOverlap, or none.
        conditions: Vec<Condition>,
        /// As above.
        patience: Duration,
    },
    /// Write the status of a Fleet.
    WriteFleetStatus {
        /// The fleet's name.
        name: String,
        /// Its uid.
        uid: String,
        /// The whole status.
        status: FleetStatus,
        /// As above.
        patience: Duration,
    },
    /// Write a condition on an object that cannot be read, and nothing else of its status.
    ReportUnreadable(UnreadableReport),
    /// Have the order's provider deliver what it says; where something is delivered under its name, change that.
    Order(Order),
    /// Have delivered under this name no more. When nothing is, tell the engine so.
    Withdraw {
        /// The order's name.
        id: String,
    },
    /// Record an Event.
    Announce(Announcement),
}

/// What is said of an object that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadableReport {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// Accepted of a load balancer, Ready of other kinds.
    pub condition: Condition,
}

/// What an Event says.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// The object it is about.
    pub about: ObjectReference,
    /// Normal or Warning.
    pub tone: Tone,
    /// CamelCase, for programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// How urgent an Event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}
