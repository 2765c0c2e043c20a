//! What the engine is told. Knows the kinds that matter to it; knows not how they were watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use nave_api::tenant::Quota;
use nave_api::{Fleet, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_xds::report::Report;

use crate::budget::Open;
use crate::{Answer, Delivery, Key};

/// What does not change while the engine lives.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The hub's own networks, as flags name them: no backend lies there. [`Seen::HubNetworks`] adds what was discovered.
    pub hub_networks: Vec<IpNet>,
    /// Whether backends may lie on loopback addresses: for a lab on one machine, insecure anywhere else.
    pub allow_loopback_backends: bool,
    /// The limits of a Tenant that does not set them.
    pub default_quota: Quota,
}

/// A look at objects of one kind.
#[derive(Clone, Debug)]
pub enum Sight<K> {
    /// A complete list. It replaces everything that was known of the kind.
    All {
        /// Those that can be read.
        objects: Vec<K>,
        /// Those that are there and cannot be read.
        unreadable: Vec<Unreadable>,
    },
    /// One object as it is now: a watch event, or the response to a write of our own. Older than what is known: ignored.
    One(K),
    /// The same of an object that cannot be read: what it was last stays in force.
    Unreadable(Unreadable),
    /// The object is gone.
    Gone(Key),
}

impl<K> Sight<K> {
    /// The same look at objects that are changed one by one.
    #[must_use]
    pub fn map(self, each: impl Fn(K) -> K) -> Self {
        match self {
            Self::All { objects, unreadable } => {
                Self::All { objects: objects.into_iter().map(each).collect(), unreadable }
            }
            Self::One(object) => Self::One(each(object)),
            Self::Unreadable(unreadable) => Self::Unreadable(unreadable),
            Self::Gone(key) => Self::Gone(key),
        }
    }

    /// A complete list of objects that can all be read.
    pub fn all(objects: Vec<K>) -> Self {
        Self::All { objects, unreadable: Vec::new() }
    }
}

/// An object that is there and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What it is called.
    pub key: Key,
    /// Its uid, empty when that cannot be read either.
    pub uid: String,
    /// Its resourceVersion as a number, zero when it is none.
    pub revision: u64,
    /// Its generation.
    pub generation: Option<i64>,
    /// Why it cannot be read: the field and what is wrong.
    pub why: String,
}

/// A node of the hub, as far as fleets choose by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubNode {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// One observation.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once, from the watch into the engine")]
pub enum Seen {
    /// Tenants.
    Tenants(Sight<Tenant>),
    /// The ready nodes of spokes.
    NodeSets(Sight<NodeSet>),
    /// Intents on layer 4.
    LoadBalancers(Sight<TCPLoadBalancer>),
    /// Pools.
    Pools(Sight<IPPool>),
    /// Recorded addresses.
    Allocations(Sight<IPAllocation>),
    /// Fleets.
    Fleets(Sight<Fleet>),
    /// All that the providers deliver. It replaces everything that was known of it.
    Deliveries {
        /// What can be read of it.
        all: Vec<Delivery>,
        /// The names of the orders whose delivery cannot be read: it stays what it was.
        unreadable: BTreeSet<String>,
    },
    /// What is delivered by the order of this name now, if anything.
    Delivery(String, Option<Delivery>),
    /// A provider takes an order, or does not.
    Answered(Answer),
    /// The hub's nodes, all of them.
    HubNodes(Vec<HubNode>),
    /// The networks of the hub's nodes, pods and services, all that are known now.
    HubNetworks(Vec<IpNet>),
    /// An Envoy's word. Stream numbers must be unique over all replicas whose reports come here.
    Envoy(Report),
    /// The TCP connections that are open at an Envoy.
    Open(Open),
}

/// What a replica does besides serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Writes: allocations, statuses, Events.
    Leader,
    /// Serves, and writes nothing.
    #[default]
    Follower,
}
