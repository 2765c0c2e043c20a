//! The whole lab: one hub, its managers and edge nodes, some spokes with their agents and nodes. Knows the order in which
//! they are started; each part knows itself.
mod builder;
mod hub;
mod sample;
mod spoke;
mod weight;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use tokio::net::TcpStream;

pub use builder::Builder;
pub use hub::Hub;
pub use sample::Sample;
pub use spoke::{Spoke, addresses_of};
pub use weight::{Weight, heaviest};

use crate::client;
use crate::edge::Edge;
use crate::error::{Error, Result};
use crate::network::{Bridge, HUB, Namespace, Plan};
use crate::supervisor::Supervisor;

/// A running lab; dropping it stops and removes everything.
///
/// ```no_run
/// # async fn example() -> nave_e2e::Result<()> {
/// use nave_e2e::{Lab, Protocol};
/// let lab = Lab::light().spokes(2).start().await?;
/// let web = lab.spokes[0].sample("web", &[(Protocol::Tcp, 8080)]).await?;
/// let address = web.address().await?;
/// println!("{}", lab.ask(address, 8080).await?);
/// # Ok(()) }
/// ```
pub struct Lab {
    // Dropped in this order: agents and nodes, then Envoys, managers and the hub, then whoever removes the rest.
    /// The user clusters: `spoke-1`, `spoke-2`, …
    pub spokes: Vec<Spoke>,
    /// The load balancing cluster.
    pub hub: Hub,
    weight: Weight,
    plan: Plan,
    bridge: Option<Bridge>,
    supervisor: Arc<Supervisor>,
}

impl Lab {
    /// Control planes, loopback addresses, no root.
    pub fn light() -> Builder {
        Builder::new(Weight::Light)
    }

    /// Real nodes and pods in network namespaces: needs root and [`tools::missing`](crate::tools::missing) to be empty.
    pub fn full() -> Builder {
        Builder::new(Weight::Full)
    }

    /// What it is made of.
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// Its addresses.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its directory, logs and id.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// Sends the clients of a network to an edge node; at the start all of the plan's pool goes to the first. The light lab's
    /// Envoys share the machine's loopback, there is nothing to route.
    pub fn route(&self, network: IpNet, edge: usize) -> Result<()> {
        let address = self
            .hub
            .edges
            .get(edge)
            .map(Edge::address)
            .ok_or_else(|| Error::new(format!("there is no edge node {edge}")))?;
        self.bridge.as_ref().map_or(Ok(()), |bridge| bridge.route(network, address))
    }

    /// A network namespace for clients of load balancers, at an address of its own; full labs only.
    pub fn client(&self, index: u8) -> Result<Namespace> {
        let bridge = self.bridge.as_ref().ok_or_else(|| Error::new("a light lab has no network for a client"))?;
        let client =
            bridge.namespace(&format!("client-{}", index + 1), &format!("k{index}"), self.plan.client(index))?;
        client.route(self.plan.pool(), self.plan.node(HUB, 0))?;
        Ok(client)
    }

    /// Connects as a client of the load balancer would.
    pub async fn connect(&self, address: IpAddr, port: u16) -> Result<TcpStream> {
        client::connect(SocketAddr::new(address, port)).await
    }

    /// Which backend answers at a TCP port: its banner.
    pub async fn ask(&self, address: IpAddr, port: u16) -> Result<String> {
        client::ask(SocketAddr::new(address, port)).await
    }

    /// Which backend answers at a UDP port: its banner.
    pub async fn ask_udp(&self, address: IpAddr, port: u16) -> Result<String> {
        client::ask_udp(SocketAddr::new(address, port), "a datagram of the lab").await
    }
}
