//! The full lab's link: a bridge, network namespaces on it, routes. Knows iproute2 and names that carry the lab's id; knows
//! nothing of what runs in a namespace. The supervisor removes all of it by these names.
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use ipnet::IpNet;

use super::Plan;
use crate::error::Result;
use crate::supervisor::Supervisor;
use crate::tools::run;

/// The lab's bridge, on which the host has an address.
#[derive(Clone, Debug)]
pub struct Bridge {
    id: String,
    host: IpAddr,
    length: u8,
}

/// A network namespace with one interface, `eth0`, on the bridge.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    link: String,
    bridge: Bridge,
    address: IpAddr,
}

impl Bridge {
    /// Makes the bridge.
    pub fn start(supervisor: &Arc<Supervisor>, plan: &Plan) -> Result<Self> {
        let bridge = Self { id: supervisor.id().to_owned(), host: plan.host(), length: plan.link().prefix_len() };
        let name = bridge.name();
        ip(&["link", "add", &name, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/{}", bridge.host, bridge.length), "dev", &name])?;
        ip(&["link", "set", &name, "up"])?;
        Ok(bridge)
    }

    /// Makes a namespace; `link` is at most seven characters and its own in the lab.
    pub fn namespace(&self, name: &str, link: &str, address: IpAddr) -> Result<Namespace> {
        let namespace = self.detached(name, link, address)?;
        namespace.plug()?;
        namespace.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        Ok(namespace)
    }

    /// Makes a namespace without a cable, for a wire of another kind.
    pub fn detached(&self, name: &str, link: &str, address: IpAddr) -> Result<Namespace> {
        let name = format!("nave-{}-{name}", self.id);
        let namespace = Namespace { name, link: format!("nv{}{link}", self.id), bridge: self.clone(), address };
        ip(&["netns", "add", &namespace.name])?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Routes a network to an address on the bridge; a later call moves it.
    pub fn route(&self, network: IpNet, via: IpAddr) -> Result<()> {
        ip(&["route", "replace", &network.to_string(), "via", &via.to_string(), "dev", &self.name()])
    }

    fn name(&self) -> String {
        format!("nv{}b", self.id)
    }
}

impl Namespace {
    /// Its name below /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its cable's end on the host.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Whether it has a route to an address.
    pub fn reaches(&self, address: IpAddr) -> Result<()> {
        self.ip(&["route", "get", &address.to_string()])
    }

    /// Its address on the bridge.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Every address of the network is this namespace's own: what binds one of them gets its packets.
    pub fn own(&self, network: IpNet) -> Result<()> {
        self.ip(&["route", "replace", "local", &network.to_string(), "dev", "lo"])
    }

    /// Routes a network to a neighbour.
    pub fn route(&self, network: IpNet, via: IpAddr) -> Result<()> {
        self.ip(&["route", "replace", &network.to_string(), "via", &via.to_string()])
    }

    /// Pulls the cable: the interface is gone, with its addresses and routes.
    pub fn unplug(&self) -> Result<()> {
        ip(&["link", "del", &self.link])
    }

    /// Plugs it in (again).
    pub fn plug(&self) -> Result<()> {
        let Self { name, link, bridge, address } = self;
        ip(&["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["link", "set", link, "master", &bridge.name(), "up"])?;
        self.ip(&["addr", "add", &format!("{address}/{}", bridge.length), "dev", "eth0"])?;
        self.ip(&["link", "set", "eth0", "up"])?;
        self.ip(&["route", "add", "default", "via", &bridge.host.to_string()])
    }

    /// Its switch port goes down: nothing passes, and the node does not notice at once.
    pub fn disconnect(&self) -> Result<()> {
        ip(&["link", "set", &self.link, "nomaster"])
    }

    /// Its switch port comes back.
    pub fn reconnect(&self) -> Result<()> {
        ip(&["link", "set", &self.link, "master", &self.bridge.name()])
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        ip(&[&["-n", self.name.as_str()], arguments].concat())
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments), &format!("ip {}", arguments.join(" "))).map(drop)
}
