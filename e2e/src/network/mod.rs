//! Which addresses a lab uses, so that labs side by side never meet. Knows the plan; makes nothing in the kernel.
mod inside;
mod kernel;
pub mod wire;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

pub use kernel::{Bridge, Namespace};

use crate::error::{Act, Error, Result};
use crate::lab::Weight;

/// So many labs fit on one machine: each takes one /16.
const SLOTS: u8 = 32;
/// The hub's number among the clusters; spokes count from 1.
pub const HUB: u8 = 0;

/// Where a program runs: its address and, when it has one of its own, its network namespace.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its address.
    pub address: IpAddr,
    /// Its namespace; absent: the host's.
    pub namespace: Option<Namespace>,
}

impl Home {
    /// On the host, at this address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, namespace: None }
    }

    /// In a network namespace of its own.
    pub fn within(namespace: Namespace) -> Self {
        Self { address: namespace.address(), namespace: Some(namespace) }
    }
}

/// One lab's addresses: `127.64+slot.0.0/16` when light, `10.64+slot.0.0/16` when full.
#[derive(Debug)]
pub struct Plan {
    weight: Weight,
    slot: u8,
    _lock: File,
}

impl Plan {
    /// Takes a slot that no other lab has; it is given back when the plan is dropped or its owner dies.
    pub fn take(weight: Weight) -> Result<Self> {
        // Locks cannot be shared between users: each begins elsewhere.
        let user = nix::unistd::getuid().as_raw();
        let dir = std::env::temp_dir().join(format!("nave-slots-{user}"));
        fs::create_dir_all(&dir).act(|| "make the directory of lab slots")?;
        let first = u8::try_from(user % u32::from(SLOTS)).unwrap_or(0);
        for slot in (0..SLOTS).map(|step| (first + step) % SLOTS) {
            let lock = File::create(dir.join(slot.to_string())).act(|| format!("open the lock of slot {slot}"))?;
            if lock.try_lock().is_ok() {
                return Ok(Self { weight, slot, _lock: lock });
            }
        }
        Err(Error::new(format!("find a free slot: {SLOTS} labs run")))
    }

    /// The light lab's address of this machine, or the host's address on the full lab's bridge.
    pub fn host(&self) -> IpAddr {
        match self.weight {
            Weight::Light => Ipv4Addr::LOCALHOST.into(),
            Weight::Full => self.at(0, 1),
        }
    }

    /// All nodes and the host, one link in the full lab.
    pub fn link(&self) -> IpNet {
        self.network(0, 18)
    }

    /// The nodes of one cluster.
    pub fn nodes(&self, cluster: u8) -> IpNet {
        self.network(cluster, 24)
    }

    /// One node of a cluster.
    pub fn node(&self, cluster: u8, index: u8) -> IpAddr {
        self.at(cluster, 10 + index)
    }

    /// One manager that has a network namespace of its own.
    pub fn manager(&self, index: u8) -> IpAddr {
        self.at(HUB, 100 + index)
    }

    /// The agent of one spoke that has a network namespace of its own.
    pub fn agent(&self, cluster: u8) -> IpAddr {
        self.at(HUB, 150 + cluster)
    }

    /// One client of load balancers that has a network namespace of its own.
    pub fn client(&self, index: u8) -> IpAddr {
        self.at(HUB, 200 + index)
    }

    /// The pods of one node.
    pub fn pods(&self, cluster: u8, index: u8) -> IpNet {
        self.network(64 + cluster * 8 + index, 24)
    }

    /// The pods of one cluster.
    pub fn pods_of(&self, cluster: u8) -> IpNet {
        self.network(64 + cluster * 8, 21)
    }

    /// The cluster addresses of one cluster's Services: never routed, so that labs may share them.
    pub fn services(cluster: u8) -> IpNet {
        net(Ipv4Addr::new(10, 96 + cluster, 0, 0), 16)
    }

    /// Addresses for pools; the lab routes them to its first edge node.
    pub fn pool(&self) -> IpNet {
        self.network(200, 24)
    }

    /// What belongs to the hub itself and is nobody's backend.
    pub fn hub_networks(&self) -> Vec<IpNet> {
        vec![self.nodes(HUB), self.pods_of(HUB), Self::services(HUB)]
    }

    fn first(&self) -> u8 {
        match self.weight {
            Weight::Light => 127,
            Weight::Full => 10,
        }
    }

    fn at(&self, third: u8, fourth: u8) -> IpAddr {
        Ipv4Addr::new(self.first(), 64 + self.slot, third, fourth).into()
    }

    fn network(&self, third: u8, length: u8) -> IpNet {
        net(Ipv4Addr::new(self.first(), 64 + self.slot, third, 0), length)
    }
}

fn net(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(one: &IpNet, other: &IpNet) -> bool {
        one.contains(other) || other.contains(one)
    }

    #[test]
    fn no_two_networks_of_a_lab_overlap() {
        let plan = Plan::take(Weight::Full).unwrap();
        let clusters =
            (HUB..8).flat_map(|cluster| [plan.nodes(cluster), plan.pods_of(cluster), Plan::services(cluster)]);
        let all: Vec<IpNet> = clusters.chain([plan.pool()]).collect();
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| !overlap(one, other)), "{one} overlaps another of {all:?}");
        }
    }

    #[test]
    fn every_node_lies_on_the_link_and_its_pods_in_its_cluster() {
        let plan = Plan::take(Weight::Full).unwrap();
        assert!((HUB..8).all(|cluster| plan.link().contains(&plan.nodes(cluster))));
        assert!((HUB..8).all(|cluster| plan.pods_of(cluster).contains(&plan.pods(cluster, 7))));
        assert!(plan.link().contains(&plan.host()) && !plan.link().contains(&plan.pool()));
    }

    #[test]
    fn labs_at_the_same_time_have_different_networks() {
        let (one, other) = (Plan::take(Weight::Light).unwrap(), Plan::take(Weight::Light).unwrap());
        assert!(!overlap(&one.pool(), &other.pool()));
    }
}
