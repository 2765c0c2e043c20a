//! What is ordered of a provider, who gives addresses that are not ours, and what it has delivered. Knows load balancers and
//! ports; knows no cloud.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nave_api::ip_pool::Source;
use nave_api::names::hub_service_name;
use nave_api::tcp_load_balancer::Protocol;
use sha2::{Digest, Sha256};

use crate::Key;

/// An address that leads to Envoys, with these ports open on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name, the same as long as its load balancer has its name: who orders again under it gets the same address.
    pub id: String,
    /// The pool that the address belongs to.
    pub pool: String,
    /// What the pool says of its source.
    pub source: Source,
    /// The fleet whose Envoys the address leads to.
    pub fleet: String,
    /// The load balancer that it is for; none where all load balancers of the pool share it.
    pub owner: Option<Key>,
    /// The uid of that load balancer, else empty.
    pub uid: String,
    /// The ports to open, sorted.
    pub ports: Vec<OrderedPort>,
}

/// A port of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderedPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port that clients connect to.
    pub port: u16,
    /// The port on which the fleet's Envoys listen for it.
    pub target: u16,
}

impl Order {
    /// A hash of all that it says: who keeps it beside what he delivers can be asked whether it is still what was ordered.
    pub fn digest(&self) -> String {
        let Self { id, pool, source, fleet, owner, uid, ports } = self;
        let mut hash = Sha256::new();
        // Debug prints every field in its order, maps sorted.
        hash.update(format!("{id:?}{pool:?}{source:?}{fleet:?}{owner:?}{uid:?}{ports:?}"));
        let digits: Vec<String> = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        digits.concat()
    }

    /// What a provider says of it: why it does not take it, or nothing where it does.
    pub fn answered(&self, refusal: Option<String>) -> Answer {
        Answer { id: self.id.clone(), pool: self.pool.clone(), digest: self.digest(), refusal }
    }
}

/// What a provider delivers by an order, as the world shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The order's name.
    pub id: String,
    /// The order's pool.
    pub pool: String,
    /// The order's load balancer.
    pub owner: Option<Key>,
    /// Its uid.
    pub uid: String,
    /// The digest of the order by which it was made last.
    pub digest: String,
    /// The addresses that it was given so far, in the order in which the cloud lists them.
    pub addresses: Vec<IpAddr>,
    /// Names that it was given instead of addresses, or beside them.
    pub hostnames: Vec<String>,
    /// The ports that it has, as clients find them.
    pub ports: BTreeSet<(Protocol, u16)>,
}

impl Delivery {
    /// What is delivered by an order of which nothing came.
    pub(crate) fn none(id: &str, pool: String, owner: Option<Key>) -> Self {
        let (uid, digest) = (String::new(), String::new());
        let (addresses, hostnames, ports) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { id: id.to_owned(), pool, owner, uid, digest, addresses, hostnames, ports }
    }
}

/// What a provider says of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The order's name.
    pub id: String,
    /// The order's pool.
    pub pool: String,
    /// The digest of the order.
    pub digest: String,
    /// Why it is not taken, for the hub's administrators; nothing where it is.
    pub refusal: Option<String>,
}

/// The name of the order of a pool for this load balancer, or for all.
pub(crate) fn id(pool: &str, owner: Option<&Key>) -> String {
    hub_service_name(pool, owner.map(|key| (&*key.namespace, &*key.name)))
}
